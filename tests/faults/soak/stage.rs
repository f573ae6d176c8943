//! The gateway between a broker, a database and an endpoint of its own, each behind a proxy, and the hand that breaks
//! them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::fault::{Fault, Reached};
use super::memory::{Memory, MemoryReport};
use super::verdict::{Posts, Verdict, judge};
use test_support::mariadb::MariaDbServer;
use test_support::mosquitto::{Broker, BrokerOptions};
use test_support::process::Gateway;
use test_support::proxy::{Act, How, Mqtt, Proxy, Sign, Watch, Way};
use test_support::sink::Sink;
use test_support::stream::{Pace, Stream};
use test_support::world::World;

const STORING: u64 = 4;
const POSTING: u64 = 2;

/// At most 500 messages a second.
const PACE: Pace = Pace { burst: 15, pause_ms: 30 };

/// How long the gateway may take to come to rest. After many cuts in quick succession it waits up to five minutes
/// before it connects, lest it quarrel with another client of its name.
const REST: Duration = Duration::from_mins(12);

/// Outcome of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) seconds: u64,
    pub(super) faults: BTreeMap<&'static str, usize>,
    /// Cuts at a packet that came to pass.
    pub(super) triggered: usize,
    pub(super) verdict: Verdict,
    pub(super) memory: MemoryReport,
    /// Unexpected events, in words.
    pub(super) surprises: Vec<String>,
}

pub(super) struct Stage {
    begun: Instant,
    world: World,
    database: MariaDbServer,
    sink: Sink,
    to_broker: Proxy,
    to_database: Proxy,
    to_endpoint: Proxy,
    gateway: Gateway,
    stream: Stream,
    memory: Memory,
    flows: Vec<String>,
    posts: Posts,
    faults: BTreeMap<&'static str, usize>,
    watches: Vec<Watch>,
    surprises: Vec<String>,
}

