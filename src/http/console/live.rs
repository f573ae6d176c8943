//! Keeps the parts of a page with `data-live` up to date while the page is open, and shows the messages of its flow.
//!
//! ```text
//! script of the page ── GET /live?page=… ──▶ LiveStream: makes the page again, and sends
//!                    ◀── event part ───────     the parts that have changed,
//!                    ◀── event tail ───────     and the latest messages of the flow
//! ```
//!
//! A page that is not made here is asked for by the script every few seconds.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::web::{Bytes, Data};
use futures_util::stream::poll_fn;
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::demo_access::DemoAccess;
use super::fields::Fields;
use super::overview;
use super::page::{ConsoleError, Page};
use super::sessions::ConsoleSessions;
use super::visitor::{Guest, Visitor};
use super::{actors, deliveries, demo, flows, replicas};
use crate::control::{event_line, missed_line};
use crate::domain::invisible::escape_in_json;
use crate::domain::message_event::MessageEvent;
use crate::domain::value_style::ValueStyle;
use crate::http::api::problem::ApiProblem;
use crate::http::api::thread::ApiThread;
use crate::http::event_text::HEARTBEAT;
use crate::observe::{FlowTail, KeptEvents, Telemetry};

/// Maximum streams at the same time. A further page is asked for by its script.
const MAX_STREAMS: usize = 32;

/// Interval between two events of a stream.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// Interval at which a page that needs the database is made again.
const DATABASE_INTERVAL: Duration = Duration::from_secs(5);

/// Share of the time in which pages are made: one part in this number.
const MAX_SHARE: u32 = 20;

/// Interval between two signs of life.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// Maximum age of a stream. The script opens another one.
const MAX_AGE: Duration = Duration::from_hours(1);

/// Shared by all streams.
pub(in crate::http) struct LiveStreams(Arc<Semaphore>);

impl Default for LiveStreams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_STREAMS)))
    }
}

/// A page that is open in a browser.
struct LiveStream {
    _permit: OwnedSemaphorePermit,
    path: LivePath,
    visitor: Visitor,
    secret: String,
    telemetry: Data<Telemetry>,
    thread: Data<ApiThread>,
    sessions: Data<ConsoleSessions>,
    demo: Option<Data<DemoAccess>>,
    style: ValueStyle,
    tail: Option<FlowTail>,
    /// The parts that the browser has.
    shown: BTreeMap<String, String>,
    next_page: Instant,
}

/// A page that is made for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LivePath {
    Overview,
    Actors,
    Flow,
    Deliveries,
    WaitingPosts,
    Replicas,
    Demo,
}

#[derive(Serialize)]
struct TailLine {
    outcome: &'static str,
    line: String,
}

/// Streams the changes of the page of the query.
pub(super) async fn follow(
    visitor: Visitor,
    guest: Guest,
    telemetry: Data<Telemetry>,
    thread: Data<ApiThread>,
    sessions: Data<ConsoleSessions>,
    streams: Data<LiveStreams>,
    demo: Option<Data<DemoAccess>>,
) -> Result<HttpResponse, ConsoleError> {
    let page = visitor.query.get("page").to_owned();
    let (path, query) = page.split_once('?').unwrap_or((&page, ""));
    let path = LivePath::parse(path).ok_or_else(ApiProblem::unknown_path)?;
    let permit = Arc::clone(&streams.0).try_acquire_owned().map_err(|_| ApiProblem::busy())?;
    let mut visitor = visitor;
    visitor.query = Fields::parse(query.as_bytes());
    let tail = (path == LivePath::Flow).then(|| telemetry.events.tail(visitor.query.get("code").to_owned()));
    let stream = LiveStream {
        _permit: permit,
        path,
        visitor,
        secret: guest.secret.unwrap_or_default(),
        style: thread.value_style(),
        telemetry,
        thread: thread.clone(),
        sessions,
        demo,
        tail,
        shown: BTreeMap::new(),
        next_page: Instant::now(),
    };
    let (chunks, mut body) = channel(1);
    thread.begin(async move || stream.send(chunks).await)?;
    let body =
        poll_fn(move |context| body.poll_recv(context).map(|chunk| chunk.map(Ok::<Bytes, Infallible>)));
    Ok(HttpResponse::Ok().content_type("text/event-stream").streaming(body))
}

impl LivePath {
    fn parse(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Overview,
            "/actors" => Self::Actors,
            "/flow" => Self::Flow,
            "/deliveries" => Self::Deliveries,
            "/deliveries/posts" => Self::WaitingPosts,
            "/replicas" => Self::Replicas,
            "/demo" => Self::Demo,
            _ => return None,
        })
    }

    fn interval(self) -> Duration {
        match self {
            Self::Overview | Self::Actors => TICK_INTERVAL,
            Self::Flow | Self::Deliveries | Self::WaitingPosts | Self::Replicas | Self::Demo => {
                DATABASE_INTERVAL
            }
        }
    }
}

impl LiveStream {
    /// Sends events until the session or the client has gone, or the stream is too old. A client that does not read
    /// gets fewer.
    async fn send(mut self, chunks: Sender<Bytes>) {
        let ends_at = Instant::now() + MAX_AGE;
        let mut spoke_at = None;
        while Instant::now() < ends_at && self.is_permitted().await {
            let mut text = self.changed_parts().await;
            text.push_str(&self.latest_messages());
            if text.is_empty() && spoke_at.is_none_or(|at: Instant| at.elapsed() >= HEARTBEAT_INTERVAL) {
                HEARTBEAT.clone_into(&mut text);
            }
            if !text.is_empty() {
                spoke_at = Some(Instant::now());
                if chunks.send(text.into()).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = sleep(TICK_INTERVAL) => {}
                () = chunks.closed() => return,
            }
        }
    }

