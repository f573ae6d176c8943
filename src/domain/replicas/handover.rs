//! Handover of flows: a reassigned flow stays at its old owner until its new owner has subscribed it.
//!
//! ```text
//!   subscribed, and reassigned ──▶ kept ──▶ a living new owner has subscribed it ──▶ released
//! ```
//!
//! A gateway releases a flow only after another member, the owner by its own settings, has subscribed the flow. The new
//! owner releases the flow by the same rule, and only after a restart with other settings. Therefore every flow always
//! has a subscriber. During the handover it has two, and its messages are stored twice unless they have a message key.
//!
//! The new owner must know the current version of the flow. This is proven by time: it has read the flows later than
//! this gateway.

use std::collections::BTreeSet;

use super::super::flow::Flow;
use super::super::message::FlowId;
use super::{Member, Role, Shard, owner_of};

/// The flows that are kept for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handover {
    /// The flows as last read.
    flows: Vec<Flow>,
    /// A member that has read the flows after this moment knows these versions.
    since_us: i64,
}

impl Handover {
    /// Returns the flows to subscribe and the next state of the handover.
    ///
    /// `all` are the enabled flows as last read; the read ended at `read_until_us`. `subscribed` are the flows
    /// subscribed so far.
    #[must_use]
    pub fn next(
        &self,
        role: &Role,
        all: &[Flow],
        read_until_us: i64,
        subscribed: &BTreeSet<FlowId>,
        holders: &Holders<'_>,
    ) -> (Vec<Flow>, Handover) {
        let reassigned = all.iter().filter(|flow| subscribed.contains(&flow.id) && !role.takes(flow.id));
        let candidates: Vec<Flow> = reassigned.cloned().collect();
        let is_known = candidates.iter().all(|flow| self.flows.contains(flow));
        let since_us = if is_known { self.since_us } else { read_until_us };
        let kept = candidates.into_iter().filter(|flow| !holders.hold(flow.id, since_us)).collect();
        let handover = Handover { flows: kept, since_us };
        let stays = |flow: &&Flow| role.takes(flow.id) || handover.flows.contains(*flow);
        (all.iter().filter(stays).cloned().collect(), handover)
    }

    /// The flows that wait for their new owner.
    #[must_use]
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// Start of the handover, in microseconds; `None` if no flow waits.
    #[must_use]
    pub fn since_us(&self) -> Option<i64> {
        (!self.flows.is_empty()).then_some(self.since_us)
    }
}

/// The possible new owners of flows.
#[derive(Debug, Clone, Copy)]
pub enum Holders<'a> {
    /// The other members.
    Members(&'a [Member]),
    /// No new owner is required.
    NotNeeded,
}

impl Holders<'_> {
    /// Whether an owner of the flow has subscribed it, with knowledge of the flows at `since_us`.
    fn hold(&self, flow: FlowId, since_us: i64) -> bool {
        let members = match self {
            Holders::Members(members) => members,
            Holders::NotNeeded => return true,
        };
        let mut owner: Option<Shard> = None;
        members.iter().filter(|member| member.is_subscribed_since(since_us)).any(|member| {
            match &member.role {
                Role::InGroup(_) => true,
                Role::Leaving => false,
                Role::Shard(shard) => {
                    // Members usually have the same count, so the owner is computed only once.
                    let known = owner.filter(|known| known.count == shard.count);
                    let found = known
                        .unwrap_or_else(|| Shard { index: owner_of(flow, shard.count), count: shard.count });
                    owner = Some(found);
                    found.index == shard.index
                }
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
