"""The gateway itself, as a pod would start it, where `GATEWAY_BINARY` names one."""

from __future__ import annotations

import os
import random
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from manifests import settings, stateful
from renderings import Rendering

# For whatever a busy machine takes long for; nothing waits this long when all is well.
PATIENCE_SECONDS = 60.0

Environment = dict[str, str]


def binary() -> str:
    path = os.environ.get("GATEWAY_BINARY")
    if not path:
        pytest.skip("GATEWAY_BINARY is not set: the manifests are not shown to the gateway itself")
    return path


def environment_of(rendering: Rendering, directory: Path) -> Environment:
    """What pod 0 is started with, but for what this machine lacks: a writable root, secrets, a database."""
    documents = rendering.documents()
    (gateway,) = stateful(documents)
    (directory / "password").write_text("secret\n")
    given = {name: setting.value or "mqtt-gateway-0" for name, setting in settings(documents, gateway).items()}
    return given | {
        "PATH": os.environ["PATH"],
        "CONFIG_DIR": str(directory),
        "DB_PASSWORD_FILE": str(directory / "password"),
        # A port at which nobody listens.
        "DB_HOST": "127.0.0.1",
        "DB_PORT": "1",
        "INBOX_DIR": str(directory / "inbox"),
        "LOG_DIR": str(directory / "log"),
        "ADMIN_BIND": "127.0.0.1:0",
    }


def run(environment: Environment, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [binary(), *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def migrated(environment: Environment, directory: Path) -> Environment:
    """The same on a new SQLite database of its own."""
    of_database = {name for name in environment if name.startswith("DB_")}
    environment = {name: value for name, value in environment.items() if name not in of_database}
    environment["DATABASE_URL"] = f"sqlite:{directory / 'gateway.db'}"
    done = run(environment, directory, "migrate")
    assert done.returncode == 0, done.stderr
    return environment


def with_sqlite(environment: Environment, directory: Path) -> Environment:
    """The same, with a broker at which nobody listens."""
    environment = migrated(environment, directory)
    with sqlite3.connect(directory / "gateway.db") as database:
        database.execute("UPDATE mqtt_servers SET port = 1")
    database.close()
    return environment


@dataclass(frozen=True)
class Gateway:
    """One that runs."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; waits for the port to be there."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE_SECONDS) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)

    def wait_for(self, path: str, status: int) -> str:
        """The body of the first answer with this status."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (answer := self.get(path))[0] != status:
            assert time.monotonic() < deadline, f"{path}: {answer}\n{self.log.read_text()}"
            time.sleep(0.05)
        return answer[1]

    def stop(self) -> int:
        """As kubelet does it; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def running(environment: Environment, directory: Path) -> Iterator[Gateway]:
    port = free_port()
    log = directory / "stderr"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [binary(), "run"],
            cwd=directory,
            env=environment | {"ADMIN_BIND": f"127.0.0.1:{port}"},
            stderr=stderr,
        )
    try:
        yield Gateway(process, port, log)
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """One on which nobody listens, below those that the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(16_000, 30_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
