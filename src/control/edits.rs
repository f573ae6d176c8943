//! Edits flows. Each edit is checked first, and happens in one transaction that holds the rows of the flows.

use super::flows::{WHAT, find};
use super::{Control, ControlError};
use crate::domain::flow_check::{FlowSet, problems_of_new};
use crate::domain::flow_definition::{FlowDefinition, FlowRecord};
use crate::domain::masking::MaskedFlow;
use crate::domain::problem::Problem;
use crate::store::FlowTransaction;

/// The columns to change. An empty text clears a column that may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowEdit {
    /// New description.
    pub description: Option<String>,
    /// New topic filter.
    pub topic: Option<String>,
    /// New action.
    pub action: Option<String>,
    /// New schema.
    pub payload_schema: Option<String>,
    /// New URL.
    pub endpoint_url: Option<String>,
    /// New options.
    pub options: Option<String>,
    /// New location of the message key.
    pub message_key: Option<String>,
    /// Whether the flow is enabled.
    pub enabled: Option<bool>,
}

impl FlowEdit {
    /// The flow after the edit.
    pub(super) fn apply(&self, flow: &FlowDefinition) -> FlowDefinition {
        let text = |new: &Option<String>, old: &String| new.as_ref().unwrap_or(old).clone();
        let optional = |new: &Option<String>, old: &Option<String>| match new {
            None => old.clone(),
            Some(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        };
        FlowDefinition {
            code: flow.code.clone(),
            description: text(&self.description, &flow.description),
            topic: text(&self.topic, &flow.topic),
            action: text(&self.action, &flow.action),
            payload_schema: self.payload_schema.clone().or_else(|| flow.payload_schema.clone()),
            endpoint_url: optional(&self.endpoint_url, &flow.endpoint_url),
            options: optional(&self.options, &flow.options),
            message_key: optional(&self.message_key, &flow.message_key),
            enabled: self.enabled.or(flow.enabled),
        }
    }
}

/// An edit that was made.
#[derive(Debug)]
pub struct EditedFlow {
    /// Code of the flow.
    pub code: String,
    /// Whether the row was changed at all.
    pub changed: bool,
    /// The sequence number of the first message for which the edit counts.
    pub counts_from: i64,
    /// Warnings about the flow as it is now.
    pub warnings: Vec<Problem>,
}

/// Highest sequence number that a new flow may begin after. It leaves more than any flow uses.
const MAX_LAST_MSG_ID: i64 = 9_000_000_000_000_000_000;

/// An edit of one row that is checked and not made yet.
struct PlannedEdit<'f> {
    old: &'f FlowRecord,
    new: FlowDefinition,
    warnings: Vec<Problem>,
}

/// A new flow before its columns are given.
pub(super) fn blank_flow(code: &str) -> FlowDefinition {
    FlowDefinition {
        code: code.to_owned(),
        payload_schema: Some("{}".to_owned()),
        enabled: Some(true),
        ..FlowDefinition::default()
    }
}

impl Control {
    /// Adds a flow whose first message gets the number after `last_msg_id`. Without it, the numbers of a removed flow with
    /// the same code go on.
    pub async fn add_flow(
        &self,
        code: &str,
        fields: &FlowEdit,
        last_msg_id: Option<i64>,
    ) -> Result<EditedFlow, ControlError> {
        let flows = self.flows().await?;
        let last_msg_id = match last_msg_id {
            Some(given) if !(0..=MAX_LAST_MSG_ID).contains(&given) => {
                let remedy = format!("give a number from 0 to {MAX_LAST_MSG_ID}");
                return Err(ControlError::invalid("last_msg_id", format!("{given} is out of range"), remedy));
            }
            Some(given) => given,
            None => self.last_number_of_removed(code).await?.unwrap_or(0),
        };
        let flow = restored(fields.apply(&blank_flow(code)), None)?;
        let warnings = self.warnings_of_new(&flow, flows.iter()).await?;
        self.insert_flow(flow, last_msg_id, warnings).await
    }

