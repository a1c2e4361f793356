"""One server for all tests of the official client; names keep them apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.agent import Agent
from support.client import Client
from support.fixtures import alice, client, queue_name, server  # noqa: F401
from support.server import Server, User

TRAIN = """
    import argparse
    import wandb

    parser = argparse.ArgumentParser()
    parser.add_argument("--foo", default="none")
    arguments = parser.parse_args()
    with wandb.init(config={"lr": 0.1, "epochs": 3}) as run:
        for step in range(run.config.epochs):
            run.log({"loss": 1.0 / (step + 1)})
            print("step", step, flush=True)
        run.summary["lr_used"] = run.config.lr
        run.summary["foo"] = arguments.foo
"""

@pytest.fixture(scope="session")
def code_job(alice: User, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A code job made by the official client: logs a falling loss, keeps what it was given."""
    client = Client(alice, tmp_path_factory.mktemp("job"))
    code = client.write({"train.py": TRAIN, "requirements.txt": "wandb\n"}, "code")
    client.wandb(
        "job", "create", "code", "-p", "proj", "-e", alice.name, "-n", "code-job", "-E", "python train.py", "-r", "3.11", code
    ).ok()
    return f"{alice.name}/proj/code-job:latest"


@pytest.fixture
def start_agent(server: Server, alice: User, tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Starts `slipway launch-agent` for these queues; stopped when the test ends."""
    agents: list[Agent] = []

    def start(
        *queues: str,
        max_jobs: int = 4,
        user: User = alice,
        entity: str | None = None,
        version: str = "0.31",
        env: dict[str, str] | None = None,
    ) -> Agent:
        agent = Agent(
            user, tmp_path / f"agent-{len(agents)}", queues, max_jobs=max_jobs, entity=entity or user.name, client_version=version
        )
        agents.append(agent.start(env))
        return agent

    yield start
    for agent in agents:
        agent.stop()
