//! Drift: fields of a flow's messages that appear, vanish or change their type.
//!
//! ```text
//!  worker ──▶ ObservedFields ──▶ FieldLog ──▶ FieldDrift ──▶ Acceptance
//!             in memory,          a row of     for           the schema that
//!             per lane            the table    operators     allows the change
//! ```
//!
//! A field has been seen with one or several kinds of values, and may have been missing. Each of these facts has a
//! first and a last time and topic. A fact is a change until it is accepted. Accepted from the start are the facts of
//! the first message of a flow, and those that its schema expects.
//!
//! Only the names at the top level of a payload count, and only a bounded number of them: the publisher chooses them.

mod acceptance;
mod expectation;
mod field_kind;
mod field_log;
mod members;
mod observed;

pub use acceptance::Acceptance;
pub use expectation::SchemaExpectation;
pub use field_kind::FieldKind;
pub use field_log::{DriftKind, FieldDrift, FieldFact, FieldLog, LoggedField, NewChange};
pub use observed::{ObservedFields, SeenFact, SeenFlow};

/// Maximum number of fields of a flow.
pub const MAX_FIELDS: usize = 100;

/// Longest name of a field, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
