//! Completions for shells and man pages, for packages.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Command as Syntax, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;

/// What is generated.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(super) enum Generated {
    /// Print the completions for a shell.
    Completions {
        /// Name of the shell.
        shell: Shell,
    },
    /// Write a man page for each command.
    Man {
        /// Directory of the pages; created when missing.
        dir: PathBuf,
    },
}

/// Generates the files for the commands of `syntax`. Returns the exit code.
pub(super) fn run(generated: &Generated, mut syntax: Syntax) -> i32 {
    let outcome = match generated {
        Generated::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut syntax, "mqtt-gateway", &mut text);
            io::stdout().lock().write_all(&text)
        }
        Generated::Man { dir } => man_pages(dir, syntax),
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            // Standard error that is closed as well leaves only the exit code.
            let _ = writeln!(io::stderr().lock(), "error: cannot write: {error}");
            super::FAILURE
        }
    }
}

fn man_pages(dir: &PathBuf, mut syntax: Syntax) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    syntax.build();
    page(dir, "mqtt-gateway", &syntax)
}

/// Writes the page of a command, and the pages of the commands below it.
fn page(dir: &PathBuf, name: &str, syntax: &Syntax) -> io::Result<()> {
    let mut text = Vec::new();
    Man::new(syntax.clone()).render(&mut text)?;
    std::fs::write(dir.join(format!("{name}.1")), text)?;
    let shown =
        syntax.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    shown.into_iter().try_for_each(|command| page(dir, &format!("{name}-{}", command.get_name()), command))
}
