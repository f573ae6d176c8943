//! Who gets in, and what the session permits.

use test_support::eventually;
use test_support::world::{Backend, World};

use super::{Browser, Served, location};
use crate::commands::succeeds;

const PAGES: [&str; 27] = [
    "/",
    "/actors",
    "/live?page=%2F",
    "/flows",
    "/flow?code=F",
    "/flow/edit?code=F",
    "/flow/new",
    "/flow/test?code=F",
    "/flow/remove?code=F",
    "/dead-letters",
    "/dead-letter?id=1",
    "/dead-letters/replay",
    "/dead-letters/discard",
    "/flows?text=x",
    "/deliveries",
    "/deliveries/cancel?flow=F",
    "/brokers",
    "/broker?id=1",
    "/broker/edit?id=1",
    "/broker/new",
    "/broker/remove?id=1",
    "/replicas",
    "/history",
    "/tokens",
    "/token/revoke?name=t",
    "/history?kind=flow",
    "/deliveries/posts?flow=F",
];

const FORMS: [&str; 21] = [
    "/flow/enable",
    "/flow/disable",
    "/flow/rollback",
    "/flow/remove",
    "/flow/test",
    "/flow/edit",
    "/flow/new",
    "/dead-letters/replay",
    "/dead-letters/discard",
    "/deliveries/retry",
    "/deliveries/cancel",
    "/dead-letter/test",
    "/broker/test",
    "/broker/enable",
    "/broker/disable",
    "/broker/remove",
    "/broker/edit",
    "/broker/new",
    "/tokens",
    "/token/revoke",
    "/logout",
];

/// All paths of pages, as the code registers them.
pub(super) fn registered() -> Vec<&'static str> {
    let routes = include_str!("../../../src/http/console.rs");
    let paths = routes.split("page(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    // The page of the demo is in the console of a demo only.
    paths.filter(|path| !path.starts_with("/demo")).collect()
}

fn served() -> Served {
    let world = crate::commands::world(Backend::Sqlite);
    world.flow("F", "f").insert(&world.sql);
    Served::new(world)
}

#[test]
fn pages_need_a_session() {
    let served = served();
    let stranger = Browser { cookie: "mqtt_gateway_1=x".to_owned(), ..served.guest() };
    for browser in [served.guest(), stranger] {
        for path in PAGES {
            let answer = browser.get(path);
            assert!(location(&answer).starts_with("/login"), "{path}");
            assert_eq!(answer.body, "", "{path}");
        }
        for path in FORMS.into_iter().filter(|path| *path != "/logout") {
            let answer = browser.post(path, &[("code", "F")]);
            assert_eq!(answer.status, 401, "{path}");
            assert!(answer.body.contains("Nothing was saved or done."), "{path}: {}", answer.body);
            assert_eq!(answer.body.matches("href=\"/").count(), 3, "style, icon and login: {}", answer.body);
        }
        assert_eq!(location(&browser.post("/logout", &[])), "/login");
    }
    assert_eq!(location(&served.guest().get("/flow?code=F")), "/login?next=%2Fflow%3Fcode%3DF");
}

#[test]
fn every_path_needs_a_session() {
    let served = served();
    let open = ["/login", "/enter", "/assets/{name}"];
    let paths = registered();
    assert!(paths.len() >= 20 && open.iter().all(|path| paths.contains(path)), "{paths:?}");
    for path in paths.into_iter().filter(|path| !open.contains(path)) {
        let (shown, sent) = (served.guest().get(path), served.guest().post(path, &[("code", "F")]));
        assert!([303, 404, 405].contains(&shown.status), "{path}: {}", shown.status);
        assert!([303, 401, 404, 405].contains(&sent.status), "{path}: {}", sent.status);
        for answer in [shown, sent].iter().filter(|answer| answer.status == 303) {
            assert!(location(answer).starts_with("/login"), "{path}");
            assert_eq!(answer.body, "", "{path}");
        }
    }
}

