//! Frequent messages are summed up, and no count is lost.

use crate::logs::page::assert_quoted;
use crate::logs::{Record, assert_one_object_a_line, await_record, parse, text};
use test_support::net::free_port;
use test_support::publisher::Message;
use test_support::sink::Sink;
use test_support::world::{Backend, World};

const INVALID: &str = "Invalid payload in topic ";

/// Of the errors whose message begins like this: lines, and how many errors these stand for.
fn lines_and_errors(gateway: &crate::logs::Gateway, begin: &str) -> (usize, u64) {
    lines_and_events(gateway, "ERROR", begin)
}

/// The same for any level.
fn lines_and_events(gateway: &crate::logs::Gateway, level: &str, begin: &str) -> (usize, u64) {
    let stderr = gateway.stderr();
    let records = stderr.lines().filter_map(parse);
    let lines: Vec<Record> = records
        .filter(|record| text(record, "level") == level && text(record, "message").starts_with(begin))
        .collect();
    let stands_for = |record: &Record| record.get("repeated").map_or(1, |many| many.as_u64().unwrap());
    (lines.len(), lines.iter().map(stands_for).sum())
}

/// The same by the daily error file, which has no fields.
fn in_the_error_files(world: &World, begin: &str) -> u64 {
    let text = world.error_log();
    let messages = text.lines().filter_map(|line| line.split_once(" | ERROR | mqtt_gateway | "));
    messages
        .filter(|(_, message)| message.starts_with(begin))
        .map(|(_, message)| {
            let many = message.rsplit_once("(repeated ").and_then(|(_, rest)| rest.split_once(" times in "));
            many.map_or(1, |(many, _)| many.parse().unwrap())
        })
        .sum()
}

fn flood(world: &World, topics: usize, messages: usize) {
    let garbage: [&[u8]; 4] = [b"garbage", b"", b"\xff\xfe", b"[1,\n 2]"];
    let message =
        |n: usize| Message::new(&world.topic(&format!("t/{}", n % topics)), garbage[n % garbage.len()]);
    world.publish_all((0..messages).map(message));
    world.wait_for_dead_letters(messages);
}

fn a_flood_is_summed_up(backend: Backend) {
    let mut world = World::on(backend);
    // One window for the whole test, independent of the machine's speed.
    world.set("LOG_REPEAT_SECONDS", "3600");
    world.flow("any", "t/#").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    flood(&world, 3, 3_000);
    assert_eq!(gateway.stop(), Some(0));
    let kinds = 3 * 3;
    assert_eq!(lines_and_errors(&gateway, INVALID), (kinds * 10 + kinds, 3_000), "ten of each, and a sum");
    assert_eq!(in_the_error_files(&world, INVALID), 3_000);
    for topic in 0..3 {
        let topic = world.topic(&format!("t/{topic}"));
        for (reason, count) in
            [("payload_not_json", 500), ("payload_not_utf8", 250), ("payload_not_object", 250)]
        {
            let repeated = (count - 10).to_string();
            let about = [("topic", topic.as_str()), ("reason", reason)];
            let sum = await_record(&gateway, INVALID, &[about[0], about[1], ("repeated", &repeated)]);
            let told = format!("(repeated {repeated} times in ");
            assert!(text(&sum, "message").contains(&told), "{sum:?}");
            await_record(&gateway, &format!("No longer repeated, {count} times in all within "), &about);
        }
    }
    assert_one_object_a_line(&gateway);
    assert_quoted("Dead letters", &["Invalid payload in topic ", "No longer repeated, "]);
}

#[test]
fn invalid_payload_flood_is_summed_per_topic() {
    a_flood_is_summed_up(Backend::MariaDb);
    a_flood_is_summed_up(Backend::Sqlite);
}

