//! The composition root: the only module that knows all parts.

mod admin;
mod drift;
mod end_mark;
mod identity;
mod key_expiry;
mod maintenance;
mod missing_ids;
mod retention;
mod retire;
mod row_waits;
mod signals;
mod stage;
mod startup;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use actix::{Addr, Arbiter, System};

use self::identity::{RegisteredStart, watch_place};
pub(crate) use self::identity::{directory_of_survey, directory_without_inbox};
pub use self::key_expiry::forget_expired_keys;
pub use self::retire::{RetireOrder, Retired, retire};
use self::signals::SignalAction;
#[cfg(feature = "tools")]
pub(crate) use self::signals::Signals;
#[cfg(not(feature = "tools"))]
use self::signals::Signals;
use self::stage::{Assembled, Mode, Stage};
pub(crate) use self::startup::volatile_file_system;
use self::startup::{prepare_database, register_start};

use crate::actors::messages::{ReloadFlows, Shutdown};
use crate::actors::supervisor::SupervisorActor;
use crate::actors::{Directory, remember_panics};
use crate::delivery::client::check_root_certificates;
use crate::domain::identity::{Consent, StartRefusal};
use crate::http::DemoAccess;
use crate::inbox::{Inbox, InboxError};
use crate::mqtt::MqttError;
use crate::observe::health::StartupStep;
use crate::observe::{FieldRecorder, Telemetry, logging};
use crate::settings::Settings;
use crate::store::{LoadServerError, StoreError};

