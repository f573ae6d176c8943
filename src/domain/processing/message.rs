//! A message of a batch whose payload is parsed.

use std::sync::Arc;

use super::super::batch::BatchEntry;
use super::super::message::{FlowId, Record};
use super::super::payload::{Payload, PayloadError, PayloadLimits, read_payload};

/// A message of a batch. Its payload is parsed once, for all flows and all attempts.
#[derive(Debug)]
pub(crate) struct ParsedMessage<'a> {
    pub(crate) record: &'a Arc<Record>,
    /// The flows that it belongs to, ascending.
    pub(crate) flows: &'a [FlowId],
    /// Whether this lane makes the dead letter if the payload is invalid.
    pub(crate) reports_invalid_payload: bool,
    pub(crate) payload: Result<Payload<'a>, PayloadError>,
}

impl<'a> ParsedMessage<'a> {
    pub(crate) fn new(entry: &'a BatchEntry, limits: &PayloadLimits) -> Self {
        Self {
            record: &entry.record,
            flows: &entry.flows,
            reports_invalid_payload: entry.reports_invalid_payload,
            payload: read_payload(&entry.record, limits),
        }
    }
}
