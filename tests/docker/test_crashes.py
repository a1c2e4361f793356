"""The agent is killed, the engine goes away: no job is lost, none starts twice, no line is missing (design section 4)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import queues
from support.agent import Agent
from support.client import Client
from support.docker import BUSYBOX, Docker, EngineProxy
from support.processes import REPO, Process, slipway_binary, wait_for
from support.server import User

StartAgent = Callable[..., Agent]


def push(user: User, queue: str, script: str) -> str:
    return queues.push(
        user, queue,
        {
            "entity": "alice", "project": "proj", "resource": "local-container",
            "docker": {"docker_image": BUSYBOX}, "overrides": {"entry_point": ["sh", "-c", script]},
        },
    )  # fmt: skip


def output(user: User, item: str) -> str:
    return user.get(f"/slipway/v1/items/{item}/output?follow=false").text


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A directory in which each start of a job leaves a file of its own."""
    directory = tmp_path / "tokens"
    directory.mkdir()
    return directory


def token_queue(client: Client, queue: str, tokens: Path, **config: Any) -> None:
    queues.create(client.user, queue, resource="local-container", config={"volume": f"{tokens}:/tokens"} | config)


TOKEN = "mktemp /tokens/start.XXXXXX >/dev/null; "


@pytest.mark.parametrize("point", ["agent.acked", "agent.start-recorded", "docker.created", "docker.started", "agent.workload-created"])
def test_a_job_starts_once_whenever_its_agent_dies(
    client: Client, queue_name: str, start_agent: StartAgent, tokens: Path, point: str
) -> None:
    token_queue(client, queue_name, tokens)
    agent = start_agent(queue_name, env={"SLIPWAY_FAILPOINT": point})
    item = push(client.user, queue_name, TOKEN + "echo began; sleep 2; echo ended")
    wait_for(lambda: not agent.process.running, f"the agent to die at {point}")
    agent.start()
    done = queues.wait_end(client.user, item)
    assert done["failure"]["reason"] == "no-run", done["failure"]
    assert len(list(tokens.iterdir())) == 1
    assert output(client.user, item) == "began\nended\n"


@pytest.mark.parametrize("point", ["agent.finished-before-report", "agent.reported"])
def test_an_outcome_survives_its_agent(
    client: Client, queue_name: str, start_agent: StartAgent, tokens: Path, docker: Docker, point: str
) -> None:
    token_queue(client, queue_name, tokens)
    agent = start_agent(queue_name, env={"SLIPWAY_FAILPOINT": point})
    item = push(client.user, queue_name, TOKEN + "echo done; exit 7")
    wait_for(lambda: not agent.process.running, f"the agent to die at {point}")
    agent.start()
    done = queues.wait_end(client.user, item)
    assert (done["exitCode"], done["failure"]["reason"]) == (7, "exit-code")
    assert len(list(tokens.iterdir())) == 1
    assert output(client.user, item) == "done\n"
    wait_for(lambda: docker.of_run(done["runName"]) is None, "the container to be removed")


def test_output_is_whole_after_the_agent_was_killed_while_a_job_printed(
    client: Client, queue_name: str, start_agent: StartAgent, tokens: Path
) -> None:
    token_queue(client, queue_name, tokens)
    agent = start_agent(queue_name)
    item = push(client.user, queue_name, TOKEN + "i=0; while [ ! -e /tokens/stop ]; do i=$((i+1)); echo line $i; done; echo last $i")
    for _ in range(3):
        before = len(output(client.user, item))
        wait_for(lambda before=before: len(output(client.user, item)) > before + 10_000, "more output")
        agent.process.kill()
        agent.start()
    (tokens / "stop").touch()
    queues.wait_end(client.user, item, 240)
    lines = output(client.user, item).splitlines()
    count = len(lines) - 1
    assert lines[-1] == f"last {count}"
    assert lines[:-1] == [f"line {number}" for number in range(1, count + 1)]
    assert len(list(tokens.glob("start.*"))) == 1


def test_a_container_that_was_removed_while_no_agent_looked_is_not_started_again(
    client: Client, queue_name: str, start_agent: StartAgent, tokens: Path, docker: Docker
) -> None:
    token_queue(client, queue_name, tokens)
    agent = start_agent(queue_name)
    item = push(client.user, queue_name, TOKEN + "sleep 600")
    found = docker.wait_running(queues.wait_state(client.user, item, "RUNNING")["runName"])
    wait_for(lambda: list(tokens.iterdir()), "the job to leave its token")
    agent.process.kill()
    docker.run("rm", "--force", found["Id"])
    agent.start()
    done = queues.wait_end(client.user, item)
    assert done["failure"]["reason"] == "container-removed", done["failure"]
    assert len(list(tokens.iterdir())) == 1


def test_containers_are_found_by_label_when_the_agents_directory_is_lost(
    client: Client, queue_name: str, start_agent: StartAgent, tokens: Path, docker: Docker
) -> None:
    token_queue(client, queue_name, tokens)
    agent = start_agent(queue_name, name=f"agent-of-{queue_name}")
    item = push(client.user, queue_name, TOKEN + "echo before; until [ -e /tokens/go ]; do sleep 0.1; done; echo after")
    docker.wait_running(queues.wait_state(client.user, item, "RUNNING")["runName"])
    agent.process.kill()
    subprocess.run(["rm", "-rf", agent.directory / "state" / f"agent-of-{queue_name}" / "containers"], check=True)
    agent.start()
    agent.process.wait_for_output("took over a job")
    (tokens / "go").touch()
    done = queues.wait_end(client.user, item)
    assert done["failure"]["reason"] == "no-run", done["failure"]
    assert output(client.user, item) == "before\nafter\n"
    assert len(list(tokens.glob("start.*"))) == 1


