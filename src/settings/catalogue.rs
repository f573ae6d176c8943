//! Catalogue of all settings: name, type, default and meaning.
//!
//! The reader uses these names, defaults and ranges. Tests compare `docs/SETTINGS.md` and `config/default.toml` with
//! the catalogue.

/// Specification of a setting.
pub(crate) struct Spec {
    /// Name in the environment and in files.
    pub name: &'static str,
    pub kind: SettingKind,
    pub default: Fallback,
    /// Description for users, one sentence without a full stop.
    pub meaning: &'static str,
}

/// Type and range of a setting.
#[derive(Clone, Copy)]
pub(crate) enum SettingKind {
    /// Any text.
    Text,
    /// A file or directory, relative to the working directory.
    Path,
    /// A text that must never be displayed.
    Secret,
    /// An integer from a minimum to a maximum, both inclusive.
    Integer(u32, u64),
    /// An integer up to a maximum. Values below 1 are raised to 1.
    IntegerRaisedToOne(u32),
    /// Seconds with an optional fraction: above 0, up to a maximum.
    Seconds(u32),
    /// One of these words, case-insensitive.
    Word(&'static [&'static str]),
    /// A boolean.
    Flag,
    /// A supported MQTT quality of service.
    Qos,
    /// Name of a shared subscription group.
    ShareGroup,
    /// A number, or a name with a numeric suffix, such as a pod name.
    Ordinal,
    /// A socket address to listen on, or `off`.
    Listener,
    /// URL of an HTTP proxy, which may contain a password.
    Proxy,
    /// `public`, or networks separated by commas.
    Networks,
    /// Levels of the log, also by its parts.
    LogLevels,
}

/// Default of a setting.
#[derive(Clone, Copy)]
pub(crate) enum Fallback {
    /// The setting is mandatory.
    Required,
    /// The setting stays unset.
    Unset,
    /// A fixed value.
    Value(&'static str),
    /// A value derived from other settings by the described rule.
    Derived(&'static str),
}

impl Spec {
    /// Returns the expected form, as the end of a sentence.
    pub(crate) fn expected(&self) -> String {
        match self.kind {
            SettingKind::Text | SettingKind::Secret | SettingKind::Path => self.meaning.to_owned(),
            SettingKind::Integer(min, max) => format!("a whole number from {min} to {max}"),
            SettingKind::IntegerRaisedToOne(max) => {
                format!("a whole number up to {max} (less than 1 counts as 1)")
            }
            SettingKind::Seconds(max) => format!("a number of seconds above 0 and up to {max}"),
            SettingKind::Word(words) => words.join(" or "),
            SettingKind::Flag => "true or false".to_owned(),
            SettingKind::Qos => "0 or 1 (at 2 the client library can lose messages over a crash; \
                          at 1, with the inbox, none is lost)"
                .to_owned(),
            SettingKind::ShareGroup => "a name without `/`, `+` and `#`".to_owned(),
            SettingKind::Ordinal => {
                "a number from 0, or a name that ends in one: `mqtt-gateway-3`".to_owned()
            }
            SettingKind::Listener => "an IP address and a port, or off".to_owned(),
            SettingKind::Networks => {
                "`public`, or networks separated by commas: `10.0.0.0/8,fd12::/16`".to_owned()
            }
            SettingKind::LogLevels => "levels as in `debug` or `info,sqlx=debug`".to_owned(),
            SettingKind::Proxy => {
                "an http or https URL of a proxy, as in `http://user:password@host:3128`".to_owned()
            }
        }
    }

    /// Returns whether the value must not be displayed.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.kind, SettingKind::Secret | SettingKind::Proxy)
    }

    /// Returns whether `name` is its name in the environment. Names of proxy settings are accepted in lower case too.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.name == name || (self.name.ends_with("_PROXY") && self.name.to_lowercase() == name)
    }
}

macro_rules! catalogue {
    ($($name:ident: $kind:expr, $default:expr, $meaning:expr;)*) => {
        $(pub(crate) const $name: Spec =
            Spec { name: stringify!($name), kind: $kind, default: $default, meaning: $meaning };)*

        /// All settings, in the order of the documentation.
        pub(crate) const ALL: &[Spec] = &[$($name),*];
    };
}

