//! Events as a stream of server-sent events: written by the API, read by `tail`.
//!
//! ```text
//! data: {"outcome":"stored","flow":"T","message_id":7,…}    an event
//!
//! event: missed                                              the client was too slow
//! data: {"missed":12}
//!
//! : alive                                                    nothing has happened for a while
//! ```

use serde::{Deserialize, Serialize};

use crate::domain::invisible::escape_in_json;
use crate::domain::message_event::MessageEvent;

/// The comment that shows that the stream is alive.
pub(super) const HEARTBEAT: &str = ": alive\n\n";

/// Type of the event about missed events.
const MISSED: &str = "missed";

/// Longest line that is read. An event has at most three texts of 1 KiB, whose characters are escaped.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// An item that a client reads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StreamedEvent {
    /// An event of a message.
    Message(Box<MessageEvent>),
    /// The client was too slow and has missed this number of events, of all flows.
    Missed(u64),
}

#[derive(Serialize, Deserialize)]
struct MissedEvents {
    missed: u64,
}

/// Writes an event. Invisible characters are escaped, so that the stream can be shown as it is.
pub(super) fn message_text(event: &MessageEvent) -> String {
    // All names are texts, so this cannot fail.
    let json = serde_json::to_string(event).unwrap_or_default();
    format!("data: {}\n\n", escape_in_json(json))
}

/// Writes that `missed` events were not sent.
pub(super) fn missed_text(missed: u64) -> String {
    format!("event: {MISSED}\ndata: {{\"missed\":{missed}}}\n\n")
}

/// Reads the stream.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    /// The beginning of a line.
    line: Vec<u8>,
    /// Type of the event that is being read; empty for a message.
    kind: String,
}

/// The stream is none of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is no stream of events of this version")]
pub(crate) struct NotEvents;

impl EventReader {
    /// Reads the next bytes, and returns the events that they complete.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Vec<StreamedEvent>, NotEvents> {
        let mut events = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() > MAX_LINE_BYTES {
                return Err(NotEvents);
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                events.extend(self.read_line(str::from_utf8(&line).map_err(|_| NotEvents)?.trim_end())?);
            }
        }
        Ok(events)
    }

    fn read_line(&mut self, line: &str) -> Result<Option<StreamedEvent>, NotEvents> {
        match line.split_once(':') {
            // The empty line ends an event, and a line that begins with a colon is a comment.
            None if line.is_empty() => self.kind.clear(),
            Some(("event", kind)) => kind.trim_start().clone_into(&mut self.kind),
            Some(("data", data)) if self.kind.is_empty() => {
                let event = serde_json::from_str(data).map_err(|_| NotEvents)?;
                return Ok(Some(StreamedEvent::Message(event)));
            }
            Some(("data", data)) if self.kind == MISSED => {
                let MissedEvents { missed } = serde_json::from_str(data).map_err(|_| NotEvents)?;
                return Ok(Some(StreamedEvent::Missed(missed)));
            }
            // Another version may have further fields and events.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::invisible::is_invisible;
    use crate::domain::message_event::MessageOutcome;

    fn event(topic: String, payload: String) -> MessageEvent {
        MessageEvent {
            outcome: MessageOutcome::Stored,
            time: "2026-11-23T01:51:34.255Z".to_owned(),
            flow: Some("T".to_owned()),
            message_id: Some(7),
            topic,
            payload_bytes: payload.len() as u64,
            payload,
            payload_is_cut: false,
            duration_ms: 1.5,
            endpoint: None,
            status: None,
            attempts: None,
            reason: None,
            detail: None,
        }
    }

    fn read(text: &str) -> Result<Vec<StreamedEvent>, NotEvents> {
        EventReader::default().read(text.as_bytes())
    }

    #[test]
    fn other_answers_are_no_events() {
        assert_eq!(read("data: 7\n\n"), Err(NotEvents));
        assert_eq!(read(&"x".repeat(MAX_LINE_BYTES + 1)), Err(NotEvents));
        assert_eq!(EventReader::default().read(b"data: \xff\n"), Err(NotEvents));
    }

    #[test]
    fn unknown_fields_and_events_are_skipped() {
        let text = format!("retry: 7\nid: 1\n\nevent: later\ndata: 7\n\n{HEARTBEAT}{}", missed_text(3));
        assert_eq!(read(&text), Ok(vec![StreamedEvent::Missed(3)]));
    }

    proptest! {
        #[test]
        fn stream_is_read_as_it_was_written(
            texts in proptest::collection::vec(any::<(String, String)>(), 0..4), chunk in 1_usize..50,
        ) {
            let events: Vec<_> = texts.into_iter().map(|(topic, payload)| event(topic, payload)).collect();
            let text: String =
                events.iter().map(|event| message_text(event) + HEARTBEAT + &missed_text(2)).collect();
            prop_assert!(!text.chars().any(|c| c != '\n' && is_invisible(c)));
            let (mut reader, mut found) = (EventReader::default(), Vec::new());
            for bytes in text.as_bytes().chunks(chunk) {
                found.extend(reader.read(bytes).unwrap());
            }
            let expected = events.into_iter().flat_map(|event| {
                [StreamedEvent::Message(Box::new(event)), StreamedEvent::Missed(2)]
            });
            prop_assert_eq!(found, expected.collect::<Vec<_>>());
        }
    }
}
