//! Recognises the copies of one unreadable message that overlapping subscriptions bring.
//!
//! A readable copy is told from the others by the flows of its filter. An unreadable one belongs to
//! no flow in particular and would be answered for once per copy.

use std::sync::Arc;

use super::super::message::{Offset, Record, SubscriptionId};

/// Copies follow each other; what comes later with the same content was published again.
const NEAR: Offset = 64;

/// The unreadable message that was answered for last.
#[derive(Debug, Default, Clone)]
pub(super) struct Copies {
    answered: Option<Arc<Record>>,
    /// Subscriptions by which it came so far.
    seen: Vec<SubscriptionId>,
}

impl Copies {
    /// Whether `record` is another copy of the message answered for last: the same in content,
    /// near by, and by a subscription that has not brought it yet. When in doubt it is not.
    pub(super) fn is_copy(&self, record: &Record) -> bool {
        let ids = &record.delivery.subscription_ids;
        !ids.is_empty()
            && ids.iter().all(|id| !self.seen.contains(id))
            && self.answered.as_ref().is_some_and(|answered| same_message(answered, record))
    }

    /// `record` was answered for, or needed no answer.
    pub(super) fn remember(&mut self, record: &Arc<Record>) {
        if !self.is_copy(record) {
            self.answered = Some(Arc::clone(record));
            self.seen.clear();
        }
        self.seen.extend(&record.delivery.subscription_ids);
    }
}

fn same_message(first: &Record, second: &Record) -> bool {
    second.offset.abs_diff(first.offset) <= NEAR && first.topic == second.topic && first.body == second.body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::{Body, DeliveryFacts};

    fn record(offset: Offset, payload: &str, ids: &[SubscriptionId]) -> Arc<Record> {
        let delivery = DeliveryFacts { subscription_ids: ids.to_vec(), ..DeliveryFacts::default() };
        let body = Body::Whole(payload.as_bytes().to_vec());
        Arc::new(Record { offset, received_at_us: 0, topic: "t".into(), body, delivery })
    }

    fn takes_for_copy(copies: &mut Copies, record: &Arc<Record>) -> bool {
        let copy = copies.is_copy(record);
        copies.remember(record);
        copy
    }

    #[test]
    fn copies_by_subscription_are_reported_once() {
        let mut copies = Copies::default();
        let mut by = |offset, id| takes_for_copy(&mut copies, &record(offset, "garbage", &[id]));
        assert!(!by(1, 7));
        assert!(by(2, 8));
        // Published again: by a subscription that has brought it already.
        assert!(!by(3, 7));
        assert!(by(4, 8));
    }

    #[test]
    fn uncertain_copies_are_reported() {
        let mut copies = Copies::default();
        let mut comes =
            |offset, payload, ids: &[u32]| takes_for_copy(&mut copies, &record(offset, payload, ids));
        assert!(!comes(1, "garbage", &[7]));
        assert!(!comes(2, "rubbish", &[8]), "other content");
        assert!(!comes(2 + NEAR + 1, "rubbish", &[9]), "far away");
        assert!(!comes(70, "rubbish", &[]), "no identifier");
    }
}
