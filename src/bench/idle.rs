//! Measures the CPU usage of the idle gateway.

use std::time::{Duration, Instant};

use super::error::BenchError;
use super::gateway::GatewayProcess;

/// Returns the share of one processor that the gateway uses during `over`, in percent.
pub(super) async fn idle_percent(gateway: &GatewayProcess, over: Duration) -> Result<f64, BenchError> {
    let (begin, before) = (Instant::now(), gateway.usage()?.cpu);
    tokio::time::sleep(over).await;
    let used = gateway.usage()?.cpu.saturating_sub(before);
    Ok(used.as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0)
}
