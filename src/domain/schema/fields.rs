//! A schema as a list of fields, for forms.
//!
//! Only a schema that says nothing but names, types and which fields are required is such a list. All others stay JSON.

use std::fmt::Write;

use serde_json::Value;

use super::super::payload::{Attribute, JsonKind, Payload, PayloadLimits};
use super::super::value_style::ValueStyle;

/// The dialect of a schema that is made of fields.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A field of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaField {
    /// Its name.
    pub name: String,
    /// Its type, such as `number`.
    pub kind: String,
    /// Whether a payload without it is refused.
    pub required: bool,
}

/// The fields of a schema, and whether it is a JSON Schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaFields {
    /// The fields in their order.
    pub fields: Vec<SchemaField>,
    /// Whether the schema is a JSON Schema, which treats some numbers otherwise.
    pub is_json_schema: bool,
}

impl SchemaFields {
    /// The types to choose from.
    pub const KINDS: [&'static str; 6] = ["number", "integer", "string", "boolean", "object", "array"];

    /// The fields of the text of a schema. None if the schema says more than fields can.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if matches!(text.trim(), "" | "null") {
            return Some(Self::default());
        }
        let schema = object(text)?;
        if schema.get("$schema").is_some() {
            return Self::parse_json_schema(&schema);
        }
        let properties = schema.get("properties").filter(|found| found.kind() == JsonKind::Object);
        let fields = match properties {
            None => fields(&schema)?,
            Some(properties) if schema.attributes().len() == 1 => fields(&object(properties.raw())?)?,
            Some(_) => return None,
        };
        Some(Self { fields, is_json_schema: false })
    }

    fn parse_json_schema(schema: &Payload<'_>) -> Option<Self> {
        let is_known = |attribute: &Attribute<'_>| {
            matches!(attribute.name(), "$schema" | "type" | "properties" | "required")
        };
        if !schema.attributes().iter().all(is_known) || string(schema.get("type")?)? != "object" {
            return None;
        }
        let required: Vec<String> = match schema.get("required") {
            Some(required) => serde_json::from_str(required.raw()).ok()?,
            None => Vec::new(),
        };
        let mut fields = match schema.get("properties") {
            Some(properties) => fields(&object(properties.raw())?)?,
            None => Vec::new(),
        };
        for field in &mut fields {
            field.required = required.contains(&field.name);
        }
        let is_listed = |name: &String| fields.iter().any(|field| field.name == *name);
        required.iter().all(is_listed).then_some(Self { fields, is_json_schema: true })
    }

    /// The schema of the fields. A field that is not required makes it a JSON Schema.
    #[must_use]
    pub fn text(&self) -> String {
        let quoted = |text: &str| Value::from(text).to_string();
        if !self.is_json_schema && self.fields.iter().all(|field| field.required) {
            let fields = self.fields.iter().map(|field| (quoted(&field.name), quoted(&field.kind)));
            return members(1, fields.collect());
        }
        let properties = self.fields.iter().map(|field| {
            let kind = match field.kind.as_str() {
                "str" => "string",
                "float" => "number",
                "int" => "integer",
                "bool" => "boolean",
                other => other,
            };
            (quoted(&field.name), format!("{{\"type\": {}}}", quoted(kind)))
        });
        let required: Vec<String> =
            self.fields.iter().filter(|field| field.required).map(|field| quoted(&field.name)).collect();
        let parts = [
            ("$schema", quoted(DIALECT)),
            ("type", quoted("object")),
            ("properties", members(2, properties.collect())),
            ("required", format!("[{}]", required.join(", "))),
        ];
        members(1, parts.map(|(name, value)| (quoted(name), value)).to_vec())
    }
}

/// An object with a line for each member.
fn members(depth: usize, members: Vec<(String, String)>) -> String {
    if members.is_empty() {
        return "{}".to_owned();
    }
    let (inner, outer) = ("  ".repeat(depth), "  ".repeat(depth - 1));
    let mut text = String::new();
    for (name, value) in members {
        let separator = if text.is_empty() { "{" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}\n{inner}{name}: {value}");
    }
    text + "\n" + &outer + "}"
}

