//! Logger of the process: filter, format, repeat limiter and writer thread.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Local, Utc};
use log::kv::Value;
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::error_file::{Appended, CLOSING, ErrorFile, ErrorLine, LocalClock};
use super::format::timestamp;
use super::length::TEXT_CHARS;
use super::limiter::Limiter;
use super::log_queue::{Item, LogEntry, LogQueue};
use super::repeats::Rule;
use super::{line, panics};
use crate::settings::{LogFormat, LogRepeats, Settings};

/// Default levels of verbose libraries. `RUST_LOG` can raise them.
const QUIET: [(&str, LevelFilter); 5] = [
    // sqlx warns about every broken connection; the gateway logs the important ones itself.
    ("sqlx", LevelFilter::Error),
    // Paho warns about every broken broker connection.
    ("paho_mqtt", LevelFilter::Error),
    ("sea_orm", LevelFilter::Warn),
    ("rumqttd", LevelFilter::Warn),
    ("tracing", LevelFilter::Warn),
];

/// Lowest level that is logged for the MQTT client library, regardless of `RUST_LOG`. Below it, the library prints
/// the connect options including the password.
const PASSWORD_LEAK: (&str, Level) = ("paho_mqtt", Level::Warn);

/// Its INFO lines are limited as warnings are. An endpoint that fails now and then causes one for each message.
const DELIVERY: &str = "mqtt_gateway::actors::delivery";

