//! COMMIT, and the connection that breaks around it: was it done or not?

use test_support::eventually;
use test_support::oracle::Load;
use test_support::proxy::{Act, How, Proxy, Sign, Way};
use test_support::world::{Backend, SERVERS, World};

/// The row of a lane.
const COMMIT: Sign = Sign::Statement("COMMIT AFTER UPDATE inbox_offsets");

fn commits_that_fail(backend: Backend, point: &str) {
    let mut world = World::on(backend);
    world.set("FAILPOINTS", &format!("{point}=20%return"));
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    eventually("ten batches whose COMMIT failed", || {
        let messages = load.next(&world, 20);
        world.publish_all(messages);
        (gateway.count_lines("Database refuses, nothing is lost") >= 10).then_some(())
    });
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

#[test]
fn unsent_commit_is_repeated() {
    commits_that_fail(Backend::MariaDb, "commit-not-sent");
    commits_that_fail(Backend::Postgres, "commit-not-sent");
    commits_that_fail(Backend::Sqlite, "commit-not-sent");
}

#[test]
fn cut_commit_answer_is_not_repeated() {
    commits_that_fail(Backend::MariaDb, "commit-not-answered");
    commits_that_fail(Backend::Postgres, "commit-not-answered");
    commits_that_fail(Backend::Sqlite, "commit-not-answered");
}

#[test]
fn repeated_cuts_at_commit_are_exactly_once() {
    SERVERS.into_iter().for_each(cut_at_commit_again_and_again);
}

fn cut_at_commit_again_and_again(backend: Backend) {
    let (world, proxy) = through_a_proxy(backend);
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    for round in 0..16 {
        let commit = proxy.at(COMMIT, 1 + round % 3);
        let cut = match round % 4 {
            0 => commit.before(Act::Cut(How::Rst)),
            1 => commit.after(Act::Cut(How::Rst)),
            2 => commit.before(Act::Cut(How::Fin)),
            _ => commit.after(Act::CutAtAnswer),
        };
        eventually("the cut", || {
            let messages = load.next(&world, 30);
            world.publish_all(messages);
            cut.has_fired().then_some(())
        });
    }
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    let failures =
        gateway.count_errors("Database refuses") + gateway.count_warnings("Database still refuses");
    // If the connection is cut after the COMMIT was forwarded, the answer may arrive before the cut. This is one of the
    // four kinds of rounds; in the others no answer can arrive.
    assert!(failures >= 12, "a failure for each cut that no answer can have overtaken: {failures}");
    assert_eq!(load.judge(&world), [0; 0]);
}

/// The COMMIT is still in flight when the gateway loses its connection. It arrives while the next session already waits
/// for the lane's row.
#[test]
fn late_commit_after_reconnect_counts_once() {
    SERVERS.into_iter().for_each(arrives_after_the_gateway_has_reconnected);
}

fn arrives_after_the_gateway_has_reconnected(backend: Backend) {
    let (world, proxy) = through_a_proxy(backend);
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    for _ in 0..5 {
        let kept = proxy.at(COMMIT, 1).before(Act::Stall);
        let messages = load.next(&world, 100);
        world.publish_all(messages);
        kept.wait();
        let known = gateway.count_lines("Database refuses");
        proxy.half_close(Way::ToClient);
        eventually("the gateway to see that", || {
            (gateway.count_lines("Database refuses") > known).then_some(())
        });
        eventually("a session that waits for the lane's row", || world.waits_for_a_lane().then_some(()));
        let messages = load.next(&world, 100);
        world.publish_all(messages);
        proxy.flow();
        load.wait_until_stored(&world);
    }
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

/// A world whose gateway reaches the database through the proxy; the test itself does not.
fn through_a_proxy(backend: Backend) -> (World, Proxy) {
    let mut world = World::on(backend);
    let proxy = world.reach_database_by_proxy();
    (world, proxy)
}
