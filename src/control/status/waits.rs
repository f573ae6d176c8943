//! Actors that wait for rows, and the holders of these.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::time_text::shown_time;
use crate::domain::lock_holders::{LockHolder, LockReading};
use crate::domain::message::FlowId;
use crate::domain::row_waits::RowWait;
use crate::observe::{RowWaitReading, Telemetry, timestamp};

/// Maximum flows that are named.
const MAX_NAMED: usize = 5;

/// An actor that has waited for rows of flows for more than two seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitStatus {
    /// Name of the actor.
    pub actor: String,
    /// Codes of the first five flows that it needs; only those that are locked, if that is known.
    pub flows: Vec<String>,
    /// Number of further flows.
    pub further_flows: usize,
    /// Since when it waits.
    pub since: String,
    /// For how many seconds.
    pub seconds: u64,
    /// Whether the other flows of its lane go on.
    pub others_go_on: bool,
    /// The session that holds the row; null if it is not known.
    pub holder: Option<HolderStatus>,
    /// Why the holder is not known.
    pub unknown: Option<String>,
}

/// A session of the database that holds a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HolderStatus {
    /// Its number at the server; 0 for a prepared transaction, which has no session.
    pub connection: i64,
    /// Its user.
    pub user: Option<String>,
    /// Its program and address, as far as the server says so.
    pub client: Option<String>,
    /// When its transaction began.
    pub since: Option<String>,
    /// The statement that ends it.
    pub ended_by: String,
}

impl WaitStatus {
    /// All waits that last.
    #[must_use]
    pub fn all(telemetry: &Telemetry) -> Vec<Self> {
        let reading = telemetry.lock_reading();
        let waits = telemetry.lasting_waits();
        waits.into_iter().map(|wait| Self::new(wait, reading.as_deref())).collect()
    }

    fn new(RowWaitReading { actor, wait }: RowWaitReading, reading: Option<&LockReading>) -> Self {
        let (flows, holder) =
            reading.map_or_else(|| (wait.flows.to_vec(), None), |reading| reading.explain(&wait));
        let code = |flow: &FlowId| match reading.and_then(|reading| reading.codes.get(flow)) {
            Some(code) => code.clone(),
            None => format!("number {flow}"),
        };
        let RowWait { lasts, is_deferred, .. } = wait;
        let unknown = match (holder, reading) {
            (Some(_), _) => None,
            (None, Some(LockReading { unknown: Some(reason), .. })) => Some(reason.clone()),
            (None, Some(_)) => Some("the database names no session that holds it".to_owned()),
            (None, None) => Some("the database has not been asked yet".to_owned()),
        };
        Self {
            actor,
            further_flows: flows.len().saturating_sub(MAX_NAMED),
            flows: flows.iter().take(MAX_NAMED).map(code).collect(),
            since: since(lasts),
            seconds: lasts.as_secs(),
            others_go_on: is_deferred,
            holder: holder.map(HolderStatus::new),
            unknown,
        }
    }

    /// The wait in a sentence without a full stop.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { actor, flows, further_flows, seconds, holder, .. } = self;
        let further = if *further_flows > 0 { format!(" and {further_flows} more") } else { String::new() };
        let rows = match flows.as_slice() {
            [] => "the row of its lane".to_owned(),
            [flow] if *further_flows == 0 => format!("the row of flow {flow}"),
            flows => format!("a row of the flows {}{further}", flows.join(", ")),
        };
        let held = holder.as_ref().map(|holder| format!(", held by {holder}")).unwrap_or_default();
        format!("{actor} waits {seconds} s for {rows}{held}")
    }

    /// What an operator can do, without a full stop.
    #[must_use]
    pub fn remedy(&self) -> String {
        match (&self.holder, &self.unknown) {
            (Some(holder), _) => {
                format!("commit or roll back in that session, or end it: `{}`", holder.ended_by)
            }
            (None, Some(reason)) => format!("find the session that holds it: {reason}"),
            (None, None) => "find the session that holds it".to_owned(),
        }
    }
}

impl HolderStatus {
    fn new(holder: &LockHolder) -> Self {
        Self {
            connection: holder.connection,
            user: holder.user.clone(),
            client: holder.client.clone(),
            since: holder.since_us.map(shown_time),
            ended_by: holder.ended_by.clone(),
        }
    }
}

impl std::fmt::Display for HolderStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.connection {
            0 => f.write_str("a prepared transaction")?,
            connection => write!(f, "connection {connection}")?,
        }
        if let Some(user) = &self.user {
            write!(f, ", user {user}")?;
        }
        if let Some(client) = &self.client {
            write!(f, " ({client})")?;
        }
        Ok(())
    }
}

fn since(lasts: Duration) -> String {
    timestamp(SystemTime::now().checked_sub(lasts).unwrap_or(SystemTime::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::lock_holders::{HeldLock, LockedThing};

    fn status(flows: &[FlowId], reading: Option<&LockReading>) -> WaitStatus {
        let wait = RowWait { flows: flows.into(), lasts: Duration::from_millis(4_700), is_deferred: false };
        WaitStatus::new(RowWaitReading { actor: "flow-worker-0".to_owned(), wait }, reading)
    }

    fn reading() -> LockReading {
        let holder = LockHolder {
            connection: 881,
            user: Some("backup".to_owned()),
            client: None,
            since_us: None,
            ended_by: "KILL 881".to_owned(),
        };
        LockReading {
            held: vec![HeldLock { thing: LockedThing::Flow(2), waiter: 7, holder }],
            codes: [(1, "TEMP".to_owned()), (2, "ALARM".to_owned())].into(),
            unknown: None,
        }
    }

    #[test]
    fn holder_is_named_with_the_statement_that_ends_it() {
        let wait = status(&[1, 2], Some(&reading()));
        let text = "flow-worker-0 waits 4 s for the row of flow ALARM, held by connection 881, user backup";
        assert_eq!(wait.sentence(), text);
        assert_eq!(wait.remedy(), "commit or roll back in that session, or end it: `KILL 881`");
    }

    #[test]
    fn unknown_holder_has_a_reason() {
        let reading = LockReading { held: Vec::new(), unknown: Some("GRANT it".to_owned()), ..reading() };
        let wait = status(&[1, 2, 3], Some(&reading));
        assert_eq!(wait.sentence(), "flow-worker-0 waits 4 s for a row of the flows TEMP, ALARM, number 3");
        assert_eq!(wait.remedy(), "find the session that holds it: GRANT it");
        let all: Vec<FlowId> = (1..=9).collect();
        assert!(status(&all, None).sentence().ends_with("number 5 and 4 more"));
    }
}
