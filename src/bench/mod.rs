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

mod arrivals;
mod backlog;
mod bounds;
mod error;
mod gateway;
mod gateway_log;
mod idle;
mod latency;
pub mod limits;
mod observer;
mod options;
mod post_run;
mod progress_bar;
mod publisher;
mod report;
mod schedule;
pub mod sink;
mod stage;
mod store_run;
pub mod subscriber;
mod turn;
mod usage;
mod verdict;
mod workload;

use std::io::{self, Write};

use tokio::signal::unix::{SignalKind, signal};

use self::bounds::Bounds;
pub(crate) use self::error::BenchError;
pub(crate) use self::options::BenchOptions;
use self::report::Report;
use self::stage::Stage;
use self::workload::Workload;
use crate::store::Database;
use crate::store::bench::schema;

/// Measures, prints to `out`, and says whether everything that was published arrived.
pub(crate) fn run(options: &BenchOptions, out: &mut dyn Write) -> Result<bool, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let report = runtime.map_err(BenchError::Thread)?.block_on(measure(options))?;
    if options.json { report.json(out) } else { report.table(out) }.map_err(BenchError::Print)?;
    Ok(report.problems.is_empty())
}

/// Measures until told to end: one that is interrupted leaves nothing behind either.
async fn measure(options: &BenchOptions) -> Result<Report, BenchError> {
    let stage = Stage::set(options).await?;
    let measured = tokio::select! {
        measured = measure_on(&stage, options) => measured,
        told = told_to_end() => Err(told.map_or_else(BenchError::Thread, |()| BenchError::Interrupted)),
    };
    let struck = stage.strike().await;
    let report = measured?;
    struck?;
    Ok(report)
}

/// Ctrl-C, SIGTERM, or the end of the terminal.
async fn told_to_end() -> io::Result<()> {
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

/// The gateway's turn, with a look at what bounds it before and after.
async fn measure_on(stage: &Stage, options: &BenchOptions) -> Result<Report, BenchError> {
    let workload = Workload::of(options, stage.topic_prefix());
    let database = Database::connect(&stage.database, 1).await?;
    let mut report = Report::of(options);
    report.database = schema::version(&database).await?;
    report.broker = stage.broker_name();
    let before = bounds::measure(options, stage, &workload, &database).await?;
    if options.stores() {
        store_run::run(options, stage, &workload, &database, &mut report).await?;
    } else {
        post_run::run(options, stage, &workload, &database, &mut report).await?;
    }
    // What is to be kept is not to be mixed with anything.
    let after = if options.keep {
        Bounds::default()
    } else {
        bounds::measure(options, stage, &workload, &database).await?
    };
    report.set_bounds(&before.mean(after));
    database.close().await?;
    Ok(report)
}
