//! Size limit for the daily error files of a directory.
//!
//! ```text
//! line ──▶ total size within the limit? ──▶ written
//!               │ no: list the directory, delete the oldest files of other days
//!               ▼ still no: today's file alone reaches the limit
//!          closing line; nothing more until space is free or the next day begins
//! ```
//!
//! The directory is listed on the first line of a day, when the limit is reached, and after that once a minute.
//! For other lines only the length of the open file is read. It includes the lines of other gateways, and it
//! shrinks when an operator truncates the file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{NaiveDate, NaiveDateTime, TimeDelta};
use log::Level;

use super::path_of;
use crate::observe::line;

/// The last line of a file that has reached the limit.
pub(in crate::observe) const CLOSING: &str = "The error files have reached LOG_DIR_MAX_BYTES: further errors go to standard error alone, until there is room or another day begins";

/// Time between two checks for free space.
const RECHECK_INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// The size limit of a directory, and its current usage.
#[derive(Debug)]
pub(super) struct Retention {
    dir: PathBuf,
    max_bytes: u64,
    /// A day, and the total bytes of the files of all other days when the directory was last listed.
    others: Option<(NaiveDate, u64)>,
    full: Option<Full>,
    /// The day on which the full limit was last reported.
    reported: Option<NaiveDate>,
}

/// The limit is reached on a day, and no file of another day is left to delete.
#[derive(Debug)]
struct Full {
    day: NaiveDate,
    checked_at: NaiveDateTime,
    /// Total bytes of all files. A smaller total later means that an operator has freed space.
    bytes: u64,
}

impl Retention {
    pub(super) fn new(dir: &Path, max_bytes: u64) -> Self {
        Self { dir: dir.to_owned(), max_bytes, others: None, full: None, reported: None }
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Deletes the oldest files until the others fit into the limit.
    pub(super) fn delete_excess(&mut self, day: NaiveDate) -> io::Result<()> {
        let today = fs::metadata(path_of(&self.dir, day)).map_or(0, |today| today.len());
        self.delete_oldest(day, today).map(|others| self.others = Some((day, others)))
    }

    /// Checks for freed space once a minute, and returns whether the limit is still reached.
    pub(super) fn check_full(&mut self, at: NaiveDateTime) -> bool {
        let Some(full) = &mut self.full else { return false };
        if full.day == at.date() {
            // The clock may have been set back.
            if at.signed_duration_since(full.checked_at).abs() < RECHECK_INTERVAL {
                return true;
            }
            full.checked_at = at;
            if total_bytes(&self.dir).map_or(true, |bytes| bytes >= full.bytes) {
                return true;
            }
        }
        self.full = None;
        self.others = None;
        false
    }

    /// Makes space for `more` bytes in addition to the `today` bytes of the current file. Returns whether they fit.
    /// Space for the closing line is reserved.
    pub(super) fn make_space(&mut self, at: NaiveDateTime, today: u64, more: usize) -> io::Result<bool> {
        let (day, closing) = (at.date(), bytes_of(closing_line(at).len()));
        let needed = today.saturating_add(bytes_of(more)).saturating_add(closing);
        let others = match self.others {
            Some((known, others)) if known == day && self.fits(others, needed) => Ok(others),
            _ => self.delete_oldest(day, needed),
        };
        let fits = others.as_ref().is_ok_and(|others| self.fits(*others, needed));
        if !fits {
            // A failed deletion is retried at the next check.
            let bytes = others.as_ref().map_or(u64::MAX, |others| others.saturating_add(today));
            self.full = Some(Full { day, checked_at: at, bytes });
        }
        self.others = Some((day, others?));
        Ok(fits)
    }

    /// Returns the closing line if it fits. After a restart on the same day the file may contain one already.
    pub(super) fn closing_if_fits(&self, at: NaiveDateTime, today: u64) -> Option<String> {
        let closing = closing_line(at);
        let others = self.others.map_or(0, |(_, others)| others);
        self.fits(others, today.saturating_add(bytes_of(closing.len()))).then_some(closing)
    }

    /// Marks the day as reported, and returns whether that is the first report of the day.
    pub(super) fn mark_reported(&mut self, day: NaiveDate) -> bool {
        self.reported.replace(day) != Some(day)
    }

    fn fits(&self, others: u64, needed: u64) -> bool {
        others.saturating_add(needed) <= self.max_bytes
    }

    /// Deletes files of other days, oldest first, until `needed` bytes fit. Returns the total size of the others.
    fn delete_oldest(&self, day: NaiveDate, needed: u64) -> io::Result<u64> {
        let mut files = daily_files(&self.dir)?;
        files.retain(|(date, _)| *date != day);
        files.sort_unstable();
        let mut left = files.iter().map(|(_, bytes)| bytes).sum();
        let mut failure = None;
        for (date, bytes) in files {
            if self.fits(left, needed) {
                break;
            }
            match delete(&path_of(&self.dir, date)) {
                Ok(()) => left -= bytes,
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if !self.fits(left, needed) => Err(error),
            _ => Ok(left),
        }
    }
}

fn closing_line(at: NaiveDateTime) -> String {
    let mut text = line::error_file(Level::Error, CLOSING, at);
    text.push('\n');
    text
}

fn bytes_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Deletes a file. A file that another gateway has deleted already is not an error.
fn delete(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::new(error.kind(), format!("{} cannot be deleted: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn total_bytes(dir: &Path) -> io::Result<u64> {
    Ok(daily_files(dir)?.into_iter().map(|(_, bytes)| bytes).sum())
}

/// Lists the daily files with their lengths. Files with other names are ignored.
fn daily_files(dir: &Path) -> io::Result<Vec<(NaiveDate, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Some(day) = entry.file_name().to_str().and_then(day_of) else { continue };
        // A file may vanish between the listing and this call.
        if let Ok(metadata) = entry.metadata()
            && metadata.is_file()
        {
            files.push((day, metadata.len()));
        }
    }
    Ok(files)
}

/// Parses the day from a file name. Returns none unless the gateway would write exactly this name.
fn day_of(name: &str) -> Option<NaiveDate> {
    let day = NaiveDate::parse_from_str(name.strip_suffix(".log")?, "%Y-%m-%d").ok()?;
    (super::name_of(day) == name).then_some(day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn foreign_file_names_are_ignored() {
        let day = NaiveDate::from_ymd_opt(2026, 11, 2).unwrap();
        assert_eq!(day_of("2026-11-02.log"), Some(day));
        for name in
            ["2026-11-2.log", "2026-11-02", "2026-11-02.log.1", "2026-13-01.log", "+2026-11-02.log", "a.log"]
        {
            assert_eq!(day_of(name), None, "{name}");
        }
    }
}
