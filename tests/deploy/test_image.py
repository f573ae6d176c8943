"""The Dockerfile, without an engine: what can be told from its text, and each check seen to fail."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import image
from gateway import binary
from image import DOCKERFILE, IGNORED
from kustomize import ROOT

TEXT = DOCKERFILE.read_text()


def in_the_context(text: str) -> list[str]:
    return image.copied_paths_are_in_the_context(text, IGNORED.read_text())


def linked(text: str) -> list[str]:
    libraries = re.findall(r"^\s*(lib\S+) =>", _ldd(), re.MULTILINE)
    assert "libc.so.6" in libraries
    return image.libraries_are_installed(text, libraries)


def _ldd() -> str:
    return subprocess.run(["ldd", binary()], capture_output=True, text=True, check=True).stdout


CHECKS: list[tuple[Callable[[str], list[str]], str, str]] = [
    (image.copied_paths_exist, "COPY src src", "COPY sources src"),
    (in_the_context, "COPY LICENSE ", "COPY docs "),
    (image.the_user_is_a_number_and_not_root, "USER 65532:65532", "USER gateway"),
    (image.the_user_is_a_number_and_not_root, "USER 65532:65532", "USER 0:0"),
    (image.the_user_is_a_number_and_not_root, "USER 65532:65532\n", ""),
    (image.no_secret_is_baked_in, "ARG REVISION=unknown", "ARG DB_PASSWORD=unknown"),
    (image.no_secret_is_baked_in, "ENV INBOX_DIR=", "ENV API_TOKEN=x INBOX_DIR="),
    (image.images_are_pinned, "FROM rust:1.95.0-slim-bookworm", "FROM rust:slim-bookworm"),
    (image.images_are_pinned, "FROM rust:1.95.0-slim-bookworm", "FROM rust:1.95-slim-bookworm"),
    (image.the_base_gets_security_updates, "FROM debian:bookworm-slim", "FROM debian:12.11-slim"),
    (image.the_base_gets_security_updates, "FROM debian:bookworm-slim", "FROM debian:stable-slim"),
    (image.the_base_gets_security_updates, "FROM debian:bookworm-slim", "FROM debian:latest"),
    (image.the_base_gets_security_updates, "FROM debian:bookworm-slim", "FROM debian"),
    (image.the_stages_are_of_one_release, "FROM rust:1.95.0-slim-bookworm", "FROM rust:1.95.0-slim-trixie"),
    (image.the_stages_are_of_one_release, "FROM debian:bookworm-slim", "FROM debian:trixie-slim"),
    (image.it_runs_without_a_shell, 'ENTRYPOINT ["/usr/local/bin/mqtt-gateway"]', "ENTRYPOINT mqtt-gateway"),
    (image.the_build_is_a_release, "RUN cargo build --locked", "RUN cargo build --features failpoints --locked"),
    (image.the_build_is_a_release, "RUN cargo build --locked --release", "RUN cargo build --release"),
    (image.the_build_is_a_release, " --no-default-features", ""),
    (linked, " libgcc-s1 ", " "),
]


@pytest.mark.parametrize("check", dict.fromkeys(check for check, _, _ in CHECKS))
def test_it_holds(check: Callable[[str], list[str]]) -> None:
    assert check(TEXT) == []


@pytest.mark.parametrize(("check", "right", "wrong"), CHECKS)
def test_it_is_seen_when_it_does_not_hold(check: Callable[[str], list[str]], right: str, wrong: str) -> None:
    broken = TEXT.replace(right, wrong)
    assert broken != TEXT
    assert check(broken) != []


def test_a_context_that_takes_everything_is_seen() -> None:
    assert image.copied_paths_are_in_the_context(TEXT, "target\n") != []


@pytest.mark.parametrize("wrong", ["`docker stop --timeout 60`", "`docker stop -t 10`", "`docker stop`"])
def test_the_page_says_how_to_stop_it(wrong: str) -> None:
    page = (ROOT / "deploy/docker/README.md").read_text()
    assert image.the_page_gives_time_to_drain(page) == []
    assert image.the_page_gives_time_to_drain(page.replace("`docker stop -t 60`", wrong)) != []


def test_base_and_versions_are_those_of_the_manifest() -> None:
    manifest = (ROOT / "Cargo.toml").read_text()
    version = re.search(r'^version = "(.*)"$', manifest, re.MULTILINE)
    rust = re.search(r'^rust-version = "(.*)"$', manifest, re.MULTILINE)
    assert version and rust
    assert image.final(TEXT, "ARG")[0] == f"VERSION={version[1]}"
    assert f"FROM rust:{rust[1]}." in TEXT
    assert f'image.base.name="{image.final(TEXT, "FROM")[0]}"' in TEXT


def test_build_packages_are_those_of_the_scripts() -> None:
    listed = re.search(r"^BUILD_PACKAGES=\((.*)\)$", (ROOT / "scripts/lib.sh").read_text(), re.MULTILINE)
    assert listed and f" {listed[1]} " in TEXT


def test_the_stubs_stand_for_every_package_of_the_workspace() -> None:
    """A package whose stub is not cleaned away would be taken for the real one."""
    names = [
        found[1]
        for path in (ROOT, ROOT / "entity", ROOT / "migration")
        if (found := re.search(r'^name = "(.*)"$', (path / "Cargo.toml").read_text(), re.MULTILINE))
    ]
    (cleaned,) = [part for one in image.instructions(TEXT) for part in one.value.split("&&") if "cargo clean" in part]
    assert re.findall(r"--package (\S+)", cleaned) == names
    # The last one is only for tests, and not built here.
    assert 'members = ["entity", "migration", "test-support"]' in (ROOT / "Cargo.toml").read_text()


def test_hadolint_has_nothing_to_say(tmp_path: Path) -> None:
    beside = Path(sys.executable).parent / "hadolint"
    command = str(beside) if beside.exists() else shutil.which("hadolint")
    if command is None:
        pytest.skip("hadolint is not installed")
    result = subprocess.run([command, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    (tmp_path / "Dockerfile").write_text(TEXT.replace("debian:bookworm-slim", "debian"))
    assert subprocess.run([command, str(tmp_path / "Dockerfile")], capture_output=True, check=False).returncode != 0
