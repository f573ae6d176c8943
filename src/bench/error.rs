//! Why there is no measurement, or none that counts.

use std::io;
use std::time::Duration;

use super::limits::broker::BrokerLimitError;
use super::limits::database::DatabaseLimitError;
use super::limits::post::PostLimitError;
use crate::embedded::broker::BrokerError;
use crate::inbox::InboxError;
use crate::mqtt::load::LoadError;
use crate::settings::{SettingsError, UrlError};
use crate::store::StoreError;
use crate::store::bench::schema::SchemaError;

/// Why a measurement broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("--database: expected {0}")]
    DatabaseUrl(UrlError),
    #[error("--broker: expected {0}")]
    BrokerUrl(UrlError),
    #[error("--set: expected NAME=VALUE")]
    NoSetting,
    #[error("--set {name}: there is no such setting")]
    UnknownSetting { name: String },
    #[error("--set {name}: the bench sets this itself")]
    OwnSetting { name: String },
    #[error("--backlog is for flows that store, at QoS 1 and at full speed")]
    Backlog,
    #[error("--set: {0}")]
    Settings(#[from] SettingsError),
    #[error("a directory for the measurement cannot be made: {0}")]
    Directory(io::Error),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the publisher: {0}")]
    Load(#[from] LoadError),
    #[error("a thread or the runtime cannot be started: {0}")]
    Thread(io::Error),
    #[error("the gateway cannot be started: {0}")]
    Start(io::Error),
    #[error("the gateway has ended by itself ({status}); its last lines:\n{}", .last_lines.join("\n"))]
    GatewayEnded { status: String, last_lines: Vec<String> },
    #[error(
        "the gateway has not subscribed to all flows within {} s; its last lines:\n{}",
        .waited.as_secs(), .last_lines.join("\n")
    )]
    NotReady { waited: Duration, last_lines: Vec<String> },
    #[error("what the gateway has used cannot be read: {0}")]
    Usage(String),
    #[error(
        "nothing has moved for {} s: {done} of {messages} messages are through. A broker may have dropped what it \
         could not queue (mosquitto: max_queued_messages). The gateway's last lines:\n{}",
        .waited.as_secs(), .last_lines.join("\n")
    )]
    NoProgress { waited: Duration, done: u64, messages: u64, last_lines: Vec<String> },
    #[error("the limit of the database: {0}")]
    DatabaseLimit(#[from] DatabaseLimitError),
    #[error("the limit of the broker: {0}")]
    BrokerLimit(#[from] BrokerLimitError),
    #[error("the limit of the posts: {0}")]
    PostLimit(#[from] PostLimitError),
    #[error("the inbox cannot be read: {0}")]
    Inbox(#[from] InboxError),
    #[error("interrupted")]
    Interrupted,
    #[error("the result cannot be printed: {0}")]
    Print(io::Error),
}
