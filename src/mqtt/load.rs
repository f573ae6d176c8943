//! Load for measurements: a publisher at full speed, and a subscriber that discards all messages.
//!
//! The message path does not use this module. All paho clients of a process share one mutex and one receiving thread.
//! So a measured client has to be the only one of its process.

mod connection;
mod discard;
mod publisher;

use std::time::Duration;

pub use discard::{Discarded, discard};
pub use publisher::Publisher;

/// User name and password.
pub type UserPassword<'a> = (&'a str, &'a str);

/// Timeout for subscriptions and acknowledgements.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// Error of a load client.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The text contains NUL, which MQTT forbids.
    #[error("{0} must not contain NUL")]
    Nul(&'static str),
    /// The quality of service is invalid or not supported here.
    #[error("QoS {0} is not 0, 1 or 2")]
    Qos(u8),
    /// The connection failed.
    #[error("cannot connect to the broker: {0}")]
    Connect(String),
    /// The broker refused the subscription.
    #[error("the broker refused to subscribe {filter:?}: {reason}")]
    Subscribe {
        /// Topic filter.
        filter: String,
        /// Reason given by the broker.
        reason: String,
    },
    /// The message was not, or perhaps not, delivered to the broker.
    #[error("publishing failed: {0}")]
    Publish(String),
    /// The subscriber lost its connection and may have missed messages.
    #[error("the subscriber lost its connection to the broker")]
    Lost,
    /// The client library failed.
    #[error("MQTT client: {0}")]
    Client(String),
}
