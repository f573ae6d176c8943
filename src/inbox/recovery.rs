//! Recovery before the first append: walks through every segment, moves unreadable bytes into quarantine, skips
//! them, and reports the result. Damage does not prevent the start.
//!
//! Recovery fails only on files of a later format, which it would destroy, and on disk errors.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::content::{Candidate, MetaOrigin, candidates, known_meta};
use super::cursor::{Cursor, CursorStep};
use super::duplicate_filter::DuplicateFilter;
use super::durable;
use super::error::InboxError;
use super::meta::{META_FILE, Meta};
use super::quarantine;
use super::record::{self, Codec};
use super::segment::{HEADER_BYTES, Segment, Walked};
use crate::domain::message::Offset;
use crate::files;

/// The result of opening an inbox. A report that is not clean must be logged as a warning or error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Origin of the inbox id.
    pub meta: MetaOrigin,
    /// Number of segments with records.
    pub segments: usize,
    /// Number of records.
    pub records: u64,
    /// Size of these segments in bytes.
    pub bytes: u64,
    /// Unreadable byte ranges, new ones and those known from earlier starts.
    pub damages: Vec<Damage>,
}

impl RecoveryReport {
    /// Returns whether nothing was lost or repaired.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damages.is_empty() && matches!(self.meta, MetaOrigin::Created | MetaOrigin::Read)
    }
}

/// An unreadable byte range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The damaged file.
    pub file: PathBuf,
    /// The unreadable bytes.
    pub range: Range<u64>,
    /// How the damage was handled.
    pub kind: DamageKind,
    /// The copy in quarantine, if it could be written.
    pub quarantined: Option<PathBuf>,
    /// Not reported by an earlier start.
    pub is_new: bool,
}

/// How damage was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamageKind {
    /// Valid records follow: the bytes stay in the file and are skipped.
    Middle,
    /// Nothing valid follows: the bytes were cut off.
    Tail,
    /// The file held no record of this inbox and was moved to quarantine.
    WholeFile,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.range;
        let done = match self.kind {
            DamageKind::Middle => "are skipped",
            DamageKind::Tail => "were cut off, nothing valid follows",
            DamageKind::WholeFile => "hold no record of this inbox, the file was moved away",
        };
        write!(f, "{}: bytes {start} to {end} cannot be read and {done}", self.file.display())?;
        match &self.quarantined {
            Some(copy) => write!(f, "; kept as {}", copy.display()),
            None => f.write_str("; they could not be copied into quarantine"),
        }
    }
}

/// An inbox directory after recovery.
pub(super) struct Recovered {
    pub(super) meta: Meta,
    pub(super) segments: BTreeMap<Offset, Arc<Segment>>,
    pub(super) report: RecoveryReport,
    pub(super) redelivery: DuplicateFilter,
}

/// Walks through the directory and repairs it.
pub(super) fn recover(dir: &Path, lanes: u32) -> Result<Recovered, InboxError> {
    let candidates = candidates(dir)?;
    let (known, origin) = known_meta(dir, &candidates)?;
    let meta_file = dir.join(META_FILE);
    if origin != MetaOrigin::Read && meta_file.exists() {
        quarantine::move_file(dir, &meta_file)?;
    }
    let meta = known.unwrap_or_else(|| Meta::new(lanes));
    let mut recovery = LogRecovery {
        dir,
        codec: Codec::new(&meta.id),
        redelivery: DuplicateFilter::load(dir, &meta.id),
        segments: BTreeMap::new(),
        report: RecoveryReport { meta: origin, segments: 0, records: 0, bytes: 0, damages: Vec::new() },
    };
    let ours = |candidate: &Candidate| candidate.header.is_some_and(|header| header.id == meta.id);
    for (index, candidate) in candidates.iter().enumerate() {
        // The next segment of this inbox limits the offsets: higher ones were never acknowledged.
        let next = candidates.iter().skip(index + 1).find(|candidate| ours(candidate));
        let limit = next.map_or(Offset::MAX, |next| next.base);
        recovery.recover_segment(candidate, ours(candidate), limit)?;
    }
    recovery.redelivery.finish_recovery();
    let LogRecovery { segments, report, redelivery, .. } = recovery;
    Ok(Recovered { meta, segments, report, redelivery })
}

struct LogRecovery<'a> {
    dir: &'a Path,
    codec: Codec,
    segments: BTreeMap<Offset, Arc<Segment>>,
    report: RecoveryReport,
    redelivery: DuplicateFilter,
}

