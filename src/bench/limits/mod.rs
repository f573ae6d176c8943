//! What the machine gives when there is no gateway: each limit is measured by itself, with nothing else running.

pub mod broker;
pub mod database;
pub mod post;

use std::time::Duration;

#[allow(clippy::cast_precision_loss, reason = "a number of messages is far below 2^52")]
fn per_second(messages: u64, elapsed: Duration) -> f64 {
    messages as f64 / elapsed.as_secs_f64()
}
