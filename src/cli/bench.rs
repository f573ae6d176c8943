//! The words of `mqtt-gateway bench`.

use std::io;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::bench::{self, BenchOptions};
use crate::domain::flow::{FLOW_ACTION_POST_ENDPOINT, FLOW_ACTION_STORE_DB};
use crate::observe::logging;
use crate::settings::LogFormat;

/// What `--help` adds.
pub(super) const HELP: &str = "Without --database and --broker it uses parts of its own. It reads neither .env nor the \
    environment, so that no gateway's database or broker is touched by mistake.\n\
    Exit codes: 0 all was stored, 1 something is missing or failed.";

/// What is measured, with what.
#[derive(Debug, Clone, PartialEq, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct BenchArguments {
    /// Messages to publish.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    messages: u64,
    /// Flows that they are spread over, each with a topic of its own.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    flows: u64,
    /// Quality of service of publisher and gateway.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    qos: u8,
    /// Messages a second [default: as fast as they are taken]
    #[arg(long, value_name = "MSGS_PER_S", value_parser = positive)]
    rate: Option<f64>,
    /// What the flows do.
    #[arg(long, value_enum, default_value_t = ActionWord::Store)]
    action: ActionWord,
    /// Attributes of a message, and so rows of `data`.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    attributes: u32,
    /// The database, as in `DATABASE_URL`; it is made, and dropped at the end [default: an SQLite file]
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Drop that database first if it exists.
    #[arg(long)]
    yes: bool,
    /// Leave the database behind at the end.
    #[arg(long)]
    keep: bool,
    /// The broker: `mqtt://host:1883`, `mqtt://user:password@host:1883` [default: an embedded one]
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// A setting of the gateway; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Let the messages pile up in the inbox while the database is held up, and measure how they drain.
    #[arg(long)]
    backlog: bool,
    /// Watch the gateway for so long afterwards, when there is nothing to do.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle: Option<u64>,
    /// Do not measure what database, broker and HTTP client do without a gateway.
    #[arg(long)]
    no_limits: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What the flows do, as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ActionWord {
    /// `STORE_DB`.
    Store,
    /// `POST_ENDPOINT`, to a built-in endpoint that answers at once.
    Post,
}

/// Measures and prints. Gives the exit code.
pub(super) fn run(arguments: BenchArguments) -> i32 {
    // That there is a logger already would be as well.
    let _ = logging::init_stderr(LogFormat::Auto, "warn,mqtt_gateway=info,gateway=info,rumqttd=off");
    match bench::run(&options(arguments), &mut io::stdout().lock()) {
        Ok(true) => 0,
        Ok(false) => super::FAILURE,
        Err(error) => {
            log::error!("There is no measurement: {error}");
            super::FAILURE
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

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("expected a number above 0".to_owned()),
    }
}