    /// Adds a flow that was checked.
    pub(super) async fn insert_flow(
        &self,
        flow: FlowDefinition,
        last_msg_id: i64,
        warnings: Vec<Problem>,
    ) -> Result<EditedFlow, ControlError> {
        let mut transaction = FlowTransaction::begin(&self.database).await?;
        transaction.insert(&flow, last_msg_id).await.map_err(ControlError::refused)?;
        transaction.commit(&self.origin).await?;
        let counts_from = last_msg_id.saturating_add(1);
        Ok(EditedFlow { code: flow.code, changed: true, counts_from, warnings })
    }

    /// Changes columns of a flow. Refused if the flow could not work afterwards.
    pub async fn edit_flow(&self, code: &str, edit: &FlowEdit) -> Result<EditedFlow, ControlError> {
        self.edit_version(code, edit, &ExpectedVersion::Any).await.map(|(edited, _)| edited)
    }

    /// Changes columns of a flow that has an expected version, and returns its new version.
    pub async fn edit_version(
        &self,
        code: &str,
        edit: &FlowEdit,
        expected: &ExpectedVersion,
    ) -> Result<(EditedFlow, String), ControlError> {
        let flows = self.flows().await?;
        let old = find(&flows, code)?;
        self.check_version(old, expected).await?;
        let new = restored(edit.apply(&old.definition), Some(&old.definition))?;
        let (edited, stored) = self.replace_flow(old, new, &flows).await?;
        Ok((edited, self.version(&stored).await?))
    }

    /// Fails if the flow has another version.
    pub async fn check_version(
        &self,
        flow: &FlowRecord,
        expected: &ExpectedVersion,
    ) -> Result<(), ControlError> {
        let ExpectedVersion::OneOf(versions) = expected else { return Ok(()) };
        if versions.contains(&self.version(flow).await?) {
            return Ok(());
        }
        Err(ControlError::Outdated { what: WHAT, name: flow.definition.code.clone() })
    }

    /// Replaces the columns of one of `flows`, and returns the row as it is stored.
    pub(super) async fn replace_flow(
        &self,
        old: &FlowRecord,
        new: FlowDefinition,
        flows: &[FlowRecord],
    ) -> Result<(EditedFlow, FlowRecord), ControlError> {
        let others = flows.iter().filter(|other| other.id != old.id);
        let warnings = self.warnings_unless_errors(&new, others).await?;
        let (transaction, mut edited) = self.make(vec![PlannedEdit { old, new, warnings }]).await?;
        // The database may store another text than it was given: MySQL normalises JSON.
        let stored = transaction.lock(old.id).await?;
        let gone = || ControlError::Conflict { what: WHAT, name: old.definition.code.clone() };
        let made = edited.pop().zip(stored).ok_or_else(gone)?;
        transaction.commit(&self.origin).await?;
        Ok(made)
    }

    /// Changes the same columns of several flows, all or none. Disabling alone is always possible.
    pub async fn edit_flows(
        &self,
        codes: &[String],
        edit: &FlowEdit,
    ) -> Result<Vec<EditedFlow>, ControlError> {
        let only_disables = *edit == FlowEdit { enabled: Some(false), ..FlowEdit::default() };
        let flows = self.flows().await?;
        let mut planned = Vec::new();
        for old in chosen(&flows, codes)? {
            let new = restored(edit.apply(&old.definition), Some(&old.definition))?;
            let others = flows.iter().filter(|other| other.id != old.id);
            let warnings =
                if only_disables { Vec::new() } else { self.warnings_unless_errors(&new, others).await? };
            planned.push(PlannedEdit { old, new, warnings });
        }
        let (transaction, edited) = self.make(planned).await?;
        transaction.commit(&self.origin).await?;
        Ok(edited)
    }

    /// Makes edits of rows in the order of their ids. They count when the transaction is committed, all or none.
    async fn make(
        &self,
        planned: Vec<PlannedEdit<'_>>,
    ) -> Result<(FlowTransaction, Vec<EditedFlow>), ControlError> {
        let mut transaction = FlowTransaction::begin(&self.database).await?;
        let mut edited = Vec::new();
        for PlannedEdit { old, new, warnings } in planned {
            let locked = lock_unchanged(&transaction, old).await?;
            transaction.update(&locked, &new).await.map_err(ControlError::refused)?;
            edited.push(EditedFlow {
                changed: new != old.definition,
                counts_from: locked.next_msg_id(),
                code: new.code,
                warnings,
            });
        }
        Ok((transaction, edited))
    }

