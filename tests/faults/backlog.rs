//! Messages that are in the inbox and in no table yet.

use test_support::mosquitto::Broker;
use test_support::publisher::Message;
use test_support::world::{Backend, World};

/// A world on SQLite, whose only writer can be locked out, and a broker that logs acknowledgements.
pub(crate) fn world() -> World {
    World::with_broker(Backend::Sqlite, Broker::private())
}

/// From now on nothing can be written to the database, until [`release`].
pub(crate) fn hold(world: &World) {
    world.sql.run("BEGIN IMMEDIATE");
}

pub(crate) fn release(world: &World) {
    world.sql.run("COMMIT");
}

/// Publishes, and returns when the gateway has acknowledged them all; the broker has nothing left then.
pub(crate) fn publish(world: &World, messages: Vec<Message>) {
    let before = world.broker.acknowledged_by(&world.name);
    let count = messages.len();
    world.publish_all(messages);
    world.broker.wait_for_acknowledged(&world.name, before + count);
}
