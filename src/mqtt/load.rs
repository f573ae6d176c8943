//! Load for measurements: a publisher at full speed, and a subscriber that throws everything away.
//!
//! Nothing of the message path uses this. All paho clients of a process share one mutex and one thread that
//! receives, so what is to be measured by itself has to be the only client of its process.

mod connection;
mod discard;
mod publisher;

use std::time::Duration;

pub use discard::{Discarded, discard};
pub use publisher::Publisher;

/// User name and password.
pub type Credentials<'a> = (&'a str, &'a str);

/// The longest that the broker is waited for, be it for a subscription or an acknowledgement.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// Why load could not be made or taken.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// What cannot be sent to any broker.
    #[error("{0} must not hold a NUL character")]
    Nul(&'static str),
    /// There is no such quality of service, or not for this.
    #[error("QoS {0} is none of 0, 1, 2")]
    Qos(u8),
    /// No connection came about.
    #[error("cannot connect to the broker: {0}")]
    Connect(String),
    /// The broker does not let the subscriber have the filter.
    #[error("the broker refused to subscribe {filter:?}: {reason}")]
    Subscribe {
        /// The filter.
        filter: String,
        /// Why.
        reason: String,
    },
    /// A message is not, or perhaps not, at the broker.
    #[error("publishing failed: {0}")]
    Publish(String),
    /// The connection of the subscriber broke; nobody knows what it missed.
    #[error("the subscriber lost its connection to the broker")]
    Lost,
    /// The client library cannot go on.
    #[error("MQTT client: {0}")]
    Client(String),
}
