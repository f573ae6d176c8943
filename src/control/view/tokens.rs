//! How tokens are shown.

use serde::Serialize;
use utoipa::ToSchema;

use crate::control::AddedToken;
use crate::control::time_text::shown_time;
use crate::store::StoredToken;

/// A token, without its text.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenView {
    /// Unique name.
    pub name: String,
    /// What it permits: `read`, `operate` or `admin`. Any other text permits nothing.
    pub scope: String,
    /// When it was created.
    pub created_at: String,
    /// From when it is refused.
    pub expires_at: Option<String>,
    /// Whether that is past.
    pub expired: bool,
}

/// A token that was added.
#[derive(Serialize, ToSchema)]
pub struct AddedTokenView {
    /// The token.
    #[serde(flatten)]
    pub shown: TokenView,
    /// Its secret text. It cannot be shown again.
    pub token: String,
}

impl TokenView {
    /// The document of a row.
    #[must_use]
    pub fn new(token: &StoredToken) -> Self {
        Self {
            name: token.name.clone(),
            scope: token.scope.map_or("unknown", |scope| scope.as_str()).to_owned(),
            created_at: shown_time(token.created_at_us),
            expires_at: token.expires_at_us.map(shown_time),
            expired: token.is_expired(),
        }
    }
}

impl AddedTokenView {
    /// The document of a new token.
    #[must_use]
    pub fn new(AddedToken { token, text }: &AddedToken) -> Self {
        Self { shown: TokenView::new(token), token: text.clone() }
    }
}
