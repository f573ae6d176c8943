"""Breaks a rendering in one place and expects the check that is responsible to complain, and to name the culprit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import checks
from manifests import Document, Documents, of_kind
from renderings import RETIRE, SHARDED, SHARED, SITE, Rendering

# In place of a value: the field is taken away.
GONE = object()

POD = "spec.template.spec"
CONTAINER = f"{POD}.containers.0"
MONITORED = Rendering("overlays/shared", ("service-monitor",))


@dataclass(frozen=True)
class Break:
    """One field of one document (`Kind/name`, or the first of its kind) is set to something else."""

    check: checks.Check
    complaint: str
    document: str
    path: str
    value: Any
    rendering: Rendering = SHARED

    def __str__(self) -> str:
        return f"{self.check.__name__}: {self.complaint}"


def find(documents: Documents, address: str) -> Document:
    kind, _, name = address.partition("/")
    return next(document for document in of_kind(documents, kind) if document["metadata"]["name"].startswith(name))


def change(documents: Documents, change: Break) -> None:
    place: Any = find(documents, change.document)
    *parents, last = change.path.split("|") if "|" in change.path else change.path.split(".")
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    if change.value is GONE:
        del place[int(last) if isinstance(place, list) else last]
    elif isinstance(place, list) and last == "+":
        place.append(change.value)
    else:
        place[int(last) if isinstance(place, list) else last] = change.value


NETWORK = [
    Break(checks.network.selectors_take_the_right_pods, "misses", "Service", "spec|selector|app.kubernetes.io/component", "x"),
    Break(checks.network.selectors_take_the_right_pods, "misses", "PodDisruptionBudget", "spec|selector|matchLabels|app.kubernetes.io/name", "x"),
    Break(checks.network.selectors_take_the_right_pods, "misses", "StatefulSet", "spec|template|metadata|labels|app.kubernetes.io/component", "x"),
    Break(checks.network.selectors_take_the_right_pods, "misses", "StatefulSet", f"{POD}.topologySpreadConstraints.0.labelSelector.matchLabels.app", "x"),
    Break(checks.network.selectors_take_the_right_pods, "selects by nothing", "PodDisruptionBudget", "spec.selector", {}),
    Break(checks.network.selectors_take_the_right_pods, "takes Job", "Service", "spec|selector|app.kubernetes.io/component", GONE, RETIRE),
    Break(checks.network.selectors_take_the_right_pods, "selects no Service", "ServiceMonitor", "spec.selector.matchLabels.app", "x", MONITORED),
    Break(checks.network.ports_lead_to_the_gateway, "has the port http", "Service", "spec.ports.0.targetPort", "http"),
    Break(checks.network.ports_lead_to_the_gateway, "is not the port admin", "StatefulSet", f"{CONTAINER}.ports.0.containerPort", 9090),
    Break(checks.network.ports_lead_to_the_gateway, "is not the port admin", "ConfigMap", "data.ADMIN_BIND", "off"),
    Break(checks.network.ports_lead_to_the_gateway, "kubelet does not reach", "ConfigMap", "data.ADMIN_BIND", "127.0.0.1:8080"),
    Break(checks.network.ports_lead_to_the_gateway, "there is no Service", "StatefulSet", "spec.serviceName", "x"),
    Break(checks.network.probes_ask_what_the_gateway_answers, "livenessProbe asks /health/ready", "StatefulSet", f"{CONTAINER}.livenessProbe.httpGet.path", "/health/ready"),
    Break(checks.network.probes_ask_what_the_gateway_answers, "readinessProbe asks the port http", "StatefulSet", f"{CONTAINER}.readinessProbe.httpGet.port", "http"),
    Break(checks.network.probes_ask_what_the_gateway_answers, "startupProbe asks None", "StatefulSet", f"{CONTAINER}.startupProbe", GONE),
    Break(checks.network.metrics_are_scraped_once, "nobody scrapes it rightly", "StatefulSet", "spec|template|metadata|annotations|prometheus.io/port", "80"),
    Break(checks.network.metrics_are_scraped_once, "and by annotations", "StatefulSet", "spec|template|metadata|annotations|prometheus.io/scrape", "true", MONITORED),
    Break(checks.network.metrics_are_scraped_once, "is not there", "ServiceMonitor", "spec.endpoints.0.port", "http", MONITORED),
    Break(checks.network.all_traffic_is_denied_by_default, "no policy denies", "NetworkPolicy/default-deny", "spec.policyTypes", ["Ingress"]),
    Break(checks.network.all_traffic_is_denied_by_default, "no policy denies", "NetworkPolicy/default-deny", "spec.egress", [{}]),
    Break(checks.network.all_traffic_is_denied_by_default, "no policy denies", "NetworkPolicy/default-deny", "spec.podSelector", {"matchLabels": {"a": "b"}}),
    Break(checks.network.the_gateway_reaches_what_it_needs, "('TCP', 8883)", "NetworkPolicy/gateway-to-broker", "spec.egress.0.ports.1", GONE),
    Break(checks.network.the_gateway_reaches_what_it_needs, "('UDP', 53)", "NetworkPolicy/gateway-to-dns", "spec.podSelector.matchLabels.app", "x"),
    Break(checks.network.the_gateway_reaches_what_it_needs, "Job/retire", "Job", "spec|template|metadata|labels|app.kubernetes.io/name", "x", RETIRE),
    Break(checks.network.the_gateway_reaches_what_it_needs, "a rule for everything", "NetworkPolicy/gateway-to-database", "spec.egress.0.to", GONE),
    Break(checks.network.the_gateway_reaches_what_it_needs, "opens the metadata service", "NetworkPolicy/gateway-to-endpoints", "spec.egress.0.to.0.ipBlock.except", GONE),
    Break(checks.network.only_monitoring_comes_in, "Prometheus may not", "NetworkPolicy/monitoring", "spec.policyTypes", ["Egress"]),
    Break(checks.network.only_monitoring_comes_in, "more or less than", "NetworkPolicy/monitoring", "spec.ingress.0.ports", GONE),
    Break(checks.network.only_monitoring_comes_in, "more than a namespace", "NetworkPolicy/monitoring", "spec.ingress.0.from.0.namespaceSelector", {}),
]

ENVIRONMENT = [
    Break(checks.environment.names_are_settings, "DB_PASSWROD_FILE is no setting", "ConfigMap", "data.DB_PASSWROD_FILE", "x"),
    Break(checks.environment.names_are_settings, "INBOX is no setting", "StatefulSet", f"{CONTAINER}.env.+", {"name": "INBOX", "value": "x"}),
    Break(checks.environment.required_settings_are_there, "DB_HOST is required", "ConfigMap", "data.DB_HOST", GONE),
    Break(checks.environment.required_settings_are_there, "DB_PASSWORD is required", "ConfigMap", "data.DB_PASSWORD_FILE", GONE),
    Break(checks.environment.the_client_id_is_the_pods_name, "is not the pod's name", "StatefulSet", f"{CONTAINER}.env.0", {"name": "MQTT_CLIENT_ID", "value": "x"}),
    Break(checks.environment.services_set_nothing, "may set settings", "StatefulSet", f"{POD}.enableServiceLinks", GONE),
]

CREDENTIALS = [
    Break(checks.credentials.secret_settings_are_files, "DB_PASSWORD stands", "ConfigMap", "data.DB_PASSWORD", "x"),
    Break(checks.credentials.secret_settings_are_files, "a whole Secret", "StatefulSet", f"{CONTAINER}.envFrom.+", {"secretRef": {"name": "x"}}),
    Break(checks.credentials.secret_settings_are_files, "brings a Secret", "StatefulSet", f"{CONTAINER}.env.+", {"name": "DB_USER", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}),
    Break(checks.credentials.files_are_in_a_mounted_secret, "not in a mounted Secret", "ConfigMap", "data.DB_PASSWORD_FILE", "/etc/password"),
    Break(checks.credentials.files_are_in_a_mounted_secret, "none of the files", "ConfigMap", "data.DB_PASSWORD_FILE", "/run/secrets/database/pass"),
    Break(checks.credentials.files_are_in_a_mounted_secret, "may be missing", "StatefulSet", f"{POD}.volumes.1.secret.optional", True),
    Break(checks.credentials.files_are_in_a_mounted_secret, "has no key pw", "StatefulSet", f"{POD}.volumes.1.secret.items.0.key", "pw"),
    Break(checks.credentials.files_are_in_a_mounted_secret, "has no key password", "Secret/mqtt-gateway-database", "data", {"pw": ""}, SITE),
    Break(checks.credentials.references_lead_somewhere, "no Secret other", "StatefulSet", f"{POD}.volumes.1.secret.secretName", "other"),
    Break(checks.credentials.references_lead_somewhere, "no Secret mqtt-gateway-database", "StatefulSet", f"{POD}.volumes.1.secret.secretName", "mqtt-gateway-database", SITE),
    Break(checks.credentials.references_lead_somewhere, "no ConfigMap", "StatefulSet", f"{CONTAINER}.envFrom.0.configMapRef.name", "x"),
    Break(checks.credentials.references_lead_somewhere, "no ServiceAccount", "StatefulSet", f"{POD}.serviceAccountName", GONE),
    Break(checks.credentials.nothing_here_is_a_secret, "password is not one", "Secret/mqtt-gateway-database", "data.password", "aHVudGVyMgo=", SITE),
    Break(checks.credentials.nothing_here_is_a_secret, "token is not one", "Secret/mqtt-gateway-broker", "stringData.token", "hunter2", SITE),
]

STORAGE = [
    Break(checks.storage.volumes_and_mounts_agree, "there is no volume log", "StatefulSet", f"{POD}.volumes.0.name", "logs"),
    Break(checks.storage.volumes_and_mounts_agree, "nobody mounts spare", "StatefulSet", f"{POD}.volumes.+", {"name": "spare", "emptyDir": {}}),
    Break(checks.storage.volumes_and_mounts_agree, "two volumes at", "StatefulSet", f"{CONTAINER}.volumeMounts.1.mountPath", "/var/lib/mqtt-gateway"),
    Break(checks.storage.the_inbox_outlives_the_pod, "not on a claimed volume", "ConfigMap", "data.INBOX_DIR", "/var/log/mqtt-gateway/inbox"),
    Break(checks.storage.the_inbox_outlives_the_pod, "may be deleted", "StatefulSet", "spec.persistentVolumeClaimRetentionPolicy.whenScaled", "Delete"),
    Break(checks.storage.the_inbox_outlives_the_pod, "may be deleted", "StatefulSet", "spec.persistentVolumeClaimRetentionPolicy", GONE),
    Break(checks.storage.the_inbox_fits_its_volume, "too near", "ConfigMap", "data.INBOX_MAX_BYTES", "10737418240"),
    Break(checks.storage.the_inbox_fits_its_volume, "too near", "StatefulSet", "spec.volumeClaimTemplates.0.spec.resources.requests.storage", "7Gi"),
    Break(checks.storage.the_inbox_fits_its_volume, "is not set", "ConfigMap", "data.INBOX_MAX_BYTES", GONE),
    Break(checks.storage.what_is_written_can_be_written, "LOG_DIR (./log) cannot", "ConfigMap", "data.LOG_DIR", "./log"),
    Break(checks.storage.what_is_written_can_be_written, "LOG_DIR (/tmp) cannot", "ConfigMap", "data.LOG_DIR", "/tmp"),
    Break(checks.storage.what_is_written_can_be_written, "INBOX_DIR", "StatefulSet", f"{CONTAINER}.volumeMounts.0.readOnly", True),
]

SECURITY = [
    Break(checks.security.the_namespace_is_restricted, "does not enforce", "Namespace", "metadata|labels|pod-security.kubernetes.io/enforce", "baseline"),
    Break(checks.security.pods_are_restricted, "hostNetwork", "StatefulSet", f"{POD}.hostNetwork", True),
    Break(checks.security.pods_are_restricted, "kind that is not allowed", "StatefulSet", f"{POD}.volumes.0", {"name": "log", "hostPath": {"path": "/"}}),
    Break(checks.security.pods_are_restricted, "sysctls", "StatefulSet", f"{POD}.securityContext.sysctls", [{"name": "a", "value": "b"}]),
    Break(checks.security.pods_are_restricted, "seccompProfile", "StatefulSet", f"{POD}.securityContext.seccompProfile.type", "Unconfined"),
    Break(checks.security.pods_are_restricted, "runAsNonRoot", "StatefulSet", f"{POD}.securityContext.runAsNonRoot", GONE),
    Break(checks.security.pods_are_restricted, "runAsUser", "StatefulSet", f"{POD}.securityContext.runAsUser", 0),
    Break(checks.security.pods_are_restricted, "runAsGroup", "StatefulSet", f"{POD}.securityContext.runAsGroup", "65532"),
    Break(checks.security.pods_are_restricted, "Job/retire", "Job", f"{POD}.securityContext.fsGroup", GONE, RETIRE),
    Break(checks.security.containers_are_restricted, "allowPrivilegeEscalation", "StatefulSet", f"{CONTAINER}.securityContext.allowPrivilegeEscalation", GONE),
    Break(checks.security.containers_are_restricted, "privileged", "StatefulSet", f"{CONTAINER}.securityContext.privileged", True),
    Break(checks.security.containers_are_restricted, "readOnlyRootFilesystem", "StatefulSet", f"{CONTAINER}.securityContext.readOnlyRootFilesystem", False),
    Break(checks.security.containers_are_restricted, "capabilities", "StatefulSet", f"{CONTAINER}.securityContext.capabilities.add", ["NET_ADMIN"]),
    Break(checks.security.containers_are_restricted, "capabilities", "StatefulSet", f"{CONTAINER}.securityContext.capabilities.drop", ["NET_RAW"]),
    Break(checks.security.containers_are_restricted, "procMount", "StatefulSet", f"{CONTAINER}.securityContext.procMount", "Unmasked"),
    Break(checks.security.containers_are_restricted, "runAsUser differs", "StatefulSet", f"{CONTAINER}.securityContext.runAsUser", 0),
    Break(checks.security.containers_are_restricted, "port of the node", "StatefulSet", f"{CONTAINER}.ports.0.hostPort", 8080),
    Break(checks.security.containers_are_restricted, "/helper: allowPrivilegeEscalation", "StatefulSet", f"{POD}.initContainers", [{"name": "helper", "image": "x:0.1.0"}]),
    Break(checks.security.no_token_is_mounted, "gives its token away", "ServiceAccount", "automountServiceAccountToken", GONE),
    Break(checks.security.no_token_is_mounted, "mounts a token", "StatefulSet", f"{POD}.automountServiceAccountToken", True),
    Break(checks.security.no_token_is_mounted, "mounts a token", "StatefulSet", f"{POD}.volumes.+", {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
    Break(checks.security.nothing_is_executed, "starts a program", "StatefulSet", f"{CONTAINER}.lifecycle.preStop.exec", {"command": ["sleep", "5"]}),
    Break(checks.security.nothing_is_executed, "starts a program", "StatefulSet", f"{CONTAINER}.livenessProbe.exec", {"command": ["true"]}),
    Break(checks.security.nothing_is_executed, "starts a program", "StatefulSet", f"{CONTAINER}.command", ["sh"]),
    Break(checks.security.images_are_pinned, "mqtt-gateway:latest", "StatefulSet", f"{CONTAINER}.image", "mqtt-gateway:latest"),
    Break(checks.security.images_are_pinned, "mqtt-gateway is not", "StatefulSet", f"{CONTAINER}.image", "mqtt-gateway"),
]

AVAILABILITY = [
    Break(checks.availability.one_pod_may_be_evicted, "exactly one", "PodDisruptionBudget", "spec.maxUnavailable", 0),
    Break(checks.availability.one_pod_may_be_evicted, "exactly one", "PodDisruptionBudget", "spec.maxUnavailable", GONE),
    Break(checks.availability.one_pod_may_be_evicted, "holds up nodes", "PodDisruptionBudget", "spec.unhealthyPodEvictionPolicy", GONE),
    Break(checks.availability.one_pod_may_be_evicted, "there is no", "PodDisruptionBudget", "kind", "Other"),
    Break(checks.availability.there_is_time_to_drain, "killed after 30 s", "StatefulSet", f"{POD}.terminationGracePeriodSeconds", GONE),
    Break(checks.availability.there_is_time_to_drain, "drains for 60 s", "ConfigMap", "data.DRAIN_DEADLINE_SECONDS", "60"),
    Break(checks.availability.there_is_time_to_start, "to start", "StatefulSet", f"{CONTAINER}.startupProbe.failureThreshold", 3),
    Break(checks.availability.there_is_time_to_start, "to show life", "StatefulSet", f"{CONTAINER}.livenessProbe.failureThreshold", GONE),
    Break(checks.availability.resources_are_bounded, "requests are missing", "StatefulSet", f"{CONTAINER}.resources.requests.cpu", GONE),
    Break(checks.availability.resources_are_bounded, "memory has no limit", "StatefulSet", f"{CONTAINER}.resources.limits.memory", GONE),
    Break(checks.availability.resources_are_bounded, "the processor has a limit", "StatefulSet", f"{CONTAINER}.resources.limits.cpu", "1"),
    Break(checks.availability.replicas_are_spread, "kubernetes.io/hostname is None", "StatefulSet", f"{POD}.topologySpreadConstraints.1", GONE),
    Break(checks.availability.replicas_are_spread, "is DoNotSchedule", "StatefulSet", f"{POD}.topologySpreadConstraints.0.whenUnsatisfiable", "DoNotSchedule"),
    Break(checks.availability.rollouts_go_one_by_one, "by itself", "StatefulSet", "spec.updateStrategy.type", "OnDelete"),
    Break(checks.availability.rollouts_go_one_by_one, "several pods", "StatefulSet", "spec.updateStrategy.rollingUpdate.maxUnavailable", 2),
    Break(checks.availability.rollouts_go_one_by_one, "keeps others", "StatefulSet", "spec.podManagementPolicy", GONE),
    Break(checks.availability.rollouts_go_one_by_one, "as soon as", "StatefulSet", "spec.minReadySeconds", GONE),
]

BEHAVIOR = "spec.advanced.horizontalPodAutoscalerConfig.behavior"
TRIGGER = "spec.triggers.0"

SCALING = [
    Break(checks.scaling.replicas_are_shards, "3 shards on 4", "StatefulSet", "spec.replicas", 4, SHARDED),
    Break(checks.scaling.replicas_are_shards, "not from the pod's name", "StatefulSet", f"{CONTAINER}.env.1", {"name": "SHARD_INDEX", "value": "0"}, SHARDED),
    Break(checks.scaling.replicas_are_shards, "without SHARD_COUNT", "ConfigMap", "data.SHARD_COUNT", GONE, SHARDED),
    Break(checks.scaling.replicas_are_shards, "in a group and sharded", "ConfigMap", "data.SHARED_GROUP", "x", SHARDED),
    Break(checks.scaling.replicas_are_shards, "each take every message", "ConfigMap", "data.SHARED_GROUP", GONE),
    Break(checks.scaling.the_autoscaler_strands_nothing, "scales nothing", "ScaledObject", "spec.scaleTargetRef.name", "x", SITE),
    Break(checks.scaling.the_autoscaler_strands_nothing, "both set the number", "StatefulSet", "spec.replicas", 3, SITE),
    Break(checks.scaling.the_autoscaler_strands_nothing, "number of shards", "ConfigMap", "data.SHARD_COUNT", "3", SITE),
    Break(checks.scaling.the_autoscaler_strands_nothing, "inboxes behind", "ScaledObject", f"{BEHAVIOR}.scaleDown.selectPolicy", GONE, SITE),
    Break(checks.scaling.the_autoscaler_strands_nothing, "above the most", "ScaledObject", "spec.maxReplicaCount", 2, SITE),
    Break(checks.scaling.the_autoscaler_strands_nothing, "silence for health", "ScaledObject", f"{TRIGGER}.metadata.ignoreNullValues", GONE, SITE),
    Break(checks.scaling.the_autoscaler_strands_nothing, "age for an amount", "ScaledObject", f"{TRIGGER}.metricType", GONE, SITE),
    Break(checks.scaling.the_autoscaler_strands_nothing, "looks at {'other'}", "ScaledObject", f"{TRIGGER}.metadata.query", 'a{namespace="other"}', SITE),
    Break(checks.scaling.the_autoscaler_strands_nothing, "every namespace", "ScaledObject", f"{TRIGGER}.metadata.query", "a", SITE),
    Break(checks.scaling.who_retires_is_gone, "with the inbox", "Job", f"{POD}.volumes.0.persistentVolumeClaim.claimName", "inbox-mqtt-gateway-4", RETIRE),
    Break(checks.scaling.who_retires_is_gone, "is still there", "StatefulSet", "spec.replicas", 4, RETIRE),
    Break(checks.scaling.who_retires_is_gone, "is no pod of", "Job", f"{CONTAINER}.env.0.value", "mqtt-gateway", RETIRE),
]

SCHEMAS = [
    Break(checks.schemas.documents_are_valid, "replicaCount", "StatefulSet", "spec.replicaCount", 3),
    Break(checks.schemas.documents_are_valid, f"(Kubernetes {checks.schemas.OLDEST})", "StatefulSet", f"{CONTAINER}.imagePolicy", "x"),
    Break(checks.schemas.documents_are_valid, "'3'", "StatefulSet", "spec.replicas", "3"),
    Break(checks.schemas.documents_are_valid, "has no batch/v7 Job", "Job", "apiVersion", "batch/v7", RETIRE),
    Break(checks.schemas.documents_are_valid, "cooldown", "ScaledObject", "spec.cooldown", 300, SITE),
    Break(checks.schemas.documents_are_valid, "3601", "ScaledObject", f"{BEHAVIOR}.scaleDown.stabilizationWindowSeconds", 3601, SITE),
    Break(checks.schemas.documents_are_valid, "intervall", "ServiceMonitor", "spec.endpoints.0.intervall", "15s", MONITORED),
    Break(checks.schemas.documents_are_unique, "is there 2 times", "NetworkPolicy/default-deny", "metadata.name", "gateway-to-dns"),
    Break(checks.schemas.documents_are_unique, "several namespaces", "Service", "metadata.namespace", GONE),
]

ALL = [*NETWORK, *ENVIRONMENT, *CREDENTIALS, *STORAGE, *SECURITY, *AVAILABILITY, *SCALING, *SCHEMAS]


@pytest.mark.parametrize("broken", ALL, ids=str)
def test_the_check_complains(broken: Break) -> None:
    documents = broken.rendering.documents()
    assert broken.check(documents) == []
    change(documents, broken)
    complaints = broken.check(documents)
    assert any(broken.complaint in complaint for complaint in complaints), complaints


def test_every_check_is_seen_to_fail() -> None:
    assert {broken.check.__name__ for broken in ALL} == set(checks.ALL)
