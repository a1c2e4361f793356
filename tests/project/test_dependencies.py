"""The bans and licences of deny.toml hold for what is really linked into the binary."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest

from support.processes import REPO


@pytest.fixture(scope="module")
def policy() -> dict:
    return tomllib.loads((REPO / "deny.toml").read_text())


@pytest.fixture(scope="module")
def packages() -> list[tuple[str, str, str]]:
    """(name, version, licence) of every package that a build for this platform uses."""
    tree = subprocess.run(
        ["cargo", "tree", "--locked", "--workspace", "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}|{l}"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = set()
    for line in tree.splitlines():
        package, _, licence = line.partition("|")
        if not package:
            continue
        name, version = package.split()[:2]
        found.add((name, version.removeprefix("v"), licence.removesuffix(" (*)")))
    return sorted(found)


def licence_allowed(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be met with allowed licences only. Old manifests write `/` for OR."""
    python = re.sub(r"\s*/\s*", " OR ", expression)
    tokens = re.findall(r"\(|\)|AND\b|OR\b|[A-Za-z0-9.+-]+(?: WITH [A-Za-z0-9.-]+)?", python)
    words = {"AND": "and", "OR": "or", "(": "(", ")": ")"}
    return bool(eval(" ".join(words.get(token, str(token in allowed)) for token in tokens)))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("Unlicense/MIT", True),
        ("(MIT OR GPL-2.0) AND Unicode-3.0", True),
        ("Apache-2.0 WITH LLVM-exception", True),
    ],
)
def test_licence_expressions_are_read_as_written(policy: dict, expression: str, expected: bool) -> None:
    assert licence_allowed(expression, set(policy["licenses"]["allow"])) is expected


def test_every_licence_is_allowed(policy: dict, packages: list[tuple[str, str, str]]) -> None:
    allowed = set(policy["licenses"]["allow"])
    refused = [package for package in packages if not licence_allowed(package[2] or "none", allowed)]
    assert not refused


def test_no_banned_package_is_built(policy: dict, packages: list[tuple[str, str, str]]) -> None:
    def banned(name: str, version: str) -> str | None:
        for ban in policy["bans"]["deny"]:
            limit = ban.get("version", "").removeprefix("<")
            if ban["name"] == name and (not limit or int(version.split(".")[0]) < int(limit)):
                return ban["reason"]
        return None

    found = {(name, version): reason for name, version, _ in packages if (reason := banned(name, version))}
    assert not found
