//! Health and metrics over HTTP, for probes and for Prometheus, and API and console for operators.
//!
//! ```text
//! client ──▶ server (a thread of its own) ──▶ answers ──▶ observe: atomics and short locks
//!               ▲ connections: limited in number and age
//! ```
//!
//! Clients of this port may be slow or hostile:
//!
//! - No response about health waits for an actor, the database or the broker.
//! - The number of connections, their age and the buffered response bytes are limited.
//! - The metrics text is encoded at most once a second.
//! - The server threads run at a lower priority than all others.

mod answers;
mod api;
mod connections;
mod console;
mod document_client;
mod event_client;
mod event_text;
mod metrics_text;
mod server;
pub(crate) mod thread;

pub(crate) use console::DemoAccess;
#[cfg(feature = "tools")]
pub(crate) use console::{DemoAction, DemoReport, FlowBalance};
pub(crate) use document_client::read_document;
pub(crate) use event_client::{FollowError, Followed, follow_events};
pub(crate) use event_text::StreamedEvent;
pub(crate) use server::AdminServer;
#[cfg(feature = "tools")]
pub(crate) use server::link_to_console;
