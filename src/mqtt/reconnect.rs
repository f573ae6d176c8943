//! Reconnect policy: when to try again, and at which broker. Plain state without I/O; the driver acts on it.

use std::time::Duration;

use crate::domain::retry::Backoff;

/// Backoff for unreachable brokers: quick at first, and bounded so that the gateway is back soon after them.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(500), max: Duration::from_secs(30) };

/// Backoff after a session takeover: each of our connects disconnects the other client too.
const CONFLICT_BACKOFF: Backoff = Backoff { base: Duration::from_secs(5), max: Duration::from_mins(5) };

/// Minimum lifetime of a successful connection. A shorter one counts as a quick loss.
const MIN_LIFETIME: Duration = Duration::from_secs(10);

/// Number of quick losses in a row that suggests another client with the same id. MQTT 3.1.1 gives no reason.
const CONFLICT_QUICK_LOSSES: u32 = 3;

/// Lifetime of a connection that resets the count of conflicts.
const CONFLICT_RESET_AGE: Duration = Duration::from_mins(5);

/// Decision after a lost connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AfterLoss {
    pub(super) retry_in: Duration,
    /// Whether another client seems to use the same client id.
    pub(super) id_taken: bool,
    /// Broker to try next.
    pub(super) next: NextBroker,
}

/// Position in the broker list of the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextBroker {
    /// First broker of the list.
    First,
    /// Same broker again, because the brokers before it keep no connection.
    Same,
    /// Next broker of the list, because this one keeps no connection either.
    Following,
}

/// Broker that has lost a connection.
#[derive(Debug)]
pub(super) struct LosingBroker<'a> {
    /// Number of quick losses in a row at this broker.
    pub(super) quick_losses: &'a mut u32,
    /// Whether the list has another broker after this one.
    pub(super) has_next: bool,
}

/// Interval between checks for a preferred broker. Grows when returning to it did not last.
const PREFERRED_CHECK_BACKOFF: Backoff =
    Backoff { base: Duration::from_secs(20), max: Duration::from_hours(1) };

/// State of the attempts so far.
#[derive(Debug, Default)]
pub(super) struct Reconnect {
    failures: u32,
    conflicts: u32,
    returns: u32,
    /// Whether brokers were skipped because they keep no connection, and none has kept one since.
    skips_brokers: bool,
}

impl Reconnect {
    pub(super) fn record_connected(&mut self) {
        self.failures = 0;
    }

    /// Returns the delay before the next round, after every broker of the list has failed. `random_unit` is in 0..1.
    pub(super) fn record_failure(&mut self, random_unit: f64) -> Duration {
        if self.skips_brokers {
            return self.record_conflict(random_unit);
        }
        self.failures = self.failures.saturating_add(1);
        BACKOFF.delay(self.failures, random_unit)
    }

    fn record_conflict(&mut self, random_unit: f64) -> Duration {
        self.conflicts = self.conflicts.saturating_add(1);
        CONFLICT_BACKOFF.delay(self.conflicts, random_unit)
    }

    /// Returns the delay before the next check for a preferred broker. `random_unit` is in 0..1.
    pub(super) fn preferred_check_delay(&self, random_unit: f64) -> Duration {
        PREFERRED_CHECK_BACKOFF.delay(self.returns.saturating_add(1), random_unit)
    }

    /// Records a return to a preferred broker. The next connection shows whether the return lasts.
    pub(super) fn record_return(&mut self) {
        self.returns = self.returns.saturating_add(1);
        // The current connection has lived long enough to reach its first check.
        self.skips_brokers = false;
    }

