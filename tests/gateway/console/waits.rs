//! Another session holds the row of a flow: the console, the commands and the log say who.

use serde_json::Value;
use test_support::eventually;
use test_support::mosquitto::required;
use test_support::sql::Sql;
use test_support::world::{Backend, SERVERS, World};

use super::Served;

/// A gateway with one lane, that waits this long for a row before it goes on without the flow.
fn served(backend: Backend, lock_wait: &str) -> Served {
    let mut world = World::on(backend);
    world.set("LANES", "1").set("FLOW_LOCK_WAIT_SECONDS", lock_wait);
    world.flow("TEMP", "temp").insert(&world.sql);
    world.flow("ALARM", "alarm").insert(&world.sql);
    let served = Served::new(world);
    served.gateway.wait_for_line("Flow ALARM is active");
    served
}

/// Locks the row of the flow ALARM until the session says ROLLBACK. Returns it with its number at the server.
fn lock(served: &Served) -> (Sql, i64) {
    let session = served.world.another_session();
    let number = match served.world.backend {
        Backend::MariaDb => "SELECT CAST(CONNECTION_ID() AS SIGNED)",
        _ => "SELECT CAST(pg_backend_pid() AS BIGINT)",
    };
    let number = session.count(number, []);
    session.run("BEGIN");
    session.run("SELECT id FROM flows WHERE code = 'ALARM' FOR UPDATE");
    (session, number)
}

fn permit_to_see_locks(world: &World) {
    if world.backend == Backend::MariaDb {
        Sql::open(&required("TEST_MYSQL_URL")).run(&format!("GRANT PROCESS ON *.* TO '{}'@'%'", world.name));
    }
}

/// The waits of the document that `status --json` prints.
fn waits(served: &Served) -> Vec<Value> {
    let output = served.world.command(&["status", "--url", &format!("http://{}", served.address), "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    status["gateway"]["waits"].as_array().unwrap().clone()
}

fn holder_is_named(backend: Backend, lock_wait: &str, others_go_on: bool) {
    let served = served(backend, lock_wait);
    permit_to_see_locks(&served.world);
    let (session, number) = lock(&served);
    served.world.publish("alarm", "{}");
    let held = format!("for the row of flow ALARM, held by connection {number}, user {}", served.world.name);
    served.gateway.wait_for_line(&held);
    if others_go_on {
        served.gateway.wait_for_line("Flow ALARM is locked by somebody else");
        served.world.publish("temp", "{}");
        served.world.wait_for_last_msg_id("TEMP", 1);
    }
    let visitor = served.visitor("read");
    let ends = match backend {
        Backend::MariaDb => format!("KILL {number}"),
        _ => format!("SELECT pg_terminate_backend({number})"),
    };
    eventually("the wait in the pages", || {
        let (actors, overview) = (visitor.page("/actors"), visitor.page("/"));
        [actors, overview].iter().all(|page| page.contains(&held) && page.contains(&ends)).then_some(())
    });
    eventually("the wait in the status", || {
        let waits = waits(&served);
        let wait = waits.first()?;
        let is_known =
            wait["holder"]["connection"] == number && wait["flows"] == serde_json::json!(["ALARM"]);
        (is_known && wait["others_go_on"] == others_go_on).then_some(())
    });
    session.run("ROLLBACK");
    served.gateway.wait_for_line("Row is free: flow-worker-0 no longer waits for flow ALARM");
    served.world.wait_for_last_msg_id("ALARM", 1);
    assert!(!visitor.page("/actors").contains("held by"));
}

#[test]
fn holder_of_a_row_is_named() {
    for backend in SERVERS {
        holder_is_named(backend, "30", false);
    }
}

#[test]
fn holder_is_named_for_a_deferred_flow() {
    for backend in SERVERS {
        holder_is_named(backend, "1", true);
    }
}

#[test]
fn missing_right_is_named() {
    let served = served(Backend::MariaDb, "30");
    let (session, number) = lock(&served);
    served.world.publish("alarm", "{}");
    let remedy = format!("GRANT PROCESS ON *.* TO '{}'@'%'", served.world.name);
    served.gateway.wait_for_line(&remedy);
    let page = served.visitor("read").page("/actors");
    assert!(page.contains("for the row of flow ALARM") && page.contains("GRANT PROCESS ON *.* TO"), "{page}");
    permit_to_see_locks(&served.world);
    served.gateway.wait_for_line(&format!("held by connection {number}"));
    session.run("ROLLBACK");
    served.gateway.wait_for_line("Row is free");
}

#[test]
fn locked_file_is_named() {
    let served = served(Backend::Sqlite, "1");
    let session = served.world.another_session();
    session.run("BEGIN IMMEDIATE");
    served.world.publish("alarm", "{}");
    served.gateway.wait_for_line("SQLite does not say who writes");
    session.run("ROLLBACK");
    served.world.wait_for_last_msg_id("ALARM", 1);
}
