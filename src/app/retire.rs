//! `mqtt-gateway retire`: removes a replica permanently, without leaving messages behind.
//!
//! ```text
//!   inbox and session of the replica ─▶ others have its flows? ─▶ UNSUBSCRIBE ─▶ receive the queued messages
//!     ─▶ DISCONNECT, and the broker deletes the session ─▶ inbox into SQL ─▶ row of the member deleted
//! ```
//!
//! The usual actors do the work: the registry hands its flows over and takes none, and the shutdown is the orderly one
//! without a deadline. Completed steps persist, so an interrupted run is repeated.

mod others;
mod sessions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::{Addr, Arbiter, System};

use self::others::check_others;
use self::sessions::{Sessions, brokers_of, named};
use super::StartError;
use super::end_mark::EndMark;
use super::identity::RegisteredStart;
use super::signals::Signals;
use super::stage::{Assembled, Mode, Stage};
use super::startup::{Prepared, prepare_database, register_start};
use crate::actors::messages::Shutdown;
use crate::actors::remember_panics;
use crate::actors::supervisor::SupervisorActor;
use crate::domain::broker::Broker;
use crate::domain::identity::Consent;
use crate::inbox::Inbox;
use crate::observe::logging;
use crate::settings::Settings;
use crate::store::outbox::Outbox;
use crate::store::{Database, StoreError, forget_inbox, missing_file, remove_member};

/// The result of a retirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retired {
    /// Messages that the broker had queued for the replica.
    pub from_the_broker: u64,
    /// Messages in the outbox, which other gateways post.
    pub to_be_posted: u64,
}

/// The options of `retire`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetireOrder {
    /// Release the flows although no other gateway takes them.
    pub is_last: bool,
    /// Drain only the session at the broker with this id in `mqtt_servers`.
    pub broker: Option<i64>,
    /// The inbox of the replica is lost; begin with an empty one.
    pub new_inbox: bool,
}

/// Takes over the inbox and the broker's sessions of the replica with these settings, permanently. Returns when all
/// messages are in the database and the broker has deleted the session.
///
/// Unless the replica is the last one, other gateways must have its flows before it releases them. If several rows of
/// `mqtt_servers` are enabled, each of these brokers may keep a session. All of them are drained, or only the broker
/// with the id `broker`.
///
/// # Errors
/// The exit code, after the reason was logged.
pub fn retire(settings: &Settings, options: RetireOrder) -> Result<Retired, i32> {
    // Reads FAILPOINTS from the environment, in test builds only.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    remember_panics();
    let system = System::new();
    let started = system.block_on(Retirement::start(settings, options));
    let retirement = started.map_err(|error| {
        log::error!("Fatal error during startup: {error}");
        1
    })?;
    let (done, mark, inbox_id) = retirement.watched();
    Arbiter::current().spawn(retirement.run());
    let code = system.run_with_code().unwrap_or(1);
    if code != 0 || !done.load(Ordering::Relaxed) {
        log::error!("Nothing is lost, but messages of {:?} remain: run this again", settings.mqtt.client_id);
        return Err(code.max(1));
    }
    let to_be_posted = leave_database(settings, &inbox_id).map_err(|error| {
        log::error!("Everything is in the database, but its row among the gateways could not be removed: {error}; run this again");
        1
    })?;
    Ok(Retired { from_the_broker: mark.messages(), to_be_posted })
}

/// The parts of a gateway during its retirement.
struct Retirement {
    supervisor: Addr<SupervisorActor>,
    sessions: Sessions,
    signals: Signals,
    inbox_id: String,
    done: Arc<AtomicBool>,
}

