//! Drains the sessions of a replica: one at each broker of the list, in turn.
//!
//! ```text
//!   others have its flows? ─▶ UNSUBSCRIBE ─▶ receive the queued messages ─▶ DISCONNECT, delete ─▶ the next broker
//!        └── out of reach: its session stays, and is named ─────────────────────────▲
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::time::{sleep, timeout};

use super::super::StartError;
use super::super::end_mark::EndMark;
use super::super::startup::Prepared;
use crate::actors::Directory;
use crate::actors::messages::{AwaitHandover, ConnectionLost};
use crate::domain::broker::Broker;
use crate::mqtt::{MqttLink, SessionEnd, Subscription};

/// Interval at which the state of the drain is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// Number of checks after which the mark is published again, because it may get lost.
const CHECKS_PER_MARK: u32 = 10;

/// Number of checks before the next mark if the connection was lost after the last one: some brokers close the
/// connection because of the mark. By then silence has ended the drain, if there was any.
const CHECKS_PER_MARK_AFTER_A_LOSS: u32 = 75;

/// Time within which a working broker answers the probe.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Number of checks after the answer. A broker that was suspended sends its queue right after the answer.
const CHECKS_AFTER_ANSWER: u32 = 5;

/// Interval between two log lines about an unfinished drain.
const REMINDER_INTERVAL: Duration = Duration::from_secs(30);

/// Maximum wait for a broker.
const OUT_OF_REACH: Duration = Duration::from_mins(1);

