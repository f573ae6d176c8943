//! A replica that goes for good leaves nothing behind: neither at the broker nor in its inbox.

use mqtt_gateway::domain::replicas::owner_of;

use crate::fleet::{Fleet, Replica};
use test_support::eventually;
use test_support::mosquitto::{Broker, BrokerOptions};
use test_support::proxy::{Act, How, Mqtt, Proxy, Sign, Way};
use test_support::publisher::Publisher;
use test_support::world::{Backend, text_of};

fn has_members(fleet: &Fleet) -> i64 {
    fleet.world.sql.count("SELECT COUNT(*) FROM gateway_members", [])
}

/// Waits until the replica has written its row once more, and read the rows of the others.
fn wait_for_a_look(fleet: &Fleet, name: &str) {
    let sql = "SELECT CAST(seen_at AS CHAR) FROM gateway_members WHERE client_id = ?";
    let seen_at = || -> Option<String> {
        fleet.world.sql.rows(sql, [name.into()]).first().map(|row| row.try_get_by_index(0).unwrap())
    };
    let before = seen_at();
    eventually(&format!("{name} to look at the others"), || {
        seen_at().filter(|now| Some(now) != before.as_ref()).map(|_| ())
    });
}

/// Backdates the heartbeat of a replica that does not run.
fn is_long_silent(fleet: &Fleet, name: &str) {
    let sql = "UPDATE gateway_members SET seen_at = '2000-01-01' WHERE client_id = ?";
    fleet.world.sql.execute(sql, [name.into()]);
}

#[test]
fn retiring_drains_the_lost_session() {
    let fleet = Fleet::with_flows(2);
    let mut members = fleet.group(2);
    members.iter_mut().for_each(Replica::start_subscribed);
    members[1].kill();
    fleet.world.publish_all(fleet.messages(0..400));
    let kept = members[1].retire();
    assert!(kept > 0 && kept < 400, "{kept}");
    fleet.wait_until_stored(400);
    // The session is gone with its subscriptions, so the broker queues nothing more.
    fleet.world.publish_all(fleet.messages(400..800));
    fleet.wait_until_stored(800);
    assert_eq!(members[1].retire(), 0);
    members[0].stop();
    assert_eq!(fleet.judge(800).twice(&fleet), (0, 0));
    assert_eq!(has_members(&fleet), 1);
}

#[test]
fn retirement_waits_for_handover() {
    let fleet = Fleet::with_flows(6);
    let mut shards = fleet.shards(2);
    shards.iter_mut().for_each(Replica::start_subscribed);
    shards[1].stop();
    fleet.world.publish_all(fleet.messages(0..300));
    let mut retiring = shards[1].begin_to_retire(&[]);
    retiring.wait_for_line("Handing over");
    // It is a gateway like any other until then.
    fleet.wait_until_stored(300);
    for _ in 0..3 {
        wait_for_a_look(&fleet, &shards[1].name);
    }
    fleet.world.publish_all(fleet.messages(300..400));
    fleet.wait_until_stored(400);
    shards[0].is_one_of(1);
    shards[0].stop();
    shards[0].start_subscribed();
    assert_eq!(retiring.wait_for_exit().code(), Some(0));
    fleet.world.publish_all(fleet.messages(400..600));
    fleet.wait_until_stored(600);
    shards[0].stop();
    assert_eq!(fleet.judge(600).twice(&fleet).0, 0);
}

#[test]
fn killed_retirement_can_be_repeated() {
    let fleet = Fleet::with_flows(4);
    let mut members = fleet.group(2);
    members.iter_mut().for_each(Replica::start_subscribed);
    members[1].kill();
    fleet.world.publish_all(fleet.messages(0..2_000));
    // Batches so slow that there is something to be killed in.
    let slowly = [("FAILPOINTS", "worker-batch=sleep(200)"), ("BATCH_MAX_MESSAGES", "20")];
    for line in [
        "Handing over",
        "Connected to the broker",
        "receiving the messages that the broker still has",
        "Shutting down",
    ] {
        let mut retiring = members[1].begin_to_retire(&slowly);
        retiring.wait_for_line_that(line, &|seen| {
            seen.contains(line) || seen.contains("there is only the inbox")
        });
        retiring.kill();
    }
    members[1].retire();
    fleet.wait_until_stored(2_000);
    members[0].stop();
    let (with_a_key, without) = fleet.judge(2_000).twice(&fleet);
    assert_eq!(with_a_key, 0);
    assert!(without <= 20, "{without} twice: what was under way at a kill is known when it comes again");
}

