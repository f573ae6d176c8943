//! Recognises the copies of one unreadable message that overlapping subscriptions bring.
//!
//! A readable copy is told from the others by the flows of its filter. An unreadable one belongs to
//! no flow in particular and would be answered for once per copy.

use std::sync::Arc;

use crate::domain::message::{Offset, Record, SubscriptionId};

/// Copies follow each other; what comes later with the same content was published again.
const NEAR: Offset = 64;

/// The unreadable message that was answered for last.
#[derive(Debug, Default)]
pub(super) struct Copies {
    answered: Option<Arc<Record>>,
    /// Subscriptions by which it came so far.
    seen: Vec<SubscriptionId>,
}

impl Copies {
    /// Whether `record` is another copy of the message answered for last: the same in content,
    /// near by, and by a subscription that has not brought it yet. When in doubt it is not.
    pub(super) fn is_copy(&mut self, record: &Arc<Record>) -> bool {
        let ids = &record.delivery.subscription_ids;
        let copy = !ids.is_empty()
            && ids.iter().all(|id| !self.seen.contains(id))
            && self.answered.as_ref().is_some_and(|answered| same_message(answered, record));
        if !copy {
            self.answered = Some(Arc::clone(record));
            self.seen.clear();
        }
        self.seen.extend(ids);
        copy
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

    #[test]
    fn a_message_that_comes_by_two_subscriptions_is_answered_for_once() {
        let mut copies = Copies::default();
        let by = |copies: &mut Copies, offset, id| copies.is_copy(&record(offset, "garbage", &[id]));
        assert!(!by(&mut copies, 1, 7));
        assert!(by(&mut copies, 2, 8));
        // Published again: by a subscription that has brought it already.
        assert!(!by(&mut copies, 3, 7));
        assert!(by(&mut copies, 4, 8));
    }

    #[test]
    fn what_is_not_surely_a_copy_is_none() {
        let mut copies = Copies::default();
        assert!(!copies.is_copy(&record(1, "garbage", &[7])));
        assert!(!copies.is_copy(&record(2, "rubbish", &[8])), "other content");
        assert!(!copies.is_copy(&record(2 + NEAR + 1, "rubbish", &[9])), "far away");
        assert!(!copies.is_copy(&record(70, "rubbish", &[])), "no identifier");
    }
}
