//! A flow that falls to us from now on, while somebody who divides the flows otherwise has it, is left there for now.
//!
//! ```text
//!   new here, and a living member that was not yet started again has it ──▶ waits ──▶ all divide alike ──▶ subscribed
//! ```
//!
//! Such a member cannot let it go before it is started with the new settings, and till then both would store each message.
//! Nothing is let go by waiting, and who waits does not say that it has its flows, so nobody lets go because of it. All new
//! flows wait for the last of the others: said of some flows only, what a member has would have to be told flow by flow.

use super::super::message::FlowId;
use super::{Dispute, Member, Role, disputes};

/// Whether flows that are `new` to this one are to wait: each is, or may be, at a living member.
#[must_use]
pub fn must_wait_for_others(new: &[FlowId], role: &Role, others: &[Member]) -> bool {
    let living = || others.iter().filter(|other| other.is_alive());
    let divides_otherwise = |other: &&Member| {
        let found = disputes(role, std::slice::from_ref(*other));
        found.iter().any(|dispute| !matches!(dispute, Dispute::SameShard { .. }))
    };
    let otherwise: Vec<&Member> =
        living().filter(|other| other.subscribed_at_us.is_some()).filter(divides_otherwise).collect();
    if new.is_empty() || otherwise.is_empty() {
        return false;
    }
    // Those keep what they had, whatever falls to them; one that starts has not yet said of what it is not sure.
    let may_keep = |other: &Member| other.handing_over_since_us.is_some() || other.subscribed_at_us.is_none();
    living().any(may_keep) || new.iter().all(|flow| otherwise.iter().any(|other| other.role.takes(*flow)))
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
