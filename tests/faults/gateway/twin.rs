//! Two processes where one should be: the same client id, the same inbox.

use std::collections::BTreeSet;
use std::io::Read;

use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::process::{Gateway, Settings};
use test_support::proxy::{Act, Sign};
use test_support::publisher::take_session;
use test_support::world::{Backend, SERVERS, World};

const FLOWS: usize = 2;
const TAKEN_OVER: &str = "another client with the client id";

/// The same gateway once more, with an inbox of its own.
fn twin_of(world: &World) -> Settings {
    let mut settings = world.settings.clone();
    let inbox = world.directory().join("inbox-of-the-twin");
    settings.insert("INBOX_DIR".to_owned(), inbox.to_str().unwrap().to_owned());
    settings
}

/// Each inbox keeps the order of a flow, two inboxes together do not. Messages in flight to one gateway when the other
/// took over may arrive at both.
fn all_is_there_and_numbered_without_a_gap(world: &World, load: &Load, published: u64) {
    load.wait_until_stored(world);
    let mut keys = BTreeSet::new();
    let mut copies = 0;
    for flow in 0..FLOWS {
        let code = format!("flow{flow}");
        let stored = world.stored(&code);
        let ids: Vec<i64> = stored.iter().map(|message| message.id).collect();
        assert!(ids.iter().copied().eq(1..=i64::try_from(ids.len()).unwrap()), "{code}: {ids:?}");
        copies += stored.len();
        keys.extend(stored.iter().map(|message| message.value("key").unwrap().parse::<u64>().unwrap()));
    }
    assert!(keys.iter().copied().eq(0..published), "lost: all keys are there");
    let most = keys.len() + world.broker.resent_to(&world.name);
    assert!(copies <= most, "{copies} messages, and at most {most} were sent");
}

#[test]
fn duplicate_client_id_is_reported_without_loss() {
    let world = World::with_broker(Backend::MariaDb, Broker::private());
    let mut load = Load::over(&world, FLOWS);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    let mut published = 1_000;
    while gateway.count_lines(TAKEN_OVER) == 0 {
        let mut stranger = take_session(world.broker.address, &world.name);
        let messages = load.next(&world, 100);
        world.publish_all(messages);
        published += 100;
        // To its end: the gateway takes its session back.
        let _ = stranger.read_to_end(&mut Vec::new());
    }
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    all_is_there_and_numbered_without_a_gap(&world, &load, published);
}

#[test]
fn client_id_with_second_inbox_is_refused() {
    let world = World::with_broker(Backend::MariaDb, Broker::private());
    let mut load = Load::over(&world, FLOWS);
    let mut first = world.start_subscribed();
    for options in [&["run"][..], &["run", "--new-inbox"]] {
        let mut second = Gateway::start(options, &twin_of(&world), world.directory());
        assert_eq!(second.wait_for_exit().code(), Some(1));
        assert!(second.stderr().contains(&format!("process {}", first.id())), "{}", second.stderr());
    }
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(first.count_lines(TAKEN_OVER), 0);
    assert_eq!(first.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

#[test]
fn inbox_of_stopped_process_is_refused() {
    let mut world = World::with_broker(Backend::MariaDb, Broker::private());
    let proxy = world.reach_database_by_proxy();
    let mut load = Load::over(&world, FLOWS);
    let mut first = world.start_subscribed();
    let in_transaction = proxy.at(Sign::Statement("COMMIT"), 3).before(Act::Stall);
    let messages = load.next(&world, 2_000);
    world.publish_all(messages);
    in_transaction.wait();
    first.signal("STOP");

    let mut second = world.start();
    assert_eq!(second.wait_for_exit().code(), Some(1));
    second.wait_for_line(&format!("{}", first.id()));

    first.signal("CONT");
    proxy.flow();
    load.wait_until_stored(&world);
    assert_eq!(first.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

#[test]
#[ignore = "takes half a minute; run by scripts/faults"]
fn stopped_twin_blocks_until_session_ends() {
    SERVERS.into_iter().for_each(assert_stopped_twin_blocks_until_session_ends);
}

fn assert_stopped_twin_blocks_until_session_ends(backend: Backend) {
    let mut world = World::with_broker(backend, Broker::private());
    let straight = twin_of(&world);
    let proxy = world.reach_database_by_proxy();
    let mut load = Load::over(&world, FLOWS);
    let mut first = world.start_subscribed();
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    let in_transaction = proxy.at(Sign::Statement("COMMIT"), 1).before(Act::Stall);
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    in_transaction.wait();
    first.signal("STOP");

    // Its row locks are on the very flows that the twin gets messages for.
    let mark = world.broker.mark();
    let mut second = Gateway::start(&["run", "--new-inbox"], &straight, world.directory());
    world.wait_for_flows(mark);
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    for flow in 0..FLOWS {
        world.wait_for_last_msg_id(&format!("flow{flow}"), 500);
    }

    first.signal("CONT");
    proxy.flow();
    load.wait_until_stored(&world);
    assert_eq!(second.stop(), Some(0));
    assert_eq!(first.stop(), Some(0));
    all_is_there_and_numbered_without_a_gap(&world, &load, 1_500);
}