impl Retirement {
    async fn start(settings: &Settings, order: RetireOrder) -> Result<Retirement, StartError> {
        let mut signals = Signals::new()?;
        tokio::select! {
            opened = open(settings, order) => {
                let (supervisor, sessions, inbox_id, registered, inbox) = opened?;
                let actors = sessions.directory.clone();
                Arbiter::current().spawn(registered.keep_alive(inbox, actors));
                Ok(Retirement { supervisor, sessions, signals, inbox_id, done: Arc::default() })
            }
            () = signals.end() => exit_interrupted(),
        }
    }

    fn watched(&self) -> (Arc<AtomicBool>, Arc<EndMark>, String) {
        (Arc::clone(&self.done), Arc::clone(&self.sessions.mark), self.inbox_id.clone())
    }

    async fn run(mut self) {
        let left = tokio::select! {
            left = self.sessions.empty() => left,
            () = self.signals.end() => exit_interrupted(),
        };
        if !left.is_empty() {
            exit_with_sessions_left(&left);
        }
        self.done.store(true, Ordering::Relaxed);
        self.supervisor.do_send(Shutdown);
        self.signals.end().await;
        exit_interrupted();
    }
}

/// Opens the replica's inbox and starts the parts of a gateway on it.
async fn open(
    settings: &Settings,
    order: RetireOrder,
) -> Result<(Addr<SupervisorActor>, Sessions, String, RegisteredStart, Inbox), StartError> {
    let RetireOrder { is_last, broker, new_inbox } = order;
    // Creating an empty inbox and draining it would report a false success.
    if !settings.inbox.dir.is_dir() {
        return Err(StartError::NoInbox { dir: settings.inbox.dir.clone() });
    }
    if let Some(path) = missing_file(&settings.database) {
        return Err(StartError::NoDatabase { path: path.to_owned() });
    }
    let stage = Stage::open(settings, Arc::default())?;
    let inbox_id = stage.inbox.id().to_string();
    let prepared = prepare_database(settings, &stage.observed).await?;
    let brokers = brokers_of(&prepared, broker)?;
    let prepared = Prepared { servers: brokers.iter().take(1).cloned().collect(), ..prepared };
    check_others(settings, &inbox_id, is_last).await?;
    let inbox = stage.inbox.clone();
    let consent = Consent { database: None, new_inbox };
    let registered = register_start(settings, &inbox, consent, &stage.observed).await?;
    let mark = Arc::new(EndMark::new(&inbox_id));
    let mode = Mode::Retire { is_last_replica: is_last, mark: Arc::clone(&mark) };
    let Assembled { supervisor, directory, link, .. } = stage.assemble(prepared, &mode)?;
    let client_id = settings.mqtt.client_id.clone();
    let sessions = Sessions { brokers, directory, link, mark, client_id };
    Ok((supervisor, sessions, inbox_id, registered, inbox))
}

/// Exits at once, as after `kill -9`: the next run continues.
fn exit_interrupted() -> ! {
    log::warn!("Interrupted: nothing is lost; run this again to bring it to its end");
    logging::end_process(1)
}

/// Exits with the inbox in place for the next run. An orderly shutdown would delete the session connected last.
fn exit_with_sessions_left(brokers: &[&Broker]) -> ! {
    for broker in brokers {
        log::error!(
            "Could not reach the broker {} to its end. When it is back, run this again with `--broker {}`. If it does not \
             come back, its messages are lost. Then run this for another broker, which brings the inbox into the database",
            named(broker),
            broker.id
        );
    }
    logging::end_process(1)
}

/// Deletes the replica's row among the members. Returns how many of its messages wait to be posted.
fn leave_database(settings: &Settings, inbox_id: &str) -> Result<u64, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let removal = async {
        let database = Database::connect(&settings.database, 1).await?;
        remove_member(&database, inbox_id).await?;
        forget_inbox(&database, inbox_id).await?;
        let waiting = Outbox::new(database.clone(), inbox_id.into()).waiting().await?;
        database.close().await?;
        Ok(waiting.iter().map(|flow| flow.rows).sum())
    };
    runtime.block_on(removal).map_err(|error: StoreError| error.to_string())
}
