"""The page's commands for a new database, run on one, and what the gateway says of them."""

from __future__ import annotations

import re
import shlex
import sqlite3
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from checks.credentials import KEYS_BY_HAND
from checks.network import NEEDED
from gateway import PATIENCE_SECONDS, Environment, environment_of, migrated, run, running
from kustomize import MANIFESTS
from manifests import mount_of, stateful, volume
from renderings import SHARED, SINGLE

PAGE = MANIFESTS / "README.md"


@dataclass(frozen=True)
class Commands:
    """Those of the page, by what they are for."""

    without_tls: str
    with_tls: str
    with_certificate: str
    first_flow: str


def commands() -> Commands:
    section = PAGE.read_text().split("## First start\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^ *```sh\n *gateway ((?:servers|flows) .*?)^ *```$", section, re.MULTILINE | re.DOTALL)
    return Commands(*(block.replace("\\\n", " ") for block in blocks))


def follow(environment: Environment, directory: Path, command: str) -> subprocess.CompletedProcess[str]:
    """In place of the pod."""
    return run(environment, directory, *shlex.split(command))


def execute(environment: Environment, *texts: str) -> list[tuple[Any, ...]]:
    """Answers the rows of the last one."""
    database = sqlite3.connect(environment["DATABASE_URL"].removeprefix("sqlite:"))
    rows: list[tuple[Any, ...]] = []
    with database:
        for text in texts:
            rows = database.execute(text).fetchall()
    database.close()
    return rows


def complaints_of_gateway(environment: Environment, directory: Path) -> list[str]:
    """What `check` says of rows that it does not even try. Nobody listens where the others lead to."""
    execute(environment, "UPDATE mqtt_servers SET host = '127.0.0.1', port = 1")
    told = run(environment, directory, "check").stdout
    assert "ok   schema" in told, told
    tried = "FAIL broker: 127.0.0.1:1: "
    lines = [line for line in told.splitlines() if " broker" in line and not line.startswith("DB_")]
    return [line for line in lines if not line.startswith(tried)] if lines else ["no broker is tried"]


SEQUENCES = {
    "without TLS": lambda page: [page.without_tls],
    "with TLS": lambda page: [page.with_tls],
    "with a certificate": lambda page: [page.with_tls, page.with_certificate],
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_the_gateway_refuses_none_of_the_rows(name: str, tmp_path: Path) -> None:
    environment = migrated(environment_of(SHARED, tmp_path), tmp_path)
    for command in SEQUENCES[name](commands()):
        done = follow(environment, tmp_path, command)
        assert done.returncode == 0, done.stderr
    (row,) = execute(environment, "SELECT host, port, tls, username FROM mqtt_servers WHERE enabled")
    port = 1883 if name == "without TLS" else 8883
    assert (row[1], bool(row[2]), row[3]) == (port, port == 8883, "file:/run/secrets/broker/username")
    assert ("TCP", port) in NEEDED
    assert row[0].endswith(".mqtt.svc"), "what the network policy lets out"
    assert complaints_of_gateway(environment, tmp_path) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("--tls true ", ""), ("--port 8883", "--port 88830"), ("edit 1 ", "edit 2 ")],
)
def test_a_wrong_command_changes_nothing(right: str, wrong: str, tmp_path: Path) -> None:
    environment = migrated(environment_of(SHARED, tmp_path), tmp_path)
    command = commands().with_tls
    assert right in command
    assert follow(environment, tmp_path, command.replace(right, wrong)).returncode != 0
    assert execute(environment, "SELECT host, port FROM mqtt_servers") == [("127.0.0.1", 1883)]


def complaints_of_text(text: str) -> list[str]:
    """The row is the one that the first start has made, and files have to be where the pod has them."""
    complaints = [f"row {row} is not made" for row in re.findall(r"\bservers edit (\S+)", text) if row != "1"]
    (pod,) = stateful(SINGLE.documents())
    for path in re.findall(r" (?:file:)?(/[\w./-]+)", text):
        mount = mount_of(pod, path)
        secret = mount and (volume(pod, mount["name"]) or {}).get("secret")
        if not secret or path.rpartition("/")[2] not in KEYS_BY_HAND[secret["secretName"]]:
            complaints.append(f"{path} is in no pod")
    return complaints


def test_each_command_is_about_the_first_row_and_files_of_the_pod() -> None:
    text = "".join(vars(commands()).values())
    assert "/run/secrets/broker-tls/" in text
    assert complaints_of_text(text) == []
    assert len(complaints_of_text(text.replace("edit 1", "edit 2"))) == 3
    assert complaints_of_text(text.replace("ca.crt", "ca.pem")) == ["/run/secrets/broker-tls/ca.pem is in no pod"]
    assert complaints_of_text(text.replace("secrets/broker-tls/tls.key", "tls/tls.key"))


def flows_of(environment: Environment, directory: Path) -> str:
    """What the gateway says of the flows that it found."""
    with running(environment, directory) as gateway:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := re.search(r'"message":"Flows loaded".*', gateway.log.read_text())):
            assert time.monotonic() < deadline, gateway.log.read_text()
            time.sleep(0.05)
        assert gateway.stop() == 0
        return found[0]


def test_the_gateway_takes_the_first_flow(tmp_path: Path) -> None:
    environment = migrated(environment_of(SINGLE, tmp_path), tmp_path)
    execute(environment, "UPDATE mqtt_servers SET port = 1")
    added = follow(environment, tmp_path, commands().first_flow)
    assert added.returncode == 0, added.stderr
    told = flows_of(environment, tmp_path)
    assert '"flows":1' in told and '"rejected":0' in told, told
    execute(environment, "UPDATE flows SET topic = 'sensors/#/temperature'")
    assert '"rejected":1' in flows_of(environment, tmp_path)
