//! `mqtt-gateway demo`: the real gateway among embedded parts, to be watched at work.
//!
//! ```text
//! sensors ─┐                             ┌─▶ SQLite ──┐
//!          ├─▶ broker ──▶ the gateway ───┤            ├─▶ view ──▶ standard output
//! yourself ┘   (rumqttd)                 └─▶ endpoint ┘
//! ```
//!
//! The gateway itself does not know: it finds its broker and its flows in the database as ever. What
//! is kept is in one directory, so that the next demo there goes on where this one ended; the broker
//! keeps nothing.

mod companion;
mod endpoint;
mod lines;
mod samples;
mod sensors;
mod view;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use self::companion::Companion;
use self::endpoint::Endpoint;
use self::lines::Introduction;
use crate::app::run_forever;
use crate::embedded::broker::{BrokerError, EmbeddedBroker, Ports};
use crate::files;
use crate::observe::logging::{self, LoggingError};
use crate::settings::{DatabaseSettings, LogFormat, Settings, SettingsError, load_given};
use crate::store::demo::LastRows;
use crate::store::{LoadServerError, StoreError};

/// Exit code of a demo that could not start.
const FAILURE: i32 = 1;

/// Posts that were received and are not yet shown. The endpoint refuses more, and the gateway tries
/// those again.
const POSTS_NOT_YET_SHOWN: usize = 1_024;

/// Mebibytes that the broker keeps for each topic.
const BROKER_KEEPS_MIB: usize = 8;

/// What the gateway is told beside its defaults. Mailbox reports are shown less often than usual,
/// and libraries only when something is wrong, so that the view stays readable. The broker's log is
/// left out: it calls every client that closes its connection an error.
const SETTINGS: [(&str, &str); 7] = [
    ("DATABASE_URL", "sqlite:gateway.sqlite"),
    ("MQTT_CLIENT_ID", "mqtt-gateway-demo"),
    ("FLOWS_RELOAD_INTERVAL_SECONDS", "5"),
    ("MAILBOX_REPORT_SECONDS", "30"),
    // The usual port may be that of a real gateway.
    ("ADMIN_BIND", "127.0.0.1:0"),
    ("LOG_FORMAT", "human"),
    ("RUST_LOG", "warn,mqtt_gateway=info,mailbox=info,rumqttd=off"),
];

/// What the environment may set all the same. Nothing else: where there is a `.env` of a real
/// gateway, the demo must not touch its database.
const INHERITED: [&str; 4] = ["ADMIN_BIND", "MAILBOX_REPORT_SECONDS", "LOG_FORMAT", "RUST_LOG"];

/// Options of `mqtt-gateway demo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoOptions {
    /// Directory of the database, the inbox and the log; created when missing.
    pub dir: PathBuf,
    /// Port of the embedded broker on 127.0.0.1; 0 is any that is free, none is 1883 or the next
    /// free one.
    pub port: Option<u16>,
}

/// Why the demo did not start.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("the directory {} cannot be used: {source}; choose another one with --dir", dir.display())]
    Directory { dir: PathBuf, source: io::Error },
    #[error("a demo is running in the directory {} already; choose another one with --dir", dir.display())]
    Running { dir: PathBuf },
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Logging(#[from] LoggingError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("the endpoint cannot be started: {0}")]
    Endpoint(io::Error),
    #[error("the database cannot be prepared: {0}")]
    Store(#[from] StoreError),
    #[error("the broker cannot be written down: {0}")]
    Server(#[from] LoadServerError),
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// Runs the demo until it is told to end (Ctrl-C), and returns the exit code: 0 after an orderly
/// end, 1 when it could not start, else that of the gateway.
#[must_use]
pub fn run(options: DemoOptions) -> i32 {
    let DemoOptions { dir, port } = options;
    let (demo, settings) = match Demo::start(&dir, port) {
        Ok(started) => started,
        Err(error) => {
            // If there is a log already, it takes the record.
            let _ = logging::init_stderr(LogFormat::Human, "info");
            log::error!("Fatal error during startup: {error}");
            return FAILURE;
        }
    };
    let code = run_forever(settings);
    demo.end();
    code
}

/// What runs beside the gateway.
struct Demo {
    sensors: Companion,
    endpoint: Endpoint,
    view: Companion,
    /// Keeps a second demo out of the directory for as long as it is open.
    _lock: File,
}

impl Demo {
    fn start(dir: &Path, port: Option<u16>) -> Result<(Self, Settings), DemoError> {
        let lock = lock(dir)?;
        let settings = settings(dir)?;
        logging::init(&settings)?;
        let ports = Ports::choose(port)?;
        let mut broker = EmbeddedBroker::new(ports, BROKER_KEEPS_MIB);
        let link = broker.link("demo-sensors")?;
        broker.start()?;
        let (show, posted) = sync_channel(POSTS_NOT_YET_SHOWN);
        let endpoint = Endpoint::start(show).map_err(DemoError::Endpoint)?;
        let seen = prepare(&settings.database, &endpoint, ports)?;
        let introduction = Introduction {
            database: database_path(dir),
            ports,
            endpoint: endpoint.url(samples::POSTING_FLOW),
        };
        let view = view::start(settings.database.clone(), seen, posted, introduction.to_string())?;
        let sensors = sensors::start(link)?;
        Ok((Self { sensors, endpoint, view, _lock: lock }, settings))
    }

    /// Ends the companions; the broker ends with the process.
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

/// Brings the schema up to date and writes down flows and broker, as an operator would before the
/// first start.
fn prepare(database: &DatabaseSettings, endpoint: &Endpoint, ports: Ports) -> Result<LastRows, DemoError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(samples::write(database, endpoint, ports.v5))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_kept_is_in_the_directory() {
        let settings = settings(Path::new("/somewhere")).unwrap();
        let DatabaseSettings::Sqlite { path } = settings.database else { panic!("no SQLite") };
        for place in [path, settings.inbox.dir, settings.log_dir] {
            assert!(place.starts_with("/somewhere"), "{}", place.display());
        }
    }

    #[test]
    fn a_second_demo_in_the_same_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = lock(directory.path()).unwrap();
        assert!(matches!(lock(directory.path()), Err(DemoError::Running { .. })));
        drop(first);
        assert!(lock(directory.path()).is_ok());
    }
}
