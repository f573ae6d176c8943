//! The log of the process.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use chrono::{Local, Utc};
use env_logger::Target;
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::error_file::{ErrorFile, LocalClock};
use super::limiter::Limiter;
use super::repeats::Rule;
use super::{line, panics};
use crate::settings::{LogFormat, LogRepeats, Settings};

/// Libraries that say more than their users want to know; `RUST_LOG` can ask for it.
const QUIET: [(&str, LevelFilter); 5] = [
    // Warns of every connection that breaks; what that means for us is said where it matters.
    ("sqlx", LevelFilter::Error),
    // The same of the broker's connection.
    ("paho_mqtt", LevelFilter::Error),
    ("sea_orm", LevelFilter::Warn),
    ("rumqttd", LevelFilter::Warn),
    ("tracing", LevelFilter::Warn),
];

/// The MQTT client library prints the connect options, password included, below this level; so
/// nothing below it is logged, whatever `RUST_LOG` asks for.
const TELLTALE: (&str, Level) = ("paho_mqtt", Level::Warn);

/// How often it is looked for repetitions that are to be told.
const LOOK: Duration = Duration::from_secs(1);

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The directory of the error files cannot be written.
    #[error("the log directory {} cannot be written: {source}; create it, or set LOG_DIR to another one", dir.display())]
    LogDir {
        /// `LOG_DIR`.
        dir: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The process has a logger already.
    #[error("logging was begun twice")]
    Twice(#[from] log::SetLoggerError),
}

/// Begins logging: to standard error, and what is ERROR to the daily file in `LOG_DIR`, panics
/// included. What is repeated many times is counted, and told by `log::logger().flush()` at the latest.
pub fn init(settings: &Settings) -> Result<(), LoggingError> {
    let errors = open_error_file(&settings.log_dir)?;
    let limiter = limiter(settings.log_repeats);
    install(settings.log_format, &settings.log_filter, Some(errors), limiter)
}

/// Begins logging to standard error alone, for commands that must run where `LOG_DIR` cannot be
/// written.
pub(crate) fn init_stderr(format: LogFormat, filter: &str) -> Result<(), LoggingError> {
    install(format, filter, None, None)
}

fn limiter(repeats: LogRepeats) -> Option<Limiter> {
    let window_ms = u64::try_from(repeats.window.as_millis()).unwrap_or(u64::MAX);
    (window_ms > 0).then(|| Limiter::new(Rule { window_ms, burst: repeats.burst }))
}

fn open_error_file(dir: &Path) -> Result<ErrorFile, LoggingError> {
    let clock: LocalClock = Box::new(|| Local::now().naive_local());
    ErrorFile::open(dir, clock).map_err(|source| LoggingError::LogDir { dir: dir.to_owned(), source })
}

fn install(
    format: LogFormat,
    filter: &str,
    errors: Option<ErrorFile>,
    limiter: Option<Limiter>,
) -> Result<(), LoggingError> {
    let is_human = match format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => io::stderr().is_terminal(),
    };
    let stderr = stderr_logger(is_human, filter);
    // Whatever the filter leaves out of standard error, the error file gets its errors.
    log::set_max_level(stderr.filter().max(LevelFilter::Error));
    let counts = limiter.is_some();
    // There is one, for as long as the process lives.
    let logger: &'static Logger = Box::leak(Box::new(Logger { stderr, errors, limiter }));
    log::set_logger(logger)?;
    panics::log_them();
    if counts {
        look_for_repetitions(logger);
    }
    Ok(())
}

/// On a thread of its own: whoever else could look may be what the repeated lines are about.
fn look_for_repetitions(logger: &'static Logger) {
    let looking = move || loop {
        thread::sleep(LOOK);
        logger.tell_repetitions(Limiter::look);
    };
    // Without it, repetitions are told by the next of their kind, or at the end.
    if let Err(error) = thread::Builder::new().name("log-repeats".to_owned()).spawn(looking) {
        log::warn!("No thread for the log: repetitions are told late: {error}");
    }
}

fn stderr_logger(is_human: bool, filter: &str) -> env_logger::Logger {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Info);
    for (library, level) in QUIET {
        builder.filter_module(library, level);
    }
    builder.parse_filters(filter).target(Target::Stderr);
    builder.format(move |out, record| {
        let line = if is_human { line::human(record, Utc::now()) } else { line::json(record, Utc::now()) };
        writeln!(out, "{line}")
    });
    builder.build()
}

struct Logger {
    stderr: env_logger::Logger,
    errors: Option<ErrorFile>,
    /// None if every record is to be written.
    limiter: Option<Limiter>,
}

