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
fn later_layers_take_precedence() {
    let files = [
        ("config/10-base.toml", "DB_PORT = 1\nmqtt_keepalive = 11\nLANES = 3\nMAX_DEPTH = 10\n"),
        ("config/20-site.toml", "mqtt_keepalive = 22\nLANES = 4\nMAX_DEPTH = 20\n"),
        (".env", "LANES=5\nMAX_DEPTH=30\n"),
    ];
    let loaded = load_with(&[("MAX_DEPTH", "40")], &files).unwrap();
    let origins = ["DB_PORT", "MQTT_KEEPALIVE", "LANES", "MAX_DEPTH", "MAX_ATTRIBUTES"]
        .map(|name| shown(&loaded, name));
    let expected = [
        ("1", "config/10-base.toml"),
        ("22", "config/20-site.toml"),
        ("5", ".env"),
        ("40", "environment"),
        ("32768", "default"),
    ];
    assert_eq!(origins, expected.map(|(value, origin)| (Some(value.to_owned()), origin.to_owned())));
}

#[test]
fn toml_directory_is_configurable() {
    let files = [("etc/a.toml", "LANES = 7"), ("config/b.toml", "LANES = 8")];
    assert_eq!(load_with(&[("CONFIG_DIR", "etc")], &files).unwrap().settings.lanes, 7);
    let error = error_of(load_with(&[("CONFIG_DIR", "none")], &files));
    assert!(error.to_string().contains("CONFIG_DIR = \"none\""), "{error}");
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
fn numbers_have_ranges() {
    for spec in catalogue::ALL {
        let wrong: &[&str] = match spec.kind {
            catalogue::SettingKind::Integer(0, _) => &["-1", "1.5", "x", "99999999999999999999"],
            catalogue::SettingKind::Integer(..) => &["0", "-1", "1.5", "x", "99999999999999999999"],
            catalogue::SettingKind::IntegerRaisedToOne(_) => &["99999999999", "1.5", "x"],
            catalogue::SettingKind::Seconds(_) => &["0", "-1", "nan", "inf", "1e9", "x"],
            catalogue::SettingKind::Word(_)
            | catalogue::SettingKind::Flag
            | catalogue::SettingKind::Qos
            | catalogue::SettingKind::Listener => &["-1", "perhaps"],
            catalogue::SettingKind::ShareGroup => &["a/b", "+"],
            catalogue::SettingKind::Ordinal => &["-1", "gateway", "4294967296"],
            catalogue::SettingKind::Text
            | catalogue::SettingKind::Path
            | catalogue::SettingKind::Secret
            | catalogue::SettingKind::Proxy => &[],
        };
        for value in wrong {
            let error = error_of(load_with(&[(spec.name, value)], &[]));
            let names: Vec<_> = error.problems().iter().map(|problem| problem.name.as_str()).collect();
            assert_eq!(names, [spec.name], "{value}");
            assert!(error.to_string().contains(&format!("{} = {value:?}", spec.name)), "{error}");
        }
    }
}

#[test]
fn lower_case_proxy_takes_precedence() {
    let loaded = load_with(
        &[
            ("HTTP_PROXY", "http://upper:1"),
            ("http_proxy", "me:s3cret@lower:2"),
            ("NO_PROXY", "Example.com, 10.0.0.0/8"),
            ("CURL_CA_BUNDLE", "curl.pem"),
        ],
        &[(".env", "https_proxy=http://me:s3cret@dotenv:3\nREQUESTS_CA_BUNDLE=requests.pem\n")],
    );
    let loaded = loaded.unwrap();
    let HttpRoute { proxies, ca_bundle } = &loaded.settings.http_route;
    let shown = |proxy: &Option<Proxy>| proxy.as_ref().map(ToString::to_string);
    assert_eq!(shown(&proxies.http).as_deref(), Some("http://lower:2"));
    assert_eq!(shown(&proxies.https).as_deref(), Some("http://dotenv:3"));
    assert_eq!(proxies.bypass, Bypass::parse("example.com,10.0.0.0/8"));
    assert_eq!(ca_bundle.as_deref(), Some(Path::new("requests.pem")));
    assert!(!format!("{:?} {:?}", loaded.settings, loaded.effective).contains("s3cret"));
}

#[test]
fn invalid_proxy_error_hides_password() {
    let said = problem(&[("https_proxy", "socks5://me:s3cret@host:1080")]);
    assert_eq!(
        said,
        "HTTPS_PROXY (environment, not shown): expected an http or https URL of a proxy, as in \
         `http://user:password@host:3128`"
    );
}

fn problem(environment: &[(&str, &str)]) -> String {
    let error = error_of(load_with(environment, &[]));
    assert_eq!(error.problems().len(), 1, "{error}");
    error.problems()[0].to_string()
}

#[test]
fn role_depends_on_group_and_shard() {
    let role = |environment: &[(&str, &str)]| settings(environment).role;
    let group = |name| Role::InGroup(ShareGroup::parse(name).unwrap());
    let shard = |index, count| Role::Shard(Shard { index, count });
    assert_eq!(role(&[]), Role::ALONE);
    assert_eq!(role(&[("SHARD_INDEX", "mqtt-gateway-0")]), Role::ALONE);
    let gw3 = ("MQTT_CLIENT_ID", "gw-3");
    assert_eq!(role(&[gw3, ("SHARED_GROUP", "g"), ("SHARD_INDEX", "gw-3")]), group("g"));
    assert_eq!(role(&[gw3, ("SHARD_COUNT", "4"), ("SHARD_INDEX", "gw-3")]), shard(3, 4));
    assert_eq!(role(&[gw3, ("SHARD_COUNT", "4"), ("SHARD_INDEX", "0")]), shard(0, 4));
}

#[test]
fn conflicting_replica_settings_are_rejected() {
    let gw3 = ("MQTT_CLIENT_ID", "gw-3");
    assert_eq!(
        problem(&[gw3, ("SHARD_COUNT", "3"), ("SHARD_INDEX", "gw-3")]),
        "SHARD_INDEX = \"gw-3\" (environment): expected a number below SHARD_COUNT, which is 3"
    );
    assert_eq!(
        problem(&[gw3, ("SHARD_INDEX", "gw-3")]),
        "SHARD_INDEX = \"gw-3\" (environment): expected a number below SHARD_COUNT, which is 1"
    );
    assert!(problem(&[gw3, ("SHARD_COUNT", "3")]).starts_with("SHARD_INDEX is not set: expected a number"));
    let both = problem(&[gw3, ("SHARD_COUNT", "3"), ("SHARD_INDEX", "1"), ("SHARED_GROUP", "g")]);
    assert!(both.starts_with("SHARED_GROUP = \"g\"") && both.contains("SHARD_COUNT is 3"), "{both}");
    for many in [&[("SHARED_GROUP", "g")][..], &[("SHARD_COUNT", "3"), ("SHARD_INDEX", "1")]] {
        let problem = problem(many);
        assert!(
            problem.starts_with("MQTT_CLIENT_ID = \"mqtt-gateway\" (default): expected a name"),
            "{problem}"
        );
    }
}

#[test]
fn default_lanes_depend_on_role() {
    let lanes = |environment: &[(&str, &str)]| {
        let settings = settings(environment);
        (settings.lanes, settings.has_explicit_lanes)
    };
    let gw3 = ("MQTT_CLIENT_ID", "gw-3");
    assert_eq!(lanes(&[("SHARD_INDEX", "gw-0")]), (2, false));
    assert_eq!(lanes(&[gw3, ("SHARED_GROUP", "g")]), (1, false));
    assert_eq!(lanes(&[gw3, ("SHARD_COUNT", "4"), ("SHARD_INDEX", "gw-3")]), (1, false));
    assert_eq!(lanes(&[gw3, ("SHARED_GROUP", "g"), ("LANES", "2")]), (2, true));
}

#[test]
fn retiring_ignores_shard_count() {
    let environment =
        [REQUIRED, &[("SHARD_COUNT", "2"), ("SHARD_INDEX", "gw-3"), ("SHARED_GROUP", "g")]].concat();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
    let sources = Sources { environment, files: &FakeFiles::default() };
    let settings = load_settings_for(Purpose::Retiring, &sources).unwrap().settings;
    assert_eq!(settings.role, Role::Leaving);
    assert_eq!(settings.group, ShareGroup::parse("g"), "its session may know it as a member");
}

#[test]
fn numbers_parse_as_in_python() {
    let settings = settings(&[
        ("DB_PORT", " 3_307 "),
        ("MQTT_KEEPALIVE", "+45"),
        ("FLOWS_RELOAD_INTERVAL_SECONDS", "-3"),
        ("HTTP_TIMEOUT_SECONDS", "2.5"),
    ]);
    assert_eq!(settings.database.servers().unwrap().to_string(), "db:3307");
    assert_eq!(settings.mqtt.keepalive, Duration::from_secs(45));
    assert_eq!(settings.flows_reload_interval, Duration::from_secs(1));
    assert_eq!(settings.http_timeout, Duration::from_millis(2500));
}

#[test]
fn words_and_flags_are_case_insensitive() {
    let settings = settings(&[
        ("INBOX_FSYNC", "Always"),
        ("VALUE_STYLE", "JSON"),
        ("LOG_FORMAT", "Human"),
        ("MQTT_SKIP_REPEATED_RETAINED", "Yes"),
        ("MQTT_QOS", "0"),
    ]);
    assert_eq!(settings.inbox.fsync, FsyncPolicy::Always);
    assert_eq!(settings.value_style, ValueStyle::Json);
    assert_eq!(settings.log_format, LogFormat::Human);
    assert!(settings.mqtt.skip_repeated_retained);
    assert_eq!(settings.mqtt.qos, 0);
}

#[test]
fn listener_is_an_address_or_off() {
    let admin = |value: &str| settings(&[("ADMIN_BIND", value)]).admin;
    let asked_for =
        |address: &str| Some(AdminSettings { address: address.parse().unwrap(), is_default: false });
    assert_eq!(admin("0.0.0.0:9000"), asked_for("0.0.0.0:9000"));
    assert_eq!(admin("[::]:0"), asked_for("[::]:0"));
    assert_eq!(admin("127.0.0.1:8080"), asked_for("127.0.0.1:8080"));
    assert_eq!(admin("Off"), None);
    assert_eq!(admin("").map(|admin| admin.is_default), Some(true));
    assert_eq!(settings(&[]).admin.map(|admin| admin.is_default), Some(true));
}

#[test]
fn empty_value_restores_the_default() {
    let loaded =
        load_with(&[("LANES", ""), ("LOG_DIR", ""), ("MAX_DEPTH", "")], &[(".env", "LANES=9\nMAX_DEPTH=9")])
            .unwrap();
    assert_eq!(loaded.settings.lanes, 2);
    assert_eq!(loaded.settings.limits.max_depth, 1000);
    assert_eq!(loaded.settings.log_dir, PathBuf::from("./log"));
}

#[test]
fn password_may_be_empty() {
    let password = |environment: &[(&str, &str)]| match settings(environment).database {
        DatabaseSettings::MySql { password, .. } => password.expose_secret().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(password(&[("DB_PASSWORD", "")]), "");
    assert_eq!(password(&[("DB_PASSWORD", " a#$'\"\\ ")]), " a#$'\"\\ ");
    let without = &REQUIRED[..3];
    assert!(error_of(load_from(without, &[])).to_string().contains("DB_PASSWORD is not set"));
}

#[test]
fn secret_file_is_read() {
    let password = |text: &str| {
        let environment = [&REQUIRED[..3], &[("DB_PASSWORD_FILE", "run/pw")]].concat();
        match load_from(&environment, &[("run/pw", text)]).unwrap().settings.database {
            DatabaseSettings::MySql { password, .. } => password.expose_secret().to_owned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(password("pass\n"), "pass");
    assert_eq!(password("pass\r\n"), "pass");
    assert_eq!(password(" pass \n\n"), " pass \n");
    assert_eq!(password(""), "");
}

#[test]
fn database_hosts_keep_their_order() {
    let servers =
        |environment: &[(&str, &str)]| settings(environment).database.servers().unwrap().to_string();
    assert_eq!(servers(&[("DB_HOST", "a:3307, b,[::1]")]), "a:3307,b:3306,[::1]:3306");
    assert_eq!(servers(&[("DB_HOST", "a,b:1"), ("DB_PORT", "3308")]), "a:3308,b:1");
    let error = error_of(load_with(&[("DB_HOST", "a,,b")], &[])).to_string();
    assert!(error.contains("DB_HOST = \"a,,b\" (environment): expected a host, or several"), "{error}");
}

#[test]
fn secret_source_is_kept() {
    let source = |environment: &[(&str, &str)], files: &[(&str, &str)]| match load_from(environment, files)
        .unwrap()
        .settings
        .database
    {
        DatabaseSettings::MySql { source, .. } | DatabaseSettings::Postgres { source, .. } => source,
        DatabaseSettings::Sqlite { path } => panic!("{path:?}"),
    };
    let with_file = [&REQUIRED[..3], &[("DB_PASSWORD_FILE", "run/pw")]].concat();
    assert_eq!(source(&with_file, &[("run/pw", "x")]), SecretSource::PasswordFile("run/pw".into()));
    let url = ("run/url", "mysql://me:pw@db/g");
    assert_eq!(source(&[("DATABASE_URL_FILE", "run/url")], &[url]), SecretSource::UrlFile("run/url".into()));
    assert_eq!(source(&[("DATABASE_URL", url.1)], &[]), SecretSource::Fixed);
    let allowed = load_from(&with_file, &[("run/pw", "x")]).unwrap().settings.mqtt.credentials;
    assert_eq!(allowed.files_of_settings, [PathBuf::from("run/pw")]);
}

#[test]
fn unusable_secret_file_is_a_problem() {
    let with_file = |path: &str| {
        error_of(load_from(&[&REQUIRED[..3], &[("DB_PASSWORD_FILE", path)]].concat(), &[])).to_string()
    };
    assert!(
        with_file("run/none").contains("DB_PASSWORD_FILE = \"run/none\" (environment): expected a text file")
    );
    assert!(with_file("locked/pw").contains("permission denied"));
    let both = error_of(load_with(&[("DB_PASSWORD_FILE", "run/pw")], &[("run/pw", "x")])).to_string();
    assert!(both.contains("DB_PASSWORD_FILE = \"run/pw\" (environment): expected to be unset"), "{both}");
    assert!(!both.contains("s3cret"));
}

#[test]
fn database_url_replaces_db_settings() {
    let loaded =
        load_from(&[("DATABASE_URL", "sqlite:gateway.db"), ("DB_HOST", "old"), ("DB_PORT", "x")], &[])
            .unwrap();
    assert!(
        matches!(&loaded.settings.database, DatabaseSettings::Sqlite { path } if path == Path::new("gateway.db"))
    );
    assert_eq!(loaded.settings.lanes, 1, "SQLite has one writer");
    assert_eq!(
        shown(&loaded, "DB_HOST"),
        (Some("old".to_owned()), "environment, not used: DATABASE_URL is set".to_owned())
    );
    let from_file = load_from(&[("DATABASE_URL_FILE", "run/url")], &[("run/url", "sqlite:/a.db\n")]);
    assert!(matches!(from_file.unwrap().settings.database, DatabaseSettings::Sqlite { .. }));
}

#[test]
fn malformed_database_url_is_hidden() {
    for url in ["mysql://me:s3cret@db:x/g", "postgres://me:s3cret@db:x/g", "s3cret"] {
        let error = error_of(load_from(&[("DATABASE_URL", url)], &[]));
        assert!(error.to_string().contains("DATABASE_URL (environment, not shown): expected"), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }
}

#[test]
fn no_secret_can_be_printed() {
    let loaded = load_with(&[], &[]).unwrap();
    assert!(!format!("{:?} {:?}", loaded.settings, loaded.effective).contains("s3cret"));
    assert_eq!(shown(&loaded, "DB_PASSWORD"), (Some("********".to_owned()), "environment".to_owned()));
}

#[test]
fn unknown_toml_key_hides_its_value() {
    let error =
        error_of(load_with(&[], &[("config/site.toml", "DB_PASWORD = \"s3cret\"\n[db]\nhost = 1\n")]));
    let text = error.to_string();
    assert!(
        text.contains("DB_PASWORD (config/site.toml, not shown): expected one of the settings"),
        "{text}"
    );
    assert!(text.contains("db (config/site.toml, not shown)"), "{text}");
    assert!(!text.contains("s3cret"));
}

#[test]
fn removed_setting_is_a_warning() {
    let expected = |origin| format!("NICENESS ({origin}) is no longer a setting and is ignored: remove it");
    for (environment, files, origin) in [
        (&[][..], &[("config/site.toml", "NICENESS = 3\n")][..], "config/site.toml"),
        (&[], &[(".env", "NICENESS=3\n")], ".env"),
        (&[("NICENESS", "3")], &[], "environment"),
    ] {
        assert_eq!(load_with(environment, files).unwrap().warnings, [expected(origin)]);
    }
}

#[test]
fn broken_toml_error_names_only_position() {
    let text =
        error_of(load_with(&[], &[("config/a.toml", "LANES = 2\nDB_PASSWORD = \"s3cret\n")])).to_string();
    assert!(text.contains("config/a.toml (TOML parse error at line 2, column"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn toml_texts_need_quotes() {
    for (toml, expected) in [
        ("DB_PASSWORD = 1.10", "DB_PASSWORD (config/a.toml, not shown): expected a text in quotes"),
        ("LANES = [1]", "LANES (config/a.toml, not shown): expected a single value"),
        ("LOG_DIR = \"a\\u0000b\"", "LOG_DIR (config/a.toml, not shown): expected a text without NUL"),
        ("lanes = 1\nLANES = 1", "lanes (config/a.toml, not shown): expected to be set only once in a file"),
    ] {
        let without_password = &REQUIRED[..3];
        let text = error_of(load_from(without_password, &[("config/a.toml", toml)])).to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn non_utf8_sources_hide_their_content() {
    let environment = [("DB_HOST", &b"\xff\xfe"[..]), ("OTHER", &b"\xff"[..])]
        .map(|(name, value)| (name.to_owned(), OsString::from_vec(value.to_vec())));
    let files = FakeFiles([(PathBuf::from(".env"), b"DB_NAME=\xff".to_vec())].into());
    let error = error_of(load_settings_for(
        Purpose::Running,
        &Sources { environment: environment.into(), files: &files },
    ));
    let text = error.to_string();
    assert!(text.contains(".env (not UTF-8, not shown): expected UTF-8 text"), "{text}");
    assert!(text.contains("DB_HOST (environment, not shown): expected UTF-8 text"), "{text}");
    assert!(!text.contains("OTHER"), "{text}");
}

#[test]
fn dotenv_can_be_disabled() {
    let dotenv = [(".env", "LANES=5\nwhat is this\n")];
    let loaded = load_with(&[], &dotenv).unwrap();
    assert_eq!(loaded.settings.lanes, 5);
    assert_eq!(loaded.warnings, [".env line 2 is no NAME=value and was left out"]);
    let without = load_with(&[("PYTHON_DOTENV_DISABLED", "True")], &dotenv).unwrap();
    assert_eq!(without.settings.lanes, 2);
}

#[test]
fn a_small_inbox_has_small_segments() {
    assert_eq!(settings(&[("INBOX_MAX_BYTES", "2000000")]).inbox.segment_bytes, 500_000);
}

#[test]
fn log_dir_limit_has_a_minimum() {
    assert_eq!(settings(&[("LOG_DIR_MAX_BYTES", "1048576")]).log_dir_max_bytes, Some(1_048_576));
    assert_eq!(settings(&[("LOG_DIR_MAX_BYTES", "")]).log_dir_max_bytes, None);
    let error = error_of(load_from(&[("LOG_DIR_MAX_BYTES", "1048575")], &[])).to_string();
    assert!(
        error.contains("LOG_DIR_MAX_BYTES = \"1048575\" (environment): expected a whole number from"),
        "{error}"
    );
}

#[test]
fn error_has_a_log_format() {
    let format = |value| error_of(load_from(&[("LOG_FORMAT", value)], &[])).log_format();
    assert_eq!(format("json"), LogFormat::Json);
    assert_eq!(format("loud"), LogFormat::Auto);
}

fn default_shown(spec: &catalogue::Spec) -> &'static str {
    match spec.default {
        catalogue::Fallback::Required => "required",
        catalogue::Fallback::Unset => "unset",
        catalogue::Fallback::Value(value) | catalogue::Fallback::Derived(value) => value,
    }
}

#[test]
fn settings_document_matches_catalogue() {
    let documented: Vec<&str> =
        include_str!("../../docs/SETTINGS.md").lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> = catalogue::ALL
        .iter()
        .map(|spec| {
            let range = match spec.kind {
                catalogue::SettingKind::Text => "text".to_owned(),
                catalogue::SettingKind::Path => "path".to_owned(),
                catalogue::SettingKind::Secret => "secret".to_owned(),
                _ => spec.expected(),
            };
            let default = match spec.default {
                catalogue::Fallback::Value(value) => format!("`{value}`"),
                _ => default_shown(spec).to_owned(),
            };
            format!("| `{}` | {default} | {range} | {} |", spec.name, spec.meaning)
        })
        .collect();
    assert_eq!(documented, expected, "expected:\n{}", expected.join("\n"));
}

#[test]
fn default_toml_matches_catalogue() {
    let file = include_str!("../../config/default.toml");
    let settings: Vec<&str> = file
        .lines()
        .filter(|line| line.starts_with('#') && line.contains(" = ") && !line.starts_with("# "))
        .collect();
    let expected: Vec<String> = catalogue::ALL
        .iter()
        .map(|spec| match (spec.kind, spec.default) {
            (_, catalogue::Fallback::Required | catalogue::Fallback::Unset) => {
                format!("#{} = \"\"", spec.name)
            }
            (
                catalogue::SettingKind::Text
                | catalogue::SettingKind::Path
                | catalogue::SettingKind::Word(_)
                | catalogue::SettingKind::Listener,
                _,
            ) => {
                format!("#{} = \"{}\"", spec.name, default_shown(spec))
            }
            _ => format!("#{} = {}", spec.name, default_shown(spec).split(',').next().unwrap()),
        })
        .collect();
    assert_eq!(settings, expected, "expected:\n{}", expected.join("\n"));
    for spec in catalogue::ALL {
        assert!(file.contains(&format!("# {}", spec.meaning)), "{}", spec.meaning);
    }
    assert!(load_with(&[], &[("config/default.toml", file)]).is_ok());
}

/// Creates a self-signed certificate and its key as PEM.
fn certificate() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["db".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn tls_settings_apply_to_the_database() {
    let (cert, key) = certificate();
    let files = [("ca", cert.as_str()), ("cert", &cert), ("key", &key)];
    let named = [("DB_SSL_CA", "ca"), ("DB_SSL_CERT", "cert"), ("DB_SSL_KEY", "key")];
    let loaded = load_with(&[&named[..], &[("DB_SSL_MODE", "Verify-Full")]].concat(), &files).unwrap();
    let tls = loaded.settings.database.tls().unwrap();
    assert_eq!(tls.mode(), TlsMode::VerifyFull);
    assert_eq!(tls.ca.as_deref(), Some(Path::new("ca")));
    assert_eq!(tls.cert.as_deref(), Some(Path::new("cert")));
    assert_eq!(tls.key.as_deref(), Some(Path::new("key")));
    assert_eq!(shown(&loaded, "DB_SSL_MODE"), (Some("verify-full".to_owned()), "environment".to_owned()));

    let url = ("DATABASE_URL", "postgres://me:p@db/g?sslmode=verify-ca");
    let loaded = load_from(&[&named[..], &[url]].concat(), &files).unwrap();
    let tls = loaded.settings.database.tls().unwrap();
    assert_eq!((tls.mode(), tls.ca.as_deref()), (TlsMode::VerifyCa, Some(Path::new("ca"))));
    assert_eq!(shown(&loaded, "DB_SSL_MODE"), (Some("verify-ca".to_owned()), "DATABASE_URL".to_owned()));

    let file = [("DATABASE_URL", "sqlite:g.db"), ("DB_SSL_MODE", "require")];
    let loaded = load_from(&file, &[]).unwrap();
    assert!(shown(&loaded, "DB_SSL_MODE").1.contains("not used: the database is a file"));
}

#[test]
fn system_authorities_are_selectable() {
    let file =
        std::fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap_or_else(|_| certificate().0);
    let environment = [("DB_SSL_MODE", "verify-full"), ("DB_SSL_CA", "system")];
    assert!(load_with(&environment, &[("system", &file)]).is_ok());
}

#[test]
fn conflicting_tls_settings_are_named() {
    let (cert, key) = certificate();
    let (_, other_key) = certificate();
    let files =
        [("ca", cert.as_str()), ("cert", &cert), ("key", &key), ("other", &other_key), ("text", "PEM?")];
    for (environment, name, expected) in [
        (
            &[("DB_SSL_MODE", "verify")][..],
            "DB_SSL_MODE",
            "disable or prefer or require or verify-ca or verify-full",
        ),
        (&[("DB_SSL_MODE", "verify-full")], "DB_SSL_CA", "because the mode is verify-full"),
        (&[("DB_SSL_CA", "ca")], "DB_SSL_CA", "the mode prefer verifies no certificate"),
        (&[("DB_SSL_MODE", "require"), ("DB_SSL_CA", "ca")], "DB_SSL_CA", "the mode require verifies no"),
        (
            &[("DB_SSL_MODE", "verify-ca"), ("DB_SSL_CA", "none")],
            "DB_SSL_CA",
            "(none: there is no such file)",
        ),
        (&[("DB_SSL_MODE", "verify-ca"), ("DB_SSL_CA", "locked/ca")], "DB_SSL_CA", "permission denied"),
        (
            &[("DB_SSL_MODE", "verify-ca"), ("DB_SSL_CA", "text")],
            "DB_SSL_CA",
            "(text: it holds no certificate",
        ),
        (&[("DB_SSL_CERT", "cert")], "DB_SSL_KEY", "because there is a certificate"),
        (&[("DB_SSL_KEY", "key")], "DB_SSL_CERT", "because there is a key"),
        (&[("DB_SSL_CERT", "key"), ("DB_SSL_KEY", "key")], "DB_SSL_CERT", "(key: it holds no certificate"),
        (&[("DB_SSL_CERT", "cert"), ("DB_SSL_KEY", "cert")], "DB_SSL_KEY", "(cert: it holds no key"),
        (&[("DB_SSL_CERT", "cert"), ("DB_SSL_KEY", "other")], "DB_SSL_KEY", "(other: "),
        (
            &[("DB_SSL_MODE", "disable"), ("DB_SSL_CERT", "cert"), ("DB_SSL_KEY", "key")],
            "DB_SSL_CERT",
            "because the mode is disable",
        ),
    ] {
        let error = error_of(load_with(environment, &files));
        let [problem] = error.problems() else { panic!("{error}") };
        assert_eq!(problem.name, name, "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
}

#[test]
fn tls_option_error_hides_the_url() {
    let (cert, _) = certificate();
    for (options, more, name, expected) in [
        ("sslmode=verify-full", None, "DATABASE_URL", "in its option `sslrootcert` (or in DB_SSL_CA) a file"),
        ("sslmode=verify-ca&sslrootcert=none", None, "DATABASE_URL", "(none: there is no such file)"),
        ("sslmode=on", None, "DATABASE_URL", "expected `sslmode` to be disable, prefer"),
        ("sslmode=require", Some(("DB_SSL_MODE", "require")), "DB_SSL_MODE", "DATABASE_URL has `sslmode`"),
        (
            "sslmode=require",
            Some(("DB_SSL_CA", "ca")),
            "DB_SSL_CA",
            "the mode require verifies no certificate",
        ),
    ] {
        let url = format!("mysql://me:hush@db/g?{options}");
        let environment: Vec<_> = [("DATABASE_URL", url.as_str())].into_iter().chain(more).collect();
        let error = error_of(load_from(&environment, &[("ca", &cert)]));
        let [problem] = error.problems() else { panic!("{error}") };
        assert_eq!(problem.name, name, "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
