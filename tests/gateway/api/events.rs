//! The stream of events.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use test_support::publisher::Message;
use test_support::world::Backend;

use super::{ApiClient, Served, problem};
use crate::commands::succeeds;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// More than the gateway keeps for a slow reader, and more than the buffers of a connection hold.
const FLOOD: u32 = 20_000;

/// Maximum number of streams.
const MAX_STREAMS: usize = 16;

/// An open stream.
struct Events(BufReader<TcpStream>);

impl Events {
    /// Opens a stream; returns after its first sign of life.
    fn open(client: &ApiClient, query: &str) -> Self {
        let ApiClient { address, token } = client;
        let mut events = Self(BufReader::new(connect(*address)));
        let head = format!(
            "GET /api/v1/events{query} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        events.0.get_mut().write_all(head.as_bytes()).unwrap();
        assert_eq!(events.line(), "HTTP/1.1 200 OK");
        while events.line() != ": alive" {}
        events
    }

    /// The next line. The sizes of chunks are lines as well.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the stream has ended");
        line.trim_end().to_owned()
    }

    /// The data of the next event.
    fn data(&mut self) -> Value {
        loop {
            // A chunk may end within a line only if it is longer than all of these.
            if let Some(data) = self.line().strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn served() -> Served {
    let world = crate::commands::world(Backend::Sqlite);
    world.flow("a", "a").insert(&world.sql);
    world.flow("b", "b").insert(&world.sql);
    let mark = world.broker.mark();
    let served = Served::new(world);
    served.world.wait_for_flows(mark);
    served
}

#[test]
fn stream_has_the_chosen_events() {
    let served = served();
    let reader = served.client("read");
    let mut all = Events::open(&reader, "");
    let mut of_b = Events::open(&reader, "?flow=b&outcome=stored,dead");
    served.world.publish("a", r#"{"n": 1}"#);
    served.world.publish("b", r#"{"n": 2}"#);
    assert_eq!(all.data()["flow"], "a");
    let event = of_b.data();
    assert_eq!((&event["flow"], &event["message_id"]), (&"b".into(), &1.into()));
    assert_eq!((&event["outcome"], &event["payload"]), (&"stored".into(), &r#"{"n": 2}"#.into()));
}

#[test]
fn wrong_requests_for_events_are_refused() {
    let served = served();
    problem(&served.admin.get("/events?outcome=lost"), 400, "bad_request");
    problem(&served.admin.get("/events?since=1"), 400, "bad_request");
    problem(&served.admin.with_token("mqg_wrong").get("/events"), 401, "unauthorized");
}

#[test]
fn stream_of_a_revoked_token_ends() {
    let served = served();
    let mut kept = Events::open(&served.admin, "");
    let mut revoked = Events::open(&served.client("read"), "");
    succeeds(&served.world, &["tokens", "revoke", "t-read"]);
    let mut rest = String::new();
    revoked.0.read_to_string(&mut rest).unwrap();
    served.world.publish("a", r#"{"n": 1}"#);
    assert_eq!(kept.data()["flow"], "a");
}

#[test]
fn number_of_streams_is_limited() {
    let served = served();
    let mut streams: Vec<Events> = (0..MAX_STREAMS).map(|_| Events::open(&served.admin, "")).collect();
    let busy = served.admin.get("/events");
    problem(&busy, 503, "busy");
    assert!(busy.headers.contains_key("retry-after"), "{busy:?}");
    streams.pop();
    test_support::eventually("a free stream", || {
        let ApiClient { address, token } = &served.admin;
        let mut stream = connect(*address);
        let head = format!(
            "GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.contains(" 200 ").then_some(())
    });
}

#[test]
fn slow_reader_misses_events_and_delays_nothing() {
    let served = served();
    let mut slow = Events::open(&served.admin, "");
    let payload = format!(r#"{{"v": "{}"}}"#, "x".repeat(1_000));
    let messages = (0..FLOOD).map(|_| Message::new(&served.world.topic("a"), payload.clone()));
    served.world.publish_all(messages);
    served.world.wait_for_last_msg_id("a", FLOOD.into());
    let (mut shown, mut missed, mut last) = (0, 0, 0);
    while last < u64::from(FLOOD) {
        let event = slow.data();
        if let Some(count) = event["missed"].as_u64() {
            missed += count;
            continue;
        }
        shown += 1;
        last = event["message_id"].as_u64().unwrap();
        assert_eq!(last, shown + missed, "in order, and all others are counted");
    }
    assert!(missed > 0, "{shown} were shown");
    assert_eq!(shown + missed, u64::from(FLOOD));
}
