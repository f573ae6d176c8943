//! How changed fields are shown.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{EditedFlowView, json_or_text};
use crate::control::time_text::shown_time;
use crate::control::{AcceptedDrift, FlowDrift};
use crate::domain::dead_letter::LetterFilter;
use crate::domain::drift::{DriftKind, FieldDrift, FieldFact, FieldKind, LoggedField};

/// The fields that the messages of a flow had.
#[derive(Debug, Serialize, ToSchema)]
pub struct FlowDriftView {
    /// Code of the flow.
    pub code: String,
    /// The fields, in the order in which they were first seen.
    pub fields: Vec<LoggedFieldView>,
    /// Whether there were more fields than are kept.
    pub has_more_fields: bool,
}

/// A field of the messages of a flow.
#[derive(Debug, Serialize, ToSchema)]
pub struct LoggedFieldView {
    /// Its name.
    pub field: String,
    /// The kinds of its values, and whether it was missing.
    pub facts: Vec<FieldFactView>,
    /// How it changed; null without a change.
    pub change: Option<FieldChangeView>,
}

/// A kind of value that a field had, or that it was missing.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldFactView {
    /// The kind.
    pub kind: FieldKind,
    /// Whether it is a change that is not accepted.
    pub is_change: bool,
    /// Number of messages, counted since the field is known.
    pub messages: u64,
    /// Time of the first message.
    pub first_at: String,
    /// Time of the last message, up to an hour late; with a change up to a minute.
    pub last_at: String,
    /// Topic of the first message.
    pub first_topic: String,
    /// Topic of a recent message.
    pub last_topic: String,
}

/// A change of a field.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldChangeView {
    /// `appeared`, `vanished`, `sometimes_missing` or `type_changed`.
    pub kind: &'static str,
    /// The change in words.
    pub description: String,
    /// Whether the schema refuses such messages: they become dead letters.
    pub is_refused: bool,
    /// The schema that accepts the change; null if the present schema stays.
    pub accepting_schema: Option<Value>,
    /// What happens if the change is accepted.
    pub effect: String,
    /// The dead letters that the change caused; null if it caused none.
    pub dead_letters: Option<CausedLettersView>,
}

/// Selects the dead letters that a change caused: a filter of `/dead-letters`.
#[derive(Debug, Serialize, ToSchema)]
pub struct CausedLettersView {
    /// Code of the flow.
    pub flow: String,
    /// The reason.
    pub reason: &'static str,
    /// A text in the detail.
    pub text: String,
}

/// A change that was accepted.
#[derive(Debug, Serialize, ToSchema)]
pub struct AcceptedDriftView {
    /// The edit of the flow.
    #[serde(flatten)]
    pub edited: EditedFlowView,
    /// What happened, in a sentence.
    pub effect: String,
    /// The dead letters that the change caused, to be replayed; null if it caused none.
    pub dead_letters: Option<CausedLettersView>,
}

impl FlowDriftView {
    /// The document of a flow, with all fields.
    #[must_use]
    pub fn new(drift: &FlowDrift) -> Self {
        let fields = drift.log.fields.iter().filter(|field| !field.facts.is_empty());
        Self {
            code: drift.flow.definition.code.clone(),
            fields: fields.map(|field| LoggedFieldView::new(drift, field)).collect(),
            has_more_fields: drift.log.is_cut,
        }
    }

    /// The document of a flow, with the changed fields only.
    #[must_use]
    pub fn of_changes(drift: &FlowDrift) -> Self {
        let mut view = Self::new(drift);
        view.fields.retain(|field| field.change.is_some());
        view
    }
}

impl LoggedFieldView {
    fn new(drift: &FlowDrift, field: &LoggedField) -> Self {
        let change = drift.changes().find(|changed| changed.field.name == field.name);
        Self {
            field: field.name.clone(),
            facts: field.facts.iter().map(FieldFactView::new).collect(),
            change: change.map(|change| FieldChangeView::new(drift, &change)),
        }
    }
}

impl FieldFactView {
    fn new(fact: &FieldFact) -> Self {
        Self {
            kind: fact.kind,
            is_change: !fact.is_accepted,
            messages: fact.messages,
            first_at: shown_time(fact.first_at_us),
            last_at: shown_time(fact.last_at_us),
            first_topic: fact.first_topic.clone(),
            last_topic: fact.last_topic.clone(),
        }
    }
}

impl FieldChangeView {
    fn new(drift: &FlowDrift, change: &FieldDrift<'_>) -> Self {
        let (acceptance, letters) = drift.acceptance(change);
        Self {
            kind: match change.kind {
                DriftKind::Appeared => "appeared",
                DriftKind::Vanished => "vanished",
                DriftKind::SometimesMissing => "sometimes_missing",
                DriftKind::TypeChanged => "type_changed",
            },
            description: change.description(),
            is_refused: change.is_refused(),
            accepting_schema: acceptance.schema.as_deref().map(json_or_text),
            effect: acceptance.effect,
            dead_letters: letters.as_ref().and_then(CausedLettersView::new),
        }
    }
}

impl CausedLettersView {
    fn new(filter: &LetterFilter) -> Option<Self> {
        Some(Self { flow: filter.flow.clone()?, reason: filter.reason?.as_str(), text: filter.text.clone()? })
    }
}

impl AcceptedDriftView {
    /// The document of a change that was accepted.
    #[must_use]
    pub fn new(accepted: &AcceptedDrift) -> Self {
        Self {
            edited: EditedFlowView::new(&accepted.edited),
            effect: accepted.effect.clone(),
            dead_letters: accepted.letters.as_ref().and_then(CausedLettersView::new),
        }
    }
}
