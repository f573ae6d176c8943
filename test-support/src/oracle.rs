//! Compares the messages that were acknowledged to the publisher with the tables.

use std::collections::{BTreeMap, HashSet};

use super::eventually;
use super::publisher::Message;
use super::world::World;

/// Numbered messages over several flows, each with a key that is found again in `data`.
pub struct Load {
    flows: Vec<String>,
    /// The keys of each flow, in the order of publication.
    published: BTreeMap<String, Vec<u64>>,
    next_key: u64,
    /// Bytes of text in each message.
    text_bytes: usize,
}

impl Load {
    /// Makes `flows` flows in the world; `flow0` listens below `prefix/load/0` and so on.
    pub fn over(world: &World, flows: usize) -> Load {
        let flows: Vec<String> = (0..flows).map(|index| format!("flow{index}")).collect();
        for (index, code) in flows.iter().enumerate() {
            world.flow(code, &format!("load/{index}")).schema(r#"{"key": "int"}"#).insert(&world.sql);
        }
        let published = flows.iter().map(|code| (code.clone(), Vec::new())).collect();
        Load { flows, published, next_key: 0, text_bytes: 20 }
    }

    /// Makes messages this large.
    pub fn of_bytes(mut self, text_bytes: usize) -> Load {
        self.text_bytes = text_bytes;
        self
    }

    /// The next messages, round all flows. They count as published, so the caller has to publish them all.
    pub fn next(&mut self, world: &World, count: usize) -> Vec<Message> {
        let text = "x".repeat(self.text_bytes);
        (0..count)
            .map(|_| {
                let key = self.next_key;
                self.next_key += 1;
                let index = usize::try_from(key).unwrap() % self.flows.len();
                self.published.get_mut(&self.flows[index]).unwrap().push(key);
                let payload = format!(r#"{{"key": {key}, "text": "{text}"}}"#);
                Message::new(&world.topic(&format!("load/{index}")), payload)
            })
            .collect()
    }

    /// The keys of messages of a load.
    pub fn keys_of(messages: &[Message]) -> HashSet<u64> {
        let payloads = messages.iter().map(|message| std::str::from_utf8(&message.payload).unwrap());
        payloads
            .map(|payload| {
                serde_json::from_str::<serde_json::Value>(payload).unwrap()["key"].as_u64().unwrap()
            })
            .collect()
    }

    /// Waits until every key is in `data`.
    pub fn wait_until_stored(&self, world: &World) {
        Load::wait_for_count(world, usize::try_from(self.next_key).unwrap());
    }

    /// Waits until `data` has this number of different keys.
    pub fn wait_for_count(world: &World, count: usize) {
        let wanted = i64::try_from(count).unwrap();
        let sql = "SELECT COUNT(DISTINCT attribute_value) FROM data WHERE attribute_name = 'key'";
        let mut seen = 0;
        eventually(&format!("{wanted} keys in data"), || {
            seen = world.sql.count(sql, []);
            (seen >= wanted).then_some(())
        });
    }

    /// Nothing lost, ids of each flow exactly 1 to n, in the order of publication; and the program's own audit agrees.
    /// Gives the keys found more than once, a time for each extra copy.
    pub fn judge(&self, world: &World) -> Vec<u64> {
        world.audit();
        self.flows.iter().flat_map(|code| self.judge_flow(world, code)).collect()
    }

    /// As [`Self::judge`], for a broker that may lose what it had acknowledged: ids exactly 1 to n, in the order of
    /// publication, and what is missing and what is there more than once.
    pub fn judge_with_a_broker_that_loses(&self, world: &World) -> Judgement {
        let mut judgement = Judgement::default();
        for code in &self.flows {
            let (first_copies, extra_copies) = keys_of_flow(world, code);
            judgement.messages += first_copies.len() + extra_copies.len();
            let found: HashSet<u64> = first_copies.iter().copied().collect();
            let of_published = self.published[code].iter().copied().filter(|key| found.contains(key));
            assert!(of_published.eq(first_copies), "the keys of {code} are not in order");
            judgement.missing.extend(self.published[code].iter().filter(|key| !found.contains(key)));
            judgement.extra.extend(extra_copies);
        }
        judgement
    }

    fn judge_flow(&self, world: &World, code: &str) -> Vec<u64> {
        let (first_copies, extra_copies) = keys_of_flow(world, code);
        assert_eq!(first_copies, self.published[code], "the keys of {code}, in order");
        extra_copies
    }
}

/// Outcome of a load.
#[derive(Debug, Default)]
pub struct Judgement {
    /// All messages in `data`, repeated ones included.
    pub messages: usize,
    pub missing: Vec<u64>,
    /// Keys found more than once, a time for each extra copy.
    pub extra: Vec<u64>,
}

/// The keys in `data` by first appearance, and those of further copies; the ids must be exactly 1 to n.
pub fn keys_of_flow(world: &World, code: &str) -> (Vec<u64>, Vec<u64>) {
    let stored = world.stored(code);
    let ids: Vec<i64> = stored.iter().map(|message| message.id).collect();
    let count = i64::try_from(stored.len()).unwrap();
    assert!(ids.iter().copied().eq(1..=count), "the ids of {code} are not 1 to {count}: {ids:?}");
    assert_eq!(world.last_msg_id(code), Some(count), "the counter of {code}");
    let mut seen = HashSet::new();
    let (mut first_copies, mut extra_copies) = (Vec::new(), Vec::new());
    for message in &stored {
        assert_eq!(message.attributes.len(), 2, "{code} {}: all attributes or none", message.id);
        let key: u64 = message.value("key").unwrap().parse().unwrap();
        if seen.insert(key) { &mut first_copies } else { &mut extra_copies }.push(key);
    }
    (first_copies, extra_copies)
}
