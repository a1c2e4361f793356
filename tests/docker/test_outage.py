"""The engine goes away or loses a message: jobs go on, each starts once, and a cancel is not forgotten (design section 4)."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import queues
from support.agent import Agent
from support.docker import BUSYBOX, Docker, EngineProxy
from support.processes import wait_for
from support.server import User

StartAgent = Callable[..., Agent]

# Each job leaves a file of its own as its first act, and goes on until it is let.
JOB = 'mktemp /shared/start.XXXXXX >/dev/null; echo began; until [ -e "/shared/go" ]; do sleep 0.1; done; echo ended; exit '


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[EngineProxy]:
    proxy = EngineProxy(tmp_path / "engine.sock")
    yield proxy
    proxy.stop()


class World:
    """A queue whose jobs share a directory with the test, and an agent that reaches the engine by the proxy."""

    def __init__(self, user: User, queue: str, directory: Path, proxy: EngineProxy, start_agent: StartAgent) -> None:
        self.user = user
        self.queue = queue
        self.proxy = proxy
        self.shared = directory / "shared"
        self.shared.mkdir()
        queues.create(user, queue, resource="local-container", config={"volume": f"{self.shared}:/shared"})
        self.env = {"DOCKER_HOST": f"unix://{proxy.path}"}
        self.start_agent = start_agent

    def start(self, **env: str) -> Agent:
        return self.start_agent(self.queue, name=f"agent-of-{self.queue}", env=self.env | env)

    def push(self, script: str) -> str:
        spec = {
            "entity": "alice",
            "project": "proj",
            "resource": "local-container",
            "docker": {"docker_image": BUSYBOX},
            "overrides": {"entry_point": ["sh", "-c", script]},
        }
        return queues.push(self.user, self.queue, spec)

    def item(self, identifier: str) -> dict[str, Any]:
        return queues.item(self.user, identifier)

    def output(self, identifier: str) -> str:
        return self.user.get(f"/slipway/v1/items/{identifier}/output?follow=false").text

    def running(self, script: str) -> str:
        """A job that has printed its first line."""
        identifier = self.push(script)
        wait_for(lambda: self.output(identifier) == "began\n", "the job's first line")
        queues.wait_state(self.user, identifier, "RUNNING")
        return identifier

    @property
    def starts(self) -> int:
        return len(list(self.shared.glob("start.*")))

    def let_go(self) -> None:
        (self.shared / "go").touch()

    def restart(self, agent: Agent, *words: str) -> None:
        """Starts the agent again and waits until it serves its queue, and has said these words since."""
        before = len(agent.process.output())
        agent.start(self.env)
        for text in (f"agent agent-of-{self.queue}: running", *words):
            wait_for(lambda text=text: text in agent.process.output()[before:], f"the agent to say {text!r}")

    def wait_taken(self, identifier: str) -> None:
        queues.wait_state(self.user, identifier, "CLAIMED", "RUNNING")


@pytest.fixture
def world(
    docker: Docker, alice: User, queue_name: str, tmp_path: Path, proxy: EngineProxy, start_agent: StartAgent
) -> Iterator[World]:
    yield World(alice, queue_name, tmp_path, proxy, start_agent)
    # Whatever the agent still has to remove needs an engine that answers.
    if proxy.listener is None:
        proxy.start()
    wait_for(lambda: docker.containers("slipway.scope", alice.base_url) == [], "the containers to be removed", 120)


def test_jobs_and_their_items_are_as_they_were_when_the_engine_comes_back(world: World, docker: Docker) -> None:
    agent = world.start()
    ends = world.running(JOB + "3")
    goes_on = world.running(JOB.replace("/shared/go", "/shared/end") + "4")
    removed = world.running(JOB.replace("/shared/go", "/shared/never") + "5")
    before = {item: world.item(item) for item in (ends, goes_on, removed)}
    world.proxy.stop()
    agent.process.wait_for_output("its status cannot be read")
    # One job ends meanwhile, and somebody removes the container of another.
    name = next(container for container in docker.containers("slipway.run", before[removed]["runName"]))
    world.let_go()
    docker.run("rm", "--force", name)
    ended = docker.of_run(before[ends]["runName"])
    assert ended
    docker.run("wait", ended["Id"])
    for item, facts in before.items():
        now = world.item(item)
        assert (now["state"], now["attempt"], now["failure"]) == ("RUNNING", facts["attempt"], None)
    told = wait_for(lambda: world.item(goes_on)["warning"], "the item to say that the engine is away", 60)
    assert "does not answer" in told["message"], told
    world.proxy.start()
    wait_for(lambda: world.item(goes_on)["warning"] is None, "the warning to go", 60)
    for item, code in ((ends, 3), (goes_on, 4)):
        if item == goes_on:
            (world.shared / "end").touch()
        done = queues.wait_end(world.user, item)
        assert (done["exitCode"], done["failure"]["reason"]) == (code, "exit-code")
        assert world.output(item) == "began\nended\n"
    done = queues.wait_end(world.user, removed)
    assert done["failure"]["reason"] == "container-removed"
    assert world.output(removed) == "began\n"
    assert world.starts == 3


def test_a_running_job_that_is_cancelled_meanwhile_ends_when_the_engine_is_back(world: World) -> None:
    agent = world.start()
    item = world.running("trap 'echo asked; exit 1' TERM; " + JOB + "0")
    world.proxy.stop()
    agent.process.wait_for_output("its status cannot be read")
    queues.cancel(world.user, item)
    assert world.item(item)["state"] == "RUNNING", "nobody knows yet that it has ended"
    world.proxy.start()
    done = queues.wait_end(world.user, item)
    assert (done["state"], done["failure"]) == ("KILLED", None)
    assert world.output(item) == "began\nasked\n"


@pytest.mark.parametrize("known", [True, False], ids=["known engine", "engine never seen"])
def test_a_job_that_waits_for_the_engine_is_cancelled_without_it(world: World, known: bool) -> None:
    if not known:
        world.proxy.stop()
    world.start()
    if known:
        world.let_go()
        queues.wait_end(world.user, world.push(JOB + "3"))
        world.proxy.stop()
    starts = world.starts
    item = world.push(JOB + "0")
    world.wait_taken(item)
    queues.cancel(world.user, item)
    assert queues.wait_end(world.user, item, 30)["state"] == "KILLED"
    # Its slot is free: the next one waits for the engine in its place, and runs.
    world.let_go()
    after = world.push(JOB + "7")
    world.wait_taken(after)
    world.proxy.start()
    assert queues.wait_end(world.user, after)["exitCode"] == 7
    assert world.starts == starts + 1


@pytest.mark.parametrize("cancelled", [False, True], ids=["ends", "cancelled"])
def test_an_agent_that_starts_without_the_engine_keeps_its_jobs(world: World, cancelled: bool) -> None:
    agent = world.start()
    item = world.running(JOB + "6")
    before = world.item(item)
    world.proxy.stop()
    agent.process.kill()
    if cancelled:
        queues.cancel(world.user, item)
    else:
        world.let_go()
    world.restart(agent, "took over a job", "its status cannot be read")
    now = world.item(item)
    assert (now["state"], now["attempt"], now["failure"]) == ("RUNNING", before["attempt"], None)
    world.proxy.start()
    done = queues.wait_end(world.user, item)
    if cancelled:
        assert done["state"] == "KILLED"
    else:
        assert (done["exitCode"], world.output(item)) == (6, "began\nended\n")
    assert world.starts == 1


@pytest.mark.parametrize("point", ["agent.start-recorded", "docker.created", "docker.started"])
def test_a_start_that_was_cut_short_is_settled_once_the_engine_is_back(world: World, point: str) -> None:
    world.let_go()
    agent = world.start(SLIPWAY_FAILPOINT=point)
    item = world.push(JOB + "6")
    wait_for(lambda: not agent.process.running, f"the agent to die at {point}")
    world.proxy.stop()
    world.restart(agent)
    world.proxy.start()
    done = queues.wait_end(world.user, item)
    assert (done["exitCode"], world.output(item)) == (6, "began\nended\n")
    assert world.starts == 1


@pytest.mark.parametrize(
    ("what", "method", "path"),
    [
        ("request", "POST", "/containers/create"),
        ("answer", "POST", "/containers/create"),
        ("request", "POST", "/start"),
        ("answer", "POST", "/start"),
        ("request", "DELETE", "/containers/"),
        ("answer", "DELETE", "/containers/"),
    ],
)
def test_a_lost_message_changes_nothing(world: World, what: str, method: str, path: str) -> None:
    world.let_go()
    world.start()
    lost = world.proxy.lose(what, method, path)
    item = world.push(JOB + "6")
    done = queues.wait_end(world.user, item, 180)
    assert (done["state"], done["exitCode"], world.output(item)) == ("FAILED", 6, "began\nended\n"), done["failure"]
    wait_for(lost.is_set, "the message to be lost")
    assert world.starts == 1


def test_a_stop_whose_answer_is_lost_stops(world: World) -> None:
    world.start()
    item = world.running("trap 'echo asked; exit 1' TERM; " + JOB + "0")
    lost = world.proxy.lose("answer", "POST", "/stop")
    queues.cancel(world.user, item)
    done = queues.wait_end(world.user, item)
    assert (done["state"], world.output(item)) == ("KILLED", "began\nasked\n")
    # The engine answers once the container has ended, which others may hear of sooner.
    wait_for(lost.is_set, "the answer to be lost")


def test_an_agent_leaves_without_the_engine_and_its_job_goes_on(world: World) -> None:
    agent = world.start()
    item = world.running(JOB + "6")
    world.proxy.stop()
    agent.process.wait_for_output("its status cannot be read")
    agent.process.signal(signal.SIGTERM)
    agent.process.wait_for_output("draining")
    agent.process.signal(signal.SIGTERM)
    agent.process.wait()
    assert world.item(item)["state"] == "RUNNING"
    world.restart(agent, "took over a job")
    world.let_go()
    world.proxy.start()
    done = queues.wait_end(world.user, item)
    assert (done["exitCode"], world.output(item), world.starts) == (6, "began\nended\n", 1)


@pytest.mark.parametrize("path", ["/containers/create", "/start"])
def test_a_launch_that_hangs_with_the_engine_is_cancelled_and_never_starts(world: World, path: str) -> None:
    agent = world.start()
    lost = world.proxy.lose("request", "POST", path, and_go=True)
    item = world.push(JOB + "0")
    wait_for(lost.is_set, "the message to be lost")
    if path == "/start":
        # Whether the engine heard it nobody knows, so that the item cannot end without it.
        agent.process.wait_for_output("the answer to a start was lost")
        queues.cancel(world.user, item)
        agent.process.wait_for_output("its status cannot be read")
        assert world.item(item)["state"] == "CLAIMED"
        world.proxy.start()
    else:
        queues.cancel(world.user, item)
    assert queues.wait_end(world.user, item, 30)["state"] == "KILLED"
    if path != "/start":
        world.proxy.start()
    world.let_go()
    assert queues.wait_end(world.user, world.push(JOB + "7"))["exitCode"] == 7
    assert world.starts == 1


def test_a_job_is_not_started_anew_by_an_agent_that_lost_its_directory_and_finds_no_engine(world: World) -> None:
    agent = world.start()
    item = world.running(JOB + "6")
    agent.process.kill()
    world.proxy.stop()
    containers = agent.directory / "state" / f"agent-of-{world.queue}" / "containers"
    containers.rename(agent.directory / "lost")
    world.restart(agent)
    world.proxy.start()
    world.let_go()
    done = queues.wait_end(world.user, item)
    assert (done["exitCode"], done["attempt"], world.starts) == (6, 1, 1), done["failure"]
