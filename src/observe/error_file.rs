//! `LOG_DIR/YYYY-MM-DD.log`: what is ERROR and above, a file for each local day.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chrono::{NaiveDate, NaiveDateTime};

use super::line;

/// Tells the local date and time.
pub(super) type LocalClock = Box<dyn Fn() -> NaiveDateTime + Send + Sync>;

/// A record as the error file has it, and the day that it belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ErrorLine {
    day: NaiveDate,
    /// With the line break.
    pub(super) text: String,
}

/// The error files of a directory. Records of several threads come one after the other.
pub(super) struct ErrorFile {
    dir: PathBuf,
    clock: LocalClock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<(NaiveDate, File)>,
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

    /// A record that is logged now; it may be written later.
    pub(super) fn line(&self, level: log::Level, message: &str) -> ErrorLine {
        let now = (self.clock)();
        let mut text = line::error_file(level, message, now);
        text.push('\n');
        ErrorLine { day: now.date(), text }
    }

    /// Appends a record. An error comes back only for the first of several that fail in a row: the
    /// gateway goes on without the file, and says so once.
    pub(super) fn append(&self, line: &ErrorLine) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.write(&mut state, line.day, &line.text) {
            Ok(()) => {
                state.failing = false;
                Ok(())
            }
            Err(error) => {
                // Opened again for the next record: the disk may be another one by then.
                state.open = None;
                let known = std::mem::replace(&mut state.failing, true);
                if known { Ok(()) } else { Err(error) }
            }
        }
    }

    fn write(&self, state: &mut State, day: NaiveDate, text: &str) -> io::Result<()> {
        let file = match &mut state.open {
            Some((date, file)) if *date == day => file,
            open => {
                fs::create_dir_all(&self.dir)?;
                &mut open.insert((day, append_to(&path_of(&self.dir, day))?)).1
            }
        };
        // One write, so that lines of two gateways never mix.
        file.write_all(text.as_bytes())
    }
}

fn path_of(dir: &Path, date: NaiveDate) -> PathBuf {
    dir.join(format!("{}.log", date.format("%Y-%m-%d")))
}

fn prepare(dir: &Path, today: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    check_writable(dir)?;
    if today.exists() {
        append_to(today)?;
    }
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Makes sure that files can be created in a directory, and leaves none there.
pub(crate) fn check_writable(dir: &Path) -> io::Result<()> {
    let probe = dir.join(format!(".writable-{}", std::process::id()));
    let written = File::create(&probe).and_then(|mut file| file.write_all(b"?"));
    let removed = fs::remove_file(&probe);
    written.and(removed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use log::Level;

    use super::*;

    /// A clock that is set by hand, in seconds from noon of 2026-11-22.
    fn clock() -> (Arc<AtomicI64>, LocalClock) {
        let seconds = Arc::new(AtomicI64::new(0));
        let hand = Arc::clone(&seconds);
        let noon = NaiveDate::from_ymd_opt(2026, 11, 22).unwrap().and_hms_opt(12, 0, 0).unwrap();
        let clock = move || noon + chrono::TimeDelta::seconds(seconds.load(Ordering::Relaxed));
        (hand, Box::new(clock))
    }

    fn append(file: &ErrorFile, message: &str) -> io::Result<()> {
        file.append(&file.line(Level::Error, message))
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_directory_is_created_and_no_file_before_the_first_error() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        ErrorFile::open(&dir, clock().1).unwrap();
        assert_eq!(names(&dir), [""; 0]);
    }

    #[test]
    fn records_are_appended_to_the_file_of_the_local_day() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("2026-11-22.log"), "before\n").unwrap();
        let (hand, clock) = clock();
        let file = ErrorFile::open(dir.path(), clock).unwrap();
        append(&file, "one").unwrap();
        hand.store(11 * 3600 + 3599, Ordering::Relaxed);
        append(&file, "two").unwrap();
        hand.store(12 * 3600, Ordering::Relaxed);
        append(&file, "three").unwrap();

        assert_eq!(names(dir.path()), ["2026-11-22.log", "2026-11-23.log"]);
        assert_eq!(
            fs::read_to_string(dir.path().join("2026-11-22.log")).unwrap(),
            "before\n2026-11-22 12:00:00 | ERROR | mqtt_gateway | one\n2026-11-22 23:59:59 | ERROR | mqtt_gateway | two\n"
        );
        assert_eq!(
            fs::read_to_string(dir.path().join("2026-11-23.log")).unwrap(),
            "2026-11-23 00:00:00 | ERROR | mqtt_gateway | three\n"
        );
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_an_error_at_the_start() {
        let root = tempfile::tempdir().unwrap();
        let in_the_way = root.path().join("file");
        fs::write(&in_the_way, "").unwrap();
        assert!(ErrorFile::open(&in_the_way, clock().1).is_err());
        fs::create_dir(root.path().join("2026-11-22.log")).unwrap();
        assert!(ErrorFile::open(root.path(), clock().1).is_err(), "today's file is a directory");
    }

    #[test]
    fn a_directory_that_fails_later_is_complained_about_once_and_taken_up_again() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("log");
        let file = ErrorFile::open(&dir, clock().1).unwrap();
        fs::remove_dir(&dir).unwrap();
        fs::write(&dir, "in the way").unwrap();
        assert!(append(&file, "lost").is_err());
        assert!(append(&file, "lost too").is_ok(), "said already");
        fs::remove_file(&dir).unwrap();
        append(&file, "kept").unwrap();
        assert!(fs::read_to_string(dir.join("2026-11-22.log")).unwrap().ends_with("| kept\n"));
    }
}
