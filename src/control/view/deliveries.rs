//! How waiting posts are shown.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::control::time_text::shown_time;
use crate::domain::posting::attempts::{Attempt, RecentAttempts};
use crate::store::outbox::{WaitingDeliveries, WaitingPost};

/// The waiting posts of a flow.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveriesView {
    /// Key of the flow.
    pub flow_id: i64,
    /// Code of the flow, or the code in the first post if the flow was removed.
    pub flow_code: Option<String>,
    /// Number of posts.
    pub posts: u64,
    /// When the oldest was numbered.
    pub oldest_at: String,
    /// Key of the first post, for which the others wait.
    pub first_key: String,
    /// Its sequence number.
    pub message_id: i64,
    /// Its failed attempts.
    pub attempts: u32,
    /// Earliest time of its next attempt.
    pub next_attempt_at: String,
    /// Reason of its last failure.
    pub last_error: Option<String>,
    /// Its last failed attempts.
    pub recent_attempts: Option<Value>,
}

impl DeliveriesView {
    /// The document of the waiting posts of a flow.
    #[must_use]
    pub fn new(waiting: &WaitingDeliveries) -> Self {
        let attempts = waiting.recent_attempts.as_deref();
        Self {
            flow_id: waiting.flow,
            flow_code: waiting.code.clone(),
            posts: waiting.posts,
            oldest_at: shown_time(waiting.oldest_at_us),
            first_key: waiting.first.to_string(),
            message_id: waiting.message_id,
            attempts: waiting.attempts,
            next_attempt_at: shown_time(waiting.next_attempt_at_us),
            last_error: waiting.last_error.clone(),
            recent_attempts: attempts.and_then(|text| serde_json::from_str(text).ok()),
        }
    }
}

/// A post that waits.
#[derive(Debug, Serialize, ToSchema)]
pub struct WaitingPostView {
    /// Its key, as in the header `Idempotency-Key`.
    pub key: String,
    /// Its sequence number.
    pub message_id: i64,
    /// Topic of the message.
    pub topic: Option<String>,
    /// When it was numbered.
    pub created_at: String,
    /// Number of its failed attempts.
    pub attempts: u32,
    /// Earliest time of its next attempt.
    pub next_attempt_at: String,
    /// Reason of its last failure.
    pub last_error: Option<String>,
    /// Its last failed attempts, the oldest first.
    pub recent_attempts: Vec<AttemptView>,
}

/// A failed attempt to post.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptView {
    /// When it began.
    pub at: String,
    /// Its duration in milliseconds.
    pub ms: u64,
    /// The HTTP status of the answer.
    pub status: Option<u16>,
    /// Why there was no usable answer.
    pub error: Option<String>,
    /// The beginning of the answer.
    pub answer: Option<String>,
}

impl AttemptView {
    /// The attempts in the value of the column `recent_attempts`.
    #[must_use]
    pub fn of_column(column: Option<&str>) -> Vec<Self> {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let attempts = RecentAttempts::parse(column.unwrap_or_default());
        let view = |attempt: &Attempt| Self {
            at: attempt.at().to_owned(),
            ms: attempt.ms(),
            status: attempt.status(),
            error: given(attempt.error()),
            answer: given(attempt.answer()),
        };
        attempts.attempts().iter().map(view).collect()
    }
}

impl WaitingPostView {
    /// The document of a row.
    #[must_use]
    pub fn new(post: &WaitingPost) -> Self {
        Self {
            key: post.place.key.to_string(),
            message_id: post.place.message_id,
            topic: post.topic.clone(),
            created_at: shown_time(post.created_at_us),
            attempts: post.attempts,
            next_attempt_at: shown_time(post.next_attempt_at_us),
            last_error: post.last_error.clone(),
            recent_attempts: AttemptView::of_column(post.recent_attempts.as_deref()),
        }
    }
}
