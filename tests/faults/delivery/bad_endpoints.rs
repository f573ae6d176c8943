//! Endpoints that misbehave in every known way, while the gateway is killed and the database restarted: each message is
//! accepted by its endpoint or is a dead letter with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use test_support::endpoints::{
    Attempt, Endpoints, Fault, Meaning, Post, assert_in_order, assert_one_key_for_each_message, ids,
};
use test_support::eventually;
use test_support::mariadb::MariaDbServer;
use test_support::mosquitto::{Broker, BrokerOptions};
use test_support::postgres::PostgresServer;
use test_support::publisher::{Message, Publisher};
use test_support::world::World;

/// The flows, each with the fault of its endpoint.
const FLOWS: [(&str, Option<Fault>); 16] = [
    ("healthy", None),
    ("refuses", Some(Fault::Status(422))),
    ("fails", Some(Fault::Status(500))),
    ("waits-for-seconds", Some(Fault::RetryAfterSeconds(1))),
    ("waits-for-date", Some(Fault::RetryAfterDate(2))),
    ("continues", Some(Fault::Interim(100))),
    ("hints", Some(Fault::Interim(103))),
    ("moves", Some(Fault::Moved)),
    ("healthy-too", None),
    ("redirects", Some(Fault::Found)),
    ("hangs", Some(Fault::Hang)),
    ("cuts", Some(Fault::Cut)),
    ("answers-at-length", Some(Fault::LongBody)),
    ("malformed", Some(Fault::MalformedHead)),
    ("garbage", Some(Fault::Garbage)),
    ("healthy-as-well", None),
];

/// How often each endpoint misbehaves, as messages of its flow.
const FAULTS: i64 = 4;

const KILLS: usize = 3;

/// More than the broker has on its way to a gateway. A message that it sends again after a kill is recognised only
/// behind earlier ones.
const BEFORE_ANY_STRIKE: usize = 100;

fn body(flow: &str, message_id: i64) -> String {
    format!(r#"{{"flow": "{flow}", "n": {message_id}}}"#)
}

/// Makes the flows and their endpoints.
fn world_with(mut world: World, endpoints: &mut Endpoints, per_flow: i64) -> World {
    // The price of an endpoint that hangs.
    world.set("HTTP_TIMEOUT_SECONDS", "2");
    for (flow, fault) in FLOWS {
        let script = move |attempt: Attempt| {
            let is_hit = attempt.message_id % (per_flow / FAULTS) == per_flow / FAULTS / 2;
            fault.filter(|_| is_hit && attempt.number == 1)
        };
        world.flow(flow, flow).posts_to(&endpoints.add(script)).insert(&world.sql);
    }
    world
}

fn quiet_broker() -> Broker {
    Broker::with(&BrokerOptions { verbose: false, ..BrokerOptions::default() })
}

#[derive(Clone, Copy, Debug)]
enum Strike {
    KillGateway,
    RestartDatabase,
}

/// The strikes in their order, each with the number of posts before it. They differ from run to run.
fn strikes(messages: i64) -> Vec<(usize, Strike)> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut state = now.subsec_nanos();
    let mut moment = || {
        // The generator of "Numerical Recipes"; its upper half is random enough.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::try_from(messages).unwrap() * usize::try_from(state >> 16).unwrap() / (1 << 16)
    };
    let mut strikes = vec![(moment(), Strike::RestartDatabase)];
    strikes.extend((0..KILLS).map(|_| (moment(), Strike::KillGateway)));
    strikes.sort_by_key(|(posts, _)| *posts);
    strikes
}

