//! Errors of a measurement.

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
use crate::store::bench::schema::BenchSchemaError;

/// Reasons why a measurement was aborted.
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
    #[error("--backlog cannot be used with --rate, with --qos 0 or with flows that post")]
    Backlog,
    #[error("--set: {0}")]
    Settings(#[from] SettingsError),
    #[error("cannot create a directory for the measurement: {0}")]
    Directory(io::Error),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Schema(#[from] BenchSchemaError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the publisher: {0}")]
    Load(#[from] LoadError),
    #[error("cannot start a thread or the runtime: {0}")]
    Thread(io::Error),
    #[error("cannot start the gateway: {0}")]
    Start(io::Error),
    #[error("the gateway ended unexpectedly ({status}); its last log lines:\n{}", .last_lines.join("\n"))]
    GatewayEnded { status: String, last_lines: Vec<String> },
    #[error(
        "the gateway has not subscribed to all flows within {} s; its last log lines:\n{}",
        .waited.as_secs(), .last_lines.join("\n")
    )]
    NotReady { waited: Duration, last_lines: Vec<String> },
    #[error("cannot read the resource usage of the gateway: {0}")]
    Usage(String),
    #[error(
        "no progress for {} s: {done} of {messages} messages are complete. The broker may have dropped messages that \
         it could not queue (mosquitto: max_queued_messages). The gateway's last log lines:\n{}",
        .waited.as_secs(), .last_lines.join("\n")
    )]
    NoProgress { waited: Duration, done: u64, messages: u64, last_lines: Vec<String> },
    #[error("the limit of the database: {0}")]
    DatabaseLimit(#[from] DatabaseLimitError),
    #[error("the limit of the broker: {0}")]
    BrokerLimit(#[from] BrokerLimitError),
    #[error("the limit of the posts: {0}")]
    PostLimit(#[from] PostLimitError),
    #[error("cannot read the inbox: {0}")]
    Inbox(#[from] InboxError),
    #[error("interrupted")]
    Interrupted,
    #[error("cannot print the result: {0}")]
    Print(io::Error),
}

impl BenchError {
    /// Whether the options are wrong.
    pub(crate) fn is_wrong_usage(&self) -> bool {
        matches!(
            self,
            Self::DatabaseUrl(_)
                | Self::BrokerUrl(_)
                | Self::NoSetting
                | Self::UnknownSetting { .. }
                | Self::OwnSetting { .. }
                | Self::Backlog
                | Self::Settings(_)
        )
    }
}
