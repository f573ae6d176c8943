//! A mosquitto of the test's own, on a free port, in a directory of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::mqtt_link::free_port;

pub(crate) struct Mosquitto {
    pub(crate) port: u16,
    directory: TempDir,
    child: Child,
}

impl Mosquitto {
    pub(crate) fn start(settings: &str) -> Mosquitto {
        Mosquitto::start_in(tempfile::tempdir().unwrap(), settings)
    }

    pub(crate) fn start_with_password(user: &str, password: &str) -> Mosquitto {
        let directory = tempfile::tempdir().unwrap();
        let passwords = directory.path().join("passwords");
        let status = Command::new("mosquitto_passwd")
            .args(["-b", "-c"])
            .arg(&passwords)
            .args([user, password])
            .status()
            .unwrap();
        assert!(status.success());
        let settings = format!("allow_anonymous false\npassword_file {}", passwords.display());
        Mosquitto::start_in(directory, &settings)
    }

    /// Any client may connect, and subscribe to filters that `pattern` covers.
    pub(crate) fn start_allowing_only(pattern: &str) -> Mosquitto {
        const RULES: &str = r#"{
            "defaultACLAccess": {"publishClientSend": true, "publishClientReceive": true, "subscribe": false, "unsubscribe": true},
            "clients": [],
            "groups": [{"groupname": "all", "roles": [{"rolename": "reader"}]}],
            "roles": [{"rolename": "reader", "acls": [{"acltype": "subscribePattern", "topic": "PATTERN", "allow": true}]}],
            "anonymousGroup": "all"
        }"#;
        let directory = tempfile::tempdir().unwrap();
        let rules = directory.path().join("rules.json");
        fs::write(&rules, RULES.replace("PATTERN", pattern)).unwrap();
        let settings = format!(
            "allow_anonymous true\nplugin {}\nplugin_opt_config_file {}",
            "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so",
            rules.display()
        );
        Mosquitto::start_in(directory, &settings)
    }

    fn start_in(directory: TempDir, settings: &str) -> Mosquitto {
        let port = free_port();
        // As root it would otherwise switch to a user that cannot read the directory.
        let user = "user root";
        let config =
            format!("listener {port} 127.0.0.1\n{user}\nlog_type all\nmax_queued_messages 0\n{settings}\n");
        fs::write(directory.path().join("mosquitto.conf"), config).unwrap();
        let child = run(&directory);
        Mosquitto { port, directory, child }
    }

    pub(crate) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.child = run(&self.directory);
    }

    pub(crate) fn publish(&self, topic: &str, payload: &str) {
        publish_to(self.port, &["-V", "mqttv5", "-t", topic, "-m", payload]);
    }

    pub(crate) fn publish_retained(&self, topic: &str, payload: &str) {
        publish_to(self.port, &["-V", "mqttv5", "-r", "-t", topic, "-m", payload]);
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Publishes at `QoS` 1 and waits for the acknowledgement.
pub(crate) fn publish_to(port: u16, arguments: &[&str]) {
    let status = Command::new("mosquitto_pub")
        .args(["-p", &port.to_string(), "-q", "1"])
        .args(arguments)
        .status()
        .unwrap();
    assert!(status.success(), "mosquitto_pub {arguments:?}");
}

/// Returns when it says that it runs.
fn run(directory: &TempDir) -> Child {
    let mut child = Command::new("/usr/sbin/mosquitto")
        .arg("-c")
        .arg(directory.path().join("mosquitto.conf"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    loop {
        let line = lines.next().unwrap_or_else(|| panic!("mosquitto ended: {said:#?}")).unwrap();
        if line.ends_with("running") {
            break;
        }
        said.push(line);
    }
    // It must not block on a full pipe.
    thread::spawn(move || lines.for_each(drop));
    child
}
