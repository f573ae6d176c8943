"""The names that rules and dashboard may use."""

from __future__ import annotations

import re

import yaml

from kustomize import ROOT

TABLE = ROOT / "docs/METRICS.md"
RULES = ROOT / "deploy/prometheus/mqtt-gateway.rules.yaml"


def known() -> dict[str, str]:
    """Each metric with its type."""
    return dict(re.findall(r"^\| `(\w+)` \| (gauge|counter|histogram) \|", TABLE.read_text(), re.MULTILINE))


def recorded() -> dict[str, str]:
    """What the rules add, with the expression that it is made of."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["record"]: rule["expr"] for group in groups for rule in group["rules"] if "record" in rule}


def series() -> set[str]:
    """What Prometheus stores of all of them."""
    kinds = known()
    parts = {f"{name}_{part}" for name, kind in kinds.items() if kind == "histogram" for part in ("bucket", "sum", "count")}
    return parts | {name for name, kind in kinds.items() if kind != "histogram"} | set(recorded())


def used(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:mqtt_gateway[_:]|process_)[\w:]+", expression))
