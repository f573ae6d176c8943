//! A batch under way, and what was learnt on the way.

use std::collections::BTreeSet;

use super::BatchRules;
use super::lane::BatchFailure;
use super::position::Position;
use super::progress::{Progress, Step};
use super::transaction::{FlowScope, Work};
use crate::domain::batch::{Batch, BatchOutcome, CatchUp, Scope};
use crate::domain::message::FlowId;
use crate::domain::processing::{ParsedMessage, PoisonMessages};

pub(super) struct Attempts<'a> {
    messages: &'a [ParsedMessage<'a>],
    scope: Scope,
    pub(super) progress: Progress<'a>,
    pub(super) poison: PoisonMessages,
    /// A step whose COMMIT went unanswered, and what it would have come to.
    pub(super) unknown: Option<(Step, BatchOutcome)>,
    pub(super) outcome: BatchOutcome,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(batch: &'a Batch, messages: &'a [ParsedMessage<'a>]) -> Self {
        Self {
            messages,
            scope: batch.scope,
            progress: Progress::new(batch),
            poison: PoisonMessages::new(),
            unknown: None,
            outcome: BatchOutcome::default(),
        }
    }

    /// The flow, of a batch that is about one that lags.
    pub(super) fn lagging_flow(&self) -> Option<FlowId> {
        match self.scope {
            Scope::Lane { .. } => None,
            Scope::Lagging { flow, .. } => Some(flow),
        }
    }

    /// How many flows may yet be left behind.
    pub(super) fn max_deferred(&self) -> usize {
        match self.scope {
            Scope::Lane { max_deferred } => max_deferred.saturating_sub(self.outcome.deferred.len()),
            Scope::Lagging { .. } => 0,
        }
    }

    /// What a step is about. A flow that lags is as a rule not waited for: the others of its lane
    /// would wait, too.
    pub(super) fn work<'w>(&'w self, step: &Step, lagging: &'w BTreeSet<FlowId>) -> Work<'w> {
        let of_one = self.lagging_flow();
        Work {
            messages: self.messages,
            range: step.range.clone(),
            scope: of_one.map_or(FlowScope::Except(lagging), FlowScope::Only),
            waits: of_one.is_none(),
            poison: &self.poison,
        }
    }

    /// Bytes of payload that a step is about.
    pub(super) fn bytes(&self, step: &Step) -> usize {
        let messages = self.messages.get(step.range.clone()).unwrap_or_default();
        messages.iter().map(|message| message.record.body.as_bytes().len()).sum()
    }

    /// The step is in SQL.
    pub(super) fn committed(&mut self, step: &Step, outcome: BatchOutcome, rules: &BatchRules) {
        for post in &outcome.posts {
            rules.gauge.add(post.key.flow_id, post.created_at_us);
        }
        self.progress.committed(step);
        self.outcome.results.extend(outcome.results);
        self.outcome.posts.extend(outcome.posts);
        self.outcome.catch_up = outcome.catch_up;
        self.unknown = None;
    }

    /// Things stand elsewhere: where a step whose COMMIT went unanswered would have brought them?
    pub(super) fn resolve(&mut self, found: Position) -> Result<(Step, BatchOutcome), BatchFailure> {
        let lost = self.unknown.take();
        lost.filter(|(step, _)| found == step.next).ok_or(BatchFailure::Fenced(found.lane))
    }

    /// The flow that lags cannot be had. If a part of the batch is done, only SQL can say how far.
    pub(super) fn still_locked(&mut self, step: &Step) -> Result<(), BatchFailure> {
        if self.outcome.catch_up.is_some() {
            return Err(BatchFailure::Fenced(step.expected.lane));
        }
        self.outcome.catch_up = Some(CatchUp::StillLocked);
        Ok(())
    }
}
