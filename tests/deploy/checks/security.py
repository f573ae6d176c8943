"""The rules of the pod security standard "restricted", one by one, and some that are stricter."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

from kustomize import ROOT
from manifests import Document, Documents, Workload, of_kind, title, workloads

# What the standard lets a pod mount.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}

POD_LABEL = "pod-security.kubernetes.io/enforce"

# What keeps tools that apply directories from deleting a document.
KEPT = {
    "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
    "kustomize.toolkit.fluxcd.io/prune": "disabled",
}


def the_namespace_is_restricted_and_stays(namespace: Document) -> list[str]:
    metadata = namespace["metadata"]
    complaints = [
        f"{title(namespace)} may be deleted: {name} is missing"
        for name, value in KEPT.items()
        if metadata.get("annotations", {}).get(name) != value
    ]
    if metadata.get("labels", {}).get(POD_LABEL) != "restricted":
        complaints.append(f"{title(namespace)} does not enforce restricted pods")
    return complaints


def pods_are_restricted(documents: Documents) -> list[str]:
    return [
        f"{workload.name}: {complaint}"
        for workload in workloads(documents)
        for complaint in _complaints_of_pod(workload.pod)
    ]


def _complaints_of_pod(pod: Document) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        if pod.get(field):
            yield f"{field} is set"
    for entry in pod.get("volumes", []):
        if not set(entry) & VOLUMES:
            yield f"the volume {entry['name']} is of a kind that is not allowed"
    context = pod.get("securityContext", {})
    if context.get("sysctls"):
        yield "sysctls are set"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "seccompProfile is not RuntimeDefault"
    if context.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    # By number: kubelet cannot tell whether a name is root.
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        if not isinstance(context.get(field), int) or context[field] == 0:
            yield f"{field} is not the number of somebody who is not root"


def containers_are_restricted(documents: Documents) -> list[str]:
    return [
        f"{workload.name}/{container['name']}: {complaint}"
        for workload in workloads(documents)
        for container in workload.containers
        for complaint in _complaints_of_container(container)
    ]


def _complaints_of_container(container: Document) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if context.get("privileged"):
        yield "it is privileged"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem is not true"
    if context.get("capabilities", {}) != {"drop": ["ALL"]}:
        yield "capabilities are not dropped, all of them"
    if context.get("procMount", "Default") != "Default":
        yield "procMount is not Default"
    for field in ("runAsUser", "runAsNonRoot", "runAsGroup", "seccompProfile", "seLinuxOptions", "appArmorProfile"):
        if field in context:
            yield f"{field} differs from the pod's"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "it takes a port of the node"


def no_token_is_mounted(documents: Documents) -> list[str]:
    accounts = [
        f"{title(account)} gives its token away"
        for account in of_kind(documents, "ServiceAccount")
        if account.get("automountServiceAccountToken") is not False
    ]
    pods = [
        f"{workload.name} mounts a token"
        for workload in workloads(documents)
        if workload.pod.get("automountServiceAccountToken") is not False or _projects_a_token(workload)
    ]
    return accounts + pods


def _projects_a_token(workload: Workload) -> bool:
    sources = [
        source for entry in workload.pod.get("volumes", []) for source in entry.get("projected", {}).get("sources", [])
    ]
    return any("serviceAccountToken" in source for source in sources)


def nothing_is_executed(documents: Documents) -> list[str]:
    """The image has no shell and no tools: neither hooks nor probes may start a program in it."""
    complaints = []
    for workload in workloads(documents):
        for container in workload.containers:
            actions = [*container.get("lifecycle", {}).values()]
            actions += [container.get(probe, {}) for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
            if any("exec" in action for action in actions) or "command" in container:
                complaints.append(f"{workload.name}/{container['name']} starts a program of its own")
    return complaints


def images_are_pinned(documents: Documents) -> list[str]:
    """By a digest or by the version of this very source."""
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    pinned = re.compile(rf"[^:@]+(:[^:@/]+)?@sha256:[0-9a-f]{{64}}|.+:{re.escape(version)}")
    return [
        f"{workload.name}/{container['name']}: {container['image']} is not version {version}"
        for workload in workloads(documents)
        for container in workload.containers
        if not pinned.fullmatch(container["image"])
    ]
