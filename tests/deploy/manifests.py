"""Rendered documents, and what several checks want to know of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]
Documents = list[Document]
Labels = dict[str, str]


@dataclass(frozen=True)
class Setting:
    """One environment variable: a value, or the field of the pod that it is taken from."""

    value: str | None
    field: str | None


@dataclass(frozen=True)
class Workload:
    """A document that makes pods."""

    document: Document

    @property
    def name(self) -> str:
        return title(self.document)

    @property
    def template(self) -> Document:
        return dict(self.document["spec"]["template"])

    @property
    def labels(self) -> Labels:
        return dict(self.template["metadata"].get("labels", {}))

    @property
    def pod(self) -> Document:
        return dict(self.template["spec"])

    @property
    def containers(self) -> list[Document]:
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def gateway(self) -> Document:
        """The container with the gateway: there is no other."""
        return dict(self.pod["containers"][0])

    @property
    def is_stateful(self) -> bool:
        return bool(self.document["kind"] == "StatefulSet")

    @property
    def applies_flows(self) -> bool:
        """It works on tables alone: no message goes through it."""
        return list(self.gateway.get("args", []))[:2] == ["flows", "apply"]


def title(document: Document) -> str:
    """What a person calls it in a message."""
    return f"{document['kind']}/{document['metadata']['name']}"


def of_kind(documents: Documents, *kinds: str) -> Documents:
    return [document for document in documents if document["kind"] in kinds]


def named(documents: Documents, kind: str, name: str) -> Document | None:
    matching = (document for document in of_kind(documents, kind) if document["metadata"]["name"] == name)
    return next(matching, None)


def workloads(documents: Documents) -> Iterator[Workload]:
    return (Workload(document) for document in of_kind(documents, "StatefulSet", "Job"))


def stateful(documents: Documents) -> Iterator[Workload]:
    return (workload for workload in workloads(documents) if workload.is_stateful)


def selects(selector: Document | None, labels: Labels) -> bool:
    """Whether a selector with `matchLabels` takes these labels; one without conditions takes all."""
    wanted = (selector or {}).get("matchLabels", {})
    return all(labels.get(key) == value for key, value in wanted.items())


def settings(documents: Documents, workload: Workload) -> dict[str, Setting]:
    """The environment of the gateway; names of ConfigMaps that are not there are left to the check of references."""
    found: dict[str, Setting] = {}
    for source in workload.gateway.get("envFrom", []):
        name = source.get("configMapRef", {}).get("name", "")
        config = named(documents, "ConfigMap", name) or {}
        found.update({key: Setting(value, None) for key, value in config.get("data", {}).items()})
    for entry in workload.gateway.get("env", []):
        field = entry.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        found[entry["name"]] = Setting(entry.get("value"), field)
    return found


def mount_of(workload: Workload, path: str) -> Document | None:
    """The deepest mount that holds this path."""
    mounts = [
        dict(mount)
        for mount in workload.gateway.get("volumeMounts", [])
        if path == mount["mountPath"] or path.startswith(mount["mountPath"].rstrip("/") + "/")
    ]
    return max(mounts, key=lambda mount: len(mount["mountPath"]), default=None)


def volume(workload: Workload, name: str) -> Document | None:
    """A volume of the pod; one of a claim template is given as the claim that Kubernetes makes of it."""
    for template in workload.document["spec"].get("volumeClaimTemplates", []):
        if template["metadata"]["name"] == name:
            return {"name": name, "persistentVolumeClaim": {"template": template}}
    return next((dict(entry) for entry in workload.pod.get("volumes", []) if entry["name"] == name), None)


_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def size_in_bytes(quantity: str) -> int:
    """A quantity such as `10Gi`, in bytes."""
    for unit, factor in _UNITS.items():
        if quantity.endswith(unit):
            return int(quantity[: -len(unit)]) * factor
    return int(quantity)
