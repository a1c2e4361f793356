"""The client one release line earlier (0.28.2): one path through each flow."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from support import queues
from support.agent import Agent
from support.client import Client
from support.runs import stop_from_the_server
from support.server import User, new_key

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


def test_stop_from_the_server(old_client: Client) -> None:
    done = stop_from_the_server(old_client, "old-stopped")
    assert done.code == -signal.SIGINT, done.output
    run = old_client.api("run = api.run('alice/proj/old-stopped'); result = [run.state, len(list(run.scan_history())) > 0]")
    assert run == ["killed", True]


def test_alert(old_client: Client) -> None:
    old_client.program(
        """
        import wandb
        with wandb.init(project="old", id="old-alert") as run:
            run.alert("old but low", "below 0.25", level=wandb.AlertLevel.ERROR)
        """
    ).ok()
    page = old_client.user.get("/alice/old/runs/old-alert").text
    assert "old but low" in page and "below 0.25" in page


def test_image_job_and_launch_with_values(old_client: Client, queue_name: str) -> None:
    variables = {
        "team": {"schema": {"type": "string", "enum": ["red", "blue"]}},
        "cpu": {"schema": {"type": "integer", "minimum": 1, "maximum": 4, "default": 2}},
    }
    queues.create(
        old_client.user, queue_name, resource="local-container", prioritization="V0",
        config={"env": ["TEAM={{team}}"], "cpus": "{{cpu}}"}, template_variables=variables,
    )  # fmt: skip
    old_client.wandb("job", "create", "image", "-p", "old", "-e", "alice", "-n", "old-image", "-a", "prod", "python:3.11-slim").ok()
    launch = ["launch", "-j", "alice/old/old-image:prod", "-q", queue_name, "-e", "alice", "-p", "old"]
    config = json.dumps({"overrides": {"args": ["--foo", "1"], "run_config": {"lr": 0.5}}})
    old_client.wandb(*launch, "-c", config, "-P", "critical", "-v", "team=red", "--name", "old run").ok()
    item = queues.only_item(old_client.user, "alice", queue_name)
    spec = item["finalSpec"]
    assert (item["priority"], spec["name"], spec["overrides"]["args"]) == (0, "old run", ["--foo", "1"])
    assert spec["overrides"]["run_config"] == {"lr": 0.5}
    assert spec["resource_args"]["local-container"] == {"env": ["TEAM=red"], "cpus": 2}
    refused = old_client.wandb(*launch, "-v", "team=green")
    assert refused.code != 0, refused.output
    assert len(queues.items(old_client.user, "alice", queue_name)) == 1


def test_errors_end_the_command_and_say_why(old_client: Client, queue_name: str) -> None:
    """Trace 17, and a queue that does not exist."""
    failed = old_client.program("import wandb\nwandb.init(project='old', id='old-fails')\nraise ValueError('no')\n")
    assert failed.code == 1
    assert old_client.api("result = api.run('alice/old/old-fails').state") == "failed"
    unknown = old_client.program("import wandb\nwandb.init(project='old', id='old-never-was', resume='must')\n")
    assert unknown.code != 0 and "old-never-was" in unknown.output
    absent = old_client.wandb("launch", "-d", "python:3.11", "-q", "no-such-queue", "-e", "alice", "-p", "old")
    assert absent.code != 0 and "no-such-queue" in absent.output
    old_client.env["WANDB_API_KEY"] = new_key()
    refused = old_client.program("import wandb\nwandb.init(project='old')\n", timeout=60)
    assert refused.code != 0
    assert "CommError" in refused.output or "AuthenticationError" in refused.output, refused.output


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
            done = queues.wait_state(old_client.user, item["id"], "FINISHED", seconds=240)
        finally:
            agent.signal(signal.SIGINT)
            agent.stop()
    summary = old_client.api("result = api.run(path).summary.get('lr')", path=f"alice/old/{done['runName']}")
    assert summary == 0.5
