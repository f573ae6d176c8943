//! The `mqtt-gateway` command: a thin wrapper of the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    mqtt_gateway::cli::main()
}
