//! The rows that one transaction writes.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use sea_orm::{ConnectionTrait, Value};
use sha2::{Digest, Sha256};

use super::BatchRules;
use super::counters::Counter;
use super::insert::{Row, insert_rows};
use super::keys::KeyRow;
use crate::domain::batch::{ProcessError, ProcessResult, Rejection};
use crate::domain::message::{Body, Record};
use crate::domain::outbox::OutboxItem;
use crate::store::connect::Database;
use crate::store::dialect::Dialect;
use crate::store::error::StoreError;
use crate::store::sentence::{hex, sentence};

/// Everything that one transaction writes besides the lane's offset, and what it answers.
#[derive(Debug, Default)]
pub(super) struct Writes<'a> {
    pub(super) data: Vec<DataRow<'a>>,
    pub(super) posts: Vec<OutboxItem>,
    pub(super) dead_letters: Vec<DeadLetterRow<'a>>,
    pub(super) keys: Vec<KeyRow>,
    /// Of the flows that numbered messages, ascending by flow.
    pub(super) counters: Vec<Counter>,
    pub(super) results: Vec<Result<ProcessResult, ProcessError>>,
}

/// One attribute of one message.
#[derive(Debug)]
pub(super) struct DataRow<'a> {
    pub(super) received_at_us: i64,
    pub(super) flow_code: Arc<str>,
    pub(super) name: &'a str,
    pub(super) value: Text<'a>,
    pub(super) message_id: i64,
}

/// A value as it is stored. The rows of all flows of a message share it: an object of some megabytes is rendered once.
#[derive(Debug, Clone)]
pub(super) enum Text<'a> {
    AsWritten(&'a str),
    Rendered(Arc<str>),
}

impl<'a> From<Cow<'a, str>> for Text<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        match text {
            Cow::Borrowed(text) => Self::AsWritten(text),
            Cow::Owned(text) => Self::Rendered(text.into()),
        }
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::AsWritten(text) => text,
            Self::Rendered(text) => text,
        }
    }
}

/// A message that could not be processed.
#[derive(Debug)]
pub(super) struct DeadLetterRow<'a> {
    pub(super) record: &'a Record,
    pub(super) rejection: Rejection,
}

/// Longest `detail` of a dead letter, in characters: well within the column's 65,535 bytes.
const DETAIL_CHARS: usize = 4_000;

impl Writes<'_> {
    /// Writes all rows, in statements of at most `most_bytes` each.
    pub(super) async fn write(
        &self,
        connection: &impl ConnectionTrait,
        context: &WriteContext<'_>,
    ) -> Result<(), StoreError> {
        insert_rows(connection, context, &self.data).await?;
        insert_rows(connection, context, &self.posts).await?;
        insert_rows(connection, context, &self.dead_letters).await?;
        insert_rows(connection, context, &self.keys).await
    }
}

/// What the rows need to know of where they go.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriteContext<'a> {
    pub(super) dialect: Dialect,
    pub(super) inbox_id: &'a str,
    /// Longest statement in bytes.
    pub(super) most_bytes: usize,
}

impl<'a> WriteContext<'a> {
    pub(super) fn new(database: &Database, rules: &'a BatchRules) -> Self {
        Self { dialect: database.dialect, inbox_id: &rules.inbox_id, most_bytes: rules.statement_bytes }
    }
}

impl Row for DataRow<'_> {
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

impl Row for OutboxItem {
    const TABLE: &'static str = "outbox";
    const DOING: &'static str = "filling the outbox";
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
        self.topic.len() + self.url.len() + self.payload.as_bytes().len() + 250
    }

    fn bind(&self, context: &WriteContext<'_>, values: &mut Vec<Value>) {
        values.push(Value::from(&*self.key.inbox_id));
        values.push(Value::from(self.key.flow_id));
        values.push(Value::from(self.key.inbox_offset.cast_signed()));
        values.push(Value::from(self.message_id));
        values.push(Value::from(&*self.flow_code));
        values.push(Value::from(self.topic.as_str()));
        values.push(Value::from(&*self.url));
        values.push(Value::from(self.payload.as_bytes().to_vec()));
        values.push(Value::from(context.inbox_id));
    }
}

impl Row for DeadLetterRow<'_> {
    const TABLE: &'static str = "dead_letters";
    const DOING: &'static str = "keeping dead letters";
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
        let (payload, length, sha256) = kept_payload(&self.record.body, context.most_bytes);
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

/// As much of a payload as a statement holds, its true length, and its hash where it is not whole.
fn kept_payload(body: &Body, most_bytes: usize) -> (&[u8], u64, Option<String>) {
    match body {
        Body::Whole(bytes) if bytes.len() <= most_bytes => (bytes, bytes.len() as u64, None),
        Body::Whole(bytes) => {
            let head = bytes.get(..most_bytes / 2).unwrap_or_default();
            (head, bytes.len() as u64, Some(hex(&Sha256::digest(bytes))))
        }
        Body::Head { head, unfit } => (head, unfit.length, Some(hex(&unfit.sha256))),
    }
}
