//! Runs the commands for operators: they need the settings and the database, and no running gateway.

use nix::unistd::{Uid, User};

use super::output::{CommandReport, OutputOptions, print_error};
use super::{FAILURE, WRONG_SETTINGS, fatal};
use crate::control::{Control, ControlError};
use crate::domain::edit_history::EditOrigin;
use crate::observe::logging;
use crate::settings::{self, LogFormat};

/// Connects to the database, runs the command and prints its report. Returns the exit code. The log goes to standard
/// error only, and has warnings only.
pub(super) fn run(
    options: OutputOptions,
    command: impl AsyncFnOnce(&Control) -> Result<CommandReport, ControlError>,
) -> i32 {
    run_coded(options, async |control| command(control).await.map(with_code))
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
    let format = loaded.settings.log_format;
    finish(options, format, async {
        let control = Control::connect(loaded.settings, origin()).await?;
        command(&control).await
    })
}

/// Runs a command that needs neither settings nor a database, and prints its report. Returns the exit code.
pub(super) fn run_without_settings(
    options: OutputOptions,
    command: impl Future<Output = Result<CommandReport, ControlError>>,
) -> i32 {
    if let Err(error) = logging::init_stderr(LogFormat::Human, "warn") {
        return fatal(LogFormat::Human, &error, FAILURE);
    }
    finish(options, LogFormat::Human, async { command.await.map(with_code) })
}

fn with_code(report: CommandReport) -> (CommandReport, i32) {
    let code = if report.ok { 0 } else { FAILURE };
    (report, code)
}

fn finish(
    options: OutputOptions,
    format: LogFormat,
    command: impl Future<Output = Result<(CommandReport, i32), ControlError>>,
) -> i32 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fatal(format, &error, FAILURE),
    };
    // A closed standard output does not make the command fail: its work is done.
    match runtime.block_on(command) {
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
