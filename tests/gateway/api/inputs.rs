//! What requests say: wrong members and parameters are named, and nulls clear columns.

use serde_json::json;
use test_support::world::Backend;

use super::{Served, problem};

#[test]
fn wrong_input_is_refused_by_name() {
    let served = Served::new(crate::commands::world(Backend::Sqlite));
    let admin = &served.admin;
    let flow = |code: &str, last: i64| json!({"code": code, "topic": "a", "action": "STORE_DB", "last_msg_id": last});
    assert_eq!(admin.call("POST", "/flows", &flow("A", 7)).status, 201);
    for (method, path, body, status, words) in [
        ("PATCH", "/flows/A", json!({"topic": null}), 400, "body: topic: "),
        ("PATCH", "/flows/A", json!({"enabled": null}), 400, "body: enabled: "),
        ("PATCH", "/servers/1", json!({"tls": null}), 400, "body: tls: "),
        ("POST", "/dead-letters/discard", json!([null, null, true]), 400, "body: an object is expected"),
        ("POST", "/dead-letters/discard", json!({"filter": ["A"]}), 400, "filter: an object is expected"),
        ("POST", "/tokens", json!({"name": "x", "scope": {"admin": null}}), 400, "body: scope: "),
        ("POST", "/tokens", json!({"name": "ADMIN_TOKEN_FILE", "scope": "read"}), 422, "choose another name"),
        ("POST", "/tokens", json!({"name": "..", "scope": "read"}), 422, "is no name of a token"),
        ("POST", "/flows", flow("B", i64::MAX), 422, "last_msg_id"),
        ("POST", "/flows", flow("B", -1), 422, "last_msg_id"),
        ("POST", "/flows/A/test", json!({"last": true, "payload": "{}"}), 422, "leave last"),
        ("POST", "/servers", json!({"host": "me:hush@broker:1883"}), 422, "is no host"),
        ("GET", "/flows?limit=x", json!({}), 400, "query: limit: "),
        ("GET", "/flows/B/history", json!({}), 404, "there is no flow"),
    ] {
        let answer = admin.call(method, path, &body);
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.body);
        assert!(answer.body.contains(words), "{path} {body}: {}", answer.body);
        assert!(!answer.body.contains("hush"), "{}", answer.body);
    }
    let json = ["Content-Type: application/json", "Content-Encoding: gzip"];
    problem(&admin.send("PATCH", "/flows/A", &json, b"{}"), 415, "unsupported_media_type");
}

#[test]
fn null_clears_a_column() {
    let served = Served::new(crate::commands::world(Backend::Sqlite));
    let admin = &served.admin;
    let flow = json!({"code": "A", "topic": "a", "action": "STORE_DB", "description": "text",
        "payload_schema": {"v": "number"}});
    assert_eq!(admin.call("POST", "/flows", &flow).status, 201);
    let json = ["Content-Type: application/json"];
    let edit = |body: &str| admin.send("PATCH", "/flows/A", &json, body.as_bytes()).json()["changed"].clone();
    assert_eq!(edit(r#"{"payload_schema": { "v" : "number" }}"#), false, "only the blanks differ");
    assert_eq!(edit(r#"{"description": null, "payload_schema": null}"#), true);
    let cleared = admin.read("/flows/A");
    assert_eq!((&cleared["description"], &cleared["payload_schema"]), (&json!(""), &json!({})));
}
