//! How far a batch has got, and how much of it to attempt next. Decides; touches no database.

use std::ops::Range;

use crate::domain::batch::{Batch, LanePosition};
use crate::domain::message::Offset;

/// Failures in a row after which less is attempted at once.
const FAILURES_BEFORE_HALVING: u32 = 3;

/// The part of a batch that one transaction is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// Messages of the batch.
    pub(super) range: Range<usize>,
    /// Where the lane must stand.
    pub(super) expected: LanePosition,
    /// Where it stands once the step is committed.
    pub(super) next: LanePosition,
}

/// A batch under way.
#[derive(Debug)]
pub(super) struct Progress<'a> {
    batch: &'a Batch,
    /// Messages that are in SQL.
    done: usize,
    position: Offset,
    /// Most messages of one step.
    span: usize,
    failures: u32,
    finished: bool,
}

impl<'a> Progress<'a> {
    pub(super) fn new(batch: &'a Batch) -> Self {
        Self {
            batch,
            done: 0,
            position: batch.from,
            span: batch.entries.len().max(1),
            failures: 0,
            finished: batch.from == batch.next,
        }
    }

    /// What to attempt now; `None` when all is in SQL.
    pub(super) fn step(&self) -> Option<Step> {
        if self.finished {
            return None;
        }
        let end = (self.done + self.span).min(self.batch.entries.len());
        let next = self.batch.entries.get(end).map_or(self.batch.next, |entry| entry.record.offset);
        let at = |next_offset| LanePosition { epoch: self.batch.epoch, next_offset };
        Some(Step { range: self.done..end, expected: at(self.position), next: at(next) })
    }

    /// The step is in SQL.
    pub(super) fn committed(&mut self, step: &Step) {
        self.done = step.range.end;
        self.position = step.next.next_offset;
        self.finished = self.position == self.batch.next;
        self.failures = 0;
        self.span = self.span.saturating_mul(2).min(self.batch.entries.len().max(1));
    }

    /// The step failed; returns how many did in a row.
    pub(super) fn failed(&mut self) -> u32 {
        self.failures += 1;
        if self.failures.is_multiple_of(FAILURES_BEFORE_HALVING) {
            self.halve();
        }
        self.failures
    }

    /// Attempts less at once.
    pub(super) fn halve(&mut self) {
        self.span = (self.span / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::batch::{BatchEntry, Scope};
    use crate::domain::message::{Body, Record};

    fn batch(length: u64) -> Batch {
        let record = |offset| Record {
            offset,
            received_at_us: 0,
            topic: "t".into(),
            body: Body::Whole(Vec::new()),
            delivery: crate::domain::message::DeliveryFacts::default(),
        };
        let entry = |index: u64| BatchEntry {
            record: Arc::new(record(100 + 3 * index)),
            flows: vec![1],
            judge: false,
        };
        Batch {
            lane: 0,
            epoch: 7,
            scope: Scope::Lane { may_leave_behind: 0 },
            from: 90,
            next: 500,
            entries: (0..length).map(entry).collect(),
        }
    }

    proptest! {
        #[test]
        fn steps_cover_the_batch_once_and_in_order_whatever_fails(
            length in 0_u64..40,
            outcomes in proptest::collection::vec(0_u8..3, 0..200),
        ) {
            let batch = batch(length);
            let mut progress = Progress::new(&batch);
            let (mut covered, mut position) = (0, batch.from);
            let mut outcomes = outcomes.into_iter();
            while let Some(step) = progress.step() {
                prop_assert_eq!(step.range.start, covered);
                prop_assert_eq!(step.expected, LanePosition { epoch: 7, next_offset: position });
                prop_assert!(step.next.next_offset > position);
                match outcomes.next() {
                    Some(0) => { progress.failed(); }
                    Some(1) => progress.halve(),
                    _ => {
                        covered = step.range.end;
                        position = step.next.next_offset;
                        progress.committed(&step);
                    }
                }
            }
            prop_assert_eq!(covered, batch.entries.len());
            prop_assert_eq!(position, batch.next);
        }
    }

    #[test]
    fn repeated_failures_halve_the_step_down_to_one_message() {
        let batch = batch(8);
        let mut progress = Progress::new(&batch);
        for _ in 0..12 {
            progress.failed();
        }
        assert_eq!(progress.step().map(|step| step.range), Some(0..1));
    }
}