def test_jobs_outlive_an_engine_that_is_away(
    client: Client, queue_name: str, start_agent: StartAgent, tokens: Path, docker: Docker, tmp_path: Path
) -> None:
    token_queue(client, queue_name, tokens)
    proxy = EngineProxy(tmp_path / "engine.sock")
    try:
        start_agent(queue_name, env={"DOCKER_HOST": f"unix://{proxy.path}"})
        running = push(client.user, queue_name, TOKEN + "echo early; until [ -e /tokens/go ]; do sleep 0.1; done; echo late; exit 5")
        docker.wait_running(queues.wait_state(client.user, running, "RUNNING")["runName"])
        wait_for(lambda: output(client.user, running) == "early\n", "the first line")
        proxy.stop()
        waiting = push(client.user, queue_name, TOKEN + "echo second")
        wait_for(lambda: queues.item(client.user, waiting)["state"] in ("LEASED", "CLAIMED"), "the second job to be taken")
        (tokens / "go").touch()
        proxy.start()
        done = queues.wait_end(client.user, running)
        assert (done["exitCode"], output(client.user, running)) == (5, "early\nlate\n")
        assert queues.wait_end(client.user, waiting)["failure"]["reason"] == "no-run"
        assert output(client.user, waiting) == "second\n"
        assert len(list(tokens.glob("start.*"))) == 2
        wait_for(lambda: docker.containers("slipway.scope", client.user.base_url) == [], "the containers to be removed")
    finally:
        proxy.stop()


def test_an_item_says_that_its_job_waits_for_the_engine_and_fails_in_time(
    client: Client, queue_name: str, start_agent: StartAgent, tokens: Path, tmp_path: Path
) -> None:
    token_queue(client, queue_name, tokens)
    proxy = EngineProxy(tmp_path / "engine.sock")
    proxy.stop()
    start_agent(queue_name, env={"DOCKER_HOST": f"unix://{proxy.path}", "WANDB_LAUNCH_START_TIMEOUT": "30"})
    item = push(client.user, queue_name, TOKEN)
    warning = wait_for(lambda: queues.item(client.user, item)["warning"], "the item to say what it waits for")
    assert "does not answer" in warning["message"], warning
    failure = queues.wait_end(client.user, item)["failure"]
    assert failure["reason"] == "start-failed" and "within 30 s" in failure["message"], failure
    assert "does not answer" in failure["message"], failure
    assert queues.item(client.user, item)["warning"] is None, "nothing is waited for any more"
    assert list(tokens.iterdir()) == []


def test_what_a_killed_launch_left_of_its_job_is_ended_by_the_next(
    client: Client, tokens: Path, docker: Docker, tmp_path: Path
) -> None:
    options = json.dumps({"local-container": {"volume": f"{tokens}:/tokens"}})
    here = [slipway_binary(), "launch", "-e", "alice", "-p", "proj", "-d", BUSYBOX, "-R", options, "-E"]
    first = Process("slipway launch", [*here, f"sh -c '{TOKEN} sleep 600'"], tmp_path / "log", client.env)
    first.start()
    wait_for(lambda: list(tokens.iterdir()), "the job to start")
    first.kill()
    assert docker.containers("slipway.scope", client.user.base_url) != []
    done = client.run(*here, "sh -c 'exit 5'")
    assert done.code == 5, done.output
    assert docker.containers("slipway.scope", client.user.base_url) == []


def test_an_engine_that_restarts_ends_jobs_with_a_reason_and_takes_new_ones(
    client: Client, queue_name: str, start_agent: StartAgent, tokens: Path, docker: Docker
) -> None:
    pid_file = REPO / ".cache" / "docker" / "engine.pid"
    assert pid_file.exists(), "the engine is not this checkout's own; stop it and run: scripts/docker.sh start"
    token_queue(client, queue_name, tokens)
    agent = start_agent(queue_name)
    item = push(client.user, queue_name, TOKEN + "trap 'exit 9' TERM; echo up; while true; do sleep 0.1; done")
    docker.wait_running(queues.wait_state(client.user, item, "RUNNING")["runName"])
    wait_for(lambda: output(client.user, item) == "up\n", "the job to print")
    subprocess.run([REPO / "scripts" / "docker.sh", "stop"], check=True, timeout=300)
    subprocess.run([REPO / "scripts" / "docker.sh", "start"], check=True, timeout=300, stdout=subprocess.DEVNULL)
    done = queues.wait_end(client.user, item)
    assert (done["state"], done["exitCode"]) == ("FAILED", 9), done["failure"]
    after = push(client.user, queue_name, TOKEN + "echo new")
    assert queues.wait_end(client.user, after)["failure"]["reason"] == "no-run"
    assert len(list(tokens.glob("start.*"))) == 2
    agent.process.require_running()
