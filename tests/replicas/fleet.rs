//! Replicas of the gateway in one world: each with a name, an inbox and a process of its own.

use std::path::PathBuf;
use std::process::Output;

use test_support::cell::Cell;
use test_support::eventually;
use test_support::mosquitto::{Broker, BrokerOptions};
use test_support::process::{Gateway, Settings};
use test_support::publisher::Message;
use test_support::stream::{Pace, Stream};
use test_support::world::{Backend, World, command, text_of};

/// The broker, the database and the flows of a fleet.
pub(crate) struct Fleet {
    pub(crate) world: World,
    pub(crate) flows: Vec<String>,
    /// Gives the flows this number of topics in turn.
    topics: usize,
}

impl Fleet {
    /// With this number of flows. Every other flow has a message key.
    pub(crate) fn with_flows(count: usize) -> Fleet {
        Fleet::on(Backend::MariaDb, count)
    }

    pub(crate) fn on(backend: Backend, count: usize) -> Fleet {
        Fleet::of_topics(backend, count, count)
    }

    /// With flows that share topics.
    pub(crate) fn of_topics(backend: Backend, count: usize, topics: usize) -> Fleet {
        let options = BrokerOptions { verbose: false, ..BrokerOptions::default() };
        let world = World::with_broker(backend, Broker::with(&options));
        // Makes the tables and columns that the flows below need.
        assert!(world.command(&["migrate"]).status.success());
        let flows: Vec<String> = (0..count).map(|number| format!("flow{number}")).collect();
        for (number, code) in flows.iter().enumerate() {
            let topic = &flows[number % topics];
            world.flow(code, topic).schema(r#"{"key": "int"}"#).insert(&world.sql);
        }
        let fleet = Fleet { world, flows, topics };
        for code in fleet.flows.iter().filter(|code| fleet.has_a_key(code)) {
            fleet
                .world
                .sql
                .execute("UPDATE flows SET message_key = '/key' WHERE code = ?", [code.as_str().into()]);
        }
        fleet
    }

    /// Whether messages of the flow have a key.
    pub(crate) fn has_a_key(&self, code: &str) -> bool {
        self.flows.iter().position(|known| known == code).unwrap() % 2 == 1
    }

    pub(crate) fn replica(&self, number: usize, more: &[(&str, &str)]) -> Replica {
        let mut settings = self.world.settings.clone();
        let name = format!("{}-{number}", self.world.name);
        let below = |name: String| self.world.directory().join(name).to_str().unwrap().to_owned();
        settings.insert("MQTT_CLIENT_ID".to_owned(), name.clone());
        settings.insert("INBOX_DIR".to_owned(), below(format!("inbox-{number}")));
        settings.insert("LOG_DIR".to_owned(), below(format!("log-{number}")));
        let mut replica =
            Replica { name, settings, directory: self.world.directory().to_owned(), gateway: None };
        replica.set(more);
        replica
    }

    /// Members of one group.
    pub(crate) fn group(&self, count: usize) -> Vec<Replica> {
        (0..count).map(|number| self.replica(number, &[("SHARED_GROUP", "gateways")])).collect()
    }

    /// The first `count` shards.
    pub(crate) fn shards(&self, count: usize) -> Vec<Replica> {
        let mut shards: Vec<Replica> = (0..count).map(|number| self.replica(number, &[])).collect();
        for shard in &mut shards {
            shard.is_one_of(count);
        }
        shards
    }

    /// The ids of all flows, in their order.
    pub(crate) fn flow_ids(&self) -> Vec<i64> {
        let id_of = |code: &String| {
            self.world.sql.count("SELECT id FROM flows WHERE code = ?", [code.as_str().into()])
        };
        self.flows.iter().map(id_of).collect()
    }

    /// The topics of all flows; the message with the key `n` goes to the `n`th, and round again.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.flows[..self.topics].iter().map(|code| self.world.topic(code)).collect()
    }

