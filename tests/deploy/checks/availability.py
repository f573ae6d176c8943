"""Evictions, ends, starts, resources and rollouts."""

from __future__ import annotations

from manifests import Document, Documents, of_kind, settings, stateful, title, workloads

# Between the end of the drain and the kill, for the last sync and the log.
MARGIN_SECONDS = 15

# A large inbox is read through at the start, and the database may be away.
START_SECONDS = 30 * 60

# The gateway itself restarts a stuck actor; kubelet may only act when that has had its time.
ALIVE_SECONDS = 45


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
