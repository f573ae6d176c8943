//! An event of a message as a line for people. Invisible characters in topics and payloads are escaped, because a
//! message must not control the terminal.

use std::fmt::Write;

use crate::domain::invisible::is_invisible;
use crate::domain::message_event::{MAX_EVENT_TEXT_BYTES, MessageEvent, MessageOutcome};
use crate::domain::payload::{Payload, PayloadLimits};
use crate::domain::value_style::ValueStyle;

/// Head of the lines.
pub const EVENT_HEAD: &str = "time (UTC)  what         flow         what it was";

/// Maximum number of attributes shown per message, which keeps the line short.
const MAX_ATTRIBUTES_SHOWN: usize = 12;
/// Maximum length of a value, a name, a code or a topic, in characters.
const MAX_VALUE_CHARS: usize = 60;
/// Maximum length of a payload or a text, in characters.
const MAX_TEXT_CHARS: usize = 160;

/// The line for an event, without a line break. `style` is the style of stored values.
#[must_use]
pub fn event_line(event: &MessageEvent, style: ValueStyle) -> String {
    let mut line = line_prefix(event);
    if let Some(message_id) = event.message_id {
        let _ = write!(line, " #{message_id} ");
    }
    match event.outcome {
        MessageOutcome::Dead => write_dead_letter(&mut line, event),
        MessageOutcome::Stored => {
            let _ = write!(line, " {}", shown(&event.topic, MAX_VALUE_CHARS));
            write_values(&mut line, event, style);
        }
        MessageOutcome::Posted | MessageOutcome::Repeated => {
            let _ = write!(line, " {}  ", shown(&event.topic, MAX_VALUE_CHARS));
            write_payload(&mut line, event);
        }
    }
    if let Some(status) = event.status {
        let _ = write!(line, "  status={status}");
    }
    if let Some(attempts) = event.attempts.filter(|attempts| *attempts > 1) {
        let _ = write!(line, "  attempts={attempts}");
    }
    line
}

/// The line for events that were not received in time.
#[must_use]
pub fn missed_line(missed: u64) -> String {
    let events = if missed == 1 { "event is" } else { "events are" };
    format!("({missed} {events} not shown: they came faster than they could be shown)")
}

fn line_prefix(event: &MessageEvent) -> String {
    // 2026-11-23T01:51:34.255Z
    let time = event.time.get(11..19).unwrap_or_default();
    let kind = match event.outcome {
        MessageOutcome::Dead => "dead letter",
        outcome => outcome.as_str(),
    };
    let flow = event.flow.as_deref().unwrap_or("-");
    format!("{}    {kind:<12} {:<12}", shown(time, MAX_VALUE_CHARS), shown(flow, MAX_VALUE_CHARS))
}

/// The names and values of a payload, or its beginning if it is long.
fn write_values(line: &mut String, event: &MessageEvent, style: ValueStyle) {
    let limits = PayloadLimits { max_payload_bytes: MAX_EVENT_TEXT_BYTES, ..PayloadLimits::default() };
    let Ok(payload) = Payload::parse(event.payload.as_bytes(), &limits) else {
        line.push_str("  ");
        return write_payload(line, event);
    };
    let attributes = payload.attributes();
    for attribute in attributes.iter().take(MAX_ATTRIBUTES_SHOWN) {
        let (name, value) = (attribute.name(), attribute.text(style));
        let _ = write!(line, "  {}={}", shown(name, MAX_VALUE_CHARS), shown(&value, MAX_VALUE_CHARS));
    }
    if attributes.len() > MAX_ATTRIBUTES_SHOWN {
        let _ = write!(line, "  and {} more", attributes.len() - MAX_ATTRIBUTES_SHOWN);
    }
}

fn write_payload(line: &mut String, event: &MessageEvent) {
    line.push_str(&shown(&event.payload, MAX_TEXT_CHARS));
    if event.payload_is_cut {
        let _ = write!(line, "  ({} bytes)", event.payload_bytes);
    }
}

fn write_dead_letter(line: &mut String, event: &MessageEvent) {
    let _ = write!(line, " {}", shown(event.reason.as_deref().unwrap_or("-"), MAX_VALUE_CHARS));
    if let Some(detail) = &event.detail {
        let _ = write!(line, ": {}", shown(detail, MAX_TEXT_CHARS));
    }
    let _ = write!(line, "  {} ", shown(&event.topic, MAX_VALUE_CHARS));
    write_payload(line, event);
}

