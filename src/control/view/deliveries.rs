//! How waiting posts are shown.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::control::time_text::shown_time;
use crate::store::outbox::WaitingDeliveries;

/// The waiting posts of a flow.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveriesView {
    /// Key of the flow.
    pub flow_id: i64,
    /// Code of the flow; that of the first post if the flow was removed.
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
