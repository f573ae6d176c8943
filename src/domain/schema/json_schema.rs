//! A `payload_schema` with a `$schema` key: JSON Schema, by the `jsonschema` crate.
//!
//! It works on serde's values, which has its price. Integers beyond 64 bits are compared as the nearest
//! double; to JSON Schema both `1.0` and 30 digits are of type `integer`. A number that no double holds
//! (`1e400`), more than [`MAX_DEPTH`] levels and more than [`MAX_NODES`] values and names cannot be checked:
//! validation errors that say so. What is stored of a payload that passes keeps all its digits.

use std::fmt::{self, Write};

use jsonschema::Validator;
use serde_json::Value;

use super::super::payload::Payload;
use super::{SchemaError, ValidationError};

/// Levels that `serde_json` reads: it refuses the 128th.
const MAX_DEPTH: usize = 127;
/// Values and names, in all levels together. A node takes up to 350 bytes of memory whatever its length in the
/// payload, and every lane may validate a payload at the same time.
const MAX_NODES: usize = 100_000;
/// The crate puts the offending value into its message, however long it is.
const MAX_PROBLEM_BYTES: usize = 500;

#[derive(Debug)]
pub(super) struct JsonSchema(Validator);

impl JsonSchema {
    /// References to schemas that are not in `schema` are errors: nothing is ever fetched.
    pub(super) fn compile(schema: &Payload<'_>) -> Result<JsonSchema, SchemaError> {
        if schema.nodes() > MAX_NODES {
            let problem = format!("it has {} values and names, {MAX_NODES} are allowed", schema.nodes());
            return Err(SchemaError::JsonSchema(problem));
        }
        let schema: Value = serde_json::from_str(schema.text())
            .map_err(|error| SchemaError::JsonSchema(error.to_string()))?;
        let validator = jsonschema::options().offline().build(&schema);
        validator.map(JsonSchema).map_err(|error| SchemaError::JsonSchema(shortened(&error)))
    }

    pub(super) fn validate(&self, payload: &Payload<'_>) -> Result<(), ValidationError> {
        if payload.depth() > MAX_DEPTH {
            return Err(ValidationError::TooDeepForJsonSchema { depth: payload.depth(), limit: MAX_DEPTH });
        }
        if payload.nodes() > MAX_NODES {
            return Err(ValidationError::TooManyNodesForJsonSchema {
                nodes: payload.nodes(),
                limit: MAX_NODES,
            });
        }
        let value: Value = serde_json::from_str(payload.text())
            .map_err(|error| ValidationError::UnfitForJsonSchema(error.to_string()))?;
        self.0.validate(&value).map_err(|error| ValidationError::JsonSchema {
            path: error.instance_path().to_string(),
            problem: shortened(&error),
        })
    }
}

/// The text of `error`, without writing out what is cut off.
fn shortened(error: &impl fmt::Display) -> String {
    let mut text = Shortened(String::new());
    // The one error it gives is that it is full.
    if write!(text, "{error}").is_err() {
        text.0.push('…');
    }
    text.0
}

struct Shortened(String);

impl Write for Shortened {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let room = MAX_PROBLEM_BYTES - self.0.len();
        let kept = piece.get(..piece.floor_char_boundary(room)).unwrap_or_default();
        self.0.push_str(kept);
        if kept.len() < piece.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
