//! Follows one gateway, and again after its restarts.

use std::io;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use url::Url;

use crate::cli::operate::origin;
use crate::control::{Control, ControlError, LiveToken};
use crate::domain::message_event::EventFilter;
use crate::domain::redaction::shown_url;
use crate::http::{FollowError, Followed, StreamedEvent, follow_events};
use crate::settings::Settings;

/// Delay before the next attempt, after the connection was lost.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A gateway to follow.
#[derive(Debug, Clone)]
pub(super) struct WatchedGateway {
    pub(super) url: Url,
    /// `None` to make a token for each connection.
    pub(super) token: Option<String>,
    pub(super) filter: EventFilter,
    pub(super) settings: Settings,
}

/// What a watcher tells the thread that prints.
#[derive(Debug)]
pub(super) enum Told {
    /// An event.
    Event(StreamedEvent),
    /// The connection was made, for the first time or again.
    Connected(String),
    /// Another notice for people.
    Notice(String),
    /// The gateway cannot be followed.
    Failed(ControlError),
}

/// Why a connection was not made, or is over.
enum WatchEnd {
    /// Another attempt would end in the same way.
    Refused(ControlError),
    /// Another attempt may succeed.
    Lost(String),
    /// The thread that prints has ended.
    NobodyListens,
}

/// What has been said about the connection.
#[derive(Default)]
struct ConnectionState {
    was_open: bool,
    is_lost: bool,
}

/// Makes the tokens of the connections, and deletes them.
struct TokenMaker {
    runtime: Runtime,
    control: Control,
}

impl WatchedGateway {
    /// Follows the gateway until it refuses, or nothing prints any more.
    pub(super) fn watch(&self, sender: &SyncSender<Told>) {
        if let Err(error) = self.try_watch(sender) {
            // The command may be about to end.
            let _ = sender.send(Told::Failed(error));
        }
    }

    fn try_watch(&self, sender: &SyncSender<Told>) -> Result<(), ControlError> {
        let url = shown_url(self.url.as_str());
        let tokens = self.token_maker()?;
        let mut state = ConnectionState::default();
        loop {
            match self.follow(&url, tokens.as_ref(), sender, &mut state) {
                WatchEnd::NobodyListens => return Ok(()),
                WatchEnd::Refused(error) => return Err(error),
                WatchEnd::Lost(problem) if !state.was_open => return Err(not_followed(&url, &problem)),
                WatchEnd::Lost(_) if state.is_lost => {}
                WatchEnd::Lost(problem) => {
                    state.is_lost = true;
                    notice(sender, format!("Connection to {url} lost: {problem}. Trying again"));
                }
            }
            thread::sleep(RETRY_DELAY);
        }
    }

    /// Connects to the database if tokens must be made, and checks that the flow exists.
    fn token_maker(&self) -> Result<Option<TokenMaker>, ControlError> {
        if self.token.is_some() {
            return Ok(None);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| thread_failed(&error))?;
        let control = runtime.block_on(async {
            let control = Control::connect(self.settings.clone(), origin()).await?;
            if let Some(code) = &self.filter.flow {
                control.flow(code).await?;
            }
            Ok::<_, ControlError>(control)
        })?;
        Ok(Some(TokenMaker { runtime, control }))
    }

    /// Follows the gateway over one connection.
    fn follow(
        &self,
        url: &str,
        tokens: Option<&TokenMaker>,
        sender: &SyncSender<Told>,
        state: &mut ConnectionState,
    ) -> WatchEnd {
        let made = match tokens.map(TokenMaker::make).transpose() {
            Ok(made) => made,
            Err(error) => return WatchEnd::Lost(error.to_string()),
        };
        let token = made.as_ref().map(|made| made.text().to_owned()).or_else(|| self.token.clone());
        let followed = follow_events(self.url.clone(), token.unwrap_or_default(), self.filter.clone());
        let followed = match followed {
            Ok(followed) => followed,
            Err(error) => return WatchEnd::Refused(thread_failed(&error)),
        };
        // The first item says whether the token was accepted. It is of no use afterwards.
        let mut items = followed.iter().peekable();
        items.peek();
        if let (Some(tokens), Some(made)) = (tokens, &made) {
            tokens.delete(made);
        }
        for item in items {
            let told = match item {
                Ok(Followed::Opened) => {
                    let text = if state.was_open {
                        format!("Connected to {url} again. Messages in between are not shown")
                    } else {
                        format!("Connected to {url}")
                    };
                    *state = ConnectionState { was_open: true, is_lost: false };
                    Told::Connected(text)
                }
                Ok(Followed::Event(event)) => Told::Event(event),
                Err(error @ (FollowError::Refused(_) | FollowError::NotEvents(_))) => {
                    return WatchEnd::Refused(not_followed(url, &error.to_string()));
                }
                Err(error) => return WatchEnd::Lost(error.to_string()),
            };
            if sender.send(told).is_err() {
                return WatchEnd::NobodyListens;
            }
        }
        WatchEnd::Lost("the connection has ended".to_owned())
    }
}

impl TokenMaker {
    fn make(&self) -> Result<LiveToken, ControlError> {
        self.runtime.block_on(self.control.make_live_token())
    }

    /// A token that cannot be deleted expires within a minute.
    fn delete(&self, token: &LiveToken) {
        if let Err(error) = self.runtime.block_on(self.control.delete_live_token(token)) {
            log::warn!("Cannot delete the token of this command, which expires within a minute: {error}");
        }
    }
}

fn notice(sender: &SyncSender<Told>, text: String) {
    // The thread that prints may have ended; then so does the process.
    let _ = sender.send(Told::Notice(text));
}

fn not_followed(url: &str, problem: &str) -> ControlError {
    let remedy = "start the gateway, or check ADMIN_BIND, --url and the token";
    ControlError::invalid("gateway", format!("{url}: {problem}"), remedy)
}

fn thread_failed(error: &io::Error) -> ControlError {
    ControlError::invalid("thread", format!("cannot be started: {error}"), "check the limits of this user")
}
