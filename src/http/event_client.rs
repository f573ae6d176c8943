//! Follows the events of a running gateway over its API.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use std::{io, thread};

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use actix_web::rt::System;
use awc::Client;
use awc::error::{ConnectError, SendRequestError};
use futures_util::StreamExt;
use tokio::time::timeout;
use url::Url;

use super::event_text::{EventReader, NotEvents, StreamedEvent};
use crate::domain::message_event::EventFilter;

/// Path of the events.
const PATH: &str = "api/v1/events";

/// Maximum time from the connect to the head of the answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time without a byte. The gateway sends a heartbeat more often.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(45);

/// Events that are received and not yet taken. Then the connection fills up, and the gateway leaves events out.
const MAX_UNTAKEN: usize = 256;

/// Maximum bytes of an answer that explains a refusal.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// Why the events cannot be followed, or no longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    /// No program listens at the address.
    #[error("no gateway answers: {0}")]
    NotRunning(String),
    /// The gateway refuses the request; another attempt would fail in the same way.
    #[error("{0}")]
    Refused(String),
    /// The stream has ended.
    #[error("{0}")]
    Lost(String),
    /// The answer is no stream of events.
    #[error(transparent)]
    NotEvents(#[from] NotEvents),
}

/// An item of a followed stream.
#[derive(Debug)]
pub(crate) enum Followed {
    /// The stream has begun.
    Opened,
    /// An event of the stream.
    Event(StreamedEvent),
}

/// Follows the events of the gateway at `url` on a thread of its own, until the receiver is dropped. The last item is
/// the error with which the stream ended.
pub(crate) fn follow_events(
    url: Url,
    token: String,
    filter: EventFilter,
) -> io::Result<Receiver<Result<Followed, FollowError>>> {
    let (sender, events) = sync_channel(MAX_UNTAKEN);
    thread::Builder::new().name("event-client".to_owned()).spawn(move || {
        let Err(error) = System::new().block_on(follow(&url, &token, &filter, &sender));
        // The receiver was dropped.
        let _ = sender.send(Err(error));
    })?;
    Ok(events)
}

async fn follow(
    url: &Url,
    token: &str,
    filter: &EventFilter,
    sender: &SyncSender<Result<Followed, FollowError>>,
) -> Result<Infallible, FollowError> {
    let client = Client::builder().timeout(HEAD_TIMEOUT).disable_redirects().finish();
    let request = client
        .get(events_url(url, filter).as_str())
        .insert_header((ACCEPT, "text/event-stream"))
        .insert_header((AUTHORIZATION, format!("Bearer {token}")))
        .no_decompress();
    let mut response = request.send().await.map_err(|error| not_sent(&error))?;
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if response.status() != StatusCode::OK {
        let status = response.status();
        let body = response.body().limit(MAX_PROBLEM_BYTES).await.unwrap_or_default();
        return Err(refusal(status, &body));
    }
    if !content_type.is_some_and(|value| value.starts_with("text/event-stream")) {
        return Err(NotEvents.into());
    }
    tell(sender, Followed::Opened)?;
    let mut reader = EventReader::default();
    loop {
        let bytes = match timeout(SILENCE_TIMEOUT, response.next()).await {
            Ok(Some(Ok(bytes))) => bytes,
            Ok(Some(Err(error))) => return Err(FollowError::Lost(error.to_string())),
            Ok(None) => return Err(FollowError::Lost("the gateway has ended the stream".to_owned())),
            Err(_) => {
                let silence = SILENCE_TIMEOUT.as_secs();
                return Err(FollowError::Lost(format!("nothing came for {silence} s")));
            }
        };
        for event in reader.read(&bytes)? {
            tell(sender, Followed::Event(event))?;
        }
    }
}

/// Waits if the receiver is slow: the thread has nothing else to do.
fn tell(sender: &SyncSender<Result<Followed, FollowError>>, followed: Followed) -> Result<(), FollowError> {
    sender.send(Ok(followed)).map_err(|_| FollowError::Lost("the receiver has left".to_owned()))
}

/// The URL of the events of the gateway at `url`.
fn events_url(url: &Url, filter: &EventFilter) -> Url {
    let mut url = url.clone();
    let path = format!("{}/{PATH}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    url.set_query(None);
    let outcomes: Vec<&str> = filter.outcomes.iter().map(|outcome| outcome.as_str()).collect();
    if let Some(flow) = &filter.flow {
        url.query_pairs_mut().append_pair("flow", flow);
    }
    if !outcomes.is_empty() {
        url.query_pairs_mut().append_pair("outcome", &outcomes.join(","));
    }
    url
}

pub(super) fn not_sent(error: &SendRequestError) -> FollowError {
    match error {
        SendRequestError::Connect(ConnectError::Io(error)) => FollowError::NotRunning(error.to_string()),
        SendRequestError::Connect(error) => FollowError::NotRunning(error.to_string()),
        SendRequestError::Timeout => {
            FollowError::NotRunning(format!("nothing came for {} s", HEAD_TIMEOUT.as_secs()))
        }
        error => FollowError::Lost(error.to_string()),
    }
}

/// The text of problem details. A busy or starting gateway may accept the next attempt.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> FollowError {
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| problem[name].as_str().map(str::to_owned);
    let detail = text("detail").unwrap_or_else(|| format!("HTTP status {status}"));
    let refusal = match text("remedy") {
        Some(remedy) => format!("{detail}; {remedy}"),
        None => detail,
    };
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        FollowError::Lost(refusal)
    } else {
        FollowError::Refused(refusal)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::message_event::MessageOutcome;

    #[test]
    fn filter_is_in_the_query() {
        let url =
            |base: &str, filter: &EventFilter| events_url(&Url::parse(base).unwrap(), filter).to_string();
        let all = EventFilter::default();
        assert_eq!(url("http://h:1", &all), "http://h:1/api/v1/events");
        assert_eq!(url("http://h/gate/?x=1", &all), "http://h/gate/api/v1/events");
        let filter = EventFilter {
            flow: Some("A&B".to_owned()),
            outcomes: vec![MessageOutcome::Stored, MessageOutcome::Dead],
        };
        assert_eq!(url("http://h", &filter), "http://h/api/v1/events?flow=A%26B&outcome=stored%2Cdead");
    }

    #[test]
    fn refusals_say_what_the_gateway_says() {
        let body = br#"{"detail": "the token is wrong", "remedy": "make another"}"#;
        let refused = refusal(StatusCode::UNAUTHORIZED, body);
        assert!(matches!(&refused, FollowError::Refused(text) if text == "the token is wrong; make another"));
        let busy = refusal(StatusCode::SERVICE_UNAVAILABLE, b"");
        assert!(matches!(&busy, FollowError::Lost(text) if text.contains("503")), "{busy:?}");
    }
}
