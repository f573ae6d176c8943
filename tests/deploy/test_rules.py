"""The alert rules: promtool, the metrics that there are, and the places that they lead to."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import metrics
from kustomize import ROOT

DIRECTORY = ROOT / "deploy/prometheus"
RULES = DIRECTORY / "mqtt-gateway.rules.yaml"
TESTS = DIRECTORY / "mqtt-gateway.test.yaml"
OPERATIONS = ROOT / "docs/OPERATIONS.md"

# MERGE: docs/OPERATIONS.md comes with another branch; to be removed, with its use below, once it is there.
PENDING_HEADINGS = [
    "Mailbox over 80 % full", "Handler stuck", "Actor restarted", "Restart budget spent", "Disconnected from the broker",
    "Inbox growing", "Inbox full", "Database away", "Outbox growing", "Dead letters", "Flow rejected or invalid",
    "Not ready", "Numbers run out",
]  # fmt: skip


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def anchors() -> set[str]:
    """As forges make them of headings."""
    headings = PENDING_HEADINGS
    if OPERATIONS.exists():
        headings = re.findall(r"^#+ (.*)$", OPERATIONS.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def complaints(rule: dict[str, Any]) -> list[str]:
    notes = rule["annotations"]
    found = [f"{name} is missing" for name in ("summary", "description", "runbook") if not notes.get(name)]
    if rule["labels"].get("severity") not in ("critical", "warning"):
        found.append("no severity")
    path, _, anchor = notes.get("runbook", "").partition("#")
    if path != "docs/OPERATIONS.md" or anchor not in anchors():
        found.append(f"{anchor} is no heading of docs/OPERATIONS.md")
    return found + [f"{name} is no metric" for name in metrics.used(rule["expr"]) - metrics.series()]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_it_holds(rule: dict[str, Any]) -> None:
    assert complaints(rule) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("annotations.summary", ""),
        ("annotations.description", ""),
        ("annotations.runbook", "docs/OPERATIONS.md#nowhere"),
        ("labels.severity", "loud"),
        ("expr", "mqtt_gateway_nothing == 0"),
        ("expr", "mqtt_gateway_batch_bytes == 0"),
    ],
)
def test_it_is_seen_when_it_does_not_hold(path: str, value: str) -> None:
    rule: Any = rules()[0]
    *parents, last = path.split(".")
    place = rule
    for parent in parents:
        place = place[parent]
    place[last] = value
    assert complaints(rule) != []


def test_the_names_of_alerts_are_unique() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("promtool") is None:
        pytest.skip("promtool (Debian: prometheus) is not installed: the rules are not evaluated")
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)


def test_promtool_takes_rules_and_configuration() -> None:
    for arguments in (
        ("check", "rules", str(RULES)),
        ("check", "config", "--syntax-only", str(ROOT / "deploy/docker/prometheus.yaml")),
    ):
        result = promtool(*arguments)
        assert result.returncode == 0, result.stdout + result.stderr


def test_each_rule_fires_when_it_should_and_only_then() -> None:
    result = promtool("test", "rules", str(TESTS))
    assert result.returncode == 0, result.stdout + result.stderr


def with_rules(directory: Path, changed: list[dict[str, Any]]) -> int:
    document = {"groups": [{"name": "all", "rules": changed}]}
    (directory / RULES.name).write_text(yaml.safe_dump(document))
    shutil.copy(TESTS, directory)
    return promtool("test", "rules", str(directory / TESTS.name)).returncode


@pytest.mark.parametrize("index", range(len(rules())), ids=lambda index: str(rules()[index]["alert"]))
def test_a_rule_that_never_fires_or_fires_too_soon_is_seen(index: int, tmp_path: Path) -> None:
    silent = rules()
    del silent[index]
    assert with_rules(tmp_path, silent) != 0
    if "for" in rules()[index]:
        hasty = rules()
        del hasty[index]["for"]
        assert with_rules(tmp_path, hasty) != 0
