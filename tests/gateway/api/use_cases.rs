//! The tasks of an operator, by HTTP.

use serde_json::{Value, json};
use test_support::eventually;
use test_support::http::Answer;
use test_support::sink::Sink;
use test_support::world::{Backend, World};

use super::{ApiClient, Served, problem};

/// The document of a successful answer.
fn ok(answer: &Answer) -> Value {
    assert!(matches!(answer.status, 200 | 201), "{} {}", answer.status, answer.body);
    answer.json()
}

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn flow(world: &World) -> Value {
    let schema = json!({"value": "number"});
    json!({"code": "TEMP", "topic": world.topic("temp"), "action": "STORE_DB", "payload_schema": schema})
}

/// First flow, a message, a fault, its cause, its repair, the replay, the end.
fn operators_do_their_work_by_http(world: World) {
    let served = Served::new(world);
    let (admin, operator) = (&served.admin, served.client("operate"));
    let mark = served.world.broker.mark();
    let added = admin.call("POST", "/flows", &flow(&served.world));
    assert_eq!(ok(&added)["counts_from"], 1);
    assert_eq!((added.status, added.headers["location"].as_str()), (201, "/api/v1/flows/TEMP"));
    let topic = served.world.topic("temp");
    served.world.wait_for_filters(mark, &[&topic]);

    let publish =
        |payload: &str| ok(&operator.call("POST", "/publish", &json!({"topic": topic, "payload": payload})));
    assert_eq!(publish(r#"{"value": 1}"#)["bytes"], 12);
    served.world.wait_for_stored("TEMP", 1);
    publish(r#"{"value": "warm"}"#);
    served.world.wait_for_dead_letters(1);
    let page = operator.read("/dead-letters?flow=TEMP&reason=validation_failed&since=1h");
    let id = page["dead_letters"][0]["id"].as_i64().unwrap();
    assert_eq!(operator.read("/dead-letters/counts")["total"], 1);
    let letter = operator.read(&format!("/dead-letters/{id}"));
    assert_eq!(letter["payload"], r#"{"value": "warm"}"#);
    let told = ok(&operator.call("POST", "/explain", &json!({"topic": topic, "payload": "{}"})));
    assert_eq!(told["flows"][0]["outcome"]["dead_letter"]["reason"], "validation_failed");

    let last = ok(&operator.call("POST", "/flows/TEMP/test", &json!({"last": true})));
    assert_eq!(last["payload"], r#"{"value": "warm"}"#);
    let change = json!({"payload_schema": {"value": "string"}});
    let warm = json!({"payload": r#"{"value": "warm"}"#, "draft": &change});
    assert_eq!(ok(&operator.call("POST", "/flows/TEMP/test", &warm))["message_id"], 2);
    problem(&operator.call("POST", "/flows/NEW/test", &warm), 404, "not_found");
    let new = json!({"new": true, "draft": {"topic": "new/+", "action": "STORE_DB"}, "payload": "{}"});
    let tried = ok(&operator.call("POST", "/flows/NEW/test", &new));
    assert_eq!((&tried["message_id"], &tried["topic"]), (&json!(1), &json!("new/example")), "{tried}");
    problem(&operator.call("POST", "/flows/NEW/test", &json!({"new": true})), 422, "invalid");
    let preview = ok(&operator.call("POST", "/flows/TEMP/preview", &change));
    assert_eq!((&preview["counts_from"], &preview["letters_passing"]), (&json!(2), &json!(1)), "{preview}");
    let edit = admin.call("PATCH", "/flows/TEMP", &change);
    assert_eq!(ok(&edit)["counts_from"], 2);
    let tried = ok(&operator.call("POST", "/flows/TEMP/test", &json!({"payload": r#"{"value": "w"}"#})));
    assert_eq!((&tried["message_id"], &tried["ok"]), (&json!(2), &json!(true)), "{tried}");
    let dry = lines(&operator.call("POST", "/dead-letters/replay", &json!({"ids": [id], "dry_run": true})));
    assert_eq!(dry.last().unwrap()["dry_run"], true);
    let replayed =
        lines(&operator.call("POST", "/dead-letters/replay", &json!({"filter": {"flow": "TEMP"}})));
    let last = replayed.last().unwrap();
    assert_eq!((&last["letters"], &last["complete"]), (&json!(1), &json!(true)), "{last}");
    assert_eq!(last["outcomes"][0]["outcome"], "stored");
    served.world.wait_for_stored("TEMP", 2);
    problem(&operator.get(&format!("/dead-letters/{id}")), 404, "not_found");

    assert_eq!(ok(&operator.send("POST", "/flows/TEMP/disable", &[], b""))["changed"], true);
    assert_eq!(ok(&operator.send("POST", "/flows/TEMP/enable", &[], b""))["changed"], true);
    assert_eq!(ok(&operator.send("POST", "/flows/TEMP/validate", &[], b""))["ok"], true);
    assert_eq!(ok(&operator.send("POST", "/touch", &[], b""))["touched"], true);
    let history = operator.read("/flows/TEMP/history?limit=1");
    let authors: Vec<&str> =
        history["history"].as_array().unwrap().iter().map(|e| e["edited_by"].as_str().unwrap()).collect();
    assert_eq!(authors, ["token t-operate"]);
    assert!(history["next"].is_string());
    assert_eq!(ok(&admin.send("DELETE", "/flows/TEMP", &[], b""))["last_msg_id"], 2);
    problem(&admin.get("/flows/TEMP"), 404, "not_found");
    let first = operator.read("/flows/TEMP/history")["history"][1]["id"].clone();
    assert_eq!(ok(&admin.call("POST", "/flows/TEMP/rollback", &json!({"to": first})))["counts_from"], 3);
}

/// Edits the flow `TEMP` if it has this version.
fn edit_version(client: &ApiClient, version: &str, change: &Value) -> Answer {
    let condition = format!("If-Match: {version}");
    let headers = [condition.as_str(), "Content-Type: application/json"];
    client.send("PATCH", "/flows/TEMP", &headers, change.to_string().as_bytes())
}

fn lost_updates_are_refused(world: World) {
    let served = Served::new(world);
    let admin = &served.admin;
    ok(&admin.call("POST", "/flows", &flow(&served.world)));
    let version = |path: &str| admin.get(path).headers["etag"].clone();
    let read = version("/flows/TEMP");
    let edit =
        |version: &str, description: &str| edit_version(admin, version, &json!({"description": description}));
    let first = edit(&read, "first");
    assert_eq!((first.status, &first.headers["etag"]), (200, &version("/flows/TEMP")));
    problem(&edit(&read, "second"), 412, "version_differs");
    problem(
        &admin.send("DELETE", "/flows/TEMP", &[&format!("If-Match: {read}")], b""),
        412,
        "version_differs",
    );
    problem(&edit("nonsense", "third"), 412, "version_differs");
    assert_eq!(admin.read("/flows/TEMP")["description"], "first");
    assert_eq!(edit(&format!("\"x\", {}", version("/flows/TEMP")), "fourth").status, 200);
    assert_eq!(edit("*", "fifth").status, 200);

    let id = admin.read("/servers")["servers"][0]["id"].to_string();
    let path = format!("/servers/{id}");
    let read = version(&path);
    assert_eq!(admin.call("PATCH", &path, &json!({"tls": false, "username": "x"})).status, 200);
    problem(&admin.send("DELETE", &path, &[&format!("If-Match: {read}")], b""), 412, "version_differs");
}

/// `MySQL` stores JSON in another form than it was given. Here a trigger, or the type of the column, does so.
fn versions_are_those_of_the_stored_rows(world: World) {
    world.sql.run(match world.backend {
        Backend::MariaDb => {
            "CREATE TRIGGER site BEFORE UPDATE ON flows FOR EACH ROW \
             SET NEW.payload_schema = JSON_LOOSE(NEW.payload_schema)"
        }
        Backend::Postgres => "ALTER TABLE flows ALTER payload_schema TYPE JSONB",
        Backend::Sqlite => {
            "CREATE TRIGGER site AFTER UPDATE OF payload_schema ON flows BEGIN UPDATE flows \
             SET payload_schema = replace(NEW.payload_schema, ':', ': ') WHERE id = NEW.id; END"
        }
    });
    let served = Served::new(world);
    let admin = &served.admin;
    ok(&admin.call("POST", "/flows", &flow(&served.world)));
    let read = || admin.get("/flows/TEMP").headers["etag"].clone();
    let first = edit_version(admin, &read(), &json!({"payload_schema": {"value": "int"}}));
    assert_eq!((first.status, &first.headers["etag"]), (200, &read()));
    let second = edit_version(admin, &read(), &json!({"payload_schema": {"value": "string"}}));
    assert_eq!((second.status, &second.headers["etag"]), (200, &read()));
    let text = if served.world.backend == Backend::MariaDb { "CHAR" } else { "TEXT" };
    let stored = format!(r#"SELECT COUNT(*) FROM flows WHERE CAST(payload_schema AS {text}) LIKE '%": "%'"#);
    assert_eq!(served.world.sql.count(&stored, []), 1, "the form of the database");
}

const SIGNING: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

fn secrets_are_never_answered(world: World) {
    let served = Served::new(world);
    let admin = &served.admin;
    let url = "https://me:hush1@pager.example/hook?key=hush2";
    let options = json!({"delivery": {"headers": {"Authorization": "hush3"}, "signing_secrets": [SIGNING]}});
    let flow = json!({"code": "A", "topic": "a", "action": "POST_ENDPOINT", "endpoint_url": url, "options": options});
    ok(&admin.call("POST", "/flows", &flow));
    ok(&admin.call("POST", "/servers", &json!({"host": "h", "username": "me", "password": "hush5"})));
    let id = admin.read("/servers")["servers"][1]["id"].to_string();
    assert_eq!(admin.read(&format!("/servers/{id}"))["password"], "***");

    // What was read can be sent back.
    let shown = admin.read("/flows/A");
    let back =
        json!({"endpoint_url": shown["endpoint_url"], "options": shown["options"], "description": "new"});
    ok(&admin.call("PATCH", "/flows/A", &back));
    let kept = "SELECT COUNT(*) FROM flows WHERE endpoint_url LIKE '%hush1%hush2%'";
    assert_eq!(served.world.sql.count(kept, []), 1);
    ok(&admin.call("PATCH", &format!("/servers/{id}"), &json!({"password": "***", "port": 1884})));
    assert_eq!(served.world.sql.count("SELECT COUNT(*) FROM mqtt_servers WHERE password = 'hush5'", []), 1);
    let elsewhere = json!({"endpoint_url": "https://***@elsewhere.example/hook?key=***"});
    problem(&admin.call("PATCH", "/flows/A", &elsewhere), 422, "invalid");

    ok(&admin.call("PATCH", &format!("/servers/{id}"), &json!({"port": null})));
    assert_eq!(admin.read(&format!("/servers/{id}"))["port"], serde_json::Value::Null);
    let edits = admin.read("/history?kind=server&by=root&since=1h&limit=1");
    assert_eq!(edits["history"][0]["changed"], json!(["port"]));
    problem(&admin.get("/history?kind=x"), 422, "invalid");

    for path in ["/flows", "/flows/A", "/flows/A/history", "/history", "/servers", &format!("/servers/{id}")]
    {
        let text = admin.get(path).body;
        assert!(!text.contains("hush") && !text.contains(SIGNING), "{path}: {text}");
    }
    let tried = admin.call("POST", "/flows/A/test", &json!({})).body;
    assert!(!tried.contains("hush") && !tried.contains(SIGNING), "{tried}");
}

fn dead_letters_are_exported_replayed_and_discarded(world: World) {
    let flow = world.flow("f", "t").schema(r#"{"n": "number"}"#).insert(&world.sql);
    crate::contract::dead_letters::insert_letters(&world, flow, 1_200);
    let served = Served::new(world);
    let operator = served.client("operate");
    let (rows, pages) = super::pages::all(&operator, "/dead-letters?limit=500", "dead_letters");
    assert_eq!((rows.len(), pages), (1_200, 3));
    let exported = lines(&operator.get("/dead-letters/export?flow=f"));
    let ids: Vec<i64> = exported.iter().map(|letter| letter["id"].as_i64().unwrap()).collect();
    assert!(ids.len() == 1_200 && ids.is_sorted(), "{}", ids.len());
    assert!(exported[0]["payload"].as_str().unwrap().starts_with("{\"n\":"));

    let nothing = json!({"filter": {}});
    problem(&operator.call("POST", "/dead-letters/discard", &nothing), 422, "invalid");
    let wrong = json!({"filter": {"reason": "nonsense"}});
    problem(&operator.call("POST", "/dead-letters/discard", &wrong), 422, "invalid");
    let some = json!({"ids": ids[..10]});
    let discarded = lines(&operator.call("POST", "/dead-letters/discard", &some));
    assert_eq!(discarded.last().unwrap(), &json!({"discarded": 10, "complete": true}));
    let replayed = lines(&operator.call("POST", "/dead-letters/replay", &json!({"all": true})));
    let last = replayed.last().unwrap();
    assert_eq!((&last["letters"], &last["outcomes"][0]["count"]), (&json!(1_190), &json!(1_190)), "{last}");
    assert_eq!(served.world.sql.count("SELECT COUNT(*) FROM dead_letters", []), 0);
    served.world.wait_for_stored("f", 1_190);
}

fn waiting_posts_are_listed_retried_and_cancelled(world: World) {
    let sink = Sink::new();
    sink.answer_with(500);
    world.flow("post", "t").posts_to(&sink.url("/x")).insert(&world.sql);
    let mark = world.broker.mark();
    let served = Served::new(world);
    let operator = served.client("operate");
    served.world.wait_for_flows(mark);
    for number in 0..3 {
        served.world.publish("t", format!("{{\"n\":{number}}}"));
    }
    eventually("waiting posts", || {
        let list = operator.read("/deliveries?flow=post");
        (list["deliveries"][0]["posts"] == 3).then_some(())
    });
    let first = eventually("a failed attempt", || {
        let first = operator.read("/deliveries/posts?flow=post&limit=2");
        (first["posts"][0]["recent_attempts"][0]["status"] == 500).then_some(first)
    });
    let next = first["next"].as_str().unwrap().strip_prefix("/api/v1").unwrap();
    let second = operator.read(next);
    assert_eq!((&second["posts"][0]["message_id"], &second["next"]), (&json!(3), &Value::Null), "{second}");
    problem(&operator.get("/deliveries/posts?flow=none"), 404, "not_found");
    assert_eq!(ok(&operator.call("POST", "/deliveries/retry", &json!({"flow": "post"})))["due"], 3);
    problem(&operator.call("POST", "/deliveries/retry", &json!({"flow": "none"})), 404, "not_found");
    problem(&operator.call("POST", "/deliveries/cancel", &json!({})), 422, "invalid");
    problem(&operator.call("POST", "/deliveries/cancel", &json!({"keys": ["x"]})), 422, "invalid");
    let cancelled = lines(&operator.call("POST", "/deliveries/cancel", &json!({"flow": "post"})));
    assert_eq!(cancelled.last().unwrap(), &json!({"selected": 3, "cancelled": 3, "complete": true}));
    assert_eq!(operator.read("/dead-letters/counts?reason=cancelled")["total"], 3);
}

on_each_database!(
    operators_do_their_work_by_http,
    lost_updates_are_refused,
    versions_are_those_of_the_stored_rows,
    secrets_are_never_answered,
    dead_letters_are_exported_replayed_and_discarded,
    waiting_posts_are_listed_retried_and_cancelled,
);

#[test]
fn each_operation_has_its_scope() {
    let served = Served::new(crate::commands::world(Backend::Sqlite));
    let reader = served.client("read");
    let description = served.admin.read("/openapi.json");
    let mut operations = 0;
    let paths = description["paths"].as_object().unwrap();
    // The stream of events has no end.
    for (path, item) in paths.iter().filter(|(path, _)| *path != "/events") {
        for (method, operation) in item.as_object().unwrap() {
            let scope = operation["security"][0]["token"][0].as_str().unwrap();
            let path = path.replace("{code}", "x").replace("{id}", "1").replace("{name}", "x");
            let answer = reader.call(&method.to_uppercase(), &path, &json!({}));
            assert_eq!(answer.status == 403, scope != "read", "{method} {path}: {}", answer.body);
            let anonymous = reader.with_token("wrong").call(&method.to_uppercase(), &path, &json!({}));
            assert!(matches!(anonymous.status, 401 | 429), "{method} {path}");
            operations += 1;
        }
    }
    assert!(operations > 30, "{operations}");
}

#[test]
fn probes_are_answered_while_the_database_is_away() {
    let mut world = crate::commands::world(Backend::Postgres);
    let proxy = world.reach_database_by_proxy();
    let served = Served::new(world);
    served.admin.read("/flows");
    drop(proxy);
    eventually("503 of the API", || {
        let answer = served.admin.get("/flows");
        (answer.status == 503).then(|| problem(&answer, 503, "store"))
    });
    assert_eq!(test_support::http::get(served.admin.address, "/health/live").status, 200);
}
