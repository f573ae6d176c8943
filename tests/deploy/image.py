"""The Dockerfile as instructions, and what checks ask of it. Each check returns its complaints."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kustomize import ROOT

DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
IGNORED = ROOT / "deploy/docker/Dockerfile.dockerignore"

# The package of Debian 12 that each shared library comes from. A library that is not here is a complaint.
PACKAGES = {
    "libgcc_s.so.1": "libgcc-s1",
    "libm.so.6": "libc6",
    "libc.so.6": "libc6",
}


@dataclass(frozen=True)
class Instruction:
    stage: int
    word: str
    value: str


def instructions(text: str) -> list[Instruction]:
    """Continued lines are joined, comments left out; stages count from 0."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found: list[Instruction] = []
    stage = -1
    for line in filter(str.strip, joined.splitlines()):
        word, _, value = line.partition(" ")
        stage += word == "FROM"
        found.append(Instruction(stage, word, value.strip()))
    return found


def final(text: str, word: str) -> list[str]:
    every = instructions(text)
    return [one.value for one in every if one.word == word and one.stage == every[-1].stage]


def copied(text: str) -> list[str]:
    """What is copied out of the context."""
    values = [one.value for one in instructions(text) if one.word == "COPY" and not one.value.startswith("--from=")]
    return [source for value in values for source in value.split()[:-1]]


def copied_paths_exist(text: str) -> list[str]:
    return [f"{path} is not there" for path in copied(text) if not (ROOT / path).exists()]


def copied_paths_are_in_the_context(text: str, ignored: str) -> list[str]:
    """The list must begin with `*`: what is not named stays outside."""
    rules = [line for line in ignored.splitlines() if line and not line.startswith("#")]
    if rules[:1] != ["*"]:
        return ["not everything is left out at first"]
    taken = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    lost = [path for path in copied(text) if not any(path == one or path.startswith(f"{one}/") for one in taken)]
    return [f"{path} is not in the context" for path in lost]


def the_user_is_a_number_and_not_root(text: str) -> list[str]:
    users = final(text, "USER")
    good = users and re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])
    return [] if good else [f"the user is {users[-1:] or 'root'}"]


def no_secret_is_baked_in(text: str) -> list[str]:
    names = re.compile(r"(?i)passw|secret|token|DATABASE_URL|api_?key|credential")
    values = [one for one in instructions(text) if one.word in ("ENV", "ARG")]
    return [f"{one.word} {one.value}" for one in values if names.search(one.value)]


def images_are_pinned(text: str) -> list[str]:
    """What compiles by its exact version."""
    values = [one.value.split()[0] for one in instructions(text) if one.word == "FROM"][:-1]
    return [f"{value} has no exact version" for value in values if not re.search(r":\d+\.\d+\.\d+[.\w-]*$", value)]


def the_base_gets_security_updates(text: str) -> list[str]:
    """By the name of a release of Debian: a point release is not made again, and `stable` is another one some day."""
    (base,) = final(text, "FROM")
    return [] if re.fullmatch(r"debian:(?!stable|latest|testing)[a-z]+-slim", base) else [f"{base} is no release by its name"]


def the_stages_are_of_one_release(text: str) -> list[str]:
    """Otherwise the program is linked with other libraries than it finds."""
    release = final(text, "FROM")[0].partition(":")[2].removesuffix("-slim")
    values = [one.value for one in instructions(text) if one.word == "FROM"]
    return [f"{value} is not {release}" for value in values if release not in value]


def it_runs_without_a_shell(text: str) -> list[str]:
    words = {word: final(text, word) for word in ("ENTRYPOINT", "CMD")}
    return [f"{word} is {values}" for word, values in words.items() if len(values) != 1 or values[0][0] != "["]


def the_build_is_a_release(text: str) -> list[str]:
    """Locked, and without features: failpoints are never in a release, tools never in the image."""
    builds = [part for one in instructions(text) for part in one.value.split("&&") if "cargo build" in part]
    wrong = [part for part in builds if "--locked --release --no-default-features" not in part or "--features" in part or "--all-f" in part]
    return [f"{part.strip()} is no release" for part in wrong] or ([] if builds else ["nothing is built"])


def the_page_gives_time_to_drain(page: str) -> list[str]:
    """By `-t`, which every Docker knows; its long form has had two names."""
    found = re.search(r"`docker stop -t (\d+)`", page)
    return [] if found and int(found[1]) >= 60 else ["the page does not say how to stop it with time to drain"]


def libraries_are_installed(text: str, libraries: list[str]) -> list[str]:
    installed = {word for run in final(text, "RUN") if "apt-get install" in run for word in run.split()}
    return [
        f"{library} is in no package of the final stage"
        for library in libraries
        if PACKAGES.get(library, library) not in installed
    ]
