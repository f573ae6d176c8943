//! Flows that are edited, disabled, deleted and made again while messages are on their way.

mod edits;
mod stopped;
mod topics;

use crate::backlog;
use test_support::publisher::Message;
use test_support::world::World;

/// Numbered messages for one flow, to its present topic.
pub(crate) struct Stream {
    code: &'static str,
    published: i64,
}

impl Stream {
    /// A flow that requires the number, and its stream.
    pub(crate) fn new(world: &World, code: &'static str, topic: &str) -> Stream {
        world.flow(code, topic).schema(r#"{"n": "int"}"#).insert(&world.sql);
        Stream { code, published: 0 }
    }

    pub(crate) fn next(&mut self, world: &World, topic: &str, count: i64) -> Vec<Message> {
        let from = self.published;
        self.published += count;
        (from..self.published)
            .map(|n| Message::new(&world.topic(topic), format!(r#"{{"n": {n}}}"#)))
            .collect()
    }

    /// Publishes the next ones, and returns when the gateway has acknowledged them.
    pub(crate) fn publish(&mut self, world: &World, topic: &str, count: i64) {
        let messages = self.next(world, topic, count);
        backlog::publish(world, messages);
    }

    /// Ids and numbers stored so far, by row.
    pub(crate) fn stored(&self, world: &World) -> Vec<(i64, i64)> {
        let stored = world.stored(self.code);
        stored.iter().map(|message| (message.id, message.value("n").unwrap().parse().unwrap())).collect()
    }

    /// Waits until the counter stands there, then every message has to be in order, with ids from `first` on.
    pub(crate) fn assert_all_from(&self, world: &World, first: i64) {
        world.wait_for_last_msg_id(self.code, first - 1 + self.published);
        let all: Vec<(i64, i64)> = (0..self.published).map(|n| (first + n, n)).collect();
        let stored = self.stored(world);
        let wrong = stored.iter().zip(&all).find(|(stored, expected)| stored != expected);
        assert_eq!((stored.len(), wrong), (all.len(), None), "{}", self.code);
    }
}

/// Has the flow's row changed and the change taken up.
fn edit(world: &World, code: &str, change: &str) {
    world.sql.execute(&format!("UPDATE flows SET {change} WHERE code = ?"), [code.into()]);
}

/// The payloads of all dead letters, in order; each has to be there for this reason.
fn dead(world: &World, reason: &str) -> Vec<String> {
    let letters = world.dead_letters();
    let other = letters.iter().find(|letter| letter.reason != reason);
    assert_eq!(other, None);
    letters.into_iter().map(|letter| String::from_utf8(letter.payload).unwrap()).collect()
}
