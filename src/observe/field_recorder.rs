//! The fields that the lanes see in messages, until they are written to the table.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::batch::{BatchOutcome, Lane, ProcessError, ProcessedMessage, lane_of};
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::drift::{FieldLog, ObservedFields, SeenFlow};
use crate::domain::message::FlowId;

/// The fields of all lanes. A worker locks its lane once per batch, and no lock lasts longer.
#[derive(Debug)]
pub struct FieldRecorder {
    lanes: Vec<Mutex<ObservedFields>>,
    is_off: AtomicBool,
}

impl FieldRecorder {
    /// Creates the recorder of this number of lanes.
    #[must_use]
    pub fn new(lanes: u32) -> Self {
        Self { lanes: (0..lanes).map(|_| Mutex::default()).collect(), is_off: AtomicBool::new(false) }
    }

    /// Notes the messages that a lane has processed.
    pub fn note(
        &self,
        lane: Lane,
        messages: &mut dyn Iterator<Item = ProcessedMessage<'_>>,
        outcome: &BatchOutcome,
    ) {
        if self.is_off.load(Ordering::Relaxed) {
            return;
        }
        let Some(mut lane) = self.lane(lane) else { return };
        for (flow, record, payload) in messages {
            lane.observe(flow, payload, &record.topic, record.received_at_us);
        }
        for result in &outcome.results {
            if let Err(ProcessError::Rejected(rejection)) = result
                && rejection.reason == DeadLetterReason::ValidationFailed
                && let Some((flow, _)) = rejection.flow
            {
                lane.refused(flow);
            }
        }
    }

    /// Takes the facts to write now, of at most `max` flows of each lane. `now` is the age of the process.
    pub fn take(&self, now: Duration, max: usize) -> Vec<SeenFlow> {
        let lanes = self.lanes.iter().map(|lane| lane.lock().unwrap_or_else(PoisonError::into_inner));
        lanes.flat_map(|mut lane| lane.take(now, max)).collect()
    }

    /// Has all facts returned by the next calls of [`Self::take`].
    pub fn mark_due(&self) {
        for lane in &self.lanes {
            lane.lock().unwrap_or_else(PoisonError::into_inner).mark_due();
        }
    }

    /// Notes the fields that the table has of a flow; none if the flow was removed.
    pub fn learn(&self, flow: FlowId, log: Option<&FieldLog>) {
        let lanes = u32::try_from(self.lanes.len()).unwrap_or(u32::MAX);
        let Some(mut lane) = self.lane(lane_of(flow, lanes)) else { return };
        match log {
            Some(log) => lane.learn(flow, log),
            None => lane.forget(flow),
        }
    }

    /// Records nothing from now on.
    pub fn switch_off(&self) {
        self.is_off.store(true, Ordering::Relaxed);
        for lane in &self.lanes {
            *lane.lock().unwrap_or_else(PoisonError::into_inner) = ObservedFields::default();
        }
    }

    fn lane(&self, lane: Lane) -> Option<MutexGuard<'_, ObservedFields>> {
        let lane = self.lanes.get(usize::try_from(lane).ok()?)?;
        Some(lane.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
