//! Sessions of browsers, in memory: they end with the process. Only the session of a demo goes on in its next process.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::demo_access::DemoAccess;
use super::random_text::random_text;
use crate::control::Caller;
use crate::domain::api_token::{TokenHash, TokenScope};

/// Life of a session.
pub(super) const SESSION_LIFE: Duration = Duration::from_hours(12);

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
        sessions.add_of_link(now);
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

    /// Opens a session by a link, which is valid once. Returns the secret of the session.
    pub(super) fn follow_link(&self, secret: &str, now: Instant) -> Option<String> {
        let given = TokenHash::of_token(secret);
        let mut open = self.open();
        let place = open.links.iter().position(|(hash, _)| hash.matches(&given))?;
        let (_, since) = open.links.remove(place);
        drop(open);
        if now.saturating_duration_since(since) > LINK_LIFE {
            return None;
        }
        Some(self.add_of_link(now))
    }

    fn add_of_link(&self, now: Instant) -> String {
        let caller = Caller { token: LINK_NAME.to_owned(), scope: TokenScope::Admin };
        match self.of_links.clone() {
            None => self.add(None, caller, now),
            Some((secret, form_key)) => {
                self.end(&secret);
                self.keep(secret, Session { form_key, token: None, caller, since: now })
            }
        }
    }

    /// Opens a session of the caller with this token. Returns the secret of the session.
    pub(super) fn add(&self, token: Option<TokenHash>, caller: Caller, now: Instant) -> String {
        self.keep(random_text(), Session { form_key: random_text(), token, caller, since: now })
    }

    fn keep(&self, secret: String, session: Session) -> String {
        let now = session.since;
        let mut open = self.open();
        open.sessions.retain(|(_, session)| !session.is_over(now));
        open.sessions.push((TokenHash::of_token(&secret), session));
        let excess = open.sessions.len().saturating_sub(MAX_SESSIONS);
        open.sessions.drain(..excess);
        secret
    }

    /// The session with this secret.
    pub(super) fn find(&self, secret: &str, now: Instant) -> Option<Session> {
        let given = TokenHash::of_token(secret);
        let open = self.open();
        let found = open.sessions.iter().find(|(hash, _)| hash.matches(&given));
        found.map(|(_, session)| session.clone()).filter(|session| !session.is_over(now))
    }

    /// Ends the session with this secret.
    pub(super) fn end(&self, secret: &str) {
        let given = TokenHash::of_token(secret);
        self.open().sessions.retain(|(hash, _)| !hash.matches(&given));
    }

    fn open(&self) -> MutexGuard<'_, OpenSessions> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        assert_eq!(sessions.follow_link("wrong", now), None);
        let secret = sessions.follow_link(&link, now).unwrap();
        assert_eq!(sessions.find(&secret, now).unwrap().caller.scope, TokenScope::Admin);
        assert_eq!(sessions.follow_link(&link, now), None);
    }

    #[test]
    fn session_of_a_demo_survives_its_process() {
        let (access, now) = (DemoAccess::new("127.0.0.1:1"), Instant::now());
        let first = ConsoleSessions::of_demo(&access);
        let secret = first.follow_link(&access.link, now).unwrap();
        assert_eq!(first.follow_link(&access.link, now), None);
        let next = ConsoleSessions::of_demo(&access);
        assert_eq!(next.find(&secret, now).unwrap().form_key, access.form_key);
        assert!(next.find(&first.add(None, caller(), now), now).is_none());
    }

    #[test]
    fn links_and_sessions_end() {
        let (sessions, now) = (ConsoleSessions::default(), Instant::now());
        let late = Instant::now() + LINK_LIFE + Duration::from_secs(1);
        assert_eq!(sessions.follow_link(&sessions.add_link(), late), None);
        let secret = sessions.add(None, caller(), now);
        assert!(sessions.find(&secret, now + SESSION_LIFE).is_some());
        assert!(sessions.find(&secret, now + SESSION_LIFE + Duration::from_secs(1)).is_none());
        sessions.end(&secret);
        assert!(sessions.find(&secret, now).is_none());
    }

    #[test]
    fn oldest_session_gives_way() {
        let (sessions, now) = (ConsoleSessions::default(), Instant::now());
        let secrets: Vec<String> = (0..=MAX_SESSIONS).map(|_| sessions.add(None, caller(), now)).collect();
        let open: Vec<bool> = secrets.iter().map(|secret| sessions.find(secret, now).is_some()).collect();
        assert!(!open[0] && open[1..].iter().all(|is_open| *is_open));
    }
}
