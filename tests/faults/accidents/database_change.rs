//! The database of the settings is another one than before.

use super::{free_lanes, hold_lanes, is_refused};
use crate::backlog;
use test_support::eventually;
use test_support::mosquitto::Broker;
use test_support::process::{Gateway, Settings};
use test_support::publisher::Message;
use test_support::world::{Backend, World};

const ALL: [Backend; 3] = [Backend::MariaDb, Backend::Postgres, Backend::Sqlite];

/// A gateway whose settings can name either of two databases, each with the same flow.
struct TwoDatabases {
    first: World,
    second: World,
    settings: [Settings; 2],
}

impl TwoDatabases {
    fn on(backend: Backend) -> TwoDatabases {
        let mut first = World::with_broker(backend, Broker::private());
        first.set("DRAIN_DEADLINE_SECONDS", "1");
        let second = World::without_broker(backend, Broker::shared());
        let address = first.broker.address;
        second.add_server(&address.ip().to_string(), Some(address.port()), Some(true), Some(true));
        for world in [&first, &second] {
            let flow = test_support::flows::NewFlow::new("moved", &first.topic("t"));
            flow.schema(r#"{"n": "int"}"#).insert(&world.sql);
        }
        let mut at_second = first.settings.clone();
        for (name, value) in &second.settings {
            if name.starts_with("DB_") || name == "DATABASE_URL" {
                at_second.insert(name.clone(), value.clone());
            }
        }
        let settings = [first.settings.clone(), at_second];
        TwoDatabases { first, second, settings }
    }

    fn start(&self, database: usize, arguments: &[&str]) -> Gateway {
        let mark = self.first.broker.mark();
        let gateway = Gateway::start(arguments, &self.settings[database], self.first.directory());
        self.first.wait_for_filters(mark, &[&self.first.topic("t")]);
        gateway
    }

    fn publish(&self, numbers: std::ops::Range<u32>) {
        let topic = self.first.topic("t");
        let message = |n| Message::new(&topic, format!(r#"{{"n": {n}}}"#));
        backlog::publish(&self.first, numbers.map(message).collect());
    }

    fn wait_for(&self, database: usize, expected: impl Iterator<Item = u32>) {
        let world = [&self.first, &self.second][database];
        let expected: Vec<u32> = expected.collect();
        let mut stored = Vec::new();
        eventually(&format!("{} messages in database {database}", expected.len()), || {
            stored = numbers_in(world);
            (stored.len() >= expected.len()).then_some(())
        });
        assert_eq!(stored, expected);
    }
}

fn numbers_in(world: &World) -> Vec<u32> {
    world.stored("moved").iter().map(|message| message.value("n").unwrap().parse().unwrap()).collect()
}

#[test]
fn changed_database_is_refused_then_adopted() {
    ALL.into_iter().for_each(is_refused_and_adopted);
}

fn is_refused_and_adopted(backend: Backend) {
    let two = TwoDatabases::on(backend);
    let mut gateway = two.start(0, &[]);
    two.publish(0..50);
    two.wait_for(0, 0..50);
    hold_lanes(&two.first);
    two.publish(50..80);
    assert_eq!(gateway.stop(), Some(0));
    free_lanes(&two.first);

    is_refused(&two.settings[1], &two.first, &["--adopt-database", "--replay", "belongs to the database"]);
    assert!(numbers_in(&two.second).is_empty());

    let mut gateway = two.start(1, &["--adopt-database"]);
    two.publish(80..100);
    two.wait_for(1, 50..100);
    assert_eq!(gateway.stop(), Some(0));
    let mut gateway = two.start(1, &[]);
    two.publish(100..110);
    two.wait_for(1, 50..110);
    assert_eq!(gateway.stop(), Some(0));

    is_refused(&two.settings[0], &two.first, &["--adopt-database"]);
    let mut gateway = two.start(0, &["run", "--adopt-database"]);
    two.publish(110..120);
    two.wait_for(0, (0..50).chain(110..120));
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn replay_fills_the_new_database() {
    for backend in ALL {
        let two = TwoDatabases::on(backend);
        let mut gateway = two.start(0, &[]);
        two.publish(0..50);
        two.wait_for(0, 0..50);
        assert_eq!(gateway.stop(), Some(0));
        let mut gateway = two.start(1, &["--replay"]);
        two.publish(50..60);
        two.wait_for(1, 0..60);
        assert_eq!(gateway.stop(), Some(0));
    }
}
