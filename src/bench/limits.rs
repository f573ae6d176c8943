//! Limits of the machine without a gateway. Each limit is measured alone.

pub mod broker;
pub mod database;
pub mod post;

use std::time::Duration;

#[allow(clippy::cast_precision_loss, reason = "a number of messages is far below 2^52")]
fn per_second(messages: u64, elapsed: Duration) -> f64 {
    messages as f64 / elapsed.as_secs_f64()
}
