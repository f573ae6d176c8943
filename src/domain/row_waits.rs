//! The rows of flows that a lane waits for.
//!
//! ```text
//! begin ──▶ locking ──▶ granted
//!              │
//!              ├──▶ failed, still locked: the next attempt at the same flows goes on waiting
//!              └──▶ deferred: the lane goes on without the flow, until the row is free
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::message::FlowId;

/// The waits of a lane. Times are since an origin of the caller.
#[derive(Debug, Default)]
pub struct RowWaits {
    locking: Option<LockingRows>,
    /// Lagging flows whose rows are locked elsewhere, with the beginning of the wait.
    deferred: BTreeMap<FlowId, Duration>,
}

/// The rows that a transaction locks.
#[derive(Debug)]
struct LockingRows {
    flows: Arc<[FlowId]>,
    since: Duration,
}

/// Rows that a lane waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowWait {
    /// The flows that the transaction needs. The row of at least one of them is locked.
    pub flows: Arc<[FlowId]>,
    /// Duration of the wait.
    pub lasts: Duration,
    /// Whether the lane goes on without the flow.
    pub is_deferred: bool,
}

impl RowWaits {
    /// A transaction is about to lock the rows of these flows.
    pub fn begin(&mut self, flows: &[FlowId], now: Duration) {
        let goes_on = self.locking.as_ref().is_some_and(|locking| *locking.flows == *flows);
        if !goes_on {
            self.locking = Some(LockingRows { flows: flows.into(), since: now });
        }
    }

    /// The transaction has its rows, or failed for another reason.
    pub fn end(&mut self) {
        self.locking = None;
    }

    /// The lane goes on without this flow.
    pub fn defer(&mut self, flow: FlowId, now: Duration) {
        let since = self.locking.as_ref().map_or(now, |locking| locking.since);
        self.deferred.entry(flow).or_insert(since);
    }

    /// The row of a deferred flow is free.
    pub fn rejoin(&mut self, flow: FlowId) {
        self.deferred.remove(&flow);
    }

    /// All present waits.
    #[must_use]
    pub fn read(&self, now: Duration) -> Vec<RowWait> {
        let lasts = |since| now.saturating_sub(since);
        let locking = self.locking.iter().map(|locking| RowWait {
            flows: Arc::clone(&locking.flows),
            lasts: lasts(locking.since),
            is_deferred: false,
        });
        let deferred = self.deferred.iter().map(|(flow, since)| RowWait {
            flows: [*flow].into(),
            lasts: lasts(*since),
            is_deferred: true,
        });
        locking.chain(deferred).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn wait(flows: &[FlowId], seconds: u32, is_deferred: bool) -> RowWait {
        RowWait { flows: flows.into(), lasts: SECOND * seconds, is_deferred }
    }

    #[test]
    fn wait_lasts_over_attempts_at_the_same_flows() {
        let mut waits = RowWaits::default();
        waits.begin(&[1, 2], SECOND);
        waits.begin(&[1, 2], SECOND * 6);
        assert_eq!(waits.read(SECOND * 7), [wait(&[1, 2], 6, false)]);
        waits.begin(&[2], SECOND * 8);
        assert_eq!(waits.read(SECOND * 9), [wait(&[2], 1, false)]);
        waits.end();
        assert_eq!(waits.read(SECOND * 9), []);
    }

    #[test]
    fn deferred_flow_waits_from_the_beginning() {
        let mut waits = RowWaits::default();
        waits.begin(&[1, 2], SECOND);
        waits.defer(2, SECOND * 6);
        waits.end();
        // The batches of the lane go on, and the deferred flow is tried again and again.
        waits.begin(&[1], SECOND * 7);
        waits.end();
        waits.defer(2, SECOND * 8);
        assert_eq!(waits.read(SECOND * 9), [wait(&[2], 8, true)]);
        waits.rejoin(2);
        assert_eq!(waits.read(SECOND * 9), []);
    }
}
