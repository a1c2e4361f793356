"""What goes wrong on a real engine: a reason on the item, the slot free, the agent well, nothing of ours left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support import queues
from support.agent import Agent
from support.client import Client
from support.containers import ended, failed, output, push, shell
from support.docker import BUSYBOX, Docker
from support.processes import wait_for
from support.registry import Registry
from support.server import Server, User

StartAgent = Callable[..., Agent]


def well(user: User, queue: str, agent: Agent, docker: Docker) -> None:
    """The agent of one slot runs the next job, and has left no container and no record of one."""
    queues.create(user, queue, resource="local-container", config={})
    item = push(user, queue, shell("echo the next job; exit 5"))
    assert "the next job" in failed(user, item, "exit-code")
    agent.process.require_running()
    wait_for(lambda: docker.containers("slipway.scope", user.base_url) == [], "the containers to be removed")
    kept = [path for path in (agent.directory / "state").glob("*/containers/*") if path.is_dir()]
    wait_for(lambda: not any(path.exists() for path in kept), "the records of the containers to be removed")


# What the queue says, what runs, the reason, and words of the message.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str, list[str]]] = {
    "no such image": ({}, {"docker": {"docker_image": "REGISTRY/no/image:1"}}, "image-not-found", ["REGISTRY/no/image:1", "manifest unknown"]),
    "a registry that refuses": ({}, {"docker": {"docker_image": "CLOSED/team/image:1"}}, "registry-unauthorised", ["CLOSED", "docker login"]),
    "no registry": ({}, {"docker": {"docker_image": "127.0.0.1:1/x:1"}}, "registry-unreachable", ["127.0.0.1:1/x:1", "connection refused"]),
    "a name of a stranger": ({"name": "STRANGER"}, shell("true"), "name-taken", ["STRANGER", "docker rm"]),
    "an option the engine rejects": ({"memory": "1k"}, shell("true"), "engine-refused", ["emory"]),
    "another, at the start": ({"cpuset-cpus": "4000"}, shell("true"), "engine-refused", ["4000"]),
    "a device that is not there": ({"device": "/dev/no-such-device"}, shell("true"), "engine-refused", ["/dev/no-such-device"]),
    "a volume path that is missing": ({"volume": "/no/such/path:/data"}, shell("true"), "path-missing", ["/no/such/path"]),
    "a labelled one that is missing": ({"volume": "/no/such/path:/data:ro,z"}, shell("true"), "path-missing", ["/no/such/path"]),
    "an image of another platform": ({"platform": "linux/arm64", "pull": "never"}, shell("true"), "platform-missing", ["linux/arm64"]),
    "an image that is not to be pulled": ({"pull": "never"}, {"docker": {"docker_image": "no/such:1"}}, "image-missing", ["no/such:1"]),
    "a mount that is missing": ({"mount": "type=bind,source=/no/such/path,target=/data"}, shell("true"), "path-missing", ["/no/such/path"]),
    "gpus without GPUs": ({"gpus": "all"}, shell("true"), "no-gpu", ["NVIDIA Container Toolkit"]),
    "a port in use": ({"publish": "127.0.0.1:PORT:80"}, shell("sleep 600"), "port-taken", ["PORT"]),
    "a working directory that is a file": ({"workdir": "/bin/sh"}, shell("true"), "engine-refused", ["/bin/sh"]),
    "a user that is not there": ({"user": "nobody-here"}, shell("true"), "engine-refused", ["nobody-here"]),
    "a program that is not there": ({}, {"docker": {"docker_image": BUSYBOX}, "overrides": {"entry_point": ["no-such"]}}, "program-not-found", ["no-such"]),
    "a program that may not be run": ({}, {"docker": {"docker_image": BUSYBOX}, "overrides": {"entry_point": ["/etc/passwd"]}}, "program-not-found", ["/etc/passwd"]),
}  # fmt: skip


def test_what_cannot_run_says_why_and_leaves_nothing(
    client: Client, queue_name: str, start_agent: StartAgent, docker: Docker, server: Server
) -> None:
    opened, closed = Registry(), Registry("alice", "word")
    stranger = docker.run("run", "--detach", BUSYBOX, "sleep", "600")
    name = docker.inspect(stranger)["Name"].strip("/")  # type: ignore[index]
    words = {"REGISTRY": opened.host, "CLOSED": closed.host, "STRANGER": name, "PORT": str(server.port)}

    def filled(value: Any) -> Any:
        match value:
            case str():
                for word, meant in words.items():
                    value = value.replace(word, meant)
                return value
            case dict():
                return {key: filled(item) for key, item in value.items()}
            case list():
                return [filled(item) for item in value]
        return value

    networks = docker.run("network", "ls", "--quiet")
    queues.create(client.user, queue_name, resource="local-container")
    agent = start_agent(queue_name, max_jobs=1)
    try:
        wrong = {}
        for case, (config, spec, reason, says) in CASES.items():
            queues.create(client.user, queue_name, resource="local-container", config=filled(config))
            done = ended(client.user, push(client.user, queue_name, filled(spec)), "FAILED")
            if done["failure"]["reason"] != reason or not all(filled(word) in done["failure"]["message"] for word in says):
                wrong[case] = done["failure"]
        assert wrong == {}
        found = docker.inspect(stranger)
        assert found and found["State"]["Running"], "the stranger's container is left alone"
        well(client.user, queue_name, agent, docker)
        assert docker.run("network", "ls", "--quiet") == networks
    finally:
        docker.run("rm", "--force", stranger)
        opened.stop()
        closed.stop()


def test_jobs_that_misbehave_are_ended_or_judged_and_leave_nothing(
    client: Client, queue_name: str, start_agent: StartAgent, docker: Docker
) -> None:
    limits = {"pids-limit": 40, "tmpfs": "/full:size=1m", "memory": "64m", "memory-swap": "64m"}
    queues.create(client.user, queue_name, resource="local-container", config=limits)
    agent = start_agent(queue_name, max_jobs=1)

    # What a job started ends with it.
    item = push(client.user, queue_name, shell("for i in $(seq 30); do sleep 600 & done; echo started; exit 5"))
    failed(client.user, item, "exit-code")
    assert output(client.user, item) == "started\n"

    # More processes than it may have.
    item = push(client.user, queue_name, shell("while true; do sleep 600 & done"))
    assert "can't fork" in failed(client.user, item, "exit-code")

    # More than fits on its disk.
    item = push(client.user, queue_name, shell("dd if=/dev/zero of=/full/file bs=64k"))
    assert "No space left on device" in failed(client.user, item, "exit-code")

    # More memory than it may have; what is in such a file system counts.
    item = push(client.user, queue_name, shell("tail /dev/zero"))
    assert "raise `memory`" in failed(client.user, item, "out-of-memory")
    item = push(client.user, queue_name, shell("tail /dev/zero; exit 1"))
    assert "exited with code 1 before it called wandb.init; one of its processes was killed" in failed(client.user, item, "exit-code")

    # Bytes that are no text, and a line without an end.
    item = push(client.user, queue_name, shell(r"head -c 300000 /dev/urandom; printf '\000\377end'; exit 5"))
    assert "exited with code 5" in failed(client.user, item, "exit-code")
    assert output(client.user, item).endswith("\x00\ufffdend")

    # The signal is ignored; the kill is not.
    item = push(client.user, queue_name, shell("trap '' TERM; echo ready; sleep 600"))
    wait_for(lambda: output(client.user, item) == "ready\n", "the job to run")
    queues.cancel(client.user, item)
    assert ended(client.user, item, "KILLED")["exitCode"] == 137

    well(client.user, queue_name, agent, docker)
