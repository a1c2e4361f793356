"""The agent's life with containers: stops, submitters' limits, drains, upgrades, other servers, a first start (A36, A37, R09)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import queues
from support.agent import Agent
from support.client import Client
from support.containers import ended, failed, output, push, shell
from support.docker import BUSYBOX, PYTHON, Docker
from support.processes import Process, slipway_binary, wait_for
from support.server import GraphQLError, Server, User, clean_environment

StartAgent = Callable[..., Agent]

# Ends by itself once there is a file `/go`.
GATED = "echo began; until [ -e /go ]; do sleep 0.1; done; echo ended; exit 5"

TRAIN = """
import pathlib, time, wandb
with wandb.init() as run:
    run.log({"part": 1})
    print("first part", flush=True)
    while not pathlib.Path("/go").exists():
        time.sleep(0.1)
    run.log({"part": 2})
    pathlib.Path("model.txt").write_text("weights")
    run.save("model.txt")
"""


def let_go(docker: Docker, run: str) -> None:
    """Lets a gated job go on."""
    docker.run("exec", docker.wait_running(run)["Id"], "touch", "/go")


def began(user: User, item: str) -> str:
    """The run of a gated job, once the job has printed its first line."""
    run = queues.wait_state(user, item, "RUNNING")["runName"]
    wait_for(lambda: output(user, item) == "began\n", "the job to begin")
    return run


def test_a_run_that_is_stopped_ends_its_container(
    client: Client, queue_name: str, start_agent: StartAgent, docker: Docker
) -> None:
    """A36, by the run's page."""
    queues.create(client.user, queue_name, resource="local-container")
    start_agent(queue_name)
    item = push(client.user, queue_name, shell("trap 'echo asked; exit 0' TERM; echo began; sleep 600 & wait"))
    run = began(client.user, item)
    document = 'query Run($run: String!) { project(entityName: "alice", name: "proj") { run(name: $run) { id } } }'
    identifier = client.user.graphql(document, {"run": run})["project"]["run"]["id"]
    client.user.graphql("mutation Stop($id: ID!) { stopRun(input: {id: $id}) { success } }", {"id": identifier})
    done = ended(client.user, item, "KILLED", 20)
    assert (done["exitCode"], done["run"]["state"], output(client.user, item)) == (0, "killed", "began\nasked\n")
    wait_for(lambda: docker.of_run(run) is None, "the container to be removed")


POLICY = """mutation Policy($team: String!, $queue: String!, $config: JSONString!, $policy: JSONString) {
  upsertRunQueue(input: {entityName: $team, projectName: "model-registry", queueName: $queue, resourceType: "local-container",
    resourceConfig: $config, policy: $policy}) { success } }"""


def test_what_a_submitter_may_set_is_the_queues_to_say(
    server: Server, client: Client, queue_name: str, start_agent: StartAgent, docker: Docker, tmp_path: Path
) -> None:
    bob, team = server.add_user(f"bob-{queue_name}"), f"team-{queue_name}"
    server.add_team(team, bob)
    (tmp_path / "greeting").write_text("from the host\n")
    volume = {"volume": f"{tmp_path}:/in:ro"}

    def allow(*paths: str) -> None:
        config = json.dumps({"resource_args": {"local-container": {"memory": "64m"}}})
        variables = {"team": team, "queue": queue_name, "config": config, "policy": json.dumps({"allowed_overrides": paths})}
        assert client.user.graphql(POLICY, variables)["upsertRunQueue"]["success"]

    def submit(script: str, **options: object) -> str:
        spec = {"entity": team, "project": "proj", "resource": "local-container", "resource_args": {"local-container": options}}
        return queues.push(bob, queue_name, spec | shell(script), entity=team)

    allow()
    start_agent(queue_name, entity=team)
    refusals: list[dict[str, object]] = [
        volume, {"name": "mine"}, {"env": ["HOME"]}, {"network": "host"}, {"privileged": True}, {"device": "/dev/kvm"},
    ]  # fmt: skip
    for refused in refusals:
        with pytest.raises(GraphQLError) as caught:
            submit("true", **refused)
        assert caught.value.status in (400, 403)
        assert f"/resource_args/local-container/{next(iter(refused))}" in str(caught.value)
    item = submit("sleep 600", memory="32m", env=["A=1"], cpus=0.5)
    found = docker.wait_running(queues.wait_state(client.user, item, "RUNNING")["runName"])
    assert (found["HostConfig"]["Memory"], found["HostConfig"]["NanoCpus"]) == (32 << 20, 500_000_000)
    queues.cancel(client.user, item)
    allow("/volume", "/name")
    item = submit("cat /in/greeting; exit 5", name=f"slipway-test-{os.getpid()}", **volume)
    failed(client.user, item, "exit-code")
    assert output(client.user, item) == "from the host\n"