impl Logger {
    fn write(&self, record: &Record<'_>) {
        self.stderr.log(record);
        if record.level() == Level::Error {
            self.append_error(record);
        }
    }

    fn tell_repetitions(&self, what: impl Fn(&Limiter, &dyn Fn(&Record<'_>))) {
        if let Some(limiter) = &self.limiter {
            what(limiter, &|record| self.write(record));
        }
    }

    fn append_error(&self, record: &Record<'_>) {
        let Some(errors) = &self.errors else { return };
        if let Err(error) = errors.append(record.level(), &record.args().to_string()) {
            self.stderr.log(
                &Record::builder()
                    .level(Level::Error)
                    .target(module_path!())
                    .args(format_args!("the error file cannot be written, going on without it: {error}"))
                    .build(),
            );
        }
    }
}

impl Log for Logger {
    /// The MQTT client library asks once, when it starts, and then formats a line or more for every packet
    /// of a level that is enabled: what is not logged must not be enabled either.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        !is_telltale(metadata) && (metadata.level() == Level::Error || self.stderr.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if is_telltale(record.metadata()) {
            return;
        }
        match &self.limiter {
            Some(limiter) if record.level() <= Level::Warn && self.enabled(record.metadata()) => {
                limiter.pass(record, &|record| self.write(record));
            }
            _ => self.write(record),
        }
    }

    /// Tells what was counted and not written so far.
    fn flush(&self) {
        self.tell_repetitions(Limiter::end);
        self.stderr.flush();
    }
}

fn is_telltale(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with(TELLTALE.0) && metadata.level() > TELLTALE.1
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;

    fn error_lines(dir: &Path, filter: &str, level: Level) -> String {
        let noon = chrono::NaiveDate::from_ymd_opt(2026, 11, 22).unwrap().and_hms_opt(12, 0, 0).unwrap();
        let errors = ErrorFile::open(dir, Box::new(move || noon)).unwrap();
        let logger = Logger { stderr: stderr_logger(false, filter), errors: Some(errors), limiter: None };
        let args = format_args!("Error reloading flows: gone");
        logger.log(&Record::builder().level(level).target("t").args(args).key_values(&("flow", 7)).build());
        std::fs::read_to_string(dir.join("2026-11-22.log")).unwrap_or_default()
    }

    #[test]
    fn the_error_file_gets_every_error_whatever_the_filter_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(error_lines(dir.path(), "off", Level::Warn), "");
        assert_eq!(
            error_lines(dir.path(), "off", Level::Error),
            "2026-11-22 12:00:00 | ERROR | mqtt_gateway | Error reloading flows: gone\n"
        );
    }

    #[test]
    fn the_error_file_tells_of_every_error_once_or_in_a_sum() {
        let dir = tempfile::tempdir().unwrap();
        let noon = chrono::NaiveDate::from_ymd_opt(2026, 11, 22).unwrap().and_hms_opt(12, 0, 0).unwrap();
        let errors = ErrorFile::open(dir.path(), Box::new(move || noon)).unwrap();
        let limiter = limiter(LogRepeats { window: Duration::from_hours(1), burst: 2 });
        let logger = Logger { stderr: stderr_logger(false, "off"), errors: Some(errors), limiter };
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
    fn the_default_filter_is_info_with_quiet_libraries_and_the_setting_can_ask_for_more() {
        let enabled = |filter: &str, target: &str, level: Level| {
            stderr_logger(false, filter).enabled(&Metadata::builder().target(target).level(level).build())
        };
        assert!(enabled("info", "mqtt_gateway::app", Level::Info));
        assert!(!enabled("info", "mqtt_gateway::app", Level::Debug));
        assert!(!enabled("info", "sqlx::query", Level::Info));
        assert!(enabled("info,sqlx=debug", "sqlx::query", Level::Debug));
        assert!(enabled("debug", "mqtt_gateway::app", Level::Debug));
        assert!(!enabled("debug", "sqlx::query", Level::Debug));
    }

    #[test]
    fn the_mqtt_client_library_is_not_asked_to_trace_whatever_the_filter() {
        let stderr = stderr_logger(false, "trace,paho_mqtt=trace");
        let logger = Logger { stderr, errors: None, limiter: None };
        let enabled = |level| logger.enabled(&Metadata::builder().target("paho_mqtt_c").level(level).build());
        assert!(enabled(Level::Warn));
        assert!(!enabled(Level::Info));
    }

    #[test]
    fn a_log_directory_that_cannot_be_written_is_told_with_its_remedy() {
        let error = open_error_file(Path::new("/proc/none")).err().unwrap().to_string();
        assert!(error.starts_with("the log directory /proc/none cannot be written: "), "{error}");
        assert!(error.ends_with("set LOG_DIR to another one"), "{error}");
    }
}
