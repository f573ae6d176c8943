"""Volumes, and what is written where."""

from __future__ import annotations

from collections import Counter

from manifests import (
    Document,
    Documents,
    Workload,
    mount_of,
    of_kind,
    settings,
    size_in_bytes,
    stateful,
    title,
    volume,
    workloads,
)

# Of the volume; the rest is for segments that are being deleted, for damaged bytes that are kept, and the file system.
INBOX_SHARE = 0.75

# The same of the volume with the error files, on whose filling the pod is evicted.
LOG_SHARE = 0.75


def volumes_and_mounts_agree(documents: Documents) -> list[str]:
    complaints = []
    for workload in workloads(documents):
        mounts = [mount for container in workload.containers for mount in container.get("volumeMounts", [])]
        mounted = {mount["name"] for mount in mounts}
        templates = workload.document["spec"].get("volumeClaimTemplates", [])
        declared = {entry["name"] for entry in workload.pod.get("volumes", [])}
        declared |= {template["metadata"]["name"] for template in templates}
        complaints += [f"{workload.name}: there is no volume {name}" for name in sorted(mounted - declared)]
        complaints += [f"{workload.name}: nobody mounts {name}" for name in sorted(declared - mounted)]
        paths = Counter(mount["mountPath"] for mount in mounts)
        complaints += [f"{workload.name}: two volumes at {path}" for path, count in paths.items() if count > 1]
    return complaints


def the_inbox_outlives_the_pod(documents: Documents) -> list[str]:
    complaints = []
    for workload in workloads(documents):
        if workload.applies_flows:
            continue
        if "persistentVolumeClaim" not in _source_of(documents, workload, "INBOX_DIR"):
            complaints.append(f"{workload.name}: INBOX_DIR is not on a claimed volume")
    for workload in stateful(documents):
        if any("labels" in claim["metadata"] for claim in workload.document["spec"].get("volumeClaimTemplates", [])):
            complaints.append(f"{workload.name}: claims with labels, which nobody can change later")
        policy = workload.document["spec"].get("persistentVolumeClaimRetentionPolicy", {})
        if [policy.get("whenDeleted"), policy.get("whenScaled")] != ["Retain", "Retain"]:
            complaints.append(f"{workload.name}: a volume with messages may be deleted")
    return complaints


def deleting_it_deletes_no_inbox(documents: Documents) -> list[str]:
    """A namespace takes its claims along, for `kubectl delete -k` and for whoever prunes."""
    return [f"{title(document)} would be deleted" for document in of_kind(documents, "Namespace", "PersistentVolumeClaim")]


def the_inbox_fits_its_volume(documents: Documents) -> list[str]:
    complaints = []
    for workload in stateful(documents):
        claim = _source_of(documents, workload, "INBOX_DIR").get("persistentVolumeClaim", {}).get("template")
        bound = settings(documents, workload).get("INBOX_MAX_BYTES")
        if claim is None or bound is None or bound.value is None:
            complaints.append(f"{workload.name}: INBOX_MAX_BYTES is not set for its volume")
            continue
        room = size_in_bytes(claim["spec"]["resources"]["requests"]["storage"])
        if int(bound.value) > room * INBOX_SHARE:
            complaints.append(f"{workload.name}: INBOX_MAX_BYTES {bound.value} is too near to {room} bytes")
    return complaints


def the_log_fits_its_volume(documents: Documents) -> list[str]:
    complaints = []
    for workload in workloads(documents):
        room = _source_of(documents, workload, "LOG_DIR").get("emptyDir", {}).get("sizeLimit")
        bound = settings(documents, workload).get("LOG_DIR_MAX_BYTES")
        if room is None or bound is None or bound.value is None:
            complaints.append(f"{workload.name}: the error files or their volume have no bound")
        elif int(bound.value) > size_in_bytes(room) * LOG_SHARE:
            complaints.append(f"{workload.name}: LOG_DIR_MAX_BYTES {bound.value} is too near to {room}")
    return complaints


def what_is_written_can_be_written(documents: Documents) -> list[str]:
    """The root is read-only, so both directories are on volumes, and not on read-only ones."""
    complaints = []
    for workload in workloads(documents):
        for name in ("INBOX_DIR", "LOG_DIR"):
            setting = settings(documents, workload).get(name)
            path = (setting and setting.value) or ""
            mount = mount_of(workload, path)
            kinds = set(_source_of(documents, workload, name)) & {"emptyDir", "persistentVolumeClaim"}
            if not path.startswith("/") or mount is None or mount.get("readOnly") or not kinds:
                complaints.append(f"{workload.name}: {name} ({path}) cannot be written")
    return complaints


def _source_of(documents: Documents, workload: Workload, name: str) -> Document:
    """The volume that the directory of a setting is on; empty where there is none."""
    setting = settings(documents, workload).get(name)
    mount = mount_of(workload, (setting and setting.value) or "")
    return (mount and volume(workload, mount["name"])) or {}
