//! The holders of rows that others wait for, as the database reports them.

use std::collections::{BTreeMap, HashSet};

use super::message::FlowId;
use super::row_waits::RowWait;

/// A session of the database that holds a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// Its number at the server; 0 for a prepared transaction, which has no session.
    pub connection: i64,
    /// Its user, if the server says so.
    pub user: Option<String>,
    /// Its program and address, as far as the server says so.
    pub client: Option<String>,
    /// When its transaction began, in microseconds since 1970, UTC.
    pub since_us: Option<i64>,
    /// The statement that ends it.
    pub ended_by: String,
}

/// The row or table that sessions wait for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LockedThing {
    /// The row of a flow.
    Flow(FlowId),
    /// Something else in this table.
    Table(String),
}

/// A session that waits for another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLock {
    /// The row or table that it waits for.
    pub thing: LockedThing,
    /// Number of the waiting session.
    pub waiter: i64,
    /// The session that it waits for.
    pub holder: LockHolder,
}

/// The database's report on the locks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockReading {
    /// All waits for locks.
    pub held: Vec<HeldLock>,
    /// Codes of flows.
    pub codes: BTreeMap<FlowId, String>,
    /// Why the database does not say it, with the remedy.
    pub unknown: Option<String>,
}

impl LockReading {
    /// A reading without a holder, for this reason.
    #[must_use]
    pub fn unknown(reason: String) -> Self {
        Self { unknown: Some(reason), ..Self::default() }
    }

    /// The flows of a wait whose rows are locked, as far as that is known, and the holder of the first one.
    #[must_use]
    pub fn explain<'r>(&'r self, wait: &RowWait) -> (Vec<FlowId>, Option<&'r LockHolder>) {
        let holder_of = |flow: &FlowId| {
            let is_it = |held: &&HeldLock| held.thing == LockedThing::Flow(*flow) && !self.is_queued(held);
            self.held.iter().find(is_it).map(|held| &held.holder)
        };
        let locked: Vec<FlowId> =
            wait.flows.iter().copied().filter(|flow| holder_of(flow).is_some()).collect();
        if let Some(holder) = locked.first().and_then(holder_of) {
            return (locked, Some(holder));
        }
        // The row of the lane comes before the rows of flows, and a table may be locked as a whole.
        let others = ["flows", "inbox_offsets"].map(|table| LockedThing::Table(table.to_owned()));
        let other = self.held.iter().find(|held| others.contains(&held.thing) && !self.is_queued(held));
        (wait.flows.to_vec(), other.map(|held| &held.holder))
    }

    /// Whether the holder itself only waits for the same thing, before the waiter.
    fn is_queued(&self, held: &HeldLock) -> bool {
        let waiters: HashSet<i64> =
            self.held.iter().filter(|other| other.thing == held.thing).map(|other| other.waiter).collect();
        waiters.contains(&held.holder.connection)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn held(thing: LockedThing, waiter: i64, connection: i64) -> HeldLock {
        let holder =
            LockHolder { connection, user: None, client: None, since_us: None, ended_by: String::new() };
        HeldLock { thing, waiter, holder }
    }

    fn explained(held: Vec<HeldLock>, flows: &[FlowId]) -> (Vec<FlowId>, Option<i64>) {
        let wait = RowWait { flows: flows.into(), lasts: Duration::ZERO, is_deferred: false };
        let reading = LockReading { held, ..LockReading::default() };
        let (flows, holder) = reading.explain(&wait);
        (flows, holder.map(|holder| holder.connection))
    }

    #[test]
    fn holder_of_a_flow_is_found() {
        let flow = LockedThing::Flow;
        let locks = vec![held(flow(3), 20, 881), held(flow(2), 21, 882), held(flow(2), 22, 21)];
        assert_eq!(explained(locks.clone(), &[1, 2]), (vec![2], Some(882)));
        assert_eq!(explained(locks, &[1]), (vec![1], None));
    }

    #[test]
    fn session_in_the_same_queue_is_no_holder() {
        let flow = LockedThing::Flow(2);
        let locks = vec![held(flow.clone(), 22, 21), held(flow.clone(), 22, 881), held(flow, 21, 881)];
        assert_eq!(explained(locks, &[2]), (vec![2], Some(881)));
    }

    #[test]
    fn locked_table_explains_any_flow() {
        let table = |name: &str| LockedThing::Table(name.to_owned());
        assert_eq!(explained(vec![held(table("data"), 20, 1)], &[1, 2]), (vec![1, 2], None));
        assert_eq!(explained(vec![held(table("inbox_offsets"), 20, 1)], &[1, 2]), (vec![1, 2], Some(1)));
    }
}
