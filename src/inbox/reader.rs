//! In-order reading, concurrent with the writer and other readers.

use std::io;
use std::sync::Arc;

use super::cursor::{Cursor, CursorStep};
use super::error::InboxError;
use super::record;
use super::segment::Segment;
use super::shared::Shared;
use crate::domain::lanes::RecordSource;
use crate::domain::message::{Offset, Record};

/// Reads an inbox forward from an offset and returns only complete records. Several readers may exist; an idle
/// one costs a comparison per call. A reader outlives the closing of its inbox.
pub struct InboxReader {
    shared: Arc<Shared>,
    position: Offset,
    cursor: Option<Cursor>,
}

impl RecordSource for InboxReader {
    type Error = InboxError;

    fn position(&self) -> Offset {
        self.position()
    }

    fn seek(&mut self, offset: Offset) {
        self.seek(offset);
    }

    fn read(
        &mut self,
        max_records: usize,
        max_bytes: usize,
        out: &mut Vec<Arc<Record>>,
    ) -> Result<(), InboxError> {
        self.read(max_records, max_bytes, out)
    }

    fn reader_at(&self, offset: Offset) -> Self {
        InboxReader::new(Arc::clone(&self.shared), offset)
    }
}

/// A record and its location in the file.
struct LocatedRecord {
    at: u64,
    bytes: u64,
    record: Record,
}

impl InboxReader {
    pub(super) fn new(shared: Arc<Shared>, from: Offset) -> InboxReader {
        InboxReader { shared, position: from, cursor: None }
    }

    /// Offset below which every record was returned, released, or unreadable.
    #[must_use]
    pub fn position(&self) -> Offset {
        self.position
    }

    /// Moves to `offset` or the next existing one. A seek backwards walks through one segment.
    pub fn seek(&mut self, offset: Offset) {
        if offset < self.position {
            self.cursor = None;
        }
        self.position = offset;
    }

    /// Appends the next records to `out`. The limits are `max_records` and `max_bytes` of encoded records, but
    /// at least one available record is returned. Unreadable bytes are logged and skipped.
    pub fn read(
        &mut self,
        max_records: usize,
        max_bytes: usize,
        out: &mut Vec<Arc<Record>>,
    ) -> Result<(), InboxError> {
        let target = self.shared.published();
        if self.position >= target {
            self.close_removed();
            return Ok(());
        }
        let mut room = max_bytes as u64;
        for count in 0..max_records {
            if self.position >= target {
                break;
            }
            let Some(found) = self.next()? else {
                self.position = self.position.max(target);
                break;
            };
            if count > 0 && found.bytes > room {
                self.unread(&found);
                break;
            }
            room = room.saturating_sub(found.bytes);
            self.position = found.record.offset + 1;
            out.push(Arc::new(found.record));
        }
        Ok(())
    }

    /// Reads the next record at or above the position. Returns `None` if there is no published record left.
    fn next(&mut self) -> Result<Option<LocatedRecord>, InboxError> {
        loop {
            self.close_removed();
            self.open_segment()?;
            let Some(cursor) = &mut self.cursor else {
                return Ok(None);
            };
            let segment = Arc::clone(cursor.segment());
            let at = cursor.at();
            match cursor.step(segment.len(), Offset::MAX) {
                Ok(CursorStep::Record(offset, _)) if offset < self.position => {}
                Ok(CursorStep::Record(offset, bytes)) => match record::decode(bytes) {
                    Some(record) => {
                        return Ok(Some(LocatedRecord { at, bytes: bytes.len() as u64, record }));
                    }
                    None => log::error!("inbox: cannot decode record {offset} in {}", segment.path.display()),
                },
                Ok(CursorStep::Damage(range)) if !segment.is_removed() => log::error!(
                    "inbox: bytes {} to {} of {} cannot be read and are skipped",
                    range.start,
                    range.end,
                    segment.path.display()
                ),
                Ok(CursorStep::Damage(_)) => {}
                Ok(CursorStep::End) => {
                    if !self.finish_segment(&segment, at) {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(InboxError::io("read", &segment.path)(error)),
            }
        }
    }

    /// Opens the segment that contains the position, if there is one.
    fn open_segment(&mut self) -> Result<(), InboxError> {
        while self.cursor.is_none() {
            let Some(segment) = self.shared.lock().segment_at(self.position) else {
                break;
            };
            match Cursor::open(&segment, self.shared.codec()) {
                Ok(cursor) => self.cursor = Some(cursor),
                // The segment was released between lookup and opening, so look it up again.
                Err(error) if error.kind() == io::ErrorKind::NotFound && segment.is_removed() => {}
                Err(error) => return Err(InboxError::io("open", &segment.path)(error)),
            }
        }
        Ok(())
    }

    /// Handles the end of a segment. Returns whether more can be read, here or in a later segment.
    fn finish_segment(&mut self, segment: &Segment, at: u64) -> bool {
        // Length and successors are read under one lock, because the writer may have continued.
        let log = self.shared.lock();
        if segment.len() > at && !segment.is_removed() {
            return true;
        }
        self.position = self.position.max(segment.end());
        let more = log.segment_at(self.position).is_some();
        drop(log);
        if more {
            self.cursor = None;
        }
        more
    }

    fn unread(&mut self, found: &LocatedRecord) {
        if let Some(cursor) = &mut self.cursor {
            cursor.step_back(found.at, found.record.offset);
        }
    }

    /// Closes a deleted file, which would occupy disk space while open.
    fn close_removed(&mut self) {
        if self.cursor.as_ref().is_some_and(|cursor| cursor.segment().is_removed()) {
            self.cursor = None;
        }
    }
}
