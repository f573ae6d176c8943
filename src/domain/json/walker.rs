//! A validating JSON tokeniser.
//!
//! The open containers are stored in a vector that never exceeds the maximum depth, so deep nesting uses no stack. The
//! innermost container is stored separately, so that a flat object, the usual payload, is read without allocation.

use super::lexer::{literal_end, number_end, string_end};
use super::{JsonKind, SyntaxError};

/// A token of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Event<'a> {
    /// An object or array begins.
    Open(JsonKind),
    /// The object or array opened last ends.
    Close,
    /// Name of a member, with its quotes; the value follows.
    Name(&'a str),
    /// The original text of a value that is neither object nor array.
    Scalar(JsonKind, &'a str),
    /// The whole text has been read.
    End,
}

/// An error of the walker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum WalkError {
    /// Not JSON.
    Syntax(SyntaxError),
    /// The nesting exceeds the maximum depth.
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

/// The tokens that may follow.
#[derive(Debug, Clone, Copy)]
enum Expected {
    Value,
    FirstNameOrClose,
    FirstElementOrClose,
    CommaOrClose,
    End,
}

/// The state of a walk through one JSON text.
#[derive(Debug)]
pub(in super::super) struct Walker<'a> {
    text: &'a str,
    at: usize,
    innermost: Option<Container>,
    /// The containers around the innermost, outermost first.
    around: Vec<Container>,
    expected: Expected,
    max_depth: usize,
    deepest: usize,
    half_pair: Option<usize>,
}

impl<'a> Walker<'a> {
    /// Starts at the beginning of `text`, with a maximum nesting depth of objects and arrays.
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

    /// Number of open objects and arrays.
    pub(in super::super) fn depth(&self) -> usize {
        self.around.len() + usize::from(self.innermost.is_some())
    }

    /// The maximum depth so far.
    pub(in super::super) fn deepest(&self) -> usize {
        self.deepest
    }

    /// Byte position of the first unpaired surrogate.
    pub(in super::super) fn half_pair(&self) -> Option<usize> {
        self.half_pair
    }

    /// Number of consumed bytes.
    pub(in super::super) fn position(&self) -> usize {
        self.at
    }

    /// Returns the next token. Must not be called after an error or the end.
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

    /// Skips white space and returns the next byte without consuming it.
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