    /// The next messages, round all topics.
    pub(crate) fn messages(&self, keys: impl IntoIterator<Item = u64>) -> Vec<Message> {
        let topics = self.topics();
        let topic = |key: u64| &topics[usize::try_from(key).unwrap() % topics.len()];
        keys.into_iter().map(|key| Message::new(topic(key), format!(r#"{{"key": {key}}}"#))).collect()
    }

    /// A device that publishes to all topics in turn.
    pub(crate) fn publishing(&self, burst: u64) -> Stream {
        Stream::start(self.world.broker.address, self.topics(), Pace { burst, pause_ms: 20 })
    }

    /// The same, as fast as the broker takes it.
    pub(crate) fn publishing_without_pause(&self) -> Stream {
        Stream::start(self.world.broker.address, self.topics(), Pace { burst: 500, pause_ms: 0 })
    }

    /// Waits until this number of ids is assigned, while there is progress.
    pub(crate) fn wait_until_numbered(&self, published: u64) {
        let numbered = || {
            let rows = self.world.sql.rows("SELECT last_msg_id FROM flows", []);
            let counters = rows.iter().map(|row| Option::<i64>::of(row, 0).unwrap().unwrap_or(0));
            u64::try_from(counters.sum::<i64>()).unwrap()
        };
        wait_for(published, "numbers", &numbered);
    }

    /// Whether the message with this key is for the flow.
    pub(crate) fn is_for(&self, key: u64, flow: usize) -> bool {
        usize::try_from(key).unwrap() % self.topics == flow % self.topics
    }

    /// Waits until `data` has this number of keys, counted per flow, while there is progress.
    pub(crate) fn wait_until_stored(&self, keys: u64) {
        let each_once = "SELECT DISTINCT flow_code, attribute_value FROM data WHERE attribute_name = 'key'";
        let sql = &format!("SELECT COUNT(*) FROM ({each_once}) AS each_once");
        wait_for(keys, "keys in data", &|| u64::try_from(self.world.sql.count(sql, [])).unwrap());
    }
}

/// Waits as long as it goes on.
fn wait_for(wanted: u64, what: &str, count: &dyn Fn() -> u64) {
    let mut seen = count();
    while seen < wanted {
        seen = eventually(&format!("{wanted} {what}, {seen} are there"), || {
            let now = count();
            (now > seen).then_some(now)
        });
    }
}

pub(crate) struct Replica {
    pub(crate) name: String,
    settings: Settings,
    directory: PathBuf,
    gateway: Option<Gateway>,
}

impl Replica {
    pub(crate) fn set(&mut self, settings: &[(&str, &str)]) {
        for (name, value) in settings {
            self.settings.insert((*name).to_owned(), (*value).to_owned());
        }
    }

    pub(crate) fn unset(&mut self, setting: &str) {
        self.settings.remove(setting);
    }

    /// Its index is in its name, as a pod's.
    pub(crate) fn is_one_of(&mut self, count: usize) {
        let name = self.name.clone();
        self.set(&[("SHARD_INDEX", &name), ("SHARD_COUNT", &count.to_string())]);
    }

    pub(crate) fn start(&mut self) -> &mut Gateway {
        self.gateway.insert(Gateway::start(&[], &self.settings, &self.directory))
    }

    /// Starts it and waits for its subscriptions.
    pub(crate) fn start_subscribed(&mut self) {
        self.start().wait_for_line("Subscribed");
    }

    pub(crate) fn running(&mut self) -> &mut Gateway {
        self.gateway.as_mut().unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.running().kill();
        self.gateway = None;
    }

    pub(crate) fn inbox(&self) -> PathBuf {
        PathBuf::from(&self.settings["INBOX_DIR"])
    }

    /// Replaces its volume by an empty one.
    pub(crate) fn lose_inbox(&self) {
        assert!(self.gateway.is_none());
        std::fs::remove_dir_all(self.inbox()).unwrap();
        self.make_inbox();
    }

    /// An empty one.
    pub(crate) fn make_inbox(&self) {
        std::fs::create_dir(self.inbox()).unwrap();
    }

    pub(crate) fn stop(&mut self) {
        assert_eq!(self.running().stop(), Some(0));
        self.gateway = None;
    }

    /// Waits until it has let go of all that it does not take any more.
    pub(crate) fn wait_for_handover(&mut self) {
        self.running().wait_for_line("Handover finished");
    }

    /// Begins to retire it.
    pub(crate) fn begin_to_retire(&self, more: &[(&str, &str)]) -> Gateway {
        self.begin_to_retire_with(&[], more)
    }

    /// The same with more words on the command line.
    pub(crate) fn begin_to_retire_with(&self, words: &[&str], more: &[(&str, &str)]) -> Gateway {
        assert!(self.gateway.is_none());
        let mut settings = self.settings.clone();
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Gateway::start(&[&["retire"], words].concat(), &settings, &self.directory)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        command(arguments, &self.settings, &self.directory)
    }

    /// Retires it; gives the number of messages that the broker still had for it.
    pub(crate) fn retire(&self) -> u64 {
        assert!(self.gateway.is_none());
        self.retired(&["retire"])
    }

    pub(crate) fn retired(&self, arguments: &[&str]) -> u64 {
        let output = self.run(arguments);
        let text = text_of(&output);
        assert_eq!(output.status.code(), Some(0), "{text}");
        let line = text.lines().find(|line| line.starts_with("Messages that the broker still had")).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}
