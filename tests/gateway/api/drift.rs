//! Changed fields of messages, by HTTP.

use serde_json::{Value, json};
use test_support::eventually;
use test_support::world::{Backend, World};

use super::{Served, problem};

fn served() -> Served {
    let world: World = crate::commands::world(Backend::Sqlite);
    for code in ["A", "B"] {
        world.flow(code, code).schema(r#"{"v": "number"}"#).insert(&world.sql);
    }
    let served = Served::new(world);
    served.gateway.wait_for_line("Flow A is active");
    served.gateway.wait_for_line("Flow B is active");
    for code in ["A", "B"] {
        served.world.publish(code, r#"{"v": 1}"#);
        served.world.publish(code, r#"{"v": "x"}"#);
    }
    served.world.wait_for_dead_letters(2);
    eventually("the changes", || {
        let flows = served.admin.read("/drift")["flows"].as_array().unwrap().len();
        (flows == 2).then_some(())
    });
    served
}

#[test]
fn changes_are_accepted_and_dismissed() {
    let served = served();
    let (admin, operator, reader) = (&served.admin, served.client("operate"), served.client("read"));
    let page = reader.read("/drift?limit=1");
    assert_eq!(page["flows"].as_array().unwrap().len(), 1);
    let next = page["next"].as_str().unwrap().strip_prefix("/api/v1").unwrap();
    assert_eq!(reader.read(next)["flows"][0]["code"], "B");
    let change = reader.read("/flows/A/drift")["fields"][0]["change"].clone();
    assert_eq!((&change["kind"], &change["is_refused"]), (&json!("type_changed"), &json!(true)));
    assert_eq!(change["accepting_schema"], json!({"v": "string"}));

    let field = json!({"field": "v"});
    problem(&operator.call("POST", "/flows/A/drift/accept", &field), 403, "forbidden");
    problem(&reader.call("POST", "/flows/A/drift/dismiss", &field), 403, "forbidden");
    problem(&admin.call("POST", "/flows/A/drift/accept", &json!({"field": "w"})), 404, "not_found");
    let stale = ["Content-Type: application/json", "If-Match: \"0\""];
    let stale = admin.send("POST", "/flows/A/drift/accept", &stale, field.to_string().as_bytes());
    assert_eq!(stale.status, 412, "{}", stale.body);

    let accepted = admin.call("POST", "/flows/A/drift/accept", &field).json();
    assert_eq!((&accepted["changed"], &accepted["counts_from"]), (&json!(true), &json!(2)), "{accepted}");
    let replay = json!({"filter": accepted["dead_letters"]});
    let replayed = operator.call("POST", "/dead-letters/replay", &replay);
    assert!(replayed.body.contains("\"stored\""), "{}", replayed.body);
    served.world.wait_for_stored("A", 2);
    assert_eq!(served.world.dead_letters().len(), 1, "the letter of the other flow stays");
    problem(&admin.call("POST", "/flows/A/drift/accept", &field), 404, "not_found");

    let dismissed = operator.call("POST", "/flows/B/drift/dismiss", &field).json();
    assert_eq!(dismissed["fields"][0]["change"], Value::Null);
    assert_eq!(reader.read("/drift"), json!({"flows": [], "next": null}));
}
