//! Messages that belong to three flows each by overlapping filters, and their outcomes.

use std::collections::HashSet;

use test_support::oracle::keys_of_flow;
use test_support::publisher::Message;
use test_support::world::World;
use test_support::{PATIENCE, eventually_within};

const TOPICS: usize = 4;

/// Published messages, by flow.
pub(crate) struct Overlap {
    published: Vec<(String, Vec<u64>)>,
    next_key: u64,
}

/// Differences between published and stored messages, over all flows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) lost: usize,
    pub(crate) twice: usize,
    /// First copies that come later than a message published after them.
    pub(crate) out_of_order: usize,
}

impl Overlap {
    /// Makes the flows: one for all topics, one for all of their level, and one for each topic.
    pub(crate) fn over(world: &World) -> Overlap {
        let each = (0..TOPICS).map(|index| (format!("topic{index}"), format!("o/{index}")));
        let wide =
            [("all", "o/#"), ("level", "o/+")].map(|(code, topic)| (code.to_owned(), topic.to_owned()));
        let flows: Vec<_> = each.chain(wide).collect();
        for (code, topic) in &flows {
            world.flow(code, topic).schema(r#"{"key": "int"}"#).insert(&world.sql);
        }
        Overlap { published: flows.into_iter().map(|(code, _)| (code, Vec::new())).collect(), next_key: 0 }
    }

    /// The next messages, round all topics. They count as published.
    pub(crate) fn next(&mut self, world: &World, count: usize) -> Vec<Message> {
        let message = |_| {
            let key = self.next_key;
            self.next_key += 1;
            let index = usize::try_from(key).unwrap() % TOPICS;
            for flow in [index, TOPICS, TOPICS + 1] {
                self.published[flow].1.push(key);
            }
            Message::new(&world.topic(&format!("o/{index}")), format!(r#"{{"key": {key}, "text": "x"}}"#))
        };
        (0..count).map(message).collect()
    }

    /// Waits until every flow has all its messages.
    pub(crate) fn wait_until_stored(&self, world: &World) {
        for (code, published) in &self.published {
            let sql = "SELECT COUNT(DISTINCT attribute_value) FROM data WHERE flow_code = ? AND attribute_name = 'key'";
            let wanted = i64::try_from(published.len()).unwrap();
            // ejabberd has one message under way at a time.
            eventually_within(3 * PATIENCE, &format!("{wanted} keys of {code}"), || {
                (world.sql.count(sql, [code.as_str().into()]) >= wanted).then_some(())
            });
        }
    }

    /// Compares with the table, in which each flow has to have the numbers 1 to n.
    pub(crate) fn compare(&self, world: &World) -> Found {
        world.audit();
        let mut found = Found::default();
        for (code, published) in &self.published {
            let (first, extra) = keys_of_flow(world, code);
            let stored: HashSet<u64> = first.iter().copied().collect();
            found.lost += published.iter().filter(|key| !stored.contains(key)).count();
            found.twice += extra.len();
            let mut latest = None;
            for key in first {
                found.out_of_order += usize::from(latest.is_some_and(|latest| key < latest));
                latest = latest.max(Some(key));
            }
        }
        found
    }
}
