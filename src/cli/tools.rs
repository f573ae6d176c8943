//! Commands for demonstration and measurement, which the gateway itself does not need.

use std::io;
use std::path::PathBuf;

use clap::Subcommand;

use super::bench;
use crate::bench::GATEWAY_COMMAND;
use crate::child_gateway;
use crate::demo::{self, DemoOptions};
use crate::domain::identity::Consent;
use crate::settings::LogFormat;

#[derive(Debug, PartialEq, Subcommand)]
pub(super) enum Tool {
    /// Measure the throughput and latency of the gateway with this database and this broker, and its limits.
    #[command(after_help = bench::HELP)]
    Bench(bench::BenchArguments),
    /// Run the gateway with an embedded broker, a database and simulated sensors.
    Demo {
        /// Directory of the database, the inbox and the log; created when missing.
        #[arg(long, value_name = "DIR", default_value = "demo-data")]
        dir: PathBuf,
        /// Port of the broker on 127.0.0.1, 0 for any free port [default: 1883 or the next free port]
        #[arg(long)]
        port: Option<u16>,
    },
    /// Gateway process of a demo, started by `demo`.
    #[command(hide = true, name = demo::COMMAND)]
    DemoGateway {
        /// Process id of the demo.
        #[arg(long)]
        parent: Option<u32>,
        /// Directory of the demo.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Gateway process of a measurement, started by `bench`.
    #[command(hide = true, name = GATEWAY_COMMAND)]
    BenchGateway {
        /// Process id of the measurement.
        #[arg(long)]
        parent: u32,
    },
    /// Subscriber process of a broker measurement, started by `bench`.
    #[command(hide = true)]
    BenchSubscriber,
}

impl Tool {
    /// Runs the command and returns its exit code.
    pub(super) fn run(self) -> i32 {
        match self {
            Self::Bench(arguments) => bench::run(arguments),
            Self::Demo { dir, port } => demo::run(&DemoOptions { dir, port }),
            Self::DemoGateway { dir, parent } => demo::run_gateway(&dir, parent),
            Self::BenchGateway { parent } => match child_gateway::end_with(parent) {
                Ok(()) => super::run(Consent::default()),
                Err(error) => super::fatal(LogFormat::Human, &error, super::FAILURE),
            },
            Self::BenchSubscriber => {
                crate::bench::subscriber::run(io::stdin().lock(), &mut io::stdout().lock())
            }
        }
    }
}
