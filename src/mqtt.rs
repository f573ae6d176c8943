//! Connection to the broker: one [`MqttLink`] that reconnects by itself, behind a small interface.
//!
//! ```text
//!   caller ──Input──▶ thread "mqtt" ──calls──▶ paho ──▶ broker
//!                        ▲    │                  │
//!                        │    └─MqttEvent─▶      │ callbacks: connected, message ──▶ on_incoming (may block)
//!                        └──────Input────────────┘            lost, disconnected, token done
//! ```
//!
//! The `relay` sits between paho and the broker. It handles TLS and hides packets that paho cannot parse.
//!
//! * Only the thread "mqtt" calls paho. While a message callback waits, every call into paho blocks, and so may this
//!   thread. No other thread does.
//! * Callbacks never call paho, and only the message callback may block. Paho sends the acknowledgement when it
//!   returns, so it returns once the message is safe.
//! * Paho's own reconnect is off. `reconnect` chooses the protocol version, backs off and reports the reason.
//! * This module knows nothing of flows, routing or the inbox.

mod broker_probe;
mod certificate;
mod clients;
mod delivery_flags;
mod driver;
mod failure;
mod incoming;
mod input;
mod inspect;
mod link;
#[cfg(feature = "tools")]
pub mod load;
mod options;
mod packet;
mod reconnect;
mod relay;
mod requests;
mod server;
mod tcp;
mod tls_files;
mod tls_probe;
mod watchdog;

pub use crate::credentials::CredentialError;
pub use incoming::Incoming;
pub use inspect::{CertificateSummary, certificates};
pub use link::MqttLink;
pub use options::{BrokerOptions, MqttError, MqttEvent, RefusedCode, SessionEnd, Subscription};
pub use tls_files::TlsFileError;
