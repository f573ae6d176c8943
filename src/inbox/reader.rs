//! Reading in order, beside the writer and other readers.

use std::io;
use std::sync::Arc;

use super::cursor::{Cursor, Step};
use super::error::InboxError;
use super::record;
use super::segment::Segment;
use super::shared::Shared;
use crate::domain::lanes::RecordSource;
use crate::domain::message::{Offset, Record};

/// Reads an inbox forward from an offset; sees only what is wholly written. Several may exist; one
/// that has nothing to read costs a comparison. It outlives the closing of its inbox.
pub struct Reader {
    shared: Arc<Shared>,
    position: Offset,
    cursor: Option<Cursor>,
}

impl RecordSource for Reader {
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
        Reader::new(Arc::clone(&self.shared), offset)
    }
}

/// A record as it lies in the file, and where.
struct Found {
    at: u64,
    bytes: u64,
    record: Record,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, from: Offset) -> Reader {
        Reader { shared, position: from, cursor: None }
    }

    /// Every record below it has been handed out, was released, or could not be read.
    #[must_use]
    pub fn position(&self) -> Offset {
        self.position
    }

    /// Goes on at `offset` (or the next one that exists). Backwards costs a walk through a segment.
    pub fn seek(&mut self, offset: Offset) {
        if offset < self.position {
            self.cursor = None;
        }
        self.position = offset;
    }

    /// Appends the next records to `out`: at most `max_records`, and at most `max_bytes` as they lie
    /// on disk, but at least one if there is one. Unreadable bytes are reported in the log and passed.
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

    /// The next record at or above the position; `None` when all that was published is passed.
    fn next(&mut self) -> Result<Option<Found>, InboxError> {
        loop {
            self.close_removed();
            self.open_segment()?;
            let Some(cursor) = &mut self.cursor else {
                return Ok(None);
            };
            let segment = Arc::clone(cursor.segment());
            let at = cursor.at();
            match cursor.step(segment.len(), Offset::MAX) {
                Ok(Step::Record(offset, _)) if offset < self.position => {}
                Ok(Step::Record(offset, bytes)) => match record::decode(bytes) {
                    Some(record) => {
                        return Ok(Some(Found { at, bytes: bytes.len() as u64, record }));
                    }
                    None => log::error!("inbox: record {offset} in {} has no sense", segment.path.display()),
                },
                Ok(Step::Damage(range)) if !segment.is_removed() => log::error!(
                    "inbox: bytes {} to {} of {} cannot be read and are passed over",
                    range.start,
                    range.end,
                    segment.path.display()
                ),
                Ok(Step::Damage(_)) => {}
                Ok(Step::End) => {
                    if !self.finish_segment(&segment, at) {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(InboxError::io("read", &segment.path)(error)),
            }
        }
    }

    /// Opens the segment that the position lies in, if there is one.
    fn open_segment(&mut self) -> Result<(), InboxError> {
        while self.cursor.is_none() {
            let Some(segment) = self.shared.lock().segment_at(self.position) else {
                break;
            };
            match Cursor::open(&segment, self.shared.codec()) {
                Ok(cursor) => self.cursor = Some(cursor),
                // Released between looking it up and opening it: look again.
                Err(error) if error.kind() == io::ErrorKind::NotFound && segment.is_removed() => {}
                Err(error) => return Err(InboxError::io("open", &segment.path)(error)),
            }
        }
        Ok(())
    }

    /// At the end of a segment: whether there is more to read, here or in a later segment.
    fn finish_segment(&mut self, segment: &Segment, at: u64) -> bool {
        // Length and successors are looked at together: the writer may have gone on meanwhile.
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

    fn unread(&mut self, found: &Found) {
        if let Some(cursor) = &mut self.cursor {
            cursor.step_back(found.at, found.record.offset);
        }
    }

    /// An open file keeps its room on the disk even when it is deleted.
    fn close_removed(&mut self) {
        if self.cursor.as_ref().is_some_and(|cursor| cursor.segment().is_removed()) {
            self.cursor = None;
        }
    }
}
