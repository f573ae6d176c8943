//! Sessions of browsers, in memory: they end with the process. Only the session of a demo goes on in its next process.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::demo_access::DemoAccess;
use super::random_text::{is_random_text, random_text};
use crate::control::Caller;
use crate::domain::api_token::{TokenHash, TokenScope};

/// Separates the secret of a session from the key of its forms in a cookie.
const SEPARATOR: char = '.';

/// Life of a session.
const SESSION_LIFE: Duration = Duration::from_hours(12);

/// Life of a cookie. It outlives its session, so that the next login keeps the key of the forms.
pub(super) const COOKIE_LIFE: Duration = Duration::from_hours(7 * 24);

/// Life of a link.
const LINK_LIFE: Duration = Duration::from_mins(15);

/// Maximum sessions, and links. A further one ends the oldest.
const MAX_SESSIONS: usize = 256;
const MAX_LINKS: usize = 8;

/// The name of visitors who came by a link, in the history. No token can have it.
const LINK_NAME: &str = "(link of the start)";

/// All sessions and links. Only hashes of their secrets are kept.
#[derive(Debug, Default)]
pub(in crate::http) struct ConsoleSessions {
    open: Mutex<OpenSessions>,
    /// Secret and form key of the session that links open; none if each opens one of its own.
    of_links: Option<(String, String)>,
}

#[derive(Debug, Default)]
struct OpenSessions {
    /// Oldest first.
    sessions: Vec<(TokenHash, Session)>,
    links: Vec<(TokenHash, Instant)>,
}

/// A session.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// The secret of its forms.
    pub(super) form_key: String,
    /// The token that it was opened with; none if it was opened by a link.
    pub(super) token: Option<TokenHash>,
    /// Whom the token belonged to at that time.
    pub(super) caller: Caller,
    since: Instant,
}

impl ConsoleSessions {
    /// Those of a demo, whose visitors shall stay logged in when its gateway was killed.
    pub(in crate::http) fn of_demo(access: &DemoAccess) -> Self {
        let of_links = Some((access.session.clone(), access.form_key.clone()));
        let sessions = Self { of_links, ..Self::default() };
        let now = Instant::now();
        sessions.open().links.push((TokenHash::of_token(&access.link), now));
        sessions.add_of_link(None, now);
        sessions
    }

    /// Makes the secret of a link that opens one session.
    pub(in crate::http) fn add_link(&self) -> String {
        let secret = random_text();
        let mut open = self.open();
        open.links.push((TokenHash::of_token(&secret), Instant::now()));
        let excess = open.links.len().saturating_sub(MAX_LINKS);
        open.links.drain(..excess);
        secret
    }

    /// Opens a session by a link, which is valid once. `old` is the cookie of the browser. Returns the new cookie.
    pub(super) fn follow_link(&self, secret: &str, old: Option<&str>, now: Instant) -> Option<String> {
        let given = TokenHash::of_token(secret);
        let mut open = self.open();
        let place = open.links.iter().position(|(hash, _)| hash.matches(&given))?;
        let (_, since) = open.links.remove(place);
        drop(open);
        if now.saturating_duration_since(since) > LINK_LIFE {
            return None;
        }
        Some(self.add_of_link(old, now))
    }

    fn add_of_link(&self, old: Option<&str>, now: Instant) -> String {
        let caller = Caller { token: LINK_NAME.to_owned(), scope: TokenScope::Admin };
        match self.of_links.clone() {
            None => self.add(None, caller, old, now),
            Some((secret, form_key)) => {
                self.end(&secret);
                self.keep(&secret, Session { form_key, token: None, caller, since: now })
            }
        }
    }

    /// Opens a session of the caller with this token. `old` is the cookie of the browser, whose forms stay valid: they
    /// may have been filled in before the last session ended. Returns the new cookie.
    pub(super) fn add(
        &self,
        token: Option<TokenHash>,
        caller: Caller,
        old: Option<&str>,
        now: Instant,
    ) -> String {
        let form_key = old.and_then(form_key_of).map_or_else(random_text, str::to_owned);
        self.keep(&random_text(), Session { form_key, token, caller, since: now })
    }

    fn keep(&self, secret: &str, session: Session) -> String {
        let now = session.since;
        let cookie = format!("{secret}{SEPARATOR}{}", session.form_key);
        let mut open = self.open();
        open.sessions.retain(|(_, session)| !session.is_over(now));
        open.sessions.push((TokenHash::of_token(secret), session));
        let excess = open.sessions.len().saturating_sub(MAX_SESSIONS);
        open.sessions.drain(..excess);
        cookie
    }

