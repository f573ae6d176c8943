//! The sequence numbers of a flow, collected from ranges of consecutive numbers in the order of the rows.
//!
//! Sequence numbers ascend, so a correct flow is one range of any length. Only gaps need memory.

use std::collections::BTreeMap;

use serde::Serialize;

/// Maximum number of remembered gaps. Beyond it the lowest gap is only counted, and later numbers within it count as
/// repeated. A gateway never writes such numbers.
const MAX_GAPS: usize = 256;

/// The sequence numbers of one flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdLedger {
    bounds: Option<(i64, i64)>,
    /// First and last number of each gap.
    gaps: BTreeMap<i64, i64>,
    forgotten: Gaps,
    repeated: u64,
    first_repeated: Option<i64>,
}

/// Missing sequence numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Gaps {
    /// Number of gaps.
    pub count: u64,
    /// Number of missing sequence numbers.
    pub ids: u64,
    /// First and last number of the lowest gap.
    pub first: Option<(i64, i64)>,
}

impl IdLedger {
    /// Adds the numbers `first` to `last`.
    pub fn add(&mut self, first: i64, last: i64) {
        let Some((low, high)) = self.bounds else {
            self.bounds = Some((first, last));
            return;
        };
        let (from, to) = (first.max(low), last.min(high));
        if from <= to {
            self.add_repeated(from, to);
        }
        if last < low.saturating_sub(1) {
            self.add_gap(last + 1, low - 1);
        }
        if first > high.saturating_add(1) {
            self.add_gap(high + 1, first - 1);
        }
        self.bounds = Some((low.min(first), high.max(last)));
    }

    /// Adds `count` repeated numbers, of which `first` is the lowest.
    pub fn repeat(&mut self, first: i64, count: u64) {
        self.repeated += count;
        self.first_repeated = Some(self.first_repeated.map_or(first, |known| known.min(first)));
    }

    /// The lowest sequence number.
    #[must_use]
    pub fn first(&self) -> Option<i64> {
        self.bounds.map(|(low, _)| low)
    }

    /// The highest sequence number.
    #[must_use]
    pub fn last(&self) -> Option<i64> {
        self.bounds.map(|(_, high)| high)
    }

    /// The gaps between the lowest and the highest number.
    #[must_use]
    pub fn gaps(&self) -> Gaps {
        let remembered = self.gaps.iter().map(|(first, last)| length(*first, *last)).sum::<u64>();
        Gaps {
            count: self.forgotten.count + self.gaps.len() as u64,
            ids: self.forgotten.ids + remembered,
            first: self.forgotten.first.or(self.gaps.first_key_value().map(|(first, last)| (*first, *last))),
        }
    }

    /// The count of repeated numbers, and the lowest of them.
    #[must_use]
    pub fn repeated(&self) -> (u64, Option<i64>) {
        (self.repeated, self.first_repeated)
    }

    fn add_gap(&mut self, first: i64, last: i64) {
        self.gaps.insert(first, last);
        if self.gaps.len() > MAX_GAPS
            && let Some((first, last)) = self.gaps.pop_first()
        {
            self.forgotten.count += 1;
            self.forgotten.ids += length(first, last);
            self.forgotten.first.get_or_insert((first, last));
        }
    }

    /// Adds numbers between the lowest and the highest. Each fills a gap or is repeated.
    fn add_repeated(&mut self, from: i64, to: i64) {
        let mut next = from;
        let touched: Vec<(i64, i64)> =
            self.gaps.range(..=to).filter(|(_, last)| **last >= from).map(|(f, l)| (*f, *l)).collect();
        for (first, last) in touched {
            if next < first {
                self.repeat(next, length(next, first - 1));
            }
            self.gaps.remove(&first);
            if first < from {
                self.gaps.insert(first, from - 1);
            }
            if last > to {
                self.gaps.insert(to + 1, last);
            }
            next = last.saturating_add(1);
        }
        if next <= to {
            self.repeat(next, length(next, to));
        }
    }
}

fn length(first: i64, last: i64) -> u64 {
    last.abs_diff(first) + 1
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ledger_agrees_with_a_set(
            stretches in prop::collection::vec((1..200_i64, 0..12_i64), 1..60)
        ) {
            let mut ledger = IdLedger::default();
            let mut met = BTreeSet::new();
            let mut repeated = Vec::new();
            for (first, more) in stretches {
                ledger.add(first, first + more);
                repeated.extend((first..=first + more).filter(|id| !met.insert(*id)));
            }
            let (low, high) = (*met.first().unwrap(), *met.last().unwrap());
            let missing: Vec<i64> = (low..=high).filter(|id| !met.contains(id)).collect();
            let begins = missing.iter().filter(|id| met.contains(&(*id - 1))).count();

            prop_assert_eq!((ledger.first(), ledger.last()), (Some(low), Some(high)));
            prop_assert_eq!(ledger.gaps().ids, missing.len() as u64);
            prop_assert_eq!(ledger.gaps().count, begins as u64);
            prop_assert_eq!(ledger.gaps().first.map(|gap| gap.0), missing.first().copied());
            prop_assert_eq!(ledger.repeated(), (repeated.len() as u64, repeated.iter().min().copied()));
        }
    }

    #[test]
    fn remembered_gaps_are_bounded() {
        let mut ledger = IdLedger::default();
        (0..1_000_000).for_each(|id| ledger.add(id * 3, id * 3));
        let expected = Gaps { count: 999_999, ids: 1_999_998, first: Some((1, 2)) };
        assert_eq!(ledger.gaps(), expected);
        assert_eq!(ledger.gaps.len(), MAX_GAPS);
        assert_eq!(ledger.repeated(), (0, None));
    }

    #[test]
    fn extreme_numbers_do_not_overflow() {
        let mut ledger = IdLedger::default();
        ledger.add(i64::MAX - 1, i64::MAX);
        ledger.add(i64::MAX, i64::MAX);
        assert_eq!(ledger.repeated(), (1, Some(i64::MAX)));
        ledger.add(i64::MIN, i64::MIN);
        assert_eq!(ledger.gaps().count, 1);
    }
}
