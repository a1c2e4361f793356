"""An agent that stops past its lease and goes on starts nothing twice and changes nothing: containers.

Official and ours against each other in every combination; starts are counted by the engine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import fencing, queues
from support.docker import PYTHON, Docker
from support.server import User


@pytest.fixture
def images(docker: Docker) -> Iterator[list[str]]:
    """Names for the Python image; those that a test adds are removed."""
    names: list[str] = []
    yield names
    for name in names:
        docker.run("rmi", name, check=False)


@pytest.mark.timeout(1800)
def test_a_stopped_agent_starts_nothing_twice_and_changes_nothing(
    alice: User, queue_name: str, docker: Docker, images: list[str], tmp_path: Path
) -> None:
    # The official agent adapts containers only for the word `localhost`.
    user = replace(alice, base_url=alice.base_url.replace("127.0.0.1", "localhost"))
    began = int(time.time())

    def image(name: str) -> str:
        return f"slipway-test/fenced:{name}"

    def spec(name: str, gate: str) -> dict[str, Any]:
        # The engine tells starts apart by the image's name, which is the item's own.
        docker.run("tag", PYTHON, image(name))
        images.append(image(name))
        arguments = ["python", "-c", fencing.JOB, "-", gate]
        return {"docker": {"docker_image": image(name)}, "entity": "alice", "project": "proj", "overrides": {"args": arguments}}

    def starts(name: str) -> int:
        events = docker.run(
            "events", "--since", str(began), "--until", str(int(time.time()) + 1), "--filter", f"image={image(name)}", "--filter", "event=start"
        )
        return len(events.splitlines())

    def create(queue: str) -> None:
        queues.create(user, queue, resource="local-container")

    fencing.hold_duels(user, tmp_path, queue_name, create, spec, starts)
