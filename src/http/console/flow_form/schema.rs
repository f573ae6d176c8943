//! The schema in the form of a flow: rows of fields, or JSON.

use std::collections::HashSet;

use crate::domain::problem::Problem;
use crate::domain::schema::{SchemaField, SchemaFields};
use crate::http::console::fields::Fields;
use crate::http::console::inputs::CHECKED;

/// Rows for further fields.
const FREE_ROWS: usize = 2;

/// Rows for further fields, after a click.
const MORE_ROWS: usize = 10;

/// Most fields that a form shows as rows. Larger schemas are edited as JSON.
const MAX_ROWS: usize = 200;

/// Whether a button only shows the form in another way.
pub(super) fn is_only_shown(button: &str) -> bool {
    matches!(button, "as_json" | "as_fields" | "more_rows")
}

/// A schema as it was entered.
pub(super) struct SchemaEntry {
    form: SchemaForm,
    free_rows: usize,
}

enum SchemaForm {
    Rows(SchemaFields),
    Json(String),
}

/// The schema as the form shows it.
pub(super) struct SchemaInput {
    /// None for JSON.
    pub(super) rows: Option<Vec<SchemaRow>>,
    pub(super) is_json_schema: bool,
    pub(super) json: String,
    pub(super) problems: Vec<Problem>,
}

/// A field of the schema, or an empty row.
pub(super) struct SchemaRow {
    /// Number of the row, from 0.
    pub(super) place: usize,
    pub(super) field: SchemaField,
}

impl SchemaEntry {
    /// The rows of a schema if it is a list of fields, and its JSON otherwise.
    pub(super) fn of_text(text: &str) -> Self {
        // The names of rows are trimmed, so a name with blanks around it stays in JSON.
        let is_row = |field: &SchemaField| !field.name.is_empty() && field.name.trim() == field.name;
        let rows = SchemaFields::parse(text)
            .filter(|rows| rows.fields.len() <= MAX_ROWS && rows.fields.iter().all(is_row));
        let form = rows.map_or_else(|| SchemaForm::Json(text.to_owned()), SchemaForm::Rows);
        Self { form, free_rows: FREE_ROWS }
    }

    /// The schema of a form. With an error if it cannot be meant, or a warning if it cannot be shown as rows.
    pub(super) fn submitted(fields: &Fields) -> (Self, Option<Problem>) {
        let entered = if fields.get("schema_form") == "fields" {
            SchemaForm::Rows(rows_of(fields))
        } else {
            SchemaForm::Json(fields.get("payload_schema").to_owned())
        };
        if let SchemaForm::Rows(rows) = &entered
            && let Some(name) = repeated(rows)
        {
            let problem = format!("two fields have the name {name:?}");
            let problem = Problem::error("payload_schema", problem, "Remove one of them");
            return (Self { form: entered, free_rows: FREE_ROWS }, Some(problem));
        }
        let entry = |form| (Self { form, free_rows: FREE_ROWS }, None);
        match (fields.get("do"), entered) {
            ("as_json", SchemaForm::Rows(rows)) => entry(SchemaForm::Json(rows.text())),
            ("more_rows", form) => (Self { form, free_rows: MORE_ROWS }, None),
            ("as_fields", SchemaForm::Json(text)) => {
                let shown = Self::of_text(&text);
                let is_json = matches!(shown.form, SchemaForm::Json(_));
                let problem = "a form with fields cannot show all that this schema says";
                let problem = Problem::warning("payload_schema", problem, "Edit it as JSON");
                (shown, is_json.then_some(problem))
            }
            (_, form) => entry(form),
        }
    }

    /// The text of the schema: `present`, the schema of the flow, unless it was changed.
    pub(super) fn text(&self, present: &str) -> String {
        match &self.form {
            SchemaForm::Json(text) => text.clone(),
            SchemaForm::Rows(rows) if SchemaFields::parse(present).as_ref() == Some(rows) => {
                present.to_owned()
            }
            SchemaForm::Rows(rows) => rows.text(),
        }
    }
}

fn rows_of(fields: &Fields) -> SchemaFields {
    let row = |place: usize| {
        let value = |part: &str| fields.get(&format!("field_{part}_{place}"));
        let (name, kind) = (value("name").trim().to_owned(), value("type").to_owned());
        SchemaField { name, kind, required: value("required") == CHECKED }
    };
    let rows = (0..MAX_ROWS + MORE_ROWS).map(row).filter(|row| !row.name.is_empty());
    SchemaFields { fields: rows.collect(), is_json_schema: fields.get("schema_is_json_schema") == CHECKED }
}

