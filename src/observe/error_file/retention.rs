//! What the daily files of a directory may take together.
//!
//! ```text
//! a line ──▶ do today's file and the others stay within the bound? ──▶ written
//!                 │ no: the directory is read, the oldest of the others are deleted
//!                 ▼ still no, today's alone takes all
//!            the closing line, and nothing more until there is room or another day begins
//! ```
//!
//! The directory is read on the first line of a day, when the bound is reached, and after that once a minute. For each line
//! only the open file is asked for its length, which counts what another gateway appends and shrinks when somebody
//! cuts the file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{NaiveDate, NaiveDateTime, TimeDelta};
use log::Level;

use super::path_of;
use crate::observe::line;

/// The last line of a file that takes no more.
pub(in crate::observe) const CLOSING: &str = "The error files have reached LOG_DIR_MAX_BYTES: further errors go to standard error alone, until there is room or another day begins";

/// Time between two looks whether there is room again.
const RECHECK_INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// The bound of a directory, and how far it is.
#[derive(Debug)]
pub(super) struct Retention {
    dir: PathBuf,
    max_bytes: u64,
    /// What the files of other days than this one had, when it was looked last.
    others: Option<(NaiveDate, u64)>,
    full: Option<Full>,
    /// The day on which it was said last that there is no room.
    reported: Option<NaiveDate>,
}

/// Nothing is written on a day, because nothing is left to be deleted.
#[derive(Debug)]
struct Full {
    day: NaiveDate,
    checked_at: NaiveDateTime,
    /// What there was in all: with less, somebody has made room.
    bytes: u64,
}

impl Retention {
    pub(super) fn new(dir: &Path, max_bytes: u64) -> Self {
        Self { dir: dir.to_owned(), max_bytes, others: None, full: None, reported: None }
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Deletes what is too much already.
    pub(super) fn delete_excess(&mut self, day: NaiveDate) -> io::Result<()> {
        let today = fs::metadata(path_of(&self.dir, day)).map_or(0, |today| today.len());
        self.delete_oldest(day, today).map(|others| self.others = Some((day, others)))
    }

    /// Whether it is known that a line of this moment finds no room.
    pub(super) fn is_full(&mut self, at: NaiveDateTime) -> bool {
        let Some(full) = &mut self.full else { return false };
        if full.day == at.date() {
            // Clocks are set back too.
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

    /// Whether so many more bytes fit in beside `today`, the length of the file of that day. There is always room for
    /// the closing line besides.
    pub(super) fn admits(&mut self, at: NaiveDateTime, today: u64, more: usize) -> io::Result<bool> {
        let (day, closing) = (at.date(), bytes_of(closing_line(at).len()));
        let needed = today.saturating_add(bytes_of(more)).saturating_add(closing);
        let others = match self.others {
            Some((known, others)) if known == day && self.holds(others, needed) => Ok(others),
            _ => self.delete_oldest(day, needed),
        };
        let fits = others.as_ref().is_ok_and(|others| self.holds(*others, needed));
        if !fits {
            // What cannot be deleted today is tried again at the next look.
            let bytes = others.as_ref().map_or(u64::MAX, |others| others.saturating_add(today));
            self.full = Some(Full { day, checked_at: at, bytes });
        }
        self.others = Some((day, others?));
        Ok(fits)
    }

    /// The closing line, if it finds room itself: after a start on the same day there may be one already.
    pub(super) fn closing(&self, at: NaiveDateTime, today: u64) -> Option<String> {
        let closing = closing_line(at);
        let others = self.others.map_or(0, |(_, others)| others);
        self.holds(others, today.saturating_add(bytes_of(closing.len()))).then_some(closing)
    }

    /// Whether it is to be said that there is no room: once a day.
    pub(super) fn mark_reported(&mut self, day: NaiveDate) -> bool {
        self.reported.replace(day) != Some(day)
    }

    fn holds(&self, others: u64, needed: u64) -> bool {
        others.saturating_add(needed) <= self.max_bytes
    }

    /// Deletes files of other days, the oldest first, as long as they leave too little room. What is left of them.
    fn delete_oldest(&self, day: NaiveDate, needed: u64) -> io::Result<u64> {
        let mut files = daily_files(&self.dir)?;
        files.retain(|(date, _)| *date != day);
        files.sort_unstable();
        let mut left = files.iter().map(|(_, bytes)| bytes).sum();
        let mut failure = None;
        for (date, bytes) in files {
            if self.holds(left, needed) {
                break;
            }
            match delete(&path_of(&self.dir, date)) {
                Ok(()) => left -= bytes,
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if !self.holds(left, needed) => Err(error),
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

/// One that another gateway has deleted meanwhile is deleted.
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

/// The files that are named as ours are; whatever else is there is none of our business.
fn daily_files(dir: &Path) -> io::Result<Vec<(NaiveDate, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Some(day) = entry.file_name().to_str().and_then(day_of) else { continue };
        // One that has just gone takes nothing.
        if let Ok(metadata) = entry.metadata()
            && metadata.is_file()
        {
            files.push((day, metadata.len()));
        }
    }
    Ok(files)
}

/// The day of a name, if it is written just as we write it.
fn day_of(name: &str) -> Option<NaiveDate> {
    let day = NaiveDate::parse_from_str(name.strip_suffix(".log")?, "%Y-%m-%d").ok()?;
    (super::name_of(day) == name).then_some(day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_names_as_we_write_them_are_ours() {
        let day = NaiveDate::from_ymd_opt(2026, 11, 2).unwrap();
        assert_eq!(day_of("2026-11-02.log"), Some(day));
        for name in
            ["2026-11-2.log", "2026-11-02", "2026-11-02.log.1", "2026-13-01.log", "+2026-11-02.log", "a.log"]
        {
            assert_eq!(day_of(name), None, "{name}");
        }
    }
}
