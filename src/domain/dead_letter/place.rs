//! The place in a payload for which a message became a dead letter, found by the detail of the dead letter. Pure.
//!
//! The detail is the fault at that time. A check by the flow as it is now might find something else, or nothing.

use std::iter::from_fn;
use std::ops::Range;

use super::super::json::{Event, WalkError, Walker, content_of, descend};
use super::DeadLetterReason;

/// The bytes of `payload` that the detail means; none if it means no place.
#[must_use]
pub fn offending_place(reason: &str, detail: &str, payload: &[u8]) -> Option<Range<usize>> {
    let text = match str::from_utf8(payload) {
        Ok(text) => text,
        Err(error) => str::from_utf8(payload.get(..error.valid_up_to())?).ok()?,
    };
    match DeadLetterReason::from_name(reason)? {
        DeadLetterReason::PayloadNotUtf8
        | DeadLetterReason::PayloadNotJson
        | DeadLetterReason::HalfSurrogatePair => byte_place(number_after(detail, "at byte ")?, payload),
        DeadLetterReason::PayloadNotObject => range_of(text, text.trim()),
        DeadLetterReason::PayloadTooDeep => too_deep(number_after(detail, "nested more than ")?, text),
        DeadLetterReason::ValidationFailed => {
            let (pointer, field) = (detail.strip_prefix("at \""), detail.strip_prefix("field \""));
            match (pointer, field) {
                (Some(rest), _) => at_pointer(&unquoted(rest)?, text),
                (_, Some(rest)) => {
                    let field = unquoted(rest)?;
                    range_of(text, members(text).filter(|(name, _)| *name == field).last()?.1.value)
                }
                _ => None,
            }
        }
        DeadLetterReason::NameTooLong => {
            let (name, _) = detail.strip_prefix("the name ")?.rsplit_once("… is longer")?;
            range_of(text, members(text).find(|(known, _)| known.starts_with(name) && known != name)?.1.name)
        }
        DeadLetterReason::NulCharacter => {
            let (name, _) = detail.strip_prefix("the attribute ")?.rsplit_once(" holds the character")?;
            range_of(text, members(text).find(|(known, _)| known.starts_with(name))?.1.value)
        }
        DeadLetterReason::ValueTooLong => {
            let (name, _) = detail.strip_prefix("the value of ")?.rsplit_once(" is longer")?;
            range_of(text, members(text).filter(|(known, _)| known == name).last()?.1.value)
        }
        _ => None,
    }
}

/// The spelling of a member of the payload.
struct Spelling<'a> {
    name: &'a str,
    value: &'a str,
}

/// The members of the outermost object with their names.
fn members(text: &str) -> impl Iterator<Item = (String, Spelling<'_>)> {
    let mut walker = Walker::new(text, usize::MAX);
    let is_object = matches!(walker.next_event(), Ok(Event::Open(_)));
    from_fn(move || {
        let Ok(Event::Name(name)) = walker.next_event() else { return None };
        let value = match walker.next_event().ok()? {
            Event::Scalar(_, raw) => raw,
            Event::Open(_) => {
                let (from, depth) = (walker.position() - 1, walker.depth());
                while walker.depth() >= depth {
                    walker.next_event().ok()?;
                }
                text.get(from..walker.position())?
            }
            _ => return None,
        };
        Some((content_of(name).into_owned(), Spelling { name, value }))
    })
    .filter(move |_| is_object)
}

/// The character at a byte, or the last one of a payload that ends too early.
fn byte_place(at: usize, payload: &[u8]) -> Option<Range<usize>> {
    let from = at.min(payload.len().checked_sub(1)?);
    let rest = payload.get(from..)?;
    let length = rest.utf8_chunks().next().map_or(1, |chunk| match chunk.valid().chars().next() {
        Some(first) => first.len_utf8(),
        None => chunk.invalid().len(),
    });
    Some(from..from + length.max(1))
}

/// The bracket that opens the first level beyond the limit.
fn too_deep(limit: usize, text: &str) -> Option<Range<usize>> {
    let mut walker = Walker::new(text, limit);
    loop {
        match walker.next_event() {
            Ok(Event::End) | Err(WalkError::Syntax(_)) => return None,
            Ok(_) => {}
            Err(WalkError::TooDeep) => return Some(walker.position()..walker.position() + 1),
        }
    }
}

