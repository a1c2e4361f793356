"""Image jobs as containers: what they are given, what is seen of them, how they end (R01–R07, R09, A36, A37, A39)."""

from __future__ import annotations

import base64
import json
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
from support.docker import BUSYBOX, PYTHON, Docker
from support.processes import slipway_binary, wait_for
from support.registry import Registry

StartAgent = Callable[..., Agent]

TRAIN = """
import argparse, pathlib, wandb
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
arguments = parser.parse_args()
print("first line", flush=True)
with wandb.init(config={"lr": arguments.lr}) as run:
    for step in range(3):
        run.log({"loss": 1.0 / (step + 1)})
    pathlib.Path("model.txt").write_text("weights")
    run.save("model.txt")
    run.summary["lr_used"] = run.config.lr
"""


@pytest.fixture
def network(docker: Docker, queue_name: str) -> Iterator[str]:
    name = f"slipway-test-{queue_name}-{os.getpid()}"
    docker.run("network", "create", name)
    yield name
    docker.run("network", "rm", name)


@pytest.mark.parametrize("kind", ["default", "custom", "host"])
def test_a_training_job_reaches_a_server_on_loopback_from_any_network(
    client: Client, queue_name: str, network: str, start_agent: StartAgent, kind: str
) -> None:
    config = {"default": {}, "custom": {"network": network}, "host": {"net": "host"}}[kind]
    queues.create(client.user, queue_name, resource="local-container", config=config)
    start_agent(queue_name)
    spec = {
        "docker": {"docker_image": PYTHON},
        "overrides": {"entry_point": ["python", "-c", TRAIN], "args": ["--lr", "0.5"]},
    }
    item = push(client.user, queue_name, spec)
    done = ended(client.user, item, "FINISHED", 120)
    text = output(client.user, item)
    assert text.splitlines()[0] == "first line"
    assert f"{client.user.base_url}/alice/proj" in text, "links are for people outside of the container"
    run = client.api(
        """
        run = api.run(path)
        run.file("model.txt").download(root=".", replace=True)
        result = [run.state, run.summary["lr_used"], len(list(run.scan_history())), open("model.txt").read()]
        """,
        path=f"alice/proj/{done['runName']}",
    )
    assert run == ["finished", 0.5, 3, "weights"]


def test_the_documented_queue_runs_as_printed(
    client: Client, queue_name: str, start_agent: StartAgent, docker: Docker
) -> None:
    datasets = Path("/mnt/datasets")
    datasets.mkdir(parents=True, exist_ok=True)
    documented = {
        "env": ["MY_ENV_VAR=value", "MY_EXISTING_ENV_VAR"],
        "volume": "/mnt/datasets:/mnt/datasets",
        "rm": True,
        "gpus": "all",
    }
    queues.create(client.user, queue_name, resource="local-container", config=documented)
    start_agent(queue_name, env={"MY_EXISTING_ENV_VAR": "of the agent"})
    script = 'echo "$MY_ENV_VAR, $MY_EXISTING_ENV_VAR, $(ls -d /mnt/datasets)"; sleep 600'
    if "nvidia" not in docker.run("info", "--format", "{{json .Runtimes}}"):
        message = failed(client.user, push(client.user, queue_name, shell(script)), "no-gpu")
        assert "NVIDIA Container Toolkit" in message
        queues.create(client.user, queue_name, resource="local-container", config=documented | {"gpus": None})
    item = push(client.user, queue_name, shell(script))
    run = queues.wait_state(client.user, item, "RUNNING")["runName"]
    wait_for(lambda: "value, of the agent, /mnt/datasets" in output(client.user, item), "the job's variables and volume")
    found = docker.of_run(run)
    assert found
    assert found["Name"].startswith(f"/slipway-{run}-1-")
    labels = found["Config"]["Labels"]
    assert labels["slipway.run"] == run and labels["slipway.entity"] == "alice" and labels["slipway.attempt"] == "1"
    assert [(mount["Source"], mount["Destination"]) for mount in found["Mounts"]] == [("/mnt/datasets", "/mnt/datasets")]
    queues.cancel(client.user, item)
    ended(client.user, item, "KILLED")


