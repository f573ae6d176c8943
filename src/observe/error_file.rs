//! Daily error files `LOG_DIR/YYYY-MM-DD.log`, one for each local day. They hold ERROR records only.

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

/// Returns the local date and time.
pub(super) type LocalClock = Box<dyn Fn() -> NaiveDateTime + Send + Sync>;

/// A record in the format of the error file, with the time it was logged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ErrorLine {
    at: NaiveDateTime,
    /// The line, including its line break.
    pub(super) text: String,
}

/// Writer for the error files of one directory. Records of several threads never interleave.
pub(super) struct ErrorFile {
    dir: PathBuf,
    clock: LocalClock,
    state: Mutex<FileState>,
}

/// The outcome of appending a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Appended {
    /// The record is in the file.
    Written,
    /// The record was discarded, and the cause has been reported already.
    Skipped,
    /// The record was discarded because the files have reached their size limit. The caller has to report it.
    Full {
        /// `LOG_DIR_MAX_BYTES`.
        max_bytes: u64,
    },
}

#[derive(Default)]
struct FileState {
    open: Option<(NaiveDate, File)>,
    /// None if the files have no size limit.
    retention: Option<Retention>,
    /// The last write failed.
    failing: bool,
}

impl ErrorFile {
    /// Creates the directory if it is missing, and checks that it is writable. A full disk is not an error here:
    /// the gateway has to start anyway, because processing the inbox frees space.
    pub(super) fn open(dir: &Path, clock: LocalClock) -> io::Result<Self> {
        match prepare(dir, &path_of(dir, clock().date())) {
            Err(error) if !is_full(&error) => Err(error),
            _ => Ok(Self { dir: dir.to_owned(), clock, state: Mutex::default() }),
        }
    }

    /// Limits the total size of the files, and deletes the oldest ones that exceed the limit already.
    pub(super) fn within(self, max_bytes: u64) -> Self {
        let mut retention = Retention::new(&self.dir, max_bytes);
        // A failed deletion is retried and reported by the next write.
        let _ = retention.delete_excess((self.clock)().date());
        let state = FileState { retention: Some(retention), ..FileState::default() };
        Self { state: Mutex::new(state), ..self }
    }

    /// Formats a record with the current time. The line may be appended later.
    pub(super) fn line(&self, level: log::Level, message: &str) -> ErrorLine {
        let at = (self.clock)();
        let mut text = line::error_file(level, message, at);
        text.push('\n');
        ErrorLine { at, text }
    }

    /// Appends a record if the size limit permits it.
    ///
    /// Only the first of several consecutive failures is returned as an error, so that it is reported once.
    pub(super) fn append(&self, line: &ErrorLine) -> io::Result<Appended> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.write(&mut state, line) {
            Ok(appended) => {
                // A discarded record does not prove that the directory is writable again.
                state.failing &= appended == Appended::Skipped;
                Ok(appended)
            }
            Err(error) => {
                // The next record opens the file again, because the directory may have been replaced by then.
                state.open = None;
                let known = std::mem::replace(&mut state.failing, true);
                if known { Ok(Appended::Skipped) } else { Err(error) }
            }
        }
    }

    fn write(
        &self,
        FileState { open, retention, .. }: &mut FileState,
        line: &ErrorLine,
    ) -> io::Result<Appended> {
        let (at, day) = (line.at, line.at.date());
        if retention.as_mut().is_some_and(|retention| retention.check_full(at)) {
            return Ok(Appended::Skipped);
        }
        let file = self.file_of(open, day)?;
        if let Some(retention) = retention {
            let today = file.metadata()?.len();
            if !retention.make_space(at, today, line.text.len())? {
                let closing = retention.closing_if_fits(at, today).unwrap_or_default();
                let written = file.write_all(closing.as_bytes());
                // An operator may free space by deleting the file, so no handle to it is kept.
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
        // A single write, so that lines of two gateways never interleave.
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

/// Checks that files can be created in a directory, by creating and removing one.
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
