//! Several messages of a flow in one post.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::super::outbox::OutboxItem;
use super::cloud_events::{EventAttributes, event_time};
use super::options::PostFormat;

/// Estimated bytes of an element without topic and payload.
const ELEMENT_BYTES: usize = 256;

/// Bytes of a batch's key that are taken from the hash.
const KEY_BYTES: usize = 16;

/// The members of a message beside its payload, with the format `json`.
#[derive(Serialize)]
struct ItemAttributes<'a> {
    id: String,
    message_id: i64,
    topic: &'a str,
    time: String,
}

/// Returns the body of a batch: a JSON array with an element for each message. Each payload is copied byte for byte.
#[must_use]
pub fn batch_body(items: &[Arc<OutboxItem>], format: PostFormat) -> Vec<u8> {
    let size = |item: &Arc<OutboxItem>| item.payload.as_bytes().len() + item.topic.len() + ELEMENT_BYTES;
    let mut body = Vec::with_capacity(items.iter().map(size).sum::<usize>() + 1);
    for item in items {
        body.push(if body.is_empty() { b'[' } else { b',' });
        match format {
            PostFormat::Json => {
                let attributes = ItemAttributes {
                    id: item.key.to_string(),
                    message_id: item.message_id,
                    topic: &item.topic,
                    time: event_time(item),
                };
                push_element(&mut body, &attributes, item.payload.as_bytes());
            }
            PostFormat::CloudEvents => {
                push_element(&mut body, &EventAttributes::new(item), item.payload.as_bytes());
            }
        }
    }
    body.push(b']');
    body
}

/// Appends a JSON object with the members of `attributes` and the member `data`, which is JSON already.
fn push_element(body: &mut Vec<u8>, attributes: &impl Serialize, data: &[u8]) {
    // Strings and numbers can always be written to a vector.
    let _ = serde_json::to_writer(&mut *body, attributes);
    body.pop();
    body.extend_from_slice(b",\"data\":");
    body.extend_from_slice(data);
    body.push(b'}');
}

/// Returns the idempotency key of a batch: the same for the same messages in the same order.
#[must_use]
pub fn batch_key(items: &[Arc<OutboxItem>]) -> String {
    let mut hash = Sha256::new();
    for item in items {
        hash.update(format!("{}\n", item.key));
    }
    let mut key = "batch-".to_owned();
    for byte in hash.finalize().iter().take(KEY_BYTES) {
        // Writing to a string cannot fail.
        let _ = write!(key, "{byte:02x}");
    }
    key
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::outbox::{OutboxKey, OutboxPayload};
    use super::super::attempts::RecentAttempts;
    use super::*;

    fn item(offset: u64, topic: &str, payload: &str) -> Arc<OutboxItem> {
        Arc::new(OutboxItem {
            key: OutboxKey { inbox_id: "ab".into(), inbox_offset: offset, flow_id: 2 },
            message_id: 42,
            flow_code: "T".into(),
            destination: "http://localhost/".into(),
            topic: topic.to_owned(),
            payload: OutboxPayload::Loaded(payload.into()),
            attempts: 0,
            recent_attempts: RecentAttempts::default(),
            created_at_us: 1_700_000_000_123_456,
        })
    }

    fn body(items: &[Arc<OutboxItem>], format: PostFormat) -> String {
        String::from_utf8(batch_body(items, format)).unwrap()
    }

    #[test]
    fn elements_keep_the_bytes_of_payloads() {
        let items = [item(1, "home/1", r#"{"v": 1.50}"#), item(2, "a\"\u{1}\u{e9}", r#"{ "x":"\u00e9" }"#)];
        let expected = concat!(
            r#"[{"id":"ab-1-2","message_id":42,"topic":"home/1","time":"2023-11-14T22:13:20.123456Z","data":{"v": 1.50}},"#,
            r#"{"id":"ab-2-2","message_id":42,"topic":"a\"\u0001é","time":"2023-11-14T22:13:20.123456Z","#,
            r#""data":{ "x":"\u00e9" }}]"#
        );
        assert_eq!(body(&items, PostFormat::Json), expected);
    }

    #[test]
    fn events_have_all_attributes() {
        let expected = concat!(
            r#"[{"specversion":"1.0","id":"ab-1-2","source":"/mqtt-gateway/flows/T","type":"mqtt-gateway.message","#,
            r#""subject":"t","time":"2023-11-14T22:13:20.123456Z","sequence":"42","#,
            r#""datacontenttype":"application/json","data":{"v": 1.50}}]"#
        );
        assert_eq!(body(&[item(1, "t", r#"{"v": 1.50}"#)], PostFormat::CloudEvents), expected);
    }

    #[test]
    fn key_depends_on_messages_and_order() {
        let (first, second) = (item(1, "t", "{}"), item(2, "t", "{}"));
        let key = |items: &[&Arc<OutboxItem>]| {
            batch_key(&items.iter().map(|item| Arc::clone(item)).collect::<Vec<_>>())
        };
        // By `printf 'ab-1-2\nab-2-2\n' | sha256sum`.
        assert_eq!(key(&[&first, &second]), "batch-35a3d3439257f93b6beefa207c1a73ec");
        let others = [key(&[&second, &first]), key(&[&first]), key(&[&first, &second, &second])];
        assert!(!others.contains(&key(&[&first, &second])));
    }
}
