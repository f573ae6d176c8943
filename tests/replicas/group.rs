//! Replicas that share the messages of all flows by `$share/<group>/…`.

use crate::fleet::Fleet;
use crate::many_messages;
use test_support::eventually;
use test_support::world::{Backend, SERVERS};

const FLOWS: usize = 16;

/// Four members; one is killed and started again, one is ended for good and retired, one is added.
fn a_group_goes_through_all_of_it(backend: Backend, published_in_all: u64) {
    let fleet = Fleet::on(backend, FLOWS);
    let mut members = fleet.group(5);
    let mut added = members.pop().unwrap();
    members.iter_mut().for_each(super::fleet::Replica::start_subscribed);
    let stream = fleet.publishing(100);
    let part = published_in_all / 6;
    stream.wait_for_more(part);
    members[0].kill();
    stream.wait_for_more(part);
    members[0].start_subscribed();
    stream.wait_for_more(part);
    members[1].stop();
    stream.wait_for_more(part);
    let kept = members[1].retire();
    added.start_subscribed();
    stream.wait_for_more(2 * part);
    let published = stream.end();
    fleet.wait_until_stored(published);
    for member in members.iter_mut().filter(|member| !member.name.ends_with("-1")).chain([&mut added]) {
        member.stop();
    }
    assert!(kept > 0, "the broker keeps messages for a member that is away");
    let verdict = fleet.judge(published);
    let (with_a_key, without) = verdict.twice(&fleet);
    assert_eq!(with_a_key, 0);
    assert!(without <= 20, "{without} twice: what was under way at the kill is known when it comes again");
}

#[test]
fn changing_group_loses_nothing() {
    for backend in SERVERS {
        a_group_goes_through_all_of_it(backend, 6_000);
    }
}

#[test]
#[ignore = "takes minutes; REPLICAS_MESSAGES says how many messages"]
fn changing_group_loses_nothing_at_volume() {
    a_group_goes_through_all_of_it(Backend::MariaDb, many_messages());
}

#[test]
fn members_on_sqlite_take_turns() {
    let fleet = Fleet::on(Backend::Sqlite, 4);
    let mut members = fleet.group(2);
    members.iter_mut().for_each(super::fleet::Replica::start_subscribed);
    let stream = fleet.publishing(50);
    stream.wait_for_more(1_000);
    let published = stream.end();
    fleet.wait_until_stored(published);
    members.iter_mut().for_each(super::fleet::Replica::stop);
    assert_eq!(fleet.judge(published).twice(&fleet), (0, 0));
}

#[test]
fn explicitly_shared_flow_stays_unchanged() {
    let fleet = Fleet::with_flows(1);
    let world = &fleet.world;
    let own = format!("$share/own/{}", world.topic("other"));
    world.sql.execute("UPDATE flows SET topic = ?", [own.as_str().into()]);
    let mut member = fleet.group(1).remove(0);
    let mark = world.broker.mark();
    member.start();
    world.broker.wait_for_subscriptions(mark, &member.name, &[&own]);
    world.publish("other", r#"{"key": 0}"#);
    assert_eq!(world.wait_for_stored("flow0", 1).len(), 1);
    member.stop();
}

/// A server that has become a standby may keep the sessions that it has: the registry's one goes to the new primary.
#[test]
fn member_with_read_only_session_reconnects() {
    let fleet = Fleet::on(Backend::Postgres, 1);
    let (sql, mut member) = (&fleet.world.sql, fleet.group(1).remove(0));
    member.set(&[("RUST_LOG", "info,mqtt_gateway::actors::registry=debug")]);
    member.start_subscribed();
    let new_sessions_are_read_only = |access: &str| {
        let name: String =
            sql.rows("SELECT CAST(current_database() AS TEXT)", [])[0].try_get_by_index(0).unwrap();
        sql.run(&format!("ALTER DATABASE {name} SET default_transaction_read_only = {access}"));
    };
    new_sessions_are_read_only("on");
    let others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sql.run(&format!("SELECT pg_terminate_backend(pid) {others}"));
    member.running().wait_for_line_that("a look by a session that is read-only", &|line| {
        line.contains("Cannot publish the state of this gateway") && line.contains("read-only")
    });
    new_sessions_are_read_only("off");
    sql.run("UPDATE gateway_members SET seen_at = '2000-01-01'");
    let heard = "SELECT COUNT(*) FROM gateway_members WHERE seen_at > '2001-01-01'";
    eventually("the member to tell of itself", || (sql.count(heard, []) > 0).then_some(()));
    member.stop();
}
