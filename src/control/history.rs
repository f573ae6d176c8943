//! Reads the history of edits, and brings flows back to an earlier entry.

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Control, ControlError, EditedFlow};
use crate::domain::edit_history::{EditedKind, HistoryEntry, HistoryFilter};
use crate::domain::flow_definition::{FlowDefinition, FlowRecord};
use crate::domain::flow_version::flow_version;
use crate::domain::masking::MaskedFlow;
use crate::store;

/// An entry of the history as it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryEntryView {
    /// Number of the entry.
    pub id: i64,
    /// When the edit was made.
    pub edited_at: String,
    /// Its author.
    pub edited_by: String,
    /// `flow` or `server`.
    pub kind: String,
    /// Code of the flow, or id of the broker.
    pub name: String,
    /// `added`, `changed` or `removed`.
    pub edit: &'static str,
    /// The changed columns.
    pub changed: Vec<String>,
    /// The columns before, secrets masked.
    pub before: Option<Value>,
    /// The columns after.
    pub after: Option<Value>,
    /// The first sequence number that the edit concerns.
    pub counts_from: Option<i64>,
}

impl HistoryEntryView {
    /// Shows an entry.
    #[must_use]
    pub fn new(entry: &HistoryEntry) -> Self {
        let (before, after) = entry.documents();
        let at = DateTime::from_timestamp_micros(entry.edited_at_us).unwrap_or_default();
        Self {
            id: entry.id,
            edited_at: at.to_rfc3339_opts(SecondsFormat::Millis, true),
            edited_by: entry.edited_by.clone(),
            kind: entry.kind.clone(),
            name: entry.name.clone(),
            edit: entry.kind_of_edit(),
            changed: entry.changed.clone(),
            before,
            after,
            counts_from: entry.counts_from,
        }
    }
}

/// A changed column of an entry, as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditedColumn<'e> {
    /// Name of the column.
    pub column: &'e str,
    /// The values before and after as JSON; none if only a secret differs.
    pub values: Option<(String, String)>,
}

impl HistoryEntryView {
    /// The changed columns of a changed row.
    #[must_use]
    pub fn changes(&self) -> Vec<EditedColumn<'_>> {
        let value = |row: &Option<Value>, column: &str| {
            row.as_ref().map_or(Value::Null, |row| row[column].clone()).to_string()
        };
        let change = |column| {
            let (before, after) = (value(&self.before, column), value(&self.after, column));
            EditedColumn { column, values: (before != after).then_some((before, after)) }
        };
        self.changed.iter().map(|column| change(column.as_str())).collect()
    }
}

impl Control {
    /// Edits of a row, the newest first: at most `limit` of those with numbers below `before`. A removed row has a
    /// history, too.
    pub async fn history(
        &self,
        kind: EditedKind,
        name: &str,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Vec<HistoryEntry>, ControlError> {
        let (kind, name) = (Some(kind), Some(name.to_owned()));
        self.edits(&HistoryFilter { kind, name, ..HistoryFilter::default() }, before, limit).await
    }

    /// Selected edits of all flows and brokers, the newest first: at most `limit` of those with numbers below `before`.
    pub async fn edits(
        &self,
        filter: &HistoryFilter,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Vec<HistoryEntry>, ControlError> {
        Ok(store::read_edits(&self.database, filter, before, limit).await?)
    }

    /// The version of a flow: changes with each of the columns that people write, and gives nothing of them away.
    pub async fn version(&self, flow: &FlowRecord) -> Result<String, ControlError> {
        let key = self.version_key.get_or_try_init(|| store::database_key(&self.database)).await?;
        Ok(flow_version(key, &flow.definition))
    }

    /// Gives a flow the columns that it had after an entry of its history. A removed flow is added again, and its
    /// numbers go on.
    pub async fn roll_back(&self, code: &str, to: i64) -> Result<EditedFlow, ControlError> {
        let masked = self.flow_after(code, to).await?;
        let flows = self.flows().await?;
        if let Some(present) = flows.iter().find(|flow| flow.definition.code == code) {
            let flow = restore(&masked, Some(&present.definition))?;
            return self.replace_flow(present, flow, &flows).await.map(|(edited, _)| edited);
        }
        let last_msg_id = self.last_number_of_removed(code).await?.ok_or_else(|| {
            let problem = "the flow was not removed by a command, so its last sequence number is unknown";
            let remedy = "add it by `mqtt-gateway flows add` with --last-msg-id";
            ControlError::invalid("last_msg_id", problem, remedy)
        })?;
        let flow = restore(&masked, None)?;
        let warnings = self.warnings_unless_errors(&flow, flows.iter()).await?;
        self.insert_flow(flow, last_msg_id, warnings).await
    }

    /// The last sequence number of the flow with this code, if its newest edit was its removal.
    pub(super) async fn last_number_of_removed(&self, code: &str) -> Result<Option<i64>, ControlError> {
        Ok(store::last_removals(&self.database, &[code.to_owned()]).await?.remove(code))
    }

    async fn flow_after(&self, code: &str, entry: i64) -> Result<MaskedFlow, ControlError> {
        let before = Some(entry.saturating_add(1));
        let found = self.history(EditedKind::Flow, code, before, 1).await?.pop();
        let found = found.filter(|found| found.id == entry).ok_or_else(|| {
            let remedy = format!("`mqtt-gateway flows history {code}` shows the numbers");
            ControlError::not_found("entry of the history", &entry.to_string(), remedy)
        })?;
        found.flow_after().ok_or_else(|| {
            let problem = format!("the flow was removed by entry {entry}");
            ControlError::invalid(
                "to",
                problem,
                "give the entry before, or remove it by `mqtt-gateway flows remove`",
            )
        })
    }
}

fn restore(masked: &MaskedFlow, present: Option<&FlowDefinition>) -> Result<FlowDefinition, ControlError> {
    masked.restore(present).map_err(|mut problems| {
        let command = if present.is_some() { "flows edit" } else { "flows add" };
        for problem in &mut problems {
            problem.remedy =
                format!("the history holds no secrets: {}, by `mqtt-gateway {command}`", problem.remedy);
        }
        ControlError::Invalid { problems }
    })
}
