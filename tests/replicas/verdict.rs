//! Compares published messages with the tables.

use std::collections::HashSet;
use std::ops::Range;

use crate::fleet::Fleet;

/// The keys of each flow, in the order of their ids.
pub(crate) struct Verdict {
    keys: Vec<(String, Vec<u64>)>,
    published: u64,
}

impl Fleet {
    /// Reads the tables. Asserts that ids of each flow are 1 to n, and that no key is missing.
    pub(crate) fn judge(&self, published: u64) -> Verdict {
        let mut keys = Vec::new();
        for (flow, code) in self.flows.iter().enumerate() {
            let found = self.keys_of(code);
            let there: HashSet<u64> = found.iter().copied().collect();
            let missing: Vec<u64> =
                (0..published).filter(|key| self.is_for(*key, flow) && !there.contains(key)).collect();
            assert_eq!(missing, [0; 0], "lost of {code}");
            assert!(
                there.iter().all(|key| self.is_for(*key, flow) && *key < published),
                "{code} has others' messages"
            );
            keys.push((code.clone(), found));
        }
        Verdict { keys, published }
    }

    fn keys_of(&self, code: &str) -> Vec<u64> {
        let stored = self.world.stored(code);
        let count = i64::try_from(stored.len()).unwrap();
        let mut ids: Vec<i64> = stored.iter().map(|message| message.id).collect();
        // Rows of several gateways are in the order in which they were inserted.
        ids.sort_unstable();
        assert!(ids.into_iter().eq(1..=count), "the ids of {code} are not 1 to {count}");
        assert_eq!(self.world.last_msg_id(code), Some(count), "the counter of {code}");
        let mut by_id: Vec<(i64, u64)> = stored
            .iter()
            .map(|message| (message.id, message.value("key").unwrap().parse().unwrap()))
            .collect();
        by_id.sort_unstable();
        by_id.into_iter().map(|(_, key)| key).collect()
    }
}

impl Verdict {
    /// How many messages are there more than once, in flows with a key and in the others.
    pub(crate) fn twice(&self, fleet: &Fleet) -> (usize, usize) {
        let extra = |keys: &[u64]| keys.len() - keys.iter().collect::<HashSet<_>>().len();
        let of = |with_a_key: bool| {
            let flows = self.keys.iter().filter(|(code, _)| fleet.has_a_key(code) == with_a_key);
            flows.map(|(_, keys)| extra(keys)).sum()
        };
        let twice = (of(true), of(false));
        println!("{} published; twice: {} with a key, {} without", self.published, twice.0, twice.1);
        twice
    }

    /// The keys published within these bounds are in order in every flow.
    pub(crate) fn is_in_order(&self, published: Range<u64>) {
        for (code, keys) in &self.keys {
            let of_the_time: Vec<u64> = keys.iter().copied().filter(|key| published.contains(key)).collect();
            assert!(of_the_time.is_sorted(), "{code} between {published:?}: {of_the_time:?}");
        }
    }

    /// Every key that was not published within these bounds is there once in every flow.
    pub(crate) fn is_once_but_within(&self, bounds: Range<u64>) {
        for (code, keys) in &self.keys {
            let mut seen = HashSet::new();
            let twice: Vec<u64> =
                keys.iter().copied().filter(|key| !seen.insert(*key) && !bounds.contains(key)).collect();
            assert_eq!(twice, [0; 0], "twice in {code}, beyond {bounds:?}");
        }
    }
}
