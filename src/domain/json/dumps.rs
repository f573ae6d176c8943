//! The stored form of objects and arrays: the output of Python's `json.dumps(value, ensure_ascii=False)`, but with the
//! original spelling of numbers.

mod reassemble;

use std::borrow::Cow;
use std::ops::Range;

use self::reassemble::{Rearranged, reassemble};
use super::text::push_minimal;
use super::{Event, JsonKind, Named, NamedList, Walker, content_of};

/// Rewrites `raw`, a valid JSON value, in its stored form.
///
/// One pass is enough unless an object has duplicate names. Then a second pass removes the replaced members.
pub(in super::super) fn dumps(raw: &str) -> String {
    let mut dump = Dump {
        out: String::with_capacity(raw.len() + raw.len() / 4),
        frames: Vec::new(),
        rearranged: Vec::new(),
    };
    let mut walker = Walker::new(raw, usize::MAX);
    loop {
        match walker.next_event() {
            Ok(Event::End) => return reassemble(dump.out, dump.rearranged),
            Ok(event) => dump.write(event),
            // Unreachable for valid JSON. The original text is the best result.
            Err(_) => return raw.to_owned(),
        }
    }
}

struct Dump<'a> {
    out: String,
    /// The open objects and arrays.
    frames: Vec<OpenContainer<'a>>,
    /// The closed objects with duplicate names.
    rearranged: Vec<Rearranged>,
}

struct OpenContainer<'a> {
    /// Start of the content in the output.
    starts_at: usize,
    /// `None` for an array.
    members: Option<NamedList<'a, ObjectMember<'a>>>,
    /// Index of the current member.
    current: usize,
    /// Whether the output contains members that were replaced by a duplicate name.
    replaced: bool,
}

/// A member of an open object, and the range of its name and value in the output.
struct ObjectMember<'a> {
    name: Cow<'a, str>,
    written: Range<usize>,
}

impl<'a> Named<'a> for ObjectMember<'a> {
    fn name(&self) -> &Cow<'a, str> {
        &self.name
    }
}

impl<'a> Dump<'a> {
    fn write(&mut self, event: Event<'a>) {
        match event {
            Event::Open(kind) => self.open(kind),
            Event::Close => self.close(),
            Event::Name(quoted) => self.name(quoted),
            Event::Scalar(kind, raw) => self.scalar(kind, raw),
            Event::End => {}
        }
    }

    fn open(&mut self, kind: JsonKind) {
        self.separate_element();
        let object = kind == JsonKind::Object;
        self.out.push(if object { '{' } else { '[' });
        self.frames.push(OpenContainer {
            starts_at: self.out.len(),
            members: object.then(NamedList::new),
            current: 0,
            replaced: false,
        });
    }

    fn close(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        if frame.replaced
            && let Some(members) = &frame.members
        {
            let members = members.items().iter().map(|member| member.written.clone()).collect();
            self.rearranged.push(Rearranged { content: frame.starts_at..self.out.len(), members });
        }
        self.out.push(if frame.members.is_some() { '}' } else { ']' });
        self.end_value();
    }

    fn name(&mut self, quoted: &'a str) {
        self.separate();
        let starts_at = self.out.len();
        if let Some(frame) = self.frames.last_mut()
            && let Some(members) = &mut frame.members
        {
            let before = members.items().len();
            frame.current =
                members.set(ObjectMember { name: content_of(quoted), written: starts_at..starts_at });
            frame.replaced |= frame.current < before;
        }
        push_minimal(quoted, &mut self.out);
        self.out.push_str(": ");
    }

    fn scalar(&mut self, kind: JsonKind, raw: &str) {
        self.separate_element();
        if kind == JsonKind::String {
            push_minimal(raw, &mut self.out);
        } else {
            self.out.push_str(raw);
        }
        self.end_value();
    }

    /// Writes a separator before an element of an array. In an object, the separator precedes the name.
    fn separate_element(&mut self) {
        if self.frames.last().is_some_and(|frame| frame.members.is_none()) {
            self.separate();
        }
    }

    fn separate(&mut self) {
        if self.frames.last().is_some_and(|frame| frame.starts_at < self.out.len()) {
            self.out.push_str(", ");
        }
    }

    fn end_value(&mut self) {
        if let Some(frame) = self.frames.last_mut()
            && let Some(member) = frame.members.as_mut().and_then(|members| members.item_mut(frame.current))
        {
            member.written.end = self.out.len();
        }
    }
}
