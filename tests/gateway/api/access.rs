//! Who may use the API: tokens, scopes, hosts and origins.

use serde_json::json;
use test_support::eventually;
use test_support::http::get;
use test_support::world::{Backend, World};

use super::{Served, added_token, problem};
use crate::commands::{document, fails, succeeds};

fn tokens_are_added_used_and_revoked(world: World) {
    let served = Served::new(world);
    let added = served.admin.call("POST", "/tokens", &json!({"name": "ci", "scope": "read"}));
    assert_eq!((added.status, added.headers["location"].as_str()), (201, "/api/v1/tokens/ci"));
    let reader = served.admin.with_token(added.json()["token"].as_str().unwrap());
    let names = |document: serde_json::Value| {
        let tokens = document["tokens"].as_array().unwrap().clone();
        tokens.iter().map(|token| token["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(reader.read("/tokens")), ["ci", "root"]);
    assert_eq!(names(document(&served.world, &["tokens", "list"])), ["ci", "root"]);
    assert!(!reader.get("/tokens").body.contains("mqg_"));

    let again = served.admin.call("POST", "/tokens", &json!({"name": "ci", "scope": "read"}));
    problem(&again, 422, "invalid");
    let reserved = served.admin.call("POST", "/tokens", &json!({"name": "command-x", "scope": "read"}));
    assert!(problem(&reserved, 422, "invalid").to_string().contains("command-x"), "{}", reserved.body);
    assert_eq!(served.admin.send("DELETE", "/tokens/ci", &[], b"").status, 200);
    eventually("the refusal of a revoked token", || (reader.get("/tokens").status == 401).then_some(()));
    problem(&served.admin.send("DELETE", "/tokens/ci", &[], b""), 404, "not_found");
}

fn tokens_are_stored_as_hashes(world: World) {
    let text = added_token(&world, "ci", "operate", &["--expires", "90d"]);
    assert_eq!((text.len(), text.starts_with("mqg_")), (47, true), "{text}");
    let rows = world.sql.rows("SELECT name, token_hash, scope FROM api_tokens", []);
    let hash: String = rows[0].try_get("", "token_hash").unwrap();
    assert_eq!(hash.len(), 64);
    assert!(succeeds(&world, &["tokens", "list"]).contains("ci    operate"));
    assert!(fails(&world, &["tokens", "add", "ci", "--scope", "read"]).contains("exists"));
    assert!(fails(&world, &["tokens", "add", "a b", "--scope", "read"]).contains("is no name of a token"));
    let reserved = fails(&world, &["tokens", "add", "command-x", "--scope", "read"]);
    assert!(reserved.contains("\"command-x\" begins with \"command-\""), "{reserved}");
    succeeds(&world, &["tokens", "revoke", "ci"]);
    assert!(fails(&world, &["tokens", "revoke", "ci"]).contains("tokens list"));
}

fn expired_tokens_are_refused(world: World) {
    let served = Served::new(world);
    let brief = added_token(&served.world, "brief", "read", &["--expires", "1s"]);
    let client = served.admin.with_token(&brief);
    eventually("the end of a token", || {
        let answer = client.get("/tokens");
        (answer.status == 401 && answer.body.contains("expired")).then_some(())
    });
    let tokens = served.admin.read("/tokens");
    assert_eq!(tokens["tokens"][0]["expired"], true, "{tokens}");
}

on_each_database!(tokens_are_added_used_and_revoked, tokens_are_stored_as_hashes, expired_tokens_are_refused);

fn on_sqlite() -> Served {
    Served::new(crate::commands::world(Backend::Sqlite))
}

#[test]
fn requests_without_a_token_are_refused() {
    let served = on_sqlite();
    for headers in [
        &["Authorization: -"][..],
        &["Authorization: Bearer"],
        &["Authorization: Basic cm9vdDpyb290"],
        &["Authorization: Bearer wrong"],
    ] {
        let answer = served.admin.send("GET", "/flows", headers, b"");
        problem(&answer, 401, "unauthorized");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"mqtt-gateway\"");
        for path in ["/", "/nowhere", "/openapi.json"] {
            assert_eq!(served.admin.send("GET", path, headers, b"").status, 401, "{path}");
        }
    }
    assert_eq!(get(served.admin.address, "/health/live").status, 200);
    assert_eq!(get(served.admin.address, "/metrics").status, 200);
}

#[test]
fn scopes_limit_what_a_token_permits() {
    let served = on_sqlite();
    let body = json!({"name": "x", "scope": "admin"});
    for scope in ["read", "operate"] {
        let answer = served.client(scope).call("POST", "/tokens", &body);
        let problem = problem(&answer, 403, "forbidden");
        assert!(problem["detail"].as_str().unwrap().contains("scope admin"), "{problem}");
    }
    assert_eq!(served.client("admin").call("POST", "/tokens", &body).status, 201);
}

#[test]
fn wrong_tokens_are_limited_and_logged() {
    let served = on_sqlite();
    let guess = served.admin.with_token("mqg_guess-hush");
    let answers: Vec<u16> = (0..105).map(|_| guess.get("/flows").status).collect();
    assert_eq!(answers[..100], [401; 100], "{answers:?}");
    assert_eq!(answers[100..], [429; 5], "{answers:?}");
    let answer = guess.get("/flows");
    problem(&answer, 429, "too_many_requests");
    assert!((1..=60).contains(&answer.headers["retry-after"].parse::<u32>().unwrap()));
    // Who has a token is not locked out.
    served.admin.read("/flows");
    served.gateway.wait_for_line("API: a wrong token came from 127.0.0.1");
    assert_eq!(served.gateway.count_lines("hush"), 0);
}

#[test]
fn only_own_hosts_and_origins_are_served() {
    let mut world = crate::commands::world(Backend::Sqlite);
    world.set("ADMIN_HOSTS", "gateway.example");
    let served = Served::new(world);
    let port = served.admin.address.port();
    let asked = |headers: &[&str]| served.admin.send("GET", "/flows", headers, b"");
    for host in ["localhost", "gateway.example:80", "[::1]:1"] {
        assert_eq!(asked(&[&format!("Host: {host}")]).status, 200, "{host}");
    }
    problem(&asked(&["Host: evil.example"]), 421, "wrong_host");
    problem(&asked(&[&format!("Host: evil.example:{port}")]), 421, "wrong_host");
    problem(&asked(&["Host: localhost", "Origin: http://evil.example"]), 403, "foreign_origin");
    problem(&asked(&["Host: localhost", "Origin: null"]), 403, "foreign_origin");
    assert_eq!(asked(&["Host: localhost:1", "Origin: http://localhost:1"]).status, 200);
    let absolute = "GET http://evil.example/api/v1/flows HTTP/1.1\r\nHost: localhost";
    problem(&test_support::http::send(served.admin.address, absolute, b""), 421, "wrong_host");
}

#[test]
fn token_file_is_read_again() {
    let mut world = crate::commands::world(Backend::Sqlite);
    let file = world.directory().join("token");
    std::fs::write(&file, format!("{}\n", "a".repeat(40))).unwrap();
    world.set("ADMIN_TOKEN_FILE", file.to_str().unwrap());
    let served = Served::new(world);
    let (old, new) = (served.admin.with_token(&"a".repeat(40)), served.admin.with_token(&"b".repeat(40)));
    assert_eq!(old.call("POST", "/tokens", &json!({"name": "x", "scope": "read"})).status, 201);
    std::fs::write(&file, "b".repeat(40)).unwrap();
    eventually("the token of the file", || (new.get("/flows").status == 200).then_some(()));
    assert_ne!(old.get("/flows").status, 200);
    std::fs::remove_file(&file).unwrap();
    eventually("the end of the file", || (new.get("/flows").status != 200).then_some(()));
}

#[test]
fn every_fault_has_problem_details() {
    let served = on_sqlite();
    let admin = &served.admin;
    problem(&admin.get("/nowhere"), 404, "not_found");
    problem(&admin.get("/flows/NOWHERE"), 404, "not_found");
    problem(&admin.get("/flows/%00/history"), 404, "not_found");
    let wrong_method = admin.send("DELETE", "/flows", &[], b"");
    problem(&wrong_method, 405, "method_not_allowed");
    assert!(wrong_method.headers["allow"].contains("GET"));
    problem(&admin.get("/flows?nosuch=1"), 400, "bad_request");
    problem(&admin.get("/flows?limit=0"), 400, "bad_request");
    problem(&admin.get("/flows?limit=1001"), 400, "bad_request");
    problem(&admin.get("/flows?text=%00"), 400, "bad_request");
    problem(&admin.get("/flows?after=eA"), 422, "invalid");
    problem(&admin.send("POST", "/tokens", &[], b"{}"), 415, "unsupported_media_type");
    let json = ["Content-Type: application/json"];
    for (body, words) in [
        ("{", "EOF"),
        ("[]", "an object is expected"),
        (r#"{"name": 1, "scope": "read"}"#, "name: invalid type"),
        (r#"{"name": "a", "scope": "root"}"#, "scope: read, operate or admin"),
        (r#"{"name": "a", "scope": "read", "other": 1}"#, "unknown field `other`"),
        (r#"{"name": "a", "scope": "read"} x"#, "trailing"),
    ] {
        let answer = admin.send("POST", "/tokens", &json, body.as_bytes());
        let problem = problem(&answer, 400, "bad_request");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{body}: {problem}");
    }
    problem(&admin.send("POST", "/tokens", &json, &vec![b' '; 1024 * 1024 + 1]), 413, "too_large");
}
