//! HTTP endpoints that misbehave by a script, and a record of all posts that came to any of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::prelude::ChronoUtc;

use super::PATIENCE;
use super::http_sink::{OK, Reply, Request, Sink};

/// Longer than the gateway reads of an answer.
const LONG_BODY: usize = 10 << 20;

/// Place to which [`Fault::Moved`] sends a post.
const MOVED_TO: &str = "/moved";

/// A reaction other than a plain 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status, without a body.
    Status(u16),
    /// 429 with `Retry-After` in seconds.
    RetryAfterSeconds(u64),
    /// 429 with `Retry-After` as a date, this many seconds from now.
    RetryAfterDate(u64),
    /// This interim status, then 200.
    Interim(u16),
    /// 307 to another path of the endpoint, which accepts every post.
    Moved,
    /// 302 to the same path.
    Found,
    /// No answer on a connection that stays open.
    Hang,
    /// 200, as soon as the test calls [`Endpoints::release`].
    Held,
    /// The connection is closed after the request was read.
    Cut,
    /// 200 with a body of 10 MiB.
    LongBody,
    /// 200 in a head that violates HTTP.
    MalformedHead,
    /// Bytes that are no HTTP.
    Garbage,
}

/// What an answer means for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Accepted,
    Refused,
    Failed,
}

impl Fault {
    fn meaning(self) -> Meaning {
        match self {
            Fault::Status(200..=299)
            | Fault::Interim(_)
            | Fault::Held
            | Fault::LongBody
            | Fault::MalformedHead => Meaning::Accepted,
            Fault::Status(400 | 413 | 415 | 422) => Meaning::Refused,
            _ => Meaning::Failed,
        }
    }

    fn reply(self) -> Reply {
        let head = |status: &str, headers: &str| {
            Reply::Bytes(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\n\r\n").into_bytes())
        };
        match self {
            Fault::Status(status) => head(&format!("{status} Told"), ""),
            Fault::RetryAfterSeconds(seconds) => head("429 Later", &format!("Retry-After: {seconds}\r\n")),
            Fault::RetryAfterDate(seconds) => {
                let at = ChronoUtc::now() + Duration::from_secs(seconds);
                head("429 Later", &format!("Retry-After: {}\r\n", at.format("%a, %d %b %Y %H:%M:%S GMT")))
            }
            Fault::Interim(status) => {
                Reply::Bytes([format!("HTTP/1.1 {status} Wait\r\n\r\n").as_bytes(), OK].concat())
            }
            Fault::Moved => head("307 Moved", &format!("Location: {MOVED_TO}\r\n")),
            Fault::Found => head("302 Found", "Location: /in\r\n"),
            Fault::Hang => Reply::Stall(Vec::new()),
            Fault::Held => Reply::ok(),
            Fault::Cut => Reply::Last(Vec::new()),
            Fault::LongBody => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG_BODY}\r\n\r\n");
                Reply::Bytes([head.as_bytes(), &vec![b'x'; LONG_BODY]].concat())
            }
            Fault::MalformedHead => {
                let head = "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok";
                Reply::Last(head.into())
            }
            Fault::Garbage => Reply::Last(b"\x16\x03\x01 is no HTTP\r\n\r\n".to_vec()),
        }
    }
}

/// A post as a script sees it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    pub message_id: i64,
    /// How often the message has come to any endpoint, this time included.
    pub number: usize,
}

/// A post that came, with the meaning of its answer.
#[derive(Clone, Debug)]
pub struct Post {
    pub at: Instant,
    pub flow: String,
    pub message_id: i64,
    pub key: String,
    pub body: Vec<u8>,
    pub meaning: Meaning,
}

/// Endpoints on ports of their own. They listen until the test process ends.
pub struct Endpoints {
    sinks: Vec<Sink>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    posts: Vec<Post>,
    attempts: HashMap<String, usize>,
    is_released: bool,
}

impl Endpoints {
    pub fn new() -> Endpoints {
        Endpoints { sinks: Vec::new(), shared: Arc::default() }
    }

    /// Adds an endpoint and returns its URL. `script` gives the fault of each attempt; without one the endpoint accepts
    /// the post.
    pub fn add(&mut self, script: impl Fn(Attempt) -> Option<Fault> + Send + Sync + 'static) -> String {
        let shared = Arc::clone(&self.shared);
        let sink = Sink::start(move |request| shared.answer(request, &script));
        let url = sink.url();
        self.sinks.push(sink);
        url
    }

