//! The schema that allows a change, and which dead letters the change caused.

use serde_json::Value;

use super::expectation::{SchemaLanguage, required_names};
use super::field_log::{joined, simplified};
use super::members::{Members, quoted};
use super::{FieldKind, LoggedField, SchemaExpectation};

/// How a change is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// The new text of `flows.payload_schema`; none if it stays as it is.
    pub schema: Option<String>,
    /// What happens, in a sentence.
    pub effect: String,
    /// A text in the details of the dead letters that the change caused; none if it caused none.
    pub letter_text: Option<String>,
}

impl Acceptance {
    /// How the changes of a field are accepted, with the present schema of the flow.
    #[must_use]
    pub fn new(field: &LoggedField, schema_json_text: &str) -> Self {
        let expectation = SchemaExpectation::new(schema_json_text);
        let edit = SchemaEdit { field, expectation: &expectation };
        // Both accept any object.
        let text = if ["", "null"].contains(&schema_json_text.trim()) { "{}" } else { schema_json_text };
        let (schema, effect) = match Members::parse(text) {
            Ok(schema) => match expectation.form() {
                SchemaLanguage::JsonSchema => edit.of_json_schema(&schema),
                form => edit.of_fields(schema, form),
            },
            Err(_) => SchemaEdit::nothing(),
        };
        Self { schema: schema.map(|schema| schema.text()), effect, letter_text: edit.letter_text() }
    }
}

struct SchemaEdit<'l> {
    field: &'l LoggedField,
    expectation: &'l SchemaExpectation,
}

/// A new schema, unless it stays, and the effect in a sentence.
type Edited = (Option<Members>, String);