def test_every_spelling_reaches_the_engine(client: Client, queue_name: str, start_agent: StartAgent, docker: Docker) -> None:
    config = {
        "shm_size": "128m", "--memory": "256m", "c": 512, "ulimit": ["nofile=512:1024"], "init": False,
        "cap-drop": ["NET_RAW"], "h": "box", "label": {"team": "a"}, "read_only": True, "tmpfs": "/tmp", "w": "/tmp",
    }  # fmt: skip
    queues.create(client.user, queue_name, resource="local-container", config=config)
    start_agent(queue_name)
    item = push(client.user, queue_name, shell("sleep 600"), cpus="0.5", e=["A=1"], env=["B=2"])
    found = docker.wait_running(queues.wait_state(client.user, item, "RUNNING")["runName"])
    host, inside = found["HostConfig"], found["Config"]
    assert (host["ShmSize"], host["Memory"], host["CpuShares"], host["NanoCpus"]) == (128 << 20, 256 << 20, 512, 500_000_000)
    assert host["Ulimits"] == [{"Name": "nofile", "Hard": 1024, "Soft": 512}]
    assert host["CapDrop"] == ["NET_RAW"] and host["ReadonlyRootfs"] and host["Tmpfs"] == {"/tmp": ""}
    assert inside["Hostname"] == "box" and inside["WorkingDir"] == "/tmp" and inside["Labels"]["team"] == "a"
    assert {"A=1", "B=2"} <= set(inside["Env"])
    # Keys go through the API: no process of this machine shows one.
    key = next(entry.split("=", 1)[1] for entry in inside["Env"] if entry.startswith("WANDB_API_KEY="))
    assert key not in subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert key != client.user.key
    queues.cancel(client.user, item)
    ended(client.user, item, "KILLED")
    wait_for(lambda: docker.inspect(found["Id"]) is None, "the container to be removed")


def test_entry_points_and_arguments_are_those_of_the_launch_then_of_the_image(
    client: Client, queue_name: str, start_agent: StartAgent, docker: Docker
) -> None:
    image = f"slipway-test/entry:{os.getpid()}"
    holder = docker.run("create", BUSYBOX)
    docker.run("commit", "--change", 'ENTRYPOINT ["echo", "image"]', "--change", 'CMD ["default"]', holder, image)
    docker.run("rm", holder)
    queues.create(client.user, queue_name, resource="local-container")
    start_agent(queue_name)
    try:
        for overrides, expected in [
            ({}, "image default"),
            ({"args": ["--a", "b c"]}, "image --a b c"),
            ({"entry_point": ["echo", "mine"], "args": ["x"]}, "mine x"),
        ]:
            item = push(client.user, queue_name, {"docker": {"docker_image": image}, "overrides": overrides})
            message = failed(client.user, item, "no-run")
            assert output(client.user, item) == f"{expected}\n"
            assert "never called wandb.init" in message
    finally:
        docker.run("rmi", "--force", image)


@pytest.mark.parametrize(
    ("config", "spec", "reason", "words"),
    [
        ({}, {"docker": {"docker_image": "127.0.0.1:1/no/image:1"}}, "registry-unreachable", "127.0.0.1:1/no/image:1"),
        ({"pull": "never"}, {"docker": {"docker_image": "slipway-test/absent:1"}}, "image-missing", "slipway-test/absent:1"),
        ({}, {"docker": {"docker_image": "../../x"}}, "bad-image", "../../x"),
        ({"memroy": "1g"}, shell("true"), "unknown-option", "did you mean `memory`?"),
        ({"memory": "lots"}, shell("true"), "bad-option", "such as 512m"),
        ({"memory": "1k"}, shell("true"), "engine-refused", "emory"),
        ({"volume": "/no/such/path:/data"}, shell("true"), "path-missing", "/no/such/path"),
        ({"gpus": 2}, shell("true"), "no-gpu", "GPU"),
        ({"runtime": "nvidia"}, shell("true"), "runtime-missing", "nvidia"),
        ({"network": "no-such-network"}, shell("true"), "network-missing", "no-such-network"),
        ({"restart": "always"}, shell("true"), "bad-option", "retry the item"),
        ({"annotation": "a=b"}, shell("true"), "engine-too-old", "`annotation` needs an engine whose API is of version 1.43"),
        ({"env": ["AWS_SECRET_ACCESS_KEY"]}, shell("true"), "bad-option", "allowed_env"),
        ({}, {"docker": {"docker_image": BUSYBOX}, "overrides": {"entry_point": ["no-such-program"]}}, "program-not-found", "no-such-program"),
    ],
)  # fmt: skip
def test_what_cannot_run_fails_with_a_reason_and_leaves_the_agent_well(
    client: Client, queue_name: str, start_agent: StartAgent, config: dict[str, Any], spec: dict[str, Any], reason: str, words: str
) -> None:
    queues.create(client.user, queue_name, resource="local-container", config=config)
    agent = start_agent(queue_name, max_jobs=1)
    message = failed(client.user, push(client.user, queue_name, spec), reason)
    assert words in message
    queues.create(client.user, queue_name, resource="local-container", config={})
    failed(client.user, push(client.user, queue_name, shell("echo still here")), "no-run")
    agent.process.require_running()


