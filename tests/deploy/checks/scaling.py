"""Groups, shards, the autoscaler, and replicas that go for good."""

from __future__ import annotations

import re
from collections.abc import Iterator

from manifests import Document, Documents, Workload, named, of_kind, settings, stateful, title, workloads


def replicas_are_shards(documents: Documents) -> list[str]:
    """Several replicas share a group or split the flows, and never both; each shard has its replica."""
    complaints = []
    for workload in stateful(documents):
        found = settings(documents, workload)
        replicas = workload.document["spec"].get("replicas")
        if "SHARD_COUNT" in found:
            if found["SHARD_COUNT"].value != str(replicas):
                complaints.append(f"{workload.name}: {found['SHARD_COUNT'].value} shards on {replicas} replicas")
            if "SHARD_INDEX" not in found or found["SHARD_INDEX"].field != "metadata.name":
                complaints.append(f"{workload.name}: SHARD_INDEX is not from the pod's name")
        elif "SHARD_INDEX" in found:
            complaints.append(f"{workload.name}: SHARD_INDEX without SHARD_COUNT")
        if {"SHARD_COUNT", "SHARED_GROUP"} <= set(found):
            complaints.append(f"{workload.name}: in a group and sharded")
        if replicas != 1 and not {"SHARD_COUNT", "SHARED_GROUP"} & set(found):
            complaints.append(f"{workload.name}: {replicas} replicas that each take every message")
    return complaints


def the_autoscaler_strands_nothing(documents: Documents) -> list[str]:
    complaints = []
    for scaler in of_kind(documents, "ScaledObject"):
        spec = scaler["spec"]
        target = named(documents, spec["scaleTargetRef"].get("kind", "Deployment"), spec["scaleTargetRef"]["name"])
        if target is None or target["kind"] != "StatefulSet":
            complaints.append(f"{title(scaler)} scales nothing that is here")
            continue
        if "replicas" in target["spec"]:
            complaints.append(f"{title(scaler)} and {title(target)} both set the number")
        if "SHARD_COUNT" in settings(documents, Workload(target)):
            complaints.append(f"{title(scaler)} would change the number of shards")
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        if behavior["scaleDown"].get("selectPolicy") != "Disabled":
            complaints.append(f"{title(scaler)} leaves inboxes behind by itself")
        complaints += [f"{title(scaler)}: {text}" for text in _complaints_of_triggers(scaler)]
    return complaints


def _complaints_of_triggers(scaler: Document) -> Iterator[str]:
    if scaler["spec"]["minReplicaCount"] > scaler["spec"]["maxReplicaCount"]:
        yield "the least is above the most"
    for trigger in scaler["spec"]["triggers"]:
        query = trigger["metadata"]["query"]
        # An age does not shrink when it is divided by more pods, and no answer is not the age 0.
        if trigger.get("metricType") != "Value" or trigger["metadata"].get("ignoreNullValues") != "false":
            yield "its trigger takes an age for an amount, or silence for health"
        # From the threshold on the query asks for more than an age.
        if re.findall(r"\) < (\d+)", query) != [trigger["metadata"]["threshold"]]:
            yield "its query knows another threshold"
        namespaces = set(re.findall(r'namespace="([^"]*)"', query))
        if namespaces != {scaler["metadata"]["namespace"]}:
            yield f"its query looks at {namespaces or 'every namespace'}"


def queries(documents: Documents) -> list[str]:
    """What autoscalers ask."""
    scalers = of_kind(documents, "ScaledObject")
    return [trigger["metadata"]["query"] for scaler in scalers for trigger in scaler["spec"]["triggers"]]


def metrics_in_use(documents: Documents) -> set[str]:
    """The names of metrics in the queries of autoscalers."""
    return {name for query in queries(documents) for name in re.findall(r"\bmqtt_gateway_\w+", query)}


def actors_in_use(documents: Documents) -> set[str]:
    """The patterns of actors in these queries."""
    return {pattern for query in queries(documents) for pattern in re.findall(r'\bactor=~"([^"]*)"', query)}


def who_retires_is_gone(documents: Documents) -> list[str]:
    """The job has the name and the inbox of one pod, and no pod of that name is wanted any more."""
    complaints = []
    for job in workloads(documents):
        if job.is_stateful or job.applies_flows:
            continue
        if job.gateway.get("args") != ["retire"] or job.pod.get("restartPolicy") != "Never":
            complaints.append(f"{job.name} does not retire, attempt by attempt")
        if "SHARD_INDEX" in settings(documents, job):
            complaints.append(f"{job.name}: its pod's name is no SHARD_INDEX, which is a wrong setting")
        identity = settings(documents, job).get("MQTT_CLIENT_ID")
        pod = (identity and identity.value) or ""
        claims = [
            entry["persistentVolumeClaim"]["claimName"]
            for entry in job.pod["volumes"]
            if "persistentVolumeClaim" in entry
        ]
        if claims != [f"inbox-{pod}"]:
            complaints.append(f"{job.name}: retires {pod or 'nobody'} with the inbox {claims}")
        for gateway in stateful(documents):
            name, _, ordinal = pod.rpartition("-")
            if name != gateway.document["metadata"]["name"] or not ordinal.isdigit():
                complaints.append(f"{job.name}: {pod} is no pod of {gateway.name}")
            elif int(ordinal) < gateway.document["spec"].get("replicas", 0):
                complaints.append(f"{job.name}: {pod} is still there")
    return complaints


def a_drained_node_is_no_attempt(documents: Documents) -> list[str]:
    """The first rule that fits decides, so it has to come before the one about exit codes."""
    complaints = []
    for job in of_kind(documents, "Job"):
        first, *others = job["spec"].get("podFailurePolicy", {}).get("rules") or [{}]
        conditions = [condition["type"] for condition in first.get("onPodConditions", [])]
        if first.get("action") != "Ignore" or conditions != ["DisruptionTarget"]:
            complaints.append(f"{title(job)}: an eviction uses up an attempt")
        codes = [rule["onExitCodes"] for rule in others if rule["action"] == "FailJob"]
        container = Workload(job).gateway["name"]
        if not any(code["values"] == [2] and code["containerName"] == container for code in codes):
            complaints.append(f"{title(job)}: wrong settings are tried again")
    return complaints
