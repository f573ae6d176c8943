//! The list of flows, and what the page and the form of a flow show.

use test_support::eventually;
use test_support::world::{Backend, World};

use super::{Served, location, value_of};
use crate::commands::{document, succeeds};

/// A flow of numbers with three messages, of which one is dead.
fn served(world: World) -> Served {
    let topic = world.topic("temp/+");
    let schema = r#"{"value": "number"}"#;
    succeeds(
        &world,
        &["flows", "add", "TEMP", "--topic", &topic, "--action", "STORE_DB", "--schema", schema],
    );
    world.flow("BROKEN", "b").schema(r#"{"n": "nonsense"}"#).insert(&world.sql);
    let served = Served::new(world);
    served.gateway.wait_for_line("Flow TEMP is active");
    for payload in [r#"{"value": 20.5, "room": "attic"}"#, r#"{"value": "warm"}"#, r#"{"value": 21.5}"#] {
        served.world.publish("temp/a", payload);
    }
    served.world.wait_for_stored("TEMP", 2);
    served.world.wait_for_dead_letters(1);
    served
}

fn list_says_what_flows_do(world: World) {
    let served = served(world);
    let reader = served.visitor("read");
    let page = reader.page("/flows");
    assert!(page.contains("unknown type") && page.contains("cannot work"), "why it is rejected: {page}");
    assert!(page.contains("/dead-letters?flow=TEMP&#38;since=24h"), "{page}");
    let rate = page.split("data-label=\"Per minute\"").nth(2).unwrap().split('<').next().unwrap();
    assert_eq!(rate.rsplit('>').next(), Some("3.0"), "BROKEN is the first flow: {page}");
    let unusable = reader.page("/flows?state=unusable");
    assert!(unusable.contains("code=BROKEN") && !unusable.contains("code=TEMP"), "{unusable}");
    for order in ["rate", "latest", "number", "dead"] {
        let page = reader.page(&format!("/flows?order={order}"));
        assert!(page.find("code=TEMP").unwrap() < page.find("code=BROKEN").unwrap(), "{order}");
    }
    let listed = document(&served.world, &["flows", "list", "--text", "temp"]);
    assert_eq!(listed["flows"].as_array().unwrap().len(), 1);
}

fn page_draws_numbers(world: World) {
    let served = served(world);
    let page = served.visitor("read").page("/flow?code=TEMP");
    let chart = page.split("id=\"values\"").nth(1).expect("the page has charts");
    let chart = chart.split("</section>").next().unwrap();
    assert!(chart.contains("<strong>value</strong> <span>21.5</span>") && chart.contains("<svg"), "{chart}");
    assert!(chart.contains("20.5 to 21.5 in 2 messages"), "{chart}");
    assert!(!chart.contains("room"), "a text is no number: {chart}");
}

fn last_message_is_tested(world: World) {
    let served = served(world);
    let visitor = served.visitor("admin");
    let tested = visitor.submit("/flow/test", &[("code", "TEMP"), ("do", "test_last")]);
    assert!(tested.body.contains("would be stored as number 3"), "{}", tested.body);
    assert!(tested.body.contains("{&#34;value&#34;: 21.5}"), "{}", tested.body);
    let other =
        [("code", "TEMP"), ("do", "test"), ("test_topic", "other"), ("test_payload", r#"{"value": 1}"#)];
    let tested = visitor.submit("/flow/test", &other).body;
    assert!(tested.contains("The flow gets no such message: does not match."), "{tested}");
    assert!(tested.contains("If it did, the message would be stored as number 3"), "{tested}");
    visitor.submit("/flow/disable", &[("code", "TEMP")]);
    let tested = visitor.submit("/flow/test", &[("code", "TEMP"), ("do", "test")]).body;
    assert!(tested.contains("The flow gets no such message: matches, but the flow is disabled."), "{tested}");
    assert!(tested.contains("If it did, the message would become a dead letter: flow_disabled"), "{tested}");
    visitor.submit("/flow/enable", &[("code", "TEMP")]);
    let tested = succeeds(&served.world, &["flows", "test", "TEMP", "--last"]);
    assert!(tested.contains("21.5"), "{tested}");
    let none = visitor.submit("/flow/test", &[("code", "BROKEN"), ("do", "test_last")]);
    assert!(none.status == 422 && none.body.contains("no message of the flow"), "{}", none.body);
}

#[test]
fn long_message_leaves_a_form_that_can_be_sent() {
    let served = served(crate::commands::world(Backend::Sqlite));
    let visitor = served.visitor("admin");
    served.world.publish("temp/a", format!(r#"{{"value": 1, "note": "{}"}}"#, "%".repeat(900_000)));
    served.world.wait_for_stored("TEMP", 3);
    let form = visitor.page("/flow/edit?code=TEMP");
    let (version, topic) = (value_of(&form, "version"), served.world.topic("temp/+"));
    let entries = [("code", "TEMP"), ("version", &version), ("topic", &topic), ("action", "STORE_DB")];
    let entries = [&entries[..], &[("payload_schema", "{}"), ("do", "test_last")]].concat();
    let tested = visitor.submit("/flow/edit", &entries).body;
    assert!(tested.contains("bytes is too long to edit here"), "{}", tested.len());
    assert!(tested.contains("… (900000 bytes in all)") && tested.len() < 100_000, "{}", tested.len());

    let long = "x".repeat(4 * 1024 * 1024);
    let refused = visitor.submit("/flow/edit", &[&entries[..], &[("test_payload", &long)]].concat());
    assert_eq!(refused.status, 413);
    assert!(refused.body.contains("nothing was saved: the form is longer than"), "{}", refused.body);
}

fn edit_is_explained_before_it_is_saved(world: World) {
    let served = served(world);
    let visitor = served.visitor("admin");
    let form = visitor.page("/flow/edit?code=TEMP");
    let (version, topic) = (value_of(&form, "version"), served.world.topic("temp/+"));
    assert_eq!(value_of(&form, "field_name_0"), "value");
    // Browsers press the first button of a form for Enter.
    let main = form.split_once("<main").unwrap().1;
    assert_eq!(value_of(main, "do"), "test");
    let entries = |button| {
        [
            ("code", "TEMP"),
            ("version", version.as_str()),
            ("topic", topic.as_str()),
            ("action", "STORE_DB"),
            ("schema_form", "fields"),
            ("field_name_0", "value"),
            ("field_type_0", "string"),
            ("field_required_0", "yes"),
            ("field_name_1", "room"),
            ("field_type_1", "string"),
            ("do", button),
        ]
    };
    let shown = visitor.submit("/flow/edit", &entries("preview"));
    for words in ["counts from message 3", "1 of its 1 newest", "payload_schema"] {
        assert!(shown.body.contains(words), "{words}: {}", shown.body);
    }
    let last = visitor.submit("/flow/edit", &entries("test_last"));
    assert!(last.body.contains("would become a dead letter"), "21.5 is no string: {}", last.body);
    let json = visitor.submit("/flow/edit", &entries("as_json"));
    assert!(json.body.contains("2020-12/schema") && json.body.contains("&#34;room&#34;"), "{}", json.body);
    let more = visitor.submit("/flow/edit", &entries("more_rows"));
    assert!(more.body.contains("field_name_9"), "{}", more.body);
    let schema = ["--schema", r#"{"value": "string"}"#, "--dry-run"];
    let preview = document(&served.world, &[&["flows", "edit", "TEMP"][..], &schema].concat());
    assert_eq!((&preview["counts_from"], &preview["letters_passing"]), (&3.into(), &1.into()), "{preview}");
    assert_eq!(
        document(&served.world, &["flows", "history", "TEMP"])["history"].as_array().unwrap().len(),
        1
    );

    assert!(location(&visitor.submit("/flow/edit", &entries("save"))).contains("done=saved"));
    let flow = document(&served.world, &["flows", "show", "TEMP"])["flow"].clone();
    assert_eq!(flow["payload_schema"]["required"], serde_json::json!(["value"]));
    eventually("the letter", || {
        let replayed = visitor.submit("/dead-letters/replay", &[("flow", "TEMP"), ("do", "try")]);
        replayed.body.contains("stored").then_some(())
    });
}

fn conflict_is_shown_and_resolved(world: World) {
    let served = served(world);
    let visitor = served.visitor("admin");
    let (version, topic) =
        (value_of(&visitor.page("/flow/edit?code=TEMP"), "version"), served.world.topic("temp/+"));
    let send = |version: &str, button: &str| {
        let entries = [("code", "TEMP"), ("version", version), ("topic", &topic), ("action", "STORE_DB")];
        let schema = [("payload_schema", r#"{"value": "string"}"#), ("do", button)];
        visitor.submit("/flow/edit", &[&entries[..], &schema].concat())
    };
    succeeds(&served.world, &["flows", "edit", "TEMP", "--description", "attic"]);
    for button in ["preview", "save"] {
        let refused = send(&version, button);
        assert_eq!(refused.status, 409, "{button}");
        let (_, shown) = refused.body.split_once("role=\"alert\"").unwrap();
        let (shown, _) = shown.split_once("</dl>").unwrap();
        assert!(
            shown.contains("<del>attic</del> <ins>(empty)</ins>") && shown.contains("<dt>Schema</dt>"),
            "{shown}"
        );
        assert!(!shown.contains("<dt>Topic filter</dt>") && shown.contains("target=\"_blank\""), "{shown}");
        assert!(!refused.body.contains("nothing was changed yet"), "{}", refused.body);
    }
    let present = value_of(&send(&version, "save").body, "version");
    assert!(location(&send(&present, "save")).contains("done=saved"), "over the present version");
    succeeds(&served.world, &["flows", "remove", "TEMP", "--yes"]);
    let late = send(&present, "save");
    assert!(late.status == 409 && late.body.contains("the flow was removed meanwhile"), "{}", late.body);
    assert_eq!(
        (value_of(&late.body, "new_code"), value_of(&late.body, "topic")),
        ("TEMP".to_owned(), topic.clone())
    );
}

on_each_database!(
    conflict_is_shown_and_resolved,
    list_says_what_flows_do,
    page_draws_numbers,
    last_message_is_tested,
    edit_is_explained_before_it_is_saved,
);