def test_a_name_in_use_by_a_strangers_container_is_left_to_it(
    client: Client, queue_name: str, start_agent: StartAgent, docker: Docker
) -> None:
    name = f"stranger-{os.getpid()}"
    stranger = docker.run("run", "--detach", "--name", name, BUSYBOX, "sleep", "600")
    try:
        queues.create(client.user, queue_name, resource="local-container", config={"name": name})
        start_agent(queue_name)
        message = failed(client.user, push(client.user, queue_name, shell("true")), "name-taken")
        assert name in message
        found = docker.inspect(stranger)
        assert found and found["State"]["Running"]
    finally:
        docker.run("rm", "--force", stranger)


def test_a_job_that_ignores_the_signal_is_killed_after_the_grace(
    client: Client, queue_name: str, start_agent: StartAgent
) -> None:
    queues.create(client.user, queue_name, resource="local-container")
    start_agent(queue_name)
    item = push(client.user, queue_name, shell("trap 'echo asked' TERM; echo ready; while true; do sleep 1; done"))
    wait_for(lambda: "ready" in output(client.user, item), "the job to run")
    queues.cancel(client.user, item)
    done = ended(client.user, item, "KILLED")
    assert done["exitCode"] == 137
    assert "asked" in output(client.user, item)


def test_what_a_job_prints_is_kept_whole(client: Client, queue_name: str, start_agent: StartAgent) -> None:
    queues.create(client.user, queue_name, resource="local-container")
    start_agent(queue_name)
    much = push(client.user, queue_name, shell("seq 1 200000"))
    failed(client.user, much, "no-run", 150)
    lines = output(client.user, much).splitlines()
    assert (len(lines), lines[0], lines[-1]) == (200_000, "1", "200000")
    binary = push(client.user, queue_name, shell(r"head -c 100000 /dev/urandom; printf '\000\377\nend'; (sleep 1; echo late) & echo x >&2"))
    failed(client.user, binary, "no-run")
    text = output(client.user, binary)
    # What is not UTF-8 is shown as such.
    assert "\x00\ufffd\n" in text and "end" in text and "x\n" in text


def test_memory_signals_and_others_hands_are_told_apart(
    client: Client, queue_name: str, start_agent: StartAgent, docker: Docker
) -> None:
    queues.create(client.user, queue_name, resource="local-container")
    start_agent(queue_name)
    eater = {"docker": {"docker_image": PYTHON}, "overrides": {"entry_point": ["python", "-c", "x = bytearray(1 << 30)"]}}
    message = failed(client.user, push(client.user, queue_name, eater, memory="32m", **{"memory-swap": "32m"}), "out-of-memory")
    assert "memory" in message
    failed(client.user, push(client.user, queue_name, shell("exit 3")), "exit-code")
    # A container that is removed by force is killed first, which may be what is seen of it.
    for command, reasons in [(["kill"], {"signal"}), (["rm", "--force"], {"container-removed", "signal"})]:
        item = push(client.user, queue_name, shell("echo up; sleep 600"))
        run = queues.wait_state(client.user, item, "RUNNING")["runName"]
        wait_for(lambda item=item: "up" in output(client.user, item), "the job to print")
        found = docker.wait_running(run)
        docker.run(*command, found["Id"])
        assert ended(client.user, item, "FAILED")["failure"]["reason"] in reasons
        assert output(client.user, item) == "up\n"


def test_image_jobs_of_the_official_client_run_here(client: Client, queue_name: str, start_agent: StartAgent) -> None:
    queues.create(client.user, queue_name, resource="local-container")
    start_agent(queue_name)
    client.wandb("launch", "-d", PYTHON, "-q", queue_name, "-e", "alice", "-p", "proj", "-E", "python -c pass").ok()
    failed(client.user, queues.only_item(client.user, "alice", queue_name)["id"], "no-run")
    client.wandb("job", "create", "-p", "proj", "-e", "alice", "-n", f"job-{queue_name}", "image", PYTHON).ok()
    config = json.dumps({"overrides": {"entry_point": ["python", "-c", TRAIN], "args": ["--lr", "0.25"]}})
    client.wandb(
        "launch", "-j", f"alice/proj/job-{queue_name}:latest", "-q", queue_name, "-e", "alice", "-p", "proj", "-c", config
    ).ok()
    item = queues.items(client.user, "alice", queue_name)[-1]
    ended(client.user, item["id"], "FINISHED", 120)


