//! What another session did meanwhile to the row that a form edits.

use super::history::EditChange;

/// A form that was made for an earlier version of its row. It keeps its entries.
pub(super) struct Conflict {
    /// `flow` or `broker`.
    pub(super) what: &'static str,
    /// The form of the row as it is now. None if the row was removed.
    pub(super) link: Option<String>,
    /// The present version, by which the form saves over the row when it is sent again.
    pub(super) version: String,
    /// The fields that differ: the row as it is now, and the entry.
    pub(super) changes: Vec<EditChange>,
}

impl Conflict {
    /// The row was changed. `fields` has the label, the present value and the entry of each field.
    pub(super) fn changed<'a>(
        what: &'static str,
        link: String,
        version: String,
        fields: impl Iterator<Item = (&'static str, &'a str, &'a str)>,
    ) -> Self {
        let text = |value: &str| if value.is_empty() { "(empty)".to_owned() } else { value.to_owned() };
        let changes = fields.filter(|(_, now, entry)| now != entry).map(|(label, now, entry)| EditChange {
            column: label.to_owned(),
            values: Some((text(now), text(entry))),
        });
        Self { what, link: Some(link), version, changes: changes.collect() }
    }

    /// The row was removed. The form adds another one.
    pub(super) fn removed(what: &'static str) -> Self {
        Self { what, link: None, version: String::new(), changes: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fields_that_differ_are_shown() {
        let fields = [("Topic filter", "a", "b"), ("Action", "x", "x"), ("Endpoint", "", "h")];
        let conflict = Conflict::changed("flow", String::new(), String::new(), fields.into_iter());
        let shown: Vec<_> =
            conflict.changes.into_iter().map(|change| (change.column, change.values)).collect();
        let values = |now: &str, entry: &str| Some((now.to_owned(), entry.to_owned()));
        let expected =
            [("Topic filter".to_owned(), values("a", "b")), ("Endpoint".to_owned(), values("(empty)", "h"))];
        assert_eq!(shown, expected);
    }
}
