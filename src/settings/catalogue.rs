//! Catalogue of all settings: name, type, default and meaning.
//!
//! The reader uses these names, defaults and ranges. Tests compare `docs/SETTINGS.md` and `config/default.toml` with
//! the catalogue.

/// Specification of a setting.
pub(crate) struct Spec {
    /// Name in the environment and in files.
    pub name: &'static str,
    pub kind: Kind,
    pub default: Fallback,
    /// Description for users, one sentence without a full stop.
    pub meaning: &'static str,
}

/// Type and range of a setting.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
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
            Kind::Text | Kind::Secret | Kind::Path => self.meaning.to_owned(),
            Kind::Integer(min, max) => format!("a whole number from {min} to {max}"),
            Kind::IntegerRaisedToOne(max) => {
                format!("a whole number up to {max} (less than 1 counts as 1)")
            }
            Kind::Seconds(max) => format!("a number of seconds above 0 and up to {max}"),
            Kind::Word(words) => words.join(" or "),
            Kind::Flag => "true or false".to_owned(),
            Kind::Qos => "0 or 1 (at 2 the client library can lose messages over a crash; \
                          at 1, with the inbox, none is lost)"
                .to_owned(),
            Kind::ShareGroup => "a name without `/`, `+` and `#`".to_owned(),
            Kind::Ordinal => "a number from 0, or a name that ends in one: `mqtt-gateway-3`".to_owned(),
            Kind::Listener => "an IP address and a port, or off".to_owned(),
            Kind::Proxy => {
                "an http or https URL of a proxy, as in `http://user:password@host:3128`".to_owned()
            }
        }
    }

    /// Returns whether the value must not be displayed.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret | Kind::Proxy)
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
use Kind::{
    Flag, Integer, IntegerRaisedToOne, Listener, Ordinal, Path, Proxy, Qos, Seconds, Secret, ShareGroup,
    Text, Word,
};

