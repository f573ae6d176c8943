//! The rows of messages, as columns.

use sea_orm::{ConnectionTrait, Value};
use sha2::{Digest, Sha256};

use super::insert::{InsertRow, WriteContext, insert_rows};
use crate::domain::message::Body;
use crate::domain::outbox::OutboxItem;
use crate::domain::processing::{DataRow, DeadLetterRow, ProcessingOutcome};
use crate::store::error::StoreError;
use crate::store::sentence::{hex, sentence};

/// Longest `detail` of a dead letter, in characters: well within the column's 65,535 bytes.
pub(super) const DETAIL_CHARS: usize = 4_000;

/// Writes all rows of the messages. The counters are not among them.
pub(super) async fn write_rows(
    connection: &impl ConnectionTrait,
    context: &WriteContext<'_>,
    outcome: &ProcessingOutcome<'_>,
) -> Result<(), StoreError> {
    insert_rows(connection, context, &outcome.data).await?;
    insert_rows(connection, context, &outcome.posts).await?;
    insert_rows(connection, context, &outcome.dead_letters).await?;
    insert_rows(connection, context, &outcome.keys).await
}

impl InsertRow for DataRow<'_> {
    const TABLE: &'static str = "data";
    const DOING: &'static str = "storing messages";
    const COLUMNS: &'static [&'static str] =
        &["received_at", "flow_code", "attribute_name", "attribute_value", "last_msg_id"];

    fn bytes(&self) -> usize {
        self.flow_code.len() + self.name.len() + self.value.len() + 40
    }

    fn bind(&self, context: &WriteContext<'_>, values: &mut Vec<Value>) {
        values.push(context.dialect.datetime(self.received_at_us));
        values.push(Value::from(&*self.flow_code));
        values.push(Value::from(self.name));
        values.push(Value::from(&*self.value));
        values.push(Value::from(self.message_id));
    }
}

impl InsertRow for OutboxItem {
    const TABLE: &'static str = "outbox";
    const DOING: &'static str = "writing the outbox";
    const COLUMNS: &'static [&'static str] = &[
        "inbox_id",
        "flow_id",
        "inbox_offset",
        "message_id",
        "flow_code",
        "topic",
        "url",
        "payload",
        "owner",
    ];
    const NOW_COLUMNS: &'static [&'static str] = &["created_at", "next_attempt_at"];

    fn bytes(&self) -> usize {
        self.topic.len() + self.destination.url.len() + self.payload.as_bytes().len() + 250
    }

    fn bind(&self, context: &WriteContext<'_>, values: &mut Vec<Value>) {
        values.push(Value::from(&*self.key.inbox_id));
        values.push(Value::from(self.key.flow_id));
        values.push(Value::from(self.key.inbox_offset.cast_signed()));
        values.push(Value::from(self.message_id));
        values.push(Value::from(&*self.flow_code));
        values.push(Value::from(self.topic.as_str()));
        values.push(Value::from(&*self.destination.url));
        values.push(Value::from(self.payload.as_bytes().to_vec()));
        values.push(Value::from(context.inbox_id));
    }
}

impl InsertRow for DeadLetterRow<'_> {
    const TABLE: &'static str = "dead_letters";
    const DOING: &'static str = "writing dead letters";
    const COLUMNS: &'static [&'static str] = &[
        "received_at",
        "inbox_id",
        "inbox_offset",
        "topic",
        "payload",
        "payload_bytes",
        "payload_sha256",
        "flow_id",
        "flow_code",
        "message_id",
        "reason",
        "detail",
    ];
    const NOW_COLUMNS: &'static [&'static str] = &["occurred_at"];

    fn bytes(&self) -> usize {
        self.record.topic.len() + self.record.body.as_bytes().len() + self.rejection.detail.len() + 400
    }

    fn bind(&self, context: &WriteContext<'_>, values: &mut Vec<Value>) {
        let (payload, length, sha256) = kept_payload(&self.record.body, context.max_statement_bytes);
        values.push(context.dialect.datetime(self.record.received_at_us));
        values.push(Value::from(context.inbox_id));
        values.push(Value::from(self.record.offset.cast_signed()));
        values.push(Value::from(self.record.topic.as_str()));
        values.push(Value::from(payload.to_vec()));
        values.push(Value::from(i64::try_from(length).unwrap_or(i64::MAX)));
        values.push(Value::from(sha256));
        values.push(Value::from(self.rejection.flow.as_ref().map(|(id, _)| *id)));
        values.push(Value::from(self.rejection.flow.as_ref().and_then(|(_, code)| code.as_deref())));
        values.push(Value::from(self.rejection.message_id));
        values.push(Value::from(self.rejection.reason.as_str()));
        values.push(Value::from(sentence(&self.rejection.detail, DETAIL_CHARS)));
    }
}

/// The part of a payload that fits a statement, the whole length, and the hash if it is cut.
fn kept_payload(body: &Body, max_statement_bytes: usize) -> (&[u8], u64, Option<String>) {
    match body {
        Body::Whole(bytes) if bytes.len() <= max_statement_bytes => (bytes, bytes.len() as u64, None),
        Body::Whole(bytes) => {
            let head = bytes.get(..max_statement_bytes / 2).unwrap_or_default();
            (head, bytes.len() as u64, Some(hex(&Sha256::digest(bytes))))
        }
        Body::Head { head, unfit } => (head, unfit.length, Some(hex(&unfit.sha256))),
    }
}
