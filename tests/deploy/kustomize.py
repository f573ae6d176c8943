"""Renders kustomizations with whatever the machine has for it."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from manifests import Document, Documents

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
NAMESPACE = MANIFESTS / "namespace.yaml"

# Components came with kustomize 3.7, replacements with 4.2; from 4.5 on, kubectl (1.24) tells which one it has.
# Debian 12 has kubectl 1.20.
OLDEST = (4, 5)


Kustomization = dict[str, Any]


class RenderError(Exception):
    """A kustomization that cannot be rendered; the message is the tool's own."""


@functools.cache
def renderer() -> tuple[str, ...] | None:
    """The command that renders the directory named after it, or none when the machine has none that is new enough."""
    for command, version in (
        (("kubectl", "kustomize"), ["kubectl", "version", "--client", "--output=yaml"]),
        (("kustomize", "build"), ["kustomize", "version"]),
    ):
        if shutil.which(command[0]) and _version_of_kustomize(version) >= OLDEST:
            return command
    return None


def _version_of_kustomize(command: list[str]) -> tuple[int, int]:
    """An old kubectl does not tell which kustomize it has, and counts as 0."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"(?:kustomizeVersion: |kustomize/|^)v(\d+)\.(\d+)", result.stdout, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else (0, 0)


@functools.cache
def _rendered(directory: str) -> str:
    command = renderer()
    assert command, "callers ask for a renderer first"
    # No home, no cluster: rendering must not depend on either.
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    result = subprocess.run(
        [*command, directory], capture_output=True, text=True, check=False, env=environment
    )
    if result.returncode != 0:
        raise RenderError(f"{directory}: {result.stderr.strip()}")
    if result.stderr.strip():
        raise RenderError(f"{directory}: rendered with a warning: {result.stderr.strip()}")
    return result.stdout


def render(place: str, components: tuple[str, ...] = ()) -> Documents:
    """The documents of a directory below `deploy/kubernetes`, with components laid over it. A fresh copy each time."""
    text = _composed(place, components) if components else _rendered(str(MANIFESTS / place))
    return list(yaml.safe_load_all(text))


def the_namespace() -> Document:
    """It is applied by itself, and rendered by nobody."""
    (namespace,) = yaml.safe_load_all(NAMESPACE.read_text())
    return dict(namespace)


def render_copy(place: str, resource: str, site: Kustomization) -> Documents:
    """The same of a copy in which `resource` is a site of one's own; the paths of that one begin at `deploy/kubernetes`."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        shutil.copytree(MANIFESTS / place, copy)
        file = copy / "kustomization.yaml"
        text = file.read_text()
        assert text.count(f"- {resource}\n") == 1
        file.write_text(text.replace(f"- {resource}\n", "- ../site\n"))
        (Path(scratch) / "site").mkdir()
        paths = [_relative(name, f"{scratch}/site") for name in site["resources"]]
        (Path(scratch) / "site/kustomization.yaml").write_text(yaml.safe_dump({**site, "resources": paths}))
        return list(yaml.safe_load_all(_rendered(str(copy))))


def _relative(name: str, directory: str) -> str:
    """Kustomize takes no absolute paths."""
    return os.path.relpath(MANIFESTS / name, os.path.realpath(directory))


@functools.cache
def _composed(place: str, components: tuple[str, ...]) -> str:
    with tempfile.TemporaryDirectory() as scratch:
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [_relative(place, scratch)],
            "components": [_relative(f"components/{name}", scratch) for name in components],
        }
        (Path(scratch) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return _rendered(scratch)