/// Returns at most `max_chars` characters of `text` and escapes invisible characters. An ellipsis marks shortened text.
#[must_use]
pub fn shown(text: &str, max_chars: usize) -> String {
    let mut line = String::new();
    let mut rest = text.chars();
    for character in rest.by_ref().take(max_chars) {
        if is_invisible(character) {
            line.extend(character.escape_unicode());
        } else {
            line.push(character);
        }
    }
    if rest.next().is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(outcome: MessageOutcome, payload: &str) -> MessageEvent {
        MessageEvent {
            outcome,
            time: "2026-11-23T01:51:34.255Z".to_owned(),
            flow: Some("T".to_owned()),
            message_id: Some(7),
            topic: "a/b".to_owned(),
            payload_bytes: payload.len() as u64,
            payload: payload.to_owned(),
            payload_is_cut: false,
            duration_ms: 1.5,
            endpoint: None,
            status: None,
            attempts: None,
            reason: None,
            detail: None,
        }
    }

    fn line(event: &MessageEvent) -> String {
        event_line(event, ValueStyle::Json)
    }

    #[test]
    fn stored_messages_show_number_topic_and_attributes() {
        let stored = event(MessageOutcome::Stored, r#"{"sensor": "kitchen", "ok": true}"#);
        let prefix = "01:51:34    stored       T            #7  a/b";
        assert_eq!(line(&stored), format!("{prefix}  sensor=kitchen  ok=true"));
        assert_eq!(event_line(&stored, ValueStyle::Python), format!("{prefix}  sensor=kitchen  ok=True"));
    }

    #[test]
    fn omitted_attributes_are_counted() {
        let attributes: Vec<String> = (0..20).map(|number| format!("\"a{number}\": 1")).collect();
        let stored = event(MessageOutcome::Stored, &format!("{{{}}}", attributes.join(",")));
        assert!(line(&stored).ends_with("  a11=1  and 8 more"));
    }

    #[test]
    fn cut_payloads_show_their_size() {
        let cut = MessageEvent {
            payload_is_cut: true,
            payload_bytes: 1_048_576,
            ..event(MessageOutcome::Stored, "{\"v\": \"xxx")
        };
        assert!(line(&cut).ends_with("  a/b  {\"v\": \"xxx  (1048576 bytes)"), "{}", line(&cut));
    }

    #[test]
    fn posts_show_status_and_repeated_attempts() {
        let posted = MessageEvent {
            status: Some(204),
            attempts: Some(1),
            ..event(MessageOutcome::Posted, r#"{"a": 1}"#)
        };
        assert_eq!(line(&posted), r#"01:51:34    posted       T            #7  a/b  {"a": 1}  status=204"#);
        let again = MessageEvent { attempts: Some(3), ..posted };
        assert!(line(&again).ends_with("  status=204  attempts=3"));
    }

    #[test]
    fn dead_letters_show_reason_and_payload() {
        let dead = MessageEvent {
            flow: None,
            message_id: None,
            reason: Some("payload_not_utf8".to_owned()),
            detail: Some("at byte 0".to_owned()),
            ..event(MessageOutcome::Dead, "\u{fffd}{")
        };
        assert_eq!(
            line(&dead),
            "01:51:34    dead letter  -            payload_not_utf8: at byte 0  a/b \u{fffd}{"
        );
    }

    #[test]
    fn missed_events_are_counted() {
        assert!(missed_line(1).starts_with("(1 event is not shown"));
        assert!(missed_line(2).starts_with("(2 events are not shown"));
    }

    proptest! {
        #[test]
        fn text_cannot_control_the_terminal(text: String, max in 0_usize..20) {
            let line = shown(&text, max);
            prop_assert!(!line.chars().any(is_invisible));
            prop_assert_eq!(line.ends_with('…'), text.chars().count() > max || text.ends_with('…'));
        }

        #[test]
        fn no_event_can_control_the_terminal(
            time: String, flow: String, topic: String, payload: String, detail: String, kind in 0_usize..4,
        ) {
            let event = MessageEvent {
                time,
                flow: Some(flow),
                topic,
                detail: Some(detail),
                ..event(MessageOutcome::ALL.into_iter().nth(kind).unwrap_or(MessageOutcome::Dead), &payload)
            };
            prop_assert!(!line(&event).chars().any(is_invisible));
        }
    }
}
