//! A replica that is killed or stopped has posts left: another one makes them, in order and with the keys they had.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fleet::{Fleet, Replica};
use test_support::cell::Cell;
use test_support::endpoints::{
    Attempt, Endpoints, Fault, Meaning, Post, assert_in_order, assert_one_key_for_each_message, ids,
};
use test_support::eventually;
use test_support::world::{Backend, SERVERS};

const FLOWS: i64 = 4;

/// Messages of each flow before the kill, and as many after it.
const PART: i64 = 50;

const NOT_OWNED_BY: &str = "SELECT COUNT(*) FROM outbox WHERE owner <> ?";

/// What becomes of a killed replica.
#[derive(Clone, Copy)]
enum Fate {
    /// The test ends its lease.
    LeaseIsEnded,
    /// Its lease ends after its time.
    LeaseEnds,
    /// It is started again while its lease holds.
    Returns,
}

/// Flows that post to one endpoint, which is closed at first.
struct Scene {
    fleet: Fleet,
    endpoints: Endpoints,
    is_open: Arc<AtomicBool>,
}

impl Scene {
    fn on(backend: Backend) -> Scene {
        let fleet = Fleet::on(backend, usize::try_from(FLOWS).unwrap());
        let (mut endpoints, is_open) = (Endpoints::new(), Arc::new(AtomicBool::new(false)));
        let gate = Arc::clone(&is_open);
        let gated = endpoints.add(move |_| (!gate.load(Ordering::SeqCst)).then_some(Fault::Status(503)));
        post_to(&fleet, &gated);
        fleet.world.sql.run("UPDATE flows SET message_key = '/key'");
        Scene { fleet, endpoints, is_open }
    }

    /// Publishes the next messages up to this number of each flow, and waits until they are numbered.
    fn publish(&self, numbers: std::ops::Range<i64>) {
        let key = |number: i64| u64::try_from(number * FLOWS).unwrap();
        self.fleet.world.publish_all(self.fleet.messages(key(numbers.start)..key(numbers.end)));
        self.fleet.flows.iter().for_each(|flow| self.fleet.world.wait_for_last_msg_id(flow, numbers.end));
    }

    fn wait_for_accepted(&self, flow: &str, messages: i64) {
        let messages = usize::try_from(messages).unwrap();
        self.endpoints.wait_until(&format!("{messages} posts of {flow}"), |posts| {
            ids(posts, flow, Meaning::Accepted).len() >= messages
        });
    }

