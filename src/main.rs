//! The `mqtt-gateway` command: a thin user of the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    mqtt_gateway::cli::main()
}
