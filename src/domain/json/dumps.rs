//! Objects and arrays as they are stored: what Python's `json.dumps(value, ensure_ascii=False)` makes
//! of them, except that numbers stay as they were written.

mod reassemble;

use std::borrow::Cow;
use std::ops::Range;

use self::reassemble::{Rearranged, reassemble};
use super::text::push_plainest;
use super::{Event, JsonKind, Named, NamedList, Walker, content_of};

/// Rewrites `raw`, a JSON value that has been checked.
///
/// Written in one pass. Only where a name came again in an object, a second pass leaves out what was
/// replaced.
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
            // Cannot be: it has been checked. As written is then better than nothing.
            Err(_) => return raw.to_owned(),
        }
    }
}

struct Dump<'a> {
    out: String,
    /// Objects and arrays that are open.
    frames: Vec<Frame<'a>>,
    /// Objects that are closed and in which a name came again.
    rearranged: Vec<Rearranged>,
}

struct Frame<'a> {
    /// Where the content begins in the output.
    starts_at: usize,
    /// Nothing for an array.
    members: Option<NamedList<'a, Member<'a>>>,
    /// Place of the member being written.
    current: usize,
    /// A name came again: what it replaced is still in the output.
    replaced: bool,
}

/// A member of an open object and where it has been written, name and value.
struct Member<'a> {
    name: Cow<'a, str>,
    written: Range<usize>,
}

impl<'a> Named<'a> for Member<'a> {
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
        self.frames.push(Frame {
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
            frame.current = members.set(Member { name: content_of(quoted), written: starts_at..starts_at });
            frame.replaced |= frame.current < before;
        }
        push_plainest(quoted, &mut self.out);
        self.out.push_str(": ");
    }

    fn scalar(&mut self, kind: JsonKind, raw: &str) {
        self.separate_element();
        if kind == JsonKind::String {
            push_plainest(raw, &mut self.out);
        } else {
            self.out.push_str(raw);
        }
        self.end_value();
    }

    /// Before an element of an array; in an object it is the name that is separated.
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