    /// Removes flows, all or none. Their rows in other tables stay.
    pub async fn remove_flows(&self, flows: &[FlowRecord]) -> Result<(), ControlError> {
        let mut transaction = FlowTransaction::begin(&self.database).await?;
        let mut flows: Vec<&FlowRecord> = flows.iter().collect();
        flows.sort_by_key(|flow| flow.id);
        for flow in flows {
            let locked = lock_unchanged(&transaction, flow).await?;
            transaction.delete(&locked).await?;
        }
        transaction.commit(&self.origin).await?;
        Ok(())
    }

    /// Has all gateways read the flows and brokers again.
    pub async fn touch_flows(&self) -> Result<(), ControlError> {
        // A commit counts as an edit, whatever is in it.
        FlowTransaction::begin(&self.database).await?.commit(&self.origin).await?;
        Ok(())
    }

    /// The warnings about a flow beside the others, or its problems as an error if it cannot work.
    pub(super) async fn warnings_unless_errors(
        &self,
        flow: &FlowDefinition,
        others: impl Iterator<Item = &FlowRecord>,
    ) -> Result<Vec<Problem>, ControlError> {
        let set = FlowSet::new(others.map(|other| &other.definition));
        unless_errors(self.problems(flow, &set).await)
    }

    /// As [`Self::warnings_unless_errors`] for a flow that is to be added.
    pub(super) async fn warnings_of_new(
        &self,
        flow: &FlowDefinition,
        others: impl Iterator<Item = &FlowRecord>,
    ) -> Result<Vec<Problem>, ControlError> {
        let set = FlowSet::new(others.map(|other| &other.definition));
        unless_errors(problems_of_new(self.problems(flow, &set).await))
    }
}

fn unless_errors(problems: Vec<Problem>) -> Result<Vec<Problem>, ControlError> {
    if problems.iter().any(Problem::is_error) {
        return Err(ControlError::Invalid { problems });
    }
    Ok(problems)
}

/// The version that a row must have for an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedVersion {
    /// Any version.
    Any,
    /// One of these.
    OneOf(Vec<String>),
}

/// The flow with the secrets of the row where the edit has `***`, in the form of the row.
pub(super) fn restored(
    given: FlowDefinition,
    present: Option<&FlowDefinition>,
) -> Result<FlowDefinition, ControlError> {
    let restored = MaskedFlow::given(given).restore(present);
    let restored = restored.map_err(|problems| ControlError::Invalid { problems })?;
    Ok(match present {
        Some(present) => restored.in_form_of(present),
        None => restored,
    })
}

/// The flows with these codes, once each, in the order in which the gateway locks them: so the two cannot deadlock.
fn chosen<'f>(flows: &'f [FlowRecord], codes: &[String]) -> Result<Vec<&'f FlowRecord>, ControlError> {
    let mut chosen = codes.iter().map(|code| find(flows, code)).collect::<Result<Vec<_>, _>>()?;
    chosen.sort_by_key(|flow| flow.id);
    chosen.dedup_by_key(|flow| flow.id);
    Ok(chosen)
}

/// Locks the row. An edit is based on what was read and checked, so a row that differs is a conflict. The gateway may
/// have raised the counter meanwhile.
pub(super) async fn lock_unchanged(
    transaction: &FlowTransaction,
    read: &FlowRecord,
) -> Result<FlowRecord, ControlError> {
    let locked = transaction.lock(read.id).await?;
    locked
        .filter(|locked| locked.definition == read.definition)
        .ok_or_else(|| ControlError::Conflict { what: WHAT, name: read.definition.code.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_change_only_what_they_name() {
        let flow = FlowDefinition {
            code: "T".to_owned(),
            description: "rooms".to_owned(),
            topic: "a".to_owned(),
            endpoint_url: Some("http://h/".to_owned()),
            options: Some("{}".to_owned()),
            enabled: None,
            ..FlowDefinition::default()
        };
        assert_eq!(FlowEdit::default().apply(&flow), flow);
        let edit =
            FlowEdit { topic: Some("b".to_owned()), options: Some(String::new()), ..FlowEdit::default() };
        let expected = FlowDefinition { topic: "b".to_owned(), options: None, ..flow.clone() };
        assert_eq!(edit.apply(&flow), expected);
    }
}
