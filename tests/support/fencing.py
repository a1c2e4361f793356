"""Two agents on one queue, of which one stops for longer than its lease and goes on.

The stale one has a job that runs, and a second item whose acknowledgement is on its way when it stops:
by then the other agent has that item, and its job runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from support import queues
from support.agent import Agent
from support.client import Client
from support.holding import HoldingProxy
from support.processes import Process, wait_for
from support.server import User

PAIRS = [("official", "official"), ("official", "ours"), ("ours", "official"), ("ours", "ours")]

# Starts a run with the few calls that the official library makes, and ends it once the run `gate` is there.
# The standard library alone, so that it starts at once in any image.
JOB = """
import base64, json, os, sys, time, urllib.request

entity, project, run = (os.environ["WANDB_" + name] for name in ("ENTITY", "PROJECT", "RUN_ID"))
tokens, gate = sys.argv[1:]
if tokens != "-":
    with open(tokens, "a") as file:
        file.write(run + chr(10))

def call(path, body):
    key = base64.b64encode(b"api:" + os.environ["WANDB_API_KEY"].encode()).decode()
    headers = {"Authorization": "Basic " + key, "Content-Type": "application/json"}
    request = urllib.request.Request(os.environ["WANDB_BASE_URL"] + path, json.dumps(body).encode(), headers)
    while True:
        try:
            return json.load(urllib.request.urlopen(request, timeout=10))
        except OSError as error:  # the way from a container leads through its agent, which may have stopped
            if getattr(error, "code", 503) < 500:
                raise
            time.sleep(0.5)

def graphql(document, **variables):
    variables |= {"entity": entity, "project": project}
    return call("/graphql", {"query": document, "variables": variables})["data"]

graphql('''mutation UpsertBucket($run: String!, $project: String!, $entity: String!) {
  upsertBucket(input: {name: $run, modelName: $project, entityName: $entity, host: "stand-in"}) { bucket { id } } }''', run=run)
seen = "query Gate($run: String!, $project: String!, $entity: String!) { project(name: $project, entityName: $entity) { run(name: $run) { id } } }"
path = f"/files/{entity}/{project}/{run}/file_stream"
while not graphql(seen, run=gate)["project"]["run"]:
    call(path, {})  # a run that is silent for minutes counts as crashed
    time.sleep(0.5)
stream = {"files": {"wandb-history.jsonl": {"offset": 0, "content": [json.dumps({"loss": 0.5, "_step": 0})]}}}
call(path, stream | {"complete": True, "exitcode": 0})
"""

FACTS = """
query Facts($id: ID!) { runQueueItem(id: $id) { state attempt runName exitCode failure { message } agent { id }
  events(first: 200) { kind } } }
