//! A gateway as a process of its own, for demos and measurements. It ends with the process that started it.

use std::os::unix::process::CommandExt;
use std::process::{self, Command};
use std::{env, io};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// The process of this program that runs a hidden command with the option `--parent`. The thread that spawns it has to
/// live as long as the gateway.
pub(crate) fn command(name: &str) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args([name, "--parent", &process::id().to_string()]);
    // A separate process group, because only the parent handles the signals of the terminal.
    command.process_group(0);
    Ok(command)
}

/// Lets this process end by SIGTERM when its parent ends, even if that is killed.
pub(crate) fn end_with(parent: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // A parent that has ended before sends no signal.
    let is_there = getppid().is_some_and(|found| u32::try_from(found.as_raw_nonzero().get()) == Ok(parent));
    if is_there { Ok(()) } else { Err(io::Error::other("the process that started this gateway has ended")) }
}