#[test]
fn answers_have_a_strict_policy() {
    let served = served();
    let login = served.guest().get("/login");
    for answer in [&login, &served.visitor("read").get("/")] {
        let policy = &answer.headers["content-security-policy"];
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["cache-control"], "no-store");
        for inline in [" style=", "<style", " onclick=", "javascript:", "http://", "https://"] {
            let body = answer.body.replace("http://www.w3.org/2000/svg", "");
            assert!(!body.contains(inline), "{inline}: {body}");
        }
    }
    let style = login.body.split("/assets/").nth(1).unwrap().split('"').next().unwrap();
    let asset = served.guest().get(&format!("/assets/{style}"));
    assert_eq!((asset.status, asset.headers["content-type"].as_str()), (200, "text/css; charset=utf-8"));
    assert!(asset.headers["cache-control"].contains("immutable"));
    assert_eq!(served.guest().get("/assets/style-0.css").status, 404);
}

#[test]
fn only_a_token_opens_a_session() {
    let served = served();
    for token in ["", "mqg_wrong", &"x".repeat(5_000)] {
        let answer = served.guest().post("/login", &[("token", token)]);
        assert_eq!(answer.status, 401);
        assert!(!answer.headers.contains_key("set-cookie"));
    }
    assert_eq!(served.guest().post("/login", &[("token", &"x".repeat(9_000))]).status, 413);
    assert_eq!(served.guest().get("/enter?link=wrong").status, 401);
    let answer =
        served.guest().post("/login", &[("token", &served.token("a", "read")), ("next", "//evil.example")]);
    assert_eq!(location(&answer), "/");
    let cookie = &answer.headers["set-cookie"];
    assert!(cookie.contains("; HttpOnly; SameSite=Strict") && cookie.contains("Path=/"), "{cookie}");
}

#[test]
fn other_hosts_and_sites_are_refused() {
    let served = served();
    let visitor = served.visitor("admin");
    assert_eq!(visitor.send("GET /", &["Host: evil.example"], "").status, 421);
    let body = format!("key={}&code=F", visitor.form_key());
    let kind = "Content-Type: application/x-www-form-urlencoded";
    for origin in ["Origin: http://evil.example", "Origin: null"] {
        assert_eq!(visitor.send("POST /flow/disable", &[kind, origin], &body).status, 403, "{origin}");
        assert_eq!(served.guest().send("POST /login", &[kind, origin], "token=x").status, 403, "{origin}");
    }
    for fields in [&[("code", "F")][..], &[("code", "F"), ("key", "")], &[("code", "F"), ("key", "x")]] {
        assert_eq!(visitor.post("/flow/disable", fields).status, 403);
    }
    let stolen = served.visitor("operate").form_key();
    assert_eq!(visitor.post("/flow/disable", &[("code", "F"), ("key", &stolen)]).status, 403);
    assert_eq!(served.world.sql.count("SELECT COUNT(*) FROM flows WHERE enabled", []), 1);
}

#[test]
fn scopes_apply() {
    let served = served();
    let reader = served.visitor("read");
    for form in FORMS.iter().filter(|form| **form != "/logout") {
        let answer = reader.submit(form, &[("code", "F"), ("id", "1")]);
        assert_eq!(answer.status, 403, "{form}: {}", answer.body);
    }
    for path in [
        "/flow?code=F",
        "/flows",
        "/dead-letters",
        "/brokers",
        "/broker?id=1",
        "/replicas",
        "/history",
        "/deliveries/posts?flow=F",
    ] {
        let page = reader.page(path);
        assert_eq!(page.matches("method=\"post\"").count(), 1, "only the form of the log out: {page}");
        assert!(!page.contains("class=\"button"), "{page}");
    }
    let operator = served.visitor("operate");
    assert_eq!(operator.submit("/flow/disable", &[("code", "F")]).status, 303);
    assert_eq!(operator.get("/flow/edit?code=F").status, 403);
    assert_eq!(operator.submit("/flow/edit", &[("code", "F"), ("do", "save")]).status, 403);
}

