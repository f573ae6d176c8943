//! JSON Schema validation with the crate `jsonschema`, for a `payload_schema` with the key `$schema`.
//!
//! The crate works on `serde_json` values. Integers beyond 64 bits are compared as the nearest double, and `1.0` is of
//! type `integer`. A payload is rejected if a number is outside the range of a double (`1e400`). It is also rejected
//! with more than [`MAX_DEPTH`] levels, or more than [`MAX_NODES`] values and names. Stored values keep all digits.

use std::fmt::{self, Write};

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::super::payload::Payload;
use super::work::SchemaWork;
use super::{SchemaError, ValidationError};

/// Maximum nesting depth; `serde_json` rejects the 128th level.
const MAX_DEPTH: usize = 127;
/// Maximum number of values and names at all levels. A node takes up to 350 bytes of memory, and all lanes may validate
/// payloads at the same time.
const MAX_NODES: usize = 100_000;
/// Maximum length of an error. The error of the crate contains the invalid value in full length.
const MAX_PROBLEM_BYTES: usize = 500;

/// Maximum visits of values to describe an error. Each visit can leave an error in memory.
const MAX_DESCRIBED: usize = 100_000;
/// Maximum steps of a `pattern` with look-around or back-references. Other patterns take linear time.
const MAX_PATTERN_STEPS: usize = 10_000;

#[derive(Debug)]
pub(super) struct JsonSchema {
    validator: Validator,
    work: SchemaWork,
}

impl JsonSchema {
    /// Compiles a schema. References to other schemas are errors, because remote schemas are never fetched.
    pub(super) fn compile(schema: &Payload<'_>) -> Result<JsonSchema, SchemaError> {
        if schema.nodes() > MAX_NODES {
            let problem = format!("it has {} values and names, {MAX_NODES} are allowed", schema.nodes());
            return Err(SchemaError::JsonSchema(problem));
        }
        let schema: Value = serde_json::from_str(schema.text())
            .map_err(|error| SchemaError::JsonSchema(error.to_string()))?;
        let work = SchemaWork::measure(&schema).map_err(SchemaError::JsonSchema)?;
        let patterns = PatternOptions::fancy_regex().backtrack_limit(MAX_PATTERN_STEPS);
        let validator = jsonschema::options().offline().with_pattern_options(patterns).build(&schema);
        let validator = validator.map_err(|error| SchemaError::JsonSchema(shortened(&error)))?;
        Ok(Self { validator, work })
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
        if self.validator.is_valid(&value) {
            return Ok(());
        }
        let visits = self.work.visits(payload.depth()).saturating_mul(payload.nodes());
        if visits > MAX_DESCRIBED {
            let problem = "the payload does not match the schema, and is too large to say where".to_owned();
            return Err(ValidationError::JsonSchema { path: String::new(), problem });
        }
        self.validator.validate(&value).map_err(|error| ValidationError::JsonSchema {
            path: error.instance_path().to_string(),
            problem: shortened(&error),
        })
    }
}

/// Formats `error` up to [`MAX_PROBLEM_BYTES`].
fn shortened(error: &impl fmt::Display) -> String {
    let mut text = Shortened(String::new());
    // The only possible error is that the limit is reached.
    if write!(text, "{error}").is_err() {
        text.0.push('…');
    }
    text.0
}

struct Shortened(String);

impl Write for Shortened {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let available = MAX_PROBLEM_BYTES - self.0.len();
        let kept = piece.get(..piece.floor_char_boundary(available)).unwrap_or_default();
        self.0.push_str(kept);
        if kept.len() < piece.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
