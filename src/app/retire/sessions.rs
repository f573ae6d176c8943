//! The sessions that a replica may have: one at each broker of the list, gone to in turn.
//!
//! ```text
//!   others have its flows? ─▶ UNSUBSCRIBE ─▶ take what the broker still has ─▶ DISCONNECT, forget ─▶ the next broker
//!                          └── out of reach: its session stays, and is named ────────────────────────▲
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::time::{sleep, timeout};

use super::super::StartError;
use super::super::end_mark::EndMark;
use super::super::startup::Prepared;
use crate::actors::Directory;
use crate::actors::messages::{AwaitHandover, ConnectionLost};
use crate::mqtt::{MqttLink, SessionEnd, Subscription};
use crate::store::MqttServer;

/// How often is looked whether the broker has sent everything.
const LOOK: Duration = Duration::from_millis(200);

/// A mark may get lost: it is published again after so many looks.
const LOOKS_TO_A_MARK: u32 = 10;

/// The same when the connection has been lost since the mark was tried: a broker that does not allow it may end the
/// connection over it. By then silence has been the end, if there was any.
const LOOKS_TO_A_MARK_AFTER_A_LOSS: u32 = 75;

/// A broker that lives answers within this time.
const ANSWER: Duration = Duration::from_secs(10);

/// A broker that was asleep sends what it has as soon as it has answered: it is listened to for so many looks.
const AFTER_THE_ANSWER: u32 = 5;

/// How often it is told that the broker still sends.
const REMINDER: Duration = Duration::from_secs(30);

/// How long one of several brokers is waited for.
const OUT_OF_REACH: Duration = Duration::from_mins(1);

/// All that are enabled, or the one that is wanted.
pub(super) fn brokers_of(prepared: &Prepared, wanted: Option<i64>) -> Result<Vec<MqttServer>, StartError> {
    let Prepared { servers, skipped, .. } = prepared;
    let Some(wanted) = wanted else {
        let is_known = skipped.is_empty();
        let unusable = || StartError::UnusableBrokers { reasons: skipped.join("; ") };
        return is_known.then(|| servers.clone()).ok_or_else(unusable);
    };
    let found = servers.iter().find(|server| server.id == wanted);
    found.map(|server| vec![server.clone()]).ok_or_else(|| {
        let brokers = servers.iter().map(named).collect::<Vec<_>>().join(", ");
        StartError::NoSuchBroker { wanted, brokers }
    })
}

/// The sessions of a replica, and what empties them.
pub(super) struct Sessions {
    pub(super) brokers: Vec<MqttServer>,
    pub(super) directory: Directory,
    pub(super) link: MqttLink,
    pub(super) mark: Arc<EndMark>,
    pub(super) client_id: String,
}

impl Sessions {
    /// Takes what all of them hold. Where that is done at all, the last one is still connected, for the orderly end to
    /// have it forgotten; else it was forgotten like the others. Answers at which brokers something may be left.
    pub(super) async fn empty(&self) -> Vec<&MqttServer> {
        let mut left = Vec::new();
        for (turn, broker) in (1..).zip(&self.brokers) {
            if turn > 1 {
                self.turn_to(broker);
            }
            let is_empty = self.is_emptied().await;
            let ends_in_order = turn == self.brokers.len() && left.is_empty();
            if !is_empty || !(ends_in_order || self.is_forgotten().await) {
                log::error!(
                    "At the broker {} the session of {:?} is still there, and what it holds",
                    named(broker),
                    self.client_id
                );
                left.push(broker);
            }
        }
        left
    }

    fn turn_to(&self, broker: &MqttServer) {
        log::info!("Turning to the session at the broker {}", named(broker));
        self.link.use_servers(vec![broker.clone().into()]);
        // The link does not tell of an end that it was asked for.
        self.directory.registry.tell(ConnectionLost);
        self.link.connect();
    }

    async fn is_emptied(&self) -> bool {
        if self.brokers.len() == 1 {
            self.hand_over_and_take_the_rest().await;
            return true;
        }
        tokio::select! {
            () = self.hand_over_and_take_the_rest() => true,
            () = self.is_out_of_reach() => false,
        }
    }

    /// Without a connection nothing is said, and the session stays.
    async fn is_forgotten(&self) -> bool {
        self.link.disconnect_with(SessionEnd::ForgetSession).await.is_ok()
    }

    /// Returns when there has been no connection for long.
    async fn is_out_of_reach(&self) {
        let mut since = Instant::now();
        while since.elapsed() < out_of_reach() {
            sleep(LOOK).await;
            if self.link.is_connected() {
                since = Instant::now();
            }
        }
    }

