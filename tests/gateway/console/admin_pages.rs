//! Brokers, replicas, tokens and the history.

use test_support::eventually;
use test_support::world::{Backend, World};

use super::{Served, location, value_of};
use crate::commands::{document, succeeds};

fn brokers_are_added_tested_and_removed(world: World) {
    let served = Served::new(world);
    let visitor = served.visitor("admin");
    let used = document(&served.world, &["servers", "list"])["servers"][0].clone();
    let (id, port) = (used["id"].to_string(), used["port"].to_string());
    let tested = visitor.submit("/broker/test", &[("id", &id)]);
    assert!(tested.body.contains("The broker can be used"), "{}", tested.body);

    let brokers = eventually("the connection", || {
        let page = visitor.page("/brokers");
        page.contains("in use by this gateway").then_some(page)
    });
    assert!(!brokers.contains("No broker is enabled"), "{brokers}");
    let disabled = visitor.submit("/broker/disable", &[("id", &id)]);
    assert!(visitor.page(location(&disabled)).contains("no other one is enabled"), "{}", location(&disabled));
    assert!(visitor.page("/brokers").contains("No broker is enabled"));
    let overview = visitor.page("/");
    assert!(
        overview.contains("o broker is enabled") && overview.contains("href=\"/brokers\">Brokers"),
        "{overview}"
    );
    visitor.submit("/broker/enable", &[("id", &id)]);

    let wrong = visitor.submit("/broker/new", &[("host", "mqtt://h"), ("port", "x")]);
    assert!(wrong.status == 422 && wrong.body.contains("aria-invalid"), "{}", wrong.body);
    assert!(
        wrong.body.contains("<a href=\"#port\">Port</a>: &#34;x&#34; is no number. Give a port"),
        "{}",
        wrong.body
    );
    let wrong = visitor.submit("/broker/new", &[("host", "h"), ("port", "99999")]);
    assert!(wrong.body.contains("<a href=\"#port\">Port</a>: 99999 is no port"), "{}", wrong.body);
    assert!(!wrong.body.contains("with id 0") && !wrong.body.contains("servers edit"), "{}", wrong.body);
    let entries = [("host", "127.0.0.1"), ("port", port.as_str()), ("username", "me"), ("password", "hush1")];
    let added = visitor.submit("/broker/new", &entries);
    let (page, _) = location(&added).split_once("&done=added").unwrap();
    let new = page.rsplit('=').next().unwrap();
    let shown = visitor.page(page);
    assert!(shown.contains("disabled") && !shown.contains("hush1"), "{shown}");

    let form = visitor.page(&format!("/broker/edit?id={new}"));
    assert_eq!(value_of(&form, "password"), "***");
    let (id_of, version) = (("id", new), value_of(&form, "version"));
    let edit =
        [id_of, ("version", version.as_str()), ("host", "127.0.0.1"), ("port", ""), ("username", "me")];
    let edit = [&edit[..], &[("password", "***")]].concat();
    assert!(location(&visitor.submit("/broker/edit", &edit)).ends_with("done=saved"));
    let kept = "SELECT COUNT(*) FROM mqtt_servers WHERE password = 'hush1' AND port IS NULL";
    assert_eq!(served.world.sql.count(kept, []), 1);
    let older =
        visitor.submit("/broker/edit", &[&edit[..4], &[("password", "***"), ("tls", "yes")]].concat());
    assert_eq!(older.status, 409, "the form is older than the row");
    assert!(older.body.contains("<dt>TLS</dt>") && !older.body.contains("<dt>Host</dt>"), "{}", older.body);
    assert_ne!(value_of(&older.body, "version"), version);
    assert_eq!(visitor.submit("/broker/edit", &edit).status, 409, "the form is older than the row");

    assert!(location(&visitor.submit("/broker/enable", &[id_of])).ends_with("done=enabled"));
    assert!(location(&visitor.submit("/broker/disable", &[id_of])).ends_with("done=disabled"));
    assert!(visitor.page(&format!("/broker/remove?id={new}")).contains("Remove the broker 127.0.0.1:1883?"));
    assert!(location(&visitor.submit("/broker/remove", &[id_of])).ends_with("done=removed"));
    assert_eq!(visitor.get(page).status, 404);
    let late = visitor.submit("/broker/edit", &edit);
    assert!(late.status == 409 && late.body.contains("the broker was removed meanwhile"), "{}", late.body);
    assert_eq!(value_of(&late.body, "username"), "me");
    let history = visitor.page(&format!("/history?kind=server&name={new}"));
    for words in ["added", "removed", "token t-admin", "port", "enabled"] {
        assert!(history.contains(words), "{words}: {history}");
    }
    assert!(!history.contains("hush1"));
    assert!(!history.contains(&format!("/broker?id={new}")), "it was removed: {history}");
}

