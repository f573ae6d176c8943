//! Tokens of the API: lists, adds and revokes them.

use std::time::Duration;

use super::access::FILE_TOKEN;
use super::live::COMMAND_TOKENS;
use super::{Control, ControlError};
use crate::domain::api_token::{TokenHash, TokenScope, check_token_name, token_of};
use crate::store::{self, MAX_TOKENS, StoredToken};

const WHAT: &str = "token";

/// Longest life of a token, 100 years.
const MAX_EXPIRY: Duration = Duration::from_hours(24 * 36_500);

/// A token that was added. Its text cannot be shown again.
pub struct AddedToken {
    /// The row.
    pub token: StoredToken,
    /// The secret text.
    pub text: String,
}

impl Control {
    /// All tokens, in the order of their names.
    pub async fn tokens(&self) -> Result<Vec<StoredToken>, ControlError> {
        Ok(store::read_tokens(&self.database).await?)
    }

    /// Adds a token that is refused after `expires_in`. Its name must not be that of a token of a command.
    pub async fn add_token(
        &self,
        name: &str,
        scope: TokenScope,
        expires_in: Option<Duration>,
    ) -> Result<AddedToken, ControlError> {
        if name.starts_with(COMMAND_TOKENS) {
            let problem = format!("{name:?} begins with {COMMAND_TOKENS:?}, as the tokens of commands do");
            return Err(ControlError::invalid("name", problem, "choose another name"));
        }
        if name == FILE_TOKEN {
            let problem = format!("the history shows edits by the token of the file {name} with this name");
            return Err(ControlError::invalid("name", problem, "choose another name"));
        }
        self.add_any_token(name, scope, expires_in).await
    }

    /// Adds a token with a name of any beginning.
    pub(super) async fn add_any_token(
        &self,
        name: &str,
        scope: TokenScope,
        expires_in: Option<Duration>,
    ) -> Result<AddedToken, ControlError> {
        check_token_name(name).map_err(|problem| ControlError::Invalid { problems: vec![problem] })?;
        if expires_in.is_some_and(|expires_in| expires_in.is_zero() || expires_in > MAX_EXPIRY) {
            let remedy = "give a time from a second to 100 years";
            return Err(ControlError::invalid("expires_in_seconds", "this is no life of a token", remedy));
        }
        let known = self.tokens().await?;
        if known.iter().any(|token| token.name == name) {
            let remedy = "choose another name, or revoke that token first";
            return Err(ControlError::invalid("name", format!("the token {name:?} exists"), remedy));
        }
        if known.len() >= MAX_TOKENS {
            let problem = format!("there are {MAX_TOKENS} tokens");
            return Err(ControlError::invalid("name", problem, "revoke those that are not used"));
        }
        let text = token_of(&rand::random());
        let hash = TokenHash::of_token(&text);
        store::insert_token(&self.database, name, &hash, scope, expires_in)
            .await
            .map_err(ControlError::refused)?;
        let added = self.tokens().await?.into_iter().find(|token| token.name == name);
        let token = added.ok_or_else(|| ControlError::Conflict { what: WHAT, name: name.to_owned() })?;
        Ok(AddedToken { token, text })
    }

    /// The token with this name.
    pub async fn token(&self, name: &str) -> Result<StoredToken, ControlError> {
        let found = self.tokens().await?.into_iter().find(|token| token.name == name);
        found.ok_or_else(|| unknown(name))
    }

    /// Revokes a token. Running gateways refuse it within seconds.
    pub async fn revoke_token(&self, name: &str) -> Result<(), ControlError> {
        if store::delete_token(&self.database, name).await? {
            return Ok(());
        }
        Err(unknown(name))
    }
}

fn unknown(name: &str) -> ControlError {
    ControlError::not_found(WHAT, name, "`mqtt-gateway tokens list` shows the names")
}
