//! A broker that refuses one subscription of several, or the end of one.

use tempfile::NamedTempFile;

use test_support::eventually;
use test_support::flows::NewFlow;
use test_support::http::{admin_of, get};
use test_support::mosquitto::{Broker, BrokerOptions};
use test_support::oracle::Load;
use test_support::scripted_broker::ScriptedBroker;
use test_support::world::{Backend, World};

/// mosquitto's own access lists grant every subscription and then send nothing; this plugin answers with a refusal.
fn rules(acltype: &str) -> String {
    let acl = format!(r#"{{"acltype": "{acltype}", "topic": "forbidden/+", "allow": false}}"#);
    format!(
        r#"{{
  "defaultACLAccess": {{"publishClientSend": true, "publishClientReceive": true, "subscribe": true, "unsubscribe": true}},
  "clients": [],
  "groups": [{{"groupname": "anyone", "roles": [{{"rolename": "restricted"}}], "clients": []}}],
  "roles": [{{"rolename": "restricted", "acls": [{acl}]}}],
  "anonymousGroup": "anyone"
}}"#
    )
}

/// A world whose broker refuses subscriptions or messages of the filter `forbidden/+`.
fn world_that_refuses(acltype: &str) -> (World, NamedTempFile) {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules(acltype)).unwrap();
    let file_name = file.path().display();
    let access = format!("allow_anonymous true\nplugin {}\nplugin_opt_config_file {file_name}", plugin());
    let options = BrokerOptions { access, ..BrokerOptions::default() };
    (World::with_broker(Backend::Sqlite, Broker::with(&options)), file)
}

fn plugin() -> String {
    let libraries = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut found =
        libraries.map(|dir| dir.join("mosquitto_dynamic_security.so")).filter(|file| file.exists());
    found.next().expect("Debian's mosquitto brings this plugin").display().to_string()
}

#[test]
fn refused_subscription_spares_other_flows() {
    let (world, _rules) = world_that_refuses("subscribeLiteral");
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
fn unready_until_one_subscription_is_granted() {
    let (mut world, _rules) = world_that_refuses("subscribeLiteral");
    world.set("ADMIN_BIND", "127.0.0.1:0");
    NewFlow::new("shut_out", "forbidden/+").insert(&world.sql);
    let gateway = world.start();
    let admin = admin_of(&gateway);
    // A reload subscribes once more, so the first answer is processed by then.
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

#[test]
fn refused_unsubscribe_is_reported_only() {
    let (world, _rules) = world_that_refuses("unsubscribeLiteral");
    let mut load = Load::over(&world, 2);
    NewFlow::new("kept", "forbidden/+").insert(&world.sql);
    NewFlow::new("let_go", "allowed/+").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let mark = world.broker.mark();
    world.sql.run("UPDATE flows SET topic = 'new/' || code WHERE code IN ('kept', 'let_go')");
    let line = gateway.wait_for_line("refuses to unsubscribe");
    assert!(line.contains("forbidden/+"), "{line}");
    world.wait_for_filters(mark, &["new/kept", "new/let_go"]);
    world.broker.wait_for_unsubscription(mark, &world.name, "allowed/+");
    for _ in 0..2 {
        let messages = load.next(&world, 200);
        world.publish_all(messages);
        load.wait_until_stored(&world);
        assert_eq!(gateway.count_lines("refuses to unsubscribe"), 1);
        assert_eq!(gateway.stop(), Some(0));
        // Tries again, once.
        gateway = world.start_subscribed();
        gateway.wait_for_line("refuses to unsubscribe");
    }
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

/// Messages come, and the broker keeps none of them for a gateway that is away.
#[test]
fn lower_granted_qos_is_reported() {
    let broker = ScriptedBroker::new();
    let world = World::without_broker(Backend::Sqlite, Broker::shared());
    world.add_server("127.0.0.1", Some(broker.port()), Some(true), Some(true));
    world.flow("lowered", "t").insert(&world.sql);
    let mut gateway = world.start();
    let connection = broker.accept_granting(false, 0);
    let line = gateway.wait_for_line("Flow lowered loses messages whenever the gateway is away");
    assert!(line.contains(&world.topic("t")) && line.contains("at QoS 0 only"), "{line}");
    drop(connection);
    assert_eq!(gateway.stop(), Some(0));
}