@pytest.mark.parametrize("how", ["signal", "command"])
def test_a_drain_waits_for_the_container(
    client: Client, queue_name: str, start_agent: StartAgent, docker: Docker, how: str
) -> None:
    queues.create(client.user, queue_name, resource="local-container")
    name = f"agent-of-{queue_name}"
    agent = start_agent(queue_name, name=name)
    running = push(client.user, queue_name, shell(GATED))
    run = began(client.user, running)
    if how == "signal":
        agent.process.signal(signal.SIGTERM)
    else:
        assert client.run(slipway_binary(), "agents", "drain", name, "-e", "alice").code == 0
    # What it says of its status, after a first word that it was told: from here on it asks for nothing.
    agent.process.wait_for_output("draining: takes nothing new")
    waiting = push(client.user, queue_name, shell("true"))
    let_go(docker, run)
    assert agent.process.wait(120) == 0
    assert "ended" in failed(client.user, running, "exit-code")
    assert output(client.user, running) == "began\nended\n"
    assert queues.item(client.user, waiting)["state"] == "PENDING"
    assert docker.containers("slipway.scope", client.user.base_url) == []


def test_an_upgraded_agent_goes_on_with_the_container(
    client: Client, queue_name: str, start_agent: StartAgent, docker: Docker, tmp_path: Path
) -> None:
    queues.create(client.user, queue_name, resource="local-container")
    agent = start_agent(queue_name)
    item = push(client.user, queue_name, shell(GATED))
    run = began(client.user, item)
    container = docker.wait_running(run)["Id"]
    agent.process.signal(signal.SIGTERM)
    agent.process.wait_for_output("draining")
    agent.process.signal(signal.SIGTERM)
    agent.process.wait()
    # The program has been replaced; what is new about it is its path.
    upgraded = tmp_path / "slipway"
    upgraded.symlink_to(slipway_binary())
    agent.process.command[0] = str(upgraded)
    agent.start()
    agent.process.wait_for_output("took over a job")
    assert docker.wait_running(run)["Id"] == container
    let_go(docker, run)
    failed(client.user, item, "exit-code")
    assert output(client.user, item) == "began\nended\n"


def test_a_training_job_keeps_its_server_while_its_agent_restarts(
    client: Client, queue_name: str, start_agent: StartAgent, docker: Docker
) -> None:
    queues.create(client.user, queue_name, resource="local-container")
    agent = start_agent(queue_name)
    spec = {"docker": {"docker_image": PYTHON}, "overrides": {"entry_point": ["python", "-c", TRAIN]}}
    item = push(client.user, queue_name, spec)
    wait_for(lambda: "first part" in output(client.user, item), "the job to train", 120)
    agent.process.kill()
    agent.start()
    agent.process.wait_for_output("took over a job")
    run = queues.item(client.user, item)["runName"]
    let_go(docker, run)
    ended(client.user, item, "FINISHED", 180)
    read = """
        run = api.run(path)
        run.file("model.txt").download(root=".", replace=True)
        result = [run.state, [row["part"] for row in run.scan_history()], open("model.txt").read()]
    """
    assert client.api(read, path=f"alice/proj/{run}") == ["finished", [1, 2], "weights"]


@pytest.fixture
def official_server(tmp_path: Path) -> Iterator[Server]:
    """A server that hides every addition of ours."""
    server = Server(tmp_path / "official", "--compat", "official").start()
    yield server
    server.stop()


def stoppable(user: User, docker: Docker) -> str | None:
    """The run of the container that waits for a signal."""
    for name in docker.containers("slipway.scope", user.base_url):
        found = docker.inspect(name)
        if found and any("trap" in word for word in found["Config"]["Cmd"]):
            return found["Config"]["Labels"]["slipway.run"]
    return None


