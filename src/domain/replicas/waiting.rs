//! Waiting for old owners: a new flow is not subscribed while a member with old settings may still have it.
//!
//! ```text
//!   new here, and a living member with old settings has it ──▶ waits ──▶ all settings agree ──▶ subscribed
//! ```
//!
//! Such a member cannot release the flow before its restart with the new settings, and until then both gateways would
//! store each message. A waiting gateway releases nothing and does not report its flows as subscribed, so no other
//! gateway releases a flow either. All new flows wait together, because members do not publish the state of single
//! flows.

use super::super::message::FlowId;
use super::{Dispute, Member, Role, disputes};

/// Whether the `new` flows of a gateway must wait, because living members may have all of them.
#[must_use]
pub fn must_wait_for_others(new: &[FlowId], role: &Role, others: &[Member]) -> bool {
    let living = || others.iter().filter(|other| other.is_alive());
    let has_other_settings = |other: &&Member| {
        let found = disputes(role, std::slice::from_ref(*other));
        found.iter().any(|dispute| !matches!(dispute, Dispute::SameShard { .. }))
    };
    let conflicting: Vec<&Member> =
        living().filter(|other| other.subscribed_at_us.is_some()).filter(has_other_settings).collect();
    if new.is_empty() || conflicting.is_empty() {
        return false;
    }
    // Such members may keep flows that are not assigned to them, or have just started and not yet reported.
    let may_keep = |other: &Member| other.handing_over_since_us.is_some() || other.subscribed_at_us.is_none();
    living().any(may_keep) || new.iter().all(|flow| conflicting.iter().any(|other| other.role.takes(*flow)))
}

#[cfg(test)]
mod tests {
    use super::super::{Shard, owner_of};
    use super::*;

    fn shard(index: u32, count: u32) -> Role {
        Role::Shard(Shard { index, count })
    }

    fn member(role: Role) -> Member {
        Member {
            inbox_id: "other".to_owned(),
            client_id: "other".to_owned(),
            role,
            subscribed_at_us: Some(0),
            handing_over_since_us: None,
            silent_for_us: 0,
        }
    }

    #[test]
    fn new_flow_waits_for_members_with_old_settings() {
        let new: Vec<FlowId> =
            (1..100).filter(|flow| owner_of(*flow, 2) == 0 && owner_of(*flow, 3) == 2).collect();
        let old = || member(shard(0, 2));
        let handing_over = || Member { handing_over_since_us: Some(0), ..member(Role::Leaving) };
        let cases = [
            (vec![old()], true),
            (vec![member(Role::ALONE)], true),
            (vec![Member { subscribed_at_us: None, ..old() }], false),
            (vec![Member { silent_for_us: 60_000_000, ..old() }], false),
            (vec![member(shard(1, 2))], false),
            (vec![member(shard(1, 2)), handing_over()], true),
            (vec![member(shard(1, 2)), Member { subscribed_at_us: None, ..member(shard(0, 3)) }], true),
            (vec![handing_over()], false),
            (vec![member(shard(0, 3)), member(shard(2, 3))], false),
            (vec![], false),
        ];
        for (others, waits) in cases {
            assert_eq!(must_wait_for_others(&new, &shard(2, 3), &others), waits, "{others:?}");
        }
        assert!(!must_wait_for_others(&[], &shard(2, 3), &[old()]), "without new flows");
    }
}
