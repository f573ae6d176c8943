//! Edits of flows and brokers, as the history keeps them: without secrets.

use std::fmt;

use serde_json::Value;

use super::flow_changes::changed_columns;
use super::flow_definition::FlowDefinition;
use super::masking::{MaskedFlow, MaskedServer};
use super::server_definition::ServerDefinition;

/// The author of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditOrigin {
    /// A user of the operating system, by a command.
    Command(String),
    /// The holder of a token, by the API.
    Token(String),
}

impl fmt::Display for EditOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(user) => write!(f, "command by {user}"),
            Self::Token(name) => write!(f, "token {name}"),
        }
    }
}

named_enum! {
    /// The kind of an edited row.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum EditedKind {
        /// A flow.
        Flow = "flow",
        /// A broker.
        Server = "server",
    }
}

/// A selection of entries. Absent conditions are met by all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryFilter {
    /// The kind of row.
    pub kind: Option<EditedKind>,
    /// Code of the flow, or id of the broker.
    pub name: Option<String>,
    /// A text in the author; letter case counts.
    pub by: Option<String>,
    /// Earliest time of the edit: microseconds since 1970, UTC.
    pub since_us: Option<i64>,
    /// The time from which on no edit is selected.
    pub until_us: Option<i64>,
}

/// An edit that is about to be written. Without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEdit {
    /// The kind of row.
    pub kind: EditedKind,
    /// Code of the flow, or id of the broker.
    pub name: String,
    /// The changed columns; none of a new or removed row.
    pub changed: Vec<&'static str>,
    /// The columns before, as JSON.
    pub old_row: Option<String>,
    /// The columns after, as JSON.
    pub new_row: Option<String>,
    /// The first sequence number that it concerns.
    pub counts_from: Option<i64>,
}

impl NewEdit {
    /// An edit of a flow, or none if nothing changes. One of the two may be missing.
    #[must_use]
    pub fn of_flow(
        old: Option<&FlowDefinition>,
        new: Option<&FlowDefinition>,
        counts_from: i64,
    ) -> Option<Self> {
        let name = new.or(old)?.code.clone();
        let changed = old.zip(new).map(|(old, new)| changed_columns(old, new));
        if changed.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        let json = |flow: &FlowDefinition| serde_json::to_string(&MaskedFlow::new(flow)).ok();
        Some(Self {
            kind: EditedKind::Flow,
            name,
            changed: changed.unwrap_or_default(),
            old_row: old.and_then(json),
            new_row: new.and_then(json),
            counts_from: Some(counts_from),
        })
    }

    /// An edit of a broker, or none if nothing changes.
    #[must_use]
    pub fn of_server(
        id: i64,
        old: Option<&ServerDefinition>,
        new: Option<&ServerDefinition>,
    ) -> Option<Self> {
        let changed = old.zip(new).map(|(old, new)| old.changed_columns(new));
        if changed.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        let json = |server: &ServerDefinition| serde_json::to_string(&MaskedServer::new(server)).ok();
        Some(Self {
            kind: EditedKind::Server,
            name: id.to_string(),
            changed: changed.unwrap_or_default(),
            old_row: old.and_then(json),
            new_row: new.and_then(json),
            counts_from: None,
        })
    }
}

/// An entry of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Number of the entry, rising.
    pub id: i64,
    /// When: microseconds since 1970, UTC.
    pub edited_at_us: i64,
    /// The author of the edit, as text.
    pub edited_by: String,
    /// The kind of row. A later version may write others.
    pub kind: String,
    /// Code of the flow, or id of the broker.
    pub name: String,
    /// The changed columns; none of a new or removed row.
    pub changed: Vec<String>,
    /// The columns before, as JSON.
    pub old_row: Option<String>,
    /// The columns after, as JSON.
    pub new_row: Option<String>,
    /// The first sequence number that it concerns.
    pub counts_from: Option<i64>,
}

impl HistoryEntry {
    /// The kind of the edit.
    #[must_use]
    pub fn kind_of_edit(&self) -> &'static str {
        match (&self.old_row, &self.new_row) {
            (None, _) => "added",
            (Some(_), None) => "removed",
            (Some(_), Some(_)) => "changed",
        }
    }

    /// The flow before and after, for programs.
    #[must_use]
    pub fn documents(&self) -> (Option<Value>, Option<Value>) {
        let document = |row: &Option<String>| {
            let value: Value = serde_json::from_str(row.as_deref()?).ok()?;
            let flow = serde_json::from_value::<MaskedFlow>(value.clone());
            Some(flow.map_or(value, |flow| flow.document()))
        };
        (document(&self.old_row), document(&self.new_row))
    }

    /// The flow after the edit.
    #[must_use]
    pub fn flow_after(&self) -> Option<MaskedFlow> {
        serde_json::from_str(self.new_row.as_deref()?).ok()
    }
}
