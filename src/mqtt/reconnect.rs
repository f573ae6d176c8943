//! Decides which version of MQTT to try and when. Plain state; the driver performs.

use std::time::Duration;

use super::failure::{Failure, FailureKind};
use super::version::Version;
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

/// A broker that is starting or stopping leaves a CONNECT unanswered once, an old one always.
const UNANSWERED_BEFORE_FALLBACK: u32 = 2;

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterFailure {
    /// At once again, with MQTT 3.1.1.
    FallBack,
    /// Later again, from the beginning.
    RetryIn(Duration),
}

/// What to do after a lost connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AfterLoss {
    pub(super) retry_in: Duration,
    /// Another client seems to use our client id.
    pub(super) id_taken: bool,
}

/// Memory of the attempts so far.
///
/// Every attempt starts with MQTT 5 ([`Reconnect::FIRST_VERSION`]): a broker that refuses it does so at once, and
/// one that has been upgraded, or was only starting when it seemed to refuse, is found again without a restart.
#[derive(Debug, Default)]
pub(super) struct Reconnect {
    failures: u32,
    quick_losses: u32,
    conflicts: u32,
    unanswered: u32,
    v311_worked: bool,
}

impl Reconnect {
    pub(super) const FIRST_VERSION: Version = Version::V5;

    pub(super) fn connected(&mut self, version: Version) {
        self.failures = 0;
        self.unanswered = 0;
        self.v311_worked = version == Version::V311;
    }

    /// `random_unit`: from 0 up to 1.
    pub(super) fn failed(&mut self, version: Version, failure: &Failure, random_unit: f64) -> AfterFailure {
        if version == Version::V5 && self.points_to_an_old_broker(failure.kind) {
            return AfterFailure::FallBack;
        }
        self.failures = self.failures.saturating_add(1);
        AfterFailure::RetryIn(BACKOFF.delay(self.failures, random_unit))
    }

    fn points_to_an_old_broker(&mut self, kind: FailureKind) -> bool {
        match kind {
            FailureKind::VersionRefused => true,
            FailureKind::NotUnderstood => {
                self.unanswered = self.unanswered.saturating_add(1);
                self.v311_worked || self.unanswered >= UNANSWERED_BEFORE_FALLBACK
            }
            FailureKind::Refused | FailureKind::Unreachable => {
                self.unanswered = 0;
                false
            }
        }
    }

    /// `lived`: how long the connection was there; `taken_over`: the broker said that another client took over;
    /// `random_unit`: from 0 up to 1.
    pub(super) fn lost(&mut self, lived: Duration, taken_over: bool, random_unit: f64) -> AfterLoss {
        self.quick_losses = if lived < QUICK { self.quick_losses.saturating_add(1) } else { 0 };
        if lived >= CONFLICT_FORGOTTEN {
            self.conflicts = 0;
        }
        let id_taken = taken_over || self.quick_losses >= QUICK_LOSSES_OF_A_CONFLICT;
        let retry_in = if id_taken {
            self.conflicts = self.conflicts.saturating_add(1);
            CONFLICT_BACKOFF.delay(self.conflicts, random_unit)
        } else {
            BACKOFF.delay(self.quick_losses, random_unit)
        };
        AfterLoss { retry_in, id_taken }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_hours(1);
    const SHORT: Duration = Duration::from_secs(2);

    fn failure(kind: FailureKind) -> Failure {
        Failure { code: -1, kind, text: String::new() }
    }

    fn wait(after: AfterFailure) -> Duration {
        match after {
            AfterFailure::RetryIn(wait) => wait,
            AfterFailure::FallBack => panic!("no wait"),
        }
    }

    #[test]
    fn a_broker_that_names_the_version_as_the_reason_is_asked_in_the_older_one_at_once() {
        let mut reconnect = Reconnect::default();
        let refused = failure(FailureKind::VersionRefused);
        assert_eq!(reconnect.failed(Version::V5, &refused, 0.0), AfterFailure::FallBack);
        assert_ne!(reconnect.failed(Version::V311, &refused, 0.0), AfterFailure::FallBack);
    }

    #[test]
    fn one_unanswered_attempt_is_forgiven_and_two_point_to_an_old_broker() {
        let mut reconnect = Reconnect::default();
        let closed = failure(FailureKind::NotUnderstood);
        assert_ne!(reconnect.failed(Version::V5, &closed, 0.0), AfterFailure::FallBack);
        assert_eq!(reconnect.failed(Version::V5, &closed, 0.0), AfterFailure::FallBack);
    }

    #[test]
    fn a_broker_known_to_be_old_is_not_made_to_refuse_twice() {
        let mut reconnect = Reconnect::default();
        reconnect.connected(Version::V311);
        reconnect.lost(LONG, false, 0.0);
        let closed = failure(FailureKind::NotUnderstood);
        assert_eq!(reconnect.failed(Version::V5, &closed, 0.0), AfterFailure::FallBack);
    }

    #[test]
    fn a_broker_that_is_away_is_asked_once_per_attempt() {
        let mut reconnect = Reconnect::default();
        reconnect.connected(Version::V311);
        for _ in 0..20 {
            let after = reconnect.failed(Version::V5, &failure(FailureKind::Unreachable), 0.0);
            assert_ne!(after, AfterFailure::FallBack);
        }
    }

    #[test]
    fn refused_credentials_are_tried_again_in_the_same_version() {
        let mut reconnect = Reconnect::default();
        for _ in 0..20 {
            let after = reconnect.failed(Version::V5, &failure(FailureKind::Refused), 0.0);
            assert_ne!(after, AfterFailure::FallBack);
        }
    }

    #[test]
    fn waits_grow_from_half_a_second_to_half_a_minute_and_start_anew_after_a_success() {
        let mut reconnect = Reconnect::default();
        let away = failure(FailureKind::Unreachable);
        let waits: Vec<_> =
            (0..8).map(|_| wait(reconnect.failed(Version::V5, &away, 1.0)).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        reconnect.connected(Version::V5);
        assert_eq!(wait(reconnect.failed(Version::V5, &away, 1.0)).as_millis(), 500);
    }

    #[test]
    fn a_session_taken_over_backs_off_up_to_minutes() {
        let mut reconnect = Reconnect::default();
        let mut last = Duration::ZERO;
        for _ in 0..10 {
            reconnect.connected(Version::V5);
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

    proptest! {
        #[test]
        fn no_wait_is_longer_than_five_minutes_or_shorter_than_a_quarter_second(
            steps in prop::collection::vec((0_u64..1000, any::<bool>(), any::<bool>()), 0..60), unit in 0.0..1.0_f64,
        ) {
            let mut reconnect = Reconnect::default();
            for (lived_s, taken_over, fails) in steps {
                let wait = if fails {
                    match reconnect.failed(Version::V5, &failure(FailureKind::NotUnderstood), unit) {
                        AfterFailure::FallBack => continue,
                        AfterFailure::RetryIn(wait) => wait,
                    }
                } else {
                    reconnect.connected(Version::V5);
                    reconnect.lost(Duration::from_secs(lived_s), taken_over, unit).retry_in
                };
                prop_assert!(wait >= Duration::from_millis(250) && wait <= Duration::from_mins(5));
            }
        }
    }
}
