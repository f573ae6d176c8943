//! The payload of a message: a JSON object, read once, its values left as they were written.

use std::borrow::Cow;

use thiserror::Error;

use super::dead_letter::DeadLetterReason;
use super::json::{Event, Named, NamedList, WalkError, Walker, content_of, dumps};
pub use super::json::{JsonKind, SyntaxError};
use super::message::{Body, Record, UnfitReason};
use super::value_style::ValueStyle;

/// What a payload may cost. Whatever is above becomes a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadLimits {
    /// Longest payload, in bytes.
    pub max_payload_bytes: usize,
    /// Most objects and arrays inside of each other, the payload itself included.
    pub max_depth: usize,
    /// Most different names in the payload, each of which would become a row; names in nested objects
    /// do not count.
    pub max_attributes: usize,
}

impl Default for PayloadLimits {
    fn default() -> Self {
        PayloadLimits { max_payload_bytes: 4 * 1024 * 1024, max_depth: 1000, max_attributes: 32_768 }
    }
}

/// A JSON object, taken apart into its attributes.
///
/// A name that comes again has its last value at its first place, as in Python.
#[derive(Debug)]
pub struct Payload<'a> {
    text: &'a str,
    attributes: NamedList<'a, Attribute<'a>>,
    depth: usize,
    nodes: usize,
    half_pair: Option<usize>,
}

impl<'a> Payload<'a> {
    /// Checks all of `bytes`, in one pass and without recursion.
    pub fn parse(bytes: &'a [u8], limits: &PayloadLimits) -> Result<Payload<'a>, PayloadError> {
        if bytes.len() > limits.max_payload_bytes {
            return Err(PayloadError::TooLarge { length: bytes.len(), limit: limits.max_payload_bytes });
        }
        let text =
            str::from_utf8(bytes).map_err(|error| PayloadError::NotUtf8 { at: error.valid_up_to() })?;
        let mut reader = Reader { text, walker: Walker::new(text, limits.max_depth), nodes: 0, limits };
        let attributes = reader.object()?;
        let (depth, half_pair) = (reader.walker.deepest(), reader.walker.half_pair());
        Ok(Payload { text, attributes, depth, nodes: reader.nodes, half_pair })
    }

    /// The attributes in the order of their names' first occurrence.
    #[must_use]
    pub fn attributes(&self) -> &[Attribute<'a>] {
        self.attributes.items()
    }

    /// The attribute of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Attribute<'a>> {
        self.attributes.get(name)
    }

    /// The byte of the first escape of half a surrogate pair (`"\ud83d"`), which the grammar of JSON allows and no text can
    /// hold.
    #[must_use]
    pub fn half_pair(&self) -> Option<usize> {
        self.half_pair
    }

    /// The whole payload as written.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// Objects and arrays inside of each other, the payload itself included.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Values and names at all levels, the payload itself included.
    pub(super) fn nodes(&self) -> usize {
        self.nodes
    }
}

/// Reads a record's payload; one of which only the head was kept is unfit.
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

    /// The value's JSON text as written.
    #[must_use]
    pub fn raw(&self) -> &'a str {
        self.raw
    }

    /// What the value is.
    #[must_use]
    pub fn kind(&self) -> JsonKind {
        self.kind
    }

    /// The value as it is stored: a string's content, a number as written, an object or array as JSON
    /// with `", "` and `": "` between its parts and non-ASCII characters kept, a boolean or null as
    /// `style` has it.
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

/// Why bytes are no payload. The texts go behind `Invalid payload in topic …: `, so they do not say
/// "payload" again.
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
    /// Not the payload is at fault but the topic.
    #[error("the topic is not UTF-8, or holds NUL; U+FFFD stands for such bytes here")]
    TopicNotUtf8,
    /// Not the payload is at fault but the packet.
    #[error(
        "the PUBLISH packet breaks the rules of MQTT: a NUL or bad UTF-8 in its properties, or a bad structure"
    )]
    PacketMalformed,
    /// Not UTF-8.
    #[error("not UTF-8: bad sequence at byte {at}")]
    NotUtf8 {
        /// Bytes before the bad sequence.
        at: usize,
    },
    /// Not JSON. NaN and Infinity are none.
    #[error("not JSON: {0}")]
    NotJson(#[from] SyntaxError),
    /// JSON, but no object.
    #[error("not a JSON object but: {0}")]
    NotAnObject(JsonKind),
    /// Objects and arrays inside of each other beyond the limit.
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

struct Reader<'a, 'l> {
    text: &'a str,
    walker: Walker<'a>,
    nodes: usize,
    limits: &'l PayloadLimits,
}

impl<'a> Reader<'a, '_> {
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
        // The object has closed; this refuses whatever follows it.
        self.next()?;
        Ok(attributes)
    }

    /// The value behind a name, with all that is in it.
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
            // The walker gives only a value behind a name.
            Event::Close | Event::Name(_) | Event::End => Ok((JsonKind::Null, "null")),
        }
    }

    /// What is broken further on says more than that this is no object.
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
