//! The effects of an edit of a flow, before it is made.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::edits::restored;
use super::{Control, ControlError, FlowEdit};
use crate::domain::edit_history::NewEdit;
use crate::domain::problem::Problem;

/// What an edit of a flow would do. Without secrets.
#[derive(Debug, Serialize, ToSchema)]
pub struct EditPreview {
    /// Code of the flow.
    pub code: String,
    /// The columns that would change.
    pub columns: Vec<PreviewedColumn>,
    /// Sequence number of the first message that the edit would concern.
    pub counts_from: i64,
    /// Posts of the flow that wait, and would follow the new columns.
    pub waiting_posts: u64,
    /// The newest dead letters of the flow without a number that were tried.
    pub letters_tried: usize,
    /// Those of them that would be processed after the edit.
    pub letters_passing: usize,
    /// Warnings about the flow after the edit.
    pub problems: Vec<Problem>,
}

/// A column that an edit would change. Equal values mean another secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewedColumn {
    /// Name of the column.
    pub column: &'static str,
    /// Its value before.
    pub before: Value,
    /// Its value after.
    pub after: Value,
}

impl Control {
    /// Says what an edit would do. Refused if the flow could not work afterwards.
    pub async fn preview_edit(&self, code: &str, edit: &FlowEdit) -> Result<EditPreview, ControlError> {
        let flows = self.flows().await?;
        let old = super::flows::find(&flows, code)?;
        let new = restored(edit.apply(&old.definition), Some(&old.definition))?;
        let others = flows.iter().filter(|other| other.id != old.id);
        let problems = self.warnings_unless_errors(&new, others).await?;
        let effects = self.edit_effects(old, &new).await?;
        let counts_from = old.next_msg_id();
        let entry = NewEdit::of_flow(Some(&old.definition), Some(&new), counts_from);
        Ok(EditPreview {
            code: code.to_owned(),
            columns: entry.as_ref().map(columns).unwrap_or_default(),
            counts_from,
            waiting_posts: effects.waiting_posts,
            letters_tried: effects.letters_tried,
            letters_passing: effects.letters_passing,
            problems,
        })
    }
}

/// The changed columns as the history would keep them.
fn columns(edit: &NewEdit) -> Vec<PreviewedColumn> {
    let row = |row: &Option<String>| -> Value {
        row.as_deref().and_then(|row| serde_json::from_str(row).ok()).unwrap_or_default()
    };
    let (before, after) = (row(&edit.old_row), row(&edit.new_row));
    let column = |column: &&'static str| PreviewedColumn {
        column,
        before: before[*column].clone(),
        after: after[*column].clone(),
    };
    edit.changed.iter().map(column).collect()
}