    /// Decides after a lost connection. `lived` is the age of the connection; `taken_over` means that the broker
    /// reported another client; `random_unit` is in 0..1.
    pub(super) fn record_loss(
        &mut self,
        losing_broker: LosingBroker<'_>,
        lived: Duration,
        taken_over: bool,
        random_unit: f64,
    ) -> AfterLoss {
        let LosingBroker { quick_losses, has_next } = losing_broker;
        let is_quick = lived < MIN_LIFETIME;
        *quick_losses = if is_quick { quick_losses.saturating_add(1) } else { 0 };
        self.skips_brokers &= is_quick;
        if lived >= CONFLICT_RESET_AGE {
            self.conflicts = 0;
            self.returns = 0;
        }
        let keeps_failing = *quick_losses >= CONFLICT_QUICK_LOSSES;
        if keeps_failing && has_next && !taken_over {
            self.skips_brokers = true;
            return AfterLoss { retry_in: Duration::ZERO, id_taken: true, next: NextBroker::Following };
        }
        if taken_over || keeps_failing {
            return AfterLoss {
                retry_in: self.record_conflict(random_unit),
                id_taken: true,
                next: NextBroker::First,
            };
        }
        self.retry_soon(*quick_losses, random_unit)
    }

    /// Decides after a connection lost over a topic filter, or while the culprit is searched. The broker is neither
    /// unreachable nor in use by another client, and each such loss narrows the search.
    pub(super) fn record_filter_loss(&self, random_unit: f64) -> AfterLoss {
        self.retry_soon(1, random_unit)
    }

