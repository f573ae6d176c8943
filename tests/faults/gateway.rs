//! Faults of the gateway itself: kills, panics, stops, freezes, a twin.

mod crash_points;
mod freeze;
mod kill;
mod panics;
mod replaced;
mod stop;
mod twin;

use crate::soak::verdict::{Posts, judge};
use test_support::eventually;
use test_support::process::Gateway;
use test_support::stream::{Pace, Stream};
use test_support::world::World;

/// No broker here has more messages on their way to a gateway.
const MOST_UNDER_WAY: u64 = 1_000;

/// Flows under a load that goes on during all faults and is judged as a whole.
struct Flood {
    flows: Vec<String>,
    stream: Stream,
}

impl Flood {
    /// Starts to publish up to 5,000 messages a second. The flows have to be subscribed.
    fn over(world: &World, flows: Vec<String>) -> Flood {
        let topics = flows.iter().map(|code| world.topic(code)).collect();
        let pace = Pace { burst: 100, pause_ms: 20 };
        let stream = Stream::start(world.broker.address, topics, pace);
        // A redelivery can be recognised only after an earlier message.
        eventually("more messages than may be under way", || {
            (numbered(world) > MOST_UNDER_WAY).then_some(())
        });
        Flood { flows, stream }
    }

    fn make_flows(world: &World, count: usize) -> Vec<String> {
        let flows: Vec<String> = (0..count).map(|number| format!("flow{number}")).collect();
        for code in &flows {
            world.flow(code, code).schema(r#"{"key": "int"}"#).insert(&world.sql);
        }
        flows
    }

    /// Ends the load, waits until all of it has a number, stops the gateway, and judges: nothing lost, nothing twice,
    /// no gap, in order.
    fn end_and_judge(self, world: &World, mut gateway: Gateway) {
        let published = self.stream.end();
        // Before that it may not listen to signals yet, and would not end in order.
        gateway.wait_for_line("Connected to the broker");
        let mut seen = 0;
        while seen < published {
            // As long as it takes, if only it goes on.
            seen = eventually("more messages with a number", || {
                let now = numbered(world);
                (now > seen).then_some(now)
            });
        }
        assert_eq!(gateway.stop(), Some(0));
        world.audit();
        let verdict = judge(world, &self.flows, &mut Posts::of(&[], 1), published);
        println!("{published} published: {verdict:?}");
        assert!(verdict.keeps_the_promise(), "{published} published: {verdict:?}");
    }
}

fn numbered(world: &World) -> u64 {
    let sql = "SELECT CAST(COALESCE(SUM(last_msg_id), 0) AS SIGNED) FROM flows";
    u64::try_from(world.sql.count(sql, [])).unwrap()
}
