//! Fields of messages that changed: shows, accepts and dismisses them.

use super::edits::{EditedFlow, ExpectedVersion, FlowEdit};
use super::{Control, ControlError};
use crate::domain::dead_letter::{DeadLetterReason, LetterFilter};
use crate::domain::drift::{Acceptance, FieldDrift, FieldLog, SchemaExpectation};
use crate::domain::flow_definition::FlowRecord;
use crate::store;

/// The fields of the messages of a flow.
#[derive(Debug)]
pub struct FlowDrift {
    /// The flow.
    pub flow: FlowRecord,
    /// Its fields.
    pub log: FieldLog,
    schema: SchemaExpectation,
}

/// A change, and what accepting it does.
#[derive(Debug)]
pub struct PlannedAcceptance {
    /// The flow as it is.
    pub flow: FlowRecord,
    /// Name of the field.
    pub field: String,
    /// The change in words.
    pub change: String,
    /// The new schema, and the effect.
    pub acceptance: Acceptance,
    /// Selects the dead letters that the change caused; none if it caused none.
    pub letters: Option<LetterFilter>,
}

/// A change that was accepted.
#[derive(Debug)]
pub struct AcceptedDrift {
    /// The edit of the flow.
    pub edited: EditedFlow,
    /// What happened, in a sentence.
    pub effect: String,
    /// Selects the dead letters that the change caused; none if it caused none.
    pub letters: Option<LetterFilter>,
}

impl FlowDrift {
    fn new(flow: FlowRecord, mut log: FieldLog) -> Self {
        let schema = SchemaExpectation::new(schema_of(&flow));
        log.settle(&schema);
        Self { flow, log, schema }
    }

    /// The fields that changed.
    pub fn changes(&self) -> impl Iterator<Item = FieldDrift<'_>> {
        self.log.drift(&self.schema)
    }

    /// What accepting the change of a field does.
    #[must_use]
    pub fn acceptance(&self, drift: &FieldDrift<'_>) -> (Acceptance, Option<LetterFilter>) {
        let acceptance = Acceptance::new(drift.field, schema_of(&self.flow));
        let letters = acceptance.letter_text.clone().map(|text| LetterFilter {
            flow: Some(self.flow.definition.code.clone()),
            reason: Some(DeadLetterReason::ValidationFailed),
            text: Some(text),
            ..LetterFilter::default()
        });
        (acceptance, letters)
    }
}

impl Control {
    /// The fields of the messages of a flow.
    pub async fn flow_drift(&self, code: &str) -> Result<FlowDrift, ControlError> {
        let flow = self.flow(code).await?;
        let log = store::read_fields(&self.database, flow.id).await?.unwrap_or_default();
        Ok(FlowDrift::new(flow, log))
    }

    /// Flows whose fields changed, in the order of their ids after `after`. The second value is the id to continue
    /// after, if there may be more.
    pub async fn drifting_flows(
        &self,
        after: Option<i64>,
        limit: usize,
    ) -> Result<(Vec<FlowDrift>, Option<i64>), ControlError> {
        let (mut found, mut after) = (Vec::new(), after);
        loop {
            let (mut logs, next) = store::read_changed_fields(&self.database, after).await?;
            let ids: Vec<i64> = logs.keys().copied().collect();
            for flow in store::read_these_flows(&self.database, &ids).await? {
                let drift = FlowDrift::new(flow.clone(), logs.remove(&flow.id).unwrap_or_default());
                // The schema may have been edited since.
                if drift.log.has_changes() {
                    found.push(drift);
                }
            }
            if found.len() > limit {
                found.truncate(limit);
                let last = found.last().map(|drift| drift.flow.id);
                return Ok((found, last));
            }
            if next.is_none() {
                return Ok((found, None));
            }
            after = next;
        }
    }

    /// What accepting the change of a field would do.
    pub async fn plan_acceptance(&self, code: &str, field: &str) -> Result<PlannedAcceptance, ControlError> {
        let drift = self.flow_drift(code).await?;
        let changed = drift.changes().find(|changed| changed.field.name == field);
        let changed = changed.ok_or_else(|| unchanged(code, field))?;
        let (acceptance, letters) = drift.acceptance(&changed);
        let (field, change) = (field.to_owned(), changed.description());
        Ok(PlannedAcceptance { field, change, acceptance, letters, flow: drift.flow })
    }

    /// Accepts the change of a field: edits the schema of the flow, if it is of an expected version.
    pub async fn accept_drift(
        &self,
        code: &str,
        field: &str,
        expected: &ExpectedVersion,
    ) -> Result<AcceptedDrift, ControlError> {
        let PlannedAcceptance { flow, acceptance, letters, .. } = self.plan_acceptance(code, field).await?;
        let Acceptance { schema, effect, .. } = acceptance;
        let edited = match &schema {
            Some(schema) => {
                let edit = FlowEdit { payload_schema: Some(schema.clone()), ..FlowEdit::default() };
                // The schema was made from this version.
                self.check_version(&flow, expected).await?;
                let planned = ExpectedVersion::OneOf(vec![self.version(&flow).await?]);
                self.edit_version(code, &edit, &planned).await?.0
            }
            None => EditedFlow {
                code: code.to_owned(),
                changed: false,
                counts_from: flow.next_msg_id(),
                warnings: Vec::new(),
            },
        };
        let schema = SchemaExpectation::new(schema.as_deref().unwrap_or_else(|| schema_of(&flow)));
        store::edit_fields(&self.database, flow.id, |log| log.dismiss(field, &schema)).await?;
        Ok(AcceptedDrift { edited, effect, letters })
    }

    /// Shows the change of a field no longer. The schema stays.
    pub async fn dismiss_drift(&self, code: &str, field: &str) -> Result<FlowDrift, ControlError> {
        let drift = self.flow_drift(code).await?;
        if drift.changes().all(|changed| changed.field.name != field) {
            return Err(unchanged(code, field));
        }
        store::edit_fields(&self.database, drift.flow.id, |log| log.dismiss(field, &drift.schema)).await?;
        self.flow_drift(code).await
    }
}

fn schema_of(flow: &FlowRecord) -> &str {
    flow.definition.payload_schema.as_deref().unwrap_or_default()
}

fn unchanged(code: &str, field: &str) -> ControlError {
    let remedy = format!("`mqtt-gateway flows drift {code}` shows the fields");
    ControlError::not_found("changed field", field, remedy)
}