fn object(text: &str) -> Option<Payload<'_>> {
    Payload::parse(text.as_bytes(), &PayloadLimits::default()).ok()
}

fn string(attribute: &Attribute<'_>) -> Option<String> {
    (attribute.kind() == JsonKind::String).then(|| attribute.text(ValueStyle::Json).into_owned())
}

/// The fields of an object of names and types, all of them required.
fn fields(described: &Payload<'_>) -> Option<Vec<SchemaField>> {
    let field = |field: &Attribute<'_>| {
        let kind = match field.kind() {
            JsonKind::Object => {
                let description = object(field.raw())?;
                let [only] = description.attributes() else { return None };
                string(Some(only).filter(|only| only.name() == "type")?)?
            }
            _ => string(field)?,
        };
        Some(SchemaField { name: field.name().to_owned(), kind, required: true })
    };
    described.attributes().iter().map(field).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::schema::PayloadSchema;

    fn parsed(text: &str) -> Vec<(String, String, bool)> {
        let fields = SchemaFields::parse(text).unwrap().fields;
        fields.into_iter().map(|field| (field.name, field.kind, field.required)).collect()
    }

    #[test]
    fn simple_schemas_are_fields() {
        let expected =
            [("b".to_owned(), "number".to_owned(), true), ("a".to_owned(), "str".to_owned(), true)];
        for text in [
            r#"{"b": "number", "a": "str"}"#,
            r#"{"b": {"type": "number"}, "a": "str"}"#,
            r#"{"properties": {"b": {"type": "number"}, "a": {"type": "str"}}}"#,
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
        assert!(parsed("{}").is_empty() && parsed("null").is_empty());
    }

    #[test]
    fn other_schemas_stay_json() {
        for text in [
            "{",
            "[]",
            r#"{"a": {"type": "number", "minimum": 0}}"#,
            r#"{"a": 1}"#,
            r#"{"properties": {"a": "number"}, "title": "x"}"#,
            r#"{"$schema": "s", "type": "object", "properties": {"a": {"enum": [1]}}}"#,
            r#"{"$schema": "s", "type": "object", "required": ["a"]}"#,
            r#"{"$schema": "s", "type": "array"}"#,
        ] {
            assert_eq!(SchemaFields::parse(text), None, "{text}");
        }
    }

    #[test]
    fn fields_and_texts_agree() {
        for text in [
            "{\n  \"b\": \"number\",\n  \"a\\\"\": \"str\"\n}",
            "{}",
            r#"{"$schema": "s", "type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "string"}},
                "required": ["a"]}"#,
        ] {
            let fields = SchemaFields::parse(text).unwrap();
            let again = fields.text();
            assert_eq!(SchemaFields::parse(&again).unwrap(), fields, "{again}");
            assert!(PayloadSchema::compile(&again).is_ok(), "{again}");
        }
        let simple = SchemaFields::parse(r#"{"b":"number"}"#).unwrap();
        assert_eq!(simple.text(), "{\n  \"b\": \"number\"\n}");
    }

    #[test]
    fn optional_fields_make_a_json_schema() {
        let field =
            |name: &str, required| SchemaField { name: name.to_owned(), kind: "int".to_owned(), required };
        let fields =
            SchemaFields { fields: vec![field("a", true), field("b", false)], is_json_schema: false };
        let schema = PayloadSchema::compile(&fields.text()).unwrap();
        let limits = PayloadLimits::default();
        assert!(schema.validate(&Payload::parse(br#"{"a": 1}"#, &limits).unwrap()).is_ok());
        assert!(schema.validate(&Payload::parse(br#"{"b": 1}"#, &limits).unwrap()).is_err());
        assert!(schema.validate(&Payload::parse(br#"{"a": 1, "b": "x"}"#, &limits).unwrap()).is_err());
    }
}
