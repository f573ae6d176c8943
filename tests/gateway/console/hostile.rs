//! What others wrote is shown as text.

use test_support::eventually;
use test_support::world::{Backend, World};

use super::Served;
use super::sessions::registered;
use crate::commands::document;

const SCRIPT: &str = "<script>alert(1)</script>";
const FORM_SCRIPT: &str = "%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%27";
const DISGUISE: &str = "\u{202e}\u{1b}[31m";

fn assert_harmless(page: &str, what: &str) {
    for raw in ["<script>alert", "\u{202e}", "\u{1b}", "<img"] {
        assert!(!page.contains(raw), "{what} contains {raw:?}");
    }
}

fn assert_shown(page: &str, what: &str) {
    assert_harmless(page, what);
    assert!(page.contains("&#60;script&#62;alert(1)&#60;/script&#62;"), "{what}: {page}");
}

fn hostile_texts_are_shown_as_text(world: World) {
    let code = format!("{SCRIPT}\"'");
    world.flow(&code, "evil/#").schema(r#"{"value": "number"}"#).insert(&world.sql);
    world.sql.execute(
        "UPDATE flows SET description = ?",
        [format!("{SCRIPT}{DISGUISE}<img src=x onerror=alert(1)>").into()],
    );
    let served = Served::new(world);
    served.gateway.wait_for_line("is active");
    let payload = format!("{{\"value\": \"{SCRIPT}{}<img>\"}}", "\u{202e}".repeat(300_000));
    served.world.publish(&format!("evil/{SCRIPT}{}", "\u{202e}"), payload);
    served.world.wait_for_dead_letters(1);
    let far = format!("{{\"a\": \"{}\", \"value\": \"{SCRIPT}\u{202e}<img>\"}}", "x".repeat(1_000_000));
    served.world.publish("evil/far", far);
    served.world.publish("evil/bytes", b"{\"value\": \"<img>\xff\"}");
    served.world.wait_for_dead_letters(3);
    let visitor = served.visitor("admin");
    let letters = document(&served.world, &["dead-letters", "list"]);
    let id_of = |place: usize| letters["dead_letters"][place]["id"].to_string();
    let id = id_of(2);
    let far = visitor.page(&format!("/dead-letter?id={}", id_of(1)));
    assert_shown(&far, "a place behind a megabyte");
    assert!(far.contains("<mark>&#34;&#60;script&#62;") && far.len() < 400_000, "{}", far.len());
    let bytes = visitor.page(&format!("/dead-letter?id={}", id_of(0)));
    assert_harmless(&bytes, "other bytes");
    assert!(bytes.contains(r"<mark>\xff</mark>"), "{bytes}");
    let query = format!("code={FORM_SCRIPT}");
    let field = "%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE";
    served.world.publish("evil/field", format!("{{\"value\": 1, \"{SCRIPT}\u{202e}\": 1}}"));
    eventually("the change", || visitor.page("/drift").contains("appeared as int").then_some(()));
    for path in [
        "/flows".to_owned(),
        format!("/flow?{query}"),
        "/dead-letters".to_owned(),
        format!("/dead-letter?id={id}"),
        "/dead-letters/replay".to_owned(),
        "/drift".to_owned(),
        format!("/flows?text={SCRIPT}").replace('<', "%3C").replace('>', "%3E"),
    ] {
        assert_shown(&visitor.page(&path), &path);
    }
    assert_harmless(&visitor.page("/"), "the overview");
    for path in registered() {
        let everything =
            format!("{path}?{query}&id={id}&flow={FORM_SCRIPT}&name={FORM_SCRIPT}&text={FORM_SCRIPT}");
        let page = visitor.get(&everything).body;
        assert!(!page.contains("<script>alert") && !page.contains("<img"), "{path}: {page}");
    }
    let tried = visitor.submit("/dead-letters/replay", &[("id", &id), ("do", "try")]);
    assert_eq!(tried.status, 200);
    assert_harmless(&tried.body, "the result of a replay");
    assert!(visitor.page("/flows").contains(r"\u{202e}\u{1b}[31m"));
    let unknown = visitor.get("/flow?code=%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE");
    assert_eq!(unknown.status, 404);
    assert_shown(&unknown.body, "an unknown code");
    for path in ["/flow/edit?", &format!("/drift/accept?field={field}&")] {
        let form = visitor.page(&format!("{path}{query}"));
        assert!(!form.contains("<script>alert") && !form.contains("<img"), "{form}");
    }
}

#[test]
fn hostile_texts_are_text_on_sqlite() {
    hostile_texts_are_shown_as_text(crate::commands::world(Backend::Sqlite));
}

#[test]
fn hostile_texts_are_text_on_postgres() {
    hostile_texts_are_shown_as_text(crate::commands::world(Backend::Postgres));
}