#[test]
fn paths_of_buttons_lead_to_their_pages() {
    let served = served();
    let visitor = served.visitor("admin");
    for (path, page) in [
        ("/broker/test?id=1", "/broker?id=1"),
        ("/broker/test", "/brokers"),
        ("/flow/disable?code=A%2FB", "/flow?code=A%2FB"),
        ("/dead-letter/test?id=7", "/dead-letter?id=7"),
        ("/deliveries/retry", "/deliveries"),
        ("/flow/edit", "/flows"),
        ("/flow/test", "/flows"),
    ] {
        assert_eq!(location(&visitor.get(path)), page, "{path}");
    }
    let edit = visitor.page("/flow/edit?code=F");
    assert!(edit.contains("action=\"/flow/edit?code=F\""), "{edit}");
}

#[test]
fn error_pages_have_the_navigation_of_their_visitor() {
    let served = served();
    let visitor = served.visitor("read");
    for path in ["/dead-letters?since=yesterday", "/history?until=x", "/flow?code=none", "/tokens"] {
        let answer = visitor.get(path);
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
        assert!(answer.body.contains("aria-label=\"Parts\""), "{path}: {}", answer.body);
        assert!(answer.headers["content-type"].starts_with("text/html"), "{path}");
    }
    let stranger = served.guest().post("/login", &[("token", &"x".repeat(9_000))]);
    assert!(!stranger.body.contains("aria-label=\"Parts\""), "{}", stranger.body);
}

#[test]
fn wrong_conditions_show_their_form_again() {
    let served = served();
    let visitor = served.visitor("read");
    for (path, wrong) in [
        ("/dead-letters?topic=a/%23/b&until=1h", "value=\"a/#/b\""),
        ("/dead-letters?reason=none&until=1h", "reason: "),
        ("/history?since=yesterday&until=1h", "value=\"yesterday\""),
        ("/history?kind=table&until=1h", "kind: &#34;table&#34; is not in the list"),
        ("/flows?state=broken&text=1h", "state: "),
        ("/flows?order=size&text=1h", "order: "),
        ("/flows?action=DELETE&text=1h", "action: "),
    ] {
        let answer = visitor.get(path);
        assert_eq!(answer.status, 422, "{path}");
        for words in [wrong, "value=\"1h\"", "role=\"alert\""] {
            assert!(answer.body.contains(words), "{path}: {words}: {}", answer.body);
        }
    }
}

#[test]
fn session_ends_with_the_log_out() {
    let served = served();
    let visitor = served.visitor("read");
    let answer = visitor.submit("/logout", &[]);
    assert_eq!(location(&answer), "/login");
    assert!(answer.headers["set-cookie"].contains("Max-Age=0"));
    assert_eq!(location(&visitor.get("/")), "/login");
}

#[test]
fn form_of_an_ended_session_is_sent_again() {
    let served = served();
    let visitor = served.visitor("admin");
    let key = visitor.form_key();
    let form = [("code", "F"), ("key", key.as_str())];
    succeeds(&served.world, &["tokens", "revoke", "t-admin"]);
    eventually("the end of the session", || (visitor.get("/").status == 303).then_some(()));
    assert_eq!(visitor.post("/flow/disable", &form).status, 401);
    let operator = visitor.logged_in(&served.token("other", "operate"));
    assert_eq!(visitor.post("/flow/disable", &form).status, 401, "the old cookie opens nothing");
    assert_eq!(
        served.guest().logged_in(&served.token("third", "admin")).post("/flow/disable", &form).status,
        403
    );
    assert!(location(&operator.post("/flow/disable", &form)).contains("done=disabled"));
}

fn session_ends_with_its_token(world: World) {
    let served = Served::new(world);
    let visitor = served.visitor("admin");
    visitor.page("/");
    succeeds(&served.world, &["tokens", "revoke", "t-admin"]);
    eventually("the end of the session", || (visitor.get("/").status == 303).then_some(()));
}

on_each_database!(session_ends_with_its_token);
