"""Secrets: files from Secrets, and no real one in the repository."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from checks.environment import documented
from manifests import Document, Documents, Workload, mount_of, named, of_kind, settings, title, volume, workloads

# Secrets that a site makes by hand or by an operator of its own, where a rendering has none.
KEYS_BY_HAND = {
    "mqtt-gateway-database": {"password"},
    "mqtt-gateway-database-tls": {"ca.crt", "tls.crt", "tls.key"},
    "mqtt-gateway-broker": {"username", "password"},
    "mqtt-gateway-broker-tls": {"ca.crt", "tls.crt", "tls.key"},
}

# What kustomize puts behind a generated name.
HASH = re.compile(r"-[0-9a-z]{10}$")

PLACEHOLDER = re.compile(r"put-the-\w+-here\n")


def secret_settings_are_files(documents: Documents) -> list[str]:
    """Environments are shown by `kubectl describe`, and inherited by whatever a process starts."""
    secret = {name for name, (_, kind) in documented().items() if kind == "secret"}
    complaints = []
    for workload in workloads(documents):
        names = secret & set(settings(documents, workload))
        complaints += [f"{workload.name}: {name} stands in the environment" for name in sorted(names)]
        for container in workload.containers:
            for entry in container.get("env", []):
                if "secretKeyRef" in entry.get("valueFrom", {}):
                    complaints.append(f"{workload.name}: {entry['name']} brings a Secret into the environment")
            if any("secretRef" in source for source in container.get("envFrom", [])):
                complaints.append(f"{workload.name}: a whole Secret stands in the environment")
    return complaints


def files_are_in_a_mounted_secret(documents: Documents) -> list[str]:
    complaints = []
    for workload in workloads(documents):
        for name, setting in settings(documents, workload).items():
            if name.endswith("_FILE"):
                complaints += [
                    f"{workload.name}: {name}: {complaint}"
                    for complaint in _complaints_of_file(documents, workload, setting.value or "")
                ]
    return complaints


def _complaints_of_file(documents: Documents, workload: Workload, path: str) -> list[str]:
    mount = mount_of(workload, path)
    source = mount and (volume(workload, mount["name"]) or {}).get("secret")
    if not mount or not source:
        return [f"{path} is not in a mounted Secret"]
    if source.get("optional"):
        return [f"{path} is in a Secret that may be missing"]
    file = path[len(mount["mountPath"]) :].lstrip("/")
    keys = _keys(documents, source["secretName"])
    if "items" in source:
        item = next((item for item in source["items"] if item["path"] == file), None)
        if item is None:
            return [f"{path} is none of the files of the volume"]
        file = item["key"]
    return [] if file in keys else [f"{source['secretName']} has no key {file}"]


def _keys(documents: Documents, name: str) -> set[str]:
    secret = named(documents, "Secret", name)
    return set(secret.get("data", {})) if secret else KEYS_BY_HAND.get(name, set())


def references_lead_somewhere(documents: Documents) -> list[str]:
    """ConfigMaps, accounts and Secrets are there, or are known to be made by hand."""
    made = {document["metadata"]["name"] for document in of_kind(documents, "Secret")}
    # Who generates a Secret does not make it by hand as well, so a reference to the plain name was left behind.
    generated = {HASH.sub("", name) for name in made}
    known = made | (set(KEYS_BY_HAND) - generated)
    complaints = []
    for workload in workloads(documents):
        account = workload.pod.get("serviceAccountName", "")
        if named(documents, "ServiceAccount", account) is None:
            complaints.append(f"{workload.name}: there is no ServiceAccount {account}")
        complaints += [
            f"{workload.name}: there is no ConfigMap {name}"
            for name in _config_maps(workload)
            if named(documents, "ConfigMap", name) is None
        ]
        for entry in workload.pod.get("volumes", []):
            name = entry.get("secret", {}).get("secretName")
            if name and name not in known:
                complaints.append(f"{workload.name}: there is no Secret {name}")
    return complaints


def _config_maps(workload: Workload) -> Iterator[str]:
    for container in workload.containers:
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                yield source["configMapRef"]["name"]


def nothing_here_is_a_secret(documents: Documents) -> list[str]:
    return [
        f"{title(secret)}: {key} is not one of the placeholders"
        for secret in of_kind(documents, "Secret")
        for key, text in _texts(secret).items()
        if not PLACEHOLDER.fullmatch(text)
    ]


def _texts(secret: Document) -> dict[str, str]:
    decoded = {key: base64.b64decode(value).decode() for key, value in secret.get("data", {}).items()}
    return {**decoded, **secret.get("stringData", {})}