/// Interval at which due summaries of repeated records are written.
const REPEATS_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum time that a flush waits for the writer. An unread standard error must not block the shutdown.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Errors of the logger setup.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The directory of the error files cannot be written.
    #[error("the log directory {} cannot be written: {source}; create it, or set LOG_DIR to another one", dir.display())]
    LogDir {
        /// `LOG_DIR`.
        dir: PathBuf,
        /// Error of the file system.
        source: io::Error,
    },
    /// The writer thread could not be started.
    #[error("cannot start the log writer thread: {0}")]
    Thread(#[source] io::Error),
    /// The process already has a logger.
    #[error("logging is already initialised")]
    Twice(#[from] log::SetLoggerError),
}

/// Installs the logger: records go to standard error, and errors and panics also to the daily file in `LOG_DIR`.
///
/// A separate thread writes, so that logging never waits for a reader or a disk. Call `log::logger().flush()` before
/// the process ends. It writes the queued lines and the outstanding summaries, and waits for one second at most.
pub fn init(settings: &Settings) -> Result<(), LoggingError> {
    let errors = open_error_file(&settings.log_dir)?;
    let errors = match settings.log_dir_max_bytes {
        Some(max_bytes) => errors.within(max_bytes),
        None => errors,
    };
    install(Logger {
        lines: Lines::new(settings.log_format, &settings.log_filter),
        errors: Some(errors),
        limiter: limiter(settings.log_repeats),
        queue: Some(LogQueue::new()),
    })
}

/// Flushes the log and exits the process without any other cleanup.
pub(crate) fn end_process(exit_code: i32) -> ! {
    log::logger().flush();
    std::process::exit(exit_code)
}

/// Installs a logger for standard error alone, for commands that must run where `LOG_DIR` is not writable.
///
/// Lines are written synchronously and are never shortened, because an error may name every setting.
pub(crate) fn init_stderr(format: LogFormat, filter: &str) -> Result<(), LoggingError> {
    let lines = Lines { max_chars: usize::MAX, ..Lines::new(format, filter) };
    install(Logger { lines, errors: None, limiter: None, queue: None })
}

fn limiter(repeats: LogRepeats) -> Option<Limiter> {
    let window_ms = u64::try_from(repeats.window.as_millis()).unwrap_or(u64::MAX);
    (window_ms > 0).then(|| Limiter::new(Rule { window_ms, burst: repeats.burst }))
}

fn open_error_file(dir: &Path) -> Result<ErrorFile, LoggingError> {
    let clock: LocalClock = Box::new(|| Local::now().naive_local());
    ErrorFile::open(dir, clock).map_err(|source| LoggingError::LogDir { dir: dir.to_owned(), source })
}

fn install(logger: Logger) -> Result<(), LoggingError> {
    // The filter applies to standard error only; the error file gets all errors.
    let most = logger.lines.filter.filter().max(LevelFilter::Error);
    // The single logger lives as long as the process.
    let logger: &'static Logger = Box::leak(Box::new(logger));
    // The thread starts before the logger is set, because queued lines would stay unwritten if it failed.
    if let Some(queue) = &logger.queue {
        let writing = move || write_all(logger, queue);
        thread::Builder::new().name("log-writer".to_owned()).spawn(writing).map_err(LoggingError::Thread)?;
    }
    log::set_logger(logger)?;
    log::set_max_level(most);
    panics::install_hook(|| logger.wait_until_written());
    if logger.limiter.is_some() {
        start_repeats_thread(logger);
    }
    Ok(())
}

fn write_all(logger: &Logger, queue: &LogQueue) {
    loop {
        match queue.take() {
            Item::Entry(entry) => logger.write_out(&entry),
            Item::Gap { lines, has_errors, since } => logger.write_gap(lines, has_errors, since.into()),
        }
    }
}

/// Starts a thread that writes due summaries. A shared thread could be blocked by the fault that the lines report.
fn start_repeats_thread(logger: &'static Logger) {
    let write_due = move || loop {
        thread::sleep(REPEATS_INTERVAL);
        logger.write_summaries(Limiter::write_due);
    };
    // Without the thread, a summary is written by the next record with the same key, or at the end.
    if let Err(error) = thread::Builder::new().name("log-repeats".to_owned()).spawn(write_due) {
        log::warn!("Cannot start the thread log-repeats; summaries of repeated lines will be late: {error}");
    }
}

/// Filters and formats records for standard error.
struct Lines {
    /// Used for filtering only; this logger writes nothing.
    filter: env_logger::Logger,
    is_human: bool,
    /// Maximum characters of a text in a line.
    max_chars: usize,
}

impl Lines {
    fn new(format: LogFormat, filter: &str) -> Self {
        let is_human = match format {
            LogFormat::Human => true,
            LogFormat::Json => false,
            LogFormat::Auto => io::stderr().is_terminal(),
        };
        let mut builder = env_logger::Builder::new();
        builder.filter_level(LevelFilter::Info);
        for (library, level) in QUIET {
            builder.filter_module(library, level);
        }
        Self { filter: builder.parse_filters(filter).build(), is_human, max_chars: TEXT_CHARS }
    }

    /// Formats a line with its line break; `None` if the filter excludes the record.
    fn line(&self, record: &Record<'_>) -> Option<String> {
        self.filter.matches(record).then(|| self.text_of(record))
    }

    /// Formats a notice about other lines at any level, unless the filter excludes even errors of its target.
    fn notice_line(&self, record: &Record<'_>) -> Option<String> {
        let error = Metadata::builder().level(Level::Error).target(record.target()).build();
        self.filter.enabled(&error).then(|| self.text_of(record))
    }

    fn text_of(&self, record: &Record<'_>) -> String {
        let write = if self.is_human { line::human } else { line::json };
        let mut line = write(record, Utc::now(), self.max_chars);
        line.push('\n');
        line
    }

    /// Writes to standard error. A failure is ignored because no other output could report it.
    fn write(line: &str) {
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }
}

struct Logger {
    lines: Lines,
    errors: Option<ErrorFile>,
    /// None if every record is written.
    limiter: Option<Limiter>,
    /// None if the logging thread writes synchronously.
    queue: Option<LogQueue>,
}

impl Logger {
    fn write(&self, record: &Record<'_>) {
        let entry = LogEntry { stderr: self.lines.line(record), error: self.error_line(record) };
        if entry == LogEntry::default() {
            return;
        }
        match &self.queue {
            Some(queue) => queue.put(record.level(), entry),
            None => self.write_out(&entry),
        }
    }

    fn error_line(&self, record: &Record<'_>) -> Option<ErrorLine> {
        let errors = self.errors.as_ref().filter(|_| record.level() == Level::Error)?;
        Some(errors.line(record.level(), &line::message(record, TEXT_CHARS)))
    }

    fn write_out(&self, LogEntry { stderr, error }: &LogEntry) {
        if let Some(line) = stderr {
            Lines::write(line);
        }
        let (Some(errors), Some(line)) = (&self.errors, error) else { return };
        match errors.append(line) {
            Ok(Appended::Written | Appended::Skipped) => {}
            Ok(Appended::Full { max_bytes }) => self.write_full(max_bytes),
            Err(error) => {
                let args = format_args!("Cannot write the error file; continuing without it: {error}");
                let builder = &mut Record::builder();
                let record = builder.level(Level::Error).target(module_path!()).args(args).build();
                if let Some(line) = self.lines.line(&record) {
                    Lines::write(&line);
                }
            }
        }
    }

    /// Reports on standard error that the error files are full. The file itself ends with the same line.
    fn write_full(&self, max_bytes: u64) {
        let fields: [(&str, Value<'_>); 1] = [("max_bytes", max_bytes.into())];
        let args = format_args!("{CLOSING}");
        let builder = &mut Record::builder();
        let builder = builder.level(Level::Error).target(module_path!()).key_values(&fields);
        if let Some(line) = self.lines.line(&builder.args(args).build()) {
            Lines::write(&line);
        }
    }

    /// Reports dropped lines on standard error, and in the error file if it misses one of them.
    fn write_gap(&self, lines: u64, has_errors: bool, since: DateTime<Utc>) {
        let since = timestamp(since);
        let fields: [(&str, Value<'_>); 2] = [("dropped", lines.into()), ("since", since.as_str().into())];
        let args = format_args!(
            "Log lines were dropped here: {lines} since {since}; standard error was not read, or LOG_DIR did not answer"
        );
        let level = if has_errors { Level::Error } else { Level::Warn };
        let builder = &mut Record::builder();
        let builder = builder.level(level).target(module_path!()).key_values(&fields);
        let record = builder.args(args).build();
        self.write_out(&LogEntry {
            stderr: self.lines.notice_line(&record),
            error: self.error_line(&record),
        });
    }

    fn write_summaries(&self, what: impl Fn(&Limiter, &dyn Fn(&Record<'_>))) {
        if let Some(limiter) = &self.limiter {
            what(limiter, &|record| self.write(record));
        }
    }

    fn wait_until_written(&self) {
        if let Some(queue) = &self.queue {
            queue.flush(FLUSH_TIMEOUT);
        }
    }
}

impl Log for Logger {
    /// The MQTT client library reads the level once at its start, and then formats lines for every packet of an enabled
    /// level. Levels that are never logged must therefore be disabled.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !may_leak_password(metadata)
            && (metadata.level() == Level::Error || self.lines.filter.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if may_leak_password(record.metadata()) {
            return;
        }
        match &self.limiter {
            Some(limiter) if is_limited(record.metadata()) && self.enabled(record.metadata()) => {
                limiter.pass(record, &|record| self.write(record));
            }
            _ => self.write(record),
        }
    }

    /// Writes all outstanding summaries, and waits for the writer for one second at most.
    fn flush(&self) {
        self.write_summaries(Limiter::write_all);
        self.wait_until_written();
    }
}

/// Whether records of this kind can be as frequent as messages without the operator's wish.
fn is_limited(metadata: &Metadata<'_>) -> bool {
    let max_level = if metadata.target() == DELIVERY { Level::Info } else { Level::Warn };
    metadata.level() <= max_level
}

fn may_leak_password(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with(PASSWORD_LEAK.0) && metadata.level() > PASSWORD_LEAK.1
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;

    fn silent(filter: &str) -> Logger {
        Logger { lines: Lines::new(LogFormat::Json, filter), errors: None, limiter: None, queue: None }
    }

    fn error_lines(dir: &Path, filter: &str, level: Level) -> String {
        let noon = chrono::NaiveDate::from_ymd_opt(2026, 11, 22).unwrap().and_hms_opt(12, 0, 0).unwrap();
        let errors = ErrorFile::open(dir, Box::new(move || noon)).unwrap();
        let logger = Logger { errors: Some(errors), ..silent(filter) };
        let args = format_args!("Error reloading flows: gone");
        logger.log(&Record::builder().level(level).target("t").args(args).key_values(&("flow", 7)).build());
        std::fs::read_to_string(dir.join("2026-11-22.log")).unwrap_or_default()
    }

    #[test]
    fn error_file_ignores_the_filter() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(error_lines(dir.path(), "off", Level::Warn), "");
        assert_eq!(
            error_lines(dir.path(), "off", Level::Error),
            "2026-11-22 12:00:00 | ERROR | mqtt_gateway | Error reloading flows: gone\n"
        );
    }

    #[test]
    fn error_file_accounts_for_every_error() {
        let dir = tempfile::tempdir().unwrap();
        let noon = chrono::NaiveDate::from_ymd_opt(2026, 11, 22).unwrap().and_hms_opt(12, 0, 0).unwrap();
        let errors = ErrorFile::open(dir.path(), Box::new(move || noon)).unwrap();
        let limiter = limiter(LogRepeats { window: Duration::from_hours(1), burst: 2 });
        let logger = Logger { errors: Some(errors), limiter, ..silent("off") };
        for number in 1..=9 {
            let args = format_args!("Error reloading flows: {number}");
            logger.log(&Record::builder().level(Level::Error).target("t").args(args).build());
        }
        logger.flush();
        let text = std::fs::read_to_string(dir.path().join("2026-11-22.log")).unwrap();
        let begin = "2026-11-22 12:00:00 | ERROR | mqtt_gateway | Error reloading flows: ";
        let lines: Vec<&str> = text.lines().map(|line| line.strip_prefix(begin).unwrap()).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[..2], ["1", "2"]);
        assert!(lines[2].contains("(repeated 7 times in "), "{text}");
    }

    #[test]
    fn default_filter_quiets_libraries() {
        let enabled = |filter: &str, target: &str, level: Level| {
            silent(filter).lines.filter.enabled(&Metadata::builder().target(target).level(level).build())
        };
        assert!(enabled("info", "mqtt_gateway::app", Level::Info));
        assert!(!enabled("info", "mqtt_gateway::app", Level::Debug));
        assert!(!enabled("info", "sqlx::query", Level::Info));
        assert!(enabled("info,sqlx=debug", "sqlx::query", Level::Debug));
        assert!(enabled("debug", "mqtt_gateway::app", Level::Debug));
        assert!(!enabled("debug", "sqlx::query", Level::Debug));
    }

    #[test]
    fn only_filter_off_hides_gap_notices() {
        let is_written = |filter: &str| {
            let record = Record::builder().level(Level::Warn).target(module_path!()).build();
            silent(filter).lines.notice_line(&record).is_some()
        };
        assert!(is_written("info") && is_written("error"));
        assert!(!is_written("off"));
    }

    #[test]
    fn mqtt_library_never_traces() {
        let logger = silent("trace,paho_mqtt=trace");
        let enabled = |level| logger.enabled(&Metadata::builder().target("paho_mqtt_c").level(level).build());
        assert!(enabled(Level::Warn));
        assert!(!enabled(Level::Info));
    }

    #[test]
    fn unwritable_log_directory_error_names_remedy() {
        let error = open_error_file(Path::new("/proc/none")).err().unwrap().to_string();
        assert!(error.starts_with("the log directory /proc/none cannot be written: "), "{error}");
        assert!(error.ends_with("set LOG_DIR to another one"), "{error}");
    }
}
