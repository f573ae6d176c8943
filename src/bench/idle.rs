//! What the gateway uses when there is nothing to do.

use std::time::{Duration, Instant};

use super::error::BenchError;
use super::gateway::Gateway;

/// Share of one processor that it uses over this time, in percent.
pub(super) async fn idle_percent(gateway: &Gateway, over: Duration) -> Result<f64, BenchError> {
    let (begin, before) = (Instant::now(), gateway.usage()?.cpu);
    tokio::time::sleep(over).await;
    let used = gateway.usage()?.cpu.saturating_sub(before);
    Ok(used.as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0)
}
