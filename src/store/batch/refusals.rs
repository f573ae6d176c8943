//! Counts the messages that the database rejected in a row, by flow. Pure.
//!
//! A new worker counts from 0. So after a restart a flow that is set aside makes [`MAX_REFUSED`] more dead letters
//! before it waits again.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::batch::{ProcessError, ProcessResult};
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::message::FlowId;

/// Most messages of a flow in a row that become dead letters because the database rejects them. At the next one the
/// flow itself counts as the culprit, and waits as a whole.
pub(super) const MAX_REFUSED: u32 = 20;

/// The flows whose last messages were rejected.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    flows: HashMap<FlowId, RefusedFlow>,
}

#[derive(Debug)]
struct RefusedFlow {
    code: Arc<str>,
    in_a_row: u32,
    is_announced: bool,
}

impl Refusals {
    /// Counts the rejections by the database. A numbered message resets its flow; other rejections change nothing.
    pub(super) fn count(&mut self, results: &[Result<ProcessResult, ProcessError>]) {
        for result in results {
            match result {
                Ok(numbered) => self.flows.retain(|_, refused| refused.code != numbered.flow_code),
                Err(ProcessError::Rejected(rejection))
                    if rejection.reason == DeadLetterReason::RefusedByDatabase =>
                {
                    if let Some((flow, Some(code))) = &rejection.flow {
                        self.add(*flow, code);
                    }
                }
                Err(_) => {}
            }
        }
    }

    fn add(&mut self, flow: FlowId, code: &Arc<str>) {
        let new = RefusedFlow { code: Arc::clone(code), in_a_row: 0, is_announced: false };
        let refused = self.flows.entry(flow).or_insert(new);
        // The code may have been edited.
        refused.code = Arc::clone(code);
        refused.in_a_row += 1;
    }

    /// The code of a flow that has reached the limit.
    pub(super) fn exceeded(&self, flow: FlowId) -> Option<Arc<str>> {
        let refused = self.flows.get(&flow).filter(|refused| refused.in_a_row >= MAX_REFUSED)?;
        Some(Arc::clone(&refused.code))
    }

    /// Returns whether this is the first announcement that the flow is set aside.
    pub(super) fn announce(&mut self, flow: FlowId) -> bool {
        let refused = self.flows.get_mut(&flow);
        refused.is_some_and(|refused| !std::mem::replace(&mut refused.is_announced, true))
    }

    /// Forgets a flow that has caught up.
    pub(super) fn forget(&mut self, flow: FlowId) {
        self.flows.remove(&flow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::batch::Rejection;
    use crate::domain::flow::Action;

    fn numbered(code: &str) -> ProcessResult {
        ProcessResult { flow_code: code.into(), message_id: 1, action: Action::StoreDb, inbox_offset: 0 }
    }

    fn rejected(flow: FlowId, code: &str, reason: DeadLetterReason) -> ProcessError {
        ProcessError::Rejected(Rejection {
            flow: Some((flow, Some(code.into()))),
            message_id: None,
            inbox_offset: 0,
            topic: String::new(),
            reason,
            detail: String::new(),
        })
    }

    fn refused(flow: FlowId, code: &str) -> ProcessError {
        rejected(flow, code, DeadLetterReason::RefusedByDatabase)
    }

    #[test]
    fn a_flow_exceeds_the_limit_by_refusals_in_a_row() {
        let mut refusals = Refusals::default();
        for _ in 1..MAX_REFUSED {
            refusals.count(&[
                Err(refused(1, "A")),
                Ok(numbered("B")),
                Err(rejected(1, "A", DeadLetterReason::ValidationFailed)),
            ]);
        }
        assert_eq!(refusals.exceeded(1), None);
        refusals.count(&[Err(refused(1, "A"))]);
        assert_eq!(refusals.exceeded(1).as_deref(), Some("A"));
        assert_eq!(refusals.exceeded(2), None);
    }

    #[test]
    fn a_message_that_goes_in_begins_the_count_again() {
        let mut refusals = Refusals::default();
        for _ in 0..3 {
            for _ in 1..MAX_REFUSED {
                refusals.count(&[Err(refused(1, "A"))]);
            }
            refusals.count(&[Ok(numbered("A"))]);
        }
        assert_eq!(refusals.exceeded(1), None);
    }

    #[test]
    fn a_flow_is_announced_once() {
        let mut refusals = Refusals::default();
        refusals.count(&[Err(refused(1, "A"))]);
        assert_eq!([refusals.announce(1), refusals.announce(1), refusals.announce(2)], [true, false, false]);
        refusals.forget(1);
        refusals.count(&[Err(refused(1, "A"))]);
        assert!(refusals.announce(1));
    }
}
