//! What one gateway says of itself to the others.

use super::Role;

/// A gateway on the same database, as it was heard of last. Moments are microseconds by the database's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The id of its inbox: no two gateways have the same.
    pub inbox_id: String,
    /// Its name at the broker.
    pub client_id: String,
    /// What it takes.
    pub role: Role,
    /// All flows that fall to it and were there at this moment are subscribed; none while it is not sure of that, or leaves
    /// flows to others for now.
    pub subscribed_at_us: Option<i64>,
    /// It holds flows for others, which they can see if they look after this moment.
    pub handing_over_since_us: Option<i64>,
    /// How long nothing was heard of it. Negative where the clock was set back since, or another server's was ahead.
    pub silent_for_us: i64,
}

/// A member that was heard of within this time lives. It says something every few seconds.
const ALIVE_FOR_US: i64 = 20_000_000;

/// So much of a name the members tell each other.
pub const MAX_SHARED_NAME_CHARS: usize = 255;

impl Member {
    /// Whether it runs, as far as can be known.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        // Heard of later than now by more than that, it would live on until the clock has caught up, dead or not.
        (-ALIVE_FOR_US..ALIVE_FOR_US).contains(&self.silent_for_us)
    }

    /// Whether this is its name at the broker.
    #[must_use]
    pub fn is_named(&self, client_id: &str) -> bool {
        self.client_id.chars().eq(client_id.chars().take(MAX_SHARED_NAME_CHARS))
    }

    /// Whether all is subscribed that falls to it and was there at `moment_us`.
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