def test_a_server_that_has_only_the_official_api(
    official_server: Server, queue_name: str, docker: Docker, tmp_path: Path
) -> None:
    user = official_server.admin
    client = Client(user, tmp_path / "official-alice")
    client.api(
        """
        for name, config in queues.items():
            api.create_run_queue(name, "local-container", entity="alice", config=config)
        """,
        queues={queue_name: {"memory": "64m"}, f"{queue_name}-volume": {"volume": "/tmp:/mnt"}},
    )

    def launch(queue: str, script: str) -> None:
        overrides = json.dumps({"overrides": {"entry_point": ["sh", "-c", script]}})
        client.run(slipway_binary(), "launch", "-d", BUSYBOX, "-q", queue, "-e", "alice", "-p", "proj", "-c", overrides).ok()

    launch(queue_name, "echo what it printed; exit 4")
    launch(queue_name, "trap 'exit 0' TERM; sleep 600 & wait")
    launch(f"{queue_name}-volume", "true")
    agent = Agent(user, tmp_path / "agent", [queue_name, f"{queue_name}-volume"]).start()
    try:
        run = wait_for(lambda: stoppable(user, docker), "the second job to run")
        document = 'query Run($run: String!) { project(entityName: "alice", name: "proj") { run(name: $run) { id } } }'
        identifier = user.graphql(document, {"run": run})["project"]["run"]["id"]
        user.graphql("mutation StopRun($id: ID!) { stopRun(input: {id: $id}) { clientMutationId success } }", {"id": identifier})
        agent.process.wait_for_output("outcome=Killed", 40)
        # The agent looks for the first job's run for a minute, as the official one does.
        agent.process.wait_for_output("outcome=Failed", 180)
        # That server gives an agent its name.
        name = re.findall(r"agent (\S+): running", agent.process.output())[0]
        read = """
            import tempfile
            files = [file for file in api.run("alice/model-registry/" + name).files() if file.name.endswith("/error/error.log")]
            result = sorted(open(file.download(root=tempfile.mkdtemp()).name).read() for file in files)
        """
        # Each failure is reported once its log is there.
        states = "result = sorted(item.state for name in names for item in api.run_queue('alice', name).items)"
        found = lambda: client.api(states, names=[queue_name, f"{queue_name}-volume"])  # noqa: E731
        wait_for(lambda: found().count("failed") == 2, "both failures to be reported")
        logs = client.api(read, name=name)
        assert len(logs) == 2, logs
        # Who set an argument is not told there: what only a queue's owner may set is refused.
        refusal = next(log for log in logs if "`/resource_args/local-container/volume`" in log)
        assert "resource_args_policy: trust" in refusal
        assert "what it printed\n" in logs
        wait_for(lambda: docker.containers("slipway.scope", user.base_url) == [], "the containers to be removed")
    finally:
        docker.leftovers([agent], user.base_url)


def test_the_first_start_needs_docker_and_nothing_else(server: Server, queue_name: str, docker: Docker, tmp_path: Path) -> None:
    """R09: no Python, no official client, no configuration; the commands of the manual's first section."""
    user = server.add_user(f"new-{queue_name}")
    env = clean_environment(tmp_path) | {"PATH": "/nowhere", "SLIPWAY_LOG": "info"}
    command = lambda *arguments: [str(slipway_binary()), *arguments]  # noqa: E731
    run = lambda *arguments, **options: subprocess.run(  # noqa: E731
        command(*arguments), env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, **options
    )
    assert run("login", "--host", user.base_url, input=user.key).returncode == 0
    made = run("queue", "create", "gpu", "--resource", "local-container", "--config", '{"shm-size": "64m"}')
    assert made.returncode == 0, made.stderr
    agent = Process("slipway launch-agent", command("launch-agent", "-q", "gpu"), tmp_path / "agent.log", env, cwd=tmp_path)
    agent.start()
    try:
        launched = run("launch", "-d", BUSYBOX, "-q", "gpu", "-p", "first", "-E", "sh -c 'echo it ran; exit 6'", "--wait")
        assert "it ran" in launched.stdout, launched.stderr
        assert launched.returncode == 6 and "exited with code 6" in launched.stderr, launched.stderr
    finally:
        left = docker.leftovers([agent], user.base_url)
    assert left == []
