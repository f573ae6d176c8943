//! The composition root: the only place that knows all parts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Arbiter, System};
use chrono::Utc;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::actors::delivery::DeliveryParts;
use crate::actors::messages::{ReloadFlows, Shutdown};
use crate::actors::mqtt::{LinkEvent, MqttParts};
use crate::actors::registry::RegistryParts;
use crate::actors::router::RouterParts;
use crate::actors::supervisor::{Factories, SupervisorActor, SupervisorOptions};
use crate::actors::worker::WorkerParts;
use crate::actors::{Directory, InboxSignal, Slot, remember_panics};
use crate::domain::message::Publication;
use crate::inbox::{
    AppendError, Inbox, InboxError, InboxOptions, MetaOrigin, RetainedMemory, SubscriptionBook,
};
use crate::mqtt::{BrokerOptions, MqttError, MqttLink};
use crate::settings::{DatabaseSettings, Settings};
use crate::store::{
    BatchRules, Database, LoadServerError, MqttServer, OutboxGauge, StoreError, StoreLimits, load_limits,
    load_mqtt_server, migrate,
};

/// Waits between two attempts to reach the database at the start.
const DATABASE_RETRY: Duration = Duration::from_secs(2);

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

fn open_inbox(settings: &Settings) -> Result<Inbox, InboxError> {
    // SQLite has one writer: a second lane would only wait for the first.
    let lanes = match settings.database {
        DatabaseSettings::Sqlite { .. } => 1,
        DatabaseSettings::MySql { .. } => settings.lanes,
    };
    let (inbox, recovery) = Inbox::open(InboxOptions {
        dir: settings.inbox.dir.clone(),
        max_bytes: settings.inbox.max_bytes,
        segment_bytes: settings.inbox.segment_bytes,
        fsync: settings.inbox.fsync,
        lanes,
        max_payload_bytes: settings.limits.max_payload_bytes,
    })?;
    for damage in recovery.damages.iter().filter(|damage| damage.is_new) {
        log::error!("Inbox: {damage}");
    }
    if matches!(recovery.meta, MetaOrigin::Rebuilt | MetaOrigin::Replaced) {
        log::error!("Inbox: the file with its identity was lost ({:?})", recovery.meta);
    }
    if inbox.lanes() != lanes {
        log::warn!(
            "LANES={lanes} is for a new inbox; this one was made with {} and keeps them. \
             To change them, drain it (stop with SIGTERM) and delete {}",
            inbox.lanes(),
            settings.inbox.dir.display()
        );
    }
    log::info!(
        inbox = inbox.id().to_string().as_str(), lanes = inbox.lanes(), records = recovery.records, bytes = inbox.bytes();
        "Inbox opened"
    );
    Ok(inbox)
}

/// What the database had to say at the start.
struct Prepared {
    limits: StoreLimits,
    server: MqttServer,
}

/// Migrates and reads what is needed to begin; waits for a database that is not there.
async fn prepare_database(settings: &Settings) -> Result<Prepared, StartError> {
    loop {
        match try_prepare_database(settings).await {
            Ok(Ok(prepared)) => return Ok(prepared),
            Ok(Err(no_server)) => return Err(StartError::Server(no_server)),
            Err(error) => {
                let retry_in_s = DATABASE_RETRY.as_secs();
                log::error!(retry_in_s; "The database is not available, waiting for it: {error}");
                actix_rt::time::sleep(DATABASE_RETRY).await;
            }
        }
    }
}

async fn try_prepare_database(settings: &Settings) -> Result<Result<Prepared, LoadServerError>, StoreError> {
    let database = Database::connect(&settings.database, 1).await?;
    for step in migrate(&database).await?.added {
        log::info!("Database: added {step}");
    }
    let limits = load_limits(&database).await?;
    let server = match load_mqtt_server(&database).await {
        Ok(server) => Ok(Prepared { limits, server }),
        Err(LoadServerError::Store(error)) => return Err(error),
        Err(no_server) => Err(no_server),
    };
    database.close().await?;
    Ok(server)
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
    ));
    let book = Arc::new(Mutex::new(SubscriptionBook::open(&settings.inbox.dir)?));
    let signal = InboxSignal::new(directory.router.clone());
    let link = link(settings, inbox, server, &signal, directory)?;
    let worker = |lane| WorkerParts {
        lane,
        database: settings.database.clone(),
        rules: Arc::clone(&rules),
        directory: directory.clone(),
    };
    Ok(Factories {
        mqtt: MqttParts {
            link,
            session: Arc::default(),
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
        },
    })
}

fn link(
    settings: &Settings,
    inbox: &Inbox,
    server: MqttServer,
    signal: &InboxSignal,
    directory: &Directory,
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
    let wanted = settings.mqtt.skip_repeated_retained;
    let retained = wanted.then(|| RetainedMemory::open(&settings.inbox.dir)).transpose()?;
    let intake = Intake {
        inbox: inbox.clone(),
        signal: signal.clone(),
        retained: Mutex::new(retained),
        complained: Mutex::default(),
    };
    let mqtt = directory.mqtt.clone();
    let link = MqttLink::start(
        options,
        Box::new(move |publication| intake.on_message(publication)),
        Box::new(move |event| mqtt.tell(LinkEvent(event))),
    )?;
    Ok(link)
}

/// What happens to a message in the broker's callback. When it returns, the broker is told that
/// the message is received; so it returns only when the message is in the inbox.
pub struct Intake {
    inbox: Inbox,
    signal: InboxSignal,
    retained: Mutex<Option<RetainedMemory>>,
    /// When it was said last that the inbox takes nothing.
    complained: Mutex<Option<Instant>>,
}

/// An inbox at its bound takes a message whenever one is done: that it waits is said once in this time.
const COMPLAINT: Duration = Duration::from_secs(10);

impl Intake {
    /// Takes a message in, however long that takes; does not return when it cannot be taken.
    pub fn on_message(&self, publication: &Publication<'_>) {
        let mut memory = self.retained.lock().unwrap_or_else(PoisonError::into_inner);
        let retained = memory.as_mut().filter(|_| publication.delivery.retained);
        if retained.as_ref().is_some_and(|memory| memory.is_repeat(publication.topic, publication.payload)) {
            return;
        }
        let received_at_us = Utc::now().timestamp_micros();
        if self.inbox.append_blocking(publication, received_at_us, &|error| self.complain(error)).is_err() {
            // To return would acknowledge a message that is nowhere. The process ends over this.
            loop {
                std::thread::park();
            }
        }
        self.signal.raise();
        if let Some(Err(error)) =
            retained.map(|memory| memory.remember(publication.topic, publication.payload))
        {
            log::warn!("Cannot remember a retained message, it will be taken again: {error}");
        }
    }

    fn complain(&self, error: &AppendError) {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|at| at.elapsed() >= COMPLAINT) {
            *complained = Some(Instant::now());
            log::error!("The inbox takes no message, so the broker holds them: {error}");
        }
    }
}

/// What a signal asks for.
enum Told {
    Reload,
    End,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.hangup.recv() => Told::Reload,
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
        }
    }

    async fn end(&mut self) {
        while !matches!(self.next().await, Told::End) {}
    }
}
