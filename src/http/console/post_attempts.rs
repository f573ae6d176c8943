//! Failed attempts to post a message, as rows.

use super::page::short_time;
use crate::control::view::AttemptView;

/// An attempt as it is shown.
pub(super) struct AttemptLine {
    pub(super) at: String,
    /// The HTTP status of the answer; empty if there was none.
    pub(super) status: String,
    pub(super) duration: String,
    /// The endpoint's answer, or why there was none.
    pub(super) answer: String,
}

impl AttemptLine {
    /// The attempts in the column `recent_attempts`, the last one first.
    pub(super) fn of_column(column: Option<&str>) -> Vec<Self> {
        AttemptView::of_column(column).into_iter().rev().map(Self::new).collect()
    }

    pub(super) fn new(attempt: AttemptView) -> Self {
        Self {
            at: short_time(&attempt.at),
            status: attempt.status.map(|status| status.to_string()).unwrap_or_default(),
            duration: format!("{} ms", attempt.ms),
            answer: attempt.error.or(attempt.answer).unwrap_or_default(),
        }
    }
}
