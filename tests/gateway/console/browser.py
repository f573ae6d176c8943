"""The console in a real browser: an operator's tasks, accessibility, narrow screens, and errors of the browser.

Arguments: the address of the gateway, its tokens of scope admin and read, one that has expired, the first level of
all topics, and perhaps a directory for screenshots. The caller has a flow TEMP with the schema {"value": "number"},
values and a dead letter of it, the same with DRIFT, a flow POST with a post that waits, and a flow and a dead letter
with hostile texts.
"""

import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
# Milliseconds until something has to be there; a page may be slow beside other tests.
PATIENCE = 60_000
WIDE = {"width": 1280, "height": 900}
MEDIUM = {"width": 1024, "height": 768}
NARROW = {"width": 360, "height": 740}


class Endpoint(BaseHTTPRequestHandler):
    """An endpoint that fails until it is mended. It also serves the page of another site."""

    status = 503
    posts: ClassVar[list[bytes]] = []
    page = ""

    def do_POST(self) -> None:
        self.posts.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(Endpoint.status, b"")

    def do_GET(self) -> None:
        self.answer(200, Endpoint.page.encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        if status == 503:
            # So that the posts go out by a click only, and wait for it.
            self.send_header("Retry-After", "600")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Prints nothing."""


class Console:
    """A browser with a session."""

    def __init__(self, browser: Browser, address: str, **options: object) -> None:
        self.address = address
        self.context: BrowserContext = browser.new_context(base_url=address, **options)  # type: ignore[arg-type]
        self.context.set_default_timeout(PATIENCE)
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        # The answers 4xx that the tasks provoke are no fault of a page.
        self.page.on("console", lambda line: self.note(line.type, line.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and "the server responded with a status of" not in text:
            self.errors.append(text)

    def log_in(self, token: str) -> None:
        self.page.goto("/login")
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("button", name="Log in").click()

    def publish(self, token: str, topic: str, payload: str) -> None:
        """Publishes over the API, as a sensor would."""
        message = {"topic": topic, "payload": payload}
        answer = self.context.request.post(
            "/api/v1/publish", data=message, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.ok, answer.text()

    def until(self, path: str, what: str, is_true: Callable[[str], bool]) -> None:
        """Loads a page until this is true of its text."""
        text = ""
        for _ in range(1_000):
            self.page.goto(path)
            text = self.page.get_by_role("main").inner_text()
            if is_true(text):
                return
        raise AssertionError(f"{what}: {text}")

    def close(self) -> None:
        assert not self.errors, self.errors
        self.context.close()


def check_page(page: Page, what: str) -> None:
    """No violation that axe-core finds, and no scrolling to the side."""
    found = Axe().run(page).response["violations"]
    named = [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]
    assert not named, (what, named)
    wide = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1"
        " && getComputedStyle(e).position !== 'absolute').map(e => e.outerHTML.slice(0, 100))"
    )
    scrolls = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    assert not scrolls and not wide, (what, wide)
    # A heading or a time has a line for each of its words at most.
    broken = page.evaluate(
        "[...document.querySelectorAll('th, td[data-label$=\"(UTC)\"]')].filter(({ firstChild: text }) => {"
        " if (text?.nodeType !== Node.TEXT_NODE) return false;"
        " const range = document.createRange(); range.selectNodeContents(text);"
        " return range.getClientRects().length > text.data.trim().split(' ').length; }).map(e => e.outerHTML)"
    )
    assert not broken, (what, broken)


def tokens(browser: Browser, address: str, admin: str, reader: str, expired: str) -> None:
    console = Console(browser, address)
    page = console.page
    page.goto("/flow?code=TEMP")
    expect(page).to_have_title("Log in · mqtt-gateway")
    page.get_by_label("Token").fill("mqg_wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong or was revoked")
    check_page(page, "wrong token")
    page.get_by_label("Token").fill(expired)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("the token has expired")
    page.get_by_label("Token").fill(reader)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("TEMP")
    expect(page.get_by_role("button", name="Disable")).to_have_count(0)
    expect(page.get_by_role("link", name="Edit")).to_have_count(0)
    forged = {"code": "TEMP", "key": page.locator("input[name=key]").first.get_attribute("value") or ""}
    assert console.context.request.post("/flow/disable", form=forged).status == 403
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_title("Log in · mqtt-gateway")
    page.goto("/flows")
    expect(page).to_have_title("Log in · mqtt-gateway")
    console.log_in(admin)
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    console.close()


def foreign_form(browser: Browser, address: str, admin: str, elsewhere: str) -> None:
    """A page of another port, to which browsers send the cookie, and one of another site."""
    console = Console(browser, address)
    page = console.page
    console.log_in(admin)
    key = page.locator("input[name=key]").first.get_attribute("value")
    Endpoint.page = (
        f'<form method="post" action="{address}/flow/disable"><input name="code" value="TEMP">'
        f'<input name="key" value="{key}"><button>Win a prize</button></form>'
    )
    page.goto(elsewhere)
    with page.expect_navigation() as navigation:
        page.get_by_role("button", name="Win a prize").click()
    assert navigation.value.status == 403
    page.route("http://evil.example/", lambda route: route.fulfill(body=Endpoint.page, content_type="text/html"))
    page.goto("http://evil.example/")
    page.get_by_role("button", name="Win a prize").click()
    page.wait_for_url(f"{address}/**")
    page.goto("/flow?code=TEMP")
    expect(page.get_by_role("button", name="Disable")).to_be_visible()
    console.close()


def first_flow(browser: Browser, address: str, admin: str, root: str) -> None:
    """Adds a flow after a mistake, tests a message with it, and disables it. Then messages arrive, an edit breaks the
    flow, and is taken back."""
    console = Console(browser, address)
    page = console.page
    console.log_in(admin)
    page.get_by_role("link", name="Flows", exact=True).first.click()
    page.get_by_role("link", name="Add a flow").click()
    page.get_by_label("Code").fill("FIRST")
    page.get_by_label("Topic filter").fill("first/#/wrong")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_label("Topic filter")).to_have_attribute("aria-invalid", "true")
    check_page(page, "flow with a mistake")
    page.get_by_label("Topic filter").fill(f"{root}/first/+")
    page.get_by_label("Name of field 1").fill("level")
    page.get_by_label("Type of field 1").select_option("integer")
    page.get_by_label("Topic filter").press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Test before it is saved: nothing was changed")
    page.get_by_label("Topic", exact=True).fill(f"{root}/first/b")
    page.get_by_label("Topic", exact=True).press("Enter")
    expect(page.get_by_role("status")).to_contain_text(f"{root}/first/b")
    page.get_by_role("button", name="More rows").click()
    expect(page.get_by_label("Name of field 11")).to_have_value("")
    check_page(page, "more rows")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("status")).to_contain_text("The flow was added")
    page.get_by_role("link", name="Test a message").click()
    page.get_by_label("Payload").fill('{"level": "high"}')
    page.get_by_role("button", name="Test").click()
    expect(page.get_by_role("status")).to_contain_text("would become a dead letter: validation_failed")
    check_page(page, "test of a bad message")
    page.get_by_label("Payload").fill('{"level": 3}')
    page.get_by_role("button", name="Test").click()
    expect(page.get_by_role("status")).to_contain_text("would be stored as number 1")
    check_page(page, "test of a message")
    page.goto("/flow?code=FIRST")
    page.get_by_role("button", name="Disable").click()
    expect(page.get_by_role("status")).to_contain_text("The flow is disabled")
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_role("status")).to_contain_text("The flow is enabled")

    def arrives(payload: str, what: str) -> None:
        def is_seen(text: str) -> bool:
            # The first messages may come before the subscription.
            console.publish(admin, f"{root}/first/a", payload)
            return what in text

        console.until("/flow?code=FIRST", what, is_seen)

    arrives('{"level": 3}', "Last number\n1")
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Type of field 1").select_option("string")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("The edit was saved")
    arrives('{"level": 4}', "validation_failed")
    page.get_by_role("link", name="validation_failed").click()
    page.locator("tbody a").first.click()
    expect(page.get_by_role("region", name="Reason")).to_contain_text("expected string")
    page.goto("/flow?code=FIRST")
    page.get_by_role("button", name="Go back to entry").last.click()
    expect(page.get_by_role("status")).to_contain_text("The flow is as it was")
    expect(page.get_by_label("Schema")).to_contain_text("integer")
    page.goto("/dead-letters/replay?flow=FIRST")
    page.get_by_role("button", name="Replay ").click()
    expect(page.locator("tbody")).to_contain_text("stored")
    console.until("/dead-letters?flow=FIRST", "no dead letters", lambda text: "No dead letter matches" in text)
    console.close()


def failing_endpoint(browser: Browser, address: str, admin: str, root: str, endpoint: str) -> None:
    """Posts wait for an endpoint that fails, and go out when it is mended."""
    console = Console(browser, address)
    page = console.page
    console.log_in(admin)
    page.goto("/flow/new")
    page.get_by_label("Code").fill("POSTS")
    page.get_by_label("Topic filter").fill(f"{root}/posts")
    page.get_by_label("Action").select_option("POST_ENDPOINT")
    page.get_by_label("Endpoint").fill(endpoint)
    page.get_by_role("button", name="Test with this flow").click()
    expect(page.get_by_role("status")).to_contain_text("would be posted as number 1")
    check_page(page, "a new flow after its test")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("The flow was added")

    def has_failed(text: str) -> bool:
        console.publish(admin, f"{root}/posts", '{"n": 1}')
        return "POSTS" in text and "503" in text

    console.until("/deliveries", "a failed attempt", has_failed)
    check_page(page, "deliveries with a failing endpoint")
    Endpoint.status = 204
    page.get_by_role("row").filter(has_text="POSTS").get_by_role("button", name="Retry now").click()
    expect(page.get_by_role("status")).to_contain_text("due now")
    console.until("/deliveries", "the posts", lambda text: "POSTS" not in text)
    assert b'{"n": 1}' in Endpoint.posts
    console.close()


def hostile_texts(browser: Browser, address: str, admin: str) -> None:
    """Texts of others run nothing and change no page."""
    console = Console(browser, address)
    page = console.page
    page.on("dialog", lambda dialog: console.errors.append(dialog.message))
    console.log_in(admin)
    page.goto("/flows")
    paths = ["/", "/flows", "/deliveries", "/dead-letters", "/dead-letters/replay", "/dead-letters/discard"]
    flow = page.get_by_role("link", name="<script>").first.get_attribute("href") or ""
    paths += [flow, flow.replace("/flow?", "/flow/edit?"), flow.replace("/flow?", "/flow/test?")]
    page.goto(flow)
    page.get_by_role("link", name="validation_failed").click()
    paths.append(page.locator("tbody a").first.get_attribute("href") or "")
    for path in paths:
        page.goto(path)
        check_page(page, f"hostile texts: {path}")
        assert page.locator("main img, main script, main a[href^='javascript']").count() == 0, path
        assert "\u202e" not in page.get_by_role("main").inner_text(), path
    page.goto(flow)
    expect(page.get_by_role("heading", level=1)).to_have_text('<script>alert(1)</script>"')
    expect(page.get_by_role("main")).to_contain_text("\\u{202e}")
    console.close()


def mend_and_replay(browser: Browser, address: str, admin: str) -> None:
    """Finds the dead letter, tries a mended schema, saves it, and replays the message."""
    console = Console(browser, address)
    page = console.page
    console.log_in(admin)
    page.get_by_role("link", name="validation_failed").first.click()
    page.locator("tbody a").first.click()
    expect(page.get_by_role("region", name="Reason")).to_contain_text("validation_failed")
    expect(page.locator("mark")).to_have_text('"warm"')
    page.get_by_label("Payload", exact=True).last.fill('{"value": 7}')
    page.get_by_role("button", name="Test", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("would be stored as number")
    check_page(page, "changed letter")
    page.get_by_role("button", name="Try").click()
    expect(page.locator("tbody")).to_contain_text("refused again")
    page.locator("tbody a").first.click()
    page.get_by_role("link", name="Edit the flow").click()
    page.get_by_role("button", name="Edit as JSON").click()
    page.get_by_label("Schema").fill('{"value": "string"}')
    page.get_by_role("button", name="What will this do?").click()
    expect(page.get_by_role("status")).to_contain_text("1 of its 1 newest dead letters without a number would be processed")
    check_page(page, "effects of an edit")
    page.get_by_label("Payload").fill('{"value": "warm"}')
    page.get_by_role("button", name="Test with this edit").click()
    expect(page.get_by_role("status")).to_contain_text("would be stored as number")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("status")).to_contain_text("The edit was saved")
    page.get_by_role("link", name="validation_failed").click()
    page.get_by_role("link", name="Replay…").click()
    check_page(page, "confirmation")
    page.get_by_role("button", name="Replay 1").click()
    expect(page.locator("tbody")).to_contain_text("stored")
    check_page(page, "result")
    page.goto("/dead-letters?flow=TEMP")
    expect(page.get_by_role("main")).to_contain_text("No dead letter matches")
    console.close()


def accept_drift(browser: Browser, address: str, admin: str) -> None:
    """Accepts a changed type, and replays the dead letter that it caused, by two clicks."""
    console = Console(browser, address)
    page = console.page
    console.log_in(admin)
    page.get_by_role("link", name="Drift", exact=True).click()
    expect(page.get_by_role("main")).to_contain_text("changed from number to string")
    page.get_by_role("region", name="DRIFT").get_by_label("Look at the change of value").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("changed from number to string")
    page.get_by_role("button", name="Accept, and replay 1 dead letter").click()
    expect(page.get_by_role("status")).to_contain_text("Replayed: 1 dead letter.")
    expect(page.locator("tbody")).to_contain_text("stored")
    check_page(page, "accepted and replayed")
    page.goto("/flow?code=DRIFT")
    expect(page.get_by_role("region", name="Fields of the messages")).not_to_contain_text("changed from number")
    console.close()


def all_pages(browser: Browser, address: str, admin: str, pictures: Path | None) -> None:
    """Each page, wide and narrow, light and dark, with and without scripts."""
    for scheme in ("light", "dark"):
        for name, size in (("wide", WIDE), ("narrow", NARROW)):
            console = Console(browser, address, viewport=size, color_scheme=scheme)
            page = console.page
            page.goto("/login")
            check_page(page, "login")
            console.log_in(admin)
            page.goto("/dead-letters")
            letter = page.locator("tbody a").first.get_attribute("href")
            places = {
                "overview": "/",
                "actors": "/actors",
                "flows": "/flows",
                "flow": "/flow?code=TEMP",
                "edit": "/flow/edit?code=TEMP",
                "new": "/flow/new",
                "flow-remove": "/flow/remove?code=TEMP",
                "test": "/flow/test?code=TEMP",
                "deliveries": "/deliveries",
                "letters": "/dead-letters",
                "letter": letter or "",
                "replay": "/dead-letters/replay",
                "discard": "/dead-letters/discard",
                "posts": "/deliveries/posts?flow=POST",
                "cancel": "/deliveries/cancel?flow=POST",
                "brokers": "/brokers",
                "broker": "/broker?id=1",
                "broker-edit": "/broker/edit?id=1",
                "broker-remove": "/broker/remove?id=1",
                "replicas": "/replicas",
                "history": "/history",
                "tokens": "/tokens",
                "token-revoke": "/token/revoke?name=reader",
                "drift": "/drift",
                "accept": "/drift/accept?code=DRIFT&field=value",
                "drifted": "/flow?code=DRIFT",
                "nowhere": "/flow?code=nowhere",
            }
            for what, path in places.items():
                page.goto(path)
                check_page(page, f"{what}, {name}, {scheme}")
                if pictures:
                    page.screenshot(path=pictures / f"{what}-{name}-{scheme}.png", full_page=True)
            console.close()
    medium = Console(browser, address, viewport=MEDIUM)
    medium.log_in(admin)
    for what in ("flows", "deliveries", "dead-letters", "drift", "history", "replicas"):
        medium.page.goto(f"/{what}")
        check_page(medium.page, f"{what}, medium")
        if pictures:
            medium.page.screenshot(path=pictures / f"{what}-medium-light.png", full_page=True)
    medium.close()
    still = Console(browser, address, java_script_enabled=False)
    still.log_in(admin)
    still.page.goto("/flow?code=TEMP")
    assert "TEMP" in still.page.title()
    still.close()


def brokers(browser: Browser, address: str, admin: str) -> None:
    """Adds a broker after a mistake, tests it, and removes it."""
    console = Console(browser, address)
    page = console.page
    console.log_in(admin)
    page.get_by_role("link", name="Brokers").click()
    page.get_by_role("link", name="Add a broker").click()
    page.get_by_label("Host").fill("mqtt://127.0.0.1")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_label("Host")).to_have_attribute("aria-invalid", "true")
    check_page(page, "broker with a mistake")
    page.get_by_label("Host").fill("127.0.0.1")
    page.get_by_label("Port").fill("9")
    page.get_by_label("Enabled").uncheck()
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("status")).to_contain_text("The broker was added")
    page.get_by_role("button", name="Test").click()
    expect(page.get_by_role("status")).to_contain_text("cannot be used")
    check_page(page, "broker that does not answer")
    page.get_by_role("link", name="Remove…").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("status")).to_contain_text("The broker was removed")
    page.goto("/history")
    page.get_by_text("removed", exact=True).wait_for()
    check_page(page, "history")
    console.close()


def session_over(browser: Browser, address: str, admin: str, root: str) -> None:
    """A form that is sent after the end of the session is sent again after a login in another tab."""
    console = Console(browser, address)
    page = console.page
    console.log_in(admin)
    page.goto("/flow/new")
    page.get_by_label("Code").fill("LATE")
    page.get_by_label("Topic filter").fill(f"{root}/late")
    (cookie,) = console.context.cookies()
    key = cookie["value"].partition(".")[2]
    console.context.add_cookies([{"name": cookie["name"], "value": f"ended.{key}", "url": address}])
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your session is over")
    check_page(page, "session that is over")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Log in in a new tab").click()
    opened.value.get_by_label("Token").fill(admin)
    opened.value.get_by_role("button", name="Log in").click()
    expect(opened.value.get_by_role("heading", level=1)).to_have_text("Overview")
    page.reload()
    expect(page.get_by_role("status")).to_contain_text("The flow was added")
    console.close()


def token_once(browser: Browser, address: str, admin: str) -> None:
    """Adds a token, whose secret is shown once, and revokes it."""
    console = Console(browser, address)
    page = console.page
    console.log_in(admin)
    page.get_by_role("link", name="Tokens").click()
    page.get_by_label("Name").fill("shown-once")
    # As a double click does. The answer to a second form would replace the secret text.
    page.evaluate("for (const _ of [1, 2]) document.querySelector('form[action=\"/tokens\"]').requestSubmit()")
    expect(page.get_by_role("status")).to_contain_text("mqg_")
    check_page(page, "new token")
    page.get_by_role("link", name="Revoke shown-once…").click()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("status")).to_contain_text("was revoked")
    console.close()


def live_parts(browser: Browser, address: str, admin: str) -> None:
    """The overview is made again while it is open."""
    console = Console(browser, address)
    console.log_in(admin)
    console.page.evaluate("document.querySelector('[data-live]').id = 'old'")
    console.page.wait_for_selector("#old", state="detached")
    console.close()


def details_stay_open(browser: Browser, address: str, admin: str, root: str) -> None:
    """Opened details keep their state and the focus when their part is made again."""
    console = Console(browser, address)
    page = console.page
    console.log_in(admin)
    page.goto("/deliveries")
    summary = page.get_by_role("row").filter(has_text="POST").locator("summary")
    summary.click()
    page.evaluate("document.querySelector('[data-live]').id = 'old'")
    console.publish(admin, f"{root}/post", "{}")
    page.wait_for_selector("#old", state="detached")
    expect(page.locator("details[data-key=POST]")).to_have_attribute("open", "")
    expect(summary).to_be_focused()
    summary.click()
    expect(page.locator("details[open]")).to_have_count(0)
    console.close()


def live_tail(browser: Browser, address: str, admin: str) -> None:
    """The messages of a flow as they happen, with a pause. A hostile payload is text."""
    console = Console(browser, address)
    page, api = console.page, console.context.request
    headers = {"Authorization": f"Bearer {admin}"}
    topic = api.get("/api/v1/flows/TEMP", headers=headers).json()["topic"].replace("+", "b")

    def publish(note: str) -> None:
        message = {"topic": topic, "payload": json.dumps({"value": 21.5, "note": note}, ensure_ascii=False)}
        assert api.post("/api/v1/publish", headers=headers, data=message).ok

    console.log_in(admin)
    page.goto("/flow?code=TEMP")
    # The first part says that the stream is open.
    page.evaluate("document.querySelector('[data-live]').id = 'old'")
    page.wait_for_selector("#old", state="detached")
    publish("<img src=x onerror=alert(1)>\u202e")
    lines = page.locator(".tail li")
    expect(lines).to_have_count(1)
    expect(lines.first).to_contain_text("note=<img src=x onerror=alert(1)>\\u{202e}")
    expect(page.locator(".tail img")).to_have_count(0)
    check_page(page, "tail")
    page.get_by_role("button", name="Pause").click()
    publish("while paused")
    expect(page.locator("[data-tail-state]")).to_contain_text("At least 1 message since then")
    page.get_by_role("button", name="Continue").click()
    publish("afterwards")
    expect(lines).to_have_count(2)
    expect(lines.last).to_contain_text("note=afterwards")
    console.close()


def main() -> None:
    address, admin, reader, expired, root = sys.argv[1:6]
    pictures = Path(sys.argv[6]) if len(sys.argv) > 6 else None
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    elsewhere = f"http://127.0.0.1:{server.server_port}/"
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        all_pages(browser, address, admin, pictures)
        tokens(browser, address, admin, reader, expired)
        foreign_form(browser, address, admin, elsewhere)
        live_parts(browser, address, admin)
        details_stay_open(browser, address, admin, root)
        live_tail(browser, address, admin)
        hostile_texts(browser, address, admin)
        brokers(browser, address, admin)
        token_once(browser, address, admin)
        session_over(browser, address, admin, root)
        mend_and_replay(browser, address, admin)
        accept_drift(browser, address, admin)
        first_flow(browser, address, admin, root)
        failing_endpoint(browser, address, admin, root, elsewhere)
        browser.close()
    print("ok")


if __name__ == "__main__":
    main()