impl Stage {
    pub(super) fn set() -> Stage {
        let database = MariaDbServer::new();
        let options = BrokerOptions { verbose: false, ..BrokerOptions::default() };
        let mut world = World::on_server(&database, Broker::with(&options));
        let sink = Sink::new();
        let to_broker = Proxy::to_mqtt(world.broker.address);
        let to_database = Proxy::to_mysql(world.database_address());
        let to_endpoint = Proxy::to(sink.address());
        world.set("MAILBOX_REPORT_SECONDS", "10");
        world.reach_broker_at(to_broker.address());
        world.reach_database_at(to_database.address());
        let flows: Vec<(u64, String)> = (0..STORING + POSTING).map(|n| (n, format!("flow{n}"))).collect();
        for (number, code) in &flows {
            let flow = world.flow(code, code).schema(r#"{"key": "int"}"#);
            let endpoint = format!("http://{}/{code}", to_endpoint.address());
            let flow = if *number < STORING { flow } else { flow.posts_to(&endpoint) };
            flow.insert(&world.sql);
        }
        let gateway = world.start_subscribed();
        let topics = flows.iter().map(|(_, code)| world.topic(code)).collect();
        let round = STORING + POSTING;
        Stage {
            begun: Instant::now(),
            stream: Stream::start(world.broker.address, topics, PACE),
            memory: Memory::of(gateway.id()),
            posts: Posts::of(&flows[usize::try_from(STORING).unwrap()..], round),
            flows: flows.into_iter().map(|(_, code)| code).collect(),
            world,
            database,
            sink,
            to_broker,
            to_database,
            to_endpoint,
            gateway,
            faults: BTreeMap::new(),
            watches: Vec::new(),
            surprises: Vec::new(),
        }
    }

    pub(super) fn has_run_for(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Waits for `after` messages, then strikes, and returns when the fault is over; the gateway may still suffer.
    pub(super) fn strike(&mut self, after: u64, fault: Fault) {
        self.stream.wait_for_more(after);
        self.look_after_the_gateway();
        *self.faults.entry(fault.name()).or_default() += 1;
        self.make(fault);
        self.posts.take(&self.sink.take_requests());
    }

    fn make(&mut self, fault: Fault) {
        match fault {
            Fault::KillGateway => {
                self.gateway.kill();
                self.start_gateway();
            }
            Fault::EndGateway => {
                let code = self.gateway.stop();
                self.expect(code == Some(0), &format!("SIGTERM ended with {code:?}"));
                self.start_gateway();
            }
            Fault::FreezeGateway { messages } => {
                self.gateway.signal("STOP");
                self.stream.wait_for_more(messages);
                self.gateway.signal("CONT");
            }
            Fault::RestartBroker | Fault::KillBroker | Fault::FreezeBroker { .. } => {
                self.strike_broker(fault);
            }
            Fault::CutBroker(how) => self.to_broker.cut(how),
            Fault::HalfCloseBroker(way) => self.to_broker.half_close(way),
            Fault::StallBroker { way, messages } => stall(&self.to_broker, way, &self.stream, messages),
            Fault::RefuseBroker { messages } => {
                self.to_broker.refuse();
                self.to_broker.cut(How::Fin);
                self.stream.wait_for_more(messages);
                self.to_broker.accept();
            }
            Fault::CutAtPuback { nth, passed_on } => {
                let at = self.to_broker.at(Sign::Packet(Way::ToServer, Mqtt::Puback), nth);
                let cut = Act::Cut(How::Rst);
                self.watches.push(if passed_on { at.after(cut) } else { at.before(cut) });
            }
            Fault::KillDatabase { .. } | Fault::RestartDatabase { .. } | Fault::FreezeDatabase { .. } => {
                self.strike_database(fault);
            }
            Fault::CutDatabase(how) => self.to_database.cut(how),
            Fault::StallDatabase { way, messages } => stall(&self.to_database, way, &self.stream, messages),
            Fault::SlowDatabase { millis, messages } => {
                self.to_database.delay(Way::ToClient, Duration::from_millis(millis));
                self.stream.wait_for_more(messages);
                self.to_database.delay(Way::ToClient, Duration::ZERO);
            }
            Fault::CutAtCommit { nth, reached } => {
                let at = self.to_database.at(Sign::Statement("COMMIT"), nth);
                self.watches.push(match reached {
                    Reached::Nobody => at.before(Act::Cut(How::Rst)),
                    Reached::Perhaps => at.after(Act::Cut(How::Rst)),
                    Reached::Committed => at.after(Act::CutAtAnswer),
                });
            }
            Fault::EndpointFails { messages } => {
                self.sink.answer_with(500);
                self.stream.wait_for_more(messages);
                self.sink.answer_with(200);
            }
            Fault::EndpointStalls { messages } => {
                self.sink.stall();
                self.stream.wait_for_more(messages);
                self.sink.answer_with(200);
            }
            Fault::CutEndpoint(how) => self.to_endpoint.cut(how),
        }
    }

    /// No message is in flight to the broker meanwhile, so none is published a second time.
    fn strike_broker(&mut self, fault: Fault) {
        self.stream.hold();
        match fault {
            Fault::FreezeBroker { millis } => {
                self.world.broker.freeze();
                // It takes nothing, so there are no messages to measure the time by.
                std::thread::sleep(Duration::from_millis(millis));
                self.world.broker.thaw();
            }
            Fault::KillBroker => {
                // A killed broker loses unsaved messages, and sends saved ones again as new. So it is killed when it
                // has no messages and has saved the gateway's session.
                self.come_to_rest();
                self.world.broker.save();
                self.world.broker.kill();
                self.world.broker.start();
            }
            _ => {
                self.world.broker.stop();
                self.world.broker.start();
            }
        }
        self.stream.go_on();
    }

    fn strike_database(&mut self, fault: Fault) {
        match fault {
            Fault::KillDatabase { messages } => {
                self.database.kill();
                self.stream.wait_for_more(messages);
                self.database.start();
            }
            Fault::FreezeDatabase { messages } => {
                self.database.freeze();
                self.stream.wait_for_more(messages);
                self.database.thaw();
            }
            Fault::RestartDatabase { messages } => {
                self.database.stop();
                self.stream.wait_for_more(messages);
                self.database.start();
            }
            _ => {}
        }
    }

    fn start_gateway(&mut self) {
        self.gateway = self.world.start();
        self.memory.now_of(self.gateway.id());
    }

    /// No fault of all these is a reason to end.
    fn look_after_the_gateway(&mut self) {
        if !self.gateway.is_running() {
            let code = self.gateway.wait_for_exit();
            self.expect(false, &format!("the gateway ended by itself: {code}\n{}", self.gateway.stderr()));
            self.start_gateway();
        }
    }

    fn expect(&mut self, is_so: bool, surprise: &str) {
        if !is_so {
            self.surprises.push(surprise.to_owned());
        }
    }

    /// Waits until everything acknowledged has a number and nothing is left to be posted.
    fn come_to_rest(&mut self) {
        const NUMBERED: &str = "SELECT CAST(COALESCE(SUM(last_msg_id), 0) AS SIGNED) FROM flows";
        const TO_POST: &str = "SELECT COUNT(*) FROM outbox";
        let wanted = i64::try_from(self.stream.acknowledged()).unwrap();
        let count = |sql| {
            let rows = self.world.sql.try_rows(sql, []).ok()?;
            rows.first()?.try_get_by_index::<i64>(0).ok()
        };
        let deadline = Instant::now() + REST;
        while !(count(NUMBERED).is_some_and(|numbered| numbered >= wanted) && count(TO_POST) == Some(0)) {
            if Instant::now() >= deadline {
                self.expect(false, "the gateway did not come to rest");
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Lets everything heal, and judges.
    pub(super) fn end(mut self) -> Outcome {
        self.to_broker.disarm();
        self.to_database.disarm();
        self.look_after_the_gateway();
        self.stream.hold();
        self.come_to_rest();
        let seconds = self.begun.elapsed().as_secs();
        let memory = self.memory.end();
        let code = self.gateway.stop();
        if code != Some(0) {
            self.surprises.push(format!("the last SIGTERM ended with {code:?}"));
        }
        let published = self.stream.end();
        self.posts.take(&self.sink.take_requests());
        let verdict = judge(&self.world, &self.flows, &mut self.posts, published);
        let audit = self.world.audit_with(&[]);
        if audit.code != Some(0) {
            self.surprises.push(format!("the audit ended with {:?}: {:?}", audit.code, audit.findings()));
        }
        let triggered = self.watches.iter().filter(|watch| watch.has_fired()).count();
        Outcome { seconds, faults: self.faults, triggered, verdict, memory, surprises: self.surprises }
    }
}

fn stall(proxy: &Proxy, way: Way, stream: &Stream, messages: u64) {
    proxy.stall(way);
    stream.wait_for_more(messages);
    proxy.flow();
}
