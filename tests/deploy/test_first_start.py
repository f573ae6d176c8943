"""The page's statements for a new database, run on one, and what the gateway says of them."""

from __future__ import annotations

import re
import sqlite3
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
class Statements:
    """Those of the page, by what they are for."""

    database: str
    look: str
    without_tls: str
    with_tls: str
    with_certificate: str
    first_flow: str


def statements() -> Statements:
    blocks = re.findall(r"^ *```sql\n(.*?)^ *```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return Statements(*blocks)


def database_of(environment: Environment) -> sqlite3.Connection:
    return sqlite3.connect(environment["DATABASE_URL"].removeprefix("sqlite:"))


def execute(environment: Environment, *texts: str) -> list[tuple[Any, ...]]:
    """Answers the rows of the last one."""
    database = database_of(environment)
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
    "with all of it and without it again": lambda page: [page.with_tls, page.with_certificate, page.without_tls],
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_the_gateway_refuses_none_of_the_rows(name: str, tmp_path: Path) -> None:
    environment = migrated(environment_of(SHARED, tmp_path), tmp_path)
    texts = SEQUENCES[name](statements())
    rows = execute(environment, *texts, "SELECT host, port, tls, username FROM mqtt_servers WHERE enabled")
    (row,) = rows
    is_encrypted = texts[-1] != statements().without_tls
    port = 8883 if is_encrypted else 1883
    assert row[1:] == (port, int(is_encrypted), "file:/run/secrets/broker/username")
    assert ("TCP", port) in NEEDED
    assert row[0].endswith(".mqtt.svc"), "what the network policy lets out"
    assert complaints_of_gateway(environment, tmp_path) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("tls = TRUE, ", ""), ("port = 8883", "port = 88830"), ("WHERE id = 1", "WHERE id = 2")],
)
def test_a_row_that_would_be_refused_or_is_missed_is_seen(right: str, wrong: str, tmp_path: Path) -> None:
    environment = migrated(environment_of(SHARED, tmp_path), tmp_path)
    text = statements().with_tls
    assert right in text
    execute(environment, text.replace(right, wrong))
    if "port" in right or "id" in right:
        (row,) = execute(environment, "SELECT host, port FROM mqtt_servers")
        assert row[1] != 8883
    else:
        assert any("`tls` is not true" in line for line in complaints_of_gateway(environment, tmp_path))


def test_what_is_looked_at_is_the_row_that_is_changed(tmp_path: Path) -> None:
    environment = migrated(environment_of(SINGLE, tmp_path), tmp_path)
    assert execute(environment, statements().look) == [(1, "127.0.0.1", 1883, 1)]


def complaints_of_text(text: str) -> list[str]:
    """An UPDATE without a condition would make one broker of all; files have to be where the pod has them."""
    complaints = [
        f"{statement!r} changes every row"
        for statement in re.findall(r"^ *UPDATE [^;]*;", text, re.MULTILINE)
        if not re.search(r"\bWHERE id = 1;", statement)
    ]
    (pod,) = stateful(SINGLE.documents())
    for path in re.findall(r"'(?:file:)?(/[\w./-]+)'", text):
        mount = mount_of(pod, path)
        secret = mount and (volume(pod, mount["name"]) or {}).get("secret")
        if not secret or path.rpartition("/")[2] not in KEYS_BY_HAND[secret["secretName"]]:
            complaints.append(f"{path} is in no pod")
    return complaints


def test_each_statement_is_about_one_row_and_files_of_the_pod() -> None:
    text = "".join(vars(statements()).values())
    assert "/run/secrets/broker-tls/" in text
    assert complaints_of_text(text) == []
    assert len(complaints_of_text(text.replace("WHERE id = 1", ""))) == 3
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
    execute(environment, "UPDATE mqtt_servers SET port = 1", statements().first_flow)
    told = flows_of(environment, tmp_path)
    assert '"flows":1' in told and '"rejected":0' in told, told
    execute(environment, "UPDATE flows SET topic = 'sensors/#/temperature'")
    assert '"rejected":1' in flows_of(environment, tmp_path)
