//! A broker that refuses one subscription of several.

use tempfile::NamedTempFile;

use crate::support::eventually;
use crate::support::flows::NewFlow;
use crate::support::http::{admin_of, get};
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

fn world_that_refuses() -> (World, NamedTempFile) {
    let rules = NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), RULES).unwrap();
    let access = format!(
        "allow_anonymous true\nplugin {}\nplugin_opt_config_file {}",
        plugin(),
        rules.path().display()
    );
    let broker = Broker::with(&BrokerOptions { access, ..BrokerOptions::default() });
    (World::with_broker(Backend::Sqlite, broker), rules)
}

#[test]
fn a_refused_subscription_is_said_for_its_flow_and_the_others_run() {
    let (world, _rules) = world_that_refuses();
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

#[test]
fn a_gateway_that_is_refused_all_it_wants_is_not_ready_until_one_is_granted() {
    let (mut world, _rules) = world_that_refuses();
    world.set("ADMIN_BIND", "127.0.0.1:0");
    NewFlow::new("shut_out", "forbidden/+").insert(&world.sql);
    let gateway = world.start();
    let admin = admin_of(&gateway);
    // A reload asks once more, so what was made of the first answer is done.
    for answers in 1..3 {
        eventually("a refusal", || {
            (gateway.count_lines("Flow shut_out gets no messages") >= answers).then_some(())
        });
        assert_eq!(get(admin, "/health/ready").status, 503);
        gateway.signal("HUP");
    }
    world.flow("let_in", "allowed").insert(&world.sql);
    gateway.signal("HUP");
    eventually("readiness", || (get(admin, "/health/ready").status == 200).then_some(()));
}