/// All enabled brokers, or the wanted one.
pub(super) fn brokers_of(prepared: &Prepared, wanted: Option<i64>) -> Result<Vec<Broker>, StartError> {
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

/// The sessions of a replica and the parts that drain them.
pub(super) struct Sessions {
    pub(super) brokers: Vec<Broker>,
    pub(super) directory: Directory,
    pub(super) link: MqttLink,
    pub(super) mark: Arc<EndMark>,
    pub(super) client_id: String,
}

impl Sessions {
    /// Drains all sessions. The last one stays connected, so that the orderly shutdown deletes it; the others are
    /// deleted here. Returns the brokers that may still hold messages.
    pub(super) async fn empty(&self) -> Vec<&Broker> {
        let mut left = Vec::new();
        for (turn, broker) in (1..).zip(&self.brokers) {
            if turn > 1 {
                self.turn_to(broker);
            }
            let is_empty = self.is_emptied().await;
            let ends_in_order = turn == self.brokers.len() && left.is_empty();
            if !is_empty || !(ends_in_order || self.is_forgotten().await) {
                log::error!(
                    "The broker {} still has the session of {:?} and its messages",
                    named(broker),
                    self.client_id
                );
                left.push(broker);
            }
        }
        left
    }

    fn turn_to(&self, broker: &Broker) {
        log::info!("Draining the session at the broker {}", named(broker));
        self.link.use_servers(vec![broker.clone()]);
        // The link does not report a disconnect that it was asked for.
        self.directory.registry.tell(ConnectionLost);
        self.link.connect();
    }

    async fn is_emptied(&self) -> bool {
        tokio::select! {
            () = self.hand_over_and_drain() => true,
            () = self.is_out_of_reach() => false,
        }
    }

    /// Deletes the session. Without a connection nothing is sent, and the session stays.
    async fn is_forgotten(&self) -> bool {
        self.link.disconnect_with(SessionEnd::ForgetSession).await.is_ok()
    }

    /// Returns when there has been no connection for a long time.
    async fn is_out_of_reach(&self) {
        let mut since = Instant::now();
        while since.elapsed() < out_of_reach() {
            sleep(CHECK_INTERVAL).await;
            if self.link.is_connected() {
                since = Instant::now();
            }
        }
    }

    async fn hand_over_and_drain(&self) {
        let client_id = &self.client_id;
        let handed_over = loop {
            if let Ok(Some(handed_over)) = self.directory.registry.ask(AwaitHandover).await {
                break handed_over;
            }
            // The registry is being restarted.
            sleep(CHECK_INTERVAL).await;
        };
        if handed_over.session_kept {
            log::info!(
                "All flows are unsubscribed; receiving the messages that the broker still has for {client_id:?}"
            );
            self.drain(handed_over.has_record).await;
            let messages = self.mark.messages();
            if self.mark.is_endless() {
                log::warn!(messages; "The broker keeps sending for {client_id:?}: an unrecorded subscription remains, and its further messages are not received");
            } else {
                log::info!(messages; "The broker has sent all messages for {client_id:?}");
            }
        } else {
            log::info!("The broker has no session of {client_id:?}: there is only the inbox");
        }
    }

    async fn drain(&self, has_record: bool) {
        let (link, mark) = (&self.link, &self.mark);
        let mut publishing = MarkPublisher::default();
        let mut told = Instant::now();
        mark.restart(has_record);
        loop {
            if link.is_connected() {
                publishing.tick(link, mark.topic()).await;
            } else {
                // Without a connection no message can arrive.
                mark.restart_silence();
                publishing.connection_lost();
            }
            if mark.is_reached() {
                return;
            }
            match self.silence().await {
                Silence::TooShort => {}
                Silence::Drained => return,
                Silence::Stalled => {
                    mark.restart_silence();
                    publishing.connection_lost();
                }
            }
            if told.elapsed() >= REMINDER_INTERVAL {
                told = Instant::now();
                self.log_progress();
            }
            sleep(CHECK_INTERVAL).await;
        }
    }

    /// Whether the broker has been silent for a long time and still is after it answered a probe. A suspended broker or
    /// network checks the same without the probe, and its messages would be lost with the session.
    async fn silence(&self) -> Silence {
        let Some(since) = self.mark.long_quiet_since() else { return Silence::TooShort };
        let answers = timeout(ANSWER_TIMEOUT, self.link.answers()).await.unwrap_or(false);
        if !(answers && self.stays_connected_for(CHECKS_AFTER_ANSWER).await) {
            return Silence::Stalled;
        }
        if self.mark.long_quiet_since() == Some(since) { Silence::Drained } else { Silence::TooShort }
    }

    /// Checks often enough that a connection cannot be lost and restored between two checks.
    async fn stays_connected_for(&self, checks: u32) -> bool {
        for _ in 0..checks {
            sleep(CHECK_INTERVAL).await;
            if !self.link.is_connected() {
                return false;
            }
        }
        true
    }

    fn log_progress(&self) {
        let (messages, client_id) = (self.mark.messages(), &self.client_id);
        if !self.link.is_connected() {
            log::info!(messages; "No connection to the broker, which still has messages for {client_id:?}");
        } else if self.mark.is_there() {
            log::info!(messages; "The broker keeps sending for {client_id:?} after its queued messages");
        } else {
            log::info!(messages; "The broker still has something for {client_id:?}");
        }
    }
}

/// The meaning of the silence.
enum Silence {
    /// The silence is too short.
    TooShort,
    /// The broker has sent everything.
    Drained,
    /// The connection is stalled.
    Stalled,
}

/// Publishes the mark periodically, if the broker permits it.
#[derive(Debug, Default)]
struct MarkPublisher {
    /// Whether the broker granted the subscription of the mark.
    is_granted: Option<bool>,
    was_tried: bool,
    /// Checks until the next mark.
    due_in: u32,
}

impl MarkPublisher {
    async fn tick(&mut self, link: &MqttLink, topic: &str) {
        if self.is_granted == Some(false) {
            // Silence replaces the mark.
            return;
        }
        if self.due_in > 0 {
            self.due_in -= 1;
            return;
        }
        self.was_tried = true;
        self.due_in = CHECKS_PER_MARK;
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
            self.due_in = CHECKS_PER_MARK_AFTER_A_LOSS;
        }
    }
}

/// The broker's id and address, for messages.
pub(super) fn named(server: &Broker) -> String {
    format!("{} ({})", server.id, server.address())
}

fn out_of_reach() -> Duration {
    time_point!("broker-out-of-reach", OUT_OF_REACH)
}
