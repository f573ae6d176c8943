//! The broker's side: one link that stays connected, kept behind a small interface.
//!
//! ```text
//!   caller ──Input──▶ thread "mqtt" ──calls──▶ paho ──▶ broker
//!                        ▲    │                  │
//!                        │    └─MqttEvent─▶      │ callbacks: connected, message ──▶ on_incoming (may block)
//!                        └──────Input────────────┘            lost, disconnected, token done
//! ```
//!
//! Between paho and the broker stands the `relay`, which does TLS and keeps from paho what it cannot read.
//!
//! * Only the thread calls paho: while a message callback waits, every call into paho waits with it, and so may
//!   the thread, but nobody else.
//! * Callbacks never call paho and never wait, but for the message callback: when it returns, paho sends the
//!   acknowledgement, so it returns only when the message is safe.
//! * Paho's own reconnecting is off: ours chooses the protocol version, backs off, and says why.
//! * Absent: any knowledge of flows, routing or the inbox.

mod broker_probe;
mod certificate;
#[cfg_attr(not(feature = "tools"), allow(dead_code, reason = "`load` needs the URI of a broker"))]
mod clients;
mod credential;
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
mod tls_files;
mod tls_probe;
mod version;
mod watchdog;

pub use credential::{Credential, CredentialError};
pub use incoming::Incoming;
pub use inspect::{InUse, certificates};
pub use link::MqttLink;
pub use options::{BrokerOptions, Farewell, MqttError, MqttEvent, RefusedCode, Subscription};
pub use server::{BrokerServer, MqttVersion};
pub use tls_files::{TlsFileError, TlsFiles};
