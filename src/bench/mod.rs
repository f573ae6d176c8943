//! `mqtt-gateway bench`: what the gateway does with a database and a broker, seen from outside.
//!
//! ```text
//! publisher ──▶ broker ──▶ the gateway ──▶ database ◀── observer
//!  this process             a process of its own         this process
//! ```
//!
//! The gateway is this very program as an operator would run it. Nothing in it is measured from within: a message is
//! through when somebody else can read that it is. Latency counts from the moment at which a message was published or,
//! at a rate, was due: what a publisher was kept from publishing is late all the same.

mod error;
mod gateway;
mod gateway_log;
mod latency;
pub mod limits;
mod observer;
mod options;
mod progress;
mod publisher;
mod report;
mod schedule;
pub mod sink;
mod stage;
mod store_run;
pub mod subscriber;
mod usage;
mod verdict;
mod workload;

use std::io::Write;

pub(crate) use self::error::BenchError;
pub(crate) use self::options::BenchOptions;
use self::report::Report;
use self::stage::Stage;

/// Measures, prints to `out`, and says whether everything that was published arrived.
pub(crate) fn run(options: &BenchOptions, out: &mut dyn Write) -> Result<bool, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = runtime.map_err(BenchError::Thread)?.block_on(measure(options))?;
    if options.json { report.json(out) } else { report.table(out) }.map_err(BenchError::Print)?;
    Ok(report.problems.is_empty())
}

/// Measures between two signals: one that is interrupted leaves nothing behind either.
async fn measure(options: &BenchOptions) -> Result<Report, BenchError> {
    let stage = Stage::set(options).await?;
    let measured = tokio::select! {
        measured = store_run::run(options, &stage) => measured,
        _ = tokio::signal::ctrl_c() => Err(BenchError::Interrupted),
    };
    let struck = stage.strike().await;
    let report = measured?;
    struck?;
    Ok(report)
}
