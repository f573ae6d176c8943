//! The commands around the gateway, which it does not need itself.

use std::io;
use std::path::PathBuf;

use clap::Subcommand;

use super::bench;
use crate::demo::{self, DemoOptions};

#[derive(Debug, PartialEq, Subcommand)]
pub(super) enum Tool {
    /// Measure what the gateway does with this database and this broker, and what bounds it.
    #[command(after_help = bench::HELP)]
    Bench(bench::BenchArguments),
    /// Run by itself, with a broker, a database and sensors of its own.
    Demo {
        /// Directory of the database, the inbox and the log; created when missing.
        #[arg(long, value_name = "DIR", default_value = "demo-data")]
        dir: PathBuf,
        /// Port of the broker on 127.0.0.1, 0 for any that is free [default: 1883 or the next free one]
        #[arg(long)]
        port: Option<u16>,
    },
    /// The other end of a measurement of the broker; started by it, and of no use by itself.
    #[command(hide = true)]
    BenchSubscriber,
}

impl Tool {
    /// Does it, and gives the exit code.
    pub(super) fn run(self) -> i32 {
        match self {
            Self::Bench(arguments) => bench::run(arguments),
            Self::Demo { dir, port } => demo::run(DemoOptions { dir, port }),
            Self::BenchSubscriber => {
                crate::bench::subscriber::run(io::stdin().lock(), &mut io::stdout().lock())
            }
        }
    }
}
