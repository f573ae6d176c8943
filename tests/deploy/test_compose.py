"""compose.yaml, without an engine: its references, its files and the gateway's settings."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from checks.environment import documented
from image import DOCKERFILE, final
from kustomize import ROOT

FILE = ROOT / "deploy/docker/compose.yaml"
Compose = dict[str, Any]
COMPOSE: Compose = yaml.safe_load(FILE.read_text())
CONDITIONS = ("service_healthy", "service_completed_successfully", "service_started")


def mounts(service: Compose) -> list[tuple[str, str]]:
    """Source and target of each."""
    return [(mount.split(":")[0], mount.split(":")[1]) for mount in service.get("volumes", [])]


def references_lead_somewhere(compose: Compose) -> list[str]:
    complaints = []
    for name, service in compose["services"].items():
        volumes = [source for source, _ in mounts(service) if not source.startswith(".")]
        for kind, used in (("volumes", volumes), ("secrets", service.get("secrets", []))):
            complaints += [f"{name}: {kind} has no {one}" for one in used if one not in compose[kind]]
        given = service.get("depends_on", {})
        needed = given if isinstance(given, dict) else dict.fromkeys(given, {"condition": "service_started"})
        for other, how in needed.items():
            awaited = compose["services"].get(other)
            if awaited is None or how["condition"] not in CONDITIONS:
                complaints.append(f"{name}: cannot wait for {other}")
            elif how["condition"] == "service_healthy" and "healthcheck" not in awaited:
                complaints.append(f"{name}: {other} has no healthcheck")
        paths = [value for key, value in service.get("environment", {}).items() if key.endswith("_FILE")]
        held = [f"/run/secrets/{secret}" for secret in service.get("secrets", [])]
        complaints += [f"{name}: {path} is not mounted" for path in paths if path not in held]
    return complaints


def files_are_there(compose: Compose) -> list[str]:
    """But for the secrets, which README.md makes."""
    paths = [source for service in compose["services"].values() for source, _ in mounts(service) if source[0] == "."]
    return [f"{path} is not there" for path in paths if not (FILE.parent / path).resolve().is_file()]


def the_gateway_is_hardened(compose: Compose) -> list[str]:
    gateway = compose["services"]["gateway"]
    wanted = {
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "stop_grace_period": "60s",
    }
    return [f"{name} is not {value}" for name, value in wanted.items() if gateway.get(name) != value]


def what_the_image_writes_to_is_on_volumes(compose: Compose) -> list[str]:
    gateway = compose["services"]["gateway"]
    written = [value.split("=")[1] for line in final(DOCKERFILE.read_text(), "ENV") for value in line.split()]
    targets = {target for source, target in mounts(gateway) if source in compose["volumes"]}
    return [f"{path} is on no volume" for path in written if path not in targets]


def names_are_settings(compose: Compose) -> list[str]:
    names = compose["services"]["gateway"]["environment"]
    return [f"{name} is no setting" for name in names if name not in documented()]


def no_secret_is_written_down(compose: Compose) -> list[str]:
    return [
        f"{name}: {key}"
        for name, service in compose["services"].items()
        for key in service.get("environment", {})
        if "PASSWORD" in key and not key.endswith("_FILE") and key != "MARIADB_RANDOM_ROOT_PASSWORD"
    ]


def ports_are_on_loopback(compose: Compose) -> list[str]:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    return [port for port in ports if not port.startswith("127.0.0.1:")]


def logs_are_bounded(compose: Compose) -> list[str]:
    """By a driver that is named, because a daemon may have another default, which refuses these options."""
    complaints = []
    for name, service in compose["services"].items():
        logging = service.get("logging", {})
        options = logging.get("options", {})
        if logging.get("driver") != "json-file":
            complaints.append(f"{name}: its log has the driver {logging.get('driver')}")
        size, files = str(options.get("max-size", "")), str(options.get("max-file", ""))
        if not re.fullmatch(r"[1-9]\d?m", size) or not re.fullmatch(r"[1-9]", files):
            complaints.append(f"{name}: its log has no bound")
    return complaints


def error_files_are_bounded(compose: Compose) -> list[str]:
    """Of whoever writes to that volume."""
    return [
        f"{name}: the error files have no bound"
        for name, service in compose["services"].items()
        if "log" in [source for source, _ in mounts(service)]
        and not str(service.get("environment", {}).get("LOG_DIR_MAX_BYTES", "")).isdigit()
    ]


def images_are_pinned(compose: Compose) -> list[str]:
    images = [service["image"] for service in compose["services"].values()]
    return [image for image in images if image.count(":") != 1 or not image.split(":")[1].lstrip("v")[0].isdigit()]


def of(name: str, **fields: Any) -> Callable[[Compose], Any]:
    return lambda compose: compose["services"][name].update(fields)


def environment(name: str, **fields: Any) -> Callable[[Compose], Any]:
    return lambda compose: compose["services"][name]["environment"].update(fields)


CHECKS: list[tuple[Callable[[Compose], list[str]], Callable[[Compose], Any]]] = [
    (references_lead_somewhere, of("gateway", volumes=["nowhere:/x"])),
    (references_lead_somewhere, of("mariadb", secrets=["nothing"])),
    (references_lead_somewhere, of("grafana", depends_on=["nobody"])),
    (references_lead_somewhere, of("gateway", depends_on={"grafana": {"condition": "service_healthy"}})),
    (references_lead_somewhere, environment("gateway", DB_PASSWORD_FILE="/run/secrets/other")),
    (files_are_there, of("mosquitto", volumes=["./nothing.conf:/x:ro"])),
    (the_gateway_is_hardened, of("gateway", read_only=False)),
    (the_gateway_is_hardened, of("gateway", cap_drop=[])),
    (the_gateway_is_hardened, of("gateway", security_opt=[])),
    (the_gateway_is_hardened, of("gateway", stop_grace_period="10s")),
    (what_the_image_writes_to_is_on_volumes, of("gateway", volumes=["log:/var/log/mqtt-gateway"])),
    (names_are_settings, environment("gateway", DB_HOSTS="x")),
    (no_secret_is_written_down, environment("mariadb", MARIADB_PASSWORD="x")),
    (ports_are_on_loopback, of("mosquitto", ports=["1883:1883"])),
    (logs_are_bounded, lambda compose: compose["services"]["mariadb"].pop("logging")),
    (logs_are_bounded, of("gateway", logging={"options": {"max-size": "10m", "max-file": "5"}})),
    (logs_are_bounded, of("gateway", logging={"driver": "json-file", "options": {"max-size": "10m"}})),
    (logs_are_bounded, of("gateway", logging={"driver": "json-file", "options": {"max-file": "5"}})),
    (error_files_are_bounded, lambda compose: compose["services"]["gateway"]["environment"].pop("LOG_DIR_MAX_BYTES")),
    (error_files_are_bounded, environment("migrate", LOG_DIR_MAX_BYTES="64 MiB")),
    (images_are_pinned, of("grafana", image="grafana/grafana:latest")),
]


@pytest.mark.parametrize("check", dict.fromkeys(check for check, _ in CHECKS))
def test_it_holds(check: Callable[[Compose], list[str]]) -> None:
    assert check(COMPOSE) == []


@pytest.mark.parametrize(("check", "harm"), CHECKS)
def test_it_is_seen_when_it_does_not_hold(check: Callable[[Compose], list[str]], harm: Callable[[Compose], Any]) -> None:
    broken = copy.deepcopy(COMPOSE)
    harm(broken)
    assert check(broken) != []


def test_provisioned_paths_are_those_that_are_mounted() -> None:
    grafana = mounts(COMPOSE["services"]["grafana"])
    provider = yaml.safe_load((FILE.parent / "grafana/dashboards.yaml").read_text())["providers"][0]
    assert ("../grafana/mqtt-gateway.json", f"{provider['options']['path']}/mqtt-gateway.json") in grafana
    config = yaml.safe_load((FILE.parent / "prometheus.yaml").read_text())
    (target,) = config["scrape_configs"][0]["static_configs"][0]["targets"]
    name, _, port = target.partition(":")
    assert COMPOSE["services"][name]["environment"]["ADMIN_BIND"] == f"0.0.0.0:{port}"
    rules = [target for source, target in mounts(COMPOSE["services"]["prometheus"]) if "rules" in source]
    assert rules == [f"/etc/prometheus/{config['rule_files'][0]}"]


def test_the_broker_bounds_messages_as_the_gateway_does() -> None:
    default, _ = documented()["MAX_PAYLOAD_BYTES"]
    bound = f"message_size_limit {default.strip('`')}"
    assert bound in (FILE.parent / "mosquitto.conf").read_text().splitlines()
    assert bound in (ROOT / "deploy/kubernetes/README.md").read_text()
