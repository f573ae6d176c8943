//! A worker that panics is restarted where it was; one that never stops panicking ends the process.

use crate::support::oracle::Load;
use crate::support::world::{Backend, World};

/// Exit code of a spent restart budget.
const BUDGET_SPENT: i32 = 3;

fn panics_once(backend: Backend, point: &str) {
    let mut world = World::on(backend);
    // The fifth time round, so that there is something before it.
    world.set("FAILPOINTS", &format!("{point}=4*off->1*panic(made to panic)->off"));
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    for _ in 0..8 {
        let messages = load.next(&world, 200);
        world.publish_all(messages);
        // At least one batch a round, so the fifth comes for certain.
        load.wait_until_stored(&world);
    }
    gateway.wait_for_line("made to panic");
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0], "nothing twice at {point}");
}

#[test]
fn a_panic_before_the_batch_loses_nothing_and_skips_no_id() {
    panics_once(Backend::MariaDb, "worker-batch");
    panics_once(Backend::Sqlite, "worker-batch");
}

#[test]
fn a_panic_before_the_commit_loses_nothing_and_skips_no_id() {
    panics_once(Backend::MariaDb, "worker-before-commit");
    panics_once(Backend::Sqlite, "worker-before-commit");
}

#[test]
fn a_panic_after_the_commit_doubles_nothing_and_skips_no_id() {
    panics_once(Backend::MariaDb, "worker-after-commit");
    panics_once(Backend::Sqlite, "worker-after-commit");
}

#[test]
fn panics_without_end_spend_the_budget_and_nothing_is_lost() {
    let mut world = World::on(Backend::MariaDb);
    world.set("FAILPOINTS", "worker-batch=10*panic(made to panic)->off");
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    assert_eq!(gateway.wait_for_exit().code(), Some(BUDGET_SPENT));
    world.settings.remove("FAILPOINTS");
    let mut gateway = world.start_subscribed();
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}
