//! The payload of a message: a JSON object, parsed once. Values keep their original spelling.

use std::borrow::Cow;

use thiserror::Error;

use super::dead_letter::DeadLetterReason;
use super::json::{Event, Named, NamedList, WalkError, Walker, content_of, dumps};
pub use super::json::{JsonKind, SyntaxError};
use super::message::{Body, Record, UnfitReason};
use super::value_style::ValueStyle;

/// Limits of a payload. A payload beyond them becomes a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadLimits {
    /// Maximum size of a payload in bytes.
    pub max_payload_bytes: usize,
    /// Maximum nesting depth of objects and arrays, the payload itself included.
    pub max_depth: usize,
    /// Maximum number of distinct names in the payload, since each becomes a row. Nested names do not count.
    pub max_attributes: usize,
}

impl Default for PayloadLimits {
    fn default() -> Self {
        PayloadLimits { max_payload_bytes: 4 * 1024 * 1024, max_depth: 1000, max_attributes: 32_768 }
    }
}

/// A JSON object as a list of attributes.
///
/// A duplicate name has its last value at its first position, as in Python.
#[derive(Debug)]
pub struct Payload<'a> {
    text: &'a str,
    attributes: NamedList<'a, Attribute<'a>>,
    depth: usize,
    nodes: usize,
    half_pair: Option<usize>,
}

impl<'a> Payload<'a> {
    /// Parses and validates `bytes` in one pass, without recursion.
    pub fn parse(bytes: &'a [u8], limits: &PayloadLimits) -> Result<Payload<'a>, PayloadError> {
        if bytes.len() > limits.max_payload_bytes {
            return Err(PayloadError::TooLarge { length: bytes.len(), limit: limits.max_payload_bytes });
        }
        let text =
            str::from_utf8(bytes).map_err(|error| PayloadError::NotUtf8 { at: error.valid_up_to() })?;
        let mut reader =
            PayloadReader { text, walker: Walker::new(text, limits.max_depth), nodes: 0, limits };
        let attributes = reader.object()?;
        let (depth, half_pair) = (reader.walker.deepest(), reader.walker.half_pair());
        Ok(Payload { text, attributes, depth, nodes: reader.nodes, half_pair })
    }

    /// The attributes in the order of their names' first occurrence.
    #[must_use]
    pub fn attributes(&self) -> &[Attribute<'a>] {
        self.attributes.items()
    }

    /// Returns the attribute with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Attribute<'a>> {
        self.attributes.get(name)
    }

    /// The byte position of the first unpaired surrogate (`"\ud83d"`), which JSON allows but no UTF-8 text can contain.
    #[must_use]
    pub fn half_pair(&self) -> Option<usize> {
        self.half_pair
    }

    /// The original text of the payload.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// The nesting depth of objects and arrays, the payload itself included.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Number of values and names at all levels, the payload itself included.
    pub(super) fn nodes(&self) -> usize {
        self.nodes
    }
}

/// Parses the payload of a record. A truncated payload is an error with the cause of the truncation.
pub fn read_payload<'a>(record: &'a Record, limits: &PayloadLimits) -> Result<Payload<'a>, PayloadError> {
    match &record.body {
        Body::Whole(bytes) => Payload::parse(bytes, limits),
        Body::Head { unfit, .. } => Err(match unfit.reason {
            UnfitReason::TooLarge => PayloadError::TooLarge {
                length: usize::try_from(unfit.length).unwrap_or(usize::MAX),
                limit: limits.max_payload_bytes,
            },
            UnfitReason::TopicNotUtf8 => PayloadError::TopicNotUtf8,
            UnfitReason::Malformed => PayloadError::PacketMalformed,
        }),
    }
}

/// One name of a payload and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute<'a> {
    name: Cow<'a, str>,
    raw: &'a str,
    kind: JsonKind,
}

impl<'a> Attribute<'a> {
    /// The name, escapes resolved.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The original JSON text of the value.
    #[must_use]
    pub fn raw(&self) -> &'a str {
        self.raw
    }

    /// The type of the value.
    #[must_use]
    pub fn kind(&self) -> JsonKind {
        self.kind
    }

    /// Returns the stored form of the value.
    ///
    /// A string is stored as its content and a number in its original spelling. An object or array is stored as JSON
    /// with the separators `", "` and `": "` and with non-ASCII characters. `style` determines booleans and null.
    #[must_use]
    pub fn text(&self, style: ValueStyle) -> Cow<'a, str> {
        match self.kind {
            JsonKind::Null => Cow::Borrowed(style.null()),
            JsonKind::Bool => Cow::Borrowed(style.boolean(self.raw == "true")),
            JsonKind::Int | JsonKind::Number => Cow::Borrowed(self.raw),
            JsonKind::String => content_of(self.raw),
            JsonKind::Array | JsonKind::Object => Cow::Owned(dumps(self.raw)),
        }
    }
}