def test_a_code_job_needs_an_image(client: Client, queue_name: str, start_agent: StartAgent) -> None:
    queues.create(client.user, queue_name, resource="local-container")
    start_agent(queue_name)
    code = client.write({"requirements.txt": "", "train.py": "print(1)"}, "code")
    client.wandb(
        "job", "create", "code", "-p", "proj", "-e", "alice", "-n", f"job-{queue_name}", "-E", "python train.py", "-r", "3.11", code
    ).ok()
    item = push(client.user, queue_name, {"job": f"alice/proj/job-{queue_name}:latest"})
    assert "local-process" in failed(client.user, item, "needs-image")


def test_an_agent_without_an_engine_says_so(client: Client, queue_name: str, start_agent: StartAgent, tmp_path: Path) -> None:
    queues.create(client.user, queue_name, resource="local-container")
    start_agent(queue_name, env={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert "install Docker or podman" in failed(client.user, push(client.user, queue_name, shell("true")), "no-engine")


def test_a_launch_without_a_queue_runs_here_and_ends_as_the_job_does(client: Client, docker: Docker) -> None:
    """J03."""
    here = [slipway_binary(), "launch", "-e", "alice", "-p", "proj"]
    done = client.run(*here, "-d", BUSYBOX, "-E", "sh -c 'echo printed; exit 3'")
    assert done.code == 3 and "\nprinted\n" in done.output, done.output
    run = client.run(*here, "-d", PYTHON, "-E", "python", "-c", json.dumps({"overrides": {"args": ["-c", TRAIN, "--lr", "0.5"]}}))
    assert run.code == 0, run.output
    assert "\nfirst line\n" in run.output, run.output
    missing = client.run(*here, "-d", "slipway-test/absent:1", "-R", '{"local-container": {"pull": "never"}}')
    assert missing.code == 1 and "No such image" in missing.output, missing.output
    assert docker.containers("slipway.scope", client.user.base_url) == []


@pytest.mark.parametrize("how", ["written", "helper", "podman"])
def test_registries_are_asked_with_the_credentials_of_the_agents_user(
    client: Client, queue_name: str, start_agent: StartAgent, tmp_path: Path, how: str
) -> None:
    registry = Registry("alice", "word")
    config = tmp_path / "docker"
    config.mkdir()
    env = {"DOCKER_CONFIG": str(config), "REGISTRY_AUTH_FILE": str(config / "auth.json")}
    spec = {"docker": {"docker_image": f"{registry.host}/team/image:1"}}
    try:
        queues.create(client.user, queue_name, resource="local-container")
        start_agent(queue_name, env=env | {"PATH": f"{config}:{os.environ['PATH']}"})
        assert "docker login" in failed(client.user, push(client.user, queue_name, spec), "registry-unauthorised")
        auth = {"auth": base64.b64encode(b"alice:word").decode()}
        if how == "written":
            content: dict[str, Any] = {"auths": {registry.host: auth}}
        elif how == "podman":
            content = {"auths": {f"{registry.host}/team": auth}}
        else:
            content = {"credHelpers": {registry.host: "test"}}
            helper = config / "docker-credential-test"
            helper.write_text('#!/bin/sh\n[ "$1 $(cat)" = "get %s" ] && echo \'{"Username": "alice", "Secret": "word"}\'\n' % registry.host)
            helper.chmod(0o755)
        (config / ("auth.json" if how == "podman" else "config.json")).write_text(json.dumps(content))
        # Let in, the agent learns that there is no such image.
        failed(client.user, push(client.user, queue_name, spec), "image-not-found")
    finally:
        registry.stop()


def test_a_queue_with_an_option_or_a_value_that_is_wrong_is_doubted_when_it_is_made(client: Client, queue_name: str) -> None:
    document = """mutation Upsert($queue: String!, $config: JSONString!) {
      upsertRunQueue(input: {entityName: "alice", projectName: "model-registry", queueName: $queue,
        resourceType: "local-container", resourceConfig: $config}) { success configSchemaValidationErrors } }"""
    for options, doubts in [
        ({"shm_size": "1g", "e": ["A"]}, None),
        ({"shm-sise": "1g"}, "did you mean `shm-size`?"),
        ({"memory": "lots"}, "`/resource_args/local-container/memory`: `lots` is not a size"),
    ]:
        config = json.dumps({"resource_args": {"local-container": options}})
        found = client.user.graphql(document, {"queue": queue_name, "config": config})["upsertRunQueue"]["configSchemaValidationErrors"]
        assert found == doubts or doubts in found[0]
