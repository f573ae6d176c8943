"""The manifests and the gateway itself: it takes their settings and answers their probes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from checks.environment import documented
from checks.network import METRICS, PROBES
from checks.scaling import actors_in_use, metrics_in_use
from gateway import environment_of, run, running, with_sqlite
from kustomize import MANIFESTS
from renderings import FLOWS, SHARDED, SHARED, SINGLE, SITE, SITE_WITH_ALL, Rendering


@pytest.mark.parametrize("rendering", [SINGLE, SHARED, SHARDED, SITE], ids=str)
def test_the_gateway_takes_the_settings(rendering: Rendering, tmp_path: Path) -> None:
    checked = run(environment_of(rendering, tmp_path), tmp_path, "check")
    # 2 is for settings; 1, because there is no database.
    assert checked.returncode == 1, checked.stdout + checked.stderr


def test_the_gateway_takes_the_flows_of_the_example(tmp_path: Path) -> None:
    linted = run({}, tmp_path, "flows", "lint", str(MANIFESTS / FLOWS.place / "flows.yaml"))
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_the_gateway_would_refuse_wrong_ones(tmp_path: Path) -> None:
    environment = environment_of(SINGLE, tmp_path) | {"DRAIN_DEADLINE_SECONDS": "0"}
    assert run(environment, tmp_path, "check").returncode == 2


@pytest.mark.parametrize("rendering", [SINGLE, SHARDED], ids=str)
def test_the_gateway_answers_probes_and_prometheus_and_ends_in_order(rendering: Rendering, tmp_path: Path) -> None:
    if "ADMIN_BIND" not in documented():
        pytest.skip("this gateway does not serve HTTP yet")
    names = metrics_in_use(SITE_WITH_ALL.documents())
    actors = actors_in_use(SITE_WITH_ALL.documents())
    assert names and actors
    with running(with_sqlite(environment_of(rendering, tmp_path), tmp_path), tmp_path) as gateway:
        gateway.wait_for(PROBES["startupProbe"], 200)
        gateway.wait_for(PROBES["livenessProbe"], 200)
        # No broker: neither dead nor stuck in its start, but not ready, and it says why.
        assert "{" in gateway.wait_for(PROBES["readinessProbe"], 503)
        metrics = gateway.wait_for(METRICS, 200)
        assert {name for name in names if name not in metrics} == set()
        assert {pattern for pattern in actors if not re.search(f'{{actor="{pattern}"', metrics)} == set()
        assert gateway.stop() == 0


def test_a_replica_without_an_inbox_is_retired_once_a_pod_has_made_one(tmp_path: Path) -> None:
    """As the page says of a volume that is lost. Here nobody else lives, so the retirement ends at its next question."""
    environment = with_sqlite(environment_of(SHARED, tmp_path), tmp_path)
    page = (MANIFESTS / "README.md").read_text()
    assert "`there is no inbox in …`" in page
    refused = run(environment, tmp_path, "retire")
    assert refused.returncode == 1 and "there is no inbox in" in refused.stderr, refused.stderr
    with running(environment, tmp_path) as gateway:
        gateway.wait_for(PROBES["startupProbe"], 200)
        assert gateway.stop() == 0
    asked = run(environment, tmp_path, "retire")
    assert asked.returncode == 1 and "no other gateway is known" in asked.stderr, asked.stderr
