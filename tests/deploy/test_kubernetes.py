"""The manifests for Kubernetes: every rendering against every check."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import checks
from checks import schemas, security
from checks.network import ENDPOINTS
from kustomize import MANIFESTS, NAMESPACE, ROOT, Kustomization, the_namespace
from manifests import Document, Documents, named, of_kind, settings, stateful, title, workloads
from renderings import ALL, FLOWS, RETIRE, SHARDED, SHARED, SINGLE, SITE, SITE_SHARDED, SITE_WITH_ALL, Rendering, retired_from


@pytest.mark.parametrize("check", checks.ALL.values(), ids=checks.ALL.keys())
@pytest.mark.parametrize("rendering", ALL, ids=str)
def test_it_holds(rendering: Rendering, check: checks.Check) -> None:
    assert check(rendering.documents()) == []


def test_every_kustomization_is_rendered() -> None:
    places = {path.parent.relative_to(MANIFESTS).as_posix() for path in MANIFESTS.rglob("kustomization.yaml")}
    rendered = {rendering.place for rendering in ALL}
    rendered |= {f"components/{name}" for rendering in ALL for name in rendering.components}
    assert places == rendered


def test_every_file_is_used_by_a_kustomization() -> None:
    unused = []
    for path in MANIFESTS.rglob("*"):
        nearest = next(parent for parent in path.parents if (parent / "kustomization.yaml").exists() or parent == ROOT)
        if path.is_dir() or path.name in ("kustomization.yaml", "README.md", ".gitignore") or path == NAMESPACE:
            continue
        if path.relative_to(nearest).as_posix() not in (nearest / "kustomization.yaml").read_text():
            unused.append(path)
    assert unused == []


@pytest.mark.parametrize(
    ("rendering", "replicas", "mode"),
    [(SINGLE, 1, {}), (SHARED, 3, {"SHARED_GROUP": "mqtt-gateway"}), (SHARDED, 3, {"SHARD_COUNT": "3"})],
    ids=str,
)
def test_an_overlay_is_what_its_name_says(rendering: Rendering, replicas: int, mode: dict[str, str]) -> None:
    (gateway,) = stateful(rendering.documents())
    assert gateway.document["spec"]["replicas"] == replicas
    found = settings(rendering.documents(), gateway)
    names = ("SHARED_GROUP", "SHARD_COUNT")
    assert {name: found[name].value for name in names if name in found} == mode


def test_the_namespace_is_applied_by_itself() -> None:
    namespace = the_namespace()
    assert schemas.documents_are_valid([namespace]) == []
    assert security.the_namespace_is_restricted_and_stays(namespace) == []
    (gateway,) = stateful(SINGLE.documents())
    assert gateway.document["metadata"]["namespace"] == namespace["metadata"]["name"]
    assert f"kubectl apply -f deploy/kubernetes/{NAMESPACE.name}" in (MANIFESTS / "README.md").read_text()


@pytest.mark.parametrize("rendering", [rendering for rendering in ALL if not rendering.components], ids=str)
def test_what_needs_an_operator_is_asked_for(rendering: Rendering) -> None:
    """Without a component that names it. An example is applied as it stands, by somebody who tries it."""
    assert schemas.kinds_are_those_of_every_cluster(rendering.documents()) == []


def test_an_operator_that_is_needed_is_seen() -> None:
    found = schemas.kinds_are_those_of_every_cluster(SITE_WITH_ALL.documents())
    assert [complaint.split("/")[0] for complaint in found] == ["ScaledObject", "ServiceMonitor"]


def test_the_site_names_every_component_in_a_comment() -> None:
    """One that is taken out of its comment has to be right."""
    text = (MANIFESTS / SITE.place / "kustomization.yaml").read_text()
    listed = re.findall(r"^#   - \.\./\.\./components/([\w-]+) ", text, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (MANIFESTS / "components").iterdir())
    assert sorted(listed) == sorted(SITE_WITH_ALL.components)


def test_a_new_number_of_shards_rolls_every_pod() -> None:
    """By the hash in the name of the settings: a pod that kept the old number would keep flows that others have."""
    names = set()
    for documents in (SHARDED.documents(), SITE_SHARDED.documents()):
        (gateway,) = stateful(documents)
        (config,) = of_kind(documents, "ConfigMap")
        assert gateway.gateway["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]
        names.add(config["metadata"]["name"])
    assert len(names) == 2


def test_a_new_password_leaves_no_secret_with_the_old_one() -> None:
    """Each is read again, so the names need not change, and those of before are not left behind."""
    names = {secret["metadata"]["name"] for secret in of_kind(SITE.documents(), "Secret")}
    assert names == {"mqtt-gateway-broker", "mqtt-gateway-database"}


def test_what_kubernetes_adds_to_a_claim_template_is_written_out() -> None:
    """Otherwise each `kubectl apply` finds a difference, and says that the StatefulSet is configured."""
    for rendering in (SINGLE, SHARED, SHARDED):
        (gateway,) = stateful(rendering.documents())
        for claim in gateway.document["spec"]["volumeClaimTemplates"]:
            assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
            assert (claim["spec"]["volumeMode"], claim["status"]) == ("Filesystem", {"phase": "Pending"})


def test_a_component_takes_away_only_its_own_annotations() -> None:
    def annotations(rendering: Rendering) -> set[str]:
        (gateway,) = stateful(rendering.documents())
        return set(gateway.document["spec"]["template"]["metadata"]["annotations"])

    gone = annotations(SITE) - annotations(SITE_WITH_ALL)
    assert gone == {f"prometheus.io/{name}" for name in ("scrape", "port", "path")}


# What a site may make of it, and the job has to follow.
ANOTHER_SITE: Kustomization = {
    "namespace": "elsewhere",
    "resources": ["overlays/shared"],
    "images": [{"name": "mqtt-gateway", "newName": "registry.example/team/gateway", "newTag": "0.1.0"}],
    "secretGenerator": [{"name": "mqtt-gateway-database", "literals": ["url=put-the-url-here\n"]}],
    "configMapGenerator": [
        {
            "name": "mqtt-gateway-settings",
            "behavior": "merge",
            "literals": ["DATABASE_URL_FILE=/run/secrets/database/url"],
        }
    ],
    "patches": [
        {
            "target": {"kind": "ConfigMap", "name": "mqtt-gateway-settings"},
            "patch": yaml.safe_dump([{"op": "remove", "path": "/data/DB_PASSWORD_FILE"}]),
        },
        {
            "target": {"kind": "StatefulSet", "name": "mqtt-gateway"},
            "patch": yaml.safe_dump(
                [
                    {"op": "replace", "path": "/spec/template/spec/volumes/1/secret/items", "value": [{"key": "url", "path": "url"}]},
                    {"op": "add", "path": "/spec/template/spec/imagePullSecrets", "value": [{"name": "registry"}]},
                    {"op": "add", "path": "/spec/template/spec/tolerations", "value": [{"key": "edge", "operator": "Exists"}]},
                ]
            ),
        },
    ],
}
A_SHARDED_SITE: Kustomization = {"resources": ["overlays/sharded"]}


def complaints_of_job(documents: Documents) -> list[str]:
    """Of one that is not as the pod that it stands for, but for its name, its inbox, its command and its end."""
    (gateway,) = stateful(documents)
    (job,) = (workload for workload in workloads(documents) if not workload.is_stateful)
    own, other = job.pod, gateway.pod
    complaints = []
    if job.document["metadata"]["namespace"] != gateway.document["metadata"]["namespace"]:
        complaints.append("namespace")
    complaints += [
        f"pod: {field}"
        for field in set(own) | set(other)
        if field not in ("containers", "volumes", "restartPolicy", "topologySpreadConstraints") and own.get(field) != other.get(field)
    ]
    ours = {field for field in own["containers"][0] if field not in ("args", "env")}
    theirs = {field for field in other["containers"][0] if field not in ("args", "env", "ports") and "Probe" not in field}
    complaints += [
        f"container: {field}"
        for field in ours | theirs
        if own["containers"][0].get(field) != other["containers"][0].get(field)
    ]

    def without_inbox(volumes: list[Document]) -> list[Document]:
        return [volume for volume in volumes if volume["name"] != "inbox"]

    if without_inbox(own["volumes"]) != without_inbox(other["volumes"]):
        complaints.append("volumes")
    return complaints


@pytest.mark.parametrize(
    "documents",
    [
        pytest.param(RETIRE.documents, id="example"),
        pytest.param(lambda: retired_from(ANOTHER_SITE), id="another"),
        pytest.param(lambda: retired_from(A_SHARDED_SITE), id="sharded"),
    ],
)
def test_the_job_runs_as_the_pod_that_it_stands_for(documents: Callable[[], Documents]) -> None:
    """Same image, user, settings, mounts and secrets, whatever the site has made of them."""
    rendered = documents()
    assert complaints_of_job(rendered) == []
    for name, check in checks.ALL.items():
        assert check(rendered) == [], name


def test_the_job_follows_its_site() -> None:
    documents = retired_from(ANOTHER_SITE)
    job = named(documents, "Job", "retire-mqtt-gateway-3")
    assert job and job["metadata"]["namespace"] == "elsewhere"
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example/team/gateway:0.1.0"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["tolerations"] == [{"key": "edge", "operator": "Exists"}]
    (database,) = [volume for volume in pod["volumes"] if volume["name"] == "database"]
    assert database["secret"]["items"] == [{"key": "url", "path": "url"}]
    (secret,) = of_kind(documents, "Secret")
    assert database["secret"]["secretName"] == secret["metadata"]["name"]


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("metadata.namespace", "other", "namespace"),
        ("spec.template.spec.containers.0.image", "mqtt-gateway:0.0.9", "container: image"),
        ("spec.template.spec.imagePullSecrets", [], "pod: imagePullSecrets"),
        ("spec.template.spec.tolerations", [], "pod: tolerations"),
        ("spec.template.spec.nodeSelector", {"a": "b"}, "pod: nodeSelector"),
        ("spec.template.spec.volumes.2.secret.items", [], "volumes"),
        ("spec.template.spec.containers.0.livenessProbe", {}, "container: livenessProbe"),
    ],
)
def test_a_job_that_is_not_as_the_pod_is_seen(path: str, value: Any, complaint: str) -> None:
    documents = retired_from(ANOTHER_SITE)
    (job,) = of_kind(documents, "Job")
    place: Any = job
    *parents, last = path.split(".")
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[last] = value
    assert complaints_of_job(documents) == [complaint]


def test_the_job_alone_is_applied_by_its_label() -> None:
    labels = {title(document): document["metadata"].get("labels", {}) for document in RETIRE.documents()}
    chosen = [name for name, found in labels.items() if found.get("app.kubernetes.io/component") == "retire"]
    assert chosen == ["Job/retire-mqtt-gateway-3"]


def test_the_job_applies_the_flows_of_its_config_map() -> None:
    documents = FLOWS.documents()
    (job,) = (workload for workload in workloads(documents) if workload.applies_flows)
    (mount,) = [mount for mount in job.gateway["volumeMounts"] if mount["name"] == "flows"]
    (volume,) = [volume for volume in job.pod["volumes"] if volume["name"] == "flows"]
    config = named(documents, "ConfigMap", volume["configMap"]["name"])
    assert config and config["metadata"]["namespace"] == job.document["metadata"]["namespace"]
    assert [f"{mount['mountPath']}/{name}" for name in config["data"]] == job.gateway["args"][2:]
    labels = {title(document): document["metadata"].get("labels", {}) for document in documents}
    chosen = {name for name, found in labels.items() if found.get("app.kubernetes.io/component") == "flows"}
    assert chosen == {job.name, title(config)}


def test_the_placeholders_are_the_only_secrets_in_the_repository() -> None:
    places = [path for path in MANIFESTS.rglob("*") if path.parent.name == "secrets"]
    listed = subprocess.run(
        ["git", "ls-files", "--", *map(str, places)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    kept = [Path(line) for line in listed.stdout.splitlines()]
    assert kept, "there are examples"
    assert all(path.suffix == ".example" or path.name == ".gitignore" for path in kept), kept
    real = MANIFESTS / "examples/site/secrets/database-password"
    assert subprocess.run(["git", "check-ignore", "--quiet", str(real)], cwd=ROOT, check=False).returncode == 0


def test_the_image_is_made_for_this_user_and_command() -> None:
    dockerfile = ROOT / "deploy/docker/Dockerfile"
    if not dockerfile.exists():
        pytest.skip("there is no Dockerfile yet")
    lines = dockerfile.read_text().splitlines()
    last = {word: [line for line in lines if line.startswith(f"{word} ")][-1] for word in ("USER", "ENTRYPOINT")}
    (gateway,) = stateful(SINGLE.documents())
    context = gateway.pod["securityContext"]
    assert last["USER"] == f"USER {context['runAsUser']}:{context['runAsGroup']}"
    # `args` come behind it.
    assert last["ENTRYPOINT"].endswith('mqtt-gateway"]')


def test_the_documents_of_the_directory_name_what_is_there() -> None:
    readme = (MANIFESTS / "README.md").read_text()
    for path in MANIFESTS.rglob("kustomization.yaml"):
        assert f"`{path.parent.relative_to(MANIFESTS).as_posix()}`" in readme, path
    for name in credential_paths():
        assert name in readme, name
    for name, value in ENDPOINTS.items():
        assert f"kubectl label namespace my-endpoints {name}={value}" in readme


def credential_paths() -> set[str]:
    """Where the files for rows of `mqtt_servers` are, which nothing but the documentation tells people."""
    (gateway,) = stateful(SINGLE.documents())
    mounts = {mount["mountPath"] for mount in gateway.gateway["volumeMounts"]}
    return {path for path in mounts if "/broker" in path}