fn history_is_selected_page_by_page(world: World) {
    let topic = world.topic("a");
    succeeds(&world, &["flows", "add", "A", "--topic", &topic, "--action", "STORE_DB"]);
    for number in 0..51 {
        let sql =
            "INSERT INTO edit_history (edited_at, edited_by, kind, name, changed) VALUES (?, ?, ?, ?, ?)";
        let values = ["2026-01-01 00:00:00", &format!("token {number}"), "server", "7", ""];
        served_row(&world, sql, values);
    }
    let served = Served::new(world);
    let reader = served.visitor("read");
    let first = reader.page("/history");
    assert!(!first.contains("flow <a") && first.contains("Next page"), "the flow is the oldest entry");
    let next = first.split_once("\">Next page").unwrap().0.rsplit('"').next().unwrap().to_owned();
    assert!(reader.page(&next).contains("/flow?code=A"));
    assert!(reader.page("/history?kind=flow").contains("/flow?code=A"));
    assert!(reader.page("/history?by=token+50").contains("token 50"));
    assert!(reader.page("/history?since=2036-01-01").contains("No edit matches"));
    let listed = document(&served.world, &["history", "--kind", "server", "--limit", "1"]);
    assert_eq!(listed["history"][0]["edited_by"], "token 50");
    assert_eq!(listed["history"][0]["name"], "7");
}

fn served_row(world: &World, sql: &str, values: [&str; 5]) {
    let [at, by, kind, name, changed] = values;
    let sql = sql.replacen('?', &format!("'{at}'"), 1);
    world.sql.execute(&sql, [by.into(), kind.into(), name.into(), changed.into()]);
}

on_each_database!(brokers_are_added_tested_and_removed, history_is_selected_page_by_page);

#[test]
fn tokens_are_shown_once_and_revoked() {
    let served = Served::new(crate::commands::world(Backend::Sqlite));
    let visitor = served.visitor("admin");
    let wrong = visitor.submit("/tokens", &[("name", "a b"), ("scope", "read"), ("expires", "")]);
    assert!(wrong.status == 422 && wrong.body.contains("name"), "{}", wrong.body);
    let wrong = visitor.submit("/tokens", &[("name", "ci"), ("scope", "read"), ("expires", "soon")]);
    assert_eq!(wrong.status, 422);
    let added = visitor.submit("/tokens", &[("name", "ci"), ("scope", "read"), ("expires", "90d")]);
    let text = added.body.split("mqg_").nth(1).expect("the token is shown");
    let text = format!("mqg_{}", text.split('<').next().unwrap());
    assert!(!visitor.page("/tokens").contains("mqg_"), "it is shown once");
    let reader = served.guest().logged_in(&text);
    assert_eq!(reader.get("/tokens").status, 403);
    assert!(!reader.page("/").contains("/tokens"));
    assert!(visitor.page("/token/revoke?name=ci").contains("Revoke the token ci?"));
    assert_eq!(visitor.get("/token/revoke?name=none").status, 404);
    let revoked = visitor.submit("/token/revoke", &[("name", "ci")]);
    assert!(visitor.page(location(&revoked)).contains("The token was revoked"));
    eventually("the end of the session", || (reader.get("/").status == 303).then_some(()));
}

#[test]
fn a_single_gateway_is_a_replica() {
    let world = crate::commands::world(Backend::Sqlite);
    world.flow("F", "f").insert(&world.sql);
    let served = Served::new(world);
    let page = served.visitor("read").page("/replicas");
    assert!(page.contains("running") && page.contains("all flows"), "{page}");
    let shown = document_of_status(&served);
    assert_eq!((&shown["flows"], &shown["alive"]), (&1.into(), &true.into()), "{shown}");
}

fn document_of_status(served: &Served) -> serde_json::Value {
    let output = served.world.command(&["status", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    shown["database"]["replicas"][0].clone()
}
