//! The tokens of the API. All times come from the database, so that clocks of other machines do not matter.

use std::time::Duration;

use sea_orm::prelude::DateTime;
use sea_orm::{DbErr, QueryResult};

use super::connect::Database;
use super::error::StoreError;
use super::statement::{execute, read};
use crate::domain::api_token::{TokenHash, TokenScope};

/// Most tokens. All of them are in memory where they are compared.
pub const MAX_TOKENS: usize = 1_000;

/// A token, without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredToken {
    /// Unique name.
    pub name: String,
    /// Hash of the text; none if the column has no hash.
    pub hash: Option<TokenHash>,
    /// Its permissions; none if the column has no known scope.
    pub scope: Option<TokenScope>,
    /// When it was created: microseconds since 1970, UTC.
    pub created_at_us: i64,
    /// From when it is refused.
    pub expires_at_us: Option<i64>,
    /// Microseconds until then; negative if that is past.
    pub expires_in_us: Option<i64>,
}

impl StoredToken {
    /// Whether its time is over.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expires_in_us.is_some_and(|left| left <= 0)
    }
}

/// Reads the tokens in the order of their names.
pub async fn read_tokens(database: &Database) -> Result<Vec<StoredToken>, StoreError> {
    const DOING: &str = "reading the tokens";
    let left = database.dialect.micros_until("expires_at");
    let sql = format!(
        "SELECT name, token_hash, scope, created_at, expires_at, {left} AS expires_in FROM api_tokens \
         ORDER BY name LIMIT {MAX_TOKENS}"
    );
    read(&database.connection, DOING, sql, [], stored_token).await
}

fn stored_token(row: &QueryResult) -> Result<StoredToken, DbErr> {
    let micros = |at: DateTime| at.and_utc().timestamp_micros();
    let (hash, scope): (String, String) = (row.try_get("", "token_hash")?, row.try_get("", "scope")?);
    Ok(StoredToken {
        name: row.try_get("", "name")?,
        hash: TokenHash::parse(&hash),
        scope: TokenScope::from_name(&scope),
        created_at_us: micros(row.try_get("", "created_at")?),
        expires_at_us: row.try_get::<Option<DateTime>>("", "expires_at")?.map(micros),
        expires_in_us: row.try_get("", "expires_in")?,
    })
}

/// Inserts a token that is refused after `expires_in`.
pub async fn insert_token(
    database: &Database,
    name: &str,
    hash: &TokenHash,
    scope: TokenScope,
    expires_in: Option<Duration>,
) -> Result<(), StoreError> {
    let dialect = database.dialect;
    let mut values = vec![name.into(), hash.digits().into(), scope.as_str().into()];
    let expires_at = match expires_in {
        None => "NULL",
        Some(expires_in) => {
            values.push(i64::try_from(expires_in.as_micros()).unwrap_or(i64::MAX).into());
            dialect.now_plus_micros()
        }
    };
    let sql = format!(
        "INSERT INTO api_tokens (name, token_hash, scope, created_at, expires_at) \
         VALUES (?, ?, ?, {now}, {expires_at})",
        now = dialect.now(),
    );
    execute(&database.connection, "adding the token", sql, values).await.map(drop)
}

/// Deletes a token. Returns whether there was one.
pub async fn delete_token(database: &Database, name: &str) -> Result<bool, StoreError> {
    let sql = "DELETE FROM api_tokens WHERE name = ?";
    Ok(execute(&database.connection, "revoking the token", sql, [name.into()]).await? > 0)
}