/// A name that several fields have.
fn repeated(SchemaFields { fields, .. }: &SchemaFields) -> Option<&str> {
    let mut names = HashSet::new();
    fields.iter().map(|field| field.name.as_str()).find(|name| !names.insert(*name))
}

impl SchemaInput {
    pub(super) fn new(SchemaEntry { form, free_rows }: SchemaEntry, problems: Vec<Problem>) -> Self {
        let rows = match form {
            SchemaForm::Json(json) => return Self { rows: None, is_json_schema: false, json, problems },
            SchemaForm::Rows(rows) => rows,
        };
        let free = SchemaField { name: String::new(), kind: "number".to_owned(), required: true };
        let fields = rows.fields.into_iter().chain(std::iter::repeat_n(free, free_rows));
        let shown = fields.enumerate().map(|(place, field)| SchemaRow { place, field });
        Self {
            rows: Some(shown.collect()),
            is_json_schema: rows.is_json_schema,
            json: String::new(),
            problems,
        }
    }
}

impl SchemaRow {
    /// The types to choose from; also another one that the schema has.
    pub(super) fn kinds(&self) -> Vec<&str> {
        let own = Some(self.field.kind.as_str()).filter(|own| !SchemaFields::KINDS.contains(own));
        SchemaFields::KINDS.into_iter().chain(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submitted(query: &str) -> (SchemaEntry, Option<Problem>) {
        SchemaEntry::submitted(&Fields::parse(query.as_bytes()))
    }

    const ROWS: &str = "schema_form=fields&field_name_0=b&field_type_0=number&field_required_0=yes\
        &field_name_1=&field_type_1=number&field_name_2=a&field_type_2=string&field_required_2=yes";

    #[test]
    fn rows_make_a_schema() {
        let (entry, _) = submitted(ROWS);
        assert_eq!(entry.text(""), "{\n  \"b\": \"number\",\n  \"a\": \"string\"\n}");
        let present = r#"{"b":{"type":"number"},"a":"string"}"#;
        assert_eq!(entry.text(present), present, "an unchanged schema keeps its text");
        assert_eq!(submitted("schema_form=fields").0.text("{}"), "{}");
    }

    #[test]
    fn blanks_around_names_are_left_out() {
        let (entry, _) = submitted("schema_form=fields&field_name_0=+b+&field_type_0=number&field_name_1=+");
        assert_eq!(
            entry.text(""),
            submitted("schema_form=fields&field_name_0=b&field_type_0=number").0.text("")
        );
        for name in ["b ", " b", ""] {
            let text = format!(r#"{{"{name}": "number"}}"#);
            let shown = SchemaInput::new(SchemaEntry::of_text(&text), Vec::new());
            assert_eq!(
                (shown.rows.is_none(), shown.json),
                (true, text),
                "a schema with such a name keeps it"
            );
        }
    }

    #[test]
    fn fields_of_the_same_name_are_refused() {
        let twice = "&field_name_3=b&field_type_3=string";
        for button in ["save", "as_json", "more_rows"] {
            let (_, problem) = submitted(&format!("{ROWS}{twice}&do={button}"));
            assert!(problem.is_some_and(|problem| problem.is_error()), "{button}");
        }
    }

    #[test]
    fn schema_is_shown_in_either_form() {
        let (entry, _) = submitted(&format!("{ROWS}&do=as_json"));
        assert!(SchemaInput::new(entry, Vec::new()).json.contains("\"b\": \"number\""));
        let (entry, problem) = submitted("payload_schema=%7B%22a%22%3A%22int%22%7D&do=as_fields");
        assert_eq!(problem, None);
        let rows = SchemaInput::new(entry, Vec::new()).rows.unwrap_or_default();
        assert_eq!(rows.len(), 1 + FREE_ROWS);
        assert!(rows.first().is_some_and(|row| row.kinds().contains(&"int")));
        let (entry, problem) = submitted("payload_schema=%7B%22a%22%3A1%7D&do=as_fields");
        assert!(problem.is_some() && entry.text("") == r#"{"a":1}"#);
    }
}
