//! Where the records come from, and what was read ahead.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::message::{Offset, Record};

/// A reader of the inbox: forward in order, from any offset.
pub trait RecordSource: Sized {
    /// Why it cannot be read.
    type Error;

    /// Every record below it has been handed out, or is gone.
    fn position(&self) -> Offset;

    /// Goes on at `offset`, or at the next one that exists. Forward is free, backward may be dear.
    fn seek(&mut self, offset: Offset);

    /// Appends the next records to `out`: at most `max_records` and `max_bytes`, but at least one if
    /// there is one. What was appended before a failure counts.
    fn read(
        &mut self,
        max_records: usize,
        max_bytes: usize,
        out: &mut Vec<Arc<Record>>,
    ) -> Result<(), Self::Error>;

    /// Another reader of the same inbox, that stands at `offset`.
    #[must_use]
    fn reader_at(&self, offset: Offset) -> Self;
}

/// How much is read ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// A reader that hands out records one by one, and takes them back.
pub(super) struct ReadAhead<R> {
    reader: R,
    ahead: Ahead,
    /// Read, and not yet handed out.
    records: VecDeque<Arc<Record>>,
}

impl<R: RecordSource> ReadAhead<R> {
    pub(super) fn new(reader: R, ahead: Ahead) -> Self {
        Self { reader, ahead, records: VecDeque::new() }
    }

    /// Every record below was handed out for good.
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

    /// The next record; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Arc<Record>>, R::Error> {
        if self.records.is_empty() {
            let mut records = Vec::new();
            let read = self.reader.read(self.ahead.records, self.ahead.bytes, &mut records);
            self.records.extend(records);
            // What was read before the failure goes first, and the error comes again.
            if self.records.is_empty() {
                read?;
            }
        }
        Ok(self.records.pop_front())
    }

    /// Takes back the record that was handed out last.
    pub(super) fn put_back(&mut self, record: Arc<Record>) {
        self.records.push_front(record);
    }
}
