//! The latest messages of single flows, for people in front of their pages.
//!
//! A reader takes the new messages now and then. Until then a bounded number of events is kept, and further ones are
//! only counted, so that a tail of a busy flow costs little.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::batch::{Batch, ProcessError, ProcessResult};
use crate::domain::flow::Action;
use crate::domain::message_event::{MessageEvent, record_of};

/// Events that are kept until the reader takes them.
const MAX_KEPT: usize = 20;

/// All open tails.
#[derive(Debug, Default)]
pub(super) struct FlowTails {
    /// Their number, to be read without the lock.
    open: AtomicUsize,
    tails: Mutex<Vec<Arc<TailBuffer>>>,
}

/// The messages of a flow from its creation on.
#[derive(Debug)]
pub struct FlowTail {
    buffer: Arc<TailBuffer>,
    tails: Arc<FlowTails>,
}

#[derive(Debug)]
struct TailBuffer {
    flow: String,
    kept: Mutex<KeptEvents>,
}

/// Messages since the last time.
#[derive(Debug, Default, PartialEq)]
pub struct KeptEvents {
    /// The first events.
    pub events: Vec<MessageEvent>,
    /// Number of further ones.
    pub further: u64,
}

impl FlowTails {
    pub(super) fn open(self: &Arc<Self>, flow: String) -> FlowTail {
        let buffer = Arc::new(TailBuffer { flow, kept: Mutex::default() });
        let mut tails = self.tails();
        tails.push(Arc::clone(&buffer));
        self.open.store(tails.len(), Relaxed);
        drop(tails);
        FlowTail { buffer, tails: Arc::clone(self) }
    }

    /// Whether a tail of this flow is open.
    pub(super) fn want(&self, flow: &str) -> bool {
        self.are_open() && self.tails().iter().any(|tail| tail.flow == flow)
    }

    pub(super) fn are_open(&self) -> bool {
        self.open.load(Relaxed) > 0
    }

    pub(super) fn add(&self, event: &MessageEvent) {
        if self.are_open()
            && let Some(flow) = &event.flow
        {
            let tails = self.tails();
            tails
                .iter()
                .filter(|tail| tail.flow == *flow)
                .for_each(|tail| tail.kept().add(|| Some(event.clone())));
        }
    }

    /// Adds the results of a batch. Only events that are kept are made.
    pub(super) fn add_results(
        &self,
        batch: &Batch,
        results: &[Result<ProcessResult, ProcessError>],
        now_us: i64,
    ) {
        for tail in self.tails().iter() {
            let mut kept = tail.kept();
            for result in results.iter().filter(|result| code_of(result) == Some(tail.flow.as_str())) {
                kept.add(|| MessageEvent::from_result(result, record_of(result, &batch.entries)?, now_us));
            }
        }
    }

    fn tails(&self) -> MutexGuard<'_, Vec<Arc<TailBuffer>>> {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The flow of a result. A message that waits for its post has no event yet.
fn code_of(result: &Result<ProcessResult, ProcessError>) -> Option<&str> {
    match result {
        Ok(ProcessResult { flow_code, action: Action::StoreDb, .. })
        | Err(ProcessError::Repeated { flow_code, .. }) => Some(flow_code),
        Ok(ProcessResult { action: Action::PostEndpoint, .. }) => None,
        Err(ProcessError::Rejected(rejection)) => rejection.flow.as_ref()?.1.as_deref(),
    }
}

impl TailBuffer {
    fn kept(&self) -> MutexGuard<'_, KeptEvents> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeptEvents {
    fn add(&mut self, event: impl FnOnce() -> Option<MessageEvent>) {
        if self.events.len() < MAX_KEPT {
            self.events.extend(event());
        } else {
            self.further += 1;
        }
    }
}

impl FlowTail {
    /// Takes the messages since the last time.
    #[must_use]
    pub fn take(&self) -> KeptEvents {
        std::mem::take(&mut self.buffer.kept())
    }
}

impl Drop for FlowTail {
    fn drop(&mut self) {
        let mut tails = self.tails.tails();
        tails.retain(|tail| !Arc::ptr_eq(tail, &self.buffer));
        self.tails.open.store(tails.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message_event::MessageOutcome;

    fn event(flow: &str) -> MessageEvent {
        MessageEvent {
            outcome: MessageOutcome::Posted,
            time: String::new(),
            flow: Some(flow.to_owned()),
            message_id: None,
            topic: String::new(),
            payload_bytes: 0,
            payload: String::new(),
            payload_is_cut: false,
            duration_ms: 0.0,
            endpoint: None,
            status: None,
            attempts: None,
            reason: None,
            detail: None,
        }
    }

    #[test]
    fn tail_has_the_events_of_its_flow() {
        let tails = Arc::<FlowTails>::default();
        let tail = tails.open("F".to_owned());
        assert!(tails.want("F") && !tails.want("G"));
        tails.add(&event("F"));
        tails.add(&event("G"));
        assert_eq!(tail.take(), KeptEvents { events: vec![event("F")], further: 0 });
        assert_eq!(tail.take(), KeptEvents::default());
        drop(tail);
        assert!(!tails.are_open() && !tails.want("F"));
    }

    #[test]
    fn further_events_are_counted() {
        let tails = Arc::<FlowTails>::default();
        let tail = tails.open("F".to_owned());
        (0..50).for_each(|_| tails.add(&event("F")));
        let kept = tail.take();
        assert_eq!((kept.events.len(), kept.further), (MAX_KEPT, 50 - MAX_KEPT as u64));
    }
}
