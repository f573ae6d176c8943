//! Checks the other gateways before a retirement: some gateway must take the flows, and the replica must not run.

use super::super::StartError;
use crate::domain::replicas::{Member, Role};
use crate::settings::Settings;
use crate::store::{Database, announce, members};

/// The state of `gateway_members` from the view of a retirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OtherMembers {
    /// The retiring replica is running with another inbox.
    SameReplica,
    /// Another gateway can take the flows.
    Successor,
    NoSuccessor,
}

/// Refuses if the replica runs elsewhere or, unless it is the last, if no other gateway could take its flows.
pub(super) async fn check_others(
    settings: &Settings,
    inbox_id: &str,
    is_last: bool,
) -> Result<(), StartError> {
    let database = Database::connect(&settings.database, 1).await?;
    let client_id = &settings.mqtt.client_id;
    let answer = match classify(&members(&database).await?, inbox_id, client_id) {
        OtherMembers::SameReplica => Err(StartError::StillRuns { client_id: client_id.clone() }),
        OtherMembers::NoSuccessor if !is_last => {
            // A single gateway publishes its row after it has found another row.
            announce(&database, &leaving(inbox_id, client_id)).await?;
            Err(StartError::NobodyElse { reload_s: settings.flows_reload_interval.as_secs() })
        }
        OtherMembers::NoSuccessor | OtherMembers::Successor => Ok(()),
    };
    database.close().await?;
    answer
}

fn leaving(inbox_id: &str, client_id: &str) -> Member {
    Member {
        inbox_id: inbox_id.to_owned(),
        client_id: client_id.to_owned(),
        role: Role::Leaving,
        subscribed_at_us: None,
        handing_over_since_us: None,
        silent_for_us: 0,
    }
}

fn classify(all: &[Member], inbox_id: &str, client_id: &str) -> OtherMembers {
    let living = || all.iter().filter(|member| member.inbox_id != inbox_id && member.is_alive());
    if living().any(|member| member.is_named(client_id)) {
        OtherMembers::SameReplica
    } else if living().any(|member| member.role != Role::Leaving) {
        OtherMembers::Successor
    } else {
        OtherMembers::NoSuccessor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, role: Role, silent_for_us: i64) -> Member {
        Member {
            inbox_id: format!("inbox of {name}"),
            client_id: name.to_owned(),
            role,
            subscribed_at_us: None,
            handing_over_since_us: None,
            silent_for_us,
        }
    }

    #[test]
    fn dead_members_and_own_names_do_not_count() {
        const LONG_US: i64 = 60_000_000;
        let own = "gw-1";
        let cases = [
            (member("gw-2", Role::ALONE, 0), OtherMembers::Successor),
            (member("gw-2", Role::ALONE, LONG_US), OtherMembers::NoSuccessor),
            (member("gw-2", Role::Leaving, 0), OtherMembers::NoSuccessor),
            (member(own, Role::ALONE, 0), OtherMembers::SameReplica),
            (member(own, Role::Leaving, 0), OtherMembers::SameReplica),
            (member(own, Role::ALONE, LONG_US), OtherMembers::NoSuccessor),
        ];
        for (other, expected) in cases {
            assert_eq!(classify(std::slice::from_ref(&other), "mine", own), expected, "{other:?}");
        }
        let itself = member(own, Role::ALONE, 0);
        assert_eq!(classify(&[itself], "inbox of gw-1", own), OtherMembers::NoSuccessor, "its own row");
    }
}
