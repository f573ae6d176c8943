//! Walks through a JSON text token by token, checking it on the way.
//!
//! What is open lies in a vector that never grows beyond the allowed depth: a million brackets cost an
//! error at the first one too many, and no stack. The innermost is kept apart from it, so that an object
//! without nested ones, as most payloads are, is read without an allocation.

use super::lexer::{literal_end, number_end, string_end};
use super::{JsonKind, SyntaxError};

/// A piece of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Event<'a> {
    /// An object or array begins.
    Open(JsonKind),
    /// The object or array opened last ends.
    Close,
    /// Name of a member, with its quotes; the value comes next.
    Name(&'a str),
    /// A value that is neither object nor array, as written.
    Scalar(JsonKind, &'a str),
    /// The whole text has been read.
    End,
}

/// Why the walk cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum WalkError {
    /// Not JSON.
    Syntax(SyntaxError),
    /// More objects and arrays are open than allowed.
    TooDeep,
}

impl From<SyntaxError> for WalkError {
    fn from(error: SyntaxError) -> Self {
        WalkError::Syntax(error)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

/// What may come next.
#[derive(Debug, Clone, Copy)]
enum Expected {
    Value,
    FirstNameOrClose,
    FirstElementOrClose,
    CommaOrClose,
    End,
}

/// A walk through one JSON text.
#[derive(Debug)]
pub(in super::super) struct Walker<'a> {
    text: &'a str,
    at: usize,
    innermost: Option<Container>,
    /// The containers around the innermost, the outermost first.
    around: Vec<Container>,
    expected: Expected,
    max_depth: usize,
    deepest: usize,
    half_pair: Option<usize>,
}

impl<'a> Walker<'a> {
    /// Starts at the beginning of `text`; at most `max_depth` objects and arrays may be open at once.
    pub(in super::super) fn new(text: &'a str, max_depth: usize) -> Walker<'a> {
        Walker {
            text,
            at: 0,
            innermost: None,
            around: Vec::new(),
            expected: Expected::Value,
            max_depth,
            deepest: 0,
            half_pair: None,
        }
    }

    /// Objects and arrays that are open.
    pub(in super::super) fn depth(&self) -> usize {
        self.around.len() + usize::from(self.innermost.is_some())
    }

    /// Most objects and arrays that have been open at once.
    pub(in super::super) fn deepest(&self) -> usize {
        self.deepest
    }

    /// The byte at which the first half of a surrogate pair stands that has no other half.
    pub(in super::super) fn half_pair(&self) -> Option<usize> {
        self.half_pair
    }

    /// Bytes read.
    pub(in super::super) fn position(&self) -> usize {
        self.at
    }

    /// The next piece. After an error or the end there is nothing more to ask.
    pub(in super::super) fn next_event(&mut self) -> Result<Event<'a>, WalkError> {
        let byte = self.next_byte();
        match (self.expected, byte) {
            (Expected::FirstNameOrClose, Some(b'}')) | (Expected::FirstElementOrClose, Some(b']')) => {
                Ok(self.close())
            }
            (Expected::FirstNameOrClose, _) => Ok(self.name()?),
            (Expected::Value | Expected::FirstElementOrClose, _) => self.value(byte),
            (Expected::CommaOrClose, _) => self.comma_or_close(byte),
            (Expected::End, None) => Ok(Event::End),
            (Expected::End, Some(_)) => Err(self.error("something follows the value").into()),
        }
    }

    fn comma_or_close(&mut self, byte: Option<u8>) -> Result<Event<'a>, WalkError> {
        match (self.innermost, byte) {
            (Some(Container::Object), Some(b'}')) | (Some(Container::Array), Some(b']')) => Ok(self.close()),
            (Some(container), Some(b',')) => {
                self.at += 1;
                let byte = self.next_byte();
                match container {
                    Container::Object => Ok(self.name()?),
                    Container::Array => self.value(byte),
                }
            }
            (Some(Container::Object), _) => Err(self.error("expected ',' or '}'").into()),
            _ => Err(self.error("expected ',' or ']'").into()),
        }
    }

    fn value(&mut self, byte: Option<u8>) -> Result<Event<'a>, WalkError> {
        let bytes = self.text.as_bytes();
        let (end, kind) = match byte {
            Some(b'{') => return self.open(Container::Object),
            Some(b'[') => return self.open(Container::Array),
            Some(b'"') => (string_end(bytes, self.at, &mut self.half_pair)?, JsonKind::String),
            Some(b'-' | b'0'..=b'9') => number_end(bytes, self.at)?,
            _ => literal_end(bytes, self.at)?,
        };
        self.expected = self.after_value();
        Ok(Event::Scalar(kind, self.read_to(end)))
    }

    fn name(&mut self) -> Result<Event<'a>, SyntaxError> {
        if self.next_byte() != Some(b'"') {
            return Err(self.error("expected a name in quotes"));
        }
        let end = string_end(self.text.as_bytes(), self.at, &mut self.half_pair)?;
        let name = self.read_to(end);
        if self.next_byte() != Some(b':') {
            return Err(self.error("expected ':'"));
        }
        self.at += 1;
        self.expected = Expected::Value;
        Ok(Event::Name(name))
    }

    fn open(&mut self, container: Container) -> Result<Event<'a>, WalkError> {
        if self.depth() >= self.max_depth {
            return Err(WalkError::TooDeep);
        }
        self.around.extend(self.innermost.replace(container));
        self.deepest = self.deepest.max(self.depth());
        self.at += 1;
        let (expected, kind) = match container {
            Container::Object => (Expected::FirstNameOrClose, JsonKind::Object),
            Container::Array => (Expected::FirstElementOrClose, JsonKind::Array),
        };
        self.expected = expected;
        Ok(Event::Open(kind))
    }

    fn close(&mut self) -> Event<'a> {
        self.innermost = self.around.pop();
        self.at += 1;
        self.expected = self.after_value();
        Event::Close
    }

    fn after_value(&self) -> Expected {
        if self.innermost.is_none() { Expected::End } else { Expected::CommaOrClose }
    }

    /// The byte behind the white space.
    fn next_byte(&mut self) -> Option<u8> {
        loop {
            let byte = self.text.as_bytes().get(self.at).copied();
            match byte {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                _ => return byte,
            }
        }
    }

    fn read_to(&mut self, end: usize) -> &'a str {
        let read = self.text.get(self.at..end).unwrap_or_default();
        self.at = end;
        read
    }

    fn error(&self, problem: &'static str) -> SyntaxError {
        SyntaxError { problem, at: self.at }
    }
}
