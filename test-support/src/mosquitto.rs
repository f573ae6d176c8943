//! The broker: shared by all tests, or private and restartable.
//!
//! A subscription is awaited in the broker's own log (`log_type subscribe` writes a line per filter), so that a test
//! publishes when the broker will deliver and not when the gateway says so.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{eventually, net, process};

pub struct Broker {
    pub address: SocketAddr,
    log: PathBuf,
    private: Option<Private>,
}

struct Private {
    directory: TempDir,
    child: Option<Child>,
}

/// Options of a private broker.
pub struct BrokerOptions {
    pub address: SocketAddr,
    /// Lines of `mosquitto.conf`; by default anyone may connect.
    pub access: String,
    /// How many messages may be on their way to the gateway unacknowledged: the most that a kill makes it send again.
    pub max_inflight: u32,
    /// Writes a line for each message into its log.
    pub verbose: bool,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, net::free_port()));
        BrokerOptions { address, access: "allow_anonymous true".to_owned(), max_inflight: 20, verbose: true }
    }
}

impl Broker {
    /// The broker that `scripts/test` has started. Tests keep to topics below a prefix of their own.
    pub fn shared() -> Broker {
        let port = required("TEST_MQTT_PORT").parse().unwrap();
        let log = PathBuf::from(required("TEST_MQTT_LOG"));
        Broker { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), log, private: None }
    }

    pub fn private() -> Broker {
        Broker::with(&BrokerOptions::default())
    }

    pub fn with(options: &BrokerOptions) -> Broker {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("mosquitto.conf"), configuration(options, &directory)).unwrap();
        let log = directory.path().join("log");
        let private = Some(Private { directory, child: None });
        let mut broker = Broker { address: options.address, log, private };
        broker.start();
        broker
    }

    /// Sessions and queued messages are kept on disk; a graceful stop loses none of them.
    pub fn stop(&mut self) {
        let mut child = self.own().child.take().unwrap();
        process::signal(child.id(), "TERM");
        child.wait().unwrap();
    }

    /// `kill -9`: it keeps the state that it saved at its last orderly stop.
    pub fn kill(&mut self) {
        let mut child = self.own().child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Has it write its sessions and queues to disk now; returns when they are there.
    pub fn save(&mut self) {
        let file = self.own().directory.path().join("mosquitto.db");
        let version = || std::fs::metadata(&file).map(|file| (file.ino(), file.modified().unwrap())).ok();
        let before = version();
        process::signal(self.own().child.as_ref().unwrap().id(), "USR1");
        eventually("the broker's state on disk", || (version() != before).then_some(()));
    }

    /// Stops it where it is: it keeps its connections and says nothing.
    pub fn freeze(&mut self) {
        process::signal(self.own().child.as_ref().unwrap().id(), "STOP");
    }

    pub fn thaw(&mut self) {
        process::signal(self.own().child.as_ref().unwrap().id(), "CONT");
    }

    /// Deletes all sessions and their queues. The broker must be stopped.
    pub fn forget_sessions(&mut self) {
        std::fs::remove_file(self.own().directory.path().join("mosquitto.db")).unwrap();
    }

    /// SIGHUP: the broker reads passwords and access lists again, and closes connections that they no longer allow.
    pub fn reload(&mut self) {
        process::signal(self.own().child.as_ref().unwrap().id(), "HUP");
    }

    pub fn start(&mut self) {
        let log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let private = self.own();
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(private.directory.path().join("mosquitto.conf"))
            .env("PATH", path_with_sbin())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()
            .expect("mosquitto has to be installed; scripts/test does that");
        private.child = Some(child);
        let address = self.address;
        eventually("mosquitto's port", || net::answers(address).then_some(()));
        let has_ended = self.own().child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
        assert!(!has_ended, "mosquitto has ended, and another program answers at {address}");
    }

    fn own(&mut self) -> &mut Private {
        self.private.as_mut().expect("only a private broker is started and stopped")
    }

    /// The present end of the log. Later waits search from here.
    pub fn mark(&self) -> LogMark {
        LogMark(std::fs::metadata(&self.log).map_or(0, |log| log.len()))
    }

    /// Before all that the broker has logged.
    #[allow(clippy::unused_self, reason = "reads as the mark of this broker")]
    pub fn beginning(&self) -> LogMark {
        LogMark(0)
    }

    /// Waits until the broker has taken each of the filters from this client.
    pub fn wait_for_subscriptions(&self, since: LogMark, client_id: &str, filters: &[&str]) {
        for filter in filters {
            let ending = format!(" {filter}");
            let middle = format!(": {client_id} ");
            eventually(&format!("{client_id} to subscribe {filter}"), || {
                self.lines_since(since).any(|l| l.contains(&middle) && l.ends_with(&ending)).then_some(())
            });
        }
    }

    /// As [`Self::wait_for_subscriptions`]; the broker logs an UNSUBSCRIBE without a QoS.
    pub fn wait_for_unsubscription(&self, since: LogMark, client_id: &str, filter: &str) {
        let ending = format!(": {client_id} {filter}");
        eventually(&format!("{client_id} to unsubscribe {filter}"), || {
            self.lines_since(since).any(|line| line.ends_with(&ending)).then_some(())
        });
    }

    /// Messages that the broker sent to this client for a second time, by its own words.
    pub fn resent_to(&self, client_id: &str) -> usize {
        let resent = format!("Sending PUBLISH to {client_id} (d1,");
        self.lines_since(LogMark(0)).filter(|line| line.contains(&resent)).count()
    }

    /// Messages whose PUBACK the broker has seen from this client, by its own words.
    pub fn acknowledged_by(&self, client_id: &str) -> usize {
        let acknowledged = format!("Received PUBACK from {client_id} ");
        self.lines_since(LogMark(0)).filter(|line| line.contains(&acknowledged)).count()
    }

    /// Waits until this client has acknowledged `count` messages: they are in its inbox.
    pub fn wait_for_acknowledged(&self, client_id: &str, count: usize) {
        eventually(&format!("{client_id} to acknowledge {count} messages"), || {
            (self.acknowledged_by(client_id) >= count).then_some(())
        });
    }

    pub fn has_logged(&self, since: LogMark, text: &str) -> bool {
        self.lines_since(since).any(|line| line.contains(text))
    }

    pub fn lines_of(&self, since: LogMark, text: &str) -> Vec<String> {
        self.lines_since(since).filter(|line| line.contains(text)).collect()
    }

    fn lines_since(&self, since: LogMark) -> impl Iterator<Item = String> {
        use std::io::{BufRead, BufReader, Seek, SeekFrom};
        let mut log = File::open(&self.log).unwrap();
        log.seek(SeekFrom::Start(since.0)).unwrap();
        BufReader::new(log).lines().map_while(Result::ok)
    }
}

#[derive(Clone, Copy)]
pub struct LogMark(u64);

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.private.as_mut().and_then(|private| private.child.take()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn configuration(options: &BrokerOptions, directory: &TempDir) -> String {
    format!(
        "user root\nlistener {port} {ip}\n{access}\npersistence true\npersistence_location {directory}/\n\
         max_queued_messages 0\nmax_inflight_messages {max_inflight}\n\
         log_type error\nlog_type warning\nlog_type notice\nlog_type subscribe\nlog_type unsubscribe\n\
         {debug}",
        port = options.address.port(),
        ip = options.address.ip(),
        access = options.access,
        directory = directory.path().display(),
        max_inflight = options.max_inflight,
        debug = if options.verbose { "log_type debug\n" } else { "" },
    )
}

/// Debian keeps servers in directories that only root has in its PATH.
pub fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

pub fn required(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set; run the tests by scripts/test"))
}
