//! `mqtt-gateway retire`: a replica that is gone for good leaves nothing behind.
//!
//! ```text
//!   inbox and session of the replica ─▶ others have its flows? ─▶ UNSUBSCRIBE ─▶ take what the broker still has
//!     ─▶ DISCONNECT, and the broker forgets the session ─▶ inbox into SQL ─▶ no member any more
//! ```
//!
//! The same actors as ever do all of it: the registry hands over and takes nothing, and the end is the orderly one, only
//! without a deadline. What was done stays done, so a run that broke off is repeated.

mod others;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::{Addr, Arbiter, System};

use self::others::ask_the_others;
use super::StartError;
use super::end_mark::EndMark;
use super::signals::Signals;
use super::stage::{Assembled, Mode, Stage};
use super::startup::{Prepared, prepare_database};
use crate::actors::Directory;
use crate::actors::messages::{AwaitHandover, Shutdown};
use crate::actors::remember_panics;
use crate::actors::supervisor::SupervisorActor;
use crate::mqtt::{MqttLink, Subscription};
use crate::settings::Settings;
use crate::store::outbox::Outbox;
use crate::store::{Database, MqttServer, StoreError, remove_member};

/// How often is looked whether the broker has sent everything.
const LOOK: Duration = Duration::from_millis(200);

/// A mark may get lost with a connection: it is published again after so many looks.
const LOOKS_TO_A_MARK: u32 = 10;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retired {
    /// Messages that the broker still had for it.
    pub from_the_broker: u64,
    /// Messages in the outbox that wait to be posted, by others.
    pub to_be_posted: u64,
}

/// Takes over for good what is left of the replica with these settings: its inbox, and what the broker keeps for it.
/// Returns when all of it is in the database and the broker has forgotten the session.
///
/// Unless it is `the_last`, others have to have its flows before it lets go of them. Where several rows of `mqtt_servers` are
/// enabled, `broker` is the id of the one whose session is meant.
///
/// # Errors
/// The exit code, after the reason was logged.
pub fn retire(settings: &Settings, the_last: bool, broker: Option<i64>) -> Result<Retired, i32> {
    // Reads FAILPOINTS from the environment, in builds for tests only.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    remember_panics();
    let system = System::new();
    let started = system.block_on(Retirement::start(settings, the_last, broker));
    let retirement = started.map_err(|error| {
        log::error!("Fatal error during startup: {error}");
        1
    })?;
    let (done, mark, inbox_id) = retirement.watched();
    Arbiter::current().spawn(retirement.run());
    let code = system.run_with_code().unwrap_or(1);
    if code != 0 || !done.load(Ordering::Relaxed) {
        log::error!(
            "Nothing is lost, and something of {:?} is left: run this again",
            settings.mqtt.client_id
        );
        return Err(code.max(1));
    }
    let to_be_posted = farewell(settings, &inbox_id).map_err(|error| {
        log::error!("Everything is in the database, but its row among the gateways could not be removed: {error}; run this again");
        1
    })?;
    Ok(Retired { from_the_broker: mark.messages(), to_be_posted })
}

/// All parts of a gateway, on their way out.
struct Retirement {
    supervisor: Addr<SupervisorActor>,
    directory: Directory,
    link: MqttLink,
    client_id: String,
    signals: Signals,
    inbox_id: String,
    mark: Arc<EndMark>,
    done: Arc<AtomicBool>,
}

impl Retirement {
    async fn start(
        settings: &Settings,
        the_last: bool,
        broker: Option<i64>,
    ) -> Result<Retirement, StartError> {
        let mut signals = Signals::new()?;
        tokio::select! {
            opened = open(settings, the_last, broker) => {
                let (assembled, inbox_id, mark) = opened?;
                Ok(Retirement::of(assembled, inbox_id, mark, signals, settings.mqtt.client_id.clone()))
            }
            () = signals.end() => give_up(),
        }
    }

    fn of(
        assembled: Assembled,
        inbox_id: String,
        mark: Arc<EndMark>,
        signals: Signals,
        client_id: String,
    ) -> Retirement {
        let Assembled { supervisor, directory, link } = assembled;
        let done = Arc::default();
        Retirement { supervisor, directory, link, client_id, signals, inbox_id, mark, done }
    }

    fn watched(&self) -> (Arc<AtomicBool>, Arc<EndMark>, String) {
        (Arc::clone(&self.done), Arc::clone(&self.mark), self.inbox_id.clone())
    }

