//! Typed settings, validated before the gateway starts anything else.
//!
//! ```text
//! files ──▶ layers ─────▶ reader ──▶ Settings
//!  .env      precedence    parsing     or one SettingsError
//!  TOML                                with every problem
//! ```
//!
//! `catalogue` defines all settings. This module opens no connection, and no other module reads the environment.

mod api;
mod assemble;
#[cfg(feature = "tools")]
mod broker_url;
mod catalogue;
mod credentials;
mod database;
mod dotenv;
mod error;
mod files;
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
use crate::domain::posting::address_guard::EndpointNetworks;
use crate::domain::proxies::Proxies;
use crate::domain::replicas::{Role, ShareGroup};
use crate::domain::value_style::ValueStyle;
use crate::inbox::{FsyncPolicy, KeepPolicy};

use replicas::Purpose;

pub use api::ApiSettings;
#[cfg(feature = "tools")]
pub(crate) use broker_url::{BrokerAddress, parse_broker_url};
pub use credentials::CredentialSettings;
pub use database::DatabaseSettings;
pub use error::{FoundValue, SettingProblem, SettingsError};
pub(crate) use given::load_given;
#[cfg(feature = "tools")]
pub(crate) use given::{is_setting, parse_database_url};
pub use secret_source::SecretSource;
pub use servers::{ServerAddress, Servers};
pub use tls::{DatabaseTls, TlsMode};
#[cfg(feature = "tools")]
pub(crate) use url::UrlError;

/// All validated settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Connection to the database.
    pub database: DatabaseSettings,
    /// Admin HTTP server for health, metrics, the API and the console; none if disabled.
    pub admin: Option<AdminSettings>,
    /// Access to the API.
    pub api: ApiSettings,
    /// Directory of the daily error files.
    pub log_dir: PathBuf,
    /// Maximum total bytes of these files; none for no limit.
    pub log_dir_max_bytes: Option<u64>,
    /// Log format on standard error.
    pub log_format: LogFormat,
    /// Log filter in the syntax of `env_logger`.
    pub log_filter: String,
    /// Limits for repeated warnings and errors.
    pub log_repeats: LogRepeats,
    /// Timeout of one POST, from connecting to the last byte of the response.
    pub http_timeout: Duration,
    /// Proxies, trusted certificates, networks and secrets of the endpoints.
    pub http_route: HttpRoute,
    /// MQTT client.
    pub mqtt: MqttSettings,
    /// Role among the replicas.
    pub role: Role,
    /// Shared group of a member, or of a retiring former member.
    pub group: Option<ShareGroup>,
    /// Time between two reads of the table `flows`.
    pub flows_reload_interval: Duration,
    /// Settings of the inbox.
    pub inbox: InboxSettings,
    /// Number of lanes of a new inbox.
    pub lanes: u32,
    /// Whether `lanes` was set explicitly. The default depends on the role, while an existing inbox keeps its lanes.
    pub has_explicit_lanes: bool,
    /// Maximum messages in one transaction.
    pub batch_max_messages: usize,
    /// Maximum payload bytes in one transaction, unless a single message exceeds them.
    pub batch_max_bytes: usize,
    /// Maximum time for which a busy lane waits for a larger batch.
    pub max_linger: Duration,
    /// Maximum time that a lane waits for the locked row of a flow.
    pub flow_lock_wait: Duration,
    /// Time for which a message key is remembered. A later message may use the same key again.
    pub keys_known_for: Duration,
    /// Maximum time for draining the inbox at shutdown.
    pub drain_deadline: Duration,
    /// Limits of the outbox.
    pub outbox: OutboxSettings,
    /// Number of dead letters above which a warning is logged.
    pub dead_letters_warn_rows: u64,
    /// Limits beyond which old rows are deleted.
    pub retention: RetentionSettings,
    /// Representation of booleans and null in stored values.
    pub value_style: ValueStyle,
    /// Size limits of a payload.
    pub limits: PayloadLimits,
    /// Time between two reports about each mailbox.
    pub mailbox_report_interval: Duration,
    /// Restart budget of the actors.
    pub restarts: RestartSettings,
}