#[test]
fn last_replica_is_retired_only_on_request() {
    let fleet = Fleet::with_flows(2);
    let mut alone = fleet.replica(0, &[]);
    alone.start_subscribed();
    alone.kill();
    fleet.world.publish_all(fleet.messages(0..100));
    let refused = alone.run(&["retire"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text_of(&refused).contains("--last"), "{}", text_of(&refused));
    assert_eq!(alone.retired(&["retire", "--last"]), 100);
    assert_eq!(fleet.judge(100).twice(&fleet), (0, 0));
    assert_eq!(has_members(&fleet), 0);
}

#[test]
fn unknown_survivor_appears_after_refused_retirement() {
    let fleet = Fleet::with_flows(2);
    let mut shards = fleet.shards(2);
    shards.iter_mut().for_each(Replica::start_subscribed);
    shards[1].kill();
    shards[0].stop();
    // As after a manual clean-up.
    fleet.world.sql.execute("DELETE FROM gateway_members", []);
    shards[0].is_one_of(1);
    shards[0].start_subscribed();
    assert_eq!(has_members(&fleet), 0);
    fleet.world.publish_all(fleet.messages(0..100));
    let refused = text_of(&shards[1].run(&["retire"]));
    assert!(refused.contains("Run this again after that"), "{refused}");
    shards[0].running().wait_for_line("Other gateways found on this database");
    eventually("the survivor to announce itself", || (has_members(&fleet) == 2).then_some(()));
    shards[1].retire();
    fleet.wait_until_stored(100);
    shards[0].stop();
    assert_eq!(fleet.judge(100).twice(&fleet).0, 0);
}

#[test]
fn single_gateway_hands_over_to_group() {
    let fleet = Fleet::with_flows(4);
    let mut alone = fleet.replica(9, &[]);
    alone.start_subscribed();
    alone.stop();
    fleet.world.publish_all(fleet.messages(0..200));
    let mut members = fleet.group(2);
    members.iter_mut().for_each(Replica::start_subscribed);
    eventually("the members to announce themselves", || (has_members(&fleet) == 2).then_some(()));
    alone.retire();
    fleet.world.publish_all(fleet.messages(200..400));
    fleet.wait_until_stored(400);
    members.iter_mut().for_each(Replica::stop);
    assert_eq!(fleet.judge(400).twice(&fleet), (0, 0));
}

#[test]
fn running_or_inboxless_replica_is_not_retired() {
    let fleet = Fleet::with_flows(1);
    let mut alone = fleet.replica(0, &[]);
    alone.start_subscribed();
    let refused = text_of(&alone.run(&["retire", "--last"]));
    assert!(refused.contains(&alone.running().id().to_string()), "{refused}");
    alone.stop();
    let elsewhere = fleet.replica(1, &[]);
    let refused = elsewhere.run(&["retire", "--last"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text_of(&refused).contains("there is no inbox in"), "{}", text_of(&refused));
}

#[test]
fn retirement_creates_no_database_file() {
    let fleet = Fleet::on(Backend::Sqlite, 1);
    let mut alone = fleet.replica(0, &[]);
    alone.start_subscribed();
    alone.stop();
    let mistyped = fleet.world.directory().join("mistyped.db");
    alone.set(&[("DATABASE_URL", &format!("sqlite:{}", mistyped.display()))]);
    let refused = alone.run(&["retire", "--last"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text_of(&refused).contains("there is no database"), "{}", text_of(&refused));
    assert!(!mistyped.exists());
}

#[test]
fn replica_with_other_inbox_must_be_silent() {
    let fleet = Fleet::with_flows(2);
    let mut shards = fleet.shards(2);
    shards.iter_mut().for_each(Replica::start_subscribed);
    eventually("the shards to announce themselves", || (has_members(&fleet) == 2).then_some(()));
    // An operator mistakes it for dead and starts its name with a new inbox.
    let mut mistaken = fleet.replica(7, &[("MQTT_CLIENT_ID", &shards[1].name)]);
    mistaken.name.clone_from(&shards[1].name);
    mistaken.make_inbox();
    for arguments in [&["retire"][..], &["retire", "--last"]] {
        let refused = mistaken.run(arguments);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text_of(&refused).contains("still runs, with another inbox"), "{}", text_of(&refused));
    }
    fleet.world.publish_all(fleet.messages(0..100));
    fleet.wait_until_stored(100);
    assert_eq!(shards[1].running().count_lines("Connection to the broker lost"), 0);
    shards[1].kill();
    is_long_silent(&fleet, &shards[1].name);
    shards[0].stop();
    shards[0].is_one_of(1);
    shards[0].start_subscribed();
    fleet.world.publish_all(fleet.messages(100..200));
    mistaken.retired(&["retire", "--new-inbox"]);
    fleet.wait_until_stored(200);
    shards[0].stop();
    assert_eq!(fleet.judge(200).twice(&fleet).0, 0);
}

#[test]
fn retirement_drains_every_broker() {
    let fleet = Fleet::with_flows(4);
    let second = Broker::with(&BrokerOptions { verbose: false, ..BrokerOptions::default() });
    fleet.world.add_server("127.0.0.1", Some(second.address.port()), Some(false), Some(false));
    let mut members = fleet.group(2);
    members.iter_mut().for_each(Replica::start_subscribed);
    members[1].kill();
    let enabled = "UPDATE mqtt_servers SET enabled = (id = ?)";
    fleet.world.sql.execute(enabled, [2.into()]);
    members[0].running().wait_for_line("Leaving the broker");
    members[1].start_subscribed();
    members[1].kill();
    members[0].stop();
    fleet.world.publish_all(fleet.messages(0..200));
    Publisher::connect(second.address).publish_all(fleet.messages(200..400));
    members[0].start_subscribed();
    fleet.world.sql.execute("UPDATE mqtt_servers SET enabled = (id > ?)", [0.into()]);
    let kept = members[1].retire();
    assert!(kept > 0, "{kept}");
    // Both have forgotten it.
    let again = text_of(&members[1].run(&["retire"]));
    assert_eq!(again.matches("The broker has no session of").count(), 2, "{again}");
    members[0].running().wait_for_line("is available again and precedes it");
    fleet.wait_until_stored(400);
    members[0].stop();
    assert_eq!(fleet.judge(400).twice(&fleet).0, 0);
}

/// The first broker has nothing to hand over, and the others do not know yet that they are to take the flows.
#[test]
fn other_brokers_stay_subscribed_until_handover() {
    let fleet = Fleet::with_flows(6);
    let second = Broker::with(&BrokerOptions { verbose: false, ..BrokerOptions::default() });
    fleet.world.add_server("127.0.0.1", Some(second.address.port()), Some(true), Some(true));
    let enabled = "UPDATE mqtt_servers SET enabled = (id >= ?), is_default = (id = ?)";
    fleet.world.sql.execute(enabled, [2.into(), 2.into()]);
    let mut shards = fleet.shards(2);
    shards.iter_mut().for_each(Replica::start_subscribed);
    shards[1].kill();
    fleet.world.sql.execute(enabled, [1.into(), 1.into()]);
    let flow_ids = fleet.flow_ids();
    let is_own = |key: &u64| owner_of(flow_ids[usize::try_from(*key).unwrap() % flow_ids.len()], 2) == 1;
    let (own, of_the_other): (Vec<u64>, Vec<u64>) = (0..600).partition(is_own);
    let (waiting, later) = own.split_at(own.len() / 2);
    let mut publisher = Publisher::connect(second.address);
    publisher.publish_all(fleet.messages(waiting.iter().copied()));
    let mut retiring = shards[1].begin_to_retire(&[]);
    retiring.wait_for_line("The broker has no session of");
    retiring.wait_for_line("Subscribed");
    for _ in 0..3 {
        wait_for_a_look(&fleet, &shards[1].name);
    }
    publisher.publish_all(fleet.messages(later.iter().copied()));
    fleet.wait_until_stored(own.len() as u64);
    assert!(retiring.is_running());
    shards[0].is_one_of(1);
    shards[0].stop();
    shards[0].start_subscribed();
    assert_eq!(retiring.wait_for_exit().code(), Some(0), "{}", retiring.stderr());
    fleet.world.publish_all(fleet.messages(of_the_other));
    fleet.wait_until_stored(600);
    shards[0].stop();
    assert_eq!(fleet.judge(600).twice(&fleet).0, 0);
}

#[test]
fn unreachable_broker_is_named_others_drained() {
    for it_comes_first in [false, true] {
        let fleet = Fleet::with_flows(1);
        // A port without a listener.
        fleet.world.add_server("127.0.0.1", Some(9), Some(true), Some(it_comes_first));
        fleet
            .world
            .sql
            .execute("UPDATE mqtt_servers SET is_default = ? WHERE id = 1", [(!it_comes_first).into()]);
        let mut alone = fleet.replica(0, &[("FAILPOINTS", "broker-out-of-reach=return(15000)")]);
        alone.start_subscribed();
        alone.kill();
        fleet.world.publish_all(fleet.messages(0..10));
        let output = alone.run(&["retire", "--last"]);
        let text = text_of(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("2 (127.0.0.1:9)") && text.contains("--broker 2"), "{text}");
        let refused = text_of(&alone.run(&["retire", "--last", "--broker", "7"]));
        assert!(refused.contains("no enabled row of mqtt_servers has the id 7"), "{refused}");
        assert_eq!(alone.retired(&["retire", "--last", "--broker", "1"]), 0);
        assert_eq!(fleet.judge(10).twice(&fleet), (0, 0));
    }
}

#[test]
fn retirement_at_a_single_lost_broker_ends() {
    let fleet = Fleet::with_flows(1);
    let mut alone = fleet.replica(0, &[("FAILPOINTS", "broker-out-of-reach=return(15000)")]);
    alone.start_subscribed();
    alone.kill();
    // A port without a listener.
    fleet.world.sql.run("UPDATE mqtt_servers SET port = 9");
    let output = alone.run(&["retire", "--last"]);
    let text = text_of(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("Could not reach the broker 1 (127.0.0.1:9)"), "{text}");
}

#[test]
fn inboxless_replica_retires_under_load() {
    let fleet = Fleet::with_flows(4);
    let mut shards = fleet.shards(2);
    shards.iter_mut().for_each(Replica::start_subscribed);
    shards[1].kill();
    shards[1].lose_inbox();
    is_long_silent(&fleet, &shards[1].name);
    shards[0].stop();
    shards[0].is_one_of(1);
    shards[0].start_subscribed();
    let stream = fleet.publishing(10);
    stream.wait_for_more(500);
    let refused = text_of(&shards[1].run(&["retire"]));
    assert!(refused.contains("--new-inbox"), "{refused}");
    let mut retiring = shards[1].begin_to_retire_with(&["--new-inbox"], &[]);
    assert_eq!(retiring.wait_for_exit().code(), Some(0), "{}", retiring.stderr());
    stream.wait_for_more(500);
    let published = stream.end();
    fleet.wait_until_stored(published);
    let again = text_of(&shards[1].run(&["retire"]));
    assert!(again.contains("The broker has no session of"), "{again}");
    shards[0].stop();
    assert_eq!(fleet.judge(published).twice(&fleet).0, 0);
}

#[test]
fn unrecorded_filters_are_unsubscribed_first() {
    for is_a_group in [true, false] {
        let fleet = Fleet::with_flows(4);
        let mut replicas = if is_a_group { fleet.group(2) } else { fleet.shards(2) };
        replicas.iter_mut().for_each(Replica::start_subscribed);
        let [stays, lost] = replicas.as_mut_slice() else { panic!("two") };
        lost.kill();
        if !is_a_group {
            stays.stop();
            stays.is_one_of(1);
            stays.start_subscribed();
        }
        lost.lose_inbox();
        is_long_silent(&fleet, &lost.name);
        let stream = fleet.publishing(10);
        stream.wait_for_more(100);
        stream.hold();
        let before = stream.acknowledged();
        let mut retiring = lost.begin_to_retire_with(&["--new-inbox"], &[]);
        retiring.wait_for_line("All flows are unsubscribed");
        retiring.kill();
        stream.go_on();
        stream.wait_for_more(before + 100);
        let kept = lost.retire();
        assert!(kept <= before, "{kept} came, {before} were published before it was unsubscribed");
        let published = stream.end();
        fleet.wait_until_stored(published);
        stays.stop();
        assert_eq!(fleet.judge(published).twice(&fleet).0, 0);
    }
}

/// The broker keeps the messages, and is reached by the proxy from now on.
fn gone_while_a_hundred_come(fleet: &Fleet) -> (Replica, Proxy) {
    let mut alone = fleet.replica(0, &[]);
    alone.start_subscribed();
    alone.kill();
    fleet.world.publish_all(fleet.messages(0..100));
    let proxy = Proxy::to_mqtt(fleet.world.broker.address);
    fleet.world.reach_broker_at(proxy.address());
    (alone, proxy)
}

/// MQTT 3.1.1 lets a broker answer so to a PUBLISH that it does not allow.
#[test]
fn retirement_without_marker_drains_until_silence() {
    let fleet = Fleet::with_flows(1);
    let (alone, proxy) = gone_while_a_hundred_come(&fleet);
    let publish = Sign::Packet(Way::ToServer, Mqtt::Publish);
    let cuts: Vec<_> = (1..=20).map(|nth| proxy.at(publish, nth).before(Act::Cut(How::Fin))).collect();
    let kept = alone.retired(&["retire", "--last"]);
    assert!(kept > 0, "{kept}");
    let [first, second, ..] = cuts.as_slice() else { panic!("twenty") };
    assert!(first.has_fired(), "no mark was published");
    assert!(!second.has_fired(), "published again before there was silence");
    assert_eq!(fleet.judge(100).twice(&fleet), (0, 0));
}

/// The queue of the broker would be lost with the session.
#[test]
fn stalled_connection_is_not_end_of_messages() {
    let fleet = Fleet::with_flows(1);
    let (alone, proxy) = gone_while_a_hundred_come(&fleet);
    // The mark.
    let still = proxy.at(Sign::Packet(Way::ToServer, Mqtt::Publish), 1).before(Act::Stall);
    let mut retiring = alone.begin_to_retire_with(&["--last"], &[]);
    still.wait();
    retiring.wait_for_line("The broker still has something for");
    assert_eq!(retiring.count_lines("The broker has sent all messages"), 0);
    proxy.flow();
    assert_eq!(retiring.wait_for_exit().code(), Some(0), "{}", retiring.stderr());
    assert_eq!(fleet.judge(100).twice(&fleet), (0, 0));
}

#[test]
fn worker_panic_during_retirement_is_replaced() {
    let fleet = Fleet::with_flows(1);
    let mut alone = fleet.replica(0, &[]);
    alone.start_subscribed();
    let other = fleet.world.another_session();
    other.run("BEGIN");
    other.run("SELECT id FROM flows FOR UPDATE");
    alone.kill();
    fleet.world.publish_all(fleet.messages(0..100));
    let mut retiring = alone.begin_to_retire_with(
        &["--last"],
        &[("FAILPOINTS", "worker-before-commit=1*panic(made to panic)->off")],
    );
    retiring.wait_for_line("draining for at most");
    other.run("ROLLBACK");
    assert_eq!(retiring.wait_for_exit().code(), Some(0), "{}", retiring.stderr());
    assert!(retiring.stderr().contains("made to panic"), "{}", retiring.stderr());
    assert_eq!(retiring.stderr().matches("restarting it in").count(), 1, "{}", retiring.stderr());
    assert_eq!(fleet.judge(100).twice(&fleet), (0, 0));
}
