//! The console in a real browser; `browser.py` has the tasks.

use std::process::Command;

use test_support::python::tool;
use test_support::world::{Backend, text_of};

use super::Served;
use crate::commands::succeeds;

#[test]
fn console_works_in_a_browser() {
    let world = crate::commands::world(Backend::Sqlite);
    let topic = world.topic("temp/+");
    let schema = r#"{"value": "number"}"#;
    succeeds(
        &world,
        &["flows", "add", "TEMP", "--topic", &topic, "--action", "STORE_DB", "--schema", schema],
    );
    // Nobody listens at this port.
    world.flow("POST", "post").posts_to("http://127.0.0.1:9/").insert(&world.sql);
    let served = Served::new(world);
    served.gateway.wait_for_line("Flow TEMP is active");
    served.gateway.wait_for_line("Flow POST is active");
    for value in [20.5, 21.0, 23.25, 22.0] {
        served.world.publish("temp/a", format!(r#"{{"value": {value}}}"#));
    }
    served.world.publish("temp/a", r#"{"value": "warm"}"#);
    served.world.publish("post", "{}");
    served.world.wait_for_stored("TEMP", 4);
    served.world.wait_for_dead_letters(1);
    let mut browser = Command::new(tool("python"));
    browser.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway/console/browser.py"));
    browser.arg(format!("http://{}", served.address));
    browser.args([served.token("admin", "admin"), served.token("reader", "read")]);
    // Where it is set, screenshots of all pages are written there.
    browser.args(std::env::var_os("CONSOLE_SCREENSHOTS"));
    let output = browser.output().expect("the interpreter is installed");
    assert!(output.status.success(), "{}", text_of(&output));
}
