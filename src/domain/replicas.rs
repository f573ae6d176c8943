//! Several gateways on one database: the assignment of flows, and the handover of a flow from one gateway to another.
//!
//! ```text
//!   alone            shared group                      shards
//!   all flows        all flows, by $share/<group>/…    each flow at one gateway (rendezvous)
//!                    the broker distributes messages
//! ```
//!
//! A single gateway is shard 0 of 1. A retiring gateway takes no flows and hands over its former flows.

mod disputes;
mod handover;
mod member;
mod membership;
mod rendezvous;
mod waiting;

use std::fmt;

pub use disputes::{Dispute, disputes};
pub use handover::{Handover, Holders};
pub use member::{MAX_SHARED_NAME_CHARS, Member, is_recent_heartbeat};
pub use membership::{FormerFlows, Membership, MembershipEvent, Replica};
pub use rendezvous::owner_of;
pub use waiting::must_wait_for_others;

use super::message::FlowId;
use super::topic::TopicFilter;

/// The role of a gateway among the gateways on one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The gateway takes the flows of its shard, or all flows if there is only one shard.
    Shard(Shard),
    /// The broker distributes the messages of all flows among the members of a share group.
    InGroup(ShareGroup),
    /// The gateway retires and takes no flows.
    Leaving,
}

impl Role {
    /// The role of a single gateway.
    pub const ALONE: Role = Role::Shard(Shard { index: 0, count: 1 });

    /// Whether other gateways may have the same kind of role.
    #[must_use]
    pub fn is_one_of_several(&self) -> bool {
        match self {
            Role::Shard(shard) => shard.count > 1,
            Role::InGroup(_) => true,
            Role::Leaving => false,
        }
    }

    /// Whether a flow is assigned to this role by the settings.
    #[must_use]
    pub fn takes(&self, flow: FlowId) -> bool {
        match self {
            Role::Shard(Shard { index, count }) => owner_of(flow, *count) == *index,
            Role::InGroup(_) => true,
            Role::Leaving => false,
        }
    }

    /// Returns the topic filter to subscribe for a flow with this topic. Invalid and shared filters are unchanged.
    #[must_use]
    pub fn subscribes(&self, topic: &str) -> String {
        match self {
            Role::InGroup(group) if TopicFilter::parse(topic).is_ok_and(|filter| !filter.is_shared()) => {
                group.filter(topic)
            }
            _ => topic.to_owned(),
        }
    }

    /// The share group of the subscriptions, if any.
    #[must_use]
    pub fn group(&self) -> Option<&ShareGroup> {
        match self {
            Role::InGroup(group) => Some(group),
            Role::Shard(_) | Role::Leaving => None,
        }
    }
}

impl Default for Role {
    fn default() -> Self {
        Self::ALONE
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Shard(Shard { index, count }) => write!(f, "shard {index} of {count}"),
            Role::InGroup(group) => write!(f, "a member of the group {}", group.0),
            Role::Leaving => f.write_str("leaving"),
        }
    }
}

/// A shard of the flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Index of the shard, from 0.
    pub index: u32,
    /// Number of shards.
    pub count: u32,
}

/// The name of a group of shared subscriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareGroup(String);

impl ShareGroup {
    /// Parses a group name for `$share/<group>/…`: not empty, and without `/`, `+`, `#` and NUL.
    #[must_use]
    pub fn parse(name: &str) -> Option<ShareGroup> {
        let is_fit = !name.is_empty() && !name.contains(['/', '+', '#', '\0']);
        is_fit.then(|| ShareGroup(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the shared subscription of the group for a filter.
    #[must_use]
    pub fn filter(&self, topic: &str) -> String {
        format!("$share/{}/{topic}", self.0)
    }

    /// Returns the filter inside a shared subscription of this group, or `None` for any other subscription.
    #[must_use]
    pub fn filter_within<'a>(&self, subscribed: &'a str) -> Option<&'a str> {
        subscribed.strip_prefix("$share/")?.strip_prefix(self.as_str())?.strip_prefix('/')
    }
}

impl fmt::Display for ShareGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the ordinal at the end of a replica name: `3` or `mqtt-gateway-3`.
#[must_use]
pub fn ordinal(name: &str) -> Option<u32> {
    let digits = match name.rsplit_once('-') {
        Some(("", _)) => return None,
        Some((_, digits)) => digits,
        None => name,
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ordinal_is_the_number_at_the_end() {
        for (name, expected) in [("3", 3), ("mqtt-gateway-3", 3), ("a-b-0", 0), ("gw-007", 7)] {
            assert_eq!(ordinal(name), Some(expected), "{name}");
        }
        for bad in ["", "-", "gateway", "gateway3", "gateway-", "gateway-x", "gateway-+1", "-1", "4294967296"]
        {
            assert_eq!(ordinal(bad), None, "{bad}");
        }
    }

    #[test]
    fn group_name_is_one_topic_level() {
        for bad in ["", "a/b", "a+", "#", "a\0"] {
            assert_eq!(ShareGroup::parse(bad), None, "{bad:?}");
        }
        let group = ShareGroup::parse("gateways").unwrap();
        assert_eq!(group.filter_within(&group.filter("a/+")), Some("a/+"));
        for other in ["a/+", "$share/gateways2/a", "$share/gateway/a", "$share/gateways"] {
            assert_eq!(group.filter_within(other), None, "{other}");
        }
    }

    #[test]
    fn group_shares_unshared_filters() {
        let role = Role::InGroup(ShareGroup::parse("g").unwrap());
        for (topic, expected) in
            [("a/#", "$share/g/a/#"), ("$share/h/a", "$share/h/a"), ("a/#/b", "a/#/b"), ("", "")]
        {
            assert_eq!(role.subscribes(topic), expected);
            assert_eq!(Role::ALONE.subscribes(topic), topic);
        }
    }
}
