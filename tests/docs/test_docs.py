"""What the documentation says is checked: its links lead somewhere, its commands run.

A fenced block opened by ```` ```sh test ```` is run, block after block of a page in one shell, on a fresh
server with an agent. A page without such blocks is checked for links only.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.client import Client
from support.processes import REPO, SLIPWAY
from support.server import Server

PAGES = sorted([*REPO.glob("*.md"), *(REPO / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```sh test\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def name(page: Path) -> str:
    return str(page.relative_to(REPO))


def prose(text: str) -> str:
    """The page without its code, in which brackets mean something else."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(prose(page.read_text())):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file.read_text())):
            broken.append(target)
    assert not broken


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server").start()
    yield server
    server.stop()


@pytest.mark.parametrize("page", [page for page in PAGES if BLOCK.search(page.read_text())], ids=name)
def test_commands_run_as_written(page: Path, tmp_path: Path, server: Server) -> None:
    # The reader of a page has the official client, `slipway` on the path, and a key.
    client = Client(server.admin, tmp_path / "home")
    env = client.env | {"PATH": f"{SLIPWAY.parent}:{client.env['PATH']}", "WANDB_ENTITY": server.admin.name}
    script = "set -euxo pipefail\n" + "\n".join(BLOCK.findall(page.read_text()))
    # What a page starts in the background ends with its shell, while there is a server: an agent sees its jobs
    # to their end.
    script = "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n" + script
    done = subprocess.run(
        ["bash", "-c", script], cwd=client.work, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{name(page)}:\n{done.stdout}\n{done.stderr}"