/// The value at a JSON pointer.
fn at_pointer(pointer: &str, text: &str) -> Option<Range<usize>> {
    let mut value = text.trim();
    for token in pointer.split('/').skip(1) {
        value = descend(value, &token.replace("~1", "/").replace("~0", "~"))?.1;
    }
    range_of(text, value)
}

/// Where a part of a text is in it.
fn range_of(text: &str, part: &str) -> Option<Range<usize>> {
    let from = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    (from + part.len() <= text.len()).then(|| from..from + part.len())
}

fn number_after(detail: &str, words: &str) -> Option<usize> {
    let (_, rest) = detail.rsplit_once(words)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The text of a quoted text, as Rust writes it for people who look for errors. Begins after the opening quote.
fn unquoted(quoted: &str) -> Option<String> {
    let mut text = String::new();
    let mut chars = quoted.chars();
    loop {
        text.push(match chars.next()? {
            '"' => return Some(text),
            '\\' => match chars.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'u' => {
                    let digits: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                }
                other => other,
            },
            other => other,
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::string_slice)]
mod tests {
    use super::*;
    use crate::domain::payload::{Payload, PayloadLimits};
    use crate::domain::schema::PayloadSchema;

    /// The marked part of a payload that a schema refuses.
    fn refused(schema: &str, payload: &str) -> Option<String> {
        let parsed = Payload::parse(payload.as_bytes(), &PayloadLimits::default()).unwrap();
        let detail = PayloadSchema::compile(schema).unwrap().validate(&parsed).unwrap_err().to_string();
        let place = offending_place("validation_failed", &detail, payload.as_bytes());
        place.map(|place| payload[place].to_owned())
    }

    /// The marked part of a payload that is refused by itself.
    fn unreadable(payload: &[u8], limits: &PayloadLimits) -> Vec<u8> {
        let error = Payload::parse(payload, limits).unwrap_err();
        let place = offending_place(error.reason().as_str(), &error.to_string(), payload);
        payload[place.unwrap()].to_vec()
    }

    #[test]
    fn values_of_fields_are_found() {
        let found = refused(r#"{"a": "number"}"#, r#"{"b": "a", "a": [1, {"a": 2}], "c": 1}"#);
        assert_eq!(found.as_deref(), Some(r#"[1, {"a": 2}]"#));
        assert_eq!(
            refused(r#"{"a\"\n\u202e": "number"}"#, r#"{"a\"\n\u202e": null}"#).as_deref(),
            Some("null")
        );
        assert_eq!(refused(r#"{"a": "number"}"#, r#"{"a": "1", "a": "2"}"#).as_deref(), Some("\"2\""));
        assert_eq!(refused(r#"{"a": "number"}"#, "{}"), None, "what is missing has no place");
    }

    #[test]
    fn values_of_json_schemas_are_found() {
        let schema = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema",
            "properties": {"a/b": {"items": {"maximum": 5}}}}"#;
        assert_eq!(refused(schema, r#"{"a/b": [1, 7, 2]}"#).as_deref(), Some("7"));
        let schema = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema", "required": ["x"]}"#;
        assert_eq!(refused(schema, r#" {"a": 1} "#).as_deref(), Some(r#"{"a": 1}"#));
    }

    #[test]
    fn bad_syntax_is_found() {
        let limits = PayloadLimits { max_depth: 2, ..PayloadLimits::default() };
        assert_eq!(unreadable(br#"{"a": nope}"#, &limits), b"n");
        assert_eq!(unreadable(br#"{"a": 1"#, &limits), b"1", "a payload that ends too early");
        assert_eq!(unreadable("{\"a\": é}".as_bytes(), &limits), "é".as_bytes());
        assert_eq!(unreadable(b"{\"a\": \"\xff\xfe\"}", &limits), b"\xff");
        assert_eq!(unreadable(b" [1] ", &limits), b"[1]");
        assert_eq!(unreadable(br#"{"a": [1, [2]]}"#, &limits), b"[");
    }

    #[test]
    fn details_of_other_versions_have_no_place() {
        for (reason, detail) in [
            ("validation_failed", "field \"a"),
            ("validation_failed", "at \"/x\": y"),
            ("payload_not_json", "at byte 99999999999999999999999"),
            ("name_too_long", "the name"),
            ("unknown", "at byte 1"),
        ] {
            assert_eq!(offending_place(reason, detail, b"{}"), None, "{reason} {detail}");
        }
        assert_eq!(offending_place("payload_not_json", "at byte 0", b""), None);
    }
}