impl LogRecovery<'_> {
    /// Walks through a file and keeps it, truncates it, moves it to quarantine, or deletes it if it is empty.
    fn recover_segment(
        &mut self,
        candidate: &Candidate,
        header_intact: bool,
        limit: Offset,
    ) -> Result<(), InboxError> {
        let path = &candidate.path;
        let file_bytes = fs::metadata(path).map_err(InboxError::io("read the size of", path))?.len();
        let start = if header_intact { HEADER_BYTES } else { 0 };
        let (walked, records) = self.walk(candidate, start, file_bytes, limit)?;
        if records == 0 && !header_intact && file_bytes > 0 {
            return self.quarantine_file(path, file_bytes);
        }
        for range in &walked.damage {
            self.keep_copy(path, range.clone(), DamageKind::Middle);
        }
        let kept_tail = walked.len < file_bytes && !self.cut(path, walked.len..file_bytes)?;
        if records == 0 && kept_tail {
            return Ok(());
        }
        if records == 0 {
            // An earlier start created this file and appended nothing.
            return fs::remove_file(path).map_err(InboxError::io("delete", path));
        }
        self.report.segments += 1;
        self.report.records += records;
        self.report.bytes += walked.len;
        let segment = Segment::new(path.clone(), candidate.base, walked);
        self.segments.insert(candidate.base, Arc::new(segment));
        Ok(())
    }

    /// Returns the unreadable ranges, the length up to the last record, and the number of records.
    fn walk(
        &mut self,
        candidate: &Candidate,
        start: u64,
        file_bytes: u64,
        limit: Offset,
    ) -> Result<(Walked, u64), InboxError> {
        let failed = |error| InboxError::io("read", &candidate.path)(error);
        let mut walked = Walked { start, len: start, end: candidate.base, damage: Vec::new() };
        let unwalked = Arc::new(Segment::new(candidate.path.clone(), candidate.base, walked.clone()));
        let mut cursor = Cursor::open(&unwalked, self.codec).map_err(failed)?;
        let mut records = 0;
        loop {
            match cursor.step(file_bytes, limit).map_err(failed)? {
                CursorStep::Record(offset, bytes) => {
                    records += 1;
                    walked.end = offset + 1;
                    if self.redelivery.follows(offset)
                        && let Some(record) = record::decode(bytes)
                    {
                        self.redelivery.recall(&record);
                    }
                }
                CursorStep::Damage(range) => {
                    self.redelivery.note_damage(walked.end);
                    if range.end >= file_bytes {
                        break;
                    }
                    walked.damage.push(range);
                }
                CursorStep::End => break,
            }
            walked.len = cursor.at();
        }
        Ok((walked, records))
    }

    fn quarantine_file(&mut self, path: &Path, file_bytes: u64) -> Result<(), InboxError> {
        let moved = quarantine::move_file(self.dir, path)?;
        durable::sync_dir(self.dir)?;
        self.report.damages.push(Damage {
            file: path.to_path_buf(),
            range: 0..file_bytes,
            kind: DamageKind::WholeFile,
            quarantined: Some(moved),
            is_new: true,
        });
        Ok(())
    }

    /// Cuts off the unreadable end of a file if a copy could be made. Otherwise a later start does it.
    fn cut(&mut self, path: &Path, range: Range<u64>) -> Result<bool, InboxError> {
        let len = range.start;
        if !self.keep_copy(path, range, DamageKind::Tail) {
            return Ok(false);
        }
        files::open_private(path, File::options().write(true))
            .and_then(|file| file.set_len(len).and_then(|()| file.sync_all()))
            .map_err(InboxError::io("cut", path))?;
        Ok(true)
    }

    /// Copies damage into quarantine and reports it. A failed copy does not stop recovery.
    fn keep_copy(&mut self, path: &Path, range: Range<u64>, kind: DamageKind) -> bool {
        let copied = quarantine::copy_range(self.dir, path, &range)
            .inspect_err(|error| log::error!("the inbox cannot copy damaged bytes into quarantine: {error}"))
            .ok();
        let is_new = copied.as_ref().is_none_or(|(_, made_now)| *made_now);
        let quarantined = copied.map(|(copy, _)| copy);
        let kept = quarantined.is_some();
        self.report.damages.push(Damage { file: path.to_path_buf(), range, kind, quarantined, is_new });
        kept
    }
}
