//! The decisions of the rules: the rows to write, and the results to report.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use super::super::batch::{ProcessError, ProcessResult, Rejection};
use super::super::message::Record;
use super::super::outbox::OutboxItem;
use super::flow_state::Counter;
use super::keys::KeyRow;

/// The rows and results of the messages of one transaction.
#[derive(Debug, Default)]
pub(crate) struct ProcessingOutcome<'a> {
    pub(crate) data: Vec<DataRow<'a>>,
    pub(crate) posts: Vec<OutboxItem>,
    pub(crate) dead_letters: Vec<DeadLetterRow<'a>>,
    pub(crate) keys: Vec<KeyRow>,
    /// The counters of the flows that numbered messages, ascending by flow.
    pub(crate) counters: Vec<Counter>,
    /// One for each message and flow, in order.
    pub(crate) results: Vec<Result<ProcessResult, ProcessError>>,
}

/// One attribute of one message.
#[derive(Debug)]
pub(crate) struct DataRow<'a> {
    pub(crate) received_at_us: i64,
    pub(crate) flow_code: Arc<str>,
    pub(crate) name: &'a str,
    pub(crate) value: StoredText<'a>,
    pub(crate) message_id: i64,
}

/// A value as it is stored. The rows of all flows of a message share it: an object of some megabytes is rendered once.
#[derive(Debug, Clone)]
pub(crate) enum StoredText<'a> {
    AsReceived(&'a str),
    Rendered(Arc<str>),
}

impl<'a> From<Cow<'a, str>> for StoredText<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        match text {
            Cow::Borrowed(text) => Self::AsReceived(text),
            Cow::Owned(text) => Self::Rendered(text.into()),
        }
    }
}

impl Deref for StoredText<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::AsReceived(text) => text,
            Self::Rendered(text) => text,
        }
    }
}

/// A message that could not be processed.
#[derive(Debug)]
pub(crate) struct DeadLetterRow<'a> {
    pub(crate) record: &'a Record,
    pub(crate) rejection: Rejection,
}