"""

# What the target must do: the spec of an item with this name, and the runs that it really started.
Spec = Callable[[str, str], dict[str, Any]]
Starts = Callable[[str], int]


class Contender:
    """An agent of either make."""

    def __init__(self, kind: str, user: User, directory: Path, queue: str) -> None:
        self.kind = kind
        if kind == "official":
            client = Client(user, directory)
            self.process: Process = client.agent("-q", queue, "-e", user.name, "--max-jobs", "2", log=directory / "agent.log")
        else:
            self.process = Agent(user, directory, [queue], max_jobs=2, name=f"{directory.name}-{queue}").process
        self.process.start()

    def signal(self, number: signal.Signals) -> None:
        """To the agent and the service that sends the official one's requests, not to their jobs."""
        for pid in [self.process.process.pid, *services(self.process.process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        self.signal(signal.SIGCONT)
        if self.kind == "official":
            self.process.signal(signal.SIGINT)
        self.process.stop()


def services(parent: int) -> list[int]:
    """The processes of `wandb-core` that this one started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().rpartition(")")
            if name.endswith("(wandb-core") and int(rest.split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


class Duel:
    """One pair of agents on a queue of its own."""

    def __init__(self, pair: tuple[str, str], user: User, directory: Path, queue: str, spec: Spec, starts: Starts) -> None:
        self.pair = pair
        self.user = user
        self.directory = directory
        self.queue = queue
        self.spec = spec
        self.starts = starts
        self.proxy = HoldingProxy(int(user.base_url.rpartition(":")[2]))
        host = user.base_url.rpartition(":")[0]
        self.stale = Contender(pair[0], replace(user, base_url=f"{host}:{self.proxy.port}"), directory / "stale", queue)
        self.fresh: Contender | None = None
        self.running = self.push("running")
        self.taken = ""

    def __str__(self) -> str:
        return f"stale {self.pair[0]}, fresh {self.pair[1]}"

    def push(self, name: str) -> str:
        return queues.push(self.user, self.queue, self.spec(f"{self.queue}-{name}", f"gate-{self.queue}"))

    def facts(self, item: str) -> dict[str, Any]:
        return self.user.graphql(FACTS, {"id": item})["runQueueItem"]

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float) -> Any:
        return wait_for(condition, f"{what} ({self})", seconds, every=0.3)

    def begin(self) -> None:
        """The stale agent runs one job and is about to acknowledge another, when it stops."""
        self.wait_for(lambda: self.facts(self.running)["state"] == "RUNNING", "the first job to run", 240)
        self.proxy.arm("ackRunQueueItem")
        self.taken = self.push("taken")
        self.wait_for(self.proxy.held.is_set, "the acknowledgement to be on its way", 120)
        self.stale.signal(signal.SIGSTOP)
        assert self.facts(self.taken)["state"] == "LEASED"
        self.holder = self.facts(self.running)["agent"]["id"]
        self.fresh = Contender(self.pair[1], self.user, self.directory / "fresh", self.queue)

    def go_on(self) -> None:
        """The other agent has what was not acknowledged, and only that; the stale one comes back."""
        self.wait_for(lambda: self.facts(self.taken)["state"] == "RUNNING", "the other agent to have the second job", 360)
        before = self.facts(self.taken)
        assert before["agent"]["id"] != self.holder
        assert (self.facts(self.running)["agent"]["id"], self.facts(self.running)["state"]) == (self.holder, "RUNNING")
        self.stale.signal(signal.SIGCONT)
        self.proxy.let_go.set()
        self.wait_for(self.proxy.answered.is_set, "the late acknowledgement to be answered", 180)
        # An official agent also reports the refusal as a failure of the item, which is as stale.
        expected = 2 if self.pair[0] == "official" else 1
        self.wait_for(
            lambda: kinds(self.facts(self.taken)).count("stale-write") >= expected, "what was stale in the record", 180
        )
        after = self.facts(self.taken)
        assert {key: after[key] for key in after if key != "events"} == {key: before[key] for key in before if key != "events"}, self
        self.stale.process.require_running()

    def end(self) -> None:
        """Both jobs end as they would have, each with one start."""
        self.user.graphql(
            """mutation Gate($run: String!) { upsertBucket(input: {name: $run, modelName: "proj", entityName: "alice"}) { bucket { id } } }""",
            {"run": f"gate-{self.queue}"},
        )
        for item, agent in ((self.running, self.holder), (self.taken, None)):
            done = self.wait_for(lambda item=item: (now := self.facts(item))["state"] in queues.ENDED and now, "the end", 240)
            assert (done["state"], done["attempt"]) == ("FINISHED", 1), (str(self), done)
            assert agent is None or done["agent"]["id"] == agent, self
        for name in ("running", "taken"):
            assert self.starts(f"{self.queue}-{name}") == 1, f"{name} ({self})"

    def stop(self) -> None:
        self.proxy.stop()
        for contender in (self.stale, self.fresh):
            if contender:
                contender.stop()


def kinds(facts: dict[str, Any]) -> list[str]:
    return [event["kind"] for event in facts["events"]]


def hold_duels(
    user: User, directory: Path, queue_name: str, create: Callable[[str], None], spec: Spec, starts: Starts
) -> None:
    """All pairs at once, since each waits for a lease to run out."""
    with contextlib.ExitStack() as stack:
        duels = []
        for pair in PAIRS:
            queue = f"{queue_name}-{'-'.join(pair)}"
            create(queue)
            home = directory / queue
            for side in ("stale", "fresh"):
                (home / side).mkdir(parents=True)
            duel = Duel(pair, user, home, queue, spec, starts)
            stack.callback(duel.stop)
            duels.append(duel)
        for step in (Duel.begin, Duel.go_on, Duel.end):
            for duel in duels:
                step(duel)
