"""The same server on PostgreSQL: one path through each flow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import queues
from support.agent import Agent
from support.client import Client
from support.postgres import new_database
from support.server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Takes the place of the server on SQLite for this module."""
    server = Server(tmp_path_factory.mktemp("postgres"), database_url=new_database()).start()
    yield server
    server.stop()


def test_a_job_goes_from_launch_to_its_run_and_survives_a_restart(server: Server, tmp_path: Path, queue_name: str) -> None:
    client = Client(server.admin, tmp_path / "alice")
    code = client.write(
        {"train.py": "import wandb\nwith wandb.init(config={'lr': 0.1}) as run:\n    run.log({'lr': run.config.lr})\n", "requirements.txt": ""},
        "code",
    )
    client.wandb("job", "create", "code", "-p", "proj", "-e", "alice", "-n", "job", "-E", "python train.py", "-r", "3.11", code).ok()
    client.api("api.create_run_queue(name=name, type='local-process', prioritization_mode='V0')", name=queue_name)
    overrides = json.dumps({"overrides": {"run_config": {"lr": 0.5}}})
    client.wandb("launch", "-j", "alice/proj/job:latest", "-q", queue_name, "-e", "alice", "-p", "proj", "-P", "high", "-c", overrides).ok()
    item = queues.only_item(client.user, "alice", queue_name)
    assert (item["state"], item["priority"]) == ("PENDING", 1)

    server.process.kill()
    server.start()

    agent = Agent(client.user, tmp_path / "agent", [queue_name]).start()
    try:
        done = queues.wait_state(client.user, item["id"], "FINISHED")
    finally:
        agent.stop()
    read = client.api(
        """
        run = api.run(path)
        result = [run.state, run.config["lr"], [row["lr"] for row in run.scan_history()], run.summary["lr"]]
        """,
        path=f"alice/proj/{done['runName']}",
    )
    assert read == ["finished", 0.5, [0.5], 0.5]