impl SchemaEdit<'_> {
    fn nothing() -> Edited {
        let effect = "The schema stays as it is, and the change is known from now on.";
        (None, effect.to_owned())
    }

    /// A list of fields requires each of them, and has one type for each.
    fn of_fields(&self, schema: Members, form: SchemaLanguage) -> Edited {
        let name = &self.field.name;
        let mut fields = match form {
            SchemaLanguage::Properties => schema.object("properties").unwrap_or_default(),
            _ => schema.clone(),
        };
        // Without the wrapper, a field of this name would change the meaning of the whole schema.
        if form == SchemaLanguage::Fields && ["properties", "$schema"].contains(&name.as_str()) {
            return Self::nothing();
        }
        let present = simplified(self.field.present_kinds());
        let listed = fields.get(name).map(str::to_owned);
        let effect = match (&listed, list_type(&present)) {
            (None, Some(kind)) => {
                fields.set(name, quoted(kind));
                format!(
                    "Field {name:?} is added to the schema as {kind}. Messages without it become dead letters."
                )
            }
            (None, None) => return Self::nothing(),
            (Some(described), Some(kind)) => {
                fields.set(name, with_type(described, quoted(kind)));
                format!(
                    "The type of field {name:?} in the schema becomes {kind}. Messages with another type become dead \
                     letters."
                )
            }
            (Some(_), None) if present.contains(&FieldKind::Missing) => {
                fields.remove(name);
                format!(
                    "Field {name:?} is removed from the schema, because a list of fields requires each of them. \
                     Messages may have it or not, with any type."
                )
            }
            (Some(_), None) => {
                fields.remove(name);
                format!(
                    "Field {name:?} is removed from the schema, because a list of fields cannot allow {}. Messages \
                     may have it with any type, or not at all.",
                    joined(&present, " or ")
                )
            }
        };
        let mut new = schema;
        match form {
            SchemaLanguage::Properties => new.set("properties", fields.text()),
            _ => new = fields,
        }
        (Some(new), effect)
    }

    fn of_json_schema(&self, schema: &Members) -> Edited {
        let name = &self.field.name;
        let (mut new, mut effects) = (schema.clone(), Vec::new());
        let present = self.field.present_kinds();
        let refused: Vec<FieldKind> =
            present.iter().copied().filter(|kind| self.expectation.refuses(name, *kind)).collect();
        if refused.contains(&FieldKind::Missing) {
            let required = required_names(schema).into_iter().filter(|required| required != name);
            new.set("required", required.collect::<Value>().to_string());
            effects.push(format!("Field {name:?} becomes optional."));
        }
        let mut properties = schema.object("properties").unwrap_or_default();
        let values = simplified(present.into_iter().filter(|kind| kind.is_value()).collect());
        let is_listed = self.expectation.field(name).is_some_and(|field| field.is_listed);
        if !is_listed && !values.is_empty() {
            let values: Vec<FieldKind> = values.into_iter().map(without_int).collect();
            properties.set(name, format!("{{\"type\": {}}}", json_schema_type(&values)));
            effects.push(format!("Field {name:?} is added to the schema as {}.", joined(&values, " or ")));
        } else if let Some(described) = properties.get(name).map(str::to_owned)
            && refused.iter().any(|kind| kind.is_value())
        {
            let all = simplified([self.expectation.listed_kinds(name), values].concat());
            properties.set(name, with_type(&described, json_schema_type(&all)));
            effects.push(format!("Field {name:?} may be {}.", joined(&all, " or ")));
        }
        if effects.is_empty() {
            return Self::nothing();
        }
        if !properties.text().eq("{}") {
            new.set("properties", properties.text());
        }
        (Some(new), effects.join(" "))
    }

    /// The dead letter says which field was refused.
    fn letter_text(&self) -> Option<String> {
        let name = &self.field.name;
        let refused = |fact: &&super::FieldFact| self.expectation.refuses(name, fact.kind);
        let kinds: Vec<FieldKind> = self.field.open().filter(refused).map(|fact| fact.kind).collect();
        let is_value = kinds.iter().any(|kind| kind.is_value());
        if kinds.is_empty() {
            return None;
        }
        Some(match self.expectation.form() {
            SchemaLanguage::JsonSchema if !is_value => format!("{} is a required property", quoted(name)),
            SchemaLanguage::JsonSchema if self.expectation.field(name).is_some() => {
                let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
                format!("at {pointer:?}: ")
            }
            SchemaLanguage::JsonSchema => format!("'{name}' was unexpected"),
            SchemaLanguage::Fields | SchemaLanguage::Properties => format!("field {name:?}: expected "),
        })
    }
}

/// The type of a list of fields that accepts all these kinds.
fn list_type(kinds: &[FieldKind]) -> Option<&'static str> {
    Some(match kinds {
        [FieldKind::Int | FieldKind::Number] => "number",
        [FieldKind::String] => "string",
        [FieldKind::Bool] => "bool",
        [FieldKind::Array] => "array",
        [FieldKind::Object] => "object",
        _ => return None,
    })
}

/// A new field with integers today may have a fraction tomorrow.
fn without_int(kind: FieldKind) -> FieldKind {
    if kind == FieldKind::Int { FieldKind::Number } else { kind }
}

/// The keyword `type` of a JSON Schema for these kinds.
fn json_schema_type(kinds: &[FieldKind]) -> String {
    let names: Vec<&str> = kinds
        .iter()
        .map(|kind| match kind {
            FieldKind::Null | FieldKind::Missing => "null",
            FieldKind::Bool => "boolean",
            FieldKind::Int => "integer",
            FieldKind::Number => "number",
            FieldKind::String => "string",
            FieldKind::Array => "array",
            FieldKind::Object => "object",
        })
        .collect();
    match names.as_slice() {
        [name] => quoted(name),
        _ => Value::from(names).to_string(),
    }
}

/// The description of a field with another type, the rest as it is.
fn with_type(described: &str, kind: String) -> String {
    match Members::parse(described) {
        Ok(mut described) => {
            described.set("type", kind);
            described.text()
        }
        Err(_) => kind,
    }
}