/// Limits beyond which the gateway deletes old rows. By default it deletes none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionSettings {
    /// Maximum age of a dead letter.
    pub letters_max_age: Option<Duration>,
    /// Maximum number of dead letters.
    pub letters_max_rows: Option<u64>,
    /// Maximum age of a stored message.
    pub data_max_age: Option<Duration>,
}

/// MQTT client. The table `mqtt_servers` contains the address of the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttSettings {
    /// MQTT client id.
    pub client_id: String,
    /// Keepalive interval.
    pub keepalive: Duration,
    /// Session expiry interval in seconds; `u32::MAX` for no expiry.
    pub session_expiry_seconds: u32,
    /// Quality of service of the subscriptions, 0 or 1.
    pub qos: u8,
    /// Whether to skip a retained message that equals the last retained message of its topic.
    pub skip_repeated_retained: bool,
    /// Allowed sources of broker credentials.
    pub credentials: CredentialSettings,
}

/// Log between broker and database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxSettings {
    /// Directory of the inbox.
    pub dir: PathBuf,
    /// Maximum size in bytes.
    pub max_bytes: u64,
    /// Segment size in bytes.
    pub segment_bytes: u64,
    /// Retention of finished segments.
    pub keep: KeepPolicy,
    /// When the log is synced to the disk.
    pub fsync: FsyncPolicy,
}

/// Proxies and trusted certificates for the endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpRoute {
    /// HTTP proxies.
    pub proxies: Proxies,
    /// File or directory of CA certificates that replace the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Networks in which endpoints may be.
    pub networks: EndpointNetworks,
    /// Files and variables to which options of flows may refer.
    pub credentials: CredentialSettings,
}

/// Limits of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxSettings {
    /// Age at which a message becomes a dead letter.
    pub max_age: Duration,
    /// Maximum waiting messages of a flow.
    pub max_rows_per_flow: u64,
}

/// Admin HTTP server for health, metrics, the API and the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminSettings {
    /// Address to listen on; port 0 selects a free port.
    pub address: SocketAddr,
    /// Whether the address is the default. A default address that is in use does not prevent the start.
    pub is_default: bool,
}

/// Restart budget: more restarts within the window end the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartSettings {
    /// Maximum restarts.
    pub max: u32,
    /// Time within which restarts count.
    pub window: Duration,
}

/// Limits for repeated warnings and errors. Further ones in a window are counted and summarised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRepeats {
    /// Length of a window; zero disables the limit.
    pub window: Duration,
    /// Repetitions written in each window.
    pub burst: u64,
}

/// Format of the log on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Human-readable on a terminal, JSON otherwise.
    Auto,
    /// Human-readable lines.
    Human,
    /// One JSON object per line.
    Json,
}

/// Result of [`load`]: the settings, and details for display.
pub(crate) struct Loaded {
    pub settings: Settings,
    /// All settings in the order of the reference.
    pub effective: Vec<EffectiveSetting>,
    /// Warnings to log once the logger is installed.
    pub warnings: Vec<String>,
}

/// The effective value of a setting, safe to display.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EffectiveSetting {
    pub name: &'static str,
    /// Value, masked if secret; none if unset.
    pub value: Option<String>,
    /// Layer or file that set the value.
    pub origin: String,
}

/// Reads the settings from the defaults, `config/*.toml`, `.env` and the environment. Later sources take precedence.
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

/// As [`load_settings`], and returns the warnings and the effective values for `check`.
pub(crate) fn load() -> Result<Loaded, SettingsError> {
    load_for(Purpose::Running)
}

/// As [`load`], for a retiring replica, whose role does not depend on the number of replicas.
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
