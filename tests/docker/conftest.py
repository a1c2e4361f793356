"""A real engine, a real server, our agent; names and labels keep the tests apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.agent import Agent
from support.docker import Docker
from support.fixtures import alice, client, queue_name, server  # noqa: F401
from support.server import User


@pytest.fixture(scope="session", autouse=True)
def docker() -> Docker:
    engine = Docker()
    engine.require()
    return engine


@pytest.fixture
def start_agent(docker: Docker, alice: User, tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Starts `slipway launch-agent` for these queues. When the test ends, no container of it is left."""
    agents: list[Agent] = []

    def start(*queues: str, env: dict[str, str] | None = None, **options: object) -> Agent:
        agent = Agent(alice, tmp_path / f"agent-{len(agents)}", queues, **options)  # type: ignore[arg-type]
        agents.append(agent.start(env))
        return agent

    yield start
    assert docker.leftovers(agents, alice.base_url) == [], "containers were left behind"
