//! The readings that the sensors published and the endpoint received, compared with the database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::http::FlowBalance;
use crate::store::demo::FoundReadings;

/// The field of a payload with the number of the reading. It is higher than in every earlier reading.
pub(super) const READING: &str = "reading";

/// Notes of sensors and endpoint.
#[derive(Debug, Default)]
pub(super) struct ReadingLedger {
    /// Rising numbers, by flow.
    published: Mutex<BTreeMap<&'static str, Vec<u64>>>,
    /// Numbers of the posts that the endpoint has answered for good.
    posted: Mutex<BTreeSet<u64>>,
}

impl ReadingLedger {
    /// Notes a reading that is about to be published.
    pub(super) fn note_published(&self, flow: &'static str, reading: u64) {
        locked(&self.published).entry(flow).or_default().push(reading);
    }

    /// Notes a post that the endpoint takes or refuses.
    pub(super) fn note_posted(&self, reading: u64) {
        locked(&self.posted).insert(reading);
    }

    /// All readings so far.
    pub(super) fn published(&self) -> BTreeMap<&'static str, Vec<u64>> {
        locked(&self.published).clone()
    }

    /// Compares earlier readings with what was found later. A post leaves the outbox after the endpoint has it, so the
    /// notes of the endpoint are read last.
    pub(super) fn balance(
        &self,
        published: BTreeMap<&'static str, Vec<u64>>,
        found: FoundReadings,
    ) -> Vec<FlowBalance> {
        let mut stored: BTreeMap<u64, u64> = BTreeMap::new();
        for reading in found.stored {
            *stored.entry(reading).or_default() += 1;
        }
        let places = Places {
            stored,
            posted: &locked(&self.posted),
            waiting: found.waiting.into_iter().collect(),
            dead: found.dead.into_iter().collect(),
        };
        published.into_iter().map(|(flow, readings)| places.balance(flow, &readings)).collect()
    }
}

/// Where readings are.
struct Places<'l> {
    /// Each with the number of its rows.
    stored: BTreeMap<u64, u64>,
    posted: &'l BTreeSet<u64>,
    waiting: BTreeSet<u64>,
    dead: BTreeSet<u64>,
}

impl Places<'_> {
    /// A flow keeps the order, so a reading is missing if a newer one has arrived.
    fn balance(&self, flow: &str, readings: &[u64]) -> FlowBalance {
        let mut balance =
            FlowBalance { flow: flow.to_owned(), published: readings.len() as u64, ..FlowBalance::default() };
        for reading in readings {
            let place = if let Some(rows) = self.stored.get(reading) {
                balance.twice += u64::from(*rows > 1);
                &mut balance.stored
            } else if self.posted.contains(reading) {
                &mut balance.posted
            } else if self.waiting.contains(reading) {
                &mut balance.waiting
            } else if self.dead.contains(reading) {
                &mut balance.dead
            } else {
                balance.under_way += 1;
                continue;
            };
            *place += 1;
            balance.missing += std::mem::take(&mut balance.under_way);
        }
        balance
    }
}

fn locked<T>(notes: &Mutex<T>) -> MutexGuard<'_, T> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance(found: FoundReadings) -> FlowBalance {
        let ledger = ReadingLedger::default();
        for reading in 1..=6 {
            ledger.note_published("F", reading);
        }
        ledger.note_posted(4);
        ledger.balance(ledger.published(), found).remove(0)
    }

    #[test]
    fn each_reading_is_in_one_place() {
        let found = FoundReadings { stored: vec![1, 9], waiting: vec![4, 3], dead: vec![2, 4] };
        let FlowBalance { published, stored, posted, waiting, dead, under_way, missing, twice, .. } =
            balance(found);
        assert_eq!((published, stored, posted, waiting, dead), (6, 1, 1, 1, 1));
        assert_eq!((under_way, missing, twice), (2, 0, 0));
    }

    #[test]
    fn gaps_are_missing_and_repetitions_are_seen() {
        let found = FoundReadings { stored: vec![1, 1, 3, 6], ..FoundReadings::default() };
        let FlowBalance { stored, under_way, missing, twice, .. } = balance(found);
        assert_eq!((stored, under_way, missing, twice), (3, 0, 2, 1));
    }
}
