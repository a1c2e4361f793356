"""The client one release line earlier (0.28.2): one path through each flow."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from support import queues
from support.agent import Agent
from support.client import Client
from support.server import User

VERSION = "0.28"


@pytest.fixture
def old_client(alice: User, tmp_path: Path) -> Client:
    return Client(alice, tmp_path / "old", version=VERSION)


def test_login(old_client: Client, alice: User) -> None:
    old_client.without_login()
    old_client.wandb("login", "--relogin", "--verify", alice.key, "--host", alice.base_url).ok()
    assert old_client.api("result = api.viewer.username") == alice.name


def test_run_with_file_artifact_and_resume(old_client: Client) -> None:
    source = """
        import pathlib
        import wandb
        with wandb.init(project="old", id="old-run", resume="allow", config={{"lr": 0.1}}) as run:
            pathlib.Path("note.txt").write_text("hello")
            run.save("note.txt", policy="now")
            run.log({{"loss": {loss}}})
            artifact = wandb.Artifact("weights", type="model")
            artifact.add_file("note.txt")
            run.log_artifact(artifact).wait()
    """
    old_client.program(source.format(loss=2)).ok()
    old_client.program(source.format(loss=1)).ok()
    run = old_client.api(
        """
        run = api.run("alice/old/old-run")
        result = [run.state, run.config["lr"], [row["loss"] for row in run.scan_history()], "note.txt" in [f.name for f in run.files()],
                  api.artifact("alice/old/weights:latest").version]
        """
    )
    assert run == ["finished", 0.1, [2, 1], True, "v0"]


def test_queue_through_the_public_api(old_client: Client, queue_name: str) -> None:
    queue = old_client.api(
        """
        api.create_run_queue(name=name, type="local-process", prioritization_mode="V0")
        queue = api.run_queue("alice", name)
        result = [queue.type, queue.prioritization_mode, len(queue.items)]
        queue.delete()
        """,
        name=queue_name,
    )
    assert queue == ["local-process", "V0", 0]


@pytest.mark.parametrize("ours", [True, False], ids=["our agent", "official agent"])
def test_job_from_launch_to_end(
    old_client: Client, queue_name: str, start_agent: Callable[..., Agent], tmp_path: Path, ours: bool
) -> None:
    queues.create(old_client.user, queue_name)
    code = old_client.write(
        {"train.py": "import wandb\nwith wandb.init(config={'lr': 0.1}) as run:\n    run.log({'lr': run.config.lr})\n", "requirements.txt": "wandb\n"},
        "code",
    )
    old_client.wandb("job", "create", "code", "-p", "old", "-e", "alice", "-n", "old-job", "-E", "python train.py", "-r", "3.11", code).ok()
    old_client.wandb(
        "launch", "-j", "alice/old/old-job:latest", "-q", queue_name, "-e", "alice", "-p", "old", "-c", '{"overrides": {"run_config": {"lr": 0.5}}}'
    ).ok()
    item = queues.only_item(old_client.user, "alice", queue_name)
    if ours:
        start_agent(queue_name, version=VERSION)
        done = queues.wait_state(old_client.user, item["id"], "FINISHED")
    else:
        agent = old_client.agent("-q", queue_name, "-e", "alice", log=tmp_path / "agent.log")
        agent.start()
        try:
            done = queues.wait_state(old_client.user, item["id"], "FINISHED", seconds=150)
        finally:
            agent.signal(signal.SIGINT)
            agent.stop()
    summary = old_client.api("result = api.run(path).summary.get('lr')", path=f"alice/old/{done['runName']}")
    assert summary == 0.5
