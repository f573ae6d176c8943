"""The dashboard for Grafana: each panel says what it shows, over metrics that there are."""

from __future__ import annotations

import copy
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import metrics
from kustomize import ROOT

FILE = ROOT / "deploy/grafana/mqtt-gateway.json"
Dashboard = dict[str, Any]
DASHBOARD: Dashboard = json.loads(FILE.read_text())
# Grafana's grid.
WIDTH = 24


def shown(dashboard: Dashboard) -> list[Dashboard]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard: Dashboard) -> list[str]:
    return [target["expr"] for panel in shown(dashboard) for target in panel["targets"]]


def panels_are_explained(dashboard: Dashboard) -> list[str]:
    return [
        f"{panel['title']} lacks something"
        for panel in shown(dashboard)
        if not (panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"] and panel["targets"])
    ]


def data_come_from_the_variable(dashboard: Dashboard) -> list[str]:
    places = [place for panel in shown(dashboard) for place in (panel, *panel["targets"])]
    places += [variable for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    places += [annotation for annotation in dashboard["annotations"]["list"] if "builtIn" not in annotation]
    return [
        f"{place.get('title', place.get('name', place.get('expr')))}"
        for place in places
        if place["datasource"] != {"type": "prometheus", "uid": "${datasource}"}
    ]


def metrics_are_there(dashboard: Dashboard) -> list[str]:
    queries = [variable["definition"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    used = set().union(*map(metrics.used, [*expressions(dashboard), *queries]))
    return sorted(used - metrics.series())


def no_metric_is_left_out(dashboard: Dashboard) -> list[str]:
    used = set().union(*map(metrics.used, expressions(dashboard)))
    used |= set().union(*(metrics.used(expression) for name, expression in metrics.recorded().items() if name in used))
    return [name for name in metrics.known() if not used & {name, f"{name}_bucket", f"{name}_count"}]


def variables_are_there(dashboard: Dashboard) -> list[str]:
    """Those that are used are declared before they are used, and those that are declared are used."""
    complaints = []
    declared: set[str] = set()
    for variable in dashboard["templating"]["list"]:
        complaints += [f"{variable['name']} needs {name}" for name in variables_in(variable) - declared]
        declared.add(variable["name"])
    used = variables_in(dashboard["panels"])
    complaints += [f"there is no variable {name}" for name in used - declared]
    return complaints + [f"nothing depends on {name}" for name in declared - used]


def variables_in(part: Any) -> set[str]:
    """Without those that Grafana itself sets, which begin with `__`."""
    return set(re.findall(r"\$\{?(?!__)(\w+)", json.dumps(part)))


def queries_ask_for_what_is_chosen(dashboard: Dashboard) -> list[str]:
    """Each metric in each query; else a panel mixes in the gateways of somebody else."""
    chosen = 'namespace=~"$namespace",job=~"$job",instance=~"$instance"'
    asked = [
        (expression, text)
        for expression in expressions(dashboard)
        for text in re.findall(r"\b(?:mqtt_gateway[_:]|process_)[\w:]+(?:\{[^}]*\})?", expression)
    ]
    return [expression for expression, text in asked if chosen not in text]


def nothing_overlaps(dashboard: Dashboard) -> list[str]:
    places = [(panel["title"], panel["gridPos"]) for panel in dashboard["panels"]]
    outside = [title for title, place in places if place["x"] < 0 or place["x"] + place["w"] > WIDTH]
    return outside + [
        f"{first} and {second}"
        for (first, a), (second, b) in itertools.combinations(places, 2)
        if a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]
    ]


def identifiers_are_unique(dashboard: Dashboard) -> list[str]:
    identifiers = [panel["id"] for panel in dashboard["panels"]]
    return [] if len(set(identifiers)) == len(identifiers) and dashboard["uid"] == "mqtt-gateway" else ["not unique"]


def one(dashboard: Dashboard) -> Dashboard:
    return shown(dashboard)[0]


def variable(dashboard: Dashboard, name: str) -> Dashboard:
    found: Dashboard
    (found,) = (entry for entry in dashboard["templating"]["list"] if entry["name"] == name)
    return found


CHECKS: list[tuple[Callable[[Dashboard], list[str]], Callable[[Dashboard], Any]]] = [
    (panels_are_explained, lambda dashboard: one(dashboard).update(description="")),
    (panels_are_explained, lambda dashboard: one(dashboard)["fieldConfig"]["defaults"].update(unit="")),
    (data_come_from_the_variable, lambda dashboard: one(dashboard).update(datasource={"uid": "mine"})),
    (data_come_from_the_variable, lambda dashboard: one(dashboard)["targets"][0].update(datasource={"uid": "mine"})),
    (data_come_from_the_variable, lambda dashboard: variable(dashboard, "flow").update(datasource={"uid": "mine"})),
    (data_come_from_the_variable, lambda dashboard: dashboard["annotations"]["list"][1].update(datasource={"uid": "mine"})),
    (metrics_are_there, lambda dashboard: one(dashboard)["targets"][0].update(expr="mqtt_gateway_nothing")),
    (no_metric_is_left_out, lambda dashboard: one(dashboard).update(targets=[])),
    (metrics_are_there, lambda dashboard: one(dashboard)["targets"][0].update(expr="mqtt_gateway:nothing:rate5m")),
    (metrics_are_there, lambda dashboard: one(dashboard)["targets"][0].update(expr="mqtt_gateway_batch_bytes")),
    (metrics_are_there, lambda dashboard: variable(dashboard, "flow").update(definition="label_values(process_nothing, flow)")),
    (variables_are_there, lambda dashboard: one(dashboard)["targets"][0].update(expr='up{pod="$pod"}')),
    (variables_are_there, lambda dashboard: dashboard["templating"]["list"].reverse()),
    (variables_are_there, lambda dashboard: dashboard["templating"]["list"].append({"name": "pod"})),
    (variables_are_there, lambda dashboard: dashboard["templating"]["list"].remove(variable(dashboard, "flow"))),
    (queries_ask_for_what_is_chosen, lambda dashboard: one(dashboard)["targets"][0].update(expr="mqtt_gateway_ready")),
    (queries_ask_for_what_is_chosen, lambda dashboard: one(dashboard)["targets"][0].update(expr='mqtt_gateway_ready{job=~"$job"}')),
    (nothing_overlaps, lambda dashboard: one(dashboard)["gridPos"].update(w=9)),
    (nothing_overlaps, lambda dashboard: one(dashboard)["gridPos"].update(x=22, y=1000)),
    (identifiers_are_unique, lambda dashboard: one(dashboard).update(id=1)),
    (identifiers_are_unique, lambda dashboard: dashboard.update(uid="another")),
]


@pytest.mark.parametrize("check", dict.fromkeys(check for check, _ in CHECKS))
def test_it_holds(check: Callable[[Dashboard], list[str]]) -> None:
    assert check(DASHBOARD) == []


@pytest.mark.parametrize(("check", "harm"), CHECKS)
def test_it_is_seen_when_it_does_not_hold(
    check: Callable[[Dashboard], list[str]], harm: Callable[[Dashboard], Any]
) -> None:
    broken = copy.deepcopy(DASHBOARD)
    harm(broken)
    assert check(broken) != []


def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool (Debian: prometheus) is not installed: the queries are not parsed")
    asked = [*expressions(DASHBOARD), *(entry["expr"] for entry in DASHBOARD["annotations"]["list"] if "expr" in entry)]
    queries = [text.replace("$__rate_interval", "5m").replace("$__range", "1h") for text in asked]
    recorded = [{"record": f"query_{index}", "expr": query} for index, query in enumerate(queries)]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": recorded}]}))
    result = subprocess.run(
        ["promtool", "check", "rules", str(tmp_path / "queries.yaml")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
