//! A flow that falls to somebody else from now on stays here until it is subscribed there.
//!
//! ```text
//!   had, and falls to another ──▶ kept ──▶ a living member to whom it falls has it ──▶ let go
//! ```
//!
//! Whoever lets go of a flow has seen somebody else who has it subscribed and to whom it falls by his settings; that one
//! lets go only when he has been started with other settings, and then by the same rule. So there is always somebody.
//! For a while there are two: the messages of that time are there twice, unless the flow has a producer's key.
//!
//! That the other one knows the flow, in its present form, is told by the times: he must have read the flows after we
//! read this one.

use std::collections::BTreeSet;

use super::super::flow::Flow;
use super::super::message::FlowId;
use super::{Member, Role, Shard, owner_of};

/// The flows that are kept for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handover {
    /// The flows, in the form in which they were read last.
    flows: Vec<Flow>,
    /// Who has read the flows after this moment has seen them all in this form.
    since_us: i64,
}

impl Handover {
    /// The flows that are subscribed from now on, and the handover that this leaves.
    ///
    /// `all` are the enabled flows as they were read last, until the moment `read_until_us`; `had` are those that have
    /// been subscribed so far.
    #[must_use]
    pub fn next(
        &self,
        role: &Role,
        all: &[Flow],
        read_until_us: i64,
        had: &BTreeSet<FlowId>,
        holders: &Holders<'_>,
    ) -> (Vec<Flow>, Handover) {
        let of_others = all.iter().filter(|flow| had.contains(&flow.id) && !role.takes(flow.id));
        let candidates: Vec<Flow> = of_others.cloned().collect();
        let is_known = candidates.iter().all(|flow| self.flows.contains(flow));
        let since_us = if is_known { self.since_us } else { read_until_us };
        let kept = candidates.into_iter().filter(|flow| !holders.hold(flow.id, since_us)).collect();
        let handover = Handover { flows: kept, since_us };
        let stays = |flow: &&Flow| role.takes(flow.id) || handover.flows.contains(*flow);
        (all.iter().filter(stays).cloned().collect(), handover)
    }

    /// The flows that wait for somebody to take them.
    #[must_use]
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// Since when, while there are any.
    #[must_use]
    pub fn since_us(&self) -> Option<i64> {
        (!self.flows.is_empty()).then_some(self.since_us)
    }
}

/// Who else may have a flow.
#[derive(Debug, Clone, Copy)]
pub enum Holders<'a> {
    /// These members.
    Members(&'a [Member]),
    /// Nobody needs to.
    NotNeeded,
}

impl Holders<'_> {
    /// Whether somebody to whom the flow falls has had it subscribed since the moment.
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
                    // Nearly always all have the same count: it is not computed for each.
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