catalogue! {
    DB_HOST: Text, Required, "the host of the MySQL or MariaDB server, or several with commas: `db-a:3306,db-b:3306`";
    DB_PORT: Integer(1, 65_535), Value("3306"), "its port, where `DB_HOST` names none";
    DB_NAME: Text, Required, "the name of the database";
    DB_USER: Text, Required, "the user who connects to the database";
    DB_PASSWORD: Secret, Required, "the password of that user; it may be set to nothing";
    DB_PASSWORD_FILE: Path, Unset, "a file that holds the password, in place of `DB_PASSWORD`; one newline at its end is not part of it; read again when a connection is made";
    DATABASE_URL: Secret, Unset, "`mysql://user:password@host:3306/name`, `postgres://user:password@host:5432/name` or `sqlite:path`, in place of the five `DB_` settings; several servers as `host-a:3306,host-b:3306`";
    DATABASE_URL_FILE: Path, Unset, "a file that holds the URL, in place of `DATABASE_URL`; its user and password are read again when a connection is made";
    DB_SSL_MODE: Word(&["disable", "prefer", "require", "verify-ca", "verify-full"]), Value("prefer"), "how connections to a MySQL, MariaDB or PostgreSQL server are protected: without TLS, with TLS where the server offers it, with TLS to any server, to one whose certificate is verified, to one whose host name is verified as well";
    DB_SSL_CA: Path, Unset, "a PEM file with the certificate authorities of the server, and no others are trusted; needed for `verify-ca` and `verify-full`; read for each connection";
    DB_SSL_CERT: Path, Unset, "a PEM file with a client certificate, where the server wants one; read for each connection";
    DB_SSL_KEY: Path, Unset, "a PEM file with the key to `DB_SSL_CERT`, without a password; read for each connection";

    MQTT_CLIENT_ID: Text, Value("mqtt-gateway"), "the client id at the broker, which no other client may use";
    MQTT_KEEPALIVE: Integer(0, 65_535), Value("60"), "seconds of silence after which the broker is asked whether it is there; 0 for hardly ever";
    MQTT_SESSION_EXPIRY_SECONDS: Integer(1, 4_294_967_295), Value("4294967295"), "how long the broker keeps messages for a gateway that is away; the default is for ever; brokers that are not the first of the list keep them for a week at most";
    MQTT_QOS: Qos, Value("1"), "the quality of service subscribed with; at 0 the broker may lose messages";
    MQTT_SKIP_REPEATED_RETAINED: Flag, Value("false"), "whether a retained message equal to the last retained one of its topic is skipped";
    CREDENTIALS_DIR: Path, Value("/run/secrets"), "the directory below which `file:` references in `mqtt_servers` may lead";
    CREDENTIALS_ENV_PREFIX: Text, Value("MQTT_"), "how the names of variables begin that `env:` references in `mqtt_servers` may name; settings of the gateway are never among them";
    FLOWS_RELOAD_INTERVAL_SECONDS: IntegerRaisedToOne(4_294_967_295), Value("600"), "seconds between two looks at the table of flows";

    SHARED_GROUP: ShareGroup, Unset, "the group in which replicas share the messages of all flows: each filter is subscribed as `$share/<group>/<filter>`";
    SHARD_INDEX: Ordinal, Unset, "which of `SHARD_COUNT` this replica is, from 0; needed where they are more than one";
    SHARD_COUNT: Integer(1, 1_024), Value("1"), "the number of replicas over which the flows are divided, each at one of them";

    HTTP_TIMEOUT_SECONDS: Seconds(86_400), Value("10"), "time for one POST, from connecting to the last byte of the answer";
    HTTP_PROXY: Proxy, Unset, "the proxy for `http` endpoints; `http_proxy` counts before it";
    HTTPS_PROXY: Proxy, Unset, "the proxy for `https` endpoints; `https_proxy` counts before it";
    ALL_PROXY: Proxy, Unset, "the proxy for endpoints whose scheme has none; `all_proxy` counts before it";
    NO_PROXY: Text, Unset, "hosts that are posted to without a proxy, with commas: names with all below them, addresses, networks as `10.0.0.0/8`, `*` for all; `no_proxy` counts before it";
    REQUESTS_CA_BUNDLE: Path, Unset, "a PEM file, or a directory of them, of the authorities that certificates of endpoints may come from, in place of those of the system";
    CURL_CA_BUNDLE: Path, Unset, "the same, where `REQUESTS_CA_BUNDLE` is not set";
    OUTBOX_MAX_AGE_SECONDS: Integer(1, 4_294_967_295), Value("86400"), "age at which a message that could not be posted becomes a dead letter";
    OUTBOX_MAX_ROWS_PER_FLOW: Integer(1, 1_000_000_000), Value("100000"), "messages of one flow that may wait to be posted";
    DEAD_LETTERS_WARN_ROWS: Integer(1, 1_000_000_000_000), Value("100000"), "rows of `dead_letters` above which the log and `check` warn: nobody but you deletes them";

    INBOX_DIR: Path, Value("./inbox"), "the directory of the inbox, created when missing; one gateway at a time";
    INBOX_MAX_BYTES: Integer(1_048_576, 1_152_921_504_606_846_976), Value("1073741824"), "size of the inbox at which the broker is made to wait";
    INBOX_SEGMENT_BYTES: Integer(65_536, 1_073_741_824), Derived("16777216, or a quarter of `INBOX_MAX_BYTES` if that is less"), "size of one file of the inbox";
    INBOX_KEEP_SECONDS: Integer(0, 31_536_000), Value("3600"), "for how long finished files of the inbox are kept, so that their messages can be processed again if the database loses what it had committed; 0 to delete them at once";
    INBOX_KEEP_BYTES: Integer(0, 1_152_921_504_606_846_976), Derived("268435456, a quarter of `INBOX_MAX_BYTES`"), "bytes that finished files may take beside `INBOX_MAX_BYTES`; beyond, and where the disk is full, the oldest are deleted earlier";
    INBOX_FSYNC: Word(&["always", "interval", "never"]), Value("interval"), "when the inbox is forced to the disk: it matters for a loss of power, not for a crash of the gateway";
    INBOX_FSYNC_INTERVAL_MS: Integer(1, 60_000), Value("100"), "milliseconds between two times, with `INBOX_FSYNC=interval`";

    LANES: Integer(1, 64), Derived("2, on SQLite, in a group or as one of several shards 1"), "lanes of a new inbox, each with a worker and a database connection; an existing inbox keeps its own number";
    BATCH_MAX_MESSAGES: Integer(1, 65_536), Value("1024"), "messages in one database transaction";
    BATCH_MAX_BYTES: Integer(1_024, 1_073_741_824), Value("4194304"), "bytes of payload in one database transaction";
    FLOW_LOCK_WAIT_SECONDS: Integer(1, 30), Value("5"), "seconds that a lane waits for a flow whose row is locked by somebody else, before it goes on without it";
    MESSAGE_KEY_SECONDS: Integer(1, 4_294_967_295), Value("86400"), "time between two messages within which the same key makes the second a repetition";
    DRAIN_DEADLINE_SECONDS: Integer(1, 3_600), Value("30"), "time for what was received to reach the database when the gateway is stopped; the rest stays in the inbox";
    VALUE_STYLE: Word(&["python", "json"]), Value("python"), "how booleans and null are stored: `True False None` or `true false null`";
    MAX_PAYLOAD_BYTES: Integer(1, 268_435_455), Value("4194304"), "bytes of a payload above which a message becomes a dead letter; a quarter of `INBOX_MAX_BYTES` or of the database's largest statement counts if that is less";
    MAX_DEPTH: Integer(1, 100_000), Value("1000"), "levels of nesting in a payload";
    MAX_ATTRIBUTES: Integer(1, 1_000_000), Value("32768"), "attributes of a payload";

    ADMIN_BIND: Listener, Value("127.0.0.1:8080"), "where health and metrics are served over HTTP: `0.0.0.0:8080` for all interfaces, port 0 for any that is free, `off` for nowhere";
    LOG_DIR: Path, Value("./log"), "the directory of the daily error files, created when missing";
    LOG_DIR_MAX_BYTES: Integer(1_048_576, 1_152_921_504_606_846_976), Unset, "bytes that the error files take together: beyond, the oldest are deleted, and where today's alone takes all, errors go to standard error alone; unset for no bound";
    LOG_FORMAT: Word(&["auto", "human", "json"]), Value("auto"), "format of standard error: `auto` is `human` on a terminal, else `json`";
    RUST_LOG: Text, Value("info"), "which log records are written, as `env_logger` has it: `debug`, `info,sqlx=debug`";
    LOG_REPEAT_SECONDS: Integer(0, 86_400), Value("10"), "seconds within which warnings and errors of the same kind are written `LOG_REPEAT_BURST` times and then counted; 0 to write every one";
    LOG_REPEAT_BURST: Integer(1, 1_000_000), Value("10"), "how many of them are written";
    MAILBOX_REPORT_SECONDS: Integer(1, 86_400), Value("10"), "seconds between two log lines about each actor's mailbox";
    RESTART_BUDGET: Integer(1, 1_000), Value("5"), "restarts of its actors after which the gateway gives up with exit code 3";
    RESTART_WINDOW_SECONDS: Integer(1, 86_400), Value("60"), "time within which these restarts count";
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
