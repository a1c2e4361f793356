"""A real engine, a real server, our agent; names and labels keep the tests apart."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.agent import Agent
from support.client import Client
from support.docker import Docker
from support.server import Server, User

counter = itertools.count(1)


@pytest.fixture(scope="session")
def docker() -> Docker:
    engine = Docker()
    engine.require()
    return engine


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, docker: Docker) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def alice(server: Server) -> User:
    return server.admin


@pytest.fixture
def client(alice: User, tmp_path: Path) -> Client:
    """The official client 0.31.0 in alice's hands."""
    return Client(alice, tmp_path / "alice")


@pytest.fixture
def queue_name() -> str:
    return f"queue-{next(counter)}"


@pytest.fixture
def start_agent(docker: Docker, alice: User, tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Starts `slipway launch-agent` for these queues. When the test ends, no container of it is left."""
    agents: list[Agent] = []

    def start(*queues: str, env: dict[str, str] | None = None, **options: object) -> Agent:
        agent = Agent(alice, tmp_path / f"agent-{len(agents)}", queues, **options)  # type: ignore[arg-type]
        agents.append(agent.start(env))
        return agent

    yield start
    for agent in agents:
        agent.stop()
    left = docker.containers("slipway.scope", alice.base_url)
    for container in left:
        docker.run("rm", "--force", container)
    assert left == [], "containers were left behind"