/// Publishes `messages` to all flows in turn, strikes, and judges.
fn loses_no_post(world: World, messages: i64, restart_database: &mut dyn FnMut()) {
    let per_flow = messages / i64::try_from(FLOWS.len()).unwrap();
    let mut endpoints = Endpoints::new();
    let world = world_with(world, &mut endpoints, per_flow);
    let mut gateway = world.start_subscribed();
    let (broker, prefix) = (world.broker.address, world.topic(""));
    let device = std::thread::spawn(move || {
        let of_round = |id| FLOWS.map(|(flow, _)| Message::new(&format!("{prefix}{flow}"), body(flow, id)));
        Publisher::connect(broker).publish_all((1..=per_flow).flat_map(of_round));
    });
    let strikes = strikes(messages);
    println!("{:?}: {strikes:?}", world.backend);
    for (posts, strike) in strikes {
        endpoints.wait_for(posts.max(BEFORE_ANY_STRIKE));
        match strike {
            Strike::RestartDatabase => restart_database(),
            Strike::KillGateway => {
                gateway.kill();
                gateway = world.start();
            }
        }
    }
    device.join().unwrap();
    wait_until_posted(&world, &endpoints, per_flow);
    assert_eq!(gateway.stop(), Some(0));
    world.audit();
    judge(&world, &endpoints.posts(), per_flow);
}

/// Waits until each message has a number and no post waits, while posts go on.
fn wait_until_posted(world: &World, endpoints: &Endpoints, per_flow: i64) {
    const BEHIND: &str = "SELECT COUNT(*) FROM flows WHERE COALESCE(last_msg_id, 0) < ?";
    const WAITING: &str = "SELECT COUNT(*) FROM outbox";
    // The restart has cut the test's own session.
    eventually("the database", || world.sql.try_rows("SELECT 1", []).ok());
    let is_over = || world.sql.count(BEHIND, [per_flow.into()]) == 0 && world.sql.count(WAITING, []) == 0;
    while !is_over() {
        let seen = endpoints.count();
        eventually("another post", || (is_over() || endpoints.count() > seen).then_some(()));
    }
}

fn judge(world: &World, posts: &[Post], per_flow: i64) {
    assert_one_key_for_each_message(posts);
    assert_in_order(posts);
    let mut letters = dead_letters(world);
    for (flow, _) in FLOWS {
        let (accepted, refused) = (ids(posts, flow, Meaning::Accepted), ids(posts, flow, Meaning::Refused));
        let dead = letters.remove(flow).unwrap_or_default();
        assert!(dead.is_subset(&refused), "{flow}: {dead:?} are dead, {refused:?} were refused");
        assert!(accepted.is_disjoint(&dead), "{flow}: delivered and dead");
        let settled: Vec<i64> = accepted.union(&dead).copied().collect();
        assert!(settled.iter().copied().eq(1..=per_flow), "{flow}: {settled:?}");
        assert_eq!(world.last_msg_id(flow), Some(per_flow), "{flow}");
    }
    assert!(letters.is_empty(), "{letters:?}");
    for post in posts {
        assert_eq!(String::from_utf8_lossy(&post.body), body(&post.flow, post.message_id));
    }
}

/// The numbers of the dead messages by flow; each has to be there for being refused.
fn dead_letters(world: &World) -> BTreeMap<String, BTreeSet<i64>> {
    let mut letters: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for row in world.sql.rows("SELECT flow_code, message_id, reason FROM dead_letters", []) {
        let (flow, reason): (String, String) =
            (row.try_get("", "flow_code").unwrap(), row.try_get("", "reason").unwrap());
        assert_eq!(reason, "endpoint_refused", "{flow}");
        let is_new = letters.entry(flow).or_default().insert(row.try_get("", "message_id").unwrap());
        assert!(is_new, "a message is dead twice");
    }
    letters
}

fn on_mariadb(messages: i64) {
    let mut server = MariaDbServer::new();
    let world = World::on_server(&server, quiet_broker());
    loses_no_post(world, messages, &mut || {
        server.stop();
        server.start();
    });
}

fn on_postgres(messages: i64) {
    let mut server = PostgresServer::new();
    let world = World::on_postgres_server(&server, quiet_broker());
    loses_no_post(world, messages, &mut || {
        server.stop();
        server.start();
    });
}

#[test]
fn bad_endpoints_lose_no_post() {
    on_mariadb(2_000);
    on_postgres(2_000);
}

#[test]
#[ignore = "takes minutes; DELIVERY_MESSAGES says how many messages"]
fn bad_endpoints_lose_no_post_of_many() {
    let messages = std::env::var("DELIVERY_MESSAGES").map_or(20_000, |number| number.parse().unwrap());
    on_mariadb(messages);
    on_postgres(messages);
}
