//! How far a batch is, and how much of it to attempt next. Pure.

use std::ops::Range;

use super::position::Position;
use crate::domain::batch::Batch;

/// Failures in a row after which the next step is halved.
const FAILURES_BEFORE_HALVING: u32 = 3;

/// The part of a batch that one transaction processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BatchStep {
    /// Messages of the batch.
    pub(super) range: Range<usize>,
    /// The expected position.
    pub(super) expected: Position,
    /// The position after the commit.
    pub(super) next: Position,
}

/// A batch in progress.
#[derive(Debug)]
pub(super) struct BatchProgress<'a> {
    batch: &'a Batch,
    /// Number of committed messages.
    done: usize,
    position: Position,
    /// The position after the whole batch.
    end: Position,
    /// Most messages of one step.
    span: usize,
    failures: u32,
    finished: bool,
}

impl<'a> BatchProgress<'a> {
    pub(super) fn new(batch: &'a Batch) -> Self {
        let (position, end) = (Position::before(batch), Position::after(batch, batch.next));
        Self {
            batch,
            done: 0,
            position,
            end,
            span: batch.entries.len().max(1),
            failures: 0,
            finished: position == end,
        }
    }

    /// The next step; `None` when all is committed.
    pub(super) fn step(&self) -> Option<BatchStep> {
        if self.finished {
            return None;
        }
        let end = (self.done + self.span).min(self.batch.entries.len());
        let next = self.batch.entries.get(end).map_or(self.batch.next, |entry| entry.record.offset);
        let next = Position::after(self.batch, next);
        Some(BatchStep { range: self.done..end, expected: self.position, next })
    }

    /// Records that the step is committed, and doubles the next one.
    pub(super) fn committed(&mut self, step: &BatchStep) {
        self.done = step.range.end;
        self.position = step.next;
        self.finished = self.position == self.end;
        self.failures = 0;
        self.span = self.span.saturating_mul(2).min(self.batch.entries.len().max(1));
    }

    /// Records a failure; returns the number of failures in a row.
    pub(super) fn failed(&mut self) -> u32 {
        self.failures += 1;
        if self.failures.is_multiple_of(FAILURES_BEFORE_HALVING) {
            self.halve();
        }
        self.failures
    }

    /// Halves the next step.
    pub(super) fn halve(&mut self) {
        self.span = (self.span / 2).max(1);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::position::Lag;
    use super::*;
    use crate::domain::batch::LanePosition;
    use crate::domain::batch::{BatchEntry, Scope};
    use crate::domain::message::{Body, Offset, Record};

    const LANE: Scope = Scope::Lane { max_deferred: 0 };

    fn batch(scope: Scope, length: u64) -> Batch {
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
            reports_invalid_payload: false,
        };
        Batch { lane: 0, epoch: 7, scope, from: 90, next: 500, entries: (0..length).map(entry).collect() }
    }

    /// The scope of the lane, or of a flow that catches up with a lane at or beyond the end.
    fn any_scope() -> impl Strategy<Value = Scope> {
        let lagging =
            prop_oneof![Just(500), Just(501)].prop_map(|lane_at| Scope::Lagging { flow: 1, lane_at });
        prop_oneof![Just(LANE), lagging]
    }

    /// The position when `batch` is done up to `offset`.
    fn at(batch: &Batch, offset: Offset) -> Position {
        let (lane_at, lag) = match batch.scope {
            Scope::Lane { .. } => (offset, Lag::NotAsked),
            Scope::Lagging { lane_at: 500, .. } if offset == 500 => (500, Lag::Over),
            Scope::Lagging { lane_at, .. } => (lane_at, Lag::At(offset)),
        };
        Position { lane: LanePosition { epoch: 7, next_offset: lane_at }, lag }
    }

    proptest! {
        #[test]
        fn steps_cover_the_batch_once_and_in_order_whatever_fails(
            scope in any_scope(),
            length in 0_u64..40,
            outcomes in proptest::collection::vec(0_u8..3, 0..200),
        ) {
            let batch = batch(scope, length);
            let mut progress = BatchProgress::new(&batch);
            let (mut covered, mut position) = (0, batch.from);
            let mut outcomes = outcomes.into_iter();
            while let Some(step) = progress.step() {
                let next = batch.entries.get(step.range.end).map_or(batch.next, |entry| entry.record.offset);
                prop_assert_eq!(step.range.start, covered);
                prop_assert_eq!((step.expected, step.next), (at(&batch, position), at(&batch, next)));
                match outcomes.next() {
                    Some(0) => { progress.failed(); }
                    Some(1) => progress.halve(),
                    _ => {
                        (covered, position) = (step.range.end, next);
                        progress.committed(&step);
                    }
                }
            }
            prop_assert_eq!(covered, batch.entries.len());
            prop_assert_eq!(position, batch.next);
        }
    }

    #[test]
    fn flow_at_the_offset_of_its_lane_rejoins() {
        let batch = Batch { from: 500, ..batch(Scope::Lagging { flow: 1, lane_at: 500 }, 0) };
        let step = BatchProgress::new(&batch).step().unwrap();
        assert_eq!((step.expected.lag, step.next.lag), (Lag::At(500), Lag::Over));
    }

    #[test]
    fn repeated_failures_halve_the_step_down_to_one_message() {
        let batch = batch(LANE, 8);
        let mut progress = BatchProgress::new(&batch);
        for _ in 0..12 {
            progress.failed();
        }
        assert_eq!(progress.step().map(|step| step.range), Some(0..1));
    }
}
