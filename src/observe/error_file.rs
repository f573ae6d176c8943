//! `LOG_DIR/YYYY-MM-DD.log`: what is ERROR and above, a file for each local day.

mod retention;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chrono::{NaiveDate, NaiveDateTime};

use super::line;
use crate::files;
pub(super) use retention::CLOSING;
use retention::Retention;

/// Tells the local date and time.
pub(super) type LocalClock = Box<dyn Fn() -> NaiveDateTime + Send + Sync>;

/// A record as the error file has it, and when it was logged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ErrorLine {
    at: NaiveDateTime,
    /// With the line break.
    pub(super) text: String,
}

/// The error files of a directory. Records of several threads come one after the other.
pub(super) struct ErrorFile {
    dir: PathBuf,
    clock: LocalClock,
    state: Mutex<State>,
}

/// What became of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Appended {
    /// It is in the file.
    Written,
    /// There is no room for it, which was said before.
    Skipped,
    /// There is no room for it, which is to be said: the files have reached this size.
    Full {
        /// `LOG_DIR_MAX_BYTES`.
        max_bytes: u64,
    },
}

#[derive(Default)]
struct State {
    open: Option<(NaiveDate, File)>,
    /// None if the files may grow without bound.
    retention: Option<Retention>,
    /// The directory has refused a record since it last took one.
    failing: bool,
}

impl ErrorFile {
    /// Creates the directory if it is missing, and makes sure that it can be written. A disk that is
    /// full now is none of its faults: the gateway has to start all the same, to work off what it holds.
    pub(super) fn open(dir: &Path, clock: LocalClock) -> io::Result<Self> {
        match prepare(dir, &path_of(dir, clock().date())) {
            Err(error) if !is_full(&error) => Err(error),
            _ => Ok(Self { dir: dir.to_owned(), clock, state: Mutex::default() }),
        }
    }

    /// From now on the files take no more than that together. What is too much already is deleted.
    pub(super) fn within(self, max_bytes: u64) -> Self {
        let mut retention = Retention::new(&self.dir, max_bytes);
        // What cannot be deleted now is tried again, and told, when there is something to be written.
        let _ = retention.delete_excess((self.clock)().date());
        let state = State { retention: Some(retention), ..State::default() };
        Self { state: Mutex::new(state), ..self }
    }

    /// A record that is logged now; it may be written later.
    pub(super) fn line(&self, level: log::Level, message: &str) -> ErrorLine {
        let at = (self.clock)();
        let mut text = line::error_file(level, message, at);
        text.push('\n');
        ErrorLine { at, text }
    }

    /// Appends a record, if there is room for it. An error comes back only for the first of several that fail in a row:
    /// the gateway goes on without the file, and says so once.
    pub(super) fn append(&self, line: &ErrorLine) -> io::Result<Appended> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.write(&mut state, line) {
            Ok(appended) => {
                // What is left out is no sign that the directory is well.
                state.failing &= appended == Appended::Skipped;
                Ok(appended)
            }
            Err(error) => {
                // Opened again for the next record: the disk may be another one by then.
                state.open = None;
                let known = std::mem::replace(&mut state.failing, true);
                if known { Ok(Appended::Skipped) } else { Err(error) }
            }
        }
    }

    fn write(&self, State { open, retention, .. }: &mut State, line: &ErrorLine) -> io::Result<Appended> {
        let (at, day) = (line.at, line.at.date());
        if retention.as_mut().is_some_and(|retention| retention.is_full(at)) {
            return Ok(Appended::Skipped);
        }
        let file = self.file_of(open, day)?;
        if let Some(retention) = retention {
            let today = file.metadata()?.len();
            if !retention.admits(at, today, line.text.len())? {
                let closing = retention.closing(at, today).unwrap_or_default();
                let written = file.write_all(closing.as_bytes());
                // Whoever makes room may do so by deleting it.
                *open = None;
                let max_bytes = retention.max_bytes();
                let appended = if retention.mark_reported(day) {
                    Appended::Full { max_bytes }
                } else {
                    Appended::Skipped
                };
                return written.map(|()| appended);
            }
        }
        // One write, so that lines of two gateways never mix.
        file.write_all(line.text.as_bytes())?;
        Ok(Appended::Written)
    }

    fn file_of<'a>(
        &self,
        open: &'a mut Option<(NaiveDate, File)>,
        day: NaiveDate,
    ) -> io::Result<&'a mut File> {
        let file = match open.take() {
            Some((date, file)) if date == day => file,
            _ => {
                files::create_private_dir(&self.dir)?;
                append_to(&path_of(&self.dir, day))?
            }
        };
        Ok(&mut open.insert((day, file)).1)
    }
}

fn path_of(dir: &Path, date: NaiveDate) -> PathBuf {
    dir.join(name_of(date))
}

fn name_of(date: NaiveDate) -> String {
    format!("{}.log", date.format("%Y-%m-%d"))
}

fn prepare(dir: &Path, today: &Path) -> io::Result<()> {
    files::create_private_dir(dir)?;
    check_writable(dir)?;
    if today.is_symlink() || today.exists() {
        append_to(today)?;
    }
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn append_to(path: &Path) -> io::Result<File> {
    fail::fail_point!("error-file-open");
    files::open_private(path, File::options().append(true).create(true))
}

/// Makes sure that files can be created in a directory, and leaves none there.
pub(crate) fn check_writable(dir: &Path) -> io::Result<()> {
    let probe = dir.join(format!(".writable-{}", std::process::id()));
    let created = files::open_private(&probe, File::options().write(true).create(true).truncate(true));
    let written = created.and_then(|mut file| file.write_all(b"?"));
    let removed = fs::remove_file(&probe);
    written.and(removed)
}

#[cfg(test)]
#[path = "error_file/tests.rs"]
mod tests;
