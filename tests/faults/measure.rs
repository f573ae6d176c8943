//! How fast healthy flows are beside bad endpoints, and how long a flow waits: to be read, not judged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use test_support::endpoints::{Endpoints, Fault, Meaning, Post};
use test_support::mosquitto::{Broker, BrokerOptions};
use test_support::publisher::Message;
use test_support::world::{Backend, World};
use test_support::{PATIENCE, eventually, eventually_within};

const HEALTHY: usize = 8;
const BAD: usize = 96;

/// Messages of each healthy flow in a turn, and of each bad one.
const HEALTHY_MESSAGES: usize = 5_000;
const BAD_MESSAGES: usize = 20;

/// Turns of each kind.
const TURNS: usize = 6;

const FAULTS: [Fault; 4] = [Fault::Hang, Fault::Status(500), Fault::Cut, Fault::Garbage];

fn quiet_world() -> World {
    let options = BrokerOptions { verbose: false, ..BrokerOptions::default() };
    World::with_broker(Backend::MariaDb, Broker::with(&options))
}

fn names(kind: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{kind}{number}")).collect()
}

fn publish(world: &World, flows: &[String], messages: usize) {
    let topics: Vec<String> = flows.iter().map(|flow| world.topic(flow)).collect();
    let of_round = |n| topics.iter().map(move |topic| Message::new(topic, format!(r#"{{"n": {n}}}"#)));
    world.publish_all((0..messages).flat_map(of_round));
}

fn wait_for_empty_outbox(world: &World) {
    let sql = "SELECT COUNT(*) FROM outbox";
    eventually("an empty outbox", || (world.sql.count(sql, []) == 0).then_some(()));
}

/// The time in which the bad messages are numbered does not count.
fn wait_until_outbox_has(world: &World, rows: usize) {
    let sql = "SELECT COUNT(*) FROM outbox";
    eventually("all bad messages", || {
        (world.sql.count(sql, []) >= i64::try_from(rows).unwrap()).then_some(())
    });
}

#[test]
#[ignore = "takes minutes and measures"]
fn healthy_flows_beside_bad_endpoints() {
    let mut world = quiet_world();
    world.set("HTTP_TIMEOUT_SECONDS", "2");
    let (mut good_endpoints, mut bad_endpoints) = (Endpoints::new(), Endpoints::new());
    let (healthy, bad) = (names("healthy", HEALTHY), names("bad", BAD));
    for flow in &healthy {
        world.flow(flow, flow).posts_to(&good_endpoints.add(|_| None)).insert(&world.sql);
    }
    let is_bad = Arc::new(AtomicBool::new(false));
    for (number, flow) in bad.iter().enumerate() {
        let (is_bad, fault) = (Arc::clone(&is_bad), FAULTS[number % FAULTS.len()]);
        let url = bad_endpoints.add(move |_| is_bad.load(Ordering::SeqCst).then_some(fault));
        world.flow(flow, flow).posts_to(&url).insert(&world.sql);
    }
    let mut gateway = world.start_subscribed();
    let (mut time_alone, mut ratios) = (Duration::ZERO, Vec::new());
    for turn in 0..2 * TURNS {
        let with_bad = turn % 2 == 1;
        if with_bad {
            is_bad.store(true, Ordering::SeqCst);
            let before = bad_endpoints.count();
            publish(&world, &bad, BAD_MESSAGES);
            bad_endpoints.wait_until("a post to each bad endpoint", |posts| {
                bad.iter().all(|flow| posts[before..].iter().any(|post| post.flow == *flow))
            });
            wait_until_outbox_has(&world, BAD * BAD_MESSAGES);
        }
        let wanted = HEALTHY * HEALTHY_MESSAGES;
        let before = good_endpoints.count();
        let begun = Instant::now();
        publish(&world, &healthy, HEALTHY_MESSAGES);
        good_endpoints.wait_for(before + wanted);
        let time = begun.elapsed();
        let rate = u128::try_from(wanted).unwrap() * 1_000 / time.as_millis().max(1);
        println!("{} bad endpoints: {rate} posts/s of the healthy flows", if with_bad { BAD } else { 0 });
        if with_bad {
            ratios.push(100.0 * time_alone.as_secs_f64() / time.as_secs_f64());
        }
        time_alone = time;
        is_bad.store(false, Ordering::SeqCst);
        wait_for_empty_outbox(&world);
    }
    ratios.sort_by(f64::total_cmp);
    println!("rate with {BAD} bad endpoints in per cent of the rate before, sorted: {ratios:.0?}");
    assert_eq!(gateway.stop(), Some(0));
}

fn find<'p>(posts: &'p [Post], flow: &str, is_it: impl Fn(&Post) -> bool) -> Option<&'p Post> {
    posts.iter().find(|post| post.flow == flow && is_it(post))
}

#[test]
#[ignore = "measures"]
fn delay_after_a_refusal_and_after_an_edit() {
    let mut world = quiet_world();
    world.set("FLOWS_RELOAD_INTERVAL_SECONDS", "86400");
    let mut endpoints = Endpoints::new();
    let refuses_one = endpoints.add(|post| (post.message_id == 1).then_some(Fault::Status(422)));
    world.flow("strict", "strict").posts_to(&refuses_one).insert(&world.sql);
    let (wrong, right) = (endpoints.add(|_| Some(Fault::RetryAfterSeconds(3600))), endpoints.add(|_| None));
    world.flow("mended", "mended").posts_to(&wrong).insert(&world.sql);
    let mut gateway = world.start_subscribed();
    publish(&world, &["strict".to_owned(), "mended".to_owned()], 2);
    endpoints.wait_until("the next post after a refusal", |posts| {
        find(posts, "strict", |post| post.meaning == Meaning::Accepted).is_some()
            && find(posts, "mended", |_| true).is_some()
    });
    let posts = endpoints.posts();
    let at = |meaning| find(&posts, "strict", |post| post.meaning == meaning).unwrap().at;
    println!("after a refusal: {:?}", at(Meaning::Accepted) - at(Meaning::Refused));
    let edited = Instant::now();
    world.sql.execute("UPDATE flows SET endpoint_url = ? WHERE code = 'mended'", [right.into()]);
    let is_there = |posts: &[Post]| find(posts, "mended", |post| post.meaning == Meaning::Accepted).is_some();
    eventually_within(2 * PATIENCE, "a post to the new URL", || is_there(&endpoints.posts()).then_some(()));
    let posts = endpoints.posts();
    let post = find(&posts, "mended", |post| post.meaning == Meaning::Accepted).unwrap();
    println!("after an edit of endpoint_url: {:?}", post.at - edited);
    assert_eq!(gateway.stop(), Some(0));
}
