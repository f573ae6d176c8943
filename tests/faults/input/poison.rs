//! A message that the database refuses, in the midst of a batch: exactly it becomes a dead letter.

use test_support::eventually;
use test_support::mosquitto::{Broker, BrokerOptions};
use test_support::world::{Backend, World};

const MESSAGES: usize = 1_000;

/// Two flows of one topic, one of another, and a rule of the site that one value breaks.
fn world() -> World {
    // Room for all of them on their way at once.
    let options = BrokerOptions { max_inflight: 2_000, ..BrokerOptions::default() };
    let mut world = World::with_broker(Backend::MariaDb, Broker::with(&options));
    world.set("BATCH_MAX_MESSAGES", "4096").set("LANES", "1");
    world.sql.run("ALTER TABLE data ADD CONSTRAINT site_rule CHECK (attribute_value <> 'poison')");
    for (code, topic) in [("one", "t/#"), ("two", "t/+"), ("apart", "apart")] {
        world.flow(code, topic).insert(&world.sql);
    }
    world
}

/// Publishes a thousand messages to the two flows, with poison at these places; all of them wait in the inbox when
/// the lane is let go, so they are one batch.
fn publish_in_one_batch(world: &World, poison: &[usize]) {
    // The gateway may be taking over the lane again, and a deadlock with it ends our transaction.
    eventually("the lane's row", || {
        world.sql.run("BEGIN");
        world.sql.try_rows("SELECT * FROM inbox_offsets FOR UPDATE", []).ok()
    });
    for n in 0..MESSAGES {
        let value = if poison.contains(&n) { "poison" } else { "good" };
        world.publish("t/x", format!(r#"{{"n": {n}, "value": "{value}"}}"#));
        if n % 100 == 0 {
            world.publish("apart", format!(r#"{{"n": {n}}}"#));
        }
    }
    // A copy for each of the two filters.
    world.broker.wait_for_acknowledged(&world.name, 2 * MESSAGES + MESSAGES / 100);
    world.sql.run("COMMIT");
}

fn poison_is_dead_letter_per_flow(poison: &[usize]) {
    let world = world();
    let mut gateway = world.start_subscribed();
    gateway.wait_for_line("Lane opened");
    publish_in_one_batch(&world, poison);
    let good: Vec<String> = (0..MESSAGES).filter(|n| !poison.contains(n)).map(|n| n.to_string()).collect();
    let last = i64::try_from(good.len()).unwrap();
    for code in ["one", "two"] {
        world.wait_for_last_msg_id(code, last);
        let stored = world.stored(code);
        assert!(stored.iter().map(|message| message.id).eq(1..=last), "{code}: without a gap");
        assert!(stored.iter().map(|message| message.value("n").unwrap()).eq(good.iter()), "{code}: in order");
    }
    let apart = world.wait_for_stored("apart", MESSAGES / 100);
    assert!(apart.iter().map(|message| message.id).eq(1..=10));
    let letters = world.wait_for_dead_letters(2 * poison.len());
    assert_eq!(letters.len(), 2 * poison.len());
    for n in poison {
        let payload = format!(r#"{{"n": {n}, "value": "poison"}}"#);
        let of_it = letters.iter().filter(|letter| letter.payload == payload.as_bytes());
        let mut flows: Vec<_> = of_it.map(|letter| letter.flow_id.unwrap()).collect();
        flows.sort_unstable();
        flows.dedup();
        assert_eq!(flows.len(), 2, "message {n}: one for each flow");
    }
    assert!(gateway.is_running());
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn poison_among_thousand_is_only_dead_letter() {
    poison_is_dead_letter_per_flow(&[500]);
}

#[test]
fn poison_at_batch_ends_spares_the_rest() {
    poison_is_dead_letter_per_flow(&[0, 1, 498, 499, 500, 999]);
}
