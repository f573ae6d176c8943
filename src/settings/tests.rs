mod database;
mod documents;
mod layers;
mod proxies;
mod replicas;
mod tls;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use super::assemble::load_settings_for;
use super::files::Files;
use super::layers::Sources;
use super::*;
use crate::domain::proxies::{Bypass, Proxy};
use crate::domain::replicas::{Shard, ShareGroup};

/// Files by path. Reading a file in `locked/` fails.
#[derive(Default)]
struct FakeFiles(BTreeMap<PathBuf, Vec<u8>>);

impl Files for FakeFiles {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        if path.starts_with("locked") {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(self.0.get(path).cloned())
    }

    fn toml_files(&self, directory: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        let inside: Vec<_> = self.0.keys().filter(|path| path.parent() == Some(directory)).cloned().collect();
        Ok((!inside.is_empty()).then_some(inside))
    }
}

const REQUIRED: &[(&str, &str)] =
    &[("DB_HOST", "db"), ("DB_NAME", "gateway"), ("DB_USER", "me"), ("DB_PASSWORD", "s3cret")];

fn load_from(environment: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Loaded, SettingsError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
    let files = files.iter().map(|(path, text)| (path.into(), text.as_bytes().to_vec())).collect();
    load_settings_for(Purpose::Running, &Sources { environment, files: &FakeFiles(files) })
}

/// Loads `environment` in addition to the required settings.
fn load_with(environment: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Loaded, SettingsError> {
    load_from(&[REQUIRED, environment].concat(), files)
}

fn settings(environment: &[(&str, &str)]) -> Settings {
    load_with(environment, &[]).unwrap().settings
}

fn error_of(loaded: Result<Loaded, SettingsError>) -> SettingsError {
    loaded.err().expect("these settings are wrong")
}

fn shown(loaded: &Loaded, name: &str) -> (Option<String>, String) {
    let shown = loaded.effective.iter().find(|shown| shown.name == name).unwrap();
    (shown.value.clone(), shown.origin.clone())
}

fn problem(environment: &[(&str, &str)]) -> String {
    let error = error_of(load_with(environment, &[]));
    assert_eq!(error.problems().len(), 1, "{error}");
    error.problems()[0].to_string()
}

#[test]
fn required_settings_suffice() {
    let settings = settings(&[]);
    let DatabaseSettings::MySql { servers, name, user, password, source, tls } = &settings.database else {
        panic!()
    };
    assert_eq!(*tls, DatabaseTls::default().with_mode(TlsMode::Prefer));
    assert_eq!((&*servers.to_string(), name.as_str(), user.as_str()), ("db:3306", "gateway", "me"));
    assert_eq!(*source, SecretSource::Fixed);
    assert_eq!(password.expose_secret(), "s3cret");
    assert_eq!(settings.log_dir, PathBuf::from("./log"));
    assert_eq!(settings.log_dir_max_bytes, None, "the Python service had no bound");
    assert_eq!(settings.log_format, LogFormat::Auto);
    assert_eq!(settings.http_timeout, Duration::from_secs(10));
    assert_eq!(settings.flows_reload_interval, Duration::from_mins(10));
    assert_eq!(
        settings.mqtt,
        MqttSettings {
            client_id: "mqtt-gateway".to_owned(),
            keepalive: Duration::from_mins(1),
            session_expiry_seconds: u32::MAX,
            qos: 1,
            skip_repeated_retained: false,
            credentials: CredentialSettings {
                dir: PathBuf::from("/run/secrets"),
                env_prefix: "MQTT_".to_owned(),
                files_of_settings: Vec::new(),
            },
        }
    );
    assert_eq!(
        settings.inbox,
        InboxSettings {
            dir: PathBuf::from("./inbox"),
            max_bytes: 1 << 30,
            segment_bytes: 1 << 24,
            keep: KeepPolicy { max_age: Duration::from_hours(1), max_bytes: 1 << 28 },
            fsync: FsyncPolicy::Interval(Duration::from_millis(100)),
        }
    );
    assert_eq!(
        settings.outbox,
        OutboxSettings { max_age: Duration::from_hours(24), max_rows_per_flow: 100_000 }
    );
    assert_eq!((settings.lanes, settings.batch_max_messages, settings.batch_max_bytes), (2, 1024, 4 << 20));
    assert_eq!(settings.flow_lock_wait, Duration::from_secs(5));
    assert_eq!(settings.drain_deadline, Duration::from_secs(30));
    assert_eq!(settings.value_style, ValueStyle::Python);
    assert_eq!(settings.limits, PayloadLimits::default());
    assert_eq!(settings.log_repeats, LogRepeats { window: Duration::from_secs(10), burst: 10 });
    assert_eq!(settings.mailbox_report_interval, Duration::from_secs(10));
    assert_eq!(settings.restarts, RestartSettings { max: 5, window: Duration::from_mins(1) });
}

#[test]
fn all_problems_are_reported_without_password() {
    let error = error_of(load_from(
        &[
            ("DB_PORT", "70000"),
            ("DB_USER", ""),
            ("DB_PASSWORD", "s3cret"),
            ("MQTT_KEEPALIVE", "-1"),
            ("MQTT_QOS", "2"),
            ("HTTP_TIMEOUT_SECONDS", "soon"),
        ],
        &[],
    ));
    assert_eq!(
        error.to_string(),
        "7 settings are missing or malformed:\n  \
         DB_HOST is not set: expected host of the MySQL or MariaDB server, or a failover list \
         separated by commas: `db-a:3306,db-b:3306`; not needed with `DATABASE_URL`\n  \
         DB_PORT = \"70000\" (environment): expected a whole number from 1 to 65535\n  \
         DB_NAME is not set: expected name of the database\n  \
         DB_USER is not set: expected user name for the database\n  \
         MQTT_KEEPALIVE = \"-1\" (environment): expected a whole number from 0 to 65535\n  \
         MQTT_QOS = \"2\" (environment): expected 0 or 1 (at 2 the client library can lose messages over a crash; \
         at 1, with the inbox, none is lost)\n  \
         HTTP_TIMEOUT_SECONDS = \"soon\" (environment): expected a number of seconds above 0 and up to 86400"
    );
}

#[test]
fn error_has_a_log_format() {
    let format = |value| error_of(load_from(&[("LOG_FORMAT", value)], &[])).log_format();
    assert_eq!(format("json"), LogFormat::Json);
    assert_eq!(format("loud"), LogFormat::Auto);
}
