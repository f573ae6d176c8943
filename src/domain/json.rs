//! A JSON reader that preserves the digits of numbers, does not recurse, and allocates only for requested values.
//!
//! [`walker`] tokenises and validates a text. [`text`] decodes and encodes strings. [`dumps`] writes the stored form of
//! objects and arrays. [`named`] implements duplicate names, and [`pointer`] finds nested values. The values of
//! `serde_json` are not used, because they lose digits and are limited to 127 levels.

mod dumps;
mod lexer;
mod named;
mod pointer;
mod text;
mod walker;

use thiserror::Error;

pub(super) use dumps::dumps;
pub(super) use named::{Named, NamedList};
pub(super) use pointer::descend;
pub(super) use text::content_of;
pub(super) use walker::{Event, WalkError, Walker};

named_enum! {
    /// The type of a JSON value, with the distinctions of Python's `json` and `isinstance`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum JsonKind {
        /// `null`
        Null = "null",
        /// `true` or `false`
        Bool = "bool",
        /// A number without fraction and exponent. `1.0` and `1e2` are floats, as in Python.
        Int = "int",
        /// A number with fraction or exponent.
        Number = "float",
        /// A string.
        String = "string",
        /// An array.
        Array = "array",
        /// An object.
        Object = "object",
    }
}

/// A syntax error and its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{problem} at byte {at}")]
pub struct SyntaxError {
    /// Description of the error.
    pub problem: &'static str,
    /// Byte position of the error.
    pub at: usize,
}
