//! Conflicting settings of living members.

use std::fmt;

use super::{Member, Role, Shard};

/// A conflict with the settings of another member. Conflicts are normal during a rolling restart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dispute {
    /// Another member has the same shard, so both store its flows.
    SameShard {
        /// Its MQTT client id.
        client_id: String,
        /// The shard.
        index: u32,
    },
    /// Another member has a different number of shards.
    OtherCount {
        /// Its MQTT client id.
        client_id: String,
        /// Its number of shards.
        count: u32,
    },
    /// Another member distributes the messages in a different way.
    OtherWay {
        /// Its MQTT client id.
        client_id: String,
        /// Description of its role.
        role: String,
    },
}

/// Returns the conflicts of `role` with the living members of `others`.
#[must_use]
pub fn disputes(role: &Role, others: &[Member]) -> Vec<Dispute> {
    others.iter().filter(|member| member.is_alive()).filter_map(|member| dispute(role, member)).collect()
}

fn dispute(role: &Role, other: &Member) -> Option<Dispute> {
    let client_id = other.client_id.clone();
    match (role, &other.role) {
        (Role::Leaving, _) | (_, Role::Leaving) => None,
        (Role::Shard(own), Role::Shard(shard)) if own.count != shard.count => {
            Some(Dispute::OtherCount { client_id, count: shard.count })
        }
        (Role::Shard(own), Role::Shard(Shard { index, .. })) => {
            (own.index == *index).then_some(Dispute::SameShard { client_id, index: *index })
        }
        (Role::InGroup(own), Role::InGroup(group)) if own == group => None,
        (_, other) => Some(Dispute::OtherWay { client_id, role: other.to_string() }),
    }
}

impl fmt::Display for Dispute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dispute::SameShard { client_id, index } => {
                write!(
                    f,
                    "{client_id} takes shard {index} too: every message of the shard is stored twice. Give each replica its own SHARD_INDEX"
                )
            }
            Dispute::OtherCount { client_id, count } => {
                write!(
                    f,
                    "{client_id} has SHARD_COUNT={count}: both gateways take some of the flows. Give all replicas the same SHARD_COUNT"
                )
            }
            Dispute::OtherWay { client_id, role } => {
                write!(
                    f,
                    "{client_id} is {role}: both gateways store the same messages. Give all replicas the same SHARED_GROUP, or none and the same SHARD_COUNT"
                )
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::ShareGroup;
    use super::*;

    fn member(client_id: &str, role: Role) -> Member {
        Member {
            inbox_id: client_id.to_owned(),
            client_id: client_id.to_owned(),
            role,
            subscribed_at_us: None,
            handing_over_since_us: None,
            silent_for_us: 0,
        }
    }

    #[test]
    fn living_members_with_other_settings_are_disputes() {
        let shard = |index, count| Role::Shard(Shard { index, count });
        let group = |name| Role::InGroup(ShareGroup::parse(name).unwrap());
        let dead = Member { silent_for_us: 60_000_000, ..member("dead", shard(0, 2)) };
        let others = [member("b", shard(1, 2)), member("a", shard(0, 2)), member("c", shard(1, 3)), dead];
        let found = disputes(&shard(0, 2), &others);
        assert_eq!(
            found,
            [
                Dispute::SameShard { client_id: "a".to_owned(), index: 0 },
                Dispute::OtherCount { client_id: "c".to_owned(), count: 3 },
            ]
        );
        let others = [member("a", group("g")), member("b", Role::Leaving), member("c", group("h"))];
        let found = disputes(&group("g"), &others);
        assert!(
            matches!(found.as_slice(), [Dispute::OtherWay { client_id, .. }] if client_id == "c"),
            "{found:?}"
        );
        assert_eq!(disputes(&Role::Leaving, &others), []);
    }
}