    /// The session of the browser with this cookie.
    pub(super) fn find(&self, cookie: &str, now: Instant) -> Option<Session> {
        let given = TokenHash::of_token(secret_of(cookie));
        let open = self.open();
        let found = open.sessions.iter().find(|(hash, _)| hash.matches(&given));
        found.map(|(_, session)| session.clone()).filter(|session| !session.is_over(now))
    }

    /// Ends the session of the browser with this cookie.
    pub(super) fn end(&self, cookie: &str) {
        let given = TokenHash::of_token(secret_of(cookie));
        self.open().sessions.retain(|(hash, _)| !hash.matches(&given));
    }

    fn open(&self) -> MutexGuard<'_, OpenSessions> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn secret_of(cookie: &str) -> &str {
    cookie.split(SEPARATOR).next().unwrap_or_default()
}

/// The key of the forms that the browser has. Another text than one of ours could be guessed.
fn form_key_of(cookie: &str) -> Option<&str> {
    cookie.split_once(SEPARATOR).map(|(_, key)| key).filter(|key| is_random_text(key))
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) > SESSION_LIFE
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn caller() -> Caller {
        Caller { token: "t".to_owned(), scope: TokenScope::Read }
    }

    #[test]
    fn link_opens_one_session() {
        let (sessions, now) = (ConsoleSessions::default(), Instant::now());
        let link = sessions.add_link();
        assert_eq!(sessions.follow_link("wrong", None, now), None);
        let secret = sessions.follow_link(&link, None, now).unwrap();
        assert_eq!(sessions.find(&secret, now).unwrap().caller.scope, TokenScope::Admin);
        assert_eq!(sessions.follow_link(&link, None, now), None);
    }

    #[test]
    fn session_of_a_demo_survives_its_process() {
        let (access, now) = (DemoAccess::new("127.0.0.1:1"), Instant::now());
        let first = ConsoleSessions::of_demo(&access);
        let secret = first.follow_link(&access.link, None, now).unwrap();
        assert_eq!(first.follow_link(&access.link, None, now), None);
        let next = ConsoleSessions::of_demo(&access);
        assert_eq!(next.find(&secret, now).unwrap().form_key, access.form_key);
        assert!(next.find(&first.add(None, caller(), None, now), now).is_none());
    }

    #[test]
    fn links_and_sessions_end() {
        let (sessions, now) = (ConsoleSessions::default(), Instant::now());
        let late = Instant::now() + LINK_LIFE + Duration::from_secs(1);
        assert_eq!(sessions.follow_link(&sessions.add_link(), None, late), None);
        let secret = sessions.add(None, caller(), None, now);
        assert!(sessions.find(&secret, now + SESSION_LIFE).is_some());
        assert!(sessions.find(&secret, now + SESSION_LIFE + Duration::from_secs(1)).is_none());
        sessions.end(&secret);
        assert!(sessions.find(&secret, now).is_none());
    }

    #[test]
    fn browser_keeps_the_key_of_its_forms() {
        let (sessions, now) = (ConsoleSessions::default(), Instant::now());
        let key = |cookie: &str| sessions.find(cookie, now).unwrap().form_key;
        let old = sessions.add(None, caller(), None, now);
        let old_key = key(&old);
        sessions.end(&old);
        let new = sessions.add(None, caller(), Some(&old), now);
        assert_eq!(key(&new), old_key);
        assert!(sessions.find(&old, now).is_none(), "the secret is another one");
        for other in ["", "x", ".", "x.short", &format!("x.{}", "!".repeat(43))] {
            let fresh = key(&sessions.add(None, caller(), Some(other), now));
            assert!(is_random_text(&fresh) && fresh != old_key, "{other:?}");
        }
    }

    #[test]
    fn oldest_session_gives_way() {
        let (sessions, now) = (ConsoleSessions::default(), Instant::now());
        let secrets: Vec<String> =
            (0..=MAX_SESSIONS).map(|_| sessions.add(None, caller(), None, now)).collect();
        let open: Vec<bool> = secrets.iter().map(|secret| sessions.find(secret, now).is_some()).collect();
        assert!(!open[0] && open[1..].iter().all(|is_open| *is_open));
    }
}
