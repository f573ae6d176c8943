//! Decides when to try again. Plain state; the driver performs.

use std::time::Duration;

use crate::domain::retry::Backoff;

/// For brokers that are away: quick at first, and bounded so that the gateway is back soon after them.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(500), max: Duration::from_secs(30) };

/// For a session that another client takes: each of our connects throws the other out too.
const CONFLICT_BACKOFF: Backoff = Backoff { base: Duration::from_secs(5), max: Duration::from_mins(5) };

/// A connection that did not live as long was not a success.
const QUICK: Duration = Duration::from_secs(10);

/// As many quick losses in a row look like another client of the same id (MQTT 3.1.1 gives no reason).
const QUICK_LOSSES_OF_A_CONFLICT: u32 = 3;

/// A connection that lived as long has outlived the conflicts before it.
const CONFLICT_FORGOTTEN: Duration = Duration::from_mins(5);

/// What to do after a lost connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AfterLoss {
    pub(super) retry_in: Duration,
    /// Another client seems to use our client id.
    pub(super) id_taken: bool,
    /// The broker takes connections and does not keep them: another one is to be tried, if there is one.
    pub(super) is_unsteady: bool,
}

/// Between two looks whether a broker that is rather had is back. Longer when going back was of no use.
const LOOK_BACK: Backoff = Backoff { base: Duration::from_secs(20), max: Duration::from_hours(1) };

/// Memory of the attempts so far.
#[derive(Debug, Default)]
pub(super) struct Reconnect {
    failures: u32,
    quick_losses: u32,
    conflicts: u32,
    returns: u32,
}

impl Reconnect {
    pub(super) fn connected(&mut self) {
        self.failures = 0;
    }

    /// No broker of the list could be had: how long to wait before the next round. `random_unit`: from 0 up to 1.
    pub(super) fn failed(&mut self, random_unit: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        BACKOFF.delay(self.failures, random_unit)
    }

    /// How long to wait before looking whether a broker that is rather had is back. `random_unit`: from 0 up to 1.
    pub(super) fn look_back_in(&self, random_unit: f64) -> Duration {
        LOOK_BACK.delay(self.returns.saturating_add(1), random_unit)
    }

    /// We go back to such a broker. Whether it was worth it shows when that connection has lived for a while.
    pub(super) fn going_back(&mut self) {
        self.returns = self.returns.saturating_add(1);
        // The connection that is left has lived long enough to look back from.
        self.quick_losses = 0;
    }

    /// Another broker is tried, because the one before it keeps no connection.
    pub(super) fn moving_on(&mut self) {
        self.quick_losses = 0;
    }

    /// `lived`: how long the connection was there; `taken_over`: the broker said that another client took over;
    /// `random_unit`: from 0 up to 1.
    pub(super) fn lost(&mut self, lived: Duration, taken_over: bool, random_unit: f64) -> AfterLoss {
        self.quick_losses = if lived < QUICK { self.quick_losses.saturating_add(1) } else { 0 };
        if lived >= CONFLICT_FORGOTTEN {
            self.conflicts = 0;
            self.returns = 0;
        }
        let is_unsteady = self.quick_losses >= QUICK_LOSSES_OF_A_CONFLICT && !taken_over;
        let id_taken = taken_over || is_unsteady;
        let retry_in = if id_taken {
            self.conflicts = self.conflicts.saturating_add(1);
            CONFLICT_BACKOFF.delay(self.conflicts, random_unit)
        } else {
            BACKOFF.delay(self.quick_losses, random_unit)
        };
        AfterLoss { retry_in, id_taken, is_unsteady }
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
    fn waits_grow_from_half_a_second_to_half_a_minute_and_start_anew_after_a_success() {
        let mut reconnect = Reconnect::default();
        let waits: Vec<_> = (0..8).map(|_| reconnect.failed(1.0).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        reconnect.connected();
        assert_eq!(reconnect.failed(1.0).as_millis(), 500);
    }

    #[test]
    fn a_session_taken_over_backs_off_up_to_minutes() {
        let mut reconnect = Reconnect::default();
        let mut last = Duration::ZERO;
        for _ in 0..10 {
            reconnect.connected();
            let after = reconnect.lost(Duration::from_mins(1), true, 1.0);
            assert!(after.id_taken);
            assert!(after.retry_in >= last);
            last = after.retry_in;
        }
        assert_eq!(last, Duration::from_mins(5));
    }

    #[test]
    fn quick_losses_in_a_row_are_taken_for_a_second_client() {
        let mut reconnect = Reconnect::default();
        let taken: Vec<_> = (0..3).map(|_| reconnect.lost(SHORT, false, 0.0).id_taken).collect();
        assert_eq!(taken, [false, false, true]);
        assert!(!reconnect.lost(LONG, false, 0.0).id_taken);
        assert!(!reconnect.lost(SHORT, false, 0.0).id_taken);
    }

    #[test]
    fn a_broker_that_keeps_no_connection_is_left_for_the_next_and_one_whose_session_is_taken_is_not() {
        let mut reconnect = Reconnect::default();
        let mut unsteady = |taken_over| reconnect.lost(SHORT, taken_over, 0.0).is_unsteady;
        assert_eq!(
            [unsteady(false), unsteady(false), unsteady(true), unsteady(false)],
            [false, false, false, true]
        );
        reconnect.moving_on();
        assert!(!reconnect.lost(SHORT, false, 0.0).is_unsteady, "another broker has had its first loss");
    }

    #[test]
    fn going_back_in_vain_is_tried_less_and_less_and_anew_after_it_was_worth_it() {
        let mut reconnect = Reconnect::default();
        let mut last = Duration::ZERO;
        for _ in 0..10 {
            let wait = reconnect.look_back_in(1.0);
            assert!(wait > last || wait == Duration::from_hours(1));
            last = wait;
            reconnect.going_back();
            reconnect.lost(SHORT, false, 0.0);
        }
        assert_eq!(last, Duration::from_hours(1));
        reconnect.lost(LONG, false, 0.0);
        assert_eq!(reconnect.look_back_in(1.0), Duration::from_secs(20));
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_five_minutes_or_shorter_than_a_quarter_second(
            steps in prop::collection::vec((0_u64..1000, any::<bool>(), any::<bool>()), 0..60), unit in 0.0..1.0_f64,
        ) {
            let mut reconnect = Reconnect::default();
            for (lived_s, taken_over, fails) in steps {
                let wait = if fails {
                    reconnect.failed(unit)
                } else {
                    reconnect.connected();
                    reconnect.lost(Duration::from_secs(lived_s), taken_over, unit).retry_in
                };
                prop_assert!(wait >= Duration::from_millis(250) && wait <= Duration::from_mins(5));
            }
        }
    }
}
