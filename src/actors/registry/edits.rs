//! Notices edits of the flows, so that they count within seconds.
//!
//! Commands raise a revision, which is read each second. Edits by SQL are found by comparing the rows, as long as there
//! are few.

use std::time::{Duration, Instant};

use crate::domain::flow_changes::{ChangeKind, FlowChange, flow_changes};
use crate::domain::flow_definition::FlowRecord;
use crate::store::{Database, StoreError, flow_revision, read_first_flows};

/// Interval between two readings of the revision.
pub(super) const REVISION_INTERVAL: Duration = Duration::from_secs(1);

/// Interval between two comparisons of the rows.
const COMPARE_INTERVAL: Duration = Duration::from_secs(5);

/// Interval after which a table that was too large to be compared is tried again.
const LARGE_INTERVAL: Duration = Duration::from_mins(10);

/// Maximum number of flows that are compared. Edits by SQL of a larger table count at the next reload.
const MAX_COMPARED: usize = 10_000;

/// Maximum number of changed flows that get a log line each.
const MAX_NAMED: usize = 20;

/// The flows as they were last read.
#[derive(Debug, Default)]
pub(super) struct EditWatch {
    revision: Option<i64>,
    flows: Option<Vec<FlowRecord>>,
    /// When the rows are compared next; `None` before the first time.
    compare_at: Option<Instant>,
}

impl EditWatch {
    /// Returns whether the flows were edited since the last call. The first call returns true, because an edit may have
    /// followed the load at the start.
    pub(super) async fn look(&mut self, database: &Database) -> Result<bool, StoreError> {
        if database.is_superseded() {
            // The reload replaces the connection.
            return Ok(true);
        }
        let revision = flow_revision(database).await?;
        let is_raised = self.revision != Some(revision);
        let is_due = self.compare_at.is_none_or(|at| at <= Instant::now());
        // The log names the edits of a command at once.
        let compares = is_due || is_raised && self.flows.is_some();
        let is_edited = compares && self.compare(database).await?;
        // After a failure above, the next call finds the raised revision again.
        self.revision = Some(revision);
        Ok(is_raised || is_edited)
    }

    async fn compare(&mut self, database: &Database) -> Result<bool, StoreError> {
        let limit = i64::try_from(MAX_COMPARED + 1).unwrap_or(i64::MAX);
        let flows = read_first_flows(database, limit).await?;
        // A long reading delays the next one.
        self.compare_at = Some(Instant::now() + COMPARE_INTERVAL);
        if flows.len() > MAX_COMPARED {
            self.compare_at = Some(Instant::now() + LARGE_INTERVAL);
            self.flows = None;
            return Ok(false);
        }
        let Some(before) = self.flows.replace(flows) else { return Ok(false) };
        let changes = flow_changes(&before, self.flows.as_deref().unwrap_or_default());
        log_changes(&changes);
        Ok(!changes.is_empty())
    }
}

fn log_changes(changes: &[FlowChange<'_>]) {
    for FlowChange { flow, kind } in changes.iter().take(MAX_NAMED) {
        let (flow, topic) = (flow.code.as_str(), flow.topic.as_str());
        match kind {
            ChangeKind::Added => log::info!(flow; "Flow {flow} is new, with the topic {topic:?}"),
            ChangeKind::Removed => log::info!(flow; "Flow {flow} was deleted"),
            ChangeKind::Enabled => log::info!(flow; "Flow {flow} was enabled"),
            ChangeKind::Disabled => log::info!(flow; "Flow {flow} was disabled"),
            ChangeKind::Edited(columns) => {
                let columns = columns.join(", ");
                log::info!(flow; "Flow {flow} was edited: {columns}");
            }
        }
    }
    if changes.len() > MAX_NAMED {
        let flows = changes.len() - MAX_NAMED;
        log::info!(flows; "{flows} more flows were edited");
    }
}
