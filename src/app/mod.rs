//! The composition root: the only place that knows all parts.

mod intake;
mod signals;
mod startup;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use actix::{Actor, Addr, Arbiter, System};

pub use self::intake::Intake;
use self::intake::judge_session;
use self::signals::{Signals, Told};
use self::startup::{Prepared, open_inbox, prepare_database, tables_of_before};

use crate::actors::delivery::DeliveryParts;
use crate::actors::messages::{ReloadFlows, Shutdown};
use crate::actors::mqtt::{MqttParts, Session};
use crate::actors::registry::RegistryParts;
use crate::actors::router::RouterParts;
use crate::actors::supervisor::{Factories, SupervisorActor, SupervisorOptions};
use crate::actors::worker::WorkerParts;
use crate::actors::{Directory, InboxSignal, Slot, remember_panics};
use crate::inbox::{Inbox, InboxError, KeptTables, RetainedMemory, SubscriptionBook};
use crate::mqtt::{BrokerOptions, MqttError, MqttLink};
use crate::settings::Settings;
use crate::store::{BatchRules, LoadServerError, MqttServer, OutboxGauge, StoreLimits};

/// Permits of actors whose messages are few by their protocol.
const CONTROL_PERMITS: usize = 64;

/// Permits of the delivery: messages handed over and not yet in its queues.
const DELIVERY_PERMITS: usize = 8_192;

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The inbox cannot be used.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// The operating system does not let us use the inbox directory.
    #[error(
        "{source}; let this user write in the inbox directory {}, or set INBOX_DIR to another one",
        dir.display()
    )]
    InboxDirectory {
        /// `INBOX_DIR`.
        dir: PathBuf,
        /// What it refused.
        source: InboxError,
    },
    /// The table of brokers holds nothing to connect to.
    #[error(transparent)]
    Server(LoadServerError),
    /// The broker client cannot be set up.
    #[error(transparent)]
    Mqtt(#[from] MqttError),
    /// The process cannot listen to signals.
    #[error("cannot listen to signals: {0}")]
    Signals(#[from] std::io::Error),
}

/// Runs the gateway until it is told to end (SIGTERM, SIGINT), and returns the exit code: 0 after
/// an orderly end, 1 when it could not start, 3 when an actor failed again and again.
///
/// SIGHUP reloads the flows. A database or a broker that is not there is waited for.
///
/// ```no_run
/// let settings = mqtt_gateway::load_settings()?;
/// std::process::exit(mqtt_gateway::run_forever(settings));
/// # #[allow(unreachable_code)]
/// # Ok::<(), mqtt_gateway::settings::SettingsError>(())
/// ```
#[must_use]
pub fn run_forever(settings: Settings) -> i32 {
    // Reads FAILPOINTS from the environment, in builds for tests only.
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    remember_panics();
    let system = System::new();
    let started = system.block_on(start(settings));
    match started {
        Ok(Some(gateway)) => {
            Arbiter::current().spawn(gateway.obey_signals());
            match system.run_with_code() {
                Ok(code) => code,
                Err(error) => {
                    log::error!("The actor system failed: {error}");
                    1
                }
            }
        }
        Ok(None) => 0,
        Err(error) => {
            log::error!("Fatal error during startup: {error}");
            1
        }
    }
}

/// Has the flows read from the database now, without waiting for the interval. What goes wrong is
/// logged as `Error reloading flows: …`, and the flows in force stay.
///
/// ```no_run
/// # fn example(directory: &mqtt_gateway::actors::Directory) {
/// mqtt_gateway::reload_flows(directory);
/// # }
/// ```
pub fn reload_flows(directory: &Directory) {
    directory.registry.tell(ReloadFlows);
}

/// A gateway that runs.
struct Gateway {
    supervisor: Addr<SupervisorActor>,
    directory: Directory,
    signals: Signals,
}

impl Gateway {
    async fn obey_signals(mut self) {
        while let Told::Reload = self.signals.next().await {
            log::info!("SIGHUP: reloading the flows");
            reload_flows(&self.directory);
        }
        self.supervisor.do_send(Shutdown);
        while !matches!(self.signals.next().await, Told::End) {}
        log::warn!("Second signal: ending at once");
        log::logger().flush();
        std::process::exit(1);
    }
}

/// Brings all parts up; `None` when it was told to end meanwhile.
async fn start(settings: Settings) -> Result<Option<Gateway>, StartError> {
    let mut signals = Signals::new()?;
    tokio::select! {
        gateway = assemble(settings) => {
            let (supervisor, directory) = gateway?;
            Ok(Some(Gateway { supervisor, directory, signals }))
        }
        () = signals.end() => Ok(None),
    }
}

async fn assemble(settings: Settings) -> Result<(Addr<SupervisorActor>, Directory), StartError> {
    let inbox = open_inbox(&settings)?;
    let Prepared { limits, server } = prepare_database(&settings).await?;
    let directory = directory(&settings, inbox.lanes());
    let factories = factories(&settings, &inbox, limits, server, &directory)?;
    let options = SupervisorOptions {
        report_interval: settings.mailbox_report_interval,
        max_restarts: settings.restarts.max,
        restart_window: settings.restarts.window,
        drain_deadline: settings.drain_deadline,
    };
    let supervisor = SupervisorActor::new(directory.clone(), factories, options).start();
    Ok((supervisor, directory))
}

fn directory(settings: &Settings, lanes: u32) -> Directory {
    // A batch in hand and one that waits.
    let worker_permits = settings.batch_max_messages.saturating_mul(2);
    Directory {
        mqtt: Slot::new("mqtt", CONTROL_PERMITS),
        registry: Slot::new("flow-registry", CONTROL_PERMITS),
        router: Slot::new("router", CONTROL_PERMITS),
        workers: (0..lanes).map(|lane| Slot::new(format!("flow-worker-{lane}"), worker_permits)).collect(),
        delivery: Slot::new("delivery", DELIVERY_PERMITS),
    }
}

fn factories(
    settings: &Settings,
    inbox: &Inbox,
    limits: StoreLimits,
    server: MqttServer,
    directory: &Directory,
) -> Result<Factories, StartError> {
    let inbox_id: Arc<str> = inbox.id().to_string().into();
    let gauge = Arc::new(OutboxGauge::default());
    let rules = Arc::new(BatchRules::new(
        Arc::clone(&inbox_id),
        settings.value_style,
        settings.limits,
        limits,
        Arc::clone(&gauge),
        settings.outbox.max_rows_per_flow,
        settings.keys_known_for,
    ));
    let book = Arc::new(Mutex::new(SubscriptionBook::open(&settings.inbox.dir)?));
    let kept_tables = KeptTables::of(&settings.inbox.dir);
    let signal = InboxSignal::new(directory.router.clone());
    let session = Session::default();
    let link = link(settings, inbox, server, &signal, directory, &session)?;
    let worker = |lane| WorkerParts {
        lane,
        database: settings.database.clone(),
        rules: Arc::clone(&rules),
        flow_lock_wait: settings.flow_lock_wait,
        directory: directory.clone(),
    };
    Ok(Factories {
        mqtt: MqttParts {
            link,
            session,
            client_id: settings.mqtt.client_id.clone(),
            book: Arc::clone(&book),
            directory: directory.clone(),
        },
        registry: RegistryParts {
            database: settings.database.clone(),
            reload_interval: settings.flows_reload_interval,
            directory: directory.clone(),
        },
        router: RouterParts {
            inbox: inbox.clone(),
            signal,
            tables: Arc::new(Mutex::new(tables_of_before(&kept_tables)?)),
            kept_tables,
            book,
            directory: directory.clone(),
            payload: rules.payload,
            batch_max_messages: settings.batch_max_messages,
            batch_max_bytes: settings.batch_max_bytes,
        },
        workers: (0..inbox.lanes()).map(worker).collect(),
        delivery: DeliveryParts {
            database: settings.database.clone(),
            inbox_id,
            gauge,
            http_timeout: settings.http_timeout,
            max_age: settings.outbox.max_age,
            keys_known_for: settings.keys_known_for,
        },
    })
}

fn link(
    settings: &Settings,
    inbox: &Inbox,
    server: MqttServer,
    signal: &InboxSignal,
    directory: &Directory,
    session: &Session,
) -> Result<MqttLink, StartError> {
    let options = BrokerOptions {
        credentials: server.credentials(),
        host: server.host,
        port: server.port,
        client_id: settings.mqtt.client_id.clone(),
        keepalive: settings.mqtt.keepalive,
        session_expiry_seconds: settings.mqtt.session_expiry_seconds,
        qos: settings.mqtt.qos,
    };
    inbox.expect_redelivery_from(&format!("{}@{}:{}", options.client_id, options.host, options.port))?;
    let wanted = settings.mqtt.skip_repeated_retained;
    let retained = wanted.then(|| RetainedMemory::open(&settings.inbox.dir)).transpose()?;
    let intake = Intake::new(inbox.clone(), signal.clone(), retained);
    let (session, mqtt, inbox) = (session.clone(), directory.mqtt.clone(), inbox.clone());
    let link = MqttLink::start(
        options,
        Box::new(move |incoming| intake.on_incoming(incoming)),
        Box::new(move |event| {
            judge_session(&inbox, &event);
            session.hear(event, &mqtt);
        }),
    )?;
    Ok(link)
}
