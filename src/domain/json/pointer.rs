//! One step of a JSON pointer (RFC 6901) into a valid JSON value.

use super::{Event, JsonKind, Walker, content_of};

/// Returns the value of `token` in `raw`, an object or array, or `None` if it does not exist. For a duplicate name, the
/// last value is returned.
pub(in super::super) fn descend<'a>(raw: &'a str, token: &str) -> Option<(JsonKind, &'a str)> {
    let mut walker = Walker::new(raw, usize::MAX);
    match walker.next_event() {
        Ok(Event::Open(JsonKind::Object)) => member(raw, &mut walker, token),
        Ok(Event::Open(_)) => element(raw, &mut walker, index(token)?),
        _ => None,
    }
}

fn member<'a>(raw: &'a str, walker: &mut Walker<'a>, name: &str) -> Option<(JsonKind, &'a str)> {
    let mut found = None;
    while let Ok(Event::Name(quoted)) = walker.next_event() {
        let first = walker.next_event().ok()?;
        let value = value(raw, walker, first);
        if content_of(quoted) == name {
            found = value;
        }
    }
    found
}

fn element<'a>(raw: &'a str, walker: &mut Walker<'a>, index: usize) -> Option<(JsonKind, &'a str)> {
    for _ in 0..index {
        let first = walker.next_event().ok()?;
        value(raw, walker, first)?;
    }
    let first = walker.next_event().ok()?;
    value(raw, walker, first)
}

/// Returns the whole value that begins with `first`, or `None` at the end of an array.
fn value<'a>(raw: &'a str, walker: &mut Walker<'a>, first: Event<'a>) -> Option<(JsonKind, &'a str)> {
    match first {
        Event::Scalar(kind, raw) => Some((kind, raw)),
        Event::Open(kind) => {
            let (from, depth) = (walker.position() - 1, walker.depth());
            while walker.depth() >= depth {
                walker.next_event().ok()?;
            }
            Some((kind, raw.get(from..walker.position())?))
        }
        Event::Close | Event::Name(_) | Event::End => None,
    }
}

/// Parses an array index: digits without a leading zero (RFC 6901).
fn index(token: &str) -> Option<usize> {
    let plain = token.bytes().all(|byte| byte.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    token.parse().ok().filter(|_| plain)
}
