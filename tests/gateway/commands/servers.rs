//! Brokers, from the first row to its removal.

use std::process::Stdio;

use serde_json::Value;
use test_support::world::World;

use super::{document, fails, succeeds};

fn brokers_are_added_tested_and_removed(world: World) {
    let broker = document(&world, &["servers", "list"])["servers"][0].clone();
    let (first, port) = (broker["id"].to_string(), broker["port"].to_string());
    succeeds(&world, &["servers", "test"]);
    let added =
        document(&world, &["servers", "add", "--host", "127.0.0.1", "--port", &port, "--default", "true"]);
    let second = added["server"]["id"].to_string();
    assert_ne!(first, second);
    let text = succeeds(&world, &["servers", "test", &second]);
    assert!(text.contains(&format!("{second}: ok: 127.0.0.1:{port} accepts us by MQTT 5")), "{text}");
    succeeds(&world, &["servers", "edit", &second, "--port", "1"]);
    let text = fails(&world, &["servers", "test"]);
    assert!(text.contains(&format!("{second}: error: 127.0.0.1:1: ")), "{text}");
    assert!(text.contains(&format!("{first}: ok:")), "{text}");
    succeeds(&world, &["servers", "disable", &second]);
    succeeds(&world, &["servers", "test"]);
    succeeds(&world, &["servers", "enable", &second]);
    assert!(fails(&world, &["servers", "remove", &second]).contains("--yes"));
    succeeds(&world, &["servers", "remove", &second, "--yes"]);
    assert!(fails(&world, &["servers", "show", &second]).contains("servers list"));
    succeeds(&world, &["servers", "remove", &first, "--yes"]);
    succeeds(&world, &["servers", "add", "--host", "127.0.0.1", "--port", &port]);
    succeeds(&world, &["servers", "test"]);
}

fn secrets_that_cannot_be_read_are_named(world: World) {
    let add = ["servers", "add", "--host", "h", "--username", "me", "--password", "file:/etc/passwd"];
    let added = succeeds(&world, &[&add[..], &["--tls", "true", "--ca-file", "/nowhere/ca.pem"]].concat());
    for words in ["warning: password: file:/etc/passwd is refused", "warning: tls: ca_file /nowhere/ca.pem"] {
        assert!(added.contains(words), "{added}");
    }
    let options = |secret: &str| format!(r#"{{"delivery": {{"signing_secrets": ["{secret}"]}}}}"#);
    let add = ["flows", "add", "P", "--topic", "p", "--action", "POST_ENDPOINT", "--endpoint-url"];
    let added =
        succeeds(&world, &[&add[..], &["http://127.0.0.1:9/", "--options", &options("abc")]].concat());
    assert!(added.contains("signing_secrets[0]: a signing secret is whsec_"), "{added}");
    succeeds(&world, &["flows", "edit", "P", "--options", &options("env:HOME")]);
    let checked = succeeds(&world, &["flows", "validate", "P"]);
    assert!(checked.contains("env:HOME is refused"), "{checked}");
}

fn passwords_are_never_shown(world: World) {
    let add = ["servers", "add", "--host", "h", "--username", "me", "--password"];
    let refused = fails(&world, &[&add[..], &["s3cret"]].concat());
    assert!(refused.contains("is no reference to a secret") && !refused.contains("s3cret"), "{refused}");
    let by_reference = document(&world, &[&add[..], &["file:/run/secrets/mqtt"]].concat());
    assert_eq!(by_reference["server"]["password"], "file:/run/secrets/mqtt");

    let password = world.directory().join("password");
    std::fs::write(&password, "s3cret\n").unwrap();
    let mut command = std::process::Command::new(test_support::process::binary());
    command.args(add).args(["-", "--json"]).current_dir(world.directory()).env_clear().envs(&world.settings);
    let output = command.stdin(Stdio::from(std::fs::File::open(&password).unwrap())).output().unwrap();
    let added: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(added["server"]["password"], "***");
    assert_eq!(world.sql.count("SELECT COUNT(*) FROM mqtt_servers WHERE password = 's3cret'", []), 1);
    let id = added["server"]["id"].to_string();
    for arguments in [&["servers", "list"][..], &["servers", "show", &id]] {
        let texts = succeeds(&world, arguments) + &document(&world, arguments).to_string();
        assert!(!texts.contains("s3cret"), "{texts}");
    }
}

fn unusable_brokers_are_refused(world: World) {
    let refusals = [
        (vec!["--host", ""], "error: host: the host is empty"),
        (vec!["--host", "mqtt://h"], "is no host"),
        (vec!["--host", "h", "--ca-file", "/ca.pem"], "error: tls:"),
        (vec!["--host", "h", "--protocol-version", "4"], "error: protocol_version:"),
    ];
    for (arguments, words) in refusals {
        let text = fails(&world, &[&["servers", "add"], &arguments[..]].concat());
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
    let port = world.command(&["servers", "add", "--host", "h", "--port", "0"]);
    assert_eq!(port.status.code(), Some(2));
    assert_eq!(document(&world, &["servers", "list"])["servers"].as_array().unwrap().len(), 1);
}

on_each_database!(
    brokers_are_added_tested_and_removed,
    passwords_are_never_shown,
    secrets_that_cannot_be_read_are_named,
    unusable_brokers_are_refused,
);