    async fn run(mut self) {
        tokio::select! {
            () = hand_over_and_take_the_rest(&self.directory, &self.link, &self.mark, &self.client_id) => {}
            () = self.signals.end() => give_up(),
        }
        self.done.store(true, Ordering::Relaxed);
        self.supervisor.do_send(Shutdown);
        self.signals.end().await;
        give_up();
    }
}

/// Opens what the replica has left, and starts the parts of a gateway on it.
async fn open(
    settings: &Settings,
    the_last: bool,
    broker: Option<i64>,
) -> Result<(Assembled, String, Arc<EndMark>), StartError> {
    // To make an empty one here and to be done with it would be the wrong kind of success.
    if !settings.inbox.dir.is_dir() {
        return Err(StartError::NoInbox { dir: settings.inbox.dir.clone() });
    }
    let stage = Stage::open(settings, Arc::default())?;
    let inbox_id = stage.inbox.id().to_string();
    let Prepared { limits, servers } = prepare_database(settings, &stage.observed).await?;
    let prepared = Prepared { limits, servers: vec![the_one(servers, broker)?] };
    ask_the_others(settings, &inbox_id, the_last).await?;
    let mark = Arc::new(EndMark::new(&inbox_id));
    let mode = Mode::Retire { is_the_last: the_last, mark: Arc::clone(&mark) };
    Ok((stage.assemble(prepared, &mode)?, inbox_id, mark))
}

/// The broker whose session is meant. To take whichever answers would leave what another one keeps.
fn the_one(servers: Vec<MqttServer>, wanted: Option<i64>) -> Result<MqttServer, StartError> {
    let named = |server: &MqttServer| format!("{} ({}:{})", server.id, server.host, server.port);
    let brokers = servers.iter().map(named).collect::<Vec<_>>().join(", ");
    let first = servers.first().map_or(0, |server| server.id);
    if servers.len() > 1 && wanted.is_none() {
        return Err(StartError::SeveralBrokers { brokers, first });
    }
    let wanted = wanted.unwrap_or(first);
    let found = servers.into_iter().find(|server| server.id == wanted);
    found.ok_or(StartError::NoSuchBroker { wanted, brokers })
}

/// As after `kill -9`: the next run finds everything where it is.
fn give_up() -> ! {
    log::warn!("Interrupted: nothing is lost; run this again to bring it to its end");
    std::process::exit(1);
}

async fn hand_over_and_take_the_rest(
    directory: &Directory,
    link: &MqttLink,
    mark: &EndMark,
    client_id: &str,
) {
    let handed_over = loop {
        if let Ok(Some(handed_over)) = directory.registry.ask(AwaitHandover).await {
            break handed_over;
        }
        // It is being restarted.
        actix_rt::time::sleep(LOOK).await;
    };
    if handed_over.session_kept {
        log::info!("Nothing is subscribed any more; taking what the broker still has for {client_id:?}");
        take_the_rest(link, mark).await;
        log::info!(messages = mark.messages(); "The broker has nothing more for {client_id:?}");
    } else {
        log::info!("The broker has no session of {client_id:?}: there is only the inbox");
    }
}

async fn take_the_rest(link: &MqttLink, mark: &EndMark) {
    let subscription = || Subscription { filter: mark.topic().to_owned(), id: None };
    let mut marked = false;
    mark.begin_anew();
    for look in 0_u32.. {
        if !link.is_connected() {
            // Nothing can come.
            mark.listen_anew();
        } else if look % LOOKS_TO_A_MARK == 0 {
            // A broker that refuses it is waited out.
            marked = marked || link.subscribe(vec![subscription()]).await.is_ok();
            link.publish(mark.topic(), b"end");
        }
        if mark.is_reached() {
            return;
        }
        actix_rt::time::sleep(LOOK).await;
    }
}

/// It is no member any more. Answers how many of its messages wait to be posted.
fn farewell(settings: &Settings, inbox_id: &str) -> Result<u64, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let farewell = async {
        let database = Database::connect(&settings.database, 1).await?;
        remove_member(&database, inbox_id).await?;
        let waiting = Outbox::new(database.clone(), inbox_id.into()).waiting().await?;
        database.close().await?;
        Ok(waiting.iter().map(|flow| flow.rows).sum())
    };
    runtime.block_on(farewell).map_err(|error: StoreError| error.to_string())
}