use Fallback::{Derived, Required, Unset, Value};
use SettingKind::{
    Flag, Integer, IntegerRaisedToOne, Listener, LogLevels, Networks, Ordinal, Path, Proxy, Qos, Seconds,
    Secret, ShareGroup, Text, Word,
};

catalogue! {
    DB_HOST: Text, Required, "host of the MySQL or MariaDB server, or a failover list separated by commas: `db-a:3306,db-b:3306`; not needed with `DATABASE_URL`";
    DB_PORT: Integer(1, 65_535), Value("3306"), "port for each element of `DB_HOST` without a port";
    DB_NAME: Text, Required, "name of the database";
    DB_USER: Text, Required, "user name for the database";
    DB_PASSWORD: Secret, Required, "password of `DB_USER`; the empty value is allowed";
    DB_PASSWORD_FILE: Path, Unset, "file with the password, in place of `DB_PASSWORD`; one newline at the end is ignored; read again for each connection";
    DATABASE_URL: Secret, Unset, "`mysql://user:password@host:3306/name`, `postgres://user:password@host:5432/name` or `sqlite:path`, in place of the five `DB_` settings; several servers as `host-a:3306,host-b:3306`";
    DATABASE_URL_FILE: Path, Unset, "file with the URL, in place of `DATABASE_URL`; user and password are read again for each connection";
    DB_SSL_MODE: Word(&["disable", "prefer", "require", "verify-ca", "verify-full"]), Value("prefer"), "TLS to MySQL, MariaDB or PostgreSQL. `disable`: never; `prefer`: if the server offers it; `require`: always, any certificate; `verify-ca`: verified certificate; `verify-full`: verified certificate and host name";
    DB_SSL_CA: Path, Unset, "PEM file with the certificate authorities for the server, which replace those of the system; needed for `verify-ca` and `verify-full`; read for each connection";
    DB_SSL_CERT: Path, Unset, "PEM file with a client certificate for the server; read for each connection";
    DB_SSL_KEY: Path, Unset, "PEM file with the key of `DB_SSL_CERT`, without a password; read for each connection";

    MQTT_CLIENT_ID: Text, Value("mqtt-gateway"), "MQTT client id, unique at the broker";
    MQTT_KEEPALIVE: Integer(0, 65_535), Value("60"), "MQTT keepalive: seconds without packets before the gateway sends a PINGREQ; 0 means 65,535";
    MQTT_SESSION_EXPIRY_SECONDS: Integer(1, 4_294_967_295), Value("4294967295"), "time for which the broker keeps messages while the gateway is disconnected; the default never expires; at brokers other than the first of the list at most a week";
    MQTT_QOS: Qos, Value("1"), "quality of service of the subscriptions; with 0 the broker may lose messages";
    MQTT_SKIP_REPEATED_RETAINED: Flag, Value("false"), "skip a retained message that equals the previous retained message of its topic";
    CREDENTIALS_DIR: Path, Value("/run/secrets"), "directory that contains all files of `file:` references in tables, and of `tls` in `flows.options`";
    CREDENTIALS_ENV_PREFIX: Text, Value("MQTT_"), "prefix of the environment variables that `env:` references in tables may name; settings of the gateway are excluded";
    FLOWS_RELOAD_INTERVAL_SECONDS: IntegerRaisedToOne(4_294_967_295), Value("600"), "interval in seconds at which flows and brokers are read from the database again; edits count within seconds without it, except those by SQL of `mqtt_servers`, or of more than 10,000 flows";

    SHARED_GROUP: ShareGroup, Unset, "group of replicas that share the messages of all flows; filters are subscribed as `$share/<group>/<filter>`";
    SHARD_INDEX: Ordinal, Unset, "index of this replica among `SHARD_COUNT`, from 0; required if there are several";
    SHARD_COUNT: Integer(1, 1_024), Value("1"), "number of replicas that divide the flows; each flow belongs to one replica";

    HTTP_TIMEOUT_SECONDS: Seconds(86_400), Value("10"), "time limit of one POST, from connecting to the last byte of the response";
    HTTP_PROXY: Proxy, Unset, "proxy for `http` endpoints; `http_proxy` has precedence";
    HTTPS_PROXY: Proxy, Unset, "proxy for `https` endpoints; `https_proxy` has precedence";
    ALL_PROXY: Proxy, Unset, "proxy for endpoints whose scheme has no proxy; `all_proxy` has precedence";
    NO_PROXY: Text, Unset, "hosts without a proxy, separated by commas: names (with all subdomains), addresses, networks such as `10.0.0.0/8`, or `*` for all; `no_proxy` has precedence";
    REQUESTS_CA_BUNDLE: Path, Unset, "PEM file, or directory of PEM files, with the certificate authorities for endpoints, which replace those of the system";
    CURL_CA_BUNDLE: Path, Unset, "the same, if `REQUESTS_CA_BUNDLE` is not set";
    ENDPOINT_NETWORKS: Networks, Unset, "networks in which endpoints may be: `public`, or a list of networks. If unset, all networks; link-local, cloud metadata, multicast and unspecified addresses are always refused";
    OUTBOX_MAX_AGE_SECONDS: Integer(1, 4_294_967_295), Value("86400"), "age in seconds at which a message that could not be posted becomes a dead letter";
    OUTBOX_MAX_ROWS_PER_FLOW: Integer(1, 1_000_000_000), Value("100000"), "maximum number of messages of one flow that wait to be posted";
    DEAD_LETTERS_WARN_ROWS: Integer(1, 1_000_000_000_000), Value("100000"), "number of rows in `dead_letters` above which the log and `check` warn";
    DEAD_LETTERS_MAX_AGE_SECONDS: Integer(60, 4_294_967_295), Unset, "age in seconds at which the gateway deletes a dead letter; no limit if unset";
    DEAD_LETTERS_MAX_ROWS: Integer(1, 1_000_000_000_000), Unset, "number of rows in `dead_letters` above which the gateway deletes the oldest; no limit if unset";
    DATA_MAX_AGE_SECONDS: Integer(60, 4_294_967_295), Unset, "age in seconds at which the gateway deletes rows of `data`, the oldest first; no limit if unset";

    INBOX_DIR: Path, Value("./inbox"), "directory of the inbox, created if it is missing; used by one gateway at a time";
    INBOX_MAX_BYTES: Integer(1_048_576, 1_152_921_504_606_846_976), Value("1073741824"), "size of the inbox at which the gateway stops reading from the broker";
    INBOX_SEGMENT_BYTES: Integer(65_536, 1_073_741_824), Derived("16777216, or a quarter of `INBOX_MAX_BYTES` if that is less"), "size of one file of the inbox, at most a quarter of `INBOX_MAX_BYTES`";
    INBOX_KEEP_SECONDS: Integer(0, 31_536_000), Value("3600"), "time for which processed files of the inbox are kept; their messages are processed again if the database was restored to an earlier state; 0 deletes the files at once";
    INBOX_KEEP_BYTES: Integer(0, 1_152_921_504_606_846_976), Derived("268435456, a quarter of `INBOX_MAX_BYTES`"), "maximum size of all processed files, in addition to `INBOX_MAX_BYTES`; above it, or on a full disk, the oldest files are deleted earlier";
    INBOX_FSYNC: Word(&["always", "interval", "never"]), Value("interval"), "when the inbox is synced to the disk; this protects against power loss, a crash of the gateway loses nothing";
    INBOX_FSYNC_INTERVAL_MS: Integer(1, 60_000), Value("100"), "interval in milliseconds between syncs with `INBOX_FSYNC=interval`";

    LANES: Integer(1, 64), Derived("2, on SQLite, in a group or as one of several shards 1"), "number of lanes of a new inbox, each with a worker and a database connection; an existing inbox keeps its number";
    BATCH_MAX_MESSAGES: Integer(1, 65_536), Value("1024"), "maximum number of messages in one transaction";
    BATCH_MAX_BYTES: Integer(1_024, 1_073_741_824), Value("4194304"), "maximum payload bytes in one transaction";
    LINGER_MAX_MS: Integer(0, 1_000), Value("50"), "maximum time in milliseconds for which a busy lane waits for a larger batch after a transaction; 0 never waits";
    FLOW_LOCK_WAIT_SECONDS: Integer(1, 30), Value("5"), "time in seconds that a lane waits for the locked row of a flow before it continues with the other flows";
    MESSAGE_KEY_SECONDS: Integer(1, 4_294_967_295), Value("86400"), "time in seconds for which a message key is remembered; a message with a remembered key is a duplicate";
    DRAIN_DEADLINE_SECONDS: Integer(1, 3_600), Value("30"), "time in seconds for storing received messages at shutdown; the remaining messages stay in the inbox";
    VALUE_STYLE: Word(&["python", "json"]), Value("python"), "text of booleans and null in `data`: `True False None` or `true false null`";
    MAX_PAYLOAD_BYTES: Integer(1, 268_435_455), Value("4194304"), "maximum size of a payload in bytes, larger messages become dead letters; never more than a quarter of `INBOX_MAX_BYTES` or of the database's largest statement";
    MAX_DEPTH: Integer(1, 100_000), Value("1000"), "maximum levels of nesting in a payload";
    MAX_ATTRIBUTES: Integer(1, 1_000_000), Value("32768"), "maximum number of attributes in a payload";

    ADMIN_BIND: Listener, Value("127.0.0.1:8080"), "address of the HTTP server for health, metrics, the API and the console: `0.0.0.0:8080` for all interfaces, port 0 for a free port, `off` for none";
    ADMIN_HOSTS: Text, Unset, "names of the gateway in the header `Host` of requests to the API and the console, separated by commas; addresses and `localhost` are always accepted";
    ADMIN_TOKEN_FILE: Path, Unset, "file with a token of the API with scope `admin`, at least 32 characters; one newline at the end is ignored; read again every few seconds";
    LOG_DIR: Path, Value("./log"), "directory of the daily error files, created if it is missing";
    LOG_DIR_MAX_BYTES: Integer(1_048_576, 1_152_921_504_606_846_976), Unset, "maximum size of all error files; the oldest are deleted above it; when the file of the day reaches it, errors go only to standard error; no limit if unset";
    LOG_FORMAT: Word(&["auto", "human", "json"]), Value("auto"), "format of standard error; `auto` is `human` on a terminal and `json` elsewhere";
    RUST_LOG: LogLevels, Value("info"), "log levels in the syntax of `env_logger`";
    LOG_MESSAGES: Flag, Value("false"), "log a line for each message that was stored, posted or dropped as repeated, as `RUST_LOG=info,messages=debug` does";
    LOG_REPEAT_SECONDS: Integer(0, 86_400), Value("10"), "interval in seconds within which the log writes `LOG_REPEAT_BURST` warnings or errors of the same kind and counts the others; 0 writes all";
    LOG_REPEAT_BURST: Integer(1, 1_000_000), Value("10"), "number of these lines within the interval";
    MAILBOX_REPORT_SECONDS: Integer(1, 86_400), Value("10"), "interval in seconds between two log lines about the mailbox of each actor; an idle actor has one a minute";
    RESTART_BUDGET: Integer(1, 1_000), Value("5"), "number of restarts of actors after which the gateway ends with exit code 3";
    RESTART_WINDOW_SECONDS: Integer(1, 86_400), Value("60"), "time in seconds within which these restarts count";
}

/// Settings of former versions. They are ignored with a warning.
const REMOVED: &[&str] = &["NICENESS"];

/// Returns whether a former version had this setting, case-insensitively.
pub(crate) fn is_removed(name: &str) -> bool {
    REMOVED.iter().any(|removed| removed.eq_ignore_ascii_case(name))
}

/// Finds a setting by name, case-insensitively.
pub(crate) fn find(name: &str) -> Option<&'static Spec> {
    ALL.iter().find(|spec| spec.name.eq_ignore_ascii_case(name))
}
