//! Typed settings, all of them validated before anything else begins.
//!
//! ```text
//! files ──▶ layers ──▶ reader ──▶ Settings
//!  .env      which      what        or one SettingsError
//!  TOML      counts     it means    with every problem
//! ```
//!
//! `catalogue` says which settings there are. Nothing here opens a connection, and nothing outside
//! reads the environment.

mod assemble;
#[cfg(feature = "tools")]
mod broker_url;
mod catalogue;
mod credentials;
mod database;
mod dotenv;
mod error;
mod files;
#[cfg(feature = "tools")]
mod given;
mod host_list;
mod layers;
mod number;
mod reader;
mod replicas;
mod secret_source;
mod servers;
mod tls;
mod url;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::payload::PayloadLimits;
use crate::domain::proxies::Proxies;
use crate::domain::replicas::{Role, ShareGroup};
use crate::domain::value_style::ValueStyle;
use crate::inbox::{FsyncPolicy, KeepPolicy};

use replicas::Purpose;

#[cfg(feature = "tools")]
pub(crate) use broker_url::{BrokerAddress, broker_of};
pub use credentials::CredentialSettings;
pub use database::DatabaseSettings;
pub use error::{Found, SettingProblem, SettingsError};
#[cfg(feature = "tools")]
pub(crate) use given::{database_of, is_setting, load_given};
pub use secret_source::SecretSource;
pub use servers::{ServerAddress, Servers};
pub use tls::{DatabaseTls, TlsMode};
#[cfg(feature = "tools")]
pub(crate) use url::UrlError;

/// Everything that can be set, validated.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The database.
    pub database: DatabaseSettings,
    /// Where health and metrics are served over HTTP; none for nowhere.
    pub admin: Option<AdminSettings>,
    /// Directory of the daily error files.
    pub log_dir: PathBuf,
    /// What these files may take together; none for no bound.
    pub log_dir_max_bytes: Option<u64>,
    /// Format of standard error.
    pub log_format: LogFormat,
    /// Which log records are written, in the language of `env_logger`.
    pub log_filter: String,
    /// How many warnings and errors of the same kind are written.
    pub log_repeats: LogRepeats,
    /// Time for one POST, from connecting to the last byte.
    pub http_timeout: Duration,
    /// The way to the endpoints.
    pub http_route: HttpRoute,
    /// The client at the broker.
    pub mqtt: MqttSettings,
    /// What the gateway is among others.
    pub role: Role,
    /// The group of which it is a member, or was one before it was retired.
    pub group: Option<ShareGroup>,
    /// Time between two looks at the table of flows.
    pub flows_reload_interval: Duration,
    /// The inbox.
    pub inbox: InboxSettings,
    /// Lanes of a new inbox.
    pub lanes: u32,
    /// Whether somebody wants just so many; their usual number changes with the role, and an inbox lives on.
    pub lanes_are_given: bool,
    /// Messages in one transaction at most.
    pub batch_max_messages: usize,
    /// Bytes of payload in one transaction at most, unless a single message has more.
    pub batch_max_bytes: usize,
    /// Time that a lane waits for a flow whose row is locked elsewhere.
    pub flow_lock_wait: Duration,
    /// Time between two messages from which on they may have the same key.
    pub keys_known_for: Duration,
    /// Time for draining the inbox at a stop.
    pub drain_deadline: Duration,
    /// Messages that wait to be posted.
    pub outbox: OutboxSettings,
    /// Dead letters above which the log warns.
    pub dead_letters_warn_rows: u64,
    /// How booleans and null are stored.
    pub value_style: ValueStyle,
    /// What a payload may be at most.
    pub limits: PayloadLimits,
    /// Time between two reports about each mailbox.
    pub mailbox_report_interval: Duration,
    /// When to give up restarting actors.
    pub restarts: RestartSettings,
}

/// The client at the broker; which broker, the table `mqtt_servers` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttSettings {
    /// Its name at the broker.
    pub client_id: String,
    /// Silence after which the broker is asked whether it is there.
    pub keepalive: Duration,
    /// How long the broker keeps the session of a client that is away; `u32::MAX` is for ever.
    pub session_expiry_seconds: u32,
    /// Quality of service of the subscriptions, 0 or 1.
    pub qos: u8,
    /// Whether to skip a retained message equal to the last retained one of its topic.
    pub skip_repeated_retained: bool,
    /// Where user names and passwords of the brokers may stand.
    pub credentials: CredentialSettings,
}

/// The log between broker and database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxSettings {
    /// Its directory.
    pub dir: PathBuf,
    /// Bytes at which it is full.
    pub max_bytes: u64,
    /// Bytes at which a new file is begun.
    pub segment_bytes: u64,
    /// For how long finished files are kept.
    pub keep: KeepPolicy,
    /// When it is forced to the disk.
    pub fsync: FsyncPolicy,
}

/// The way to the endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpRoute {
    /// Proxies in between.
    pub proxies: Proxies,
    /// File or directory of the certificates that are trusted in place of the system's.
    pub ca_bundle: Option<PathBuf>,
}

/// Messages that wait to be posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxSettings {
    /// Age at which one becomes a dead letter.
    pub max_age: Duration,
    /// How many of one flow may wait.
    pub max_rows_per_flow: u64,
}

/// Where health and metrics are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminSettings {
    /// The address to listen at; port 0 is any that is free.
    pub address: SocketAddr,
    /// Nobody has asked for it: one that cannot be had is no reason not to start.
    pub is_default: bool,
}

/// Restarts of actors that are borne before the process gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartSettings {
    /// How many.
    pub max: u32,
    /// Within which time.
    pub window: Duration,
}

/// Warnings and errors of the same kind: so many are written in each window, the rest is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRepeats {
    /// The window; zero to write every one.
    pub window: Duration,
    /// How many are written.
    pub burst: u64,
}

/// Format of the log on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    Auto,
    /// A line for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// What `load` finds: the settings, and what people may want to know about them.
pub(crate) struct Loaded {
    pub settings: Settings,
    /// Every setting in the order of the reference.
    pub effective: Vec<EffectiveSetting>,
    /// Oddities to be logged once there is a log.
    pub warnings: Vec<String>,
}

/// A setting as it counts, fit to be shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EffectiveSetting {
    pub name: &'static str,
    /// Its value, a secret masked; none when unset.
    pub value: Option<String>,
    /// Where it was set.
    pub origin: String,
}

/// Reads the settings from the defaults, `config/*.toml`, `.env` and the environment, the later of
/// which wins.
///
/// # Errors
/// One [`SettingsError`] that names every setting that is missing or malformed.
///
/// # Examples
/// ```no_run
/// match mqtt_gateway::settings::load_settings() {
///     Ok(settings) => println!("the inbox is in {}", settings.inbox.dir.display()),
///     Err(error) => eprintln!("{error}"),
/// }
/// ```
pub fn load_settings() -> Result<Settings, SettingsError> {
    let loaded = load()?;
    for warning in &loaded.warnings {
        log::warn!("{warning}");
    }
    Ok(loaded.settings)
}

/// As [`load_settings`], with the warnings and with what `check` shows.
pub(crate) fn load() -> Result<Loaded, SettingsError> {
    load_for(Purpose::Running)
}

/// As [`load`], for a replica that goes for good: how many the others are does not matter to it.
pub(crate) fn load_for_retiring() -> Result<Loaded, SettingsError> {
    load_for(Purpose::Retiring)
}

fn load_for(purpose: Purpose) -> Result<Loaded, SettingsError> {
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
    assemble::load_settings_for(purpose, &layers::Sources { environment, files: &files::FileSystem })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod fuzz;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests;
