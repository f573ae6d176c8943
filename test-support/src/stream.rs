//! A device that publishes without end at a fixed rate, and counts acknowledgements.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::PATIENCE;
use crate::publisher::{Message, Publisher};

/// Messages at a time, and the pause after them.
#[derive(Clone, Copy)]
pub struct Pace {
    pub burst: u64,
    pub pause_ms: u64,
}

pub struct Stream {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    acknowledged: u64,
    held: bool,
    /// Nothing is under way: all that was published is acknowledged.
    idle: bool,
    ended: bool,
}

impl Stream {
    /// Publishes the keys 0, 1, 2, … to `topics` in turn, as `{"key": …, "text": …}`.
    pub fn start(broker: SocketAddr, topics: Vec<String>, pace: Pace) -> Stream {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut publisher = Publisher::connect(broker);
            let mut next = 0;
            while own.may_go_on() {
                publisher.publish_all((next..next + pace.burst).map(|key| message(&topics, key)));
                next += pace.burst;
                own.state.lock().unwrap().acknowledged = next;
                own.changed.notify_all();
                std::thread::sleep(Duration::from_millis(pace.pause_ms));
            }
        });
        Stream { shared, thread }
    }

    pub fn acknowledged(&self) -> u64 {
        self.shared.state.lock().unwrap().acknowledged
    }

    /// Waits until the broker has taken this many more.
    pub fn wait_for_more(&self, messages: u64) {
        let wanted = self.acknowledged() + messages;
        self.wait_until("the broker to take more messages", |state| state.acknowledged >= wanted);
    }

    /// Returns when nothing is under way to the broker; nothing will be until [`Self::go_on`].
    pub fn hold(&self) {
        self.shared.state.lock().unwrap().held = true;
        self.wait_until("the publisher to have nothing under way", |state| state.idle);
    }

    pub fn go_on(&self) {
        self.shared.state.lock().unwrap().held = false;
        self.shared.changed.notify_all();
    }

    /// Gives how many messages the broker has acknowledged in all.
    pub fn end(self) -> u64 {
        self.shared.state.lock().unwrap().ended = true;
        self.shared.changed.notify_all();
        self.thread.join().unwrap();
        self.shared.state.lock().unwrap().acknowledged
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let state = self.shared.state.lock().unwrap();
        // Many times a normal wait: faults may freeze the broker for some seconds of it.
        let waiting = self.shared.changed.wait_timeout_while(state, 3 * PATIENCE, |state| !is_so(state));
        assert!(!waiting.unwrap().1.timed_out(), "timed out waiting for: {what}");
    }
}

impl Shared {
    fn may_go_on(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        state.idle = true;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.held && !state.ended).unwrap();
        state.idle = false;
        !state.ended
    }
}

fn message(topics: &[String], key: u64) -> Message {
    let topic = &topics[usize::try_from(key).unwrap() % topics.len()];
    Message::new(topic, format!(r#"{{"key": {key}, "text": "twenty letters or so"}}"#))
}
