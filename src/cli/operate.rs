//! Runs the commands for operators: they need the settings and the database, and no running gateway.

use nix::unistd::{Uid, User};

use super::output::{CommandReport, OutputOptions, print_error};
use super::{FAILURE, WRONG_SETTINGS, fatal};
use crate::control::{Control, ControlError};
use crate::domain::edit_history::EditOrigin;
use crate::observe::logging;
use crate::settings;

/// Connects to the database, runs the command and prints its report. Returns the exit code. The log goes to standard
/// error only, and has warnings only.
pub(super) fn run(
    options: OutputOptions,
    command: impl AsyncFnOnce(&Control) -> Result<CommandReport, ControlError>,
) -> i32 {
    run_coded(options, async |control| {
        let report = command(control).await?;
        let code = if report.ok { 0 } else { FAILURE };
        Ok((report, code))
    })
}

/// The same for a command with an exit code of its own.
pub(super) fn run_coded(
    options: OutputOptions,
    command: impl AsyncFnOnce(&Control) -> Result<(CommandReport, i32), ControlError>,
) -> i32 {
    let loaded = match settings::load() {
        Ok(loaded) => loaded,
        Err(error) => return fatal(error.log_format(), &error, WRONG_SETTINGS),
    };
    if let Err(error) = logging::init_stderr(loaded.settings.log_format, "warn") {
        return fatal(loaded.settings.log_format, &error, FAILURE);
    }
    super::warn(&loaded);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fatal(loaded.settings.log_format, &error, FAILURE),
    };
    let outcome = runtime.block_on(async {
        let control = Control::connect(loaded.settings, origin()).await?;
        command(&control).await
    });
    // A closed standard output does not make the command fail: its work is done.
    match outcome {
        Ok((report, code)) => {
            let _ = report.print(options);
            code
        }
        Err(error) => {
            let _ = print_error(&error, options);
            FAILURE
        }
    }
}

/// The user of the operating system who runs the command.
pub(super) fn origin() -> EditOrigin {
    let id = Uid::current();
    let user = User::from_uid(id).ok().flatten();
    EditOrigin::Command(user.map_or_else(|| format!("user {id}"), |user| user.name))
}