impl<'a> Named<'a> for Attribute<'a> {
    fn name(&self) -> &Cow<'a, str> {
        &self.name
    }
}

/// An invalid payload. The texts follow `Invalid payload in topic …: `, so they do not repeat the word "payload".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PayloadError {
    /// Longer than allowed.
    #[error("{length} bytes, {limit} are allowed")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The topic is invalid.
    #[error("the topic is not UTF-8, or contains NUL; U+FFFD replaces such bytes here")]
    TopicNotUtf8,
    /// The packet is malformed.
    #[error(
        "the PUBLISH packet violates the rules of MQTT: NUL or invalid UTF-8 in its properties, or an invalid structure"
    )]
    PacketMalformed,
    /// Not UTF-8.
    #[error("not UTF-8: bad sequence at byte {at}")]
    NotUtf8 {
        /// Bytes before the bad sequence.
        at: usize,
    },
    /// Not JSON. NaN and Infinity are not JSON.
    #[error("not JSON: {0}")]
    NotJson(#[from] SyntaxError),
    /// JSON, but not an object.
    #[error("not a JSON object but: {0}")]
    NotAnObject(JsonKind),
    /// The nesting depth exceeds the limit.
    #[error("nested more than {limit} levels deep")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// More names than allowed.
    #[error("more than {limit} attributes")]
    TooManyAttributes {
        /// The limit.
        limit: usize,
    },
}

impl PayloadError {
    /// The reason of the dead letter.
    #[must_use]
    pub fn reason(&self) -> DeadLetterReason {
        match self {
            PayloadError::TooLarge { .. } => DeadLetterReason::PayloadTooLarge,
            PayloadError::TopicNotUtf8 => DeadLetterReason::TopicNotUtf8,
            PayloadError::PacketMalformed => DeadLetterReason::PacketMalformed,
            PayloadError::NotUtf8 { .. } => DeadLetterReason::PayloadNotUtf8,
            PayloadError::NotJson(_) => DeadLetterReason::PayloadNotJson,
            PayloadError::NotAnObject(_) => DeadLetterReason::PayloadNotObject,
            PayloadError::TooDeep { .. } => DeadLetterReason::PayloadTooDeep,
            PayloadError::TooManyAttributes { .. } => DeadLetterReason::PayloadTooManyAttributes,
        }
    }
}

struct PayloadReader<'a, 'l> {
    text: &'a str,
    walker: Walker<'a>,
    nodes: usize,
    limits: &'l PayloadLimits,
}

impl<'a> PayloadReader<'a, '_> {
    fn object(&mut self) -> Result<NamedList<'a, Attribute<'a>>, PayloadError> {
        match self.next()? {
            Event::Open(JsonKind::Object) => {}
            Event::Open(kind) | Event::Scalar(kind, _) => return Err(self.other_than_object(kind)),
            Event::Close | Event::Name(_) | Event::End => return Ok(NamedList::new()),
        }
        let mut attributes = NamedList::new();
        while let Event::Name(quoted) = self.next()? {
            let (kind, raw) = self.value()?;
            attributes.set(Attribute { name: content_of(quoted), raw, kind });
            if attributes.items().len() > self.limits.max_attributes {
                return Err(PayloadError::TooManyAttributes { limit: self.limits.max_attributes });
            }
        }
        // Rejects text after the object.
        self.next()?;
        Ok(attributes)
    }

    /// Reads the value after a name, including nested values.
    fn value(&mut self) -> Result<(JsonKind, &'a str), PayloadError> {
        let depth = self.walker.depth();
        match self.next()? {
            Event::Open(kind) => {
                let from = self.walker.position() - 1;
                while self.walker.depth() > depth {
                    self.next()?;
                }
                Ok((kind, self.text.get(from..self.walker.position()).unwrap_or_default()))
            }
            Event::Scalar(kind, raw) => Ok((kind, raw)),
            // Unreachable: the walker returns a value after a name.
            Event::Close | Event::Name(_) | Event::End => Ok((JsonKind::Null, "null")),
        }
    }

    /// Returns the first syntax error in the rest of the text, if any, because it is more specific.
    fn other_than_object(&mut self, kind: JsonKind) -> PayloadError {
        loop {
            match self.next() {
                Ok(Event::End) => return PayloadError::NotAnObject(kind),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    fn next(&mut self) -> Result<Event<'a>, PayloadError> {
        let event = self.walker.next_event().map_err(|error| match error {
            WalkError::Syntax(error) => PayloadError::NotJson(error),
            WalkError::TooDeep => PayloadError::TooDeep { limit: self.limits.max_depth },
        })?;
        self.nodes += usize::from(!matches!(event, Event::Close | Event::End));
        Ok(event)
    }
}

#[cfg(test)]
mod tests;
