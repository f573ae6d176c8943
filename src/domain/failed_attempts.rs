//! Limits the attempts with wrong tokens, per peer and in all.
//!
//! A token cannot be guessed. The limits bound the reads of the table and the lines of the log that strangers cause.

use core::net::IpAddr;
use std::collections::HashMap;
use std::time::Duration;

/// Time after which the counts begin again.
const WINDOW: Duration = Duration::from_mins(1);

/// Wrong tokens of one peer within the window.
const MAX_PER_PEER: u32 = 100;

/// Wrong tokens of all peers within the window.
const MAX_IN_ALL: u32 = 500;

/// Counts of the present window. The limit of all peers bounds its memory.
#[derive(Debug, Default)]
pub struct FailedAttempts {
    since: Duration,
    in_all: u32,
    by_peer: HashMap<IpAddr, u32>,
}

impl FailedAttempts {
    /// Time until the peer may try another token; none if it may now. `now` is a time of a monotonic clock.
    #[must_use]
    pub fn blocked_for(&self, peer: IpAddr, now: Duration) -> Option<Duration> {
        let left = (self.since + WINDOW).checked_sub(now).filter(|left| !left.is_zero())?;
        let of_peer = self.by_peer.get(&network(peer)).copied().unwrap_or(0);
        (of_peer >= MAX_PER_PEER || self.in_all >= MAX_IN_ALL).then_some(left)
    }

    /// Counts a wrong token.
    pub fn count(&mut self, peer: IpAddr, now: Duration) {
        if now >= self.since + WINDOW {
            *self = Self { since: now, ..Self::default() };
        }
        if self.in_all < MAX_IN_ALL {
            self.in_all += 1;
            *self.by_peer.entry(network(peer)).or_default() += 1;
        }
    }
}

/// One user has all addresses of a network of IPv6.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn peer(number: u32) -> IpAddr {
        Ipv4Addr::from(number).into()
    }

    #[test]
    fn one_peer_is_blocked_alone() {
        let mut attempts = FailedAttempts::default();
        for _ in 0..MAX_PER_PEER {
            assert_eq!(attempts.blocked_for(peer(1), SECOND), None);
            attempts.count(peer(1), SECOND);
        }
        assert_eq!(attempts.blocked_for(peer(1), 2 * SECOND), Some(58 * SECOND));
        assert_eq!(attempts.blocked_for(peer(2), SECOND), None);
        assert_eq!(attempts.blocked_for(peer(1), WINDOW), None);
    }

    #[test]
    fn all_peers_together_are_blocked() {
        let mut attempts = FailedAttempts::default();
        (0..MAX_IN_ALL).for_each(|number| attempts.count(peer(number), SECOND));
        assert!(attempts.blocked_for(peer(9_999), SECOND).is_some());
        attempts.count(peer(9_999), WINDOW + SECOND);
        assert_eq!(attempts.blocked_for(peer(9_999), WINDOW + SECOND), None);
    }

    #[test]
    fn addresses_of_a_network_are_one_peer() {
        let host = |last| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 2, 3, 4, last));
        assert_eq!(network(host(1)), network(host(2)));
        assert_eq!(network(IpAddr::from(Ipv4Addr::LOCALHOST.to_ipv6_mapped())), peer(0x7f00_0001));
    }

    proptest! {
        #[test]
        fn memory_is_bounded(peers in proptest::collection::vec(any::<u32>(), 0..1_000)) {
            let mut attempts = FailedAttempts::default();
            for number in peers {
                attempts.count(peer(number), SECOND);
            }
            prop_assert!(attempts.by_peer.len() <= MAX_IN_ALL as usize);
        }
    }
}