    async fn is_permitted(&mut self) -> bool {
        match self.visitor.again(&self.secret, &self.thread, &self.sessions).await {
            Some(caller) => {
                self.visitor.caller = caller;
                true
            }
            None => false,
        }
    }

    /// Makes the page again if it is time. A page that cannot be made stays as it is.
    async fn changed_parts(&mut self) -> String {
        let began = Instant::now();
        if began < self.next_page {
            return String::new();
        }
        let page = self.make_page().await;
        let ended = Instant::now();
        self.next_page = began + self.path.interval().max((ended - began) * MAX_SHARE);
        let Ok(page) = page else { return String::new() };
        let mut text = String::new();
        for (name, html) in live_parts(page.body()) {
            if self.shown.get(name).is_none_or(|shown| shown != html) {
                text.push_str(&event("part", &json!({"name": name, "html": html})));
                self.shown.insert(name.to_owned(), html.to_owned());
            }
        }
        text
    }

    async fn make_page(&self) -> Result<Page, ConsoleError> {
        let (visitor, thread) = (self.visitor.clone(), self.thread.clone());
        match self.path {
            LivePath::Overview => {
                let database = thread.database_status(DATABASE_INTERVAL).await;
                overview::page(&visitor, &self.telemetry, &database)
            }
            LivePath::Actors => actors::show(visitor, self.telemetry.clone()).await,
            LivePath::Flow => flows::show(visitor, self.telemetry.clone(), thread).await,
            LivePath::Deliveries => deliveries::list(visitor, self.telemetry.clone(), thread).await,
            LivePath::WaitingPosts => deliveries::list_posts(visitor, thread).await,
            LivePath::Replicas => replicas::list(visitor, thread).await,
            LivePath::Demo => match self.demo.clone() {
                Some(demo) => demo::show(visitor, demo).await,
                None => Err(ApiProblem::unknown_path().into()),
            },
        }
    }

    fn latest_messages(&self) -> String {
        let Some(tail) = &self.tail else { return String::new() };
        let KeptEvents { events, further } = tail.take();
        if events.is_empty() {
            return String::new();
        }
        let line = |event: MessageEvent| TailLine {
            outcome: event.outcome.as_str(),
            line: event_line(&event, self.style),
        };
        let lines: Vec<TailLine> = events.into_iter().map(line).collect();
        let further = (further > 0).then(|| missed_line(further));
        event("tail", &json!({"lines": lines, "further": further}))
    }
}

fn event(kind: &str, data: &impl Serialize) -> String {
    // All names are texts, so this cannot fail.
    let json = serde_json::to_string(data).unwrap_or_default();
    format!("event: {kind}\ndata: {}\n\n", escape_in_json(json))
}

/// The elements of a page with `data-live`, by name. The templates close all their elements, and no text of others has
/// a tag in it, since all of it is escaped.
fn live_parts(page: &str) -> Vec<(&str, &str)> {
    const MARK: &str = " data-live=\"";
    let mut parts = Vec::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once(MARK) {
        let found = before.rsplit_once('<').and_then(|(before, opening)| {
            let (tag, element) = (opening.split(' ').next()?, rest.get(before.len()..)?);
            Some((after.split('"').next()?, element.get(..length_of(element, tag)?)?))
        });
        parts.extend(found);
        rest = after;
    }
    parts
}

/// Length of the element with this tag that begins a text.
fn length_of(text: &str, tag: &str) -> Option<usize> {
    let (opening, closing) = (format!("<{tag}"), format!("</{tag}>"));
    let (mut depth, mut place) = (0_usize, 0);
    loop {
        let rest = text.get(place..)?;
        let next_closing = rest.find(&closing)?;
        // Another tag may begin with the same letters.
        let is_it = |at: &usize| rest.get(at + opening.len()..)?.chars().next().filter(|c| " >".contains(*c));
        let openings = rest.match_indices(&opening).map(|(at, _)| at).take_while(|at| *at < next_closing);
        if let Some(at) = openings.into_iter().find(|at| is_it(at).is_some()) {
            depth += 1;
            place += at + opening.len();
            continue;
        }
        depth = depth.checked_sub(1)?;
        place += next_closing + closing.len();
        if depth == 0 {
            return Some(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_elements_are_found_with_their_content() {
        let page = "<p>a</p><div data-live=\"x\"><div class=\"d\"><divan></divan></div></div>\
                    <dl class=\"c\" data-live=\"y\"><dt>1</dt></dl><div></div>";
        let x = "<div data-live=\"x\"><div class=\"d\"><divan></divan></div></div>";
        let y = "<dl class=\"c\" data-live=\"y\"><dt>1</dt></dl>";
        assert_eq!(live_parts(page), [("x", x), ("y", y)]);
        assert_eq!(live_parts("<p>data-live</p>"), []);
        assert_eq!(live_parts("<div data-live=\"x\"><div></div>"), [], "it is not closed");
    }

    #[test]
    fn events_are_one_line() {
        let text = event("part", &json!({"html": "a\nb\u{2028}<&\u{202e}"}));
        assert_eq!(text, "event: part\ndata: {\"html\":\"a\\nb\\u2028<&\\u202e\"}\n\n");
    }
}
