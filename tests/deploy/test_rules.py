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
from checks.environment import documented
from kustomize import ROOT

RULES = metrics.RULES
TESTS = RULES.with_name("mqtt-gateway.test.yaml")
DASHBOARD = ROOT / "deploy/grafana/mqtt-gateway.json"
OPERATIONS = ROOT / "docs/OPERATIONS.md"


Rule = dict[str, Any]


def rules() -> list[Rule]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[Rule]:
    return [rule for rule in rules() if "alert" in rule]


def recordings() -> list[Rule]:
    return [rule for rule in rules() if "record" in rule]


def name_of(rule: Rule) -> str:
    return str(rule.get("alert") or rule.get("record"))


def anchors() -> set[str]:
    """As forges make them of headings."""
    headings = re.findall(r"^#+ (.*)$", OPERATIONS.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def names_are_metrics(rule: Rule) -> list[str]:
    return [f"{name} is no metric" for name in metrics.used(rule["expr"]) - metrics.series()]


def complaints_of_alert(rule: Rule) -> list[str]:
    notes = rule["annotations"]
    found = [f"{name} is missing" for name in ("summary", "description", "runbook") if not notes.get(name)]
    if rule["labels"].get("severity") not in ("critical", "warning"):
        found.append("no severity")
    path, _, anchor = notes.get("runbook", "").partition("#")
    if path != "docs/OPERATIONS.md" or anchor not in anchors():
        found.append(f"{anchor} is no heading of docs/OPERATIONS.md")
    # Spelled in capitals they are settings; dashboards and other alerts are not.
    words = set(re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)+\b", " ".join(notes.values())))
    found += [f"{word} is no setting" for word in words - set(documented())]
    return found + names_are_metrics(rule)


def complaints_of_recording(rule: Rule) -> list[str]:
    """Named as Prometheus advises: whose, what, and how it was made of the metrics; used, or it would be computed for nobody."""
    found = [] if re.fullmatch(r"mqtt_gateway:\w+:\w+", rule["record"]) else [f"{rule['record']} is no name of a recording"]
    readers = [DASHBOARD.read_text(), *(other["expr"] for other in rules())]
    if not any(rule["record"] in metrics.used(text) for text in readers):
        found.append(f"nobody reads {rule['record']}")
    return found + names_are_metrics(rule)


@pytest.mark.parametrize("rule", alerts(), ids=name_of)
def test_an_alert_holds(rule: Rule) -> None:
    assert complaints_of_alert(rule) == []


@pytest.mark.parametrize("rule", recordings(), ids=name_of)
def test_a_recording_holds(rule: Rule) -> None:
    assert complaints_of_recording(rule) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("annotations.summary", ""),
        ("annotations.description", ""),
        ("annotations.description", "More than NO_SUCH_SETTING."),
        ("annotations.runbook", ""),
        ("annotations.runbook", "docs/OPERATIONS.md#nowhere"),
        ("annotations.runbook", "README.md#restart-budget-spent"),
        ("labels.severity", "loud"),
        ("expr", "mqtt_gateway_nothing == 0"),
        ("expr", "mqtt_gateway:nothing:rate5m == 0"),
        # A histogram has no series of its own name, and what is none has no buckets.
        ("expr", "mqtt_gateway_batch_bytes == 0"),
        ("expr", "mqtt_gateway_ready_bucket == 0"),
    ],
)
def test_it_is_seen_when_an_alert_does_not_hold(path: str, value: str) -> None:
    rule: Any = alerts()[0]
    *parents, last = path.split(".")
    place = rule
    for parent in parents:
        place = place[parent]
    place[last] = value
    assert complaints_of_alert(rule) != []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("record", "mqtt_gateway_stored"),
        ("record", "mqtt_gateway:read_by_nobody:rate5m"),
        ("expr", "rate(mqtt_gateway_nothing[5m])"),
    ],
)
def test_it_is_seen_when_a_recording_does_not_hold(field: str, value: str) -> None:
    assert complaints_of_recording(recordings()[0] | {field: value}) != []


def test_the_names_of_rules_are_unique() -> None:
    names = [name_of(rule) for rule in rules()]
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


def with_rules(directory: Path, changed: list[Rule]) -> int:
    document = {"groups": [{"name": "all", "rules": changed}]}
    (directory / RULES.name).write_text(yaml.safe_dump(document))
    shutil.copy(TESTS, directory)
    return promtool("test", "rules", str(directory / TESTS.name)).returncode


@pytest.mark.parametrize("index", range(len(rules())), ids=lambda index: name_of(rules()[index]))
def test_a_rule_that_never_fires_or_fires_too_soon_is_seen(index: int, tmp_path: Path) -> None:
    silent = rules()
    del silent[index]
    assert with_rules(tmp_path, silent) != 0
    if "for" in rules()[index]:
        hasty = rules()
        del hasty[index]["for"]
        assert with_rules(tmp_path, hasty) != 0
