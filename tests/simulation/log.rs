//! A model of the inbox: records in memory, in segments, some of them not yet on the disk.

use std::cell::{Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use mqtt_gateway::domain::lanes::RecordSource;
use mqtt_gateway::domain::message::{Body, DeliveryFacts, Offset, Record, SubscriptionId};

/// Each start of the process begins at a multiple of this offset.
const BASE: Offset = 1 << 40;
const SEGMENT_RECORDS: usize = 4;
/// Fewer than asked for, so that readers come back for more.
const READ_AT_ONCE: usize = 3;

/// The log; clones share it.
#[derive(Clone)]
pub(crate) struct ModelLog(Rc<RefCell<Inner>>);

struct Inner {
    records: Vec<Stored>,
    next: Offset,
    segment: u64,
    failing_reads: u32,
    /// All below is done, as the lanes have said.
    done_below: Offset,
    /// Records below may have been deleted.
    deleted_below: Offset,
}

struct Stored {
    record: Arc<Record>,
    segment: u64,
    synced: bool,
}

/// The disk refuses.
#[derive(Debug)]
pub(crate) struct DiskRefuses;

impl ModelLog {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(Inner {
            records: Vec::new(),
            next: BASE,
            segment: 0,
            failing_reads: 0,
            done_below: 0,
            deleted_below: 0,
        })))
    }

    /// Appends a message `gap` offsets above the one before.
    pub(crate) fn append(&self, topic: &str, payload: &str, ids: &[SubscriptionId], gap: u64) -> Offset {
        let inner = &mut *self.0.borrow_mut();
        let offset = inner.next + gap;
        inner.next = offset + 1;
        let in_segment = inner.records.iter().filter(|stored| stored.segment == inner.segment).count();
        if in_segment >= SEGMENT_RECORDS {
            inner.segment += 1;
        }
        let delivery = DeliveryFacts { subscription_ids: ids.to_vec(), ..DeliveryFacts::default() };
        let body = Body::Whole(payload.as_bytes().to_vec());
        let record = Record { offset, received_at_us: 0, topic: topic.to_owned(), body, delivery };
        inner.records.push(Stored { record: Arc::new(record), segment: inner.segment, synced: false });
        offset
    }

    pub(crate) fn sync(&self) {
        self.0.borrow_mut().records.iter_mut().for_each(|stored| stored.synced = true);
    }

    /// The process restarts. After a power cut unsynced records are lost.
    pub(crate) fn restart(&self, power_was_lost: bool) {
        let inner = &mut *self.0.borrow_mut();
        if power_was_lost {
            inner.records.retain(|stored| stored.synced);
        }
        inner.next = (inner.next / BASE + 1) * BASE;
        inner.segment += 1;
        inner.failing_reads = 0;
    }

    pub(crate) fn fail_reads(&self, count: u32) {
        self.0.borrow_mut().failing_reads = count;
    }

    /// Segments wholly below are finished from now on.
    pub(crate) fn release(&self, watermark: Offset) {
        self.0.borrow_mut().done_below = watermark;
    }

    pub(crate) fn done_below(&self) -> Offset {
        self.inner().done_below
    }

    pub(crate) fn deleted_below(&self) -> Offset {
        self.inner().deleted_below
    }

    /// Where the oldest record is that is there.
    pub(crate) fn first_offset(&self) -> Offset {
        let inner = self.inner();
        inner.records.first().map_or(inner.next, |stored| stored.record.offset)
    }

    /// Deletes finished segments, except the one that is written to.
    pub(crate) fn expire(&self) {
        let before = self.records();
        self.delete_finished();
        let inner = &mut *self.0.borrow_mut();
        let first = inner.records.first().map_or(inner.next, |stored| stored.record.offset);
        if let Some(last) = before.iter().rev().find(|record| record.offset < first) {
            inner.deleted_below = inner.deleted_below.max(last.offset + 1);
        }
    }

    fn delete_finished(&self) {
        let inner = &mut *self.0.borrow_mut();
        let watermark = inner.done_below;
        let Some(kept) = inner
            .records
            .iter()
            .find(|stored| stored.record.offset >= watermark)
            .map(|stored| stored.segment)
        else {
            let active = inner.segment;
            inner.records.retain(|stored| stored.segment == active);
            return;
        };
        inner.records.retain(|stored| stored.segment >= kept);
    }

    pub(crate) fn next_offset(&self) -> Offset {
        self.0.borrow().next
    }

    pub(crate) fn reader(&self) -> ModelReader {
        ModelReader { log: self.clone(), position: 0 }
    }

    /// Everything that is there.
    pub(crate) fn records(&self) -> Vec<Arc<Record>> {
        self.inner().records.iter().map(|stored| Arc::clone(&stored.record)).collect()
    }

    fn inner(&self) -> Ref<'_, Inner> {
        self.0.borrow()
    }
}

pub(crate) struct ModelReader {
    log: ModelLog,
    position: Offset,
}

impl RecordSource for ModelReader {
    type Error = DiskRefuses;

    fn position(&self) -> Offset {
        self.position
    }

    fn seek(&mut self, offset: Offset) {
        self.position = offset;
    }

    fn read(
        &mut self,
        max_records: usize,
        _max_bytes: usize,
        out: &mut Vec<Arc<Record>>,
    ) -> Result<(), DiskRefuses> {
        let inner = &mut *self.log.0.borrow_mut();
        let fails = inner.failing_reads > 0;
        inner.failing_reads = inner.failing_reads.saturating_sub(1);
        // A disk may fail in the middle. Earlier reads count.
        let most = if fails { (inner.failing_reads % 2) as usize } else { max_records.min(READ_AT_ONCE) };
        let above = inner.records.iter().filter(|stored| stored.record.offset >= self.position);
        let records: Vec<_> = above.take(most).map(|stored| Arc::clone(&stored.record)).collect();
        match records.last() {
            Some(last) => self.position = last.offset + 1,
            None if fails => {}
            None => self.position = self.position.max(inner.next),
        }
        out.extend(records);
        if fails { Err(DiskRefuses) } else { Ok(()) }
    }

    fn reader_at(&self, offset: Offset) -> Self {
        Self { log: self.log.clone(), position: offset }
    }
}
