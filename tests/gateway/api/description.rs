//! Requests made from the OpenAPI description, with all checks of schemathesis.

use std::process::Command;

use serde_json::json;
use test_support::python::tool;
use test_support::world::{Backend, text_of};

use super::{ApiClient, Served};

/// Has schemathesis call every operation but the endless stream of events.
fn try_all(served: &Served, client: Option<&ApiClient>) {
    let description = served.world.directory().join("openapi.json");
    std::fs::write(&description, served.admin.get("/openapi.json").body).unwrap();
    let mut command = Command::new(tool("st"));
    command
        .args(["--config-file", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway/api/schemathesis.toml")]);
    command.arg("run").arg(&description).current_dir(served.world.directory());
    command.args(["--url", &format!("http://{}/api/v1", served.admin.address)]);
    command.args(["--exclude-path", "/events", "--checks", "all", "--no-color"]);
    // The same requests each time.
    command.args(["--workers", "1", "--max-examples", "5", "--generation-deterministic"]);
    if let Some(client) = client {
        command.args(["-H", &format!("Authorization: Bearer {}", client.token)]);
    }
    let output = command.output().expect("schemathesis is installed");
    assert!(output.status.success(), "{}", text_of(&output));
}

fn served() -> Served {
    let served = Served::new(crate::commands::world(Backend::Sqlite));
    let flow = json!({"code": "TEMP", "topic": "a/+", "action": "STORE_DB"});
    assert_eq!(served.admin.call("POST", "/flows", &flow).status, 201);
    served
}

#[test]
fn description_is_kept_for_administrators() {
    let served = served();
    try_all(&served, Some(&served.admin));
}

#[test]
fn description_is_kept_for_operators() {
    let served = served();
    try_all(&served, Some(&served.client("operate")));
}

#[test]
fn description_is_kept_for_readers() {
    let served = served();
    try_all(&served, Some(&served.client("read")));
}

#[test]
fn description_is_kept_without_a_token() {
    try_all(&served(), None);
}
