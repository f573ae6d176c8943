//! The command line: parses the arguments, loads settings and log, and runs the command.

mod ask;
mod audit;
mod audit_report;
#[cfg(feature = "tools")]
mod bench;
mod check;
mod check_flows;
mod check_identity;
mod check_probes;
mod dead_letters;
mod deliveries;
mod explain;
mod flows;
mod gateway_url;
mod generate;
mod history;
mod input;
mod migrate;
mod operate;
mod output;
mod progress;
mod retire;
mod servers;
mod status;
mod tail;
mod tokens;
#[cfg(feature = "tools")]
mod tools;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::domain::flow_options::FlowOptions;
use crate::domain::identity::{Consent, DatabaseChange};
use crate::observe::logging;
use crate::settings::{self, Loaded, LogFormat, Settings, SettingsError};
use crate::{app, files};

/// Exit code of every failure without a code of its own.
const FAILURE: i32 = 1;
/// Exit code of a comparison that finds a difference.
const DIFFERENT: i32 = 2;
/// Exit code for a missing or malformed setting.
const WRONG_SETTINGS: i32 = 2;

/// An actor-based MQTT message router: every message of a flow is numbered, and stored exactly once or posted at least
/// once.
#[derive(Debug, Parser)]
#[command(
    name = "mqtt-gateway",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Exit codes: 0 success, 1 failure, 2 wrong settings or usage, 3 a part failed for good.\n\
                  Settings: docs/SETTINGS.md; `mqtt-gateway check` shows those that count."
)]
struct CommandLine {
    #[command(flatten)]
    run: RunOptions,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Consent of the operator to a changed database or inbox, for one start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Args)]
struct RunOptions {
    /// Accept a different database: continue at the position of the inbox, and store nothing twice.
    #[arg(long)]
    adopt_database: bool,
    /// Process all messages in the inbox that the database may lack: after a change of the database, or if a copy of
    /// the inbox was used meanwhile.
    #[arg(long, conflicts_with = "adopt_database")]
    replay: bool,
    /// Replace the lost inbox of this client id with this one.
    #[arg(long)]
    new_inbox: bool,
}

impl RunOptions {
    fn consent(self) -> Consent {
        let database = match (self.adopt_database, self.replay) {
            (true, _) => Some(DatabaseChange::Adopt),
            (false, true) => Some(DatabaseChange::Replay),
            (false, false) => None,
        };
        Consent { database, new_inbox: self.new_inbox }
    }
}

#[derive(Debug, PartialEq, Subcommand)]
enum Command {
    /// Run the gateway (also without a command).
    Run(RunOptions),
    /// Show the settings and check database, schema, broker, log and inbox.
    Check,
    /// Create missing tables and columns, then exit.
    Migrate {
        /// Also widen the ids of old tables to 64 bits. Large tables are locked for minutes.
        #[arg(long)]
        widen_ids: bool,
    },
    /// List, show, check and edit flows, without SQL.
    Flows(flows::FlowsCommand),
    /// List, show, test and edit the brokers, without SQL.
    Servers(servers::ServersCommand),
    /// Show who changed what in flows and brokers, the newest edit first.
    #[command(after_help = output::EXIT_CODES)]
    History(history::HistoryOptions),
    /// Say what becomes of a message: which flows get it, and what they do with it.
    #[command(after_help = explain::HELP)]
    Explain(explain::ExplainOptions),
    /// Publish a message to the first broker, and wait for its acknowledgement.
    #[command(after_help = output::EXIT_CODES)]
    Publish(explain::PublishOptions),
    /// Print completions for shells, or write man pages.
    #[command(subcommand, hide = true)]
    Generate(generate::Generated),
    /// Show what becomes of messages while it happens: stored, posted, or dead letters.
    #[command(after_help = tail::HELP)]
    Tail(tail::TailOptions),
    /// List, replay and discard messages that could not be processed, without SQL.
    DeadLetters(dead_letters::LettersCommand),
    /// List, retry and cancel posts that wait for their endpoint, without SQL.
    Deliveries(deliveries::DeliveriesCommand),
    /// Show whether the gateway works, and what is in its way.
    #[command(after_help = status::HELP)]
    Status(status::StatusOptions),
    /// List, add and revoke tokens of the API.
    Tokens(tokens::TokensCommand),
    /// Print the JSON Schema of the options of flows, for editors.
    Schema {
        /// That of YAML files of flows instead.
        #[arg(long)]
        file: bool,
    },
    /// Report contradictions between database and inbox: ids, counters, outbox, dead letters, log.
    #[command(after_help = audit::HELP)]
    Audit(audit::AuditOptions),
    /// Move the remaining messages of a retired replica into the database, from its inbox and from the broker.
    #[command(after_help = retire::HELP)]
    Retire(retire::RetireOptions),
    #[cfg(feature = "tools")]
    #[command(flatten)]
    Tool(tools::Tool),
}

