//! Recognises the tokens of requests.
//!
//! The hashes of all tokens are in memory for a few seconds. A wrong token has the table read again, since it may have
//! been added meanwhile, unless there were too many wrong ones. A known token is never refused because of wrong ones.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::live::COMMAND_TOKENS;
use super::{ControlError, LazyControl};
use crate::domain::api_token::{TokenHash, TokenScope};
use crate::domain::failed_attempts::FailedAttempts;
use crate::store::StoredToken;

/// Maximum age of the hashes in memory, and so of a revocation that is not known yet.
const MAX_AGE: Duration = Duration::from_secs(2);

/// Time for which an unreachable database is not asked again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Name of the token of the settings, in the history.
pub(super) const FILE_TOKEN: &str = "ADMIN_TOKEN_FILE";

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name of the token.
    pub token: String,
    /// Its permissions.
    pub scope: TokenScope,
}

impl Caller {
    fn of_file() -> Self {
        Self { token: FILE_TOKEN.to_owned(), scope: TokenScope::Admin }
    }

    /// Whether the token is that of a command for one request. The command deletes it when the answer has begun.
    #[must_use]
    pub fn is_command(&self) -> bool {
        self.token.starts_with(COMMAND_TOKENS)
    }
}

/// Why a token is refused.
#[derive(Debug)]
pub enum AccessRefusal {
    /// It is unknown.
    Wrong,
    /// Its time is over.
    Expired,
    /// There were too many wrong tokens; the next one is looked up after this time.
    Blocked(Duration),
    /// The table cannot be read.
    Unavailable(String),
}

/// Recognises tokens.
#[derive(Debug)]
pub struct TokenAccess {
    control: Arc<LazyControl>,
    born: Instant,
    known: Mutex<KnownTokens>,
}

#[derive(Debug, Default)]
struct KnownTokens {
    of_file: Option<(Instant, Option<TokenHash>)>,
    of_table: Option<(Instant, Vec<StoredToken>)>,
    unreadable: Option<(Instant, String)>,
    failed: FailedAttempts,
}

impl KnownTokens {
    fn tokens(&self) -> &[StoredToken] {
        self.of_table.as_ref().map(|(_, tokens)| tokens.as_slice()).unwrap_or_default()
    }

    /// The caller with this token, if it was read within [`MAX_AGE`].
    fn fresh_caller(&self, given: &TokenHash) -> Option<Caller> {
        if let Some((at, Some(hash))) = &self.of_file
            && at.elapsed() < MAX_AGE
            && hash.matches(given)
        {
            return Some(Caller::of_file());
        }
        let (at, tokens) = self.of_table.as_ref().filter(|(at, _)| at.elapsed() < MAX_AGE)?;
        find(tokens, given, at.elapsed()).ok()
    }
}

impl TokenAccess {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(control: Arc<LazyControl>) -> Self {
        Self { control, born: Instant::now(), known: Mutex::default() }
    }

    /// The caller with this token by what is in memory. Does not wait: `None` also while the tokens are being read.
    #[must_use]
    pub fn remembered(&self, given: &TokenHash) -> Option<Caller> {
        self.known.try_lock().ok()?.fresh_caller(given)
    }

    /// The caller with this token.
    pub async fn check(&self, given: &TokenHash, peer: IpAddr) -> Result<Caller, AccessRefusal> {
        let mut known = self.known.lock().await;
        if self.is_of_file(&mut known, given) {
            return Ok(Caller::of_file());
        }
        if let Some(caller) = known.fresh_caller(given) {
            return Ok(caller);
        }
        let is_stale = known.of_table.as_ref().is_none_or(|(at, _)| at.elapsed() >= MAX_AGE);
        let blocked = known.failed.blocked_for(peer, self.born.elapsed());
        if is_stale || blocked.is_none() {
            self.read(&mut known).await?;
            if let Ok(caller) = find(known.tokens(), given, Duration::ZERO) {
                return Ok(caller);
            }
        }
        if let Some(wait) = blocked {
            return Err(AccessRefusal::Blocked(wait));
        }
        known.failed.count(peer, self.born.elapsed());
        Err(find(known.tokens(), given, Duration::ZERO).err().unwrap_or(AccessRefusal::Wrong))
    }

