//! Command-line options of `mqtt-gateway bench`.

use std::io;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::bench::{self, BenchOptions};
use crate::domain::flow::{FLOW_ACTION_POST_ENDPOINT, FLOW_ACTION_STORE_DB};
use crate::observe::logging;
use crate::settings::LogFormat;

/// Text below the options in `--help`.
pub(super) const HELP: &str = "Without --database and --broker it uses an SQLite file and an embedded broker. It reads \
    neither .env nor the environment, so that it cannot touch a gateway's database or broker by mistake.\n\
    Exit codes: 0 all was stored, 1 something is missing or failed, 2 wrong options.";

/// Options of `bench`.
#[derive(Debug, Clone, PartialEq, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct BenchArguments {
    /// Messages to publish.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    messages: u64,
    /// Flows that the messages are spread over, each with its own topic.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    flows: u64,
    /// Quality of service of publisher and gateway.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    qos: u8,
    /// Messages per second [default: as fast as the broker accepts them]
    #[arg(long, value_name = "MSGS_PER_S", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Action of the flows.
    #[arg(long, value_enum, default_value_t = ActionWord::Store)]
    action: ActionWord,
    /// Attributes per message, each of which is a row of `data`.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    attributes: u32,
    /// The database, as in `DATABASE_URL`; created first and dropped at the end [default: an SQLite file]
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Drop that database first if it exists.
    #[arg(long)]
    yes: bool,
    /// Keep the database at the end. The limits are measured before only.
    #[arg(long, requires = "database")]
    keep: bool,
    /// The broker: `mqtt://host:1883`, `mqtt://user:password@host:1883` [default: an embedded one]
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// A setting of the gateway; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Fill the inbox while the database is blocked, then measure how fast it drains.
    #[arg(long)]
    backlog: bool,
    /// Measure the idle gateway for this long afterwards.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle: Option<u64>,
    /// Do not measure the limits of database, broker and HTTP client without a gateway.
    #[arg(long)]
    no_limits: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Lowest `--rate`. A measurement ends after a minute without progress.
const MIN_RATE: f64 = 0.05;

/// Action of the flows, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ActionWord {
    /// `STORE_DB`.
    Store,
    /// `POST_ENDPOINT`, to a built-in endpoint that answers at once.
    Post,
}

/// Runs the measurement and prints its result. Returns the exit code.
pub(super) fn run(arguments: BenchArguments) -> i32 {
    // An error means that a logger is already installed, which serves as well.
    let _ = logging::init_stderr(LogFormat::Auto, "warn,mqtt_gateway=info,gateway=info,rumqttd=off");
    match bench::run(&options(arguments), &mut io::stdout().lock()) {
        Ok(true) => 0,
        Ok(false) => super::FAILURE,
        Err(error) => {
            log::error!("Measurement failed: {error}");
            if error.is_wrong_usage() { super::WRONG_SETTINGS } else { super::FAILURE }
        }
    }
}

fn options(arguments: BenchArguments) -> BenchOptions {
    BenchOptions {
        messages: arguments.messages,
        flows: arguments.flows,
        qos: arguments.qos,
        rate: arguments.rate,
        action: match arguments.action {
            ActionWord::Store => FLOW_ACTION_STORE_DB,
            ActionWord::Post => FLOW_ACTION_POST_ENDPOINT,
        },
        attributes: arguments.attributes,
        database: arguments.database.map(Into::into),
        may_replace: arguments.yes,
        keep: arguments.keep,
        broker: arguments.broker.map(Into::into),
        set: arguments.set,
        limits: !arguments.no_limits,
        backlog: arguments.backlog,
        idle: arguments.idle.map(Duration::from_secs),
        json: arguments.json,
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (MIN_RATE..=f64::MAX).contains(&rate) => Ok(rate),
        _ => Err(format!("expected a number from {MIN_RATE}")),
    }
}