    async fn hand_over_and_take_the_rest(&self) {
        let client_id = &self.client_id;
        let handed_over = loop {
            if let Ok(Some(handed_over)) = self.directory.registry.ask(AwaitHandover).await {
                break handed_over;
            }
            // It is being restarted.
            sleep(LOOK).await;
        };
        if handed_over.session_kept {
            log::info!("Nothing is subscribed any more; taking what the broker still has for {client_id:?}");
            self.take_the_rest(handed_over.has_book).await;
            let messages = self.mark.messages();
            if self.mark.is_endless() {
                log::warn!(messages; "The broker sends on for {client_id:?}: something is subscribed that no book tells of, and what comes by it from now on is left");
            } else {
                log::info!(messages; "The broker has nothing more for {client_id:?}");
            }
        } else {
            log::info!("The broker has no session of {client_id:?}: there is only the inbox");
        }
    }

    async fn take_the_rest(&self, has_book: bool) {
        let (link, mark) = (&self.link, &self.mark);
        let mut publishing = MarkPublishing::default();
        let mut told = Instant::now();
        mark.begin_anew(has_book);
        loop {
            if link.is_connected() {
                publishing.look(link, mark.topic()).await;
            } else {
                // Nothing can come.
                mark.listen_anew();
                publishing.connection_lost();
            }
            if mark.is_reached() {
                return;
            }
            match self.silence().await {
                Silence::IsNone => {}
                Silence::IsTheEnd => return,
                Silence::OfTheConnection => {
                    mark.listen_anew();
                    publishing.connection_lost();
                }
            }
            if told.elapsed() >= REMINDER {
                told = Instant::now();
                self.tell_what_is_waited_for();
            }
            sleep(LOOK).await;
        }
    }

    /// Whether the broker has been silent for long and still is when it has answered a question. A network or a broker that stands
    /// still looks the same until then, and what it has would be lost with the session.
    async fn silence(&self) -> Silence {
        let Some(since) = self.mark.long_quiet_since() else { return Silence::IsNone };
        let answers = timeout(ANSWER, self.link.answers()).await.unwrap_or(false);
        if !(answers && self.stays_connected_for(AFTER_THE_ANSWER).await) {
            return Silence::OfTheConnection;
        }
        if self.mark.long_quiet_since() == Some(since) { Silence::IsTheEnd } else { Silence::IsNone }
    }

    /// Looks so often that no loss between two looks is mended at the next one.
    async fn stays_connected_for(&self, looks: u32) -> bool {
        for _ in 0..looks {
            sleep(LOOK).await;
            if !self.link.is_connected() {
                return false;
            }
        }
        true
    }

    fn tell_what_is_waited_for(&self) {
        let (messages, client_id) = (self.mark.messages(), &self.client_id);
        if !self.link.is_connected() {
            log::info!(messages; "There is no connection to the broker, which still has something for {client_id:?}");
        } else if self.mark.is_there() {
            log::info!(messages; "The broker sends on for {client_id:?} after what it had when all was unsubscribed");
        } else {
            log::info!(messages; "The broker still has something for {client_id:?}");
        }
    }
}

/// What it means that nothing comes.
enum Silence {
    /// It has not lasted for long.
    IsNone,
    /// The broker has nothing more.
    IsTheEnd,
    /// Nothing can come.
    OfTheConnection,
}

/// Publishes the mark now and then, where the broker lets us.
#[derive(Debug, Default)]
struct MarkPublishing {
    /// What the broker has said to our subscribing it.
    is_granted: Option<bool>,
    was_tried: bool,
    /// Looks until it is due.
    due_in: u32,
}

impl MarkPublishing {
    async fn look(&mut self, link: &MqttLink, topic: &str) {
        if self.is_granted == Some(false) {
            // Silence stands for it.
            return;
        }
        if self.due_in > 0 {
            self.due_in -= 1;
            return;
        }
        self.was_tried = true;
        self.due_in = LOOKS_TO_A_MARK;
        if self.is_granted.is_none() {
            let answers = link.subscribe(vec![Subscription { filter: topic.to_owned(), id: None }]).await;
            self.is_granted = answers.ok().map(|answers| answers.iter().all(|(_, answer)| answer.is_ok()));
        }
        if self.is_granted == Some(true) {
            link.publish(topic, b"end");
        }
    }

    fn connection_lost(&mut self) {
        if self.was_tried {
            self.due_in = LOOKS_TO_A_MARK_AFTER_A_LOSS;
        }
    }
}

/// For people: with its id and its address.
pub(super) fn named(server: &MqttServer) -> String {
    format!("{} ({}:{})", server.id, server.host, server.port)
}

fn out_of_reach() -> Duration {
    // Tests have less time.
    fail::fail_point!("broker-out-of-reach", |ms| {
        ms.and_then(|ms| ms.parse().ok()).map_or(OUT_OF_REACH, Duration::from_millis)
    });
    OUT_OF_REACH
}
