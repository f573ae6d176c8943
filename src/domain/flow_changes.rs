//! Edits in the table of flows between two readings, for the log.

use super::flow_definition::{FlowDefinition, FlowRecord};

/// A change of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowChange<'f> {
    /// The flow, as it is now or was last.
    pub flow: &'f FlowDefinition,
    /// The change.
    pub kind: ChangeKind,
}

/// A change of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// Its row is new.
    Added,
    /// Its row is gone.
    Removed,
    /// It is enabled now.
    Enabled,
    /// It is disabled now.
    Disabled,
    /// These columns have other values.
    Edited(Vec<&'static str>),
}

/// Compares two readings, each in the order of the ids.
#[must_use]
pub fn flow_changes<'f>(before: &'f [FlowRecord], after: &'f [FlowRecord]) -> Vec<FlowChange<'f>> {
    let mut changes = Vec::new();
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let change = match (old.peek(), new.peek()) {
            (None, None) => return changes,
            (Some(was), is) if is.is_none_or(|is| was.id < is.id) => {
                old.next().map(|was| (&was.definition, Some(ChangeKind::Removed)))
            }
            (was, Some(is)) if was.is_none_or(|was| is.id < was.id) => {
                new.next().map(|is| (&is.definition, Some(ChangeKind::Added)))
            }
            _ => old.next().zip(new.next()).map(|(was, is)| (&is.definition, kind_of_change(was, is))),
        };
        if let Some((flow, Some(kind))) = change {
            changes.push(FlowChange { flow, kind });
        }
    }
}

fn kind_of_change(before: &FlowRecord, after: &FlowRecord) -> Option<ChangeKind> {
    let (was, is) = (&before.definition, &after.definition);
    match (was.is_enabled(), is.is_enabled()) {
        (false, true) => return Some(ChangeKind::Enabled),
        (true, false) => return Some(ChangeKind::Disabled),
        _ => {}
    }
    let mut edited = changed_columns(was, is);
    edited.retain(|column| *column != "enabled");
    (!edited.is_empty()).then_some(ChangeKind::Edited(edited))
}

/// The columns whose values differ.
#[must_use]
pub fn changed_columns(was: &FlowDefinition, is: &FlowDefinition) -> Vec<&'static str> {
    let columns = [
        ("code", was.code != is.code),
        ("description", was.description != is.description),
        ("topic", was.topic != is.topic),
        ("action", was.action != is.action),
        ("payload_schema", was.payload_schema != is.payload_schema),
        ("endpoint_url", was.endpoint_url != is.endpoint_url),
        ("options", was.options != is.options),
        ("message_key", was.message_key != is.message_key),
        ("enabled", was.enabled != is.enabled),
    ];
    columns.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn flow(id: i64, topic: &str, enabled: bool) -> FlowRecord {
        let code = format!("F{id}");
        let definition = FlowDefinition {
            code,
            topic: topic.to_owned(),
            enabled: Some(enabled),
            ..FlowDefinition::default()
        };
        FlowRecord { id, definition, last_msg_id: None }
    }

    fn kinds(before: &[FlowRecord], after: &[FlowRecord]) -> Vec<(String, ChangeKind)> {
        flow_changes(before, after)
            .into_iter()
            .map(|change| (change.flow.code.clone(), change.kind))
            .collect()
    }

    #[test]
    fn every_kind_of_change_is_found() {
        let before = [flow(1, "a", true), flow(2, "a", true), flow(3, "a", false), flow(4, "a", true)];
        let after = [flow(1, "b", true), flow(2, "a", false), flow(3, "a", true), flow(5, "a", true)];
        let expected = [
            ("F1", ChangeKind::Edited(vec!["topic"])),
            ("F2", ChangeKind::Disabled),
            ("F3", ChangeKind::Enabled),
            ("F4", ChangeKind::Removed),
            ("F5", ChangeKind::Added),
        ];
        assert_eq!(kinds(&before, &after), expected.map(|(code, kind)| (code.to_owned(), kind)));
    }

    #[test]
    fn counter_alone_is_no_change() {
        let counted = FlowRecord { last_msg_id: Some(7), ..flow(1, "a", true) };
        assert_eq!(kinds(&[flow(1, "a", true)], &[counted]), []);
    }

    proptest! {
        #[test]
        fn changes_are_the_difference(
            before in proptest::collection::btree_map(0..20_i64, any::<bool>(), 0..12),
            after in proptest::collection::btree_map(0..20_i64, any::<bool>(), 0..12),
        ) {
            let flows = |of: &BTreeMap<i64, bool>| -> Vec<FlowRecord> {
                of.iter().map(|(id, enabled)| flow(*id, "a", *enabled)).collect()
            };
            let changed: Vec<String> = (0..20).filter(|id| before.get(id) != after.get(id)).map(|id| format!("F{id}")).collect();
            let found: Vec<String> = kinds(&flows(&before), &flows(&after)).into_iter().map(|(code, _)| code).collect();
            prop_assert_eq!(found, changed);
        }
    }
}
