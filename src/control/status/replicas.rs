//! The gateways on a database: their names, whether they live, and their share of the flows.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::control::time_text::shown_time;
use crate::control::{Control, ControlError};
use crate::domain::flow_definition::FlowRecord;
use crate::domain::identity::StartState;
use crate::domain::replicas::{Member, Role, is_recent_heartbeat};
use crate::store::{self, LastStart};

/// A gateway on the database, from its last heartbeat.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReplicaStatus {
    /// Its MQTT client id.
    pub client_id: String,
    /// Id of its inbox, which tells it from all others.
    pub inbox_id: String,
    /// Its role.
    pub role: String,
    /// Whether its last sign of life is recent.
    pub alive: bool,
    /// `running`, `leaving`, `silent`, or `stopped`.
    pub state: &'static str,
    /// Seconds since its last sign of life.
    pub seen_seconds_ago: i64,
    /// When it was started; null if its start is not known.
    pub started_at: Option<String>,
    /// Its host, inbox directory and process.
    pub location: Option<String>,
    /// Enabled flows of which it gets messages.
    pub flows: usize,
    /// Whether it is in the way that it does not run.
    #[serde(skip)]
    pub(super) is_missed: bool,
}

impl Control {
    /// The gateways on the database, by client id.
    pub async fn replicas(&self) -> Result<Vec<ReplicaStatus>, ControlError> {
        self.replicas_of(&self.flows().await?).await
    }

    pub(super) async fn replicas_of(&self, flows: &[FlowRecord]) -> Result<Vec<ReplicaStatus>, ControlError> {
        let starts = store::last_starts(&self.database).await?;
        let members = store::members(&self.database).await?;
        let mut members: HashMap<String, Member> =
            members.into_iter().map(|member| (member.inbox_id.clone(), member)).collect();
        let mut replicas: Vec<ReplicaStatus> = starts
            .into_iter()
            .map(|start| ReplicaStatus::new(members.remove(&start.inbox_id), Some(start), flows))
            .collect();
        replicas.extend(members.into_values().map(|member| ReplicaStatus::new(Some(member), None, flows)));
        replicas.sort_by(|a, b| (&a.client_id, &a.inbox_id).cmp(&(&b.client_id, &b.inbox_id)));
        Ok(replicas)
    }
}

impl ReplicaStatus {
    /// The gateway of a start. A gateway that was always alone is no member.
    fn new(member: Option<Member>, start: Option<LastStart>, flows: &[FlowRecord]) -> Self {
        let is_member = member.is_some();
        let of_start = start.as_ref().map(|start| start.silent_for_us);
        let silent_for_us =
            member.as_ref().map(|member| member.silent_for_us).into_iter().chain(of_start).min();
        let silent_for_us = silent_for_us.unwrap_or(i64::MAX);
        let role = member.as_ref().map_or(Role::ALONE, |member| member.role.clone());
        let ended = start.as_ref().is_some_and(|start| start.state != StartState::Running);
        let alive = is_recent_heartbeat(silent_for_us) && !ended;
        let (client_id, inbox_id) = match (member, &start) {
            (Some(member), _) => (member.client_id, member.inbox_id),
            (None, Some(start)) => (start.client_id.clone(), start.inbox_id.clone()),
            (None, None) => Default::default(),
        };
        Self {
            client_id,
            inbox_id,
            alive,
            state: match (&role, alive, ended) {
                (Role::Leaving, true, _) => "leaving",
                (_, true, _) => "running",
                (_, false, true) => "stopped",
                (_, false, false) => "silent",
            },
            seen_seconds_ago: silent_for_us / 1_000_000,
            flows: flows.iter().filter(|flow| flow.definition.is_enabled() && role.takes(flow.id)).count(),
            role: if role == Role::ALONE { "all flows".to_owned() } else { role.to_string() },
            is_missed: !alive && (is_member || !start.as_ref().is_some_and(is_empty)),
            started_at: start.as_ref().map(|start| shown_time(start.started_at_us)),
            location: start.map(|start| start.location),
        }
    }
}

/// Whether the gateway left no message in its inbox.
fn is_empty(start: &LastStart) -> bool {
    start.state == StartState::Drained
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::flow_definition::FlowDefinition;
    use crate::domain::replicas::Shard;

    fn start(state: StartState, silent_for_us: i64) -> LastStart {
        LastStart {
            inbox_id: "i".to_owned(),
            client_id: "c".to_owned(),
            location: "host".to_owned(),
            state,
            started_at_us: 0,
            silent_for_us,
        }
    }

    fn member(silent_for_us: i64) -> Member {
        Member {
            inbox_id: "i".to_owned(),
            client_id: "c".to_owned(),
            role: Role::Shard(Shard { index: 1, count: 2 }),
            subscribed_at_us: None,
            handing_over_since_us: None,
            silent_for_us,
        }
    }

    fn flows() -> Vec<FlowRecord> {
        let definition = FlowDefinition { enabled: Some(true), ..FlowDefinition::default() };
        (1..=100).map(|id| FlowRecord { id, definition: definition.clone(), last_msg_id: None }).collect()
    }

    #[test]
    fn a_single_gateway_has_all_flows() {
        let status = ReplicaStatus::new(None, Some(start(StartState::Running, 2_000_000)), &flows());
        assert_eq!((status.state, status.seen_seconds_ago, status.flows), ("running", 2, 100));
        assert!(status.alive && !status.is_missed);
        assert_eq!(status.role, "all flows");
    }

    #[test]
    fn shards_have_a_part_of_the_flows() {
        let status = ReplicaStatus::new(Some(member(0)), Some(start(StartState::Running, 0)), &flows());
        assert!((20..80).contains(&status.flows), "{}", status.flows);
        assert_eq!(status.role, "shard 1 of 2");
    }

    #[test]
    fn gateways_that_are_missed_are_told_from_stopped_ones() {
        let hour = 3_600_000_000;
        let silent = ReplicaStatus::new(None, Some(start(StartState::Running, hour)), &[]);
        assert_eq!((silent.state, silent.is_missed), ("silent", true));
        let ended = ReplicaStatus::new(None, Some(start(StartState::Ended, 0)), &[]);
        assert_eq!((ended.state, ended.is_missed), ("stopped", true));
        let drained = ReplicaStatus::new(None, Some(start(StartState::Drained, 0)), &[]);
        assert_eq!((drained.state, drained.is_missed), ("stopped", false));
        let shard = ReplicaStatus::new(Some(member(hour)), Some(start(StartState::Drained, hour)), &[]);
        assert!(shard.is_missed);
    }
}
