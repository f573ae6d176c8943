"""Evictions, ends, starts, resources and rollouts."""

from __future__ import annotations

import re

from checks.environment import documented
from manifests import Document, Documents, of_kind, settings, size_in_bytes, stateful, title, workloads

# Between the end of the drain and the kill, for the last sync and the log.
MARGIN_SECONDS = 15

# A large inbox is read through at the start, and the database may be away.
START_SECONDS = 30 * 60

# A rollout waits for each pod until kubelet asks again.
ASKED_SECONDS = 2

# The gateway itself restarts a stuck actor; kubelet may only act when that has had its time.
ALIVE_SECONDS = 45

# What a stuck process has between SIGTERM and the kill is less than that.
GRACE_SECONDS = 30

# What the gateway takes by itself, and each lane for the largest payloads; measured, with room (deploy/kubernetes/README.md).
BYTES_AT_REST = 128 * 2**20
PAYLOADS_PER_LANE = 16

SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"


def one_pod_may_be_evicted(documents: Documents) -> list[str]:
    budgets = of_kind(documents, "PodDisruptionBudget")
    if not budgets:
        return ["there is no PodDisruptionBudget"]
    complaints = []
    for budget in budgets:
        spec = budget["spec"]
        if spec.get("maxUnavailable") != 1:
            complaints.append(f"{title(budget)} does not let exactly one go")
        if spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            complaints.append(f"{title(budget)} holds up nodes while no pod is ready, as without the broker")
    return complaints


def there_is_time_to_drain(documents: Documents) -> list[str]:
    complaints = []
    for workload in workloads(documents):
        setting = settings(documents, workload).get("DRAIN_DEADLINE_SECONDS")
        deadline = int((setting and setting.value) or 30)
        grace = workload.pod.get("terminationGracePeriodSeconds", 30)
        if grace < deadline + MARGIN_SECONDS:
            complaints.append(f"{workload.name}: killed after {grace} s, and drains for {deadline} s")
    return complaints


def there_is_time_to_start(documents: Documents) -> list[str]:
    complaints = []
    for workload in stateful(documents):
        gateway = workload.gateway
        if _budget(gateway.get("startupProbe", {})) < START_SECONDS:
            complaints.append(f"{workload.name}: too little time to start")
        if _budget(gateway.get("livenessProbe", {})) < ALIVE_SECONDS:
            complaints.append(f"{workload.name}: too little time to show life")
        if gateway.get("startupProbe", {}).get("periodSeconds", 10) > ASKED_SECONDS:
            complaints.append(f"{workload.name}: a pod that has started is noticed late")
        if gateway.get("livenessProbe", {}).get("terminationGracePeriodSeconds", 60) >= GRACE_SECONDS:
            complaints.append(f"{workload.name}: a process that is stuck is given the time of one that drains")
    return complaints


def the_end_says_why(documents: Documents) -> list[str]:
    return [
        f"{workload.name}: {container['name']}: `kubectl describe` has no reason of a failed start"
        for workload in workloads(documents)
        for container in workload.containers
        if container.get("terminationMessagePolicy") != "FallbackToLogsOnError"
    ]


def volumes_hold_up_no_node(documents: Documents) -> list[str]:
    """The cluster autoscaler keeps a node for a pod with an emptyDir that is not named here."""
    complaints = []
    for workload in stateful(documents):
        named = workload.document["spec"]["template"]["metadata"].get("annotations", {}).get(SAFE_TO_EVICT, "")
        for entry in workload.pod.get("volumes", []):
            if "emptyDir" in entry and entry["name"] not in named.split(","):
                complaints.append(f"{workload.name}: the volume {entry['name']} keeps a node from being removed")
    return complaints


def _budget(probe: Document) -> int:
    """Seconds for which a probe may fail."""
    return int(probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3))


def resources_are_bounded(documents: Documents) -> list[str]:
    """Requests for both, a limit for memory, none for the processor: throttled looks like stuck."""
    complaints = []
    for workload in workloads(documents):
        for container in workload.containers:
            resources = container.get("resources", {})
            requests, limits = resources.get("requests", {}), resources.get("limits", {})
            if not {"cpu", "memory"} <= set(requests):
                complaints.append(f"{workload.name}: requests are missing")
            if "memory" not in limits:
                complaints.append(f"{workload.name}: memory has no limit")
            if "cpu" in limits:
                complaints.append(f"{workload.name}: the processor has a limit")
    return complaints


def memory_covers_the_largest_payloads(documents: Documents) -> list[str]:
    complaints = []
    for workload in workloads(documents):
        found, defaults = settings(documents, workload), documented()
        largest, lanes = (
            int((found[name].value if name in found else None) or re.findall(r"\d+", defaults[name][0])[0])
            for name in ("MAX_PAYLOAD_BYTES", "LANES")
        )
        needed = BYTES_AT_REST + lanes * PAYLOADS_PER_LANE * largest
        limit = workload.gateway.get("resources", {}).get("limits", {}).get("memory")
        if limit is not None and size_in_bytes(limit) < needed:
            complaints.append(f"{workload.name}: payloads of {largest} bytes in {lanes} lanes take {needed} bytes of memory")
    return complaints


def replicas_are_spread(documents: Documents) -> list[str]:
    complaints = []
    for workload in stateful(documents):
        spread = {
            constraint["topologyKey"]: constraint["whenUnsatisfiable"]
            for constraint in workload.pod.get("topologySpreadConstraints", [])
        }
        for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone"):
            if spread.get(key) != "ScheduleAnyway":
                complaints.append(f"{workload.name}: spread over {key} is {spread.get(key)}")
    return complaints


def rollouts_go_one_by_one(documents: Documents) -> list[str]:
    complaints = []
    for workload in stateful(documents):
        spec = workload.document["spec"]
        strategy = spec.get("updateStrategy", {})
        if strategy.get("type") != "RollingUpdate" or strategy.get("rollingUpdate", {}).get("partition"):
            complaints.append(f"{workload.name}: a new version does not reach every pod by itself")
        if strategy.get("rollingUpdate", {}).get("maxUnavailable", 1) != 1:
            complaints.append(f"{workload.name}: several pods are replaced at a time")
        if spec.get("podManagementPolicy") != "Parallel":
            complaints.append(f"{workload.name}: a pod that cannot start keeps others from being started")
        if not spec.get("minReadySeconds"):
            complaints.append(f"{workload.name}: the next pod is stopped as soon as one is ready")
    return complaints
