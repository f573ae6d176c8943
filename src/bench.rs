//! `mqtt-gateway bench`: measures the gateway with a database and a broker, from outside the process.
//!
//! ```text
//! publisher ──▶ broker ──▶ the gateway ──▶ database ◀── observer
//!  this process             a process of its own         this process
//! ```
//!
//! The gateway is this program, run as an operator would run it. A message is complete when another process can read
//! its result. Latency starts when a message is published, or at a fixed rate when it is due. A blocked publisher
//! therefore increases the latency.

mod arrivals;
mod backlog;
mod bounds;
mod environment;
mod error;
mod gateway;
mod gateway_log;
mod idle;
mod latency;
pub mod limits;
mod observer;
mod options;
mod post_run;
mod problems;
mod progress_bar;
mod publisher;
mod report;
mod run;
mod schedule;
pub mod sink;
mod store_run;
pub mod subscriber;
mod usage;
mod workload;

use std::io::{self, Write};

use tokio::signal::unix::{SignalKind, signal};

use self::bounds::Bounds;
use self::environment::Environment;
pub(crate) use self::error::BenchError;
pub(crate) use self::gateway::COMMAND as GATEWAY_COMMAND;
pub(crate) use self::options::BenchOptions;
use self::report::BenchReport;
use self::workload::Workload;
use crate::store::Database;
use crate::store::bench::schema;

/// Runs the measurement and prints the report to `out`. Returns true if all published messages arrived.
pub(crate) fn run(options: &BenchOptions, out: &mut dyn Write) -> Result<bool, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = runtime.map_err(BenchError::Thread)?.block_on(measure(options))?;
    if options.json { report.json(out) } else { report.table(out) }.map_err(BenchError::Print)?;
    Ok(report.problems.is_empty())
}

/// Measures until the end or a signal. An interrupted measurement also cleans up.
async fn measure(options: &BenchOptions) -> Result<BenchReport, BenchError> {
    let environment = Environment::set_up(options).await?;
    let measured = tokio::select! {
        measured = measure_on(&environment, options) => measured,
        ended = end_signal() => Err(ended.map_or_else(BenchError::Thread, |()| BenchError::Interrupted)),
    };
    let cleaned_up = environment.tear_down().await;
    let report = measured?;
    cleaned_up?;
    Ok(report)
}

/// Waits for Ctrl-C, SIGTERM or SIGHUP.
async fn end_signal() -> io::Result<()> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
        _ = hung_up.recv() => {}
    }
    Ok(())
}

/// Measures the gateway, and the limits of the machine before and after it.
async fn measure_on(environment: &Environment, options: &BenchOptions) -> Result<BenchReport, BenchError> {
    let workload = Workload::new(options, environment.topic_prefix());
    let database = Database::connect(&environment.database, 1).await?;
    let mut report = BenchReport::new(options);
    report.database = schema::version(&database).await?;
    report.broker = environment.broker_name();
    let before = bounds::measure(options, environment, &workload, &database).await?;
    if options.stores() {
        store_run::run(options, environment, &workload, &database, &mut report).await?;
    } else {
        post_run::run(options, environment, &workload, &database, &mut report).await?;
    }
    // A kept database must contain only the rows of the gateway.
    let after = if options.keep {
        Bounds::default()
    } else {
        bounds::measure(options, environment, &workload, &database).await?
    };
    report.set_bounds(&before.mean(after));
    database.close().await?;
    Ok(report)
}
