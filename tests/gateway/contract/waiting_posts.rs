//! Posts that wait go where their flow's row says at the next reload: elsewhere, nowhere for now, or to the dead
//! letters.

use test_support::eventually;
use test_support::process::Gateway;
use test_support::sink::Sink;
use test_support::world::World;

const MESSAGES: usize = 3;

fn body(number: usize) -> String {
    format!(r#"{{"number": {number}}}"#)
}

fn bodies() -> Vec<String> {
    (0..MESSAGES).map(body).collect()
}

fn outbox_rows(world: &World) -> i64 {
    world.sql.count("SELECT COUNT(*) FROM outbox", [])
}

/// A gateway whose flow `post` has messages that its endpoint refuses. It reloads only on request.
fn start_with_waiting_posts(world: &mut World, refusing: &Sink) -> Gateway {
    world.set("FLOWS_RELOAD_INTERVAL_SECONDS", "86400");
    refusing.answer_with(500);
    world.flow("post", "t").posts_to(&refusing.url("/old")).insert(&world.sql);
    let gateway = world.start_subscribed();
    (0..MESSAGES).for_each(|number| world.publish("t", body(number)));
    eventually("rows that wait", || (outbox_rows(world) == 3).then_some(()));
    eventually("a first try", || (!refusing.requests().is_empty()).then_some(()));
    gateway
}

fn edit(world: &World, gateway: &Gateway, sql: &str) {
    world.sql.run(sql);
    gateway.signal("HUP");
}

fn delivered(sink: &Sink) -> Vec<String> {
    let delivered = sink.wait_for_delivered(MESSAGES).into_iter();
    delivered.map(|request| String::from_utf8(request.body).unwrap()).collect()
}

fn posts_that_wait_follow_a_mended_url(mut world: World) {
    let (old, new) = (Sink::new(), Sink::new());
    let gateway = start_with_waiting_posts(&mut world, &old);
    edit(&world, &gateway, &format!("UPDATE flows SET endpoint_url = '{}'", new.url("/new?key=s3cret")));
    assert_eq!(delivered(&new), bodies());
    let keys = |sink: &Sink| sink.requests()[0].header("idempotency-key").unwrap().to_owned();
    assert_eq!(keys(&old), keys(&new), "the key stays the same");
    gateway.wait_for_line("waiting posts of flow post go to endpoint");
    assert!(old.delivered().is_empty() && gateway.count_lines("s3cret") == 0);
    eventually("an empty outbox", || (outbox_rows(&world) == 0).then_some(()));
}

fn pauses(world: &World, rows: &str) -> i64 {
    world.sql.count(&format!("SELECT COUNT(*) FROM outbox_pauses {rows}"), [])
}

fn posts_of_disabled_flow_wait(mut world: World) {
    let sink = Sink::new();
    let mut gateway = start_with_waiting_posts(&mut world, &sink);
    edit(&world, &gateway, "UPDATE flows SET enabled = FALSE");
    gateway.wait_for_line("The 3 waiting posts of flow post stay in the outbox: it is disabled");
    eventually("a pause", || (pauses(&world, "WHERE resumed_at IS NULL") == 1).then_some(()));
    sink.answer_with(200);
    // Neither now nor after a restart, at which the rows are found in the table.
    gateway.kill();
    let gateway = world.start();
    gateway.wait_for_line("The 3 waiting posts of flow post stay in the outbox: it is disabled");
    let mark = world.broker.mark();
    world.flow("later", "later").insert(&world.sql);
    gateway.signal("HUP");
    world.wait_for_filters(mark, &[&world.topic("later")]);
    assert!(sink.delivered().is_empty() && world.dead_letters().is_empty());
    assert_eq!(gateway.count_lines("stay in the outbox"), 1, "said once");
    assert_eq!(pauses(&world, "WHERE resumed_at IS NULL"), 1, "the pause lasts over the restart");
    edit(&world, &gateway, "UPDATE flows SET enabled = TRUE");
    assert_eq!(delivered(&sink), bodies());
    eventually("an empty outbox", || (outbox_rows(&world) == 0).then_some(()));
    gateway.signal("HUP");
    eventually("no pause", || (pauses(&world, "") == 0).then_some(()));
}

fn posts_without_usable_url_wait(mut world: World) {
    let (old, new) = (Sink::new(), Sink::new());
    let gateway = start_with_waiting_posts(&mut world, &old);
    edit(&world, &gateway, "UPDATE flows SET endpoint_url = NULL");
    gateway.wait_for_line("stay in the outbox: the flow has no endpoint_url; correct endpoint_url");
    edit(&world, &gateway, &format!("UPDATE flows SET endpoint_url = '{}'", new.url("/")));
    assert_eq!(delivered(&new), bodies());
}

fn posts_of_a_deleted_flow_become_dead_letters(mut world: World) {
    let (sink, other) = (Sink::new(), Sink::new());
    world.flow("other", "other").posts_to(&other.url("/")).insert(&world.sql);
    let gateway = start_with_waiting_posts(&mut world, &sink);
    let id = world.sql.count("SELECT id FROM flows WHERE code = 'post'", []);
    edit(&world, &gateway, "DELETE FROM flows WHERE code = 'post'");
    let letters = world.wait_for_dead_letters(MESSAGES);
    let payloads: Vec<_> =
        letters.iter().map(|letter| String::from_utf8(letter.payload.clone()).unwrap()).collect();
    assert_eq!(payloads, bodies());
    assert!(
        letters.iter().all(|letter| (letter.reason.as_str(), letter.flow_id) == ("flow_deleted", Some(id)))
    );
    eventually("an empty outbox", || (outbox_rows(&world) == 0).then_some(()));
    assert_eq!(gateway.count_lines("was deleted: its 3 waiting posts become dead letters"), 1, "said once");
    world.publish("other", body(0));
    other.wait_for_delivered(1);
    assert!(sink.delivered().is_empty());
}

fn aging_posts_are_reported_in_stages(mut world: World) {
    world.set("OUTBOX_MAX_AGE_SECONDS", "1000000");
    let sink = Sink::new();
    let gateway = start_with_waiting_posts(&mut world, &sink);
    assert_eq!(gateway.count_lines("of OUTBOX_MAX_AGE_SECONDS"), 0);
    for (days, stage) in [(6, "half"), (9, "three quarters"), (12, "all")] {
        let then = chrono::Utc::now().naive_utc() - chrono::TimeDelta::days(days);
        let sql = format!("UPDATE outbox SET created_at = '{}'", then.format("%Y-%m-%d %H:%M:%S"));
        // The second sweep finds the same stage.
        edit(&world, &gateway, &sql);
        gateway.wait_for_line(&format!(" s, {stage} of OUTBOX_MAX_AGE_SECONDS. After 2"));
        gateway.signal("HUP");
    }
    assert_eq!(gateway.count_lines("The oldest of 3 waiting posts of flow post has waited for"), 3);
}

on_each_database!(
    posts_that_wait_follow_a_mended_url,
    posts_of_disabled_flow_wait,
    posts_without_usable_url_wait,
    posts_of_a_deleted_flow_become_dead_letters,
    aging_posts_are_reported_in_stages,
);
