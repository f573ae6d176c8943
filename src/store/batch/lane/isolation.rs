//! Finds out whether the only message of a step is at fault for a rejection by the database.

use std::sync::Arc;

use tokio::time::timeout;

use super::super::attempts::Attempts;
use super::super::fence::LaneFenced;
use super::super::lagging::{DeferredFlow, set_aside};
use super::super::locked_flow::IfLocked;
use super::super::part::{BatchPart, FlowScope};
use super::super::progress::BatchStep;
use super::super::refusals::MAX_REFUSED;
use super::super::remedy::ExaminedMessage;
use super::super::suspects::refusal_of;
use super::{LaneObserver, LaneStore, Reaction};
use crate::domain::batch::LaggingFlow;
use crate::domain::message::FlowId;
use crate::store::error::StoreError;

impl LaneStore {
    /// Tries the only message of a step for each of its flows. If the message is at fault it becomes a dead letter,
    /// else the database is waited for. A flow with too many such dead letters is set aside.
    pub(super) async fn examine(
        &mut self,
        attempts: &mut Attempts<'_>,
        step: &BatchStep,
        refusal: StoreError,
        observer: &impl LaneObserver,
    ) -> Result<Reaction, LaneFenced> {
        let found = match self.refused_flows(attempts, step).await {
            Ok(found) => found,
            Err(error) => {
                observer.failed(&error);
                return Ok(Reaction::RetryLater(error));
            }
        };
        let is_resolved = match ExaminedMessage::new(found, &self.refusals) {
            ExaminedMessage::MessageIsAccepted => false,
            ExaminedMessage::DeadLetters(flows) => {
                let index = step.range.start;
                attempts.poison.extend(flows.into_iter().map(|(flow, reason)| ((index, flow), reason)));
                true
            }
            ExaminedMessage::SetAside(flows) => {
                self.set_aside(attempts, step, flows, &refusal, observer).await?
            }
        };
        Ok(if is_resolved { Reaction::Retry } else { Reaction::RetryLater(refusal) })
    }

    /// The flows for which the only message of a step is at fault, with the error. A message whose dead letter was
    /// rejected as well is not tried again.
    async fn refused_flows(
        &mut self,
        attempts: &Attempts<'_>,
        step: &BatchStep,
    ) -> Result<Vec<(FlowId, String)>, StoreError> {
        self.check_limits().await?;
        let rules = Arc::clone(&self.rules);
        let mut found = Vec::new();
        for flow in attempts.part(step, &self.lagging).flows() {
            if attempts.poison.contains_key(&(step.range.start, flow)) {
                continue;
            }
            // The failed attempt may release its lock only now.
            let work = BatchPart {
                scope: FlowScope::Only(flow),
                if_locked: IfLocked::Wait,
                ..attempts.part(step, &self.lagging)
            };
            let trying =
                refusal_of(&self.database, &rules, &mut self.schemas, &work, flow, self.transaction_timeout);
            let tried = trying.await;
            if let Some(refusal) = self.reconnect_if_timed_out(tried)? {
                found.push((flow, refusal.to_string()));
            }
        }
        Ok(found)
    }

    /// Defers flows whose messages the database rejects one after the other. Returns whether it could: not if they are
    /// too many, or if the database fails.
    async fn set_aside(
        &mut self,
        attempts: &mut Attempts<'_>,
        step: &BatchStep,
        flows: Vec<DeferredFlow>,
        refusal: &StoreError,
        observer: &impl LaneObserver,
    ) -> Result<bool, LaneFenced> {
        if flows.len() > attempts.max_deferred() {
            return Ok(false);
        }
        let writing = set_aside(&self.database, self.row(), step.expected.lane, flows);
        let written = timeout(self.transaction_timeout, writing).await.ok();
        let Some(flows) = self.resolve_deferral(attempts, step, written, observer).await? else {
            return Ok(false);
        };
        for (lagging, code) in flows {
            self.announce(lagging, &code, refusal, observer);
        }
        Ok(true)
    }

    pub(super) fn announce(
        &mut self,
        lagging: LaggingFlow,
        code: &str,
        refusal: &StoreError,
        observer: &impl LaneObserver,
    ) {
        if self.refusals.announce(lagging.flow) {
            observer.set_aside(lagging, code, MAX_REFUSED, refusal);
        }
    }
}
