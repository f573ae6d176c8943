//! A broker that refuses one subscription of several.

use tempfile::NamedTempFile;

use crate::support::flows::NewFlow;
use crate::support::mosquitto::{Broker, BrokerOptions};
use crate::support::oracle::Load;
use crate::support::world::{Backend, World};

/// mosquitto's own access lists grant every subscription and then send nothing; this plugin answers with a refusal.
const RULES: &str = r#"{
  "defaultACLAccess": {"publishClientSend": true, "publishClientReceive": true, "subscribe": true, "unsubscribe": true},
  "clients": [],
  "groups": [{"groupname": "anyone", "roles": [{"rolename": "restricted"}], "clients": []}],
  "roles": [{"rolename": "restricted", "acls": [{"acltype": "subscribeLiteral", "topic": "forbidden/+", "allow": false}]}],
  "anonymousGroup": "anyone"
}"#;

fn plugin() -> String {
    let libraries = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut found =
        libraries.map(|dir| dir.join("mosquitto_dynamic_security.so")).filter(|file| file.exists());
    found.next().expect("Debian's mosquitto brings this plugin").display().to_string()
}

#[test]
fn a_refused_subscription_is_said_for_its_flow_and_the_others_run() {
    let rules = NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), RULES).unwrap();
    let access = format!(
        "allow_anonymous true\nplugin {}\nplugin_opt_config_file {}",
        plugin(),
        rules.path().display()
    );
    let world = World::with_broker(
        Backend::Sqlite,
        Broker::with(&BrokerOptions { access, ..BrokerOptions::default() }),
    );
    let mut load = Load::over(&world, 2);
    NewFlow::new("shut_out", "forbidden/+").insert(&world.sql);
    let mut gateway = world.start();
    let line = gateway.wait_for_line("Flow shut_out gets no messages");
    assert!(line.contains("forbidden/+"), "{line}");
    gateway.wait_for_line("Subscribed");
    let messages = load.next(&world, 200);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert_eq!(
        gateway.count_lines("gets no messages"),
        gateway.count_lines("Flow shut_out gets no messages")
    );
}
