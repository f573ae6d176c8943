//! A worker is replaced while the COMMIT of its predecessor is still under way.

use test_support::eventually;
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::proxy::{Act, Sign};
use test_support::world::{Backend, SERVERS, World};

const PANIC: &str = "made to panic";

/// Whether the server has got the COMMIT when the successor comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Old {
    /// No, it is under way still: the transaction is open and holds the lane's row.
    NotYet,
    /// It is done; only the answer is missing.
    Done,
}

/// The worker panics at a beat, some seconds into its life. On a slow machine that can be before its COMMIT is held
/// up; then it has to be done over.
fn is_replaced_while_its_commit_is(old: Old) {
    for backend in SERVERS {
        assert!(
            (0..5).any(|_| is_replaced_in_time(backend, old)),
            "five workers panicked before their COMMIT"
        );
    }
}

fn is_replaced_in_time(backend: Backend, old: Old) -> bool {
    let mut world = World::with_broker(backend, Broker::shared());
    let proxy = world.reach_database_by_proxy();
    world.set("FAILPOINTS", &format!("beat-flow-worker-0=5*off->1*panic({PANIC})->off")).set("LANES", "1");
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    load.wait_until_stored(&world);

    let commit = proxy.at(Sign::Statement("COMMIT AFTER UPDATE inbox_offsets"), 1);
    let under_way = match old {
        Old::NotYet => commit.before(Act::Stall),
        Old::Done => commit.after(Act::HoldAnswer),
    };
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    under_way.wait();
    let in_time = gateway.count_lines(PANIC) == 0;
    gateway.wait_for_line(PANIC);
    if in_time && old == Old::NotYet {
        eventually("the successor to wait for the lane's row", || world.waits_for_a_lane().then_some(()));
    }
    proxy.flow();

    let messages = load.next(&world, 500);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    in_time
}

#[test]
fn worker_replaced_before_commit_doubles_nothing() {
    is_replaced_while_its_commit_is(Old::NotYet);
}

#[test]
fn worker_replaced_before_answer_doubles_nothing() {
    is_replaced_while_its_commit_is(Old::Done);
}
