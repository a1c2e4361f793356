"""The main flows on podman, beside the Docker engine: its API is docker's, its habits are its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import queues
from support.agent import Agent
from support.client import Client
from support.containers import ended, failed, output, push, shell
from support.docker import BUSYBOX, PYTHON, Docker, EngineProxy
from support.processes import REPO, wait_for
from support.server import User

StartAgent = Callable[..., Agent]

# Podman raises limits beyond what a machine may allow, unless it is told which.
LIMITS = {"ulimit": ["nofile=1024:4096", "nproc=4096:4096"]}

TRAIN = """
import pathlib, wandb
print("first line", flush=True)
with wandb.init(config={"lr": 0.1}) as run:
    run.log({"loss": 1.0})
    pathlib.Path("model.txt").write_text("weights")
    run.save("model.txt")
"""


@pytest.fixture(scope="session")
def podman() -> Docker:
    """Podman with the images; started by the project's script, which leaves one that runs alone."""
    started = subprocess.run([REPO / "scripts" / "docker.sh", "podman"], capture_output=True, text=True, timeout=300)
    assert started.returncode == 0, started.stderr
    return Docker(started.stdout.strip())


@pytest.fixture
def start_agent(podman: Docker, alice: User, tmp_path: Path) -> Iterator[StartAgent]:
    """As the fixture of that name for docker: an agent whose engine is podman."""
    agents: list[Agent] = []

    def start(*queues: str, env: dict[str, str] | None = None, **options: Any) -> Agent:
        agent = Agent(alice, tmp_path / f"agent-{len(agents)}", queues, **options)
        agent.process.env["DOCKER_HOST"] = podman.address or ""
        agents.append(agent.start(env))
        return agent

    yield start
    assert podman.leftovers(agents, alice.base_url) == [], "containers were left behind"


def queue(client: Client, name: str, /, **config: Any) -> None:
    queues.create(client.user, name, resource="local-container", config=LIMITS | config)


@pytest.fixture
def network(podman: Docker, queue_name: str) -> Iterator[str]:
    """A network that no container has used, so that podman has not made its bridge. Podman removes none that
    a container has, even one that has ended: a test asks for it before its agent, which then ends first."""
    name = f"slipway-test-{queue_name}-{os.getpid()}"
    podman.run("network", "create", name)
    yield name
    podman.run("network", "rm", name)


@pytest.mark.parametrize("kind", ["default", "custom"])
def test_a_training_job_reaches_a_server_on_loopback(
    client: Client, queue_name: str, network: str, start_agent: StartAgent, kind: str
) -> None:
    queue(client, queue_name, **({"network": network} if kind == "custom" else {}))
    start_agent(queue_name)
    spec = {"docker": {"docker_image": PYTHON}, "overrides": {"entry_point": ["python", "-c", TRAIN]}}
    done = ended(client.user, push(client.user, queue_name, spec), "FINISHED", 120)
    assert output(client.user, done["id"]).splitlines()[0] == "first line"
    run = client.api(
        """
        run = api.run(path)
        run.file("model.txt").download(root=".", replace=True)
        result = [run.state, open("model.txt").read()]
        """,
        path=f"alice/proj/{done['runName']}",
    )
    assert run == ["finished", "weights"]


def test_options_labels_and_a_stop(
    client: Client, queue_name: str, start_agent: StartAgent, podman: Docker, tmp_path: Path
) -> None:
    queue(client, queue_name, env=["A=1"], volume=f"{tmp_path}:/in:ro", memory="64m", w="/tmp")
    start_agent(queue_name)
    item = push(client.user, queue_name, shell("trap 'echo asked; exit 0' TERM; echo $A $(pwd); sleep 600 & wait"))
    found = podman.wait_running(queues.wait_state(client.user, item, "RUNNING")["runName"])
    assert found["Name"].strip("/").startswith("slipway-")
    assert found["HostConfig"]["Memory"] == 64 << 20
    assert [(mount["Destination"], mount["RW"]) for mount in found["Mounts"]] == [("/in", False)]
    wait_for(lambda: output(client.user, item) == "1 /tmp\n", "the job to print")
    queues.cancel(client.user, item)
    ended(client.user, item, "KILLED")
    assert output(client.user, item) == "1 /tmp\nasked\n"
    wait_for(lambda: podman.inspect(found["Id"]) is None, "the container to be removed")


def test_what_goes_wrong_has_its_reason(client: Client, queue_name: str, start_agent: StartAgent, podman: Docker) -> None:
    queue(client, queue_name)
    agent = start_agent(queue_name, max_jobs=1)
    stranger = podman.run("create", BUSYBOX)
    name = podman.inspect(stranger)["Name"].strip("/")  # type: ignore[index]
    for config, spec, reason, says in [
        ({"name": name}, shell("true"), "name-taken", name),
        ({"pull": "never"}, {"docker": {"docker_image": "no/such:1"}}, "image-missing", "no/such:1"),
        ({}, {"docker": {"docker_image": "127.0.0.1:1/no/image:1"}}, "registry-unreachable", "127.0.0.1:1/no/image:1"),
        ({"network": "no-such-network"}, shell("true"), "network-missing", "no-such-network"),
        ({}, {"docker": {"docker_image": BUSYBOX}, "overrides": {"entry_point": ["no-such"]}}, "program-not-found", "no-such"),
        ({}, shell("exit 3"), "exit-code", "3"),
    ]:
        queue(client, queue_name, **config)
        assert says in failed(client.user, push(client.user, queue_name, spec), reason)
    agent.process.require_running()
    podman.run("rm", stranger)


def test_jobs_outlive_agent_and_engine(
    client: Client, queue_name: str, start_agent: StartAgent, podman: Docker, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    queue(client, queue_name, volume=f"{tokens}:/tokens")
    proxy = EngineProxy(tmp_path / "engine.sock", (podman.address or "").removeprefix("unix://"))
    try:
        agent = start_agent(queue_name, env={"DOCKER_HOST": f"unix://{proxy.path}"})
        lines_until_stopped = "i=0; until [ -e /tokens/stop ]; do i=$((i+1)); echo line $i; sleep 0.05; done; echo last $i; exit 5"
        item = push(client.user, queue_name, shell("mktemp /tokens/start.XXXXXX >/dev/null; " + lines_until_stopped))
        wait_for(lambda: "line 5\n" in output(client.user, item), "the job to print", 60)
        agent.process.kill()
        proxy.stop()
        agent.start({"DOCKER_HOST": f"unix://{proxy.path}"})
        before = output(client.user, item)
        proxy.start()
        wait_for(lambda: len(output(client.user, item)) > len(before), "more output")
        (tokens / "stop").touch()
        done = queues.wait_end(client.user, item)
        assert (done["exitCode"], done["failure"]["reason"]) == (5, "exit-code")
        lines = output(client.user, item).splitlines()
        assert lines == [f"line {number}" for number in range(1, len(lines))] + [f"last {len(lines) - 1}"]
        assert len(list(tokens.glob("start.*"))) == 1
        # The agent removes it after the outcome is acknowledged, and needs the engine for it.
        wait_for(lambda: podman.containers("slipway.scope", client.user.base_url) == [], "the container to be removed")
    finally:
        proxy.stop()
