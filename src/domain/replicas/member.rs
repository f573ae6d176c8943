//! The state that a gateway publishes to the other gateways.

use super::Role;

/// A gateway on the same database, from its last heartbeat. Times are microseconds by the clock of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The id of its inbox, unique among gateways.
    pub inbox_id: String,
    /// Its MQTT client id.
    pub client_id: String,
    /// Its role.
    pub role: Role,
    /// All its assigned flows of this moment are subscribed. `None` while this is uncertain, or while flows wait for
    /// other members.
    pub subscribed_at_us: Option<i64>,
    /// It keeps flows for their new owners, which must have read the flows after this moment.
    pub handing_over_since_us: Option<i64>,
    /// Time since the last heartbeat. Negative if the clock was set back, or if the clock of another server was ahead.
    pub silent_for_us: i64,
}

/// Maximum age of the last heartbeat of a living member. Heartbeats are sent every few seconds.
const ALIVE_FOR_US: i64 = 20_000_000;

/// Maximum length of a client id in the table of members, in characters.
pub const MAX_SHARED_NAME_CHARS: usize = 255;

/// Whether a gateway with a heartbeat of this age is alive.
#[must_use]
pub fn is_recent_heartbeat(silent_for_us: i64) -> bool {
    // A heartbeat from the far future would keep a dead member alive until the clock has caught up.
    (-ALIVE_FOR_US..ALIVE_FOR_US).contains(&silent_for_us)
}

impl Member {
    /// Whether the member is alive by its last heartbeat.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        is_recent_heartbeat(self.silent_for_us)
    }

    /// Whether the member has this MQTT client id.
    #[must_use]
    pub fn is_named(&self, client_id: &str) -> bool {
        self.client_id.chars().eq(client_id.chars().take(MAX_SHARED_NAME_CHARS))
    }

    /// Whether a living member has subscribed all its assigned flows of `moment_us`.
    pub(super) fn is_subscribed_since(&self, moment_us: i64) -> bool {
        self.is_alive() && self.subscribed_at_us.is_some_and(|subscribed| subscribed >= moment_us)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::replicas::Shard;

    fn silent_for(silent_for_us: i64) -> Member {
        Member {
            inbox_id: "inbox".to_owned(),
            client_id: "gateway".to_owned(),
            role: Role::Shard(Shard { index: 0, count: 1 }),
            subscribed_at_us: Some(0),
            handing_over_since_us: None,
            silent_for_us,
        }
    }

    proptest! {
        #[test]
        fn member_is_alive_within_20_s(seconds in -60_i64..60, us in 1_i64..1_000_000) {
            let member = silent_for(seconds * 1_000_000 + us);
            prop_assert_eq!(member.is_alive(), (-20..20).contains(&seconds));
            prop_assert_eq!(member.is_subscribed_since(0), member.is_alive());
        }
    }

    #[test]
    fn far_future_heartbeats_are_ignored() {
        assert!(!silent_for(i64::MIN).is_alive());
        assert!(!silent_for(-3_600_000_000).is_alive());
    }
}