/// Runs the command that the command line names and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    // The umask belongs to the process, so it is set before other threads start.
    files::make_new_files_private();
    let code = match line.command.unwrap_or(Command::Run(line.run)) {
        Command::Run(options) => run(options.consent()),
        Command::Check => check_settings(),
        Command::Migrate { widen_ids } => without_log_dir(|loaded, _| {
            warn(loaded);
            migrate::run(&loaded.settings, widen_ids).map(|()| true)
        }),
        Command::Flows(command) => flows::run(command),
        Command::Servers(command) => servers::run(command),
        Command::History(options) => history::run(options),
        Command::Explain(options) => explain::run_explain(options),
        Command::Publish(options) => explain::run_publish(options),
        Command::Tail(options) => tail::run(options),
        Command::Generate(generated) => generate::run(&generated, CommandLine::command()),
        Command::DeadLetters(command) => dead_letters::run(command),
        Command::Deliveries(command) => deliveries::run(command),
        Command::Status(options) => status::run(options),
        Command::Tokens(command) => tokens::run(command),
        Command::Schema { file: false } => print_schema(),
        Command::Schema { file: true } => flows::print_file_schema(),
        Command::Retire(options) => {
            with_loaded(settings::load_for_retiring(), |settings| retire::run(&settings, options))
        }
        Command::Audit(options) => audit_tables(&options),
        #[cfg(feature = "tools")]
        Command::Tool(tool) => tool.run(),
    };
    // Write the counts of suppressed log lines before the process ends.
    log::logger().flush();
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn run(consent: Consent) -> i32 {
    with_loaded(settings::load(), |settings| app::run_with(settings, consent))
}

/// Opens the log before `command` runs. Returns its exit code.
fn with_loaded(loaded: Result<Loaded, SettingsError>, command: impl FnOnce(Settings) -> i32) -> i32 {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return fatal(error.log_format(), &error, WRONG_SETTINGS),
    };
    if let Err(error) = logging::init(&loaded.settings) {
        return fatal(loaded.settings.log_format, &error, FAILURE);
    }
    warn(&loaded);
    command(loaded.settings)
}

/// Runs a command and returns its exit code. Its log goes to standard error only: `check` checks the log directory
/// itself, `audit` leaves the log files of the gateway untouched, and another user may run `migrate`.
fn without_log_dir(command: impl FnOnce(&Loaded, &mut dyn Write) -> Result<bool, String>) -> i32 {
    let loaded = match settings::load() {
        Ok(loaded) => loaded,
        Err(error) => return fatal(error.log_format(), &error, WRONG_SETTINGS),
    };
    if let Err(error) = logging::init_stderr(loaded.settings.log_format, &loaded.settings.log_filter) {
        return fatal(loaded.settings.log_format, &error, FAILURE);
    }
    match command(&loaded, &mut io::stdout().lock()) {
        Ok(true) => 0,
        Ok(false) => FAILURE,
        Err(error) => {
            log::error!("{error}");
            FAILURE
        }
    }
}

fn check_settings() -> i32 {
    without_log_dir(|loaded, out| {
        warn(loaded);
        check::run(loaded, out).map_err(|error| format!("Cannot print the findings: {error}"))
    })
}

fn audit_tables(options: &audit::AuditOptions) -> i32 {
    without_log_dir(|loaded, out| {
        audit::run(&loaded.settings, options, out).map_err(|error| format!("Audit failed: {error}"))
    })
}

fn print_schema() -> i32 {
    let written = writeln!(io::stdout().lock(), "{:#}", FlowOptions::schema().as_value());
    if written.is_ok() { 0 } else { FAILURE }
}

fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        log::warn!("{warning}");
    }
}

/// Logs an error that prevents the start, before the log is open. Returns `code`.
fn fatal(format: LogFormat, error: &dyn std::error::Error, code: i32) -> i32 {
    // An error means that a logger is already installed, which takes the record.
    let _ = logging::init_stderr(format, "info");
    log::error!("Fatal error during startup: {error}");
    code
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;

    fn command(arguments: &[&str]) -> Option<Command> {
        let arguments = std::iter::once(&"mqtt-gateway").chain(arguments);
        let line = CommandLine::try_parse_from(arguments).ok()?;
        Some(line.command.unwrap_or(Command::Run(line.run)))
    }

    #[test]
    fn command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn run_is_the_default_command() {
        assert_eq!(command(&[]), Some(Command::Run(RunOptions::default())));
        assert_eq!(command(&["run"]), Some(Command::Run(RunOptions::default())));
        let replay = RunOptions { replay: true, ..RunOptions::default() };
        assert_eq!(command(&["--replay"]), Some(Command::Run(replay)));
        assert_eq!(command(&["run", "--replay"]), Some(Command::Run(replay)));
        assert_eq!(command(&["--replay", "--adopt-database"]), None);
    }

    #[test]
    fn commands_are_parsed() {
        assert_eq!(command(&["check"]), Some(Command::Check));
        assert_eq!(command(&["migrate"]), Some(Command::Migrate { widen_ids: false }));
        assert_eq!(command(&["migrate", "--widen-ids"]), Some(Command::Migrate { widen_ids: true }));
        let (json, flow) = (true, Some("T".to_owned()));
        let options = audit::AuditOptions { json, flow };
        assert_eq!(command(&["audit", "--json", "--flow", "T"]), Some(Command::Audit(options)));
        assert_eq!(command(&["walk"]), None);
    }

    #[cfg(feature = "tools")]
    #[test]
    fn demo_options_are_parsed() {
        let demo = |dir: &str, port| Some(Command::Tool(tools::Tool::Demo { dir: dir.into(), port }));
        assert_eq!(command(&["demo"]), demo("demo-data", None));
        assert_eq!(command(&["demo", "--dir", "here", "--port", "0"]), demo("here", Some(0)));
    }

    #[cfg(not(feature = "tools"))]
    #[test]
    fn builds_without_tools_reject_their_commands() {
        assert_eq!(command(&["demo"]), None);
        assert_eq!(command(&["bench"]), None);
    }
}
