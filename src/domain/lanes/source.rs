//! The source of records and its read-ahead buffer.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::message::{Offset, Record};

/// A reader of the inbox: forward in order, from any offset.
pub trait RecordSource: Sized {
    /// The error of a failed read.
    type Error;

    /// Returns the offset below which all records were read or are deleted.
    fn position(&self) -> Offset;

    /// Continues at `offset`, or at the next existing record. Seeking backward may be expensive.
    fn seek(&mut self, offset: Offset);

    /// Appends the next records to `out`: at most `max_records` and `max_bytes`, but at least one if there is one.
    /// Records that were appended before an error are valid.
    fn read(
        &mut self,
        max_records: usize,
        max_bytes: usize,
        out: &mut Vec<Arc<Record>>,
    ) -> Result<(), Self::Error>;

    /// Returns another reader of the same inbox at `offset`.
    #[must_use]
    fn reader_at(&self, offset: Offset) -> Self;
}

/// The size of the read-ahead buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// A buffered reader that returns single records and accepts them back.
pub(super) struct ReadAhead<R> {
    reader: R,
    ahead: Ahead,
    /// Records that were read and not yet returned.
    records: VecDeque<Arc<Record>>,
}

impl<R: RecordSource> ReadAhead<R> {
    pub(super) fn new(reader: R, ahead: Ahead) -> Self {
        Self { reader, ahead, records: VecDeque::new() }
    }

    /// Returns the offset below which all records were returned to the caller.
    pub(super) fn position(&self) -> Offset {
        self.records.front().map_or(self.reader.position(), |record| record.offset)
    }

    pub(super) fn seek(&mut self, offset: Offset) {
        self.records.clear();
        self.reader.seek(offset);
    }

    pub(super) fn reader_at(&self, offset: Offset) -> R {
        self.reader.reader_at(offset)
    }

    /// Returns the next record, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Arc<Record>>, R::Error> {
        if self.records.is_empty() {
            let mut records = Vec::new();
            let read = self.reader.read(self.ahead.records, self.ahead.bytes, &mut records);
            self.records.extend(records);
            // Records before the error are returned first; the next read meets the error again.
            if self.records.is_empty() {
                read?;
            }
        }
        Ok(self.records.pop_front())
    }

    /// Accepts back the record that was returned last.
    pub(super) fn put_back(&mut self, record: Arc<Record>) {
        self.records.push_front(record);
    }
}
