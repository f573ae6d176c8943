//! The rules of the product: the outcome of a message. Pure; the store locks, reads and writes for it.
//!
//! The router assigns a message to the flows whose topic filters it matches. For each flow it has exactly one outcome:
//! its attributes become rows of `data`, it waits in the outbox for the flow's endpoint (with `also_post`: both), it
//! becomes a dead letter, or it is dropped because its key was seen before. The rules apply in this order:
//!
//! ```text
//!  message
//!    │  1. its payload is a JSON object within the limits ── else ─▶ dead letter, one for all its flows
//!    │
//!    │  for each flow, in the order of the flow ids:
//!    │  2. the database rejected it in no earlier attempt ─ else ─▶ dead letter
//!    │  3. the flow exists and is enabled ───────────────── else ─▶ dead letter
//!    │  4. its key is new ───────────────────────────────── else ─▶ dropped
//!    │  5. it fits into a statement ─────────────────────── else ─▶ dead letter
//!    │  6. the flow's columns can be used ───────────────── else ─▶ dead letter
//!    │  7. it is valid by the flow's schema ─────────────── else ─▶ dead letter
//!    │  8. the flow's counter is below its maximum ──────── else ─▶ dead letter
//!    │  9. if it is stored: its rows fit columns and limits  else ─▶ dead letter
//!    ▼
//!  takes the flow's next sequence number, and remembers its key
//!    ├─ STORE_DB ──────────────────▶ a row of `data` for each attribute
//!    └─ POST_ENDPOINT, also_post ──▶ a row of `outbox`, or with a full outbox a dead letter that has its number
//! ```
//!
//! A number is taken only by a message that passed all rules, so the numbers of a flow have no gaps. Rule 4 precedes
//! the rules about columns and payload: a repeated message must have no effect, even if the flow was edited in between.
//!
//! ```text
//!  processor.rs      MessageProcessor: one message after the other
//!  checks.rs         rules 3 and 5 to 9, in order
//!  stored_values.rs  rule 9, and how the values are stored
//!  keys.rs           rule 4
//!  outbox_space.rs   how many messages a flow may have in the outbox
//!  flow_state.rs     the columns that the rules read
//!  message.rs        a message whose payload is parsed
//!  rules.rs          limits and settings
//!  reject.rs         why a message is rejected
//!  outcome.rs        the rows to write, and the results to report
//!  trial.rs          predicts the outcome of a message
//! ```

mod checks;
mod flow_state;
mod keys;
mod message;
mod outbox_space;
mod outcome;
mod processor;
mod reject;
mod rules;
mod stored_values;
mod trial;

pub(crate) use flow_state::{Counter, FlowState};
pub(crate) use keys::{FlowKey, KeyHolder, KeyRow, MessageKeys};
pub(crate) use message::ParsedMessage;
pub(crate) use outcome::{DataRow, DeadLetterRow, ProcessingOutcome};
pub(crate) use processor::{MessageProcessor, PoisonMessages};
pub use rules::{ProcessingRules, StoreLimits};
pub use trial::{TrialResult, try_message};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
