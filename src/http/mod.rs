//! Health and metrics over HTTP, for probes and for Prometheus.
//!
//! ```text
//! client ──▶ server (a thread of its own) ──▶ answers ──▶ observe: atomics and short locks
//!               ▲ connections: none lives for long
//! ```
//!
//! Whoever reaches this port may be slow or hostile. So no answer waits for an actor, the database or
//! the broker; how many connections there are, how long each lives and how much of an answer waits in memory is
//! bounded; the text of the metrics is made once a second, however often it is asked for; and the threads of this
//! server step back for all others.

mod answers;
mod connections;
mod metrics_text;
mod server;
pub(crate) mod thread;

pub(crate) use server::AdminServer;
