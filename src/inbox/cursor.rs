//! A walk through one segment, record by record, that skips unreadable bytes.
//!
//! Recovery and readers share this code, so readers never return a record that recovery reports as damaged.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::record::{Codec, FRAME_BYTES, Frame, MARKER_BYTES};
use super::segment::Segment;
use crate::domain::message::Offset;
use crate::files;

/// Bytes read at once, so that one system call serves many records.
const CHUNK_BYTES: u64 = 256 * 1024;

/// Bytes searched for a marker at once.
const SEARCH_BYTES: u64 = 4096;

/// A position in a segment.
pub(super) struct Cursor {
    segment: Arc<Segment>,
    file: File,
    codec: Codec,
    at: u64,
    /// Lowest valid offset at this position; a lower one marks a record as damaged.
    min_offset: Offset,
    chunk: Chunk,
}

/// The result of one step.
pub(super) enum CursorStep<'a> {
    /// An intact record; the cursor is now behind it.
    Record(Offset, &'a [u8]),
    /// Unreadable bytes; the cursor is now at the next intact record or at the end.
    Damage(Range<u64>),
    /// No more bytes below `end`.
    End,
}

impl Cursor {
    /// Opens the segment's file at its first record.
    pub(super) fn open(segment: &Arc<Segment>, codec: Codec) -> io::Result<Cursor> {
        Ok(Cursor {
            file: files::open_private(&segment.path, File::options().read(true))?,
            at: segment.start,
            min_offset: segment.base,
            segment: Arc::clone(segment),
            codec,
            chunk: Chunk::default(),
        })
    }

    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Byte position in the file.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Steps over the next record or over damage. Reads only bytes below `end` and accepts only offsets below
    /// `limit`.
    pub(super) fn step(&mut self, end: u64, limit: Offset) -> io::Result<CursorStep<'_>> {
        if let Some(known) = self.segment.damage_at(self.at) {
            self.at = known.end;
        }
        if self.at >= end {
            return Ok(CursorStep::End);
        }
        let from = self.at;
        let Some(frame) = self.intact_at(from, end, limit)? else {
            self.at = self.next_intact(from + 1, end, limit)?;
            return Ok(CursorStep::Damage(from..self.at));
        };
        self.at += frame.record_bytes;
        self.min_offset = frame.offset + 1;
        let record = self.chunk.load(&self.file, from..self.at, end)?.unwrap_or_default();
        Ok(CursorStep::Record(frame.offset, record))
    }

    /// Undoes the step over the record that begins at byte `at`.
    pub(super) fn step_back(&mut self, at: u64, offset: Offset) {
        self.at = at;
        self.min_offset = offset;
    }

    fn intact_at(&mut self, at: u64, end: u64, limit: Offset) -> io::Result<Option<Frame>> {
        let head = self.chunk.load(&self.file, at..at + FRAME_BYTES as u64, end)?;
        let plausible = |frame: &Frame| {
            (self.min_offset..limit).contains(&frame.offset) && frame.record_bytes <= end.saturating_sub(at)
        };
        let Some(frame) = head.and_then(|head| self.codec.frame(head)).filter(plausible) else {
            return Ok(None);
        };
        let record = self.chunk.load(&self.file, at..at + frame.record_bytes, end)?;
        Ok(record.is_some_and(|record| self.codec.is_intact(&frame, record)).then_some(frame))
    }

    /// Finds the start of the next intact record at or behind `at`; returns `end` if there is none.
    fn next_intact(&mut self, mut at: u64, end: u64, limit: Offset) -> io::Result<u64> {
        while let Some(candidate) = self.next_marker(at, end)? {
            if self.intact_at(candidate, end, limit)?.is_some() {
                return Ok(candidate);
            }
            at = candidate + 1;
        }
        Ok(end)
    }

    fn next_marker(&mut self, mut at: u64, end: u64) -> io::Result<Option<u64>> {
        let marker = self.codec.marker();
        while at + FRAME_BYTES as u64 <= end {
            let window = at..(at + SEARCH_BYTES).min(end);
            let Some(bytes) = self.chunk.load(&self.file, window.clone(), end)? else {
                return Ok(None);
            };
            if let Some(index) = bytes.windows(MARKER_BYTES).position(|bytes| bytes == marker) {
                return Ok(Some(at + index as u64));
            }
            // A marker may span two windows.
            at = window.end - (MARKER_BYTES as u64 - 1);
        }
        Ok(None)
    }
}

/// A part of the file in memory.
#[derive(Default)]
struct Chunk {
    at: u64,
    bytes: Vec<u8>,
}

impl Chunk {
    /// Returns the bytes of `range`, reading ahead up to `end`. Returns `None` if the file or `end` comes
    /// first.
    fn load(&mut self, file: &File, range: Range<u64>, end: u64) -> io::Result<Option<&[u8]>> {
        if range.end > end {
            return Ok(None);
        }
        if range.start < self.at || range.end > self.at + self.bytes.len() as u64 {
            let ahead = range.end.max(range.start + CHUNK_BYTES).min(end);
            self.fill(file, range.start, to_usize(ahead - range.start))?;
        }
        let from = to_usize(range.start - self.at);
        Ok(self.bytes.get(from..from + to_usize(range.end - range.start)))
    }

    fn fill(&mut self, file: &File, at: u64, count: usize) -> io::Result<()> {
        self.bytes.resize(count, 0);
        // A huge record must not hold its memory for ever.
        self.bytes.shrink_to(count.max(to_usize(CHUNK_BYTES)));
        self.at = at;
        let mut filled = 0;
        while filled < count {
            match file.read_at(&mut self.bytes[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.bytes.clear();
                    return Err(error);
                }
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
