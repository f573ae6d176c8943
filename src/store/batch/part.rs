//! A part of a batch: the messages and the flows of one transaction.

use std::collections::BTreeSet;
use std::ops::Range;

use super::lane_waits::LaneWaits;
use super::locked_flow::IfLocked;
use crate::domain::batch::ProcessedMessage;
use crate::domain::flow_definition::FlowDraft;
use crate::domain::message::FlowId;
use crate::domain::processing::{ParsedMessage, PoisonMessages};

/// A part of a batch, and for which flows it is processed.
#[derive(Debug, Clone)]
pub(super) struct BatchPart<'a> {
    /// All messages of the batch.
    pub(super) messages: &'a [ParsedMessage<'a>],
    /// The messages of this transaction.
    pub(super) range: Range<usize>,
    /// The flows that they are processed for.
    pub(super) scope: FlowScope<'a>,
    /// For a flow that is locked elsewhere.
    pub(super) if_locked: IfLocked,
    /// Messages that the database rejects.
    pub(super) poison: &'a PoisonMessages,
    /// A flow as it is not saved yet. Only a rehearsal has one.
    pub(super) draft: Option<&'a FlowDraft>,
    /// Where a lane shows that it waits for rows.
    pub(super) waits: Option<&'a LaneWaits>,
}

/// The flows that a transaction processes.
#[derive(Debug, Clone, Copy)]
pub(super) enum FlowScope<'a> {
    /// All flows of its messages, except these.
    Except(&'a BTreeSet<FlowId>),
    /// Only this flow: it lags, or it is rehearsed.
    Only(FlowId),
}

impl FlowScope<'_> {
    pub(super) fn contains(self, flow: FlowId) -> bool {
        match self {
            Self::Except(others) => !others.contains(&flow),
            Self::Only(only) => only == flow,
        }
    }
}

impl<'a> BatchPart<'a> {
    /// The flows to lock, ascending. A single flow is locked even without a message.
    pub(super) fn flows(&self) -> Vec<FlowId> {
        if let FlowScope::Only(flow) = self.scope {
            return vec![flow];
        }
        let all = self.messages().iter().flat_map(|message| message.flows).copied();
        let flows: BTreeSet<FlowId> = all.filter(|flow| self.scope.contains(*flow)).collect();
        flows.into_iter().collect()
    }

    pub(super) fn messages(&self) -> &'a [ParsedMessage<'a>] {
        self.messages.get(self.range.clone()).unwrap_or_default()
    }

    /// The messages with readable payloads, for each flow.
    pub(super) fn processed(&self) -> impl Iterator<Item = ProcessedMessage<'a>> {
        let scope = self.scope;
        self.messages().iter().filter_map(|message| Some((message, message.payload.as_ref().ok()?))).flat_map(
            move |(message, payload)| {
                let flows = message.flows.iter().copied().filter(move |flow| scope.contains(*flow));
                flows.map(move |flow| (flow, &**message.record, payload))
            },
        )
    }

    /// The messages, each with its place in the batch.
    pub(super) fn numbered_messages(&self) -> impl Iterator<Item = (usize, &'a ParsedMessage<'a>)> {
        self.range.clone().zip(self.messages())
    }
}
