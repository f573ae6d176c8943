//! The documents of the use cases, as printed by commands with `--json` and answered by the API. They contain no
//! secrets.

mod deliveries;
mod drift;
mod explain;
mod flows;
mod letters;
mod servers;
mod tokens;

pub use deliveries::{AttemptView, DeliveriesView, WaitingPostView};
pub use drift::{
    AcceptedDriftView, CausedLettersView, FieldChangeView, FieldFactView, FlowDriftView, LoggedFieldView,
};
pub use explain::{ExplainedFlowView, ExplanationView, MessageOutcomeView, PublishedView, RejectionView};
pub use flows::{EditedFlowView, FlowDetailsView, FlowVerdictView, FlowView, RemovedFlowView};
pub use letters::{LetterCountView, LetterSummaryView, LetterView, ReplayTally, TallyRow};
pub use servers::{EditedServerView, ServerTestView, ServerView};
pub use tokens::{AddedTokenView, TokenView};

use serde_json::Value;

/// JSON as people read it: in lines, unless the author wrote it in lines or it is no JSON.
#[must_use]
pub fn json_text(text: &str) -> String {
    let parsed = || serde_json::from_str::<Value>(text).ok();
    let pretty = if text.contains('\n') { None } else { parsed() };
    pretty.map_or_else(|| text.to_owned(), |value| format!("{value:#}"))
}

/// JSON, or a text that is none.
fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}
