//! How fast four replicas are together, against one alone on the same machine: to be read, not judged.

use std::time::{Duration, Instant};

use crate::fleet::{Fleet, Replica};
use crate::many_messages;

const FLOWS: usize = 16;

/// Publishers: one alone may be slower than the gateways.
const DEVICES: usize = 3;

/// Log texts that show conflicts between replicas.
const TROUBLE: [&str; 4] = ["is locked by somebody else", "Deadlock", "Lock wait timeout", "reopening it"];

#[test]
#[ignore = "takes minutes and measures; REPLICAS_MESSAGES says how many messages"]
fn four_replicas_together_and_one_alone() {
    measure("one alone", |fleet| vec![fleet.replica(0, &[])]);
    measure("four shards", |fleet| fleet.shards(4));
    measure("a group of four", |fleet| fleet.group(4));
}

fn measure(what: &str, replicas: impl FnOnce(&Fleet) -> Vec<Replica>) {
    let fleet = Fleet::with_flows(FLOWS);
    // As most flows are: without a key.
    fleet.world.sql.run("UPDATE flows SET message_key = NULL");
    let mut replicas = replicas(&fleet);
    replicas.iter_mut().for_each(Replica::start_subscribed);
    let begun = Instant::now();
    let part = many_messages() / DEVICES as u64;
    let devices: Vec<_> = (0..DEVICES).map(|_| fleet.publishing_without_pause()).collect();
    for device in &devices {
        device.wait_for_more(part.saturating_sub(device.acknowledged()));
    }
    let published: u64 = devices.into_iter().map(test_support::stream::Stream::end).sum();
    let at_the_broker = begun.elapsed();
    fleet.wait_until_numbered(published);
    let stored = begun.elapsed();
    println!(
        "{what}: {published} messages, {}/s (published at {}/s)",
        per_second(published, stored),
        per_second(published, at_the_broker)
    );
    for replica in &mut replicas {
        let gateway = replica.running();
        let trouble: Vec<_> = TROUBLE.iter().map(|word| (word, gateway.count_lines(word))).collect();
        println!("  {}: {trouble:?}", replica.name);
        replica.stop();
    }
}

fn per_second(messages: u64, time: Duration) -> u128 {
    u128::from(messages) * 1_000 / time.as_millis().max(1)
}
