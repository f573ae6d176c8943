//! Detects copies of an invalid message that arrive through overlapping subscriptions.
//!
//! Each copy of a valid message belongs to the flows of its filter. An invalid message belongs to no flow, so each copy
//! would be reported again.

use std::sync::Arc;

use super::super::message::{Offset, Record, SubscriptionId};

/// Maximum distance of two copies. Equal content at a larger distance was published again.
const MAX_DISTANCE: Offset = 64;

/// The last reported invalid message.
#[derive(Debug, Default, Clone)]
pub(super) struct Copies {
    reported: Option<Arc<Record>>,
    /// Identifiers of the subscriptions that delivered it.
    seen: Vec<SubscriptionId>,
}

impl Copies {
    /// Whether `record` is another copy of the last reported message: equal content, a small distance, and a
    /// subscription that has not delivered it before. Uncertain cases are not copies.
    pub(super) fn is_copy(&self, record: &Record) -> bool {
        let ids = &record.delivery.subscription_ids;
        !ids.is_empty()
            && ids.iter().all(|id| !self.seen.contains(id))
            && self.reported.as_ref().is_some_and(|reported| same_message(reported, record))
    }

    /// Records that `record` was reported or is a copy.
    pub(super) fn remember(&mut self, record: &Arc<Record>) {
        if !self.is_copy(record) {
            self.reported = Some(Arc::clone(record));
            self.seen.clear();
        }
        self.seen.extend(&record.delivery.subscription_ids);
    }
}

fn same_message(first: &Record, second: &Record) -> bool {
    second.offset.abs_diff(first.offset) <= MAX_DISTANCE
        && first.topic == second.topic
        && first.body == second.body
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

    fn is_copy(copies: &mut Copies, record: &Arc<Record>) -> bool {
        let copy = copies.is_copy(record);
        copies.remember(record);
        copy
    }

    #[test]
    fn copies_by_subscription_are_reported_once() {
        let mut copies = Copies::default();
        let mut delivers = |offset, id| is_copy(&mut copies, &record(offset, "garbage", &[id]));
        assert!(!delivers(1, 7));
        assert!(delivers(2, 8));
        // The same subscription delivers it again, so it was published again.
        assert!(!delivers(3, 7));
        assert!(delivers(4, 8));
    }

    #[test]
    fn uncertain_copies_are_reported() {
        let mut copies = Copies::default();
        let mut delivers = |offset, payload, ids: &[u32]| is_copy(&mut copies, &record(offset, payload, ids));
        assert!(!delivers(1, "garbage", &[7]));
        assert!(!delivers(2, "rubbish", &[8]), "other content");
        assert!(!delivers(2 + MAX_DISTANCE + 1, "rubbish", &[9]), "far away");
        assert!(!delivers(70, "rubbish", &[]), "no identifier");
    }
}