    /// The caller with a token that was accepted before, for a session. Counts no failed attempt.
    pub async fn check_again(&self, given: &TokenHash) -> Result<Caller, AccessRefusal> {
        let mut known = self.known.lock().await;
        if self.is_of_file(&mut known, given) {
            return Ok(Caller::of_file());
        }
        if known.of_table.as_ref().is_none_or(|(at, _)| at.elapsed() >= MAX_AGE) {
            self.read(&mut known).await?;
        }
        let age = known.of_table.as_ref().map(|(at, _)| at.elapsed()).unwrap_or_default();
        find(known.tokens(), given, age)
    }

    async fn read(&self, known: &mut KnownTokens) -> Result<(), AccessRefusal> {
        if let Some((at, problem)) = &known.unreadable
            && at.elapsed() < RETRY_AFTER
        {
            return Err(AccessRefusal::Unavailable(problem.clone()));
        }
        match self.stored_tokens().await {
            Ok(tokens) => {
                known.of_table = Some((Instant::now(), tokens));
                Ok(())
            }
            Err(error) => {
                known.unreadable = Some((Instant::now(), error.to_string()));
                Err(AccessRefusal::Unavailable(error.to_string()))
            }
        }
    }

    async fn stored_tokens(&self) -> Result<Vec<StoredToken>, ControlError> {
        let control = self.control.get().await?;
        let tokens = control.tokens().await;
        if let Err(error) = &tokens {
            self.control.recover(&control, error).await?;
        }
        tokens
    }

    fn is_of_file(&self, known: &mut KnownTokens, given: &TokenHash) -> bool {
        if known.of_file.as_ref().is_none_or(|(at, _)| at.elapsed() >= MAX_AGE) {
            let token = self.control.settings().api.admin_token().unwrap_or_else(|problem| {
                log::warn!("API: ADMIN_TOKEN_FILE: {problem}");
                None
            });
            let hash = token.as_deref().map(TokenHash::of_token);
            known.of_file = Some((Instant::now(), hash));
        }
        known.of_file.as_ref().and_then(|(_, hash)| hash.as_ref()).is_some_and(|hash| hash.matches(given))
    }
}

/// The caller with this token, among those that were read `age` ago. All are compared, so that the time says nothing.
fn find(tokens: &[StoredToken], given: &TokenHash, age: Duration) -> Result<Caller, AccessRefusal> {
    let mut found = Err(AccessRefusal::Wrong);
    for token in tokens {
        if token.hash.as_ref().is_some_and(|hash| hash.matches(given)) {
            let age_us = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
            found = match token.scope {
                Some(_) if token.expires_in_us.is_some_and(|left| left <= age_us) => {
                    Err(AccessRefusal::Expired)
                }
                Some(scope) => Ok(Caller { token: token.name.clone(), scope }),
                None => Err(AccessRefusal::Wrong),
            };
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(scope: Option<TokenScope>, expires_in_us: Option<i64>) -> StoredToken {
        StoredToken {
            name: "t".to_owned(),
            hash: Some(TokenHash::of_token("secret")),
            scope,
            created_at_us: 0,
            expires_at_us: None,
            expires_in_us,
        }
    }

    fn found(token: StoredToken, text: &str, age_us: u64) -> Option<TokenScope> {
        let age = Duration::from_micros(age_us);
        find(&[token], &TokenHash::of_token(text), age).ok().map(|caller| caller.scope)
    }

    #[test]
    fn only_the_text_of_a_token_is_accepted() {
        let read = Some(TokenScope::Read);
        assert_eq!(found(token(read, None), "secret", 0), read);
        assert_eq!(found(token(read, None), "Secret", 0), None);
        assert_eq!(found(token(None, None), "secret", 0), None);
    }

    #[test]
    fn tokens_in_memory_expire_in_time() {
        let admin = Some(TokenScope::Admin);
        assert_eq!(found(token(admin, Some(10)), "secret", 9), admin);
        assert_eq!(found(token(admin, Some(10)), "secret", 10), None);
        assert_eq!(found(token(admin, Some(-1)), "secret", 0), None);
    }
}
