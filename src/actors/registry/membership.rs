//! Publishes the state of this gateway, reads the state of the others, and logs the changes that
//! [`Membership`] decides on.

use std::time::Duration;

use log::Level;

use crate::domain::flow::Flow;
use crate::domain::replicas::{Membership, MembershipEvent};
use crate::store::{Database, StoreError, announce, members};

/// Duration of a dispute above which the log warns.
const DISPUTE_DELAY: Duration = Duration::from_mins(1);

/// Maximum number of flows or disputes that are logged at once.
const MAX_NAMED: usize = 5;

/// Publishes the state of this gateway and reads the others. A failed write is retried at the next update.
pub(super) async fn update(
    membership: &mut Membership,
    database: &Database,
    now: Duration,
) -> Result<(), StoreError> {
    let result = exchange(membership, database, now).await;
    let failed_before = std::mem::replace(&mut membership.update_failed, result.is_err());
    if let Err(error) = &result {
        // Only the first failure in a row is a warning.
        let level = if failed_before { Level::Debug } else { Level::Warn };
        log::log!(level, "Cannot publish the state of this gateway to the others, retrying: {error}");
    }
    result
}

async fn exchange(membership: &mut Membership, database: &Database, now: Duration) -> Result<(), StoreError> {
    if let Some(row) = membership.row() {
        announce(database, &row).await?;
        membership.published = Some(row);
    }
    membership.apply_members(members(database).await?, now, dispute_delay());
    log_events(membership);
    Ok(())
}

fn dispute_delay() -> Duration {
    // Tests shorten the duration.
    fail::fail_point!("dispute-lasts", |ms| {
        ms.and_then(|ms| ms.parse().ok()).map_or(DISPUTE_DELAY, Duration::from_millis)
    });
    DISPUTE_DELAY
}

/// Logs the changes since the last call.
pub(super) fn log_events(membership: &mut Membership) {
    let others = membership.living_others().count();
    for event in membership.take_events() {
        match event {
            MembershipEvent::OthersFound(others) => {
                log::info!(others; "Other gateways found on this database; publishing the state of this one");
            }
            MembershipEvent::Agreed => {
                log::info!("The gateways on this database agree again on the distribution of flows");
            }
            MembershipEvent::Disputed(disputes) => {
                for dispute in disputes.iter().take(MAX_NAMED) {
                    log::warn!("This gateway is {}, and {dispute}", membership.role());
                }
            }
            MembershipEvent::Waiting(flows) => {
                log::info!(flows; "{flows} flows of this gateway stay for now with gateways that divide them differently. It subscribes them when those gateways run with its settings, or after a minute");
            }
            MembershipEvent::TakenOver(flows) => {
                log::info!(flows; "{flows} flows were taken over from other gateways and are subscribed here");
            }
            MembershipEvent::HandoverStarted(flows) => {
                let (named, flows) = (named(&flows), flows.len());
                log::info!(flows, others; "Handing over {flows} flows ({named}): they stay subscribed here until others have subscribed them");
            }
            MembershipEvent::HandoverContinues(flows) => {
                let (named, flows) = (named(&flows), flows.len());
                log::warn!(flows, others; "Still handing over {flows} flows ({named}): no living gateway to which they fall has subscribed them");
            }
            MembershipEvent::HandedOver { flows, left } => {
                log::info!(flows, left; "Handed over {flows} flows, {left} are left");
            }
            MembershipEvent::HandoverFinished(flows) => {
                log::info!(flows; "Handover finished: other gateways have subscribed all flows that left this one");
            }
        }
    }
}

/// Lists the codes of the first flows.
fn named(flows: &[Flow]) -> String {
    let mut named: Vec<&str> = flows.iter().take(MAX_NAMED).map(|flow| flow.code.as_str()).collect();
    if flows.len() > MAX_NAMED {
        named.push("…");
    }
    named.join(", ")
}
