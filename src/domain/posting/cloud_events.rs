//! [CloudEvents 1.0](https://github.com/cloudevents/spec), in binary mode.

use chrono::{DateTime, SecondsFormat};

use super::super::outbox::OutboxItem;
use super::header_text::header_text;

/// Type of all events.
const TYPE: &str = "mqtt-gateway.message";

/// The attributes of the event of a message, as headers. The extension `sequence` is the sequence number.
#[must_use]
pub fn event_headers(item: &OutboxItem) -> [(&'static str, String); 7] {
    let time = DateTime::from_timestamp_micros(item.created_at_us).unwrap_or_default();
    let source = format!("/mqtt-gateway/flows/{}", path_segment(&item.flow_code));
    [
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", item.key.to_string()),
        ("ce-source", header_text(&source)),
        ("ce-type", TYPE.to_owned()),
        ("ce-subject", header_text(&item.topic)),
        ("ce-time", time.to_rfc3339_opts(SecondsFormat::Micros, true)),
        ("ce-sequence", item.message_id.to_string()),
    ]
}

/// Percent-encodes a text as a segment of a URI's path.
fn path_segment(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode =
        |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::outbox::{OutboxKey, OutboxPayload};
    use super::*;

    fn headers(code: &str, topic: &str) -> [(&'static str, String); 7] {
        event_headers(&OutboxItem {
            key: OutboxKey { inbox_id: "ab".into(), inbox_offset: 1, flow_id: 2 },
            message_id: 42,
            flow_code: code.into(),
            destination: "http://localhost/".into(),
            topic: topic.to_owned(),
            payload: OutboxPayload::Loaded(Vec::new()),
            attempts: 0,
            created_at_us: 1_700_000_000_123_456,
        })
    }

    #[test]
    fn headers_have_all_attributes() {
        let expected = [
            ("ce-specversion", "1.0"),
            ("ce-id", "ab-1-2"),
            ("ce-source", "/mqtt-gateway/flows/TEMP"),
            ("ce-type", "mqtt-gateway.message"),
            ("ce-subject", "home/1/temp"),
            ("ce-time", "2023-11-14T22:13:20.123456Z"),
            ("ce-sequence", "42"),
        ];
        let headers = headers("TEMP", "home/1/temp");
        assert_eq!(headers.each_ref().map(|(name, value)| (*name, value.as_str())), expected);
    }

    #[test]
    fn special_characters_are_escaped() {
        let [_, _, source, _, subject, ..] = headers("a b/ü\r\n", "x \"é%\n€");
        assert_eq!(source.1, "/mqtt-gateway/flows/a%2520b%252F%25C3%25BC%250D%250A");
        assert_eq!(subject.1, "x%20%22%C3%A9%25%0A%E2%82%AC");
    }
}
