//! Formats the output of the demo. Invisible characters in external data are escaped, because a payload must not
//! control the terminal.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::PathBuf;

use chrono::NaiveDateTime;

use super::endpoint::Post;
use crate::domain::invisible::is_invisible;
use crate::embedded::broker::Ports;
use crate::store::demo::{ShownDeadLetter, StoredAttribute};

/// Maximum number of attributes shown per message, which keeps the line short.
const MAX_ATTRIBUTES_SHOWN: usize = 12;
/// Maximum length of a value, a name or a code, in characters.
const MAX_VALUE_CHARS: usize = 60;
/// Maximum length of a payload or a text, in characters.
const MAX_TEXT_CHARS: usize = 160;
/// Maximum length of a key, in characters.
const MAX_KEY_CHARS: usize = 80;

/// Text at the start of the demo: its flows, ports and files.
pub(super) struct Introduction {
    pub(super) database: PathBuf,
    pub(super) ports: Ports,
    /// URL to which alarms are posted.
    pub(super) endpoint: String,
}

impl fmt::Display for Introduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ports { v4, v5 } = self.ports;
        write!(
            f,
            "The gateway is starting, with a broker, sensors and an endpoint of its own.\n\
             \n\
             Flow         topic                   action\n\
             TEMPERATURE  sensors/+/temperature   STORE_DB\n\
             HUMIDITY     sensors/+/humidity      STORE_DB\n\
             ALARMS       alarms/#                POST_ENDPOINT  {endpoint}\n\
             \n\
             Publish to it yourself (MQTT 3.1.1 at port {v4}, MQTT 5 at port {v5}):\n\
             \x20 mosquitto_pub -h 127.0.0.1 -p {v4} -t sensors/kitchen/temperature -m '{{\"value\": 21.5}}'\n\
             \x20 mosquitto_pub -h 127.0.0.1 -p {v4} -t alarms/attic -m '{{\"severity\": \"low\", \"text\": \"a mouse\"}}'\n\
             The database, where flows can be changed while it runs (taken up within 5 s):\n\
             \x20 {database}\n\
             Ctrl-C ends it; the next start continues the numbers.\n\
             \n\
             time (UTC)  what         flow         what it was\n",
            endpoint = self.endpoint,
            database = self.database.display(),
        )
    }
}

/// Numbers of messages shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Messages stored, by flow.
    pub(super) stored: BTreeMap<String, u64>,
    /// Messages posted, by flow.
    pub(super) posted: BTreeMap<String, u64>,
    pub(super) dead_letters: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("The demo has ended. Stored: ")?;
        by_flow(f, &self.stored)?;
        f.write_str("; posted: ")?;
        by_flow(f, &self.posted)?;
        write!(f, "; dead letters: {}.", self.dead_letters)
    }
}

fn by_flow(f: &mut fmt::Formatter<'_>, counts: &BTreeMap<String, u64>) -> fmt::Result {
    if counts.is_empty() {
        return f.write_str("nothing");
    }
    for (index, (flow_code, count)) in counts.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(f, "{separator}{} {count}", shown(flow_code, MAX_VALUE_CHARS))?;
    }
    Ok(())
}

/// Formats a stored message from all its rows in the table `data`.
pub(super) fn stored(message: &[StoredAttribute]) -> String {
    let Some(first) = message.first() else { return String::new() };
    let mut line = line_prefix(first.received_at, "stored", &first.flow_code);
    let _ = write!(line, " #{}", first.message_id);
    for attribute in message.iter().take(MAX_ATTRIBUTES_SHOWN) {
        let (name, value) =
            (shown(&attribute.name, MAX_VALUE_CHARS), shown(&attribute.value, MAX_VALUE_CHARS));
        let _ = write!(line, "  {name}={value}");
    }
    if message.len() > MAX_ATTRIBUTES_SHOWN {
        let _ = write!(line, "  and {} more", message.len() - MAX_ATTRIBUTES_SHOWN);
    }
    line
}

/// Formats a message that the endpoint received.
pub(super) fn posted(post: &Post) -> String {
    let prefix = line_prefix(post.received_at, "posted", &post.flow_code);
    format!("{prefix} {}  key={}", shown(&post.body, MAX_TEXT_CHARS), shown(&post.key, MAX_KEY_CHARS))
}

/// Formats a row of the table `dead_letters`.
pub(super) fn dead_letter(letter: &ShownDeadLetter) -> String {
    let mut line = line_prefix(letter.received_at, "dead letter", letter.flow_code.as_deref().unwrap_or("-"));
    let _ = write!(line, " {}", shown(&letter.reason, MAX_VALUE_CHARS));
    if let Some(detail) = &letter.detail {
        let _ = write!(line, ": {}", shown(detail, MAX_TEXT_CHARS));
    }
    let payload = String::from_utf8_lossy(&letter.payload);
    let _ = write!(line, "  {} {}", shown(&letter.topic, MAX_VALUE_CHARS), shown(&payload, MAX_TEXT_CHARS));
    line
}

fn line_prefix(time: NaiveDateTime, kind: &str, flow_code: &str) -> String {
    format!("{}    {kind:<12} {:<12}", time.format("%H:%M:%S"), shown(flow_code, MAX_VALUE_CHARS))
}

/// Returns at most `max_chars` characters of `text` and escapes invisible characters. An ellipsis marks shortened text.
fn shown(text: &str, max_chars: usize) -> String {
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
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(name: &str, value: &str) -> StoredAttribute {
        StoredAttribute {
            id: 1,
            received_at: NaiveDateTime::default(),
            flow_code: "TEMPERATURE".to_owned(),
            message_id: 7,
            name: name.to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn stored_messages_show_number_and_attributes() {
        let line = stored(&[attribute("sensor", "kitchen"), attribute("value", "21.5")]);
        assert_eq!(line, "00:00:00    stored       TEMPERATURE  #7  sensor=kitchen  value=21.5");
    }

    #[test]
    fn omitted_attributes_are_counted() {
        let message: Vec<_> = (0..20).map(|_| attribute("a", "1")).collect();
        assert!(stored(&message).ends_with("  a=1  and 8 more"));
    }

    #[test]
    fn dead_letters_show_reason_and_payload() {
        let letter = ShownDeadLetter {
            id: 1,
            received_at: NaiveDateTime::default(),
            flow_code: None,
            topic: "sensors/roof/temperature".to_owned(),
            payload: b"\xff{".to_vec(),
            reason: "payload_not_utf8".to_owned(),
            detail: Some("at byte 0".to_owned()),
        };
        assert_eq!(
            dead_letter(&letter),
            "00:00:00    dead letter  -            payload_not_utf8: at byte 0  sensors/roof/temperature \u{fffd}{"
        );
    }

    #[test]
    fn summary_names_every_flow() {
        let mut counts = Counts::default();
        assert_eq!(
            counts.to_string(),
            "The demo has ended. Stored: nothing; posted: nothing; dead letters: 0."
        );
        counts.stored.insert("A".to_owned(), 2);
        counts.stored.insert("B".to_owned(), 1);
        assert!(counts.to_string().contains("Stored: A 2, B 1;"));
    }

    proptest! {
        #[test]
        fn text_cannot_control_the_terminal(text in any::<String>(), max in 0_usize..20) {
            let line = shown(&text, max);
            prop_assert!(!line.chars().any(is_invisible));
            prop_assert_eq!(line.ends_with('…'), text.chars().count() > max || text.ends_with('…'));
        }
    }
}
