//! The limits and settings that the rules apply.

use std::sync::Arc;
use std::time::Duration;

use super::super::payload::PayloadLimits;
use super::super::value_style::ValueStyle;

/// The limits and settings that the rules apply to every message.
#[derive(Debug, Clone)]
pub struct ProcessingRules {
    /// The inbox that the messages come from.
    pub inbox_id: Arc<str>,
    /// How booleans and null are stored.
    pub value_style: ValueStyle,
    /// Limits of a payload.
    pub payload: PayloadLimits,
    /// Limits of the tables.
    pub limits: StoreLimits,
    /// Longest statement in bytes: a quarter of the server's limit.
    pub max_statement_bytes: usize,
    /// Most messages of one flow in the outbox.
    pub outbox_max_rows_per_flow: u64,
    /// Two messages of a flow that were received at least this far apart may have the same key.
    pub key_retention: Duration,
    /// Most rows of `data` of one message, over all its flows in a lane.
    pub max_rows_per_message: usize,
}

/// The publisher chooses the number of attributes, and each flow multiplies it: without a limit one message could keep
/// a transaction busy for minutes. This many rows take some seconds, and 90 MB of memory in each lane. A single flow
/// never has more (`MAX_ATTRIBUTES`).
const MAX_ROWS_PER_MESSAGE: usize = 1_000_000;

impl ProcessingRules {
    /// The rules for a database with `limits`.
    #[must_use]
    pub fn new(
        inbox_id: Arc<str>,
        value_style: ValueStyle,
        payload: PayloadLimits,
        limits: StoreLimits,
        outbox_max_rows_per_flow: u64,
        key_retention: Duration,
    ) -> Self {
        let max_statement_bytes = limits.max_packet_bytes / 4;
        // A payload that no statement can carry would be retried for ever.
        let max_payload_bytes = payload.max_payload_bytes.min(max_statement_bytes);
        let payload = PayloadLimits { max_payload_bytes, ..payload };
        Self {
            inbox_id,
            value_style,
            payload,
            limits,
            max_statement_bytes,
            outbox_max_rows_per_flow,
            key_retention,
            max_rows_per_message: MAX_ROWS_PER_MESSAGE,
        }
    }

    /// The same rules for a server that now accepts statements of `max_packet_bytes`. The payload limits stay: all
    /// lanes have to agree on which payloads are invalid.
    #[must_use]
    pub(crate) fn with_max_packet_bytes(&self, max_packet_bytes: usize) -> Self {
        Self { max_statement_bytes: max_packet_bytes / 4, ..self.clone() }
    }
}

/// Limits of the database's tables and statements. A row within them can still be rejected, by a CHECK or a character
/// set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Bytes of one statement with all its values (`max_allowed_packet`).
    pub max_packet_bytes: usize,
    /// Characters of `data.attribute_name`.
    pub attribute_name_chars: usize,
    /// Bytes of `data.attribute_value` in UTF-8; `None` where only the database knows.
    pub attribute_value_bytes: Option<usize>,
    /// Whether a text may hold the character U+0000.
    pub takes_nul: bool,
    /// Highest sequence number of a message, in `flows` as well as in `data`.
    pub max_message_id: i64,
    /// Highest `data.id`.
    pub max_data_id: i64,
}
