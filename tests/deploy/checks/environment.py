"""The environment of the gateway against its own settings."""

from __future__ import annotations

import functools
import re

from kustomize import ROOT
from manifests import Documents, settings, stateful, workloads


@functools.cache
def documented() -> dict[str, tuple[str, str]]:
    """Default and type of each setting, by the tables of docs/SETTINGS.md; the Rust tests hold those against the code."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|", (ROOT / "docs/SETTINGS.md").read_text(), re.MULTILINE)
    return {name: (default, kind) for name, default, kind in rows}


def names_are_settings(documents: Documents) -> list[str]:
    known = documented()
    return [
        f"{workload.name}: {name} is no setting"
        for workload in workloads(documents)
        for name in settings(documents, workload)
        if name not in known
    ]


def required_settings_are_there(documents: Documents) -> list[str]:
    complaints = []
    for workload in workloads(documents):
        found = settings(documents, workload)
        if {"DATABASE_URL_FILE", "DATABASE_URL"} & set(found):
            continue
        required = [name for name, (default, _) in documented().items() if default == "required"]
        for name in required:
            if name not in found and f"{name}_FILE" not in found:
                complaints.append(f"{workload.name}: {name} is required")
    return complaints


def the_client_id_is_the_pods_name(documents: Documents) -> list[str]:
    """One name for two gateways would make the broker throw out one for the other, for ever."""
    return [
        f"{workload.name}: MQTT_CLIENT_ID is not the pod's name"
        for workload in stateful(documents)
        if (found := settings(documents, workload).get("MQTT_CLIENT_ID")) is None or found.field != "metadata.name"
    ]


def services_set_nothing(documents: Documents) -> list[str]:
    """A Service called `db` in the namespace would set DB_PORT."""
    return [
        f"{workload.name}: Services of the namespace may set settings"
        for workload in workloads(documents)
        if workload.pod.get("enableServiceLinks") is not False
    ]
