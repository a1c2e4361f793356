"""What the server acknowledged survives a loss of power, not only a kill.

A kill shows little: what a dead process wrote is still in the kernel's cache. Here a preloaded library
records what every file and directory held when it was last synced, and the server is started again in a
world made from that record alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import requests

from support import queues
from support.server import Server

SOURCE = Path(__file__).with_name("unsynced.c")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("unsynced") / "unsynced.so"
    subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", SOURCE, "-o", built, "-ldl"], check=True)
    return built


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "synced"
    path.mkdir()
    return path


def lose_power(root: Path, record: Path) -> None:
    """Makes `root` hold what was synced, and nothing else. `root` itself counts as synced."""

    def restore(inode: int, target: Path) -> None:
        target.mkdir()
        listing = record / f"dir-{inode}"
        if not listing.exists():
            return  # its names were never synced
        for line in listing.read_text().splitlines():
            child, kind, name = line.split(" ", 2)
            if kind == "d":
                restore(int(child), target / name)
            elif (content := record / f"file-{child}").exists():
                shutil.copy(content, target / name)
            else:
                (target / name).touch()

    inode = root.stat().st_ino
    restored = root.with_name(root.name + "-restored")
    restore(inode, restored)
    shutil.rmtree(root)
    restored.rename(root)


@pytest.mark.parametrize(
    ("syncs", "survives"),
    [
        ("os.fsync(file.fileno()); os.fsync(folder)", "content"),
        ("os.fsync(folder)", ""),
        ("os.fsync(file.fileno())", None),
        ("pass", None),
    ],
    ids=["file and name", "name alone", "file alone", "nothing"],
)
def test_only_what_was_synced_survives(library: Path, record: Path, tmp_path: Path, syncs: str, survives: str | None) -> None:
    root = tmp_path / "root"
    root.mkdir()
    program = f"""
        import os
        folder = os.open({str(root)!r}, os.O_RDONLY)
        with open({str(root / "name")!r}, "w") as file:
            file.write("content")
            file.flush()
            {syncs}
        """
    env = os.environ | {"LD_PRELOAD": str(library), "SLIPWAY_SYNCED": str(record)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=env, check=True)
    lose_power(root, record)
    name = root / "name"
    assert (name.read_text() if name.exists() else None) == survives


def test_what_was_acknowledged_survives_a_loss_of_power(library: Path, record: Path, tmp_path: Path) -> None:
    server = Server(tmp_path / "server")
    # The directory's own name is the operator's; everything below it is the server's to sync.
    server.data.mkdir()
    server.start({"LD_PRELOAD": str(library), "SLIPWAY_SYNCED": str(record)})
    alice = server.admin
    try:
        queues.create(alice, "q", resource="local-container")
        spec = {"docker": {"docker_image": "python:3.11"}, "entity": "alice", "project": "proj"}
        pushed = [queues.push(alice, "q", spec | {"name": f"item {number}"}) for number in range(20)]
        alice.graphql(
            """mutation { upsertBucket(input: {name: "kept", modelName: "proj", entityName: "alice"}) { bucket { id } } }"""
        )
        lines = [json.dumps({"_step": step, "loss": step}) for step in range(50)]
        stream = {"files": {"wandb-history.jsonl": {"offset": 0, "content": lines}}}
        requests.post(
            f"{alice.base_url}/files/alice/proj/kept/file_stream", json=stream, auth=("api", alice.key), timeout=30
        ).raise_for_status()
        created = alice.graphql(
            """mutation { createRunFiles(input: {entityName: "alice", projectName: "proj", runName: "kept", files: ["a.txt"]}) {
              files { name uploadUrl } } }"""
        )
        upload = created["createRunFiles"]["files"][0]["uploadUrl"]
        requests.put(upload, data=b"hello", timeout=30).raise_for_status()
    finally:
        server.process.kill()

    lose_power(server.data, record)
    server.start()
    try:
        assert [item["id"] for item in queues.items(alice, "alice", "q")] == pushed
        run = alice.graphql(
            """query { project(name: "proj", entityName: "alice") { run(name: "kept") {
              historyLineCount files(names: ["a.txt"]) { edges { node { directUrl } } } } } }"""
        )["project"]["run"]
        assert run["historyLineCount"] == 50
        assert requests.get(run["files"]["edges"][0]["node"]["directUrl"], timeout=30).content == b"hello"
    finally:
        server.stop()
