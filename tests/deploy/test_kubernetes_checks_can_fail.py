"""Breaks a rendering in one place and expects the check that is responsible to complain, and to name the culprit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import checks
from checks import availability, credentials, environment, network, scaling, schemas, security, storage
from kustomize import the_namespace
from manifests import Document, Documents, of_kind
from renderings import RETIRE, SHARDED, SHARED, SITE, Rendering

# In place of a value: the field is taken away.
GONE = object()

POD = "spec.template.spec"
CONTAINER = f"{POD}.containers.0"
METADATA = "spec|template|metadata"

A_TOKEN = {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
A_HELPER = {"name": "helper", "image": "x:0.1.0"}
FROM_A_SECRET = {"name": "DB_USER", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}

SCALED = Rendering("overlays/shared", ("keda",))
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


def breaks(check: checks.Check, *cases: tuple[Any, ...]) -> list[Break]:
    """What each case has: the complaint, the document, the path, the value, and the rendering if it is another one."""
    return [Break(check, *case) for case in cases]


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
    *breaks(
        network.selectors_take_the_right_pods,
        ("misses", "Service", "spec|selector|app.kubernetes.io/component", "x"),
        ("misses", "PodDisruptionBudget", "spec|selector|matchLabels|app.kubernetes.io/name", "x"),
        ("misses", "StatefulSet", f"{METADATA}|labels|app.kubernetes.io/component", "x"),
        ("misses", "StatefulSet", f"{POD}.topologySpreadConstraints.0.labelSelector.matchLabels.app", "x"),
        ("selects by nothing", "PodDisruptionBudget", "spec.selector", {}),
        ("takes Job", "Service", "spec|selector|app.kubernetes.io/component", GONE, RETIRE),
        ("selects no Service", "ServiceMonitor", "spec.selector.matchLabels.app", "x", MONITORED),
    ),
    *breaks(
        network.ports_lead_to_the_gateway,
        ("has the port http", "Service", "spec.ports.0.targetPort", "http"),
        ("is not the port admin", "StatefulSet", f"{CONTAINER}.ports.0.containerPort", 9090),
        ("is not the port admin", "ConfigMap", "data.ADMIN_BIND", "off"),
        ("kubelet does not reach", "ConfigMap", "data.ADMIN_BIND", "127.0.0.1:8080"),
        ("there is no Service", "StatefulSet", "spec.serviceName", "x"),
    ),
    *breaks(
        network.probes_ask_what_the_gateway_answers,
        ("livenessProbe asks /health/ready", "StatefulSet", f"{CONTAINER}.livenessProbe.httpGet.path", "/health/ready"),
        ("readinessProbe asks the port http", "StatefulSet", f"{CONTAINER}.readinessProbe.httpGet.port", "http"),
        ("startupProbe asks None", "StatefulSet", f"{CONTAINER}.startupProbe", GONE),
    ),
    *breaks(
        network.metrics_are_scraped_once,
        ("nobody scrapes it rightly", "StatefulSet", f"{METADATA}|annotations|prometheus.io/port", "80"),
        ("and by annotations", "StatefulSet", f"{METADATA}|annotations|prometheus.io/scrape", "true", MONITORED),
        ("is not there", "ServiceMonitor", "spec.endpoints.0.port", "http", MONITORED),
    ),
    *breaks(
        network.all_traffic_is_denied_by_default,
        ("no policy denies", "NetworkPolicy/default-deny", "spec.policyTypes", ["Ingress"]),
        ("no policy denies", "NetworkPolicy/default-deny", "spec.egress", [{}]),
        ("no policy denies", "NetworkPolicy/default-deny", "spec.podSelector", {"matchLabels": {"a": "b"}}),
    ),
    *breaks(
        network.the_gateway_reaches_what_it_needs,
        ("('TCP', 8883)", "NetworkPolicy/gateway-to-broker", "spec.egress.0.ports.1", GONE),
        ("('UDP', 53)", "NetworkPolicy/gateway-to-dns", "spec.podSelector.matchLabels.app", "x"),
        ("Job/retire", "Job", f"{METADATA}|labels|app.kubernetes.io/name", "x", RETIRE),
        ("a rule for everything", "NetworkPolicy/gateway-to-database", "spec.egress.0.to", GONE),
        ("opens the metadata service", "NetworkPolicy/gateway-to-endpoints", "spec.egress.0.to.0.ipBlock.except", GONE),
    ),
    *breaks(
        network.endpoints_in_the_cluster_are_reached,
        ("port 8080", "NetworkPolicy/gateway-to-endpoints", "spec.egress.1.ports.2", GONE),
        ("port 443", "NetworkPolicy/gateway-to-endpoints", "spec.egress.1.to.0.namespaceSelector", {}),
        ("port 80 ", "NetworkPolicy/gateway-to-endpoints", "spec.egress.1", GONE),
    ),
    *breaks(
        network.only_monitoring_comes_in,
        ("Prometheus may not", "NetworkPolicy/monitoring", "spec.policyTypes", ["Egress"]),
        ("more or less than", "NetworkPolicy/monitoring", "spec.ingress.0.ports", GONE),
        ("more than a namespace", "NetworkPolicy/monitoring", "spec.ingress.0.from.0.namespaceSelector", {}),
    ),
]

ENVIRONMENT = [
    *breaks(
        environment.names_are_settings,
        ("DB_PASSWROD_FILE is no setting", "ConfigMap", "data.DB_PASSWROD_FILE", "x"),
        ("INBOX is no setting", "StatefulSet", f"{CONTAINER}.env.+", {"name": "INBOX", "value": "x"}),
    ),
    *breaks(
        environment.required_settings_are_there,
        ("DB_HOST is required", "ConfigMap", "data.DB_HOST", GONE),
        ("DB_PASSWORD is required", "ConfigMap", "data.DB_PASSWORD_FILE", GONE),
    ),
    *breaks(
        environment.the_client_id_is_the_pods_name,
        ("is not the pod's name", "StatefulSet", f"{CONTAINER}.env.0", {"name": "MQTT_CLIENT_ID", "value": "x"}),
    ),
    *breaks(
        environment.services_set_nothing,
        ("may set settings", "StatefulSet", f"{POD}.enableServiceLinks", GONE),
    ),
]

CREDENTIALS = [
    *breaks(
        credentials.secret_settings_are_files,
        ("DB_PASSWORD stands", "ConfigMap", "data.DB_PASSWORD", "x"),
        ("a whole Secret", "StatefulSet", f"{CONTAINER}.envFrom.+", {"secretRef": {"name": "x"}}),
        ("brings a Secret", "StatefulSet", f"{CONTAINER}.env.+", FROM_A_SECRET),
    ),
    *breaks(
        credentials.files_are_in_a_mounted_secret,
        ("not in a mounted Secret", "ConfigMap", "data.DB_PASSWORD_FILE", "/etc/password"),
        ("none of the files", "ConfigMap", "data.DB_PASSWORD_FILE", "/run/secrets/database/pass"),
        ("may be missing", "StatefulSet", f"{POD}.volumes.1.secret.optional", True),
        ("has no key pw", "StatefulSet", f"{POD}.volumes.1.secret.items.0.key", "pw"),
        ("has no key password", "Secret/mqtt-gateway-database", "data", {"pw": ""}, SITE),
    ),
    *breaks(
        credentials.references_lead_somewhere,
        ("no Secret other", "StatefulSet", f"{POD}.volumes.1.secret.secretName", "other"),
        ("no Secret mqtt-gateway-old", "StatefulSet", f"{POD}.volumes.1.secret.secretName", "mqtt-gateway-old", SITE),
        ("no ConfigMap", "StatefulSet", f"{CONTAINER}.envFrom.0.configMapRef.name", "x"),
        ("no ServiceAccount", "StatefulSet", f"{POD}.serviceAccountName", GONE),
    ),
    *breaks(
        credentials.nothing_here_is_a_secret,
        ("password is not one", "Secret/mqtt-gateway-database", "data.password", "aHVudGVyMgo=", SITE),
        ("token is not one", "Secret/mqtt-gateway-broker", "stringData.token", "hunter2", SITE),
    ),
]

STORAGE = [
    *breaks(
        storage.volumes_and_mounts_agree,
        ("there is no volume log", "StatefulSet", f"{POD}.volumes.0.name", "logs"),
        ("nobody mounts spare", "StatefulSet", f"{POD}.volumes.+", {"name": "spare", "emptyDir": {}}),
        ("two volumes at", "StatefulSet", f"{CONTAINER}.volumeMounts.1.mountPath", "/var/lib/mqtt-gateway"),
    ),
    *breaks(
        storage.the_inbox_outlives_the_pod,
        ("claims with labels", "StatefulSet", "spec.volumeClaimTemplates.0.metadata.labels", {"a": "b"}),
        ("not on a claimed volume", "ConfigMap", "data.INBOX_DIR", "/var/log/mqtt-gateway/inbox"),
        ("may be deleted", "StatefulSet", "spec.persistentVolumeClaimRetentionPolicy.whenScaled", "Delete"),
        ("may be deleted", "StatefulSet", "spec.persistentVolumeClaimRetentionPolicy", GONE),
    ),
    *breaks(
        storage.deleting_it_deletes_no_inbox,
        ("Namespace/mqtt-gateway would", "ServiceAccount", "kind", "Namespace"),
        ("Claim/mqtt-gateway would", "Service", "kind", "PersistentVolumeClaim"),
    ),
    *breaks(
        storage.the_inbox_fits_its_volume,
        ("too near", "ConfigMap", "data.INBOX_MAX_BYTES", "10737418240"),
        ("too near", "StatefulSet", "spec.volumeClaimTemplates.0.spec.resources.requests.storage", "7Gi"),
        ("is not set", "ConfigMap", "data.INBOX_MAX_BYTES", GONE),
    ),
    *breaks(
        storage.the_log_fits_its_volume,
        ("too near", "ConfigMap", "data.LOG_DIR_MAX_BYTES", "1073741824"),
        ("too near", "StatefulSet", f"{POD}.volumes.0.emptyDir.sizeLimit", "512Mi"),
        ("no bound", "ConfigMap", "data.LOG_DIR_MAX_BYTES", GONE),
        ("no bound", "StatefulSet", f"{POD}.volumes.0.emptyDir.sizeLimit", GONE),
        ("Job/retire", "Job", f"{POD}.volumes.1.emptyDir", {}, RETIRE),
    ),
    *breaks(
        storage.what_is_written_can_be_written,
        ("LOG_DIR (./log) cannot", "ConfigMap", "data.LOG_DIR", "./log"),
        ("LOG_DIR (/tmp) cannot", "ConfigMap", "data.LOG_DIR", "/tmp"),
        ("INBOX_DIR", "StatefulSet", f"{CONTAINER}.volumeMounts.0.readOnly", True),
    ),
]

SECURITY = [
    *breaks(
        security.pods_are_restricted,
        ("hostNetwork", "StatefulSet", f"{POD}.hostNetwork", True),
        ("kind that is not allowed", "StatefulSet", f"{POD}.volumes.0", {"name": "log", "hostPath": {"path": "/"}}),
        ("sysctls", "StatefulSet", f"{POD}.securityContext.sysctls", [{"name": "a", "value": "b"}]),
        ("seccompProfile", "StatefulSet", f"{POD}.securityContext.seccompProfile.type", "Unconfined"),
        ("runAsNonRoot", "StatefulSet", f"{POD}.securityContext.runAsNonRoot", GONE),
        ("runAsUser", "StatefulSet", f"{POD}.securityContext.runAsUser", 0),
        ("runAsGroup", "StatefulSet", f"{POD}.securityContext.runAsGroup", "65532"),
        ("Job/retire", "Job", f"{POD}.securityContext.fsGroup", GONE, RETIRE),
    ),
    *breaks(
        security.containers_are_restricted,
        ("allowPrivilegeEscalation", "StatefulSet", f"{CONTAINER}.securityContext.allowPrivilegeEscalation", GONE),
        ("privileged", "StatefulSet", f"{CONTAINER}.securityContext.privileged", True),
        ("readOnlyRootFilesystem", "StatefulSet", f"{CONTAINER}.securityContext.readOnlyRootFilesystem", False),
        ("capabilities", "StatefulSet", f"{CONTAINER}.securityContext.capabilities.add", ["NET_ADMIN"]),
        ("capabilities", "StatefulSet", f"{CONTAINER}.securityContext.capabilities.drop", ["NET_RAW"]),
        ("procMount", "StatefulSet", f"{CONTAINER}.securityContext.procMount", "Unmasked"),
        ("runAsUser differs", "StatefulSet", f"{CONTAINER}.securityContext.runAsUser", 0),
        ("port of the node", "StatefulSet", f"{CONTAINER}.ports.0.hostPort", 8080),
        ("/helper: allowPrivilegeEscalation", "StatefulSet", f"{POD}.initContainers", [A_HELPER]),
    ),
    *breaks(
        security.no_token_is_mounted,
        ("gives its token away", "ServiceAccount", "automountServiceAccountToken", GONE),
        ("mounts a token", "StatefulSet", f"{POD}.automountServiceAccountToken", True),
        ("mounts a token", "StatefulSet", f"{POD}.volumes.+", A_TOKEN),
    ),
    *breaks(
        security.nothing_is_executed,
        ("starts a program", "StatefulSet", f"{CONTAINER}.lifecycle.preStop.exec", {"command": ["sleep", "5"]}),
        ("starts a program", "StatefulSet", f"{CONTAINER}.livenessProbe.exec", {"command": ["true"]}),
        ("starts a program", "StatefulSet", f"{CONTAINER}.command", ["sh"]),
    ),
    *breaks(
        security.images_are_pinned,
        ("mqtt-gateway:latest", "StatefulSet", f"{CONTAINER}.image", "mqtt-gateway:latest"),
        ("mqtt-gateway is not", "StatefulSet", f"{CONTAINER}.image", "mqtt-gateway"),
    ),
]

AVAILABILITY = [
    *breaks(
        availability.one_pod_may_be_evicted,
        ("exactly one", "PodDisruptionBudget", "spec.maxUnavailable", 0),
        ("exactly one", "PodDisruptionBudget", "spec.maxUnavailable", GONE),
        ("holds up nodes", "PodDisruptionBudget", "spec.unhealthyPodEvictionPolicy", GONE),
        ("there is no", "PodDisruptionBudget", "kind", "Other"),
    ),
    *breaks(
        availability.there_is_time_to_drain,
        ("killed after 30 s", "StatefulSet", f"{POD}.terminationGracePeriodSeconds", GONE),
        ("drains for 60 s", "ConfigMap", "data.DRAIN_DEADLINE_SECONDS", "60"),
    ),
    *breaks(
        availability.there_is_time_to_start,
        ("to start", "StatefulSet", f"{CONTAINER}.startupProbe.failureThreshold", 3),
        ("to show life", "StatefulSet", f"{CONTAINER}.livenessProbe.failureThreshold", GONE),
        ("is noticed late", "StatefulSet", f"{CONTAINER}.startupProbe.periodSeconds", 10),
        ("that is stuck", "StatefulSet", f"{CONTAINER}.livenessProbe.terminationGracePeriodSeconds", GONE),
    ),
    *breaks(
        availability.the_end_says_why,
        ("has no reason", "StatefulSet", f"{CONTAINER}.terminationMessagePolicy", GONE),
        ("Job/retire", "Job", f"{CONTAINER}.terminationMessagePolicy", "File", RETIRE),
    ),
    *breaks(
        availability.volumes_hold_up_no_node,
        ("the volume log keeps", "StatefulSet", f"{METADATA}|annotations|{availability.SAFE_TO_EVICT}", GONE),
        ("the volume log keeps", "StatefulSet", f"{METADATA}|annotations|{availability.SAFE_TO_EVICT}", "x", MONITORED),
    ),
    *breaks(
        availability.resources_are_bounded,
        ("requests are missing", "StatefulSet", f"{CONTAINER}.resources.requests.cpu", GONE),
        ("memory has no limit", "StatefulSet", f"{CONTAINER}.resources.limits.memory", GONE),
        ("the processor has a limit", "StatefulSet", f"{CONTAINER}.resources.limits.cpu", "1"),
    ),
    *breaks(
        availability.memory_covers_the_largest_payloads,
        ("16777216 bytes in 2 lanes", "ConfigMap", "data.MAX_PAYLOAD_BYTES", "16777216"),
        ("in 8 lanes", "ConfigMap", "data.LANES", "8"),
        ("Job/retire", "Job", f"{CONTAINER}.resources.limits.memory", "128Mi", RETIRE),
    ),
    *breaks(
        availability.replicas_are_spread,
        ("kubernetes.io/hostname is None", "StatefulSet", f"{POD}.topologySpreadConstraints.1", GONE),
        ("is DoNotSchedule", "StatefulSet", f"{POD}.topologySpreadConstraints.0.whenUnsatisfiable", "DoNotSchedule"),
    ),
    *breaks(
        availability.rollouts_go_one_by_one,
        ("by itself", "StatefulSet", "spec.updateStrategy.type", "OnDelete"),
        ("several pods", "StatefulSet", "spec.updateStrategy.rollingUpdate.maxUnavailable", 2),
        ("keeps others", "StatefulSet", "spec.podManagementPolicy", GONE),
        ("as soon as", "StatefulSet", "spec.minReadySeconds", GONE),
    ),
]

BEHAVIOR = "spec.advanced.horizontalPodAutoscalerConfig.behavior"
TRIGGER = "spec.triggers.0"

SCALING = [
    *breaks(
        scaling.replicas_are_shards,
        ("3 shards on 4", "StatefulSet", "spec.replicas", 4, SHARDED),
        ("not from the pod", "StatefulSet", f"{CONTAINER}.env.1", {"name": "SHARD_INDEX", "value": "0"}, SHARDED),
        ("without SHARD_COUNT", "ConfigMap", "data.SHARD_COUNT", GONE, SHARDED),
        ("in a group and sharded", "ConfigMap", "data.SHARED_GROUP", "x", SHARDED),
        ("each take every message", "ConfigMap", "data.SHARED_GROUP", GONE),
    ),
    *breaks(
        scaling.the_autoscaler_strands_nothing,
        ("scales nothing", "ScaledObject", "spec.scaleTargetRef.name", "x", SCALED),
        ("both set the number", "StatefulSet", "spec.replicas", 3, SCALED),
        ("number of shards", "ConfigMap", "data.SHARD_COUNT", "3", SCALED),
        ("inboxes behind", "ScaledObject", f"{BEHAVIOR}.scaleDown.selectPolicy", GONE, SCALED),
        ("above the most", "ScaledObject", "spec.maxReplicaCount", 2, SCALED),
        ("silence for health", "ScaledObject", f"{TRIGGER}.metadata.ignoreNullValues", GONE, SCALED),
        ("age for an amount", "ScaledObject", f"{TRIGGER}.metricType", GONE, SCALED),
        ("another threshold", "ScaledObject", f"{TRIGGER}.metadata.threshold", "60", SCALED),
        ("looks at {'other'}", "ScaledObject", f"{TRIGGER}.metadata.query", 'a{namespace="other"}', SCALED),
        ("every namespace", "ScaledObject", f"{TRIGGER}.metadata.query", "a", SCALED),
    ),
    *breaks(
        scaling.who_retires_is_gone,
        ("with the inbox", "Job", f"{POD}.volumes.0.persistentVolumeClaim.claimName", "inbox-mqtt-gateway-4", RETIRE),
        ("is still there", "StatefulSet", "spec.replicas", 4, RETIRE),
        ("is no pod of", "Job", f"{CONTAINER}.env.0.value", "mqtt-gateway", RETIRE),
        ("does not retire", "Job", f"{CONTAINER}.args", ["run"], RETIRE),
        ("does not retire", "Job", f"{POD}.restartPolicy", "OnFailure", RETIRE),
        ("no SHARD_INDEX", "Job", f"{CONTAINER}.env.+", {"name": "SHARD_INDEX", "value": "x"}, RETIRE),
    ),
    *breaks(
        scaling.a_drained_node_is_no_attempt,
        ("uses up", "Job", "spec.podFailurePolicy.rules.0", GONE, RETIRE),
        ("uses up", "Job", "spec.podFailurePolicy.rules.0.action", "Count", RETIRE),
        ("uses up", "Job", "spec.podFailurePolicy", GONE, RETIRE),
        ("tried again", "Job", "spec.podFailurePolicy.rules.1", GONE, RETIRE),
        ("tried again", "Job", "spec.podFailurePolicy.rules.1.onExitCodes.containerName", "retire", RETIRE),
    ),
]

SCHEMAS = [
    *breaks(
        schemas.documents_are_valid,
        ("replicaCount", "StatefulSet", "spec.replicaCount", 3),
        (f"(Kubernetes {schemas.OLDEST})", "StatefulSet", f"{CONTAINER}.imagePolicy", "x"),
        ("'3'", "StatefulSet", "spec.replicas", "3"),
        ("has no batch/v7 Job", "Job", "apiVersion", "batch/v7", RETIRE),
        ("cooldown", "ScaledObject", "spec.cooldown", 300, SCALED),
        ("3601", "ScaledObject", f"{BEHAVIOR}.scaleDown.stabilizationWindowSeconds", 3601, SCALED),
        ("intervall", "ServiceMonitor", "spec.endpoints.0.intervall", "15s", MONITORED),
    ),
    *breaks(
        schemas.documents_are_unique,
        ("is there 2 times", "NetworkPolicy/default-deny", "metadata.name", "gateway-to-dns"),
        ("several namespaces", "Service", "metadata.namespace", GONE),
    ),
]

ALL = [*NETWORK, *ENVIRONMENT, *CREDENTIALS, *STORAGE, *SECURITY, *AVAILABILITY, *SCALING, *SCHEMAS]


@pytest.mark.parametrize("broken", ALL, ids=str)
def test_the_check_complains(broken: Break) -> None:
    documents = broken.rendering.documents()
    assert broken.check(documents) == []
    change(documents, broken)
    complaints = broken.check(documents)
    assert any(broken.complaint in complaint for complaint in complaints), complaints


@pytest.mark.parametrize(
    ("complaint", "place", "name"),
    [
        ("does not enforce", "labels", "pod-security.kubernetes.io/enforce"),
        ("sync-options is missing", "annotations", "argocd.argoproj.io/sync-options"),
        ("prune is missing", "annotations", "kustomize.toolkit.fluxcd.io/prune"),
    ],
)
def test_a_namespace_that_is_not_restricted_or_may_go_is_seen(complaint: str, place: str, name: str) -> None:
    namespace = the_namespace()
    namespace["metadata"][place][name] = "other"
    (found,) = security.the_namespace_is_restricted_and_stays(namespace)
    assert complaint in found


def test_every_check_is_seen_to_fail() -> None:
    assert {broken.check.__name__ for broken in ALL} == set(checks.ALL)
