//! How many messages a flow may have in the outbox.

use std::collections::HashMap;

use super::super::dead_letter::DeadLetterReason;
use super::super::message::FlowId;
use super::reject::RejectCause;

/// The space that is left in the outbox, by flow.
pub(super) struct OutboxSpace<'a> {
    /// Messages of a flow that are in the outbox before this transaction.
    waiting: &'a dyn Fn(FlowId) -> u64,
    /// Messages that this transaction adds.
    added: HashMap<FlowId, u64>,
    max_rows_per_flow: u64,
}

impl<'a> OutboxSpace<'a> {
    pub(super) fn new(waiting: &'a dyn Fn(FlowId) -> u64, max_rows_per_flow: u64) -> Self {
        Self { waiting, added: HashMap::new(), max_rows_per_flow }
    }

    /// Takes the place of one message.
    pub(super) fn take(&mut self, flow: FlowId) -> Result<(), RejectCause> {
        let added = self.added.entry(flow).or_default();
        if (self.waiting)(flow) + *added >= self.max_rows_per_flow {
            let detail = format!("{} messages wait already", self.max_rows_per_flow);
            return Err(RejectCause::new(DeadLetterReason::OutboxFull, detail));
        }
        *added += 1;
        Ok(())
    }
}
