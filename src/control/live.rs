//! Tokens of commands that ask a running gateway: each is for one request, and permits reading for a minute.

use std::time::Duration;

use super::{Control, ControlError};
use crate::domain::api_token::TokenScope;

/// Beginning of the names of these tokens. No other token has it: their streams of events are not checked again.
pub(super) const COMMAND_TOKENS: &str = "command-";

/// Time after which such a token is refused, if its command could not delete it.
const LIFE: Duration = Duration::from_mins(1);

/// A token for one request.
pub struct LiveToken {
    name: String,
    text: String,
}

impl LiveToken {
    /// The secret text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Control {
    /// Makes a token for one request. Expired tokens of commands that were killed are deleted.
    pub async fn make_live_token(&self) -> Result<LiveToken, ControlError> {
        let tokens = self.tokens().await?;
        for left in tokens.iter().filter(|token| token.name.starts_with(COMMAND_TOKENS) && token.is_expired())
        {
            self.delete_token_named(&left.name).await?;
        }
        let name = format!("{COMMAND_TOKENS}{:016x}", rand::random::<u64>());
        let text = self.add_any_token(&name, TokenScope::Read, Some(LIFE)).await?.text;
        Ok(LiveToken { name, text })
    }

    /// Deletes the token of a request that was answered.
    pub async fn delete_live_token(&self, token: &LiveToken) -> Result<(), ControlError> {
        self.delete_token_named(&token.name).await
    }

    /// Another command may have deleted it.
    async fn delete_token_named(&self, name: &str) -> Result<(), ControlError> {
        match self.revoke_token(name).await {
            Err(ControlError::NotFound { .. }) => Ok(()),
            revoked => revoked,
        }
    }
}