/// Reasons for which the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The inbox cannot be used.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// The operating system denies access to the inbox directory.
    #[error(
        "{source}; let this user write in the inbox directory {}, or set INBOX_DIR to another one",
        dir.display()
    )]
    InboxDirectory {
        /// `INBOX_DIR`.
        dir: PathBuf,
        /// The refused operation.
        source: InboxError,
    },
    /// This inbox directory must not be used with this database.
    #[error("{0}")]
    Identity(StartRefusal),
    /// The table of brokers has no usable row.
    #[error(transparent)]
    Server(LoadServerError),
    /// The broker client cannot be set up.
    #[error(transparent)]
    Mqtt(#[from] MqttError),
    /// The database for the messages of a retiring replica does not exist.
    #[error("there is no database {}: set DATABASE_URL to that of the other gateways", path.display())]
    NoDatabase {
        /// The file of `DATABASE_URL`.
        path: PathBuf,
    },
    /// There is nothing to retire.
    #[error(
        "there is no inbox in {}: set INBOX_DIR to that of the retiring replica; if it is lost, create an empty directory",
        dir.display()
    )]
    NoInbox {
        /// `INBOX_DIR`.
        dir: PathBuf,
    },
    /// No other gateway could take the flows of the retiring replica.
    #[error(
        "no other gateway is known on this database to take the flows: start one. A gateway that was alone announces itself \
         at its next reload ({reload_s} s, or SIGHUP). Run this again after that, or use `--last` to give up the flows"
    )]
    NobodyElse {
        /// Seconds between two reloads of the flows.
        reload_s: u64,
    },
    /// The retiring replica is running with another inbox. Ending its session would lose messages.
    #[error(
        "a gateway with MQTT_CLIENT_ID={client_id} still runs, with another inbox: stop it, set INBOX_DIR to its inbox, \
         wait 20 s, and run this again after that"
    )]
    StillRuns {
        /// Its MQTT client id.
        client_id: String,
    },
    /// The replica may have a session at a broker that is not usable.
    #[error(
        "brokers with an unusable row may hold a session: {reasons}; correct or disable the row, or name the other brokers by \
         `--broker`"
    )]
    UnusableBrokers {
        /// The reasons, by row.
        reasons: String,
    },
    /// The requested broker does not exist.
    #[error("no enabled row of mqtt_servers has the id {wanted}; there are: {brokers}")]
    NoSuchBroker {
        /// The requested id.
        wanted: i64,
        /// The existing brokers, each with its id.
        brokers: String,
    },
    /// The database server lacks a required feature.
    #[error("this database server cannot be used, see the list of servers in docs/TABLES.md: {0}")]
    Unsupported(StoreError),
    /// The database did not return the other gateways.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configured address cannot be bound.
    #[error(
        "cannot listen at ADMIN_BIND={address}: {source}; set it to a free address, or to off for no health and no metrics"
    )]
    Admin {
        /// `ADMIN_BIND`.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The process cannot install its signal handlers.
    #[error("cannot listen to signals: {0}")]
    Signals(#[from] std::io::Error),
}

/// Runs the gateway until it receives SIGTERM, SIGINT, or SIGHUP of its terminal, and returns the exit code.
///
/// The exit code is 0 after an orderly shutdown and 1 if the start failed. It is 3 if an actor failed repeatedly or has
/// no thread, or if the MQTT client does not come back.
///
/// Without a terminal, SIGHUP reloads the flows. The gateway waits for an unavailable database or broker.
///
/// ```no_run
/// let settings = mqtt_gateway::load_settings()?;
/// std::process::exit(mqtt_gateway::run_forever(settings));
/// # #[allow(unreachable_code)]
/// # Ok::<(), mqtt_gateway::settings::SettingsError>(())
/// ```
#[must_use]
pub fn run_forever(settings: Settings) -> i32 {
    run_with(settings, Consent::default())
}

/// Runs the gateway as [`run_forever`] does, with the operator's consent to a mismatch of directory and database.
#[must_use]
pub fn run_with(settings: Settings, consent: Consent) -> i32 {
    run_with_parts(settings, consent, GivenParts::default())
}

/// Parts that the caller of [`run_with_parts`] gives to the gateway.
#[derive(Default)]
pub(crate) struct GivenParts {
    /// Observes the gateway.
    pub(crate) telemetry: Arc<Telemetry>,
    /// Listens at `ADMIN_BIND` already.
    pub(crate) listener: Option<TcpListener>,
    /// The demo that the gateway belongs to.
    pub(crate) demo: Option<DemoAccess>,
}

/// Runs the gateway as [`run_with`] does, with parts of the caller.
#[must_use]
pub(crate) fn run_with_parts(settings: Settings, consent: Consent, mut given: GivenParts) -> i32 {
    // Reads FAILPOINTS from the environment, in test builds only.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    remember_panics();
    let admin = match admin::serve(&settings, &mut given) {
        Ok(admin) => admin,
        Err(error) => return not_started(&port_or_inbox(&settings, error)),
    };
    let code = run_observed(settings, consent, given.telemetry);
    if let Some(admin) = admin {
        admin.end();
    }
    // An embedding process may exit right after this function returns.
    log::logger().flush();
    code
}

fn run_observed(settings: Settings, consent: Consent, observed: Arc<Telemetry>) -> i32 {
    let system = System::new();
    let started = system.block_on(start(settings, consent, observed));
    match started {
        Ok(Some((gateway, StartedWith { registered, inbox, fields }))) => {
            let actors = gateway.directory.clone();
            Arbiter::current().spawn(watch_place(inbox.clone()));
            Arbiter::current().spawn(registered.clone().keep_alive(inbox.clone(), actors));
            Arbiter::current().spawn(gateway.obey_signals());
            match system.run_with_code() {
                Ok(code) => {
                    registered.note_end(&inbox, &fields);
                    code
                }
                Err(error) => {
                    log::error!("The actor system failed: {error}");
                    1
                }
            }
        }
        Ok(None) => 0,
        Err(error) => not_started(&error),
    }
}

/// Replaces an occupied port by an inbox lock as the reason. A second gateway with the same settings finds the port
/// occupied first, but the lock of the inbox names the other process.
fn port_or_inbox(settings: &Settings, error: StartError) -> StartError {
    Inbox::ensure_unlocked(&settings.inbox.dir).err().map_or(error, StartError::from)
}

fn not_started(error: &StartError) -> i32 {
    log::error!("Fatal error during startup: {error}");
    1
}

/// Reloads the flows from the database now, without waiting for the interval. Errors are logged as
/// `Error reloading flows: …`, and the flows in force stay.
///
/// ```no_run
/// # fn example(directory: &mqtt_gateway::actors::Directory) {
/// mqtt_gateway::reload_flows(directory);
/// # }
/// ```
pub fn reload_flows(directory: &Directory) {
    directory.registry.tell(ReloadFlows);
}

/// A running gateway.
struct RunningGateway {
    supervisor: Addr<SupervisorActor>,
    directory: Directory,
    signals: Signals,
}

/// Parts that outlive the actors.
struct StartedWith {
    registered: RegisteredStart,
    inbox: Inbox,
    fields: Arc<FieldRecorder>,
}

impl RunningGateway {
    async fn obey_signals(mut self) {
        loop {
            match self.signals.next().await {
                SignalAction::Reload => {
                    log::info!("SIGHUP: reloading the flows");
                    reload_flows(&self.directory);
                }
                SignalAction::HungUp => {
                    log::info!("SIGHUP: the terminal was closed");
                    break;
                }
                SignalAction::End => break,
            }
        }
        self.supervisor.do_send(Shutdown);
        while !matches!(self.signals.next().await, SignalAction::End) {}
        log::warn!("Second signal: ending at once");
        logging::end_process(1);
    }
}

/// Starts all parts; returns `None` if a shutdown was requested meanwhile.
async fn start(
    settings: Settings,
    consent: Consent,
    observed: Arc<Telemetry>,
) -> Result<Option<(RunningGateway, StartedWith)>, StartError> {
    let mut signals = Signals::new()?;
    tokio::select! {
        gateway = open_and_assemble(&settings, consent, observed) => {
            let (Assembled { supervisor, directory, fields, .. }, registered, inbox) = gateway?;
            let parts = StartedWith { registered, inbox, fields };
            Ok(Some((RunningGateway { supervisor, directory, signals }, parts)))
        }
        () = signals.end() => Ok(None),
    }
}

async fn open_and_assemble(
    settings: &Settings,
    consent: Consent,
    observed: Arc<Telemetry>,
) -> Result<(Assembled, RegisteredStart, Inbox), StartError> {
    if let Err(problem) = check_root_certificates(&settings.http_route) {
        log::error!("Endpoints with https cannot be reached. {problem}");
    }
    let stage = Stage::open(settings, observed)?;
    let inbox = stage.inbox.clone();
    let prepared = prepare_database(settings, &stage.observed).await?;
    let registered = register_start(settings, &inbox, consent, &stage.observed).await?;
    stage.observed.health.mark_done(StartupStep::Database);
    let assembled = stage.assemble(prepared, &Mode::Run)?;
    Ok((assembled, registered, inbox))
}
