//! Remedies for a failed attempt. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::lagging::DeferredFlow;
use super::refusals::Refusals;
use crate::domain::message::FlowId;
use crate::domain::retry::Backoff;
use crate::store::error::ErrorClass;

/// After a deadlock: the transactions only have to run one after the other.
const AFTER_DEADLOCK: Backoff = Backoff { base: Duration::from_millis(10), max: Duration::from_millis(500) };
/// After an outage: the database gets time to recover.
const AFTER_OUTAGE: Backoff = Backoff { base: Duration::from_millis(200), max: Duration::from_secs(5) };

/// The remedy of a failed attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Retry after a pause.
    Wait,
    /// Defer the flows whose rows are locked elsewhere.
    Defer,
    /// Retry with half of the messages: one of them may be at fault.
    Split,
    /// Find out whether the only message is at fault.
    Examine,
    /// Leave the lagging flow where it is, whether the message or the database is at fault.
    StayLagging {
        /// The flow.
        flow: FlowId,
        /// Its code.
        code: Arc<str>,
    },
}

/// Returns the remedy of a failed attempt at `messages` messages. `refused` is the lagging flow of the batch if the
/// database has rejected too many of its messages in a row.
pub(super) fn remedy(class: ErrorClass, messages: usize, refused: Option<(FlowId, Arc<str>)>) -> Remedy {
    match (class, refused) {
        (ErrorClass::Poison, _) if messages > 1 => Remedy::Split,
        (ErrorClass::Poison, Some((flow, code))) => Remedy::StayLagging { flow, code },
        (ErrorClass::Poison, None) => Remedy::Examine,
        (ErrorClass::LockTimeout, _) => Remedy::Defer,
        (ErrorClass::Deadlock | ErrorClass::ConnectionLost | ErrorClass::Outage, _) => Remedy::Wait,
    }
}

/// The result of the examination of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExaminedMessage {
    /// The database accepts the message for each of its flows, so the database is waited for.
    MessageIsAccepted,
    /// The message becomes a dead letter for these flows, with the reason.
    DeadLetters(Vec<(FlowId, String)>),
    /// These flows have had too many such dead letters in a row, and wait as a whole.
    SetAside(Vec<DeferredFlow>),
}

impl ExaminedMessage {
    /// Decides by the flows for which the database rejects the message, with the reason.
    pub(super) fn new(rejected: Vec<(FlowId, String)>, refusals: &Refusals) -> Self {
        let exceeded = |(id, _): &(FlowId, String)| {
            let code = refusals.exceeded(*id)?;
            Some(DeferredFlow { id: *id, code: code.to_string() })
        };
        let exceeded: Vec<DeferredFlow> = rejected.iter().filter_map(exceeded).collect();
        if !exceeded.is_empty() {
            Self::SetAside(exceeded)
        } else if rejected.is_empty() {
            Self::MessageIsAccepted
        } else {
            Self::DeadLetters(rejected)
        }
    }
}

/// The delays between the attempts after errors of this class.
pub(super) fn backoff(class: ErrorClass) -> Backoff {
    match class {
        ErrorClass::Deadlock => AFTER_DEADLOCK,
        _ => AFTER_OUTAGE,
    }
}

#[cfg(test)]
mod tests {
    use super::super::refusals::MAX_REFUSED;
    use super::*;
    use crate::domain::batch::{ProcessError, Rejection};
    use crate::domain::dead_letter::DeadLetterReason;

    #[test]
    fn retryable_failures_back_off() {
        for class in [ErrorClass::Deadlock, ErrorClass::ConnectionLost, ErrorClass::Outage] {
            assert_eq!(remedy(class, 8, None), Remedy::Wait);
        }
        let delays = |class| [1, 2, 3, 99].map(|failures| backoff(class).delay(failures, 1.0).as_millis());
        assert_eq!(delays(ErrorClass::Outage), [200, 400, 800, 5_000]);
        assert_eq!(delays(ErrorClass::Deadlock), [10, 20, 40, 500]);
    }

    #[test]
    fn rejected_batch_is_split_to_one_message() {
        assert_eq!(
            [8, 2, 1].map(|messages| remedy(ErrorClass::Poison, messages, None)),
            [Remedy::Split, Remedy::Split, Remedy::Examine]
        );
    }

    #[test]
    fn refused_flow_stays_at_its_message() {
        let refused = || Some((7, Arc::from("F")));
        assert_eq!(remedy(ErrorClass::Poison, 2, refused()), Remedy::Split);
        let stays = Remedy::StayLagging { flow: 7, code: "F".into() };
        assert_eq!(remedy(ErrorClass::Poison, 1, refused()), stays);
        assert_eq!(remedy(ErrorClass::Outage, 1, refused()), Remedy::Wait);
    }

    /// The counts after this many rejected messages of flow 7 in a row.
    fn refusals(rejected: u32) -> Refusals {
        let mut refusals = Refusals::default();
        for _ in 0..rejected {
            refusals.count(&[Err(ProcessError::Rejected(Rejection {
                flow: Some((7, Some("F".into()))),
                message_id: None,
                inbox_offset: 0,
                topic: String::new(),
                reason: DeadLetterReason::RefusedByDatabase,
                detail: String::new(),
            }))]);
        }
        refusals
    }

    #[test]
    fn rejected_message_becomes_a_dead_letter() {
        let rejected = || vec![(7, "too long".to_owned()), (8, "too long".to_owned())];
        let finding = ExaminedMessage::new(rejected(), &refusals(MAX_REFUSED - 1));
        assert_eq!(finding, ExaminedMessage::DeadLetters(rejected()));
    }

    #[test]
    fn flow_with_too_many_rejections_is_set_aside() {
        let rejected = vec![(7, "too long".to_owned()), (8, "too long".to_owned())];
        let flows = vec![DeferredFlow { id: 7, code: "F".to_owned() }];
        assert_eq!(ExaminedMessage::new(rejected, &refusals(MAX_REFUSED)), ExaminedMessage::SetAside(flows));
    }

    #[test]
    fn accepted_message_waits_for_the_database() {
        assert_eq!(
            ExaminedMessage::new(Vec::new(), &refusals(MAX_REFUSED)),
            ExaminedMessage::MessageIsAccepted
        );
    }

    #[test]
    fn locked_rows_are_deferred() {
        assert_eq!(remedy(ErrorClass::LockTimeout, 8, None), Remedy::Defer);
    }
}
