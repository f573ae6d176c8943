//! The streams that keep open pages up to date.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use test_support::eventually;
use test_support::world::Backend;

use super::{Browser, Served};
use crate::commands::succeeds;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Maximum number of streams.
const MAX_STREAMS: usize = 32;

/// An open stream.
struct LiveStream(BufReader<TcpStream>);

impl LiveStream {
    /// Asks for the stream of a page, in the form of a query.
    fn ask(browser: &Browser, page: &str) -> (Self, String) {
        let stream = TcpStream::connect(browser.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut live = Self(BufReader::new(stream));
        let (address, cookie) = (browser.address, &browser.cookie);
        let head = format!("GET /live?page={page} HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\n\r\n");
        live.0.get_mut().write_all(head.as_bytes()).unwrap();
        let status = live.line().unwrap();
        (live, status)
    }

    fn open(browser: &Browser, page: &str) -> Self {
        let (live, status) = Self::ask(browser, page);
        assert_eq!(status, "HTTP/1.1 200 OK");
        live
    }

    /// The next line; none at the end. The sizes of chunks are lines as well.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| line.trim_end().to_owned())
    }

    /// The data of the next event of this type; none at the end of the stream.
    fn next(&mut self, kind: &str) -> Option<Value> {
        loop {
            if self.line()? == format!("event: {kind}") {
                let line = self.line()?;
                return Some(serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap());
            }
        }
    }

    /// Waits for a part with this text.
    fn part_with(&mut self, name: &str, text: &str) {
        loop {
            let part = self.next("part").expect("the stream goes on");
            if part["name"] == name && part["html"].as_str().unwrap().contains(text) {
                return;
            }
        }
    }
}

fn served() -> Served {
    let world = crate::commands::world(Backend::Sqlite);
    world.flow("F", "f").schema(r#"{"value": "number"}"#).insert(&world.sql);
    let served = Served::new(world);
    served.gateway.wait_for_line("Flow F is active");
    served
}

#[test]
fn changed_parts_are_sent() {
    let served = served();
    let visitor = served.visitor("read");
    let mut overview = LiveStream::open(&visitor, "%2F");
    overview.part_with("letters", "None.");
    served.world.publish("f", r#"{"value": "warm"}"#);
    overview.part_with("rates", "<strong>Dead letters</strong> <span>1</span>");
    overview.part_with("letters", "validation_failed");
    LiveStream::open(&visitor, "%2Factors").part_with("road", "Router");
}

#[test]
fn messages_of_a_flow_are_sent_as_text() {
    let served = served();
    let mut flow = LiveStream::open(&served.visitor("read"), "%2Fflow%3Fcode%3DF");
    flow.part_with("messages", "Last number");
    served.world.publish("f", "{\"value\": 21.5, \"note\": \"<img>\u{202e}\"}");
    let tail = flow.next("tail").unwrap();
    assert_eq!(tail["lines"][0]["outcome"], "stored");
    let line = tail["lines"][0]["line"].as_str().unwrap();
    assert!(line.contains("#1") && line.contains("value=21.5  note=<img>\\u{202e}"), "{line}");
    served.world.publish("f", r#"{"value": "warm"}"#);
    let tail = flow.next("tail").unwrap();
    assert_eq!(tail["lines"][0]["outcome"], "dead");
    assert!(tail["lines"][0]["line"].as_str().unwrap().contains("validation_failed"), "{tail}");
}

#[test]
fn flood_is_counted_and_its_beginning_sent() {
    let served = served();
    let mut flow = LiveStream::open(&served.visitor("read"), "%2Fflow%3Fcode%3DF");
    flow.part_with("messages", "Last number");
    let topic = served.world.topic("f");
    let message = |value| test_support::publisher::Message::new(&topic, format!("{{\"value\": {value}}}"));
    served.world.publish_all((0..2_000).map(message));
    loop {
        let tail = flow.next("tail").unwrap();
        assert!(tail["lines"].as_array().unwrap().len() <= 20, "{tail}");
        if tail["further"].as_str().is_some_and(|further| further.contains("events are not shown")) {
            break;
        }
    }
    served.world.wait_for_last_msg_id("F", 2_000);
}

#[test]
fn stream_ends_with_its_session() {
    let served = served();
    let visitor = served.visitor("read");
    let mut actors = LiveStream::open(&visitor, "%2Factors");
    actors.part_with("road", "Router");
    succeeds(&served.world, &["tokens", "revoke", "t-read"]);
    while actors.next("part").is_some() {}
    let (_, status) = LiveStream::ask(&visitor, "%2Factors");
    assert_eq!(status, "HTTP/1.1 303 See Other");
}

#[test]
fn streams_are_for_pages_and_of_a_number() {
    let served = served();
    let status = |browser: &Browser, page: &str| LiveStream::ask(browser, page).1;
    assert_eq!(status(&served.guest(), "%2F"), "HTTP/1.1 303 See Other");
    let visitor = served.visitor("read");
    assert_eq!(status(&visitor, "%2Fflows"), "HTTP/1.1 404 Not Found");
    let open: Vec<LiveStream> = (0..MAX_STREAMS).map(|_| LiveStream::open(&visitor, "%2Factors")).collect();
    assert_eq!(status(&visitor, "%2Factors"), "HTTP/1.1 503 Service Unavailable");
    drop(open);
    eventually("a free stream", || (status(&visitor, "%2Factors") == "HTTP/1.1 200 OK").then_some(()));
}