    fn retry_soon(&self, losses: u32, random_unit: f64) -> AfterLoss {
        let next = if self.skips_brokers { NextBroker::Same } else { NextBroker::First };
        AfterLoss { retry_in: BACKOFF.delay(losses, random_unit), id_taken: false, next }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_hours(1);
    const SHORT: Duration = Duration::from_secs(2);

    #[test]
    fn backoff_resets_after_a_success() {
        let mut reconnect = Reconnect::default();
        let waits: Vec<_> = (0..8).map(|_| reconnect.record_failure(1.0).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        reconnect.record_connected();
        assert_eq!(reconnect.record_failure(1.0).as_millis(), 500);
    }

    /// A list of one broker.
    #[derive(Default)]
    struct Alone(u32);

    impl Alone {
        fn loses(&mut self, reconnect: &mut Reconnect, lived: Duration, taken_over: bool) -> AfterLoss {
            reconnect.record_connected();
            let losing_broker = LosingBroker { quick_losses: &mut self.0, has_next: false };
            reconnect.record_loss(losing_broker, lived, taken_over, 1.0)
        }
    }

    #[test]
    fn takeovers_back_off_up_to_minutes() {
        let (mut reconnect, mut broker) = (Reconnect::default(), Alone::default());
        let mut last = Duration::ZERO;
        for _ in 0..10 {
            let after = broker.loses(&mut reconnect, Duration::from_mins(1), true);
            assert!(after.id_taken);
            assert!(after.retry_in >= last);
            last = after.retry_in;
        }
        assert_eq!(last, Duration::from_mins(5));
    }

    #[test]
    fn repeated_quick_losses_suggest_a_second_client() {
        let (mut reconnect, mut broker) = (Reconnect::default(), Alone::default());
        let mut is_taken = |lived| broker.loses(&mut reconnect, lived, false).id_taken;
        assert_eq!([SHORT, SHORT, SHORT, LONG, SHORT].map(&mut is_taken), [false, false, true, false, false]);
    }

    #[test]
    fn filter_searches_are_no_client_conflict() {
        let (mut reconnect, mut broker) = (Reconnect::default(), Alone::default());
        let after: Vec<_> = (0..20).map(|_| reconnect.record_filter_loss(1.0)).collect();
        assert!(after.iter().all(|after| after.retry_in.as_millis() == 500 && !after.id_taken));
        assert!(!broker.loses(&mut reconnect, SHORT, false).id_taken);
    }

    /// Simulates the driver on a list of brokers that keep no connection. `accept` says which of them accept one.
    fn tried(accept: &[bool], rounds: usize) -> (Vec<usize>, Vec<Duration>) {
        let (mut reconnect, mut losses) = (Reconnect::default(), vec![0; accept.len()]);
        let (mut tried, mut waits, mut at) = (Vec::new(), Vec::new(), 0);
        for _ in 0..rounds {
            tried.push(at);
            let has_next = at + 1 < accept.len();
            let wait;
            (at, wait) = if accept[at] {
                reconnect.record_connected();
                let losing_broker = LosingBroker { quick_losses: &mut losses[at], has_next };
                let after = reconnect.record_loss(losing_broker, SHORT, false, 1.0);
                let next = match after.next {
                    NextBroker::First => 0,
                    NextBroker::Same => at,
                    NextBroker::Following => at + 1,
                };
                (next, after.retry_in)
            } else if has_next {
                (at + 1, Duration::ZERO)
            } else {
                (0, reconnect.record_failure(1.0))
            };
            waits.push(wait);
        }
        (tried, waits)
    }

    #[test]
    fn brokers_without_lasting_connections_are_skipped() {
        let (tried, waits) = tried(&[true, true, true], 15);
        assert_eq!(tried, [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 1, 2, 0, 1, 2]);
        let seconds = [8, 11, 14].map(|last| waits[last].as_secs());
        assert_eq!(seconds, [5, 10, 20]);
    }

    #[test]
    fn rounds_without_success_back_off() {
        let (tried, waits) = tried(&[true, false], 8);
        assert_eq!(tried, [0, 0, 0, 1, 0, 1, 0, 1]);
        assert_eq!([3, 5, 7].map(|last| waits[last].as_secs()), [5, 10, 20]);
    }

    #[test]
    fn takeovers_do_not_skip_the_broker() {
        let (mut reconnect, mut quick_losses) = (Reconnect::default(), 0);
        let mut lost = |lived, taken_over| {
            let losing_broker = LosingBroker { quick_losses: &mut quick_losses, has_next: true };
            reconnect.record_loss(losing_broker, lived, taken_over, 1.0).next
        };
        assert_eq!([(); 4].map(|()| lost(SHORT, true)), [NextBroker::First; 4]);
        assert_eq!(lost(LONG, false), NextBroker::First);
        assert_eq!(
            [(); 3].map(|()| lost(SHORT, false)),
            [NextBroker::First, NextBroker::First, NextBroker::Following]
        );
        assert_eq!(lost(LONG, false), NextBroker::First, "it has kept one");
    }

    #[test]
    fn failed_returns_back_off() {
        let (mut reconnect, mut broker) = (Reconnect::default(), Alone::default());
        let mut last = Duration::ZERO;
        for _ in 0..10 {
            let wait = reconnect.preferred_check_delay(1.0);
            assert!(wait > last || wait == Duration::from_hours(1));
            last = wait;
            reconnect.record_return();
            broker.loses(&mut reconnect, SHORT, false);
        }
        assert_eq!(last, Duration::from_hours(1));
        broker.loses(&mut reconnect, LONG, false);
        assert_eq!(reconnect.preferred_check_delay(1.0), Duration::from_secs(20));
    }

    proptest! {
        #[test]
        fn delays_stay_within_bounds(
            steps in prop::collection::vec((0_u64..1000, any::<bool>(), any::<bool>(), any::<bool>()), 0..60),
            unit in 0.0..1.0_f64,
        ) {
            let (mut reconnect, mut quick_losses) = (Reconnect::default(), 0);
            for (lived_s, taken_over, fails, has_next) in steps {
                let (wait, next) = if fails {
                    (reconnect.record_failure(unit), NextBroker::First)
                } else {
                    reconnect.record_connected();
                    let losing_broker = LosingBroker { quick_losses: &mut quick_losses, has_next };
                    let after = reconnect.record_loss(losing_broker, Duration::from_secs(lived_s), taken_over, unit);
                    (after.retry_in, after.next)
                };
                if next == NextBroker::Following {
                    prop_assert!(has_next && wait.is_zero());
                } else {
                    prop_assert!(wait >= Duration::from_millis(250) && wait <= Duration::from_mins(5));
                }
            }
        }
    }
}
