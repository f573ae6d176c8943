"""The page of the demo in a real browser: each button breaks something, and nothing is lost.

Arguments: the address of the console, the path of the link into it, and perhaps a directory for screenshots.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "gateway" / "console"))

from browser import CHROMIUM, NARROW, WIDE, Console, check_page  # noqa: E402
from playwright.sync_api import Page, expect, sync_playwright  # noqa: E402

PATIENCE_MS = 60_000


def number(page: Page, flow: str, column: str) -> int:
    """A number of the table of the readings."""
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=flow))
    return int(row.locator(f"[data-label='{column}']").inner_text().replace(",", "") or "0")


def until(page: Page, what: str, is_true: Callable[[Page], bool]) -> None:
    """Loads the page until this is true. Each loading waits for the gateway, so this ends by itself or by a time-out."""
    for _ in range(1_000):
        page.goto("/demo")
        if is_true(page):
            return
    raise AssertionError(f"{what}: {page.get_by_role('main').inner_text()}")


def nothing_was_lost(page: Page) -> bool:
    return "Nothing was lost: all" in page.get_by_role("main").inner_text()


def press(page: Page, button: str, notice: str) -> None:
    page.get_by_role("button", name=button).click()
    expect(page.get_by_role("status")).to_contain_text(notice)


def break_everything(console: Console) -> None:
    page = console.page
    page.set_default_timeout(PATIENCE_MS)
    page.get_by_role("link", name="Demo").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Demo")
    until(page, "the start", lambda page: nothing_was_lost(page) and number(page, "ALARMS", "Posted") > 0)

    press(page, "Stop the endpoint", "The endpoint is stopped")
    check_page(page, "stopped endpoint")
    until(page, "waiting alarms", lambda page: number(page, "ALARMS", "Waiting for the endpoint") > 1)
    press(page, "Start the endpoint", "The endpoint runs again")
    until(page, "posted alarms", lambda page: number(page, "ALARMS", "Waiting for the endpoint") == 0)
    until(page, "the proof after the endpoint", nothing_was_lost)

    press(page, "Lock the database", "The database is locked")
    check_page(page, "locked database")
    before = number(page, "TEMPERATURE", "Published")
    until(page, "waiting messages", lambda page: number(page, "TEMPERATURE", "On their way") > 1)
    until(page, "the end of the lock", lambda page: number(page, "TEMPERATURE", "Stored") > before)
    until(page, "the proof after the lock", nothing_was_lost)

    process = re.search(r"runs as process (\d+)", page.get_by_role("main").inner_text())
    press(page, "Kill the gateway", "The gateway is killed")
    # Without a reload: the script keeps the page fresh.
    expect(page.get_by_role("main")).to_contain_text("it was killed once", timeout=PATIENCE_MS)
    assert process and f"process {process[1]}" not in page.get_by_role("main").inner_text()
    # The killed gateway broke off the stream of the page, and what it was answering.
    console.errors = [error for error in console.errors if "net::ERR_" not in error]
    until(page, "the proof after the kill", nothing_was_lost)
    page.goto("/deliveries")
    expect(page.get_by_role("main")).to_contain_text("MAINTENANCE")
    expect(page.get_by_role("main")).to_contain_text("503")


def take_pictures(console: Console, name: str, pictures: Path) -> None:
    page = console.page
    for what, path in {"overview": "/", "demo": "/demo", "deliveries": "/deliveries", "letters": "/dead-letters"}.items():
        page.goto(path)
        check_page(page, f"{what}, {name}")
        page.screenshot(path=pictures / f"demo-{what}-{name}.png", full_page=True)


def main() -> None:
    address, link = sys.argv[1:3]
    pictures = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        console = Console(browser, address)
        console.page.goto(link)
        break_everything(console)
        state = console.context.storage_state()
        for scheme in ("light", "dark"):
            for name, size in (("wide", WIDE), ("narrow", NARROW)):
                other = Console(browser, address, storage_state=state, viewport=size, color_scheme=scheme)
                other.page.goto("/demo")
                check_page(other.page, f"demo, {name}, {scheme}")
                if pictures:
                    take_pictures(other, f"{name}-{scheme}", pictures)
                other.close()
        console.close()
        browser.close()
    print("ok")


if __name__ == "__main__":
    main()