    /// Lets the endpoints answer the posts of [`Fault::Held`].
    pub fn release(&self) {
        self.shared.state.lock().unwrap().is_released = true;
        self.shared.changed.notify_all();
    }

    /// All posts so far, in the order of their arrival at any endpoint.
    pub fn posts(&self) -> Vec<Post> {
        self.shared.state.lock().unwrap().posts.clone()
    }

    pub fn count(&self) -> usize {
        self.shared.state.lock().unwrap().posts.len()
    }

    /// Waits until this many posts have come, while they come.
    pub fn wait_for(&self, posts: usize) {
        let mut seen = self.count();
        while seen < posts {
            self.wait_until(&format!("{posts} posts"), |now| now.len() > seen);
            seen = self.count();
        }
    }

    /// Waits until the posts are as `is_so` says.
    ///
    /// # Panics
    /// When they are not in time, with `what` in the message.
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&[Post]) -> bool) {
        let state = self.shared.state.lock().unwrap();
        let waited =
            self.shared.changed.wait_timeout_while(state, PATIENCE, |state| !is_so(&state.posts)).unwrap();
        let (is_late, posts) = (waited.1.timed_out(), waited.0.posts.len());
        // A panic that holds the lock would make all endpoints fail.
        drop(waited);
        assert!(!is_late, "timed out waiting for: {what}; {posts} posts came");
    }
}

impl Shared {
    fn answer(&self, request: &Request, script: &dyn Fn(Attempt) -> Option<Fault>) -> Reply {
        // A failed assertion of the test leaves the lock poisoned.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, message_id) =
            (request.header("idempotency-key"), request.header("x-gateway-message-id").parse().unwrap());
        assert_eq!(key, request.header("webhook-id"));
        let number = state.attempts.entry(key.clone()).and_modify(|number| *number += 1).or_insert(1);
        let is_moved = request.line.contains(MOVED_TO);
        let fault = if is_moved { None } else { script(Attempt { message_id, number: *number }) };
        state.posts.push(Post {
            at: Instant::now(),
            flow: request.header("x-gateway-flow"),
            message_id,
            key,
            body: request.body.clone(),
            meaning: fault.map_or(Meaning::Accepted, Fault::meaning),
        });
        self.changed.notify_all();
        if fault == Some(Fault::Held) {
            drop(self.changed.wait_while(state, |state| !state.is_released));
        }
        fault.map_or_else(Reply::ok, Fault::reply)
    }
}

/// The messages of a flow that were answered like that.
pub fn ids(posts: &[Post], flow: &str, meaning: Meaning) -> BTreeSet<i64> {
    let of_flow = posts.iter().filter(|post| post.flow == flow && post.meaning == meaning);
    of_flow.map(|post| post.message_id).collect()
}

/// Asserts that each message has one key and one body, and that no two messages share a key.
pub fn assert_one_key_for_each_message(posts: &[Post]) {
    let mut by_key: HashMap<&str, &Post> = HashMap::new();
    let mut by_message: HashMap<(&str, i64), &Post> = HashMap::new();
    for post in posts {
        let first = by_key.entry(&post.key).or_insert(post);
        assert_eq!((&first.flow, first.message_id), (&post.flow, post.message_id), "one key, two messages");
        assert_eq!(first.body, post.body, "message {} of {} has changed", post.message_id, post.flow);
        let first = by_message.entry((&post.flow, post.message_id)).or_insert(post);
        assert_eq!(first.key, post.key, "message {} of {} has two keys", post.message_id, post.flow);
    }
}

/// Asserts that the messages of each flow came in order for the first time, none left out, and each only after the
/// answer to its predecessor had settled that.
pub fn assert_in_order(posts: &[Post]) {
    let mut flows: HashMap<&str, (i64, bool)> = HashMap::new();
    for post in posts {
        let (highest, is_settled) = flows.entry(&post.flow).or_insert((0, true));
        if post.message_id > *highest {
            let is_next = post.message_id == *highest + 1 && *is_settled;
            assert!(is_next, "{}: message {} has overtaken {highest}", post.flow, post.message_id);
            (*highest, *is_settled) = (post.message_id, false);
        }
        *is_settled |= post.message_id == *highest && post.meaning != Meaning::Failed;
    }
}
