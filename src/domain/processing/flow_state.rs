//! The columns of a flow that the rules read.

use std::sync::Arc;

use super::super::flow::{Action, EndpointError, UnknownAction};
use super::super::flow_options::{SharedOptions, UnusableOptions};
use super::super::message::FlowId;
use super::super::message_key::{MessageKey, UnusableKey};
use super::super::schema::{PayloadSchema, SchemaError};

/// A flow as its locked row says. A column that cannot be used is an error here: the message that needs it is rejected.
#[derive(Debug)]
pub(crate) struct FlowState {
    pub(crate) id: FlowId,
    pub(crate) code: Arc<str>,
    pub(crate) enabled: bool,
    pub(crate) action: Result<Action, UnknownAction>,
    pub(crate) schema: Arc<Result<PayloadSchema, SchemaError>>,
    pub(crate) endpoint_url: Result<Arc<str>, EndpointError>,
    pub(crate) options: Result<SharedOptions, UnusableOptions>,
    pub(crate) message_key: Result<Option<MessageKey>, UnusableKey>,
    /// The highest number taken, in this transaction or before.
    pub(crate) last_message_id: i64,
    /// How many numbers this transaction took.
    pub(crate) taken: i64,
}

impl FlowState {
    /// Takes the next sequence number.
    pub(super) fn take_number(&mut self) -> i64 {
        self.last_message_id += 1;
        self.taken += 1;
        self.last_message_id
    }

    /// The counter to write; `None` if no number was taken.
    pub(super) fn counter(&self) -> Option<Counter> {
        (self.taken > 0).then_some(Counter { flow: self.id, last: self.last_message_id, taken: self.taken })
    }
}

/// The counter of a flow that has numbered messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counter {
    pub(crate) flow: FlowId,
    /// The highest number taken.
    pub(crate) last: i64,
    /// How many numbers this transaction took.
    pub(crate) taken: i64,
}
