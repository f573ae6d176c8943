//! The outcomes of messages as a stream of server-sent events.

use std::time::Duration;

use actix_web::web::{Bytes, Data, ReqData, ServiceConfig};
use actix_web::{Error, HttpResponse, get};
use futures_util::stream::poll_fn;
use serde::{Deserialize, Deserializer, de};
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

use super::page::ApiQuery;
use super::problem::ApiProblem;
use super::thread::ApiThread;
use crate::control::Caller;
use crate::domain::api_token::TokenHash;
use crate::domain::message_event::{EventFilter, MessageOutcome};
use crate::http::event_text::{HEARTBEAT, message_text, missed_text};
use crate::observe::{Heard, Listener, Telemetry};

/// Maximum streams at the same time, and listeners within the process.
const MAX_LISTENERS: usize = 16;

/// Interval between two signs of life of a stream without events, and between two checks of its token.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// Maximum age of a stream. Tokens of commands are deleted when it begins, so they cannot be checked again.
const MAX_AGE: Duration = Duration::from_hours(1);

/// Bytes after which events are sent, even if there are more.
const CHUNK_BYTES: usize = 32 * 1024;

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(stream_events);
}

/// Which events to send.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    /// Only events of the flow with this code. Dead letters of no flow are left out.
    flow: Option<String>,
    /// Only these outcomes, separated by commas.
    #[param(value_type = Option<Vec<MessageOutcome>>, style = Form, explode = false)]
    #[serde(default, deserialize_with = "outcomes")]
    outcome: Vec<MessageOutcome>,
}

fn outcomes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<MessageOutcome>, D::Error> {
    let list = String::deserialize(deserializer)?;
    let outcome = |name| {
        MessageOutcome::from_name(name)
            .ok_or_else(|| de::Error::custom(format!("outcome: {name:?} is unknown")))
    };
    list.split(',').map(outcome).collect()
}

/// The token of a stream, if it can be checked again.
struct StreamAccess {
    token: Option<TokenHash>,
    thread: Data<ApiThread>,
}

/// Streams the outcomes of messages of this gateway from now on, as server-sent events. The data of an event is a
/// `MessageEvent`. A client that is too slow gets an event of the type `missed`, with the number of events that it has
/// missed. Earlier events are not kept, so `Last-Event-ID` has no effect. The stream ends after an hour, or when its token
/// is revoked or expires.
#[utoipa::path(
    tag = "events",
    security(("token" = ["read"])),
    params(EventsQuery),
    responses((status = 200, content_type = "text/event-stream", body = String)),
)]
#[get("/events")]
pub(super) async fn stream_events(
    thread: Data<ApiThread>,
    telemetry: Data<Telemetry>,
    ApiQuery(query): ApiQuery<EventsQuery>,
    caller: ReqData<Caller>,
    token: ReqData<TokenHash>,
) -> Result<HttpResponse, ApiProblem> {
    let EventsQuery { flow, outcome } = query;
    let token = Some(token.into_inner()).filter(|_| !caller.is_command());
    let access = StreamAccess { token, thread: thread.clone() };
    let filter = EventFilter { flow, outcomes: outcome };
    let listener = telemetry.events.listen_within(MAX_LISTENERS).ok_or_else(ApiProblem::busy)?;
    let (chunks, mut body) = channel(1);
    thread.begin(async move || send_events(listener, filter, access, chunks).await)?;
    let body = poll_fn(move |context| body.poll_recv(context).map(|chunk| chunk.map(Ok::<Bytes, Error>)));
    Ok(HttpResponse::Ok().content_type("text/event-stream").streaming(body))
}

impl StreamAccess {
    async fn is_revoked(&self) -> bool {
        match &self.token {
            Some(token) => self.thread.is_revoked(*token).await,
            None => false,
        }
    }
}

/// Sends events until the client has left, the token is revoked, the stream is too old, or the gateway has ended. While
/// the client does not read, the listener falls behind.
async fn send_events(
    mut listener: Listener,
    filter: EventFilter,
    access: StreamAccess,
    chunks: Sender<Bytes>,
) {
    let (ends_at, mut checked_at) = (Instant::now() + MAX_AGE, Instant::now());
    // The first sign of life says that the stream has begun.
    let mut text = HEARTBEAT.to_owned();
    while Instant::now() < ends_at {
        if checked_at.elapsed() >= HEARTBEAT_INTERVAL {
            if access.is_revoked().await {
                return;
            }
            checked_at = Instant::now();
        }
        if chunks.send(text.into()).await.is_err() {
            return;
        }
        let until = ends_at.min(checked_at + HEARTBEAT_INTERVAL);
        let next = tokio::select! {
            next = next_chunk(&mut listener, &filter, until) => next,
            () = chunks.closed() => return,
        };
        let Some(next) = next else { return };
        text = next;
    }
}

/// The next events, or a sign of life at `until`. `None` if there are no more events.
async fn next_chunk(listener: &mut Listener, filter: &EventFilter, until: Instant) -> Option<String> {
    let mut text = String::new();
    while text.is_empty() {
        match timeout_at(until, listener.next()).await {
            Ok(None) => return None,
            Ok(Some(heard)) if Instant::now() < until => text.push_str(&heard_text(&heard, filter)),
            Ok(Some(heard)) => text.push_str(&(heard_text(&heard, filter) + HEARTBEAT)),
            Err(_) => text.push_str(HEARTBEAT),
        }
    }
    while text.len() < CHUNK_BYTES
        && let Some(heard) = listener.try_next()
    {
        text.push_str(&heard_text(&heard, filter));
    }
    Some(text)
}

fn heard_text(heard: &Heard, filter: &EventFilter) -> String {
    match heard {
        Heard::Event(event) if filter.matches(event) => message_text(event),
        Heard::Event(_) => String::new(),
        Heard::Missed(missed) => missed_text(*missed),
    }
}
