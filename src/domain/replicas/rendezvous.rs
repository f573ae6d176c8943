//! Rendezvous hashing: every shard bids for a flow, and the highest bid wins.
//!
//! A bid depends on the flow and the shard alone. An added shard only takes flows. When the last shard is removed, its
//! flows are distributed over the others, and no other flow moves.

use super::super::message::FlowId;
use super::super::stable_hash::mix;

/// Returns the owner of a flow among `count` shards. The result is the same in every build.
#[must_use]
pub fn owner_of(flow: FlowId, count: u32) -> u32 {
    // The hash is a bijection, so bids are unique.
    (0..count).max_by_key(|shard| bid(flow, *shard)).unwrap_or(0)
}

fn bid(flow: FlowId, shard: u32) -> u64 {
    // From 1, because the hash of 0 is 0.
    mix(flow.cast_unsigned() ^ mix(u64::from(shard) + 1))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn owner_of_is_stable_across_builds() {
        let owners = |count| (1..=16).map(|flow| owner_of(flow, count)).collect::<Vec<_>>();
        assert_eq!(owners(4), [0, 3, 2, 2, 1, 3, 0, 0, 3, 2, 0, 1, 0, 2, 0, 1]);
        assert_eq!(owners(3), [0, 2, 2, 2, 1, 1, 0, 0, 1, 2, 0, 1, 0, 2, 0, 1]);
        assert_eq!((owner_of(-1, 4), owner_of(i64::MAX, 1000), owner_of(5, 0)), (0, 109, 0));
    }

    #[test]
    fn flows_spread_evenly_over_shards() {
        let mut flows = [0_u32; 7];
        (1..=10_000).for_each(|flow| flows[owner_of(flow, 7) as usize] += 1);
        assert!(flows.iter().all(|count| (1_300..=1_560).contains(count)), "{flows:?}");
    }

    proptest! {
        #[test]
        fn owner_is_an_existing_shard(flow: FlowId, count in 1_u32..200) {
            prop_assert!(owner_of(flow, count) < count);
        }

        #[test]
        fn added_shard_only_takes_flows(flow: FlowId, count in 1_u32..100) {
            let (before, after) = (owner_of(flow, count), owner_of(flow, count + 1));
            prop_assert!(after == before || after == count);
        }

        #[test]
        fn resharding_moves_the_minimum(
            from in 1_u32..20, to in 1_u32..20, first in 0_i64..1_000_000_000,
        ) {
            const FLOWS: u32 = 4_000;
            let flows = first..first + i64::from(FLOWS);
            let moved = flows.filter(|flow| owner_of(*flow, from) != owner_of(*flow, to)).count();
            let expected = f64::from(FLOWS) * f64::from(from.abs_diff(to)) / f64::from(from.max(to));
            let moved = f64::from(u32::try_from(moved).unwrap());
            // Six standard deviations of a binomial distribution.
            prop_assert!((moved - expected).abs() <= 6.0 * f64::from(FLOWS).sqrt() / 2.0, "{moved} of {expected}");
        }
    }
}
