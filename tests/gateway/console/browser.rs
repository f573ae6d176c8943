//! The console in a real browser; `browser.py` has the tasks.

use std::process::Command;

use test_support::eventually;
use test_support::http::send;
use test_support::python::tool;
use test_support::world::{Backend, text_of};

use super::Served;
use crate::commands::{document, succeeds};

#[test]
fn console_works_in_a_browser() {
    let world = crate::commands::world(Backend::Sqlite);
    for (code, topic) in [("TEMP", "temp/+"), ("DRIFT", "drift/+")] {
        let (topic, schema) = (world.topic(topic), r#"{"value": "number"}"#);
        succeeds(
            &world,
            &["flows", "add", code, "--topic", &topic, "--action", "STORE_DB", "--schema", schema],
        );
    }
    // Nobody listens at this port.
    world.flow("POST", "post").posts_to("http://127.0.0.1:9/").insert(&world.sql);
    world
        .flow("PLANT_SOUTH_HALL_3_TEMPERATURES", "plant/south/hall-3/line-12/+/temperature/celsius")
        .insert(&world.sql);
    let hostile = "<script>alert(1)</script>\"";
    world.flow(hostile, "evil/+").schema(r#"{"value": "number"}"#).insert(&world.sql);
    let description = "<img src=x onerror=alert(2)>\u{202e}\u{1b}[31m";
    world
        .sql
        .execute("UPDATE flows SET description = ? WHERE code = ?", [description.into(), hostile.into()]);
    let served = Served::new(world);
    served.gateway.wait_for_line("Flow TEMP is active");
    served.gateway.wait_for_line("Flow POST is active");
    served.gateway.wait_for_line_that("the hostile flow", &|line| {
        line.contains("alert(1)") && line.contains("is active")
    });
    for value in [20.5, 21.0, 23.25, 22.0] {
        served.world.publish("temp/a", format!(r#"{{"value": {value}}}"#));
    }
    served.world.publish("post", "{}");
    served.world.wait_for_stored("TEMP", 4);
    let payload = format!("{{\"value\": \"<img src=x onerror=alert(3)>{}\"}}", "\u{202e}".repeat(1000));
    served.world.publish("evil/<svg onload=alert(4)>", payload);
    served.world.wait_for_dead_letters(1);
    served.gateway.wait_for_line("Flow DRIFT is active");
    served.world.publish("drift/a", r#"{"value": 20.5, "room": "attic"}"#);
    served.world.publish("drift/b", r#"{"value": "warm", "unit": "C"}"#);
    served.gateway.wait_for_line("Flow DRIFT: field");
    served.world.wait_for_dead_letters(2);
    // The newest of all, which the browser opens first.
    served.world.publish("temp/a", r#"{"value": "warm"}"#);
    served.world.wait_for_dead_letters(3);
    let expired = document(&served.world, &["tokens", "add", "brief", "--scope", "admin", "--expires", "1s"]);
    let expired = expired["token"]["token"].as_str().unwrap().to_owned();
    let header =
        format!("GET /api/v1/flows HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {expired}", served.address);
    eventually("the end of the token", || (send(served.address, &header, b"").status == 401).then_some(()));
    let mut browser = Command::new(tool("python"));
    browser.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway/console/browser.py"));
    browser.arg(format!("http://{}", served.address));
    browser.args([served.token("admin", "admin"), served.token("reader", "read"), expired]);
    browser.arg(served.world.topic("").trim_end_matches('/'));
    // Where it is set, screenshots of all pages are written there.
    browser.args(std::env::var_os("CONSOLE_SCREENSHOTS"));
    let output = browser.output().expect("the interpreter is installed");
    assert!(output.status.success(), "{}", text_of(&output));
}
