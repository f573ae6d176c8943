//! The judge of the crash tests: what was acknowledged to the publisher against what is in the tables.

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

    /// Waits until every key is in `data`.
    pub fn wait_until_stored(&self, world: &World) {
        let wanted = i64::try_from(self.next_key).unwrap();
        let sql = "SELECT COUNT(DISTINCT attribute_value) FROM data WHERE attribute_name = 'key'";
        let mut seen = 0;
        eventually(&format!("all {wanted} keys in data"), || {
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

    fn judge_flow(&self, world: &World, code: &str) -> Vec<u64> {
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
        assert_eq!(first_copies, self.published[code], "the keys of {code}, in order");
        extra_copies
    }
}
