"""Skipped tests fail the run unless `--allow-skips` is given: a check that was not made says nothing about the manifests."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest

OPTION = "--allow-skips"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, action="store_true", help="skipped tests do not fail the run")


def pytest_sessionfinish(session: pytest.Session) -> None:
    skipped = Counter(_reasons(session))
    # scripts/test counts what all its parts have skipped.
    with open(os.environ.get("SKIPPED_CHECKS") or os.devnull, "a", encoding="utf-8") as file:
        file.writelines(f"{count} of tests/deploy ({reason})\n" for reason, count in skipped.items())
    if skipped and not session.config.getoption(OPTION) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _reasons(session: pytest.Session) -> Iterator[str]:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    for report in reporter.stats.get("skipped", []) if reporter else []:
        # The place and the line come before it.
        yield str(report.longrepr[-1]).removeprefix("Skipped: ")
