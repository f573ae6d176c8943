//! JSON read as it is written: numbers keep their digits, nothing recurses, nothing is built that is
//! not asked for.
//!
//! [`walker`] takes the text apart and checks it, [`text`] reads and writes strings, [`dumps`] writes
//! objects and arrays as they are stored, [`named`] knows what a duplicate name means, [`pointer`] goes
//! into nested values. serde's own values are not used for this: they lose digits and refuse more than
//! 127 levels.

mod dumps;
mod lexer;
mod named;
mod pointer;
mod text;
mod walker;

use std::fmt;

use thiserror::Error;

pub(super) use dumps::dumps;
pub(super) use named::{Named, NamedList};
pub(super) use pointer::descend;
pub(super) use text::content_of;
pub(super) use walker::{Event, WalkError, Walker};

/// What a JSON value is, as Python's `json` and `isinstance` tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonKind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number written without fraction and exponent: `1.0` and `1e2` are floats to Python, and so
    /// they are here.
    Int,
    /// A number with fraction or exponent.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl fmt::Display for JsonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JsonKind::Null => "null",
            JsonKind::Bool => "bool",
            JsonKind::Int => "int",
            JsonKind::Number => "float",
            JsonKind::String => "string",
            JsonKind::Array => "array",
            JsonKind::Object => "object",
        })
    }
}

/// Where a text stops being JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{problem} at byte {at}")]
pub struct SyntaxError {
    /// What is wrong.
    pub problem: &'static str,
    /// Bytes before the place.
    pub at: usize,
}
