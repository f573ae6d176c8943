//! The state of a batch over its attempts.

use std::collections::BTreeSet;

use super::BatchRules;
use super::fence::LaneFenced;
use super::locked_flow::IfLocked;
use super::part::{BatchPart, FlowScope};
use super::position::Position;
use super::progress::{BatchProgress, BatchStep};
use crate::domain::batch::{Batch, BatchOutcome, CatchUp, Scope};
use crate::domain::message::FlowId;
use crate::domain::processing::{ParsedMessage, PoisonMessages};

pub(super) struct Attempts<'a> {
    messages: &'a [ParsedMessage<'a>],
    scope: Scope,
    pub(super) progress: BatchProgress<'a>,
    pub(super) poison: PoisonMessages,
    /// A step whose COMMIT was not answered, with its outcome if it took place.
    pub(super) unknown: Option<(BatchStep, BatchOutcome)>,
    pub(super) outcome: BatchOutcome,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(batch: &'a Batch, messages: &'a [ParsedMessage<'a>]) -> Self {
        Self {
            messages,
            scope: batch.scope,
            progress: BatchProgress::new(batch),
            poison: PoisonMessages::new(),
            unknown: None,
            outcome: BatchOutcome::default(),
        }
    }

    /// The flow of a batch of a lagging flow.
    pub(super) fn lagging_flow(&self) -> Option<FlowId> {
        match self.scope {
            Scope::Lane { .. } => None,
            Scope::Lagging { flow, .. } => Some(flow),
        }
    }

    /// Number of flows that may still be deferred.
    pub(super) fn max_deferred(&self) -> usize {
        match self.scope {
            Scope::Lane { max_deferred } => max_deferred.saturating_sub(self.outcome.deferred.len()),
            Scope::Lagging { .. } => 0,
        }
    }

    /// The work of a step. The lock of a lagging flow is as a rule not waited for: the other flows of the lane would
    /// wait as well.
    pub(super) fn part<'w>(&'w self, step: &BatchStep, lagging: &'w BTreeSet<FlowId>) -> BatchPart<'w> {
        let flow = self.lagging_flow();
        BatchPart {
            messages: self.messages,
            range: step.range.clone(),
            scope: flow.map_or(FlowScope::Except(lagging), FlowScope::Only),
            if_locked: if flow.is_none() { IfLocked::Wait } else { IfLocked::Fail },
            poison: &self.poison,
            draft: None,
            waits: None,
        }
    }

    /// Payload bytes of a step.
    pub(super) fn bytes(&self, step: &BatchStep) -> usize {
        let messages = self.messages.get(step.range.clone()).unwrap_or_default();
        messages.iter().map(|message| message.record.body.as_bytes().len()).sum()
    }

    /// Records that the step is committed.
    pub(super) fn committed(&mut self, step: &BatchStep, outcome: BatchOutcome, rules: &BatchRules) {
        for post in &outcome.posts {
            rules.gauge.add(post.key.flow_id, post.created_at_us);
        }
        self.progress.committed(step);
        self.outcome.results.extend(outcome.results);
        self.outcome.posts.extend(outcome.posts);
        self.outcome.catch_up = outcome.catch_up;
        self.unknown = None;
    }

    /// Resolves a position that was not expected: it is fine if an unanswered COMMIT explains it.
    pub(super) fn resolve(&mut self, found: Position) -> Result<(BatchStep, BatchOutcome), LaneFenced> {
        let lost = self.unknown.take();
        lost.filter(|(step, _)| found == step.next).ok_or(LaneFenced(found.lane))
    }

    /// Ends the batch because the row of the lagging flow is locked. After a committed step the lane must be reopened.
    pub(super) fn still_locked(&mut self, step: &BatchStep) -> Result<(), LaneFenced> {
        if self.outcome.catch_up.is_some() {
            return Err(LaneFenced(step.expected.lane));
        }
        self.outcome.catch_up = Some(CatchUp::StillLocked);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::position::Lag;
    use super::*;
    use crate::domain::batch::LanePosition;

    const HERE: LanePosition = LanePosition { epoch: 7, next_offset: 90 };
    const ELSEWHERE: LanePosition = LanePosition { epoch: 8, next_offset: 90 };

    /// An empty batch from offset 90 to 100 in epoch 7.
    fn batch(scope: Scope) -> Batch {
        Batch { lane: 0, epoch: 7, scope, from: 90, next: 100, entries: Vec::new() }
    }

    fn of_lane() -> Batch {
        batch(Scope::Lane { max_deferred: 0 })
    }

    #[test]
    fn unexpected_position_fences_the_batch() {
        let batch = of_lane();
        let mut attempts = Attempts::new(&batch, &[]);
        let found = Position { lane: ELSEWHERE, lag: Lag::NotAsked };
        assert_eq!(attempts.resolve(found).map(|_| ()), Err(LaneFenced(ELSEWHERE)));
    }

    #[test]
    fn lost_commit_explains_the_next_position() {
        let batch = of_lane();
        for (took_place, resolved) in [(true, Ok(())), (false, Err(LaneFenced(HERE)))] {
            let mut attempts = Attempts::new(&batch, &[]);
            let step = attempts.progress.step();
            let found = step.as_ref().map(|step| if took_place { step.next } else { step.expected });
            attempts.unknown = step.map(|step| (step, BatchOutcome::default()));
            assert_eq!(found.map(|found| attempts.resolve(found).map(|_| ())), Some(resolved));
            assert!(attempts.unknown.is_none(), "it explains one position only");
        }
    }

    #[test]
    fn flow_locked_after_a_commit_fences_the_batch() {
        let batch = batch(Scope::Lagging { flow: 1, lane_at: 100 });
        let mut attempts = Attempts::new(&batch, &[]);
        let step = attempts.progress.step().unwrap();
        assert_eq!(attempts.still_locked(&step), Ok(()));
        assert_eq!(attempts.outcome.catch_up, Some(CatchUp::StillLocked));
        attempts.outcome.catch_up = Some(CatchUp::Advanced);
        assert_eq!(attempts.still_locked(&step), Err(LaneFenced(step.expected.lane)));
    }
}
