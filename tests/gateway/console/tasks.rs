//! An operator's tasks, by forms.

use test_support::eventually;
use test_support::proxy::{How, Proxy};
use test_support::world::{Backend, World};

use super::{Served, location, value_of};
use crate::commands::{document, succeeds};

/// A flow of numbers, and one message of another kind.
fn served(world: World) -> Served {
    let topic = world.topic("temp/+");
    let schema = r#"{"value": "number"}"#;
    succeeds(
        &world,
        &["flows", "add", "TEMP", "--topic", &topic, "--action", "STORE_DB", "--schema", schema],
    );
    let served = Served::new(world);
    served.gateway.wait_for_line("Flow TEMP is active");
    served.world.publish("temp/a", r#"{"value": "warm"}"#);
    served.world.wait_for_dead_letters(1);
    served
}

fn schema_is_mended_and_letter_replayed(world: World) {
    let served = served(world);
    let visitor = served.visitor("admin");
    let overview = visitor.page("/");
    assert!(overview.contains("reason=validation_failed&#38;since=24h"), "{overview}");
    let id = document(&served.world, &["dead-letters", "list"])["dead_letters"][0]["id"].to_string();
    let letter = visitor.page(&format!("/dead-letter?id={id}"));
    assert!(letter.contains("expected number") && letter.contains("<mark>&#34;warm&#34;</mark>"), "{letter}");
    let changed = [("id", id.as_str()), ("test_payload", r#"{"value": 7}"#), ("do", "test")];
    let tested = visitor.submit("/dead-letter/test", &changed);
    assert!(tested.body.contains("would be stored as number 1"), "{}", tested.body);
    assert!(tested.body.contains("{&#34;value&#34;: 7}</textarea>"), "the change is still there");

    let tried = visitor.submit("/dead-letters/replay", &[("id", &id), ("do", "try")]);
    assert!(tried.status == 200 && tried.body.contains("refused again"), "{}", tried.body);
    assert!(
        tried.body.contains(&format!("<a href=\"/dead-letter?id={id}\">Back to the letter")),
        "{}",
        tried.body
    );

    let form = visitor.page("/flow/edit?code=TEMP");
    let (version, topic) = (value_of(&form, "version"), served.world.topic("temp/+"));
    let entries = |schema| {
        [
            ("code", "TEMP"),
            ("version", version.as_str()),
            ("topic", topic.as_str()),
            ("action", "STORE_DB"),
            ("payload_schema", schema),
        ]
    };
    let wrong = visitor.submit("/flow/edit", &entries("{"));
    assert_eq!(wrong.status, 422);
    assert!(wrong.body.contains("aria-invalid"), "{}", wrong.body);
    let alert = wrong.body.split_once("role=\"alert\"").expect("the refusal is said first").1;
    assert!(
        alert.contains("Nothing was saved") && alert.contains("<a href=\"#payload_schema\">Schema</a>: ")
    );
    let test = [("do", "test"), ("test_payload", r#"{"value": "warm"}"#), ("test_topic", "")];
    let tested = visitor.submit("/flow/edit", &[&entries(r#"{"value": "string"}"#)[..], &test].concat());
    assert!(tested.body.contains("would be stored as number 1"), "{}", tested.body);
    let saved = visitor.submit("/flow/edit", &entries(r#"{"value": "string"}"#));
    assert!(location(&saved).starts_with("/flow?code=TEMP&done=saved"), "{}", location(&saved));
    let again = visitor.submit("/flow/edit", &entries(r#"{"value": "boolean"}"#));
    assert_eq!(again.status, 409, "the form is older than the flow");
    assert!(again.body.contains("boolean"), "the entries are still there");

    assert!(visitor.page("/dead-letters/replay?flow=TEMP").contains("Replay 1 dead letter?"));
    let replayed = visitor.submit("/dead-letters/replay", &[("flow", "TEMP"), ("do", "go")]);
    assert!(replayed.body.contains("Replayed: 1 dead letter."), "{}", replayed.body);
    assert!(!replayed.body.contains("/dead-letter?id="), "the letter is gone: {}", replayed.body);
    served.world.wait_for_stored("TEMP", 1);
    assert!(visitor.page("/dead-letters").contains("There are no dead letters"));

    let history = visitor.page("/flow?code=TEMP");
    assert!(history.contains("token t-admin") && history.contains("payload_schema"), "{history}");
    let back = visitor.submit("/flow/rollback", &[("code", "TEMP"), ("to", &value_of(&history, "to"))]);
    assert!(location(&back).contains("done=rolled_back"));
    assert!(visitor.page("/flow?code=TEMP").contains("&#34;number&#34;"));
}

fn flow_is_added_and_disabled(world: World) {
    let served = Served::new(world);
    let visitor = served.visitor("admin");
    let topic = served.world.topic("new");
    let entries = |code| {
        [
            ("new_code", code),
            ("topic", topic.as_str()),
            ("action", "STORE_DB"),
            ("payload_schema", "{}"),
            ("enabled", "yes"),
        ]
    };
    let refused = visitor.submit("/flow/new", &entries(""));
    assert_eq!(refused.status, 422);
    let alert = "<a href=\"#new_code\">Code</a>: the code is empty. Give the flow a short unique name.";
    assert!(refused.body.contains(alert), "{}", refused.body);
    succeeds(
        &served.world,
        &["flows", "add", "D1", "--topic", &served.world.topic("d"), "--action", "STORE_DB"],
    );
    for (code, problem) in [(" SP ", "begins or ends with a blank"), ("d1", "only in upper and lower case")] {
        let refused = visitor.submit("/flow/new", &entries(code));
        assert!(refused.status == 422 && refused.body.contains(problem), "{code}: {}", refused.body);
    }
    succeeds(&served.world, &["flows", "remove", "D1", "--yes"]);
    let is_enabled = |page: &str| {
        let box_of = page.split_once("id=\"enabled\"").expect("the form has the box").1;
        box_of.split('>').next().unwrap().ends_with(" checked")
    };
    assert!(is_enabled(&visitor.page("/flow/new")) && is_enabled(&visitor.page("/broker/new")));
    assert!(is_enabled(&refused.body));
    for button in ["save", "test", "more_rows", "as_json"] {
        let unticked = [("new_code", ""), ("schema_form", "fields"), ("do", button)];
        assert!(!is_enabled(&visitor.submit("/flow/new", &unticked).body), "{button}");
    }
    assert!(!is_enabled(&visitor.submit("/broker/new", &[("host", "")]).body));
    let wrong_topic = [("do", "test"), ("test_topic", "a/+"), ("test_payload", "")];
    let wrong_topic = visitor.submit("/flow/new", &[&entries("NEW")[..], &wrong_topic].concat());
    assert!(
        wrong_topic.body.contains("<a href=\"#test_topic\">Topic of the test</a>: "),
        "{}",
        wrong_topic.body
    );
    let message = [("do", "test"), ("test_topic", ""), ("test_payload", r#"{"v": 1}"#)];
    let tested = visitor.submit("/flow/new", &[&entries("NEW/1 &")[..], &message].concat());
    assert!(tested.body.contains("would be stored as number 1"), "{}", tested.body);
    assert!(tested.body.contains("{&#34;v&#34;: 1}</textarea>"), "the message is still there");
    assert_eq!(served.world.sql.count("SELECT COUNT(*) FROM flows", []), 0);
    let added = visitor.submit("/flow/new", &entries("NEW/1 &"));
    assert_eq!(location(&added), "/flow?code=NEW%2F1+%26&done=added&from=1");
    assert!(visitor.page(location(&added)).contains("The flow was added"));
    served.gateway.wait_for_line("Flow NEW/1 & is active");
    let disabled = visitor.submit("/flow/disable", &[("code", "NEW/1 &")]);
    assert!(visitor.page(location(&disabled)).contains("The flow is disabled"));
    assert!(visitor.page("/flows?state=disabled").contains("NEW/1 &#38;"));
    assert!(!visitor.page("/flows?state=enabled").contains("NEW/1"));
    let added = value_of(&visitor.page("/flow?code=NEW%2F1+%26"), "to");
    let back = visitor.submit("/flow/rollback", &[("code", "NEW/1 &"), ("to", &added)]);
    assert!(visitor.page(location(&back)).contains("The flow is as it was, and enabled again."));
    assert_eq!(visitor.get("/flow?code=OLD").status, 404);

    let question = visitor.page("/flow/remove?code=NEW%2F1+%26");
    assert!(question.contains("Remove the flow NEW/1 &#38;?"), "{question}");
    let removed = visitor.submit("/flow/remove", &[("code", "NEW/1 &")]);
    assert!(visitor.page(location(&removed)).contains("The flow was removed"));
    assert_eq!(served.world.sql.count("SELECT COUNT(*) FROM flows", []), 0);
    assert_eq!(visitor.submit("/flow/remove", &[("code", "NEW/1 &")]).status, 404);
    assert!(visitor.page("/history?kind=flow").contains("token t-admin"));
}

fn letters_are_discarded(world: World) {
    let served = served(world);
    let operator = served.visitor("operate");
    served.world.publish("temp/b", r#"{"value": "hot"}"#);
    served.world.wait_for_dead_letters(2);
    let question = operator.page("/dead-letters/discard?flow=TEMP&text=hot");
    assert!(question.contains("Discard 1 dead letter?"), "{question}");
    let last = value_of(&question, "last");
    let selected = [("flow", "TEMP"), ("text", "hot"), ("last", &last)];
    assert_eq!(operator.submit("/dead-letters/discard", &selected[..2]).status, 422, "nothing was counted");
    let done = operator.submit("/dead-letters/discard", &selected);
    assert!(done.body.contains("Discarded: 1 dead letter."), "{}", done.body);
    assert_eq!(served.world.dead_letters().len(), 1);
    assert_eq!(operator.get("/dead-letters?reason=nonsense").status, 422);
}

fn remedy_needs_no_removed_flow(world: World) {
    let served = served(world);
    let id = document(&served.world, &["dead-letters", "list"])["dead_letters"][0]["id"].to_string();
    let remedy = || {
        let shown = document(&served.world, &["dead-letters", "show", &id]);
        shown["dead_letter"]["remedy"].as_str().unwrap().to_owned()
    };
    assert!(remedy().starts_with("correct the schema"), "{}", remedy());
    succeeds(&served.world, &["flows", "remove", "TEMP", "--yes"]);
    assert!(remedy().starts_with("publish the message again for another flow"), "{}", remedy());
    let page = served.visitor("read").page(&format!("/dead-letter?id={id}"));
    assert!(page.contains(&remedy()) && page.contains("is no longer there"), "{page}");
}

fn only_counted_letters_are_discarded(world: World) {
    let served = served(world);
    let operator = served.visitor("operate");
    let question = operator.page("/dead-letters/discard?flow=TEMP");
    assert!(question.contains("action=\"/dead-letters/discard?flow=TEMP\""), "{question}");
    assert!(question.contains("Letters that come later are not part of it"), "{question}");
    let last = value_of(&question, "last");
    served.world.publish("temp/b", r#"{"value": "hot"}"#);
    let later = served.world.wait_for_dead_letters(2).pop().unwrap();
    let counted = [("flow", "TEMP"), ("last", last.as_str())];
    for discarded in ["Discarded: 1 dead letter.", "Discarded: 0 dead letters."] {
        let done = operator.submit("/dead-letters/discard?flow=TEMP", &counted);
        assert!(done.body.contains(discarded), "{}", done.body);
    }
    let replayed = operator.submit("/dead-letters/replay", &[&counted[..], &[("do", "go")]].concat());
    assert!(replayed.body.contains("Replayed: 0 dead letters."), "{}", replayed.body);
    assert_eq!(served.world.dead_letters(), [later]);
    let refused = operator.submit("/dead-letters/replay?flow=TEMP", &[("do", "go")]);
    assert!(refused.body.contains("Replayed: 0 of 1 dead letter."), "{}", refused.body);
    let id = document(&served.world, &["dead-letters", "list"])["dead_letters"][0]["id"].to_string();
    let with_age = operator.page("/dead-letters/discard?flow=TEMP&until=0s");
    let fixed = value_of(&with_age, "until");
    assert!(fixed.starts_with("20") && fixed.ends_with('Z'), "{fixed}");
    assert!(!with_age.contains("until=0s"), "{with_age}");
    let one = operator.page(&format!("/dead-letters/discard?id={id}"));
    assert!(one.contains("Discard 1 dead letter?") && !one.contains("not part of it"), "{one}");
    assert!(one.contains(&format!("action=\"/dead-letters/discard?id={id}\"")), "{one}");
}

fn letter_without_a_flow_names_flows_of_its_topic(world: World) {
    let served = served(world);
    let reader = served.visitor("read");
    served.world.publish("temp/b", "no JSON");
    served.world.wait_for_dead_letters(2);
    let listed = document(&served.world, &["dead-letters", "list"])["dead_letters"].clone();
    let id = listed[0]["id"].to_string();
    let letter = reader.page(&format!("/dead-letter?id={id}"));
    assert!(
        letter.contains("payload_not_json") && letter.contains("rejected before flows were asked"),
        "{letter}"
    );
    assert!(letter.contains("href=\"/flow?code=TEMP\""), "{letter}");
    let flow = reader.page("/flow?code=TEMP");
    let (before, _) = flow.split_once("\">Those of its topic").expect("a link");
    let link = before.rsplit('"').next().unwrap();
    assert!(reader.page(link).contains(&format!("/dead-letter?id={id}\"")), "{link}");
}

fn changed_type_is_accepted_in_two_clicks(world: World) {
    let served = served(world);
    let (visitor, reader) = (served.visitor("admin"), served.visitor("read"));
    let drift = eventually("the change", || {
        let page = visitor.page("/drift");
        page.contains("changed from number to string").then_some(page)
    });
    assert!(drift.contains("Such messages become dead letters") && drift.contains("temp/a"), "{drift}");
    let flow = visitor.page("/flow?code=TEMP");
    assert!(flow.contains("changed from number to string") && flow.contains("Accept…"), "{flow}");
    assert!(!reader.page("/drift").contains("Accept…"));

    let form = visitor.page("/drift/accept?code=TEMP&field=value");
    assert!(form.contains("Accept, and replay 1 dead letter"), "{form}");
    assert!(form.contains("&#34;number&#34;") && form.contains("&#34;string&#34;"), "{form}");
    assert!(!reader.page("/drift/accept?code=TEMP&field=value").contains("method=\"post\" action=\"/drift"));
    let fields = |version| [("code", "TEMP"), ("field", "value"), ("version", version), ("do", "replay")];
    let version = value_of(&form, "version");
    assert_eq!(reader.submit("/drift/accept", &fields(&version)).status, 403);
    let refused = visitor.submit("/drift/accept", &fields("old"));
    assert!(visitor.page(location(&refused)).contains("Nothing was changed: the flow was edited meanwhile"));
    let done = visitor.submit("/drift/accept", &fields(&version));
    assert!(done.body.contains("Replayed: 1 dead letter."), "{}", done.body);
    served.world.wait_for_stored("TEMP", 1);
    assert!(served.world.dead_letters().is_empty());
    assert!(visitor.page("/drift").contains("No field of any flow has changed"));
    assert!(visitor.page("/flow?code=TEMP").contains("token t-admin"), "the edit is in the history");
    assert_eq!(visitor.submit("/drift/accept", &fields(&version)).status, 404);
}

fn changes_are_dismissed(world: World) {
    let served = served(world);
    let operator = served.visitor("operate");
    eventually("the change", || operator.page("/drift").contains("flow?code=TEMP").then_some(()));
    let dismissed = operator.submit("/drift/dismiss", &[("code", "TEMP"), ("field", "value")]);
    assert!(operator.page(location(&dismissed)).contains("The change is shown no longer"));
    assert_eq!(served.world.dead_letters().len(), 1);
}

fn waiting_posts_are_cancelled(world: World) {
    // Nobody listens at this port.
    world.flow("POST", "post").posts_to("http://127.0.0.1:9/").insert(&world.sql);
    let served = Served::new(world);
    served.gateway.wait_for_line("Flow POST is active");
    served.world.publish("post", "{}");
    let operator = served.visitor("operate");
    let waiting = |page: &str| page.contains("flow=POST") && page.contains("Retry now");
    eventually("a failed attempt", || {
        let page = operator.page("/deliveries");
        (waiting(&page) && page.contains("Last attempts")).then_some(())
    });
    served.world.publish("post", r#"{"second": 2}"#);
    let posts = eventually("the second post", || {
        let page = operator.page("/deliveries/posts?flow=POST");
        (page.matches("data-label=\"Number\"").count() == 2).then_some(page)
    });
    assert!(posts.contains("Took") && posts.contains(" ms<"), "{posts}");
    let listed = document(&served.world, &["deliveries", "posts", "--flow", "POST"]);
    assert_eq!(listed["posts"][1]["message_id"], 2);
    let key = listed["posts"][1]["key"].as_str().unwrap();
    let second = format!("/deliveries/cancel?flow=POST&key_of_post={key}&number=2");
    assert!(posts.replace("&#38;", "&").contains(&format!("href=\"{second}\"")), "{posts}");
    let question = operator.page(&second);
    assert!(
        question.contains("Cancel the post with number 2 of POST?") && question.contains(key),
        "{question}"
    );
    assert!(question.contains(">Cancel 1 post<"), "{question}");
    operator.submit("/deliveries/cancel", &[("flow", "POST"), ("key_of_post", key)]);
    let letters = served.world.wait_for_dead_letters(1);
    assert_eq!(letters[0].payload, br#"{"second": 2}"#);
    let retried = operator.submit("/deliveries/retry", &[("flow", "POST")]);
    assert_eq!(location(&retried), "/deliveries?done=retried&posts=1");
    assert!(operator.page("/deliveries/cancel?flow=POST").contains("Cancel 1 post of POST?"));

    let waiting = |posts| {
        let sql = &served.world.sql;
        let is_reached = || sql.count("SELECT COUNT(*) FROM outbox", []) == posts;
        eventually("the waiting posts", || is_reached().then_some(()));
    };
    served.world.publish("post", r#"{"third": 3}"#);
    waiting(2);
    let question = operator.page("/deliveries/cancel?flow=POST");
    assert!(question.contains("Cancel 2 posts of POST?"), "{question}");
    served.world.publish("post", r#"{"fourth": 4}"#);
    // A replay puts the second one back, with its former number.
    let id = document(&served.world, &["dead-letters", "list"])["dead_letters"][0]["id"].to_string();
    let replayed = operator.submit("/dead-letters/replay", &[("id", &id), ("do", "go")]);
    assert!(replayed.body.contains("Replayed: 1 dead letter."), "{}", replayed.body);
    waiting(4);
    let cancel = |question: &str| {
        let [last, counted_at] = ["last", "counted_at"].map(|name| value_of(question, name));
        operator
            .submit("/deliveries/cancel", &[("flow", "POST"), ("last", &last), ("counted_at", &counted_at)])
    };
    for cancelled in ["2 posts became dead letters.", "no such post waits any more"] {
        assert!(operator.page(location(&cancel(&question))).contains(cancelled), "{cancelled}");
        waiting(2);
    }
    assert_eq!(operator.submit("/deliveries/cancel", &[("flow", "POST")]).status, 422);
    waiting(2);
    cancel(&operator.page("/deliveries/cancel?flow=POST"));
    let letters = served.world.wait_for_dead_letters(4);
    assert!(letters.iter().all(|letter| letter.reason == "cancelled"));
    assert_eq!(operator.get("/deliveries/cancel?flow=POST").status, 404);
    assert!(operator.page("/deliveries").contains("No post waits"));
}

fn flows_with_waiting_posts_have_pages(world: World) {
    const FLOWS: usize = 51;
    for n in 0..FLOWS {
        world.flow(&format!("P{n:02}"), &format!("p/{n}")).posts_to("http://127.0.0.1:9/").insert(&world.sql);
    }
    let mark = world.broker.mark();
    let served = Served::new(world);
    served.world.wait_for_flows(mark);
    (0..FLOWS).for_each(|n| served.world.publish(&format!("p/{n}"), "{}"));
    let waiting = || served.world.sql.count("SELECT COUNT(*) FROM outbox", []);
    eventually("waiting posts", || (waiting() == i64::try_from(FLOWS).unwrap()).then_some(()));
    let visitor = served.visitor("read");
    let (first, second) = (visitor.page("/deliveries"), "/deliveries?after=50");
    assert!(first.contains("P49") && !first.contains("P50"), "{first}");
    assert!(first.contains(&format!("href=\"{second}\"")), "{first}");
    let second = visitor.page(second);
    assert!(second.contains("P50") && !second.contains("P49") && second.contains("First page"), "{second}");
}

on_each_database!(
    flows_with_waiting_posts_have_pages,
    schema_is_mended_and_letter_replayed,
    flow_is_added_and_disabled,
    letters_are_discarded,
    remedy_needs_no_removed_flow,
    only_counted_letters_are_discarded,
    letter_without_a_flow_names_flows_of_its_topic,
    changed_type_is_accepted_in_two_clicks,
    changes_are_dismissed,
    waiting_posts_are_cancelled,
);

/// As many letters as a page searches, and two more. Their topics are `old/…` but for the last one.
fn many_letters(world: World) -> Served {
    let served = served(world);
    let sql = served.world.another_session();
    sql.run("UPDATE dead_letters SET id = 10002, topic = 'new'");
    sql.run(
        "INSERT INTO dead_letters (id, occurred_at, received_at, inbox_id, inbox_offset, topic, payload, \
         payload_bytes, flow_code, reason) \
         WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 10001) \
         SELECT n, occurred_at, received_at, inbox_id, inbox_offset, 'old/' || n, payload, payload_bytes, \
         CASE WHEN n = 1 THEN 'OLD' ELSE flow_code END, reason FROM numbers, dead_letters",
    );
    served
}

#[test]
fn many_letters_are_searched_in_parts() {
    let served = many_letters(crate::commands::world(Backend::Sqlite));
    let operator = served.visitor("operate");
    let first = operator.page("/dead-letters");
    assert!(first.contains("More than 10,000 dead letters"), "{first}");
    assert!(first.contains("<strong>10,000</strong> validation_failed"), "{first}");

    let found = operator.page("/dead-letters?topic=old/%2B&text=old/2");
    assert!(found.contains("among the newest 10,000 dead letters"), "{found}");
    let none = operator.page("/dead-letters?text=nowhere");
    assert!(none.contains("None of the letters that were searched matches"), "{none}");
    let (before, _) = none.split_once("\">Search older ones").expect("a link");
    let older = before.rsplit('"').next().unwrap().replace("&#38;", "&");
    assert_eq!(older, "/dead-letters?text=nowhere&before=3");
    assert!(!operator.page(&older).contains("Search older ones"));

    let of_flow = operator.page("/dead-letters?flow=OLD");
    assert!(of_flow.contains("1 dead letter<") && of_flow.contains("old/1"), "{of_flow}");
    let confirming = operator.page("/dead-letters/discard?topic=old/%23");
    assert!(confirming.contains("Discard at least 9,999 dead letters?"), "{confirming}");
    let last = value_of(&confirming, "last");
    let discarded = operator.submit("/dead-letters/discard", &[("topic", "old/#"), ("last", &last)]);
    assert!(discarded.body.contains("Discarded: 10,001 dead letters."), "{}", discarded.body);
    assert_eq!(served.world.dead_letters().len(), 1);
}

#[test]
fn flows_are_shown_page_by_page() {
    let world = crate::commands::world(Backend::Sqlite);
    for number in 0..120 {
        world.flow(&format!("F{number:03}"), &format!("t/{number}")).insert(&world.sql);
    }
    let served = Served::new(world);
    let reader = served.visitor("read");
    let mut seen = Vec::new();
    let mut next = Some("/flows?order=".to_owned());
    while let Some(path) = next {
        let page = reader.page(&path);
        seen.extend(page.split("/flow?code=").skip(1).map(|rest| rest[..4].to_owned()));
        let link = page.split_once("\">Next page").map(|(before, _)| before.rsplit('"').next().unwrap());
        next = link.map(|link| link.replace("&#38;", "&"));
    }
    let expected: Vec<String> = (0..120).map(|number| format!("F{number:03}")).collect();
    assert_eq!(seen, expected);
    let newest = reader.page("/flows?order=newest");
    assert!(newest.find("F119").unwrap() < newest.find("F118").unwrap());
    assert!(reader.page("/flows?text=nothing").contains("No flow matches"));
}

#[test]
fn overview_names_an_unreachable_database() {
    let mut world = crate::commands::world(Backend::MariaDb);
    let proxy = Proxy::to(world.database_address());
    world.reach_database_at(proxy.address());
    world.flow("F", "f").insert(&world.sql);
    let served = Served::new(world);
    let visitor = served.visitor("admin");
    eventually("an overview without problems", || visitor.page("/").contains("All is well").then_some(()));
    proxy.refuse();
    proxy.cut(How::Rst);
    eventually("the problem", || visitor.page("/").contains("the database cannot be read").then_some(()));
    let list = visitor.get("/flows");
    assert!(list.status == 503 && !list.body.contains("send the form again"), "{}", list.body);
    let saved = visitor.submit("/flow/edit", &[("code", "F"), ("version", "x"), ("topic", "f")]);
    assert!(saved.status == 503 && saved.body.contains("send the form again"), "{}", saved.body);
}
