"""`wandb launch` and the public API put jobs on queues (traces 08, 13; J04, J12, J14, T01–T13)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support import queues
from support.agent import Agent
from support.client import Client, Done
from support.server import GraphQLError


def launch(client: Client, queue: str, job: str, *arguments: str) -> Done:
    return client.wandb("launch", "-j", job, "-q", queue, "-e", client.user.name, "-p", "proj", *arguments)


def test_launch_carries_name_config_arguments_and_priority(client: Client, queue_name: str, code_job: str) -> None:
    queues.create(client.user, queue_name, prioritization="V0")
    config = {"overrides": {"run_config": {"lr": 0.5}, "args": ["--foo", "1"]}}
    done = launch(client, queue_name, code_job, "--name", "my run", "-c", json.dumps(config), "-P", "high").ok()
    assert queue_name in done.output
    item = queues.only_item(client.user, "alice", queue_name)
    assert (item["state"], item["label"], item["priority"], item["author"]) == ("PENDING", "Idle", 1, "alice")
    spec = item["finalSpec"]
    assert spec["job"] == code_job
    assert spec["name"] == "my run"
    assert spec["overrides"]["run_config"] == {"lr": 0.5}
    assert spec["overrides"]["args"] == ["--foo", "1"]
    assert spec["resource"] == "local-process"


def test_template_values_fill_the_queue_configuration(client: Client, queue_name: str, code_job: str) -> None:
    variables = {
        "cpu": {"schema": {"type": "integer", "minimum": 1, "maximum": 4, "default": 2}},
        "team": {"schema": {"type": "string", "enum": ["red", "blue"]}},
    }
    queues.create(
        client.user, queue_name, config={"env": {"TEAM": "{{team}}", "CPU": "{{cpu}}"}}, template_variables=variables
    )
    launch(client, queue_name, code_job, "-v", "team=red").ok()
    item = queues.only_item(client.user, "alice", queue_name)
    env = item["finalSpec"]["resource_args"]["local-process"]["env"]
    assert env["TEAM"] == "red"
    assert str(env["CPU"]) == "2"


@pytest.mark.parametrize("value", ["cpu=9", "cpu=many", "colour=red"])
def test_template_values_out_of_bounds_are_refused(client: Client, queue_name: str, code_job: str, value: str) -> None:
    variables = {"cpu": {"schema": {"type": "integer", "minimum": 1, "maximum": 4, "default": 2}}}
    queues.create(client.user, queue_name, config={"env": {"CPU": "{{cpu}}"}}, template_variables=variables)
    done = launch(client, queue_name, code_job, "-v", value)
    assert done.code != 0, done.output
    assert queues.items(client.user, "alice", queue_name) == []


def test_an_unknown_queue_is_named_in_the_error(client: Client, code_job: str) -> None:
    done = launch(client, "no-such-queue", code_job)
    assert done.code != 0
    assert "no-such-queue" in done.output


def test_a_priority_on_a_queue_without_priorities_is_refused(client: Client, queue_name: str, code_job: str) -> None:
    queues.create(client.user, queue_name)
    assert launch(client, queue_name, code_job, "-P", "critical").code != 0
    assert queues.items(client.user, "alice", queue_name) == []
    launch(client, queue_name, code_job, "-P", "medium").ok()
    assert queues.only_item(client.user, "alice", queue_name)["state"] == "PENDING"


def test_an_image_and_resource_args_reach_the_item(client: Client, queue_name: str) -> None:
    queues.create(client.user, queue_name, resource="local-container", config={"env": ["A=1"]})
    client.wandb(
        "launch", "-d", "python:3.11-slim", "-q", queue_name, "-e", "alice", "-p", "proj",
        "-R", json.dumps({"local-container": {"env": ["B=2"]}}), "-E", "python -c 1",
    ).ok()  # fmt: skip
    spec = queues.only_item(client.user, "alice", queue_name)["finalSpec"]
    assert spec["docker"]["docker_image"] == "python:3.11-slim"
    assert spec["resource_args"]["local-container"]["env"] == ["B=2"]


@pytest.fixture
def repository(tmp_path: Path) -> tuple[str, dict[str, str]]:
    """A git repository at an `ssh://` address, and the environment in which git finds it there."""
    source = tmp_path / "repository"
    source.mkdir()
    (source / "train.py").write_text("import wandb\nwith wandb.init() as run:\n    run.log({'from': 1})\nprint('from the repository')\n")
    (source / "requirements.txt").touch()
    git = ["git", "-C", str(source), "-c", "user.name=test", "-c", "user.email=test@example.com"]
    for command in (["init", "--quiet", "--initial-branch", "main"], ["add", "."], ["commit", "--quiet", "--message", "first"]):
        subprocess.run([*git, *command], check=True)
    # Neither client takes a path or file://, so ssh is played by a shell.
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nshift\nexec sh -c "$1"\n')
    ssh.chmod(0o755)
    return f"ssh://git.example.com{source}", {"GIT_SSH_COMMAND": str(ssh), "GIT_SSH_VARIANT": "simple"}


def test_launch_with_a_repository_makes_a_job_of_it_that_runs(
    client: Client, queue_name: str, repository: tuple[str, dict[str, str]], start_agent: Callable[..., Agent]
) -> None:
    """Trace 08, exchanges 13 to 42."""
    uri, env = repository
    queues.create(client.user, queue_name)
    name = f"uri-{queue_name}"
    arguments = ["-q", queue_name, "-e", "alice", "-p", "proj", "--job-name", name]
    client.wandb("launch", "-u", uri, "-E", "python train.py", *arguments, env=env).ok()
    item = queues.only_item(client.user, "alice", queue_name)
    assert item["finalSpec"]["job"] == f"alice/proj/{name}:v0"
    assert item["finalSpec"]["overrides"]["entry_point"] == ["python", "train.py"]
    start_agent(queue_name, env=env)
    done = queues.wait_state(client.user, item["id"], "FINISHED")
    assert "from the repository" in client.user.get(f"/slipway/v1/items/{done['id']}/output?follow=false").text
    assert client.api("result = [row['from'] for row in api.run(path).scan_history()]", path=f"alice/proj/{done['runName']}") == [1]


def test_launch_with_a_directory_makes_a_code_job_of_it(client: Client, queue_name: str) -> None:
    queues.create(client.user, queue_name)
    code = client.write({"train.py": "print('hi')\n", "requirements.txt": ""}, "code")
    name = f"uri-{queue_name}"
    arguments = ["-q", queue_name, "-e", "alice", "-p", "proj", "--job-name", name]
    client.wandb("launch", "-u", code, "-E", "python train.py", *arguments).ok()
    assert queues.only_item(client.user, "alice", queue_name)["finalSpec"]["job"] == f"alice/proj/{name}:v0"
    missing = client.wandb("launch", "-u", code, *arguments)
    assert missing.code != 0 and "entry point" in missing.output


def test_a_pushed_key_is_refused(client: Client, queue_name: str) -> None:
    queues.create(client.user, queue_name)
    with pytest.raises(GraphQLError, match="_wandb_api_key"):
        queues.push(client.user, queue_name, {"entity": "alice", "project": "proj", "_wandb_api_key": "x" * 40})


def test_the_public_api_follows_a_queued_run(client: Client, queue_name: str, code_job: str) -> None:
    """Trace 13: state, items, delete."""
    queues.create(client.user, queue_name)
    facts = client.api(
        """
        from wandb.sdk.launch._launch_add import launch_add
        queued = launch_add(job=job, entity=entity, project="proj", queue_name=queue, project_queue="model-registry",
                            resource="local-process")
        listed = [item.id for item in api.run_queue(entity, queue).items]
        again = api.queued_run(entity, "proj", queue, queued.id, project_queue="model-registry")
        facts = [queued.state, again.state, queued.id in listed, len(listed)]
        queued.delete()
        result = facts + [len(api.run_queue(entity, queue).items)]
        """,
        entity="alice",
        queue=queue_name,
        job=code_job,
    )
    assert facts == ["pending", "pending", True, 1, 0]


def test_a_job_object_calls_onto_a_queue(client: Client, queue_name: str, code_job: str) -> None:
    queues.create(client.user, queue_name)
    client.api(
        """
        job = api.job(job)
        job.call(config={}, project="proj", entity=entity, queue=queue, resource="local-process", project_queue="model-registry")
        """,
        entity="alice",
        queue=queue_name,
        job=code_job,
    )
    assert queues.only_item(client.user, "alice", queue_name)["finalSpec"]["job"] == code_job
