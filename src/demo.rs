//! `mqtt-gateway demo`: runs the real gateway with an embedded broker, sensors and endpoints.
//!
//! ```text
//!  the demo                               the gateway, a process of its own
//! ┌──────────────────────────────┐       ┌───────────────────────────────────────┐
//! │ sensors ─┐                   │       │                      ┌──▶ SQLite      │
//! │          ├─▶ broker ─────────┼──────▶│ receives and ────────┤                │
//! │ yourself ┘   (rumqttd)       │       │ processes messages   └──▶ posts ──────┼─▶ endpoints of the demo
//! │ control ◀────────────────────┼───────│ page of the demo                      │
//! │ (kills, locks, counts)       │       │ view ──▶ standard output              │
//! └──────────────────────────────┘       └───────────────────────────────────────┘
//! ```
//!
//! The gateway runs unchanged and reads its broker and its flows from the database. It is a process of its own, so that
//! it can be killed. All state is in one directory, so that the next demo there continues. The broker keeps nothing on
//! disk.

mod companion;
mod control;
mod endpoint;
mod gateway;
mod ledger;
mod lines;
mod samples;
mod sensors;
mod view;

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use self::companion::Companion;
use self::control::DemoParts;
use self::endpoint::Endpoint;
use self::gateway::GatewayKeeper;
pub(crate) use self::gateway::{COMMAND, run_gateway};
use self::ledger::ReadingLedger;
use self::lines::{DemoSummary, Introduction};
use crate::app::Signals;
use crate::embedded::broker::{BrokerError, EmbeddedBroker};
use crate::files;
use crate::http::thread::HttpThread;
use crate::http::{DemoAccess, link_to_console};
use crate::observe::logging::{self, LoggingError};
use crate::settings::{AdminSettings, DatabaseSettings, LogFormat, Settings, SettingsError, load_given};
use crate::store::{LoadServerError, StoreError};

/// Exit code of a demo that failed to start.
const FAILURE: i32 = 1;

/// Exit code of a demo with wrong settings.
const WRONG_SETTINGS: i32 = 2;

/// Buffer of the broker per topic, in mebibytes.
const BROKER_BUFFER_MIB: usize = 8;

/// MQTT client id of the gateway.
const CLIENT_ID: &str = "mqtt-gateway-demo";

/// Contents of the directory of the demo.
const DATABASE_FILE: &str = "gateway.sqlite";
const INBOX_DIR: &str = "inbox";
const LOG_DIR: &str = "log";

/// Settings of the gateway that differ from the defaults. Rare mailbox reports and only warnings of libraries keep the
/// view readable. The broker's log is off, because it reports every closed connection as an error.
const SETTINGS: [(&str, &str); 7] = [
    ("DATABASE_URL", "sqlite:gateway.sqlite"),
    ("MQTT_CLIENT_ID", CLIENT_ID),
    ("FLOWS_RELOAD_INTERVAL_SECONDS", "5"),
    ("MAILBOX_REPORT_SECONDS", "30"),
    // A real gateway may use the default port.
    ("ADMIN_BIND", "127.0.0.1:0"),
    ("LOG_FORMAT", "human"),
    ("RUST_LOG", "warn,mqtt_gateway=info,mailbox=info,rumqttd=off"),
];

/// Settings that the environment may override. All others are ignored, because a `.env` may belong to a real gateway
/// whose database the demo must not touch.
const INHERITED: [&str; 4] = ["ADMIN_BIND", "MAILBOX_REPORT_SECONDS", "LOG_FORMAT", "RUST_LOG"];

/// Options of `mqtt-gateway demo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoOptions {
    /// Directory of the database, the inbox and the log; created when missing.
    pub dir: PathBuf,
    /// Port of the embedded broker on 127.0.0.1: 0 for any free port, `None` for 1883 or the next free port.
    pub port: Option<u16>,
}