    /// Asserts that each message was accepted, in order and under one key.
    fn judge(&self, per_flow: i64) {
        let posts = self.endpoints.posts();
        assert_one_key_for_each_message(&posts);
        for (flow, code) in (0..).zip(&self.fleet.flows) {
            let accepted = ids(&posts, code, Meaning::Accepted);
            assert!(accepted.iter().copied().eq(1..=per_flow), "{code}: {accepted:?}");
            for post in posts.iter().filter(|post| post.flow == *code) {
                let key = (post.message_id - 1) * FLOWS + flow;
                assert_eq!(String::from_utf8_lossy(&post.body), format!(r#"{{"key": {key}}}"#));
            }
        }
        assert_in_order(&posts);
        assert!(self.fleet.world.dead_letters().is_empty());
    }
}

fn post_to(fleet: &Fleet, url: &str) {
    fleet.world.sql.execute("UPDATE flows SET action = 'POST_ENDPOINT', endpoint_url = ?", [url.into()]);
}

/// The inbox id of the only replica that has started so far.
fn only_owner(fleet: &Fleet) -> String {
    eventually("a lease", || {
        let rows = fleet.world.sql.rows("SELECT owner FROM outbox_owners", []);
        rows.first().map(|row| row.try_get("", "owner").unwrap())
    })
}

fn wait_for_empty_outbox(fleet: &Fleet) {
    let sql = "SELECT COUNT(*) FROM outbox";
    eventually("an empty outbox", || (fleet.world.sql.count(sql, []) == 0).then_some(()));
}

fn waiting_of(fleet: &Fleet, owner: &str) -> i64 {
    fleet.world.sql.count("SELECT COUNT(*) FROM outbox WHERE owner = ?", [owner.into()])
}

fn set_end_of_lease(fleet: &Fleet, owner: &str) {
    let sql = "UPDATE outbox_owners SET lease_until = '2000-01-01 00:00:00' WHERE owner = ?";
    fleet.world.sql.execute(sql, [owner.into()]);
}

/// The first shard hands flows over and is killed with messages in the outbox. The second numbers the next messages of
/// these flows while the first one's lease still holds.
fn survivor_posts_in_order(backend: Backend, fate: Fate) {
    let scene = Scene::on(backend);
    let fleet = &scene.fleet;
    let mut shards = fleet.shards(2);
    let (mut survivor, mut killed) = (shards.pop().unwrap(), shards.pop().unwrap());
    killed.is_one_of(1);
    killed.start_subscribed();
    let owner = only_owner(fleet);
    scene.publish(0..PART);
    scene.endpoints.wait_until("a failed post of each flow", |posts| {
        fleet.flows.iter().all(|flow| posts.iter().any(|post| post.flow == *flow))
    });
    killed.stop();
    killed.is_one_of(2);
    killed.start_subscribed();
    killed.running().wait_for_line("Handing over");
    survivor.start_subscribed();
    killed.wait_for_handover();
    // The broker may still send some messages to both.
    let numbered_by_survivor = || fleet.world.sql.count(NOT_OWNED_BY, [owner.as_str().into()]);
    let mut next = PART;
    while numbered_by_survivor() == 0 {
        scene.publish(next..next + 1);
        next += 1;
    }
    scene.publish(next..2 * PART);
    survivor.running().wait_for_line("wait until another gateway has posted its earlier messages");
    let keys = keys_in_outbox(fleet);
    killed.kill();
    scene.is_open.store(true, Ordering::SeqCst);
    match fate {
        Fate::LeaseIsEnded => set_end_of_lease(fleet, &owner),
        Fate::LeaseEnds => {
            survivor.running().wait_long_for_line("Took over");
        }
        Fate::Returns => killed.start_subscribed(),
    }
    fleet.flows.iter().for_each(|flow| scene.wait_for_accepted(flow, 2 * PART));
    wait_for_empty_outbox(fleet);
    survivor.stop();
    let posts = scene.endpoints.posts();
    for (key, message) in keys {
        let (flow, id) = &message;
        let of_message = posts.iter().filter(|post| (&post.flow, post.message_id) == (flow, *id));
        assert!(of_message.into_iter().all(|post| post.key == key), "{message:?} has another key than {key}");
    }
    scene.judge(2 * PART);
}

/// The waiting messages by key.
fn keys_in_outbox(fleet: &Fleet) -> Vec<(String, (String, i64))> {
    let sql = "SELECT inbox_id, inbox_offset, flow_id, flow_code, message_id FROM outbox";
    let rows = fleet.world.sql.rows(sql, []);
    let number = |row, column| i64::of(row, column).unwrap();
    let text = |row, column| String::of(row, column).unwrap();
    let rows = rows.iter().map(|row| {
        let key = format!("{}-{}-{}", text(row, 0), number(row, 1), number(row, 2));
        (key, (text(row, 3), number(row, 4)))
    });
    rows.collect()
}

#[test]
fn survivor_posts_rows_of_killed_replica_first() {
    for backend in SERVERS {
        survivor_posts_in_order(backend, Fate::LeaseIsEnded);
    }
}

#[test]
fn returning_replica_posts_its_rows_first() {
    for backend in SERVERS {
        survivor_posts_in_order(backend, Fate::Returns);
    }
}

#[test]
#[ignore = "takes two minutes; run by scripts/faults"]
fn lease_of_killed_replica_ends_by_itself() {
    survivor_posts_in_order(Backend::MariaDb, Fate::LeaseEnds);
}

/// Members take turns with the messages of each flow. One is killed under load, and comes back when the other has taken
/// its posts over.
#[test]
fn killed_member_loses_no_post() {
    SERVERS.into_iter().for_each(kills_a_member);
}

fn kills_a_member(backend: Backend) {
    let fleet = Fleet::on(backend, usize::try_from(FLOWS).unwrap());
    let mut endpoints = Endpoints::new();
    let fails_at_times =
        |post: Attempt| (post.message_id % PART == 0 && post.number == 1).then_some(Fault::Status(503));
    post_to(&fleet, &endpoints.add(fails_at_times));
    let mut members = fleet.group(2);
    members[0].start_subscribed();
    let owner = only_owner(&fleet);
    members[1].start_subscribed();
    let stream = fleet.publishing(50);
    stream.wait_for_more(500);
    members[0].kill();
    set_end_of_lease(&fleet, &owner);
    stream.wait_for_more(500);
    // The takeover may take a quarter of a lease.
    stream.hold();
    eventually("a takeover", || (waiting_of(&fleet, &owner) == 0).then_some(()));
    stream.go_on();
    members[0].start_subscribed();
    stream.wait_for_more(500);
    let published = stream.end();
    fleet.wait_until_numbered(published);
    wait_for_empty_outbox(&fleet);
    members.iter_mut().for_each(Replica::stop);
    let posts = endpoints.posts();
    assert_one_key_for_each_message(&posts);
    for flow in &fleet.flows {
        let last = fleet.world.last_msg_id(flow).unwrap();
        assert!(ids(&posts, flow, Meaning::Accepted).into_iter().eq(1..=last), "{flow}");
    }
    let keys: BTreeSet<u64> = posts.iter().map(key_of).collect();
    assert!(keys.into_iter().eq(0..published), "a message is lost");
}

fn key_of(post: &Post) -> u64 {
    let body: serde_json::Value = serde_json::from_slice(&post.body).unwrap();
    body["key"].as_u64().unwrap()
}

/// The replica is stopped with one post under way and the others in memory. When it goes on, the answer to that post is
/// there already, and another replica has made the others.
#[test]
#[ignore = "takes two minutes; run by scripts/faults"]
fn resumed_replica_starts_no_claimed_post() {
    let fleet = Fleet::on(Backend::MariaDb, 1);
    let mut endpoints = Endpoints::new();
    let holds_first = |post: Attempt| (post.message_id == 1 && post.number == 1).then_some(Fault::Held);
    post_to(&fleet, &endpoints.add(holds_first));
    let mut members = fleet.group(2);
    let (mut other, mut stopped) = (members.pop().unwrap(), members.pop().unwrap());
    // The post under way outlasts the stop.
    stopped.set(&[("HTTP_TIMEOUT_SECONDS", "600")]);
    stopped.start_subscribed();
    let owner = only_owner(&fleet);
    fleet.world.publish_all(fleet.messages(0..u64::try_from(PART).unwrap()));
    fleet.world.wait_for_last_msg_id("flow0", PART);
    endpoints.wait_until("the first post", |posts| !posts.is_empty());
    stopped.running().signal("STOP");
    other.start_subscribed();
    other.running().wait_long_for_line("Took over");
    wait_for_empty_outbox(&fleet);
    endpoints.release();
    // Its lease has expired anyway. A later expiry shows that it goes on.
    set_end_of_lease(&fleet, &owner);
    stopped.running().signal("CONT");
    let renewed =
        "SELECT COUNT(*) FROM outbox_owners WHERE owner = ? AND lease_until > '2001-01-01 00:00:00'";
    eventually("a new lease", || (fleet.world.sql.count(renewed, [owner.as_str().into()]) > 0).then_some(()));
    stopped.stop();
    other.stop();
    let posts = endpoints.posts();
    assert_one_key_for_each_message(&posts);
    let twice: Vec<i64> = repeated(&posts).into_iter().filter(|id| *id != 1).collect();
    assert_eq!(twice, [0; 0], "posted by both");
    assert!(ids(&posts, "flow0", Meaning::Accepted).into_iter().eq(1..=PART));
}

/// The numbers of the messages that came more than once.
fn repeated(posts: &[Post]) -> Vec<i64> {
    let mut seen = BTreeSet::new();
    posts.iter().map(|post| post.message_id).filter(|id| !seen.insert(*id)).collect()
}
