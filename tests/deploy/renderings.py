"""Everything below `deploy/kubernetes` that can be applied, and the combinations that make sense."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kustomize import Kustomization, render, render_copy, renderer
from manifests import Documents


@dataclass(frozen=True)
class Rendering:
    """A directory below `deploy/kubernetes`, and components that are laid over it."""

    place: str
    components: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "+".join([self.place, *self.components])

    def documents(self) -> Documents:
        """A fresh copy; skips the test where nothing can render."""
        needs_a_renderer()
        return render(self.place, self.components)


def needs_a_renderer() -> None:
    if renderer() is None:
        pytest.skip("neither kubectl 1.24 nor kustomize 4.5, or later, is installed: manifests are not rendered")


def retired_from(site: Kustomization) -> Documents:
    """What `examples/retire` makes over a site of one's own."""
    needs_a_renderer()
    return render_copy(RETIRE.place, "../site", site)


SINGLE = Rendering("overlays/single")
SHARED = Rendering("overlays/shared")
SHARDED = Rendering("overlays/sharded")
SITE = Rendering("examples/site")
SITE_WITH_ALL = Rendering("examples/site", ("service-monitor", "keda"))
SITE_SHARDED = Rendering("examples/site-sharded")
RETIRE = Rendering("examples/retire")
FLOWS = Rendering("examples/flows")

ALL = [
    Rendering("base"),
    SINGLE,
    SHARED,
    SHARDED,
    Rendering("overlays/single", ("service-monitor",)),
    Rendering("overlays/shared", ("service-monitor",)),
    Rendering("overlays/sharded", ("service-monitor",)),
    Rendering("overlays/shared", ("keda",)),
    Rendering("overlays/shared", ("service-monitor", "keda")),
    SITE,
    SITE_WITH_ALL,
    SITE_SHARDED,
    RETIRE,
    FLOWS,
]
