//! `mqtt-gateway demo`: runs the real gateway with an embedded broker, sensors and an endpoint.
//!
//! ```text
//! sensors ─┐                             ┌─▶ SQLite
//!          ├─▶ broker ──▶ the gateway ───┤
//! yourself ┘   (rumqttd)       │         └─▶ endpoint
//!                              └─ events ──▶ view ──▶ standard output
//! ```
//!
//! The gateway runs unchanged and reads its broker and its flows from the database. All state is in one directory, so
//! that the next demo there continues. The broker keeps nothing on disk.

mod companion;
mod endpoint;
mod lines;
mod samples;
mod sensors;
mod view;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::companion::Companion;
use self::endpoint::Endpoint;
use self::lines::Introduction;
use crate::app::run_with_telemetry;
use crate::domain::identity::Consent;
use crate::embedded::broker::{BrokerError, EmbeddedBroker, Ports};
use crate::files;
use crate::observe::Telemetry;
use crate::observe::logging::{self, LoggingError};
use crate::settings::{DatabaseSettings, LogFormat, Settings, SettingsError, load_given};
use crate::store::{LoadServerError, StoreError};

/// Exit code of a demo that failed to start.
const FAILURE: i32 = 1;

/// Buffer of the broker per topic, in mebibytes.
const BROKER_BUFFER_MIB: usize = 8;

/// Settings of the gateway that differ from the defaults. Rare mailbox reports and only warnings of libraries keep the
/// view readable. The broker's log is off, because it reports every closed connection as an error.
const SETTINGS: [(&str, &str); 7] = [
    ("DATABASE_URL", "sqlite:gateway.sqlite"),
    ("MQTT_CLIENT_ID", "mqtt-gateway-demo"),
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
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Logging(#[from] LoggingError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("cannot start the endpoint: {0}")]
    Endpoint(io::Error),
    #[error("cannot prepare the database: {0}")]
    Store(#[from] StoreError),
    #[error("cannot store the address of the broker: {0}")]
    Server(#[from] LoadServerError),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// Runs the demo until it is interrupted (Ctrl-C).
///
/// Returns the exit code: 0 after an orderly end, 1 after a failed start, otherwise the exit code of the gateway.
#[must_use]
pub fn run(options: DemoOptions) -> i32 {
    let DemoOptions { dir, port } = options;
    let telemetry = Arc::<Telemetry>::default();
    let (demo, settings) = match Demo::start(&dir, port, &telemetry) {
        Ok(started) => started,
        Err(error) => {
            // An error means that a logger is already installed, which takes the record.
            let _ = logging::init_stderr(LogFormat::Human, "info");
            log::error!("Fatal error during startup: {error}");
            return FAILURE;
        }
    };
    let code = run_with_telemetry(settings, Consent::default(), telemetry);
    demo.end();
    code
}

/// The parts that run beside the gateway.
struct Demo {
    sensors: Companion,
    endpoint: Endpoint,
    view: Companion,
    /// Open and locked, so that no second demo uses the directory.
    _lock: File,
}

impl Demo {
    fn start(dir: &Path, port: Option<u16>, telemetry: &Telemetry) -> Result<(Self, Settings), DemoError> {
        let lock = lock(dir)?;
        let settings = settings(dir)?;
        logging::init(&settings)?;
        let ports = Ports::choose(port)?;
        let mut broker = EmbeddedBroker::new(ports, BROKER_BUFFER_MIB);
        let link = broker.link("demo-sensors")?;
        broker.start()?;
        let endpoint = Endpoint::start().map_err(DemoError::Endpoint)?;
        prepare(&settings.database, &endpoint, ports)?;
        let introduction = Introduction {
            database: database_path(dir),
            ports,
            endpoint: endpoint.url(samples::POSTING_FLOW),
        };
        let view = view::start(telemetry.events.listen(), settings.value_style, introduction.to_string())?;
        let sensors = sensors::start(link)?;
        Ok((Self { sensors, endpoint, view, _lock: lock }, settings))
    }

    /// Ends sensors, endpoint and view. The broker ends with the process.
    fn end(self) {
        self.sensors.end();
        self.endpoint.end();
        self.view.end();
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
    settings.inbox.dir = dir.join("inbox");
    settings.log_dir = dir.join("log");
    Ok(settings)
}

fn database_path(dir: &Path) -> PathBuf {
    dir.join("gateway.sqlite")
}

/// Migrates the schema and inserts flows and broker, as an operator would before the first start.
fn prepare(database: &DatabaseSettings, endpoint: &Endpoint, ports: Ports) -> Result<(), DemoError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(samples::write(database, endpoint, ports.v5))
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
