//! `mqtt-gateway tail`: shows the outcomes of messages as they happen.

mod watch;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::json;
use url::Url;

use self::watch::{Told, WatchedGateway};
use super::gateway_url::{own_url, parse_gateway_url};
use super::output::{error_document, error_text, visible};
use super::{FAILURE, WRONG_SETTINGS, fatal};
use crate::control::{ControlError, EVENT_HEAD, event_line, missed_line};
use crate::domain::invisible::escape_in_json;
use crate::domain::message_event::{EventFilter, MessageOutcome};
use crate::domain::value_style::ValueStyle;
use crate::http::StreamedEvent;
use crate::observe::logging;
use crate::settings::{self, Settings};

/// Text below the options in `tail --help`.
pub(super) const HELP: &str = "\
Examples:
  mqtt-gateway tail
  mqtt-gateway tail TEMPERATURE --outcome dead --json
Each replica shows its own messages; repeat --url for several. Ctrl-C ends the command.
Exit codes: 0 standard output was closed, 1 no gateway answers or it refuses, 2 wrong settings or usage.";

/// Variable with a token. Without it the command makes a token for itself.
const TOKEN_VARIABLE: &str = "MQTT_GATEWAY_TOKEN";

/// Events that are received and not yet printed.
const MAX_UNPRINTED: usize = 256;

/// What to show.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct TailOptions {
    /// Code of a flow; without it, all flows, and dead letters that belong to none.
    code: Option<String>,
    /// Only messages that were stored, posted, repeated (their key was seen before), or are dead letters. May be
    /// repeated, and may be a list.
    #[arg(long, value_delimiter = ',', value_parser = outcome_parser())]
    outcome: Vec<MessageOutcome>,
    /// Address of a gateway, as `http://HOST:PORT` [default: from `ADMIN_BIND`]. May be repeated.
    #[arg(long, value_parser = parse_gateway_url)]
    url: Vec<Url>,
    /// File with a token of the API. Without it, and without `MQTT_GATEWAY_TOKEN`, the command makes a token that
    /// permits reading for a minute, which needs the database of the settings.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print one JSON document on each line, for programs.
    #[arg(long)]
    json: bool,
}

fn outcome_parser() -> impl TypedValueParser<Value = MessageOutcome> {
    PossibleValuesParser::new(MessageOutcome::ALL.map(MessageOutcome::as_str))
        .try_map(|name| MessageOutcome::from_name(&name).ok_or("unknown outcome"))
}

/// Shows messages until standard output is closed. Returns the exit code.
pub(super) fn run(options: TailOptions) -> i32 {
    let loaded = match settings::load() {
        Ok(loaded) => loaded,
        Err(error) => return fatal(error.log_format(), &error, WRONG_SETTINGS),
    };
    if let Err(error) = logging::init_stderr(loaded.settings.log_format, "warn") {
        return fatal(loaded.settings.log_format, &error, FAILURE);
    }
    super::warn(&loaded);
    let (json, style) = (options.json, loaded.settings.value_style);
    let told = match watch_all(options, &loaded.settings) {
        Ok(told) => told,
        Err(error) => return fail(&error, &mut io::stdout().lock(), json),
    };
    let line = |event: &StreamedEvent| if json { json_line(event) } else { text_line(event, style) };
    match print(&told, json, &line) {
        Ok(code) => code,
        // The reader of a pipe has left.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            log::error!("Cannot print: {error}");
            FAILURE
        }
    }
}

/// Prints what the watchers tell, until standard output is closed or a gateway cannot be followed. The head of the
/// lines goes to standard error, once there is a connection.
fn print(told: &Receiver<Told>, json: bool, line: &dyn Fn(&StreamedEvent) -> String) -> io::Result<i32> {
    let mut head = (!json).then_some(EVENT_HEAD);
    let mut out = BufWriter::new(io::stdout().lock());
    loop {
        let next = if let Ok(next) = told.try_recv() {
            next
        } else {
            out.flush()?;
            let Ok(next) = told.recv() else { return Ok(FAILURE) };
            next
        };
        match next {
            Told::Event(event) => writeln!(out, "{}", line(&event))?,
            Told::Notice(notice) => notify(&notice),
            Told::Connected(notice) => {
                notify(&notice);
                if let Some(head) = head.take() {
                    notify(head);
                }
            }
            Told::Failed(error) => {
                out.flush()?;
                return Ok(fail(&error, &mut out, json));
            }
        }
    }
}

/// Prints an error: for people to standard error, for programs as the last line.
fn fail(error: &ControlError, out: &mut dyn Write, json: bool) -> i32 {
    // A closed output does not change the exit code.
    let _ = if json {
        writeln!(out, "{}", error_document(error)).and_then(|()| out.flush())
    } else {
        io::stderr().lock().write_all(error_text(error).as_bytes())
    };
    FAILURE
}

/// Writes a line for people beside the events. A closed standard error changes nothing.
fn notify(notice: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", visible(notice));
}

fn text_line(event: &StreamedEvent, style: ValueStyle) -> String {
    match event {
        StreamedEvent::Message(event) => event_line(event, style),
        StreamedEvent::Missed(missed) => missed_line(*missed),
    }
}

fn json_line(event: &StreamedEvent) -> String {
    match event {
        // All names are texts, so this cannot fail.
        StreamedEvent::Message(event) => escape_in_json(serde_json::to_string(event).unwrap_or_default()),
        StreamedEvent::Missed(missed) => json!({"missed": missed}).to_string(),
    }
}

/// Starts a watcher for each gateway.
fn watch_all(options: TailOptions, settings: &Settings) -> Result<Receiver<Told>, ControlError> {
    let TailOptions { code, outcome, mut url, token_file, json: _ } = options;
    let token = given_token(token_file)?;
    if url.is_empty() {
        url.push(own_url(settings)?);
    }
    let filter = EventFilter { flow: code, outcomes: outcome };
    let (sender, told) = sync_channel(MAX_UNPRINTED);
    for url in url {
        let (token, filter, settings) = (token.clone(), filter.clone(), settings.clone());
        let watched = WatchedGateway { url, token, filter, settings };
        let sender = sender.clone();
        thread::spawn(move || watched.watch(&sender));
    }
    Ok(told)
}

/// The token of the file or of the variable.
fn given_token(file: Option<PathBuf>) -> Result<Option<String>, ControlError> {
    let Some(file) = file else {
        return Ok(std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.trim().is_empty()));
    };
    let text = std::fs::read_to_string(&file).map_err(|error| {
        let problem = format!("cannot read {}: {error}", file.display());
        ControlError::invalid(
            "--token-file",
            problem,
            "name a file with a token of `mqtt-gateway tokens add`",
        )
    })?;
    Ok(Some(text.trim().to_owned()))
}