#[test]
fn flood_over_many_topics_is_counted() {
    let mut world = World::on(Backend::Sqlite);
    world.set("LOG_REPEAT_SECONDS", "3600");
    world.flow("any", "t/#").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    flood(&world, 1_000, 3_000);
    assert_eq!(gateway.stop(), Some(0));
    let (lines, errors) = lines_and_errors(&gateway, INVALID);
    assert_eq!(errors, 3_000);
    assert!(lines < 1_000, "{lines} lines");
    let sum = await_record(&gateway, INVALID, &[("message", " s, of many kinds; this is one of them)")]);
    assert!(!sum.contains_key("topic") && !sum.contains_key("reason"), "{sum:?}");
    assert_one_object_a_line(&gateway);
}

#[test]
fn window_sums_are_logged_while_running() {
    let mut world = World::on(Backend::Sqlite);
    world.set("LOG_REPEAT_SECONDS", "1").set("LOG_REPEAT_BURST", "2");
    world.flow("any", "t/#").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    flood(&world, 1, 500);
    await_record(&gateway, "No longer repeated, ", &[("topic", &world.topic("t/0"))]);
    assert_eq!(gateway.stop(), Some(0));
    let (lines, errors) = lines_and_errors(&gateway, INVALID);
    assert_eq!(errors, 500);
    assert!(lines < 250, "{lines} lines");
}

#[test]
fn unsummed_errors_can_be_configured() {
    let mut world = World::on(Backend::Sqlite);
    world.set("LOG_REPEAT_SECONDS", "0");
    world.flow("any", "t/#").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    flood(&world, 1, 300);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(lines_and_errors(&gateway, INVALID), (300, 300));
}

#[test]
fn rejecting_endpoint_is_counted_per_flow() {
    let mut world = World::on(Backend::Sqlite);
    world.set("LOG_REPEAT_SECONDS", "3600").set("LOG_REPEAT_BURST", "1");
    let server = format!("http://127.0.0.1:{}", free_port());
    let url = format!("{server}/***");
    for flow in ["a", "b"] {
        world.flow(flow, "t").posts_to(&format!("{server}/hook")).insert(&world.sql);
    }
    let mut gateway = world.start_subscribed();
    world.publish("t", "{}");
    for flow in ["a", "b"] {
        let begin = format!("Error posting flow {flow} to endpoint {url}: ");
        await_record(&gateway, &begin, &[("flow", flow), ("endpoint", &url), ("attempts", "1")]);
    }
    let tried = || {
        let sql = "SELECT COUNT(*) FROM outbox WHERE attempts >= 3";
        (world.sql.count(sql, []) == 2).then_some(())
    };
    test_support::eventually("three attempts for each flow", tried);
    assert_eq!(gateway.stop(), Some(0));
    for flow in ["a", "b"] {
        let (lines, errors) = lines_and_errors(&gateway, &format!("Error posting flow {flow} "));
        assert_eq!(lines, 2, "the first and the sum");
        assert!(errors >= 3, "{errors}");
    }
    assert_quoted("Outbox growing", &["Error posting flow "]);
}

#[test]
fn recoveries_of_a_flaky_endpoint_are_summed() {
    const POSTS: usize = 4;
    let mut world = World::on(Backend::Sqlite);
    world.set("LOG_REPEAT_SECONDS", "3600").set("LOG_REPEAT_BURST", "1");
    let sink = Sink::new();
    world.flow("a", "t").posts_to(&sink.url("/hook")).insert(&world.sql);
    let mut gateway = world.start_subscribed();
    for posted in 1..=POSTS {
        let tried = sink.requests().len();
        sink.answer_with(503);
        world.publish("t", "{}");
        test_support::eventually("a refusal", || (sink.requests().len() > tried).then_some(()));
        sink.answer_with(200);
        sink.wait_for_delivered(posted);
    }
    assert_eq!(gateway.stop(), Some(0));
    let begin = format!("Endpoint {} of flow a takes messages again", sink.url("/***"));
    assert_eq!(lines_and_events(&gateway, "INFO", &begin), (2, POSTS as u64), "the first and the sum");
}
