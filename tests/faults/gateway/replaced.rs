//! A worker is replaced while the COMMIT of its predecessor is still under way.

use crate::support::eventually;
use crate::support::mosquitto::Broker;
use crate::support::oracle::Load;
use crate::support::proxy::{Act, Proxy, Sign};
use crate::support::world::{Backend, World};

/// Whether the server has got the COMMIT when the successor comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Old {
    /// No, it is under way still: the transaction is open and holds the lane's row.
    NotYet,
    /// It is done; only the answer is missing.
    Done,
}

fn is_replaced_while_its_commit_is(old: Old) {
    let mut world = World::with_broker(Backend::MariaDb, Broker::shared());
    let proxy = Proxy::to_mysql(world.database_address());
    world.reach_database_at(proxy.address());
    // It panics at a beat, a few seconds into its life.
    world.set("FAILPOINTS", "beat-flow-worker-0=3*off->1*panic(made to panic)->off").set("LANES", "1");
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    load.wait_until_stored(&world);

    let commit = proxy.at(Sign::Statement("COMMIT"), 1);
    let under_way = match old {
        Old::NotYet => commit.before(Act::Stall),
        Old::Done => commit.after(Act::HoldAnswer),
    };
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    under_way.wait();
    gateway.wait_for_line("made to panic");
    if old == Old::NotYet {
        eventually("the successor to wait for the lane's row", || {
            (waiting_for_a_lock(&world) > 0).then_some(())
        });
    }
    proxy.flow();

    let messages = load.next(&world, 500);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

/// Transactions of this test that wait for a row.
fn waiting_for_a_lock(world: &World) -> i64 {
    world.sql.count(
        "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p \
         ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = ?",
        [world.name.as_str().into()],
    )
}

#[test]
fn a_worker_replaced_before_its_commit_arrives_doubles_nothing() {
    is_replaced_while_its_commit_is(Old::NotYet);
}

#[test]
fn a_worker_replaced_before_it_hears_of_its_commit_doubles_nothing() {
    is_replaced_while_its_commit_is(Old::Done);
}
