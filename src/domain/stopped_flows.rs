//! Requests a reload when messages still arrive for disabled or deleted flows.
//!
//! Without it the broker would send such messages until the next periodic reload, and each would become a dead letter.

use std::cell::Cell;
use std::time::Duration;

use super::batch::{ProcessError, ProcessResult};

/// Minimum interval between two reload requests of one worker.
const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// Time of the worker's last reload request, from an origin chosen by the caller.
#[derive(Debug, Default)]
pub struct StoppedFlows {
    asked_at: Cell<Option<Duration>>,
}

impl StoppedFlows {
    /// Returns whether these results require a reload now, and records the request.
    pub fn wants_reload(&self, results: &[Result<ProcessResult, ProcessError>], now: Duration) -> bool {
        let is_due = self.asked_at.get().is_none_or(|asked_at| now.saturating_sub(asked_at) >= MIN_INTERVAL);
        let wants = is_due && results.iter().any(is_rejected_for_stopped_flow);
        if wants {
            self.asked_at.set(Some(now));
        }
        wants
    }
}

fn is_rejected_for_stopped_flow(result: &Result<ProcessResult, ProcessError>) -> bool {
    matches!(result, Err(ProcessError::Rejected(rejection)) if rejection.reason.is_about_a_stopped_flow())
}

#[cfg(test)]
mod tests {
    use super::super::batch::Rejection;
    use super::super::dead_letter::DeadLetterReason;
    use super::*;

    fn rejected(reason: DeadLetterReason) -> Result<ProcessResult, ProcessError> {
        Err(ProcessError::Rejected(Rejection {
            flow: Some((1, None)),
            message_id: None,
            inbox_offset: 0,
            topic: String::new(),
            reason,
            detail: String::new(),
        }))
    }

    #[test]
    fn reloads_are_requested_every_5_seconds_at_most() {
        let (flows, start) = (StoppedFlows::default(), Duration::from_secs(1));
        let seconds_later = |seconds| start + Duration::from_secs(seconds);
        assert!(flows.wants_reload(&[rejected(DeadLetterReason::FlowDisabled)], start));
        assert!(!flows.wants_reload(&[rejected(DeadLetterReason::FlowDeleted)], seconds_later(4)));
        assert!(flows.wants_reload(&[rejected(DeadLetterReason::FlowDeleted)], seconds_later(5)));
    }

    #[test]
    fn other_rejections_request_no_reload() {
        let flows = StoppedFlows::default();
        assert!(!flows.wants_reload(&[rejected(DeadLetterReason::ValidationFailed)], Duration::ZERO));
    }
}
