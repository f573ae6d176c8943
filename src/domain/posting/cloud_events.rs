//! [CloudEvents 1.0](https://github.com/cloudevents/spec), in binary mode and as elements of a batch.

use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

use super::super::outbox::OutboxItem;
use super::percent::{header_text, path_segment};

/// Type of all events.
const TYPE: &str = "mqtt-gateway.message";

/// Content type of a batch of events.
pub const BATCH_CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// The attributes of the event of a message. The extension `sequence` is the sequence number.
#[derive(Debug, Serialize)]
pub struct EventAttributes<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: &'a str,
    time: String,
    sequence: String,
    datacontenttype: &'static str,
}

impl<'a> EventAttributes<'a> {
    /// The attributes of a message.
    #[must_use]
    pub fn new(item: &'a OutboxItem) -> Self {
        Self {
            specversion: "1.0",
            id: item.key.to_string(),
            source: format!("/mqtt-gateway/flows/{}", path_segment(&item.flow_code)),
            kind: TYPE,
            subject: &item.topic,
            time: event_time(item),
            sequence: item.message_id.to_string(),
            datacontenttype: "application/json",
        }
    }

    /// The headers in binary mode, where `Content-Type` takes the place of `datacontenttype`.
    #[must_use]
    pub fn into_headers(self) -> [(&'static str, String); 7] {
        [
            ("ce-specversion", self.specversion.to_owned()),
            ("ce-id", self.id),
            ("ce-source", header_text(&self.source)),
            ("ce-type", self.kind.to_owned()),
            ("ce-subject", header_text(self.subject)),
            ("ce-time", self.time),
            ("ce-sequence", self.sequence),
        ]
    }
}

/// The time of a sequence number by RFC 3339, in UTC.
#[must_use]
pub fn event_time(item: &OutboxItem) -> String {
    let time = DateTime::from_timestamp_micros(item.created_at_us).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    use super::super::super::outbox::{OutboxKey, OutboxPayload};
    use super::*;

    fn headers(code: &str, topic: &str) -> [(&'static str, String); 7] {
        EventAttributes::new(&OutboxItem {
            key: OutboxKey { inbox_id: "ab".into(), inbox_offset: 1, flow_id: 2 },
            message_id: 42,
            flow_code: code.into(),
            destination: "http://localhost/".into(),
            topic: topic.to_owned(),
            payload: OutboxPayload::Loaded(Vec::new()),
            attempts: 0,
            recent_attempts: crate::domain::posting::attempts::RecentAttempts::default(),
            created_at_us: 1_700_000_000_123_456,
        })
        .into_headers()
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