/// Reasons why the demo failed to start.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("cannot use the directory {}: {source}; choose another one with --dir", dir.display())]
    Directory { dir: PathBuf, source: io::Error },
    #[error("another demo uses the directory {}; choose another one with --dir", dir.display())]
    Running { dir: PathBuf },
    #[error("{COMMAND} is a part of the demo: run `mqtt-gateway demo`")]
    Alone,
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Logging(#[from] LoggingError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("cannot start the endpoint: {0}")]
    Endpoint(io::Error),
    #[error(
        "cannot listen at ADMIN_BIND={address}: {source}; set it to a free address, or to off for no console"
    )]
    Console { address: SocketAddr, source: io::Error },
    #[error("cannot prepare the database: {0}")]
    Store(#[from] StoreError),
    #[error("cannot store the address of the broker: {0}")]
    Server(#[from] LoadServerError),
    #[error("cannot start a thread or a process: {0}")]
    System(#[from] io::Error),
}

/// Runs the demo until it is interrupted (Ctrl-C).
///
/// Returns the exit code: 0 after an orderly end, 1 after a failed start, 2 with wrong settings, otherwise that of the
/// gateway.
#[must_use]
pub fn run(options: &DemoOptions) -> i32 {
    match run_until_end(options) {
        Ok(code) => code,
        Err(error) => report_failure(&error),
    }
}

fn report_failure(error: &DemoError) -> i32 {
    // An error means that a logger is already installed, which takes the record.
    let _ = logging::init_stderr(LogFormat::Human, "info");
    log::error!("Fatal error during startup: {error}");
    if matches!(error, DemoError::Settings(_)) { WRONG_SETTINGS } else { FAILURE }
}

fn run_until_end(options: &DemoOptions) -> Result<i32, DemoError> {
    let _lock = lock(&options.dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let mut demo = Demo::start(&options.dir, options.port).await?;
        let stage = Arc::clone(&demo.stage);
        let code = stage.gateway.run(&mut signals, || demo.stop_sensors()).await?;
        if code == 0 {
            demo.end().await;
        } else {
            log::error!("The demo ends, because its gateway ended with an error: see the lines above");
        }
        Ok(code)
    })
}

/// The parts that run beside the gateway.
struct Demo {
    stage: Arc<DemoParts>,
    /// None after their end.
    sensors: Option<Companion>,
    control: HttpThread,
    /// Endpoint that never works.
    _failing: Endpoint,
}

impl Demo {
    async fn start(dir: &Path, port: Option<u16>) -> Result<Self, DemoError> {
        let settings = settings(dir)?;
        logging::init_stderr(settings.log_format, &settings.log_filter)?;
        let mut broker = EmbeddedBroker::new(port, BROKER_BUFFER_MIB)?;
        let ports = broker.ports();
        let link = broker.link("demo-sensors")?;
        broker.start()?;
        let ledger = Arc::<ReadingLedger>::default();
        let endpoint = Endpoint::start(&ledger).map_err(DemoError::Endpoint)?;
        let failing = Endpoint::start_failing(&ledger).map_err(DemoError::Endpoint)?;
        let earlier = samples::write(&settings.database, &endpoint, &failing, ports.v5).await?;
        let console = console(&settings)?;
        let address = console.as_ref().map(TcpListener::local_addr).transpose()?;
        let control = control::listen()?;
        let access = DemoAccess::new(&control.local_addr()?.to_string());
        let introduction = Introduction {
            database: database_path(dir),
            ports,
            console: address.map(|address| link_to_console(address, &access.link)),
        };
        print(&introduction.to_string());
        let stage = Arc::new(DemoParts {
            dir: dir.to_owned(),
            database: settings.database,
            earlier,
            ledger: Arc::clone(&ledger),
            endpoint,
            gateway: GatewayKeeper::new(dir, &access, console)?,
            is_locked: AtomicBool::new(false),
        });
        let control = control::serve(control, access.control_key, Arc::clone(&stage))?;
        let sensors = Some(sensors::start(link, ledger, address)?);
        Ok(Self { stage, sensors, control, _failing: failing })
    }

    fn stop_sensors(&mut self) {
        if let Some(sensors) = self.sensors.take() {
            sensors.end();
        }
    }

    /// Prints the outcomes of the readings. Broker and endpoints end with the process.
    async fn end(mut self) {
        self.stop_sensors();
        self.control.end();
        match self.stage.balance().await {
            Ok(flows) => print(&DemoSummary(flows).to_string()),
            Err(error) => log::error!("Cannot count the readings: {error}"),
        }
    }
}

fn console(settings: &Settings) -> Result<Option<TcpListener>, DemoError> {
    let Some(AdminSettings { address, .. }) = settings.admin else { return Ok(None) };
    let listener = TcpListener::bind(address).map_err(|source| DemoError::Console { address, source })?;
    Ok(Some(listener))
}

/// Prints a text for people. The reader of a pipe may have left.
fn print(text: &str) {
    let mut out = io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = written.map_err(|error| error.kind())
        && error != io::ErrorKind::BrokenPipe
    {
        log::error!("Standard output: {error}");
    }
}

fn lock(dir: &Path) -> Result<File, DemoError> {
    let unusable = |source| DemoError::Directory { dir: dir.to_owned(), source };
    files::create_private_dir(dir).map_err(unusable)?;
    let lock = dir.join("demo.lock");
    let file = files::open_private(&lock, File::options().write(true).create(true)).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DemoError::Running { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

fn settings(dir: &Path) -> Result<Settings, SettingsError> {
    let mut settings = load_given(&SETTINGS, &INHERITED)?;
    settings.database = DatabaseSettings::Sqlite { path: database_path(dir) };
    settings.inbox.dir = dir.join(INBOX_DIR);
    settings.log_dir = dir.join(LOG_DIR);
    Ok(settings)
}

fn database_path(dir: &Path) -> PathBuf {
    dir.join(DATABASE_FILE)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;

    #[test]
    fn all_state_is_in_the_directory() {
        let settings = settings(Path::new("/somewhere")).unwrap();
        let DatabaseSettings::Sqlite { path } = settings.database else { panic!("no SQLite") };
        for place in [path, settings.inbox.dir, settings.log_dir] {
            assert!(place.starts_with("/somewhere"), "{}", place.display());
        }
    }

    #[test]
    fn second_demo_in_the_directory_fails() {
        let directory = tempfile::tempdir().unwrap();
        let first = lock(directory.path()).unwrap();
        assert!(matches!(lock(directory.path()), Err(DemoError::Running { .. })));
        drop(first);
        assert!(lock(directory.path()).is_ok());
    }
}
