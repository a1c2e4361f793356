"""A server, an agent and a queue that survive being killed, and the account of what was pushed.

Every job appends a token to one file as its first act. So a start that went missing and a start too
many are counted, not inferred from what the server believes. What ended is read off the server: every
item, every run.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from chaos.pushes import OFFICIAL, OURS, Push, Pushes
from support import queues
from support.agent import Agent
from support.client import Client
from support.processes import wait_for
from support.server import Server

QUEUE = "chaos"

RUN_ENDED = ("finished", "failed", "crashed", "killed")

# `run.sh` only leaves its token. `report.py` also starts and ends a run, in the few calls that the
# official library makes, with the standard library alone: it starts in a tenth of the time. The other
# two go on until a file is there, `train.py` with the official library.
JOB = {
    "run.sh": 'echo "$2 $WANDB_RUN_ID" >>"$1"\n',
    "report.py": """
        import base64, json, os, sys, time, urllib.request

        tokens, label = sys.argv[1:]
        entity, project, run = (os.environ["WANDB_" + name] for name in ("ENTITY", "PROJECT", "RUN_ID"))
        with open(tokens, "a") as file:
            file.write(f"{label} {run}\\n")

        def call(path, body):
            key = base64.b64encode(b"api:" + os.environ["WANDB_API_KEY"].encode()).decode()
            request = urllib.request.Request(
                os.environ["WANDB_BASE_URL"] + path,
                json.dumps(body).encode(),
                {"Authorization": "Basic " + key, "Content-Type": "application/json"},
            )
            deadline = time.monotonic() + 120
            while True:
                try:
                    return json.load(urllib.request.urlopen(request, timeout=10))
                except OSError as error:  # the server is being killed, as is the point
                    if getattr(error, "code", 503) < 500 or time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)

        document = '''mutation UpsertBucket($name: String, $project: String, $entity: String) {
          upsertBucket(input: {name: $name, modelName: $project, entityName: $entity, host: "stand-in"}) { bucket { id } } }'''
        call("/graphql", {"query": document, "variables": {"name": run, "project": project, "entity": entity}})
        line = json.dumps({"loss": 0.5, "_step": 0})
        stream = {"files": {"wandb-history.jsonl": {"offset": 0, "content": [line]}}, "complete": True, "exitcode": 0}
        call(f"/files/{entity}/{project}/{run}/file_stream", stream)
        """,
    "wait.sh": 'echo "$2 $WANDB_RUN_ID" >>"$1"\nuntil [ -e "$3" ]; do sleep 0.2; done\nexit 7\n',
    "train.py": """
        import os, pathlib, sys, time

        os.environ |= {"WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1", "WANDB__DISABLE_STATS": "true"}
        import wandb

        tokens, label, gate = sys.argv[1:]
        with open(tokens, "a") as file:
            file.write(f"{label} {os.environ['WANDB_RUN_ID']}\\n")
        with wandb.init() as run:
            steps = 0
            while not pathlib.Path(gate).exists():
                run.log({"loss": 1 / (steps + 1)})
                steps += 1
                time.sleep(1)
            run.summary["steps"] = steps
        """,
    "requirements.txt": "",
}


@dataclass
class Account:
    """What was pushed and what came of it."""

    pushes: int = 0
    items: int = 0
    runs: int = 0
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unended: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        return len(self.missing) + len(self.doubled) + len(self.unended) + len(self.wrong)

    def __str__(self) -> str:
        text = (
            f"{self.pushes} pushes, {self.items} items, {self.runs} runs: {len(self.missing)} missing, "
            f"{len(self.doubled)} double starts, {len(self.unended)} not ended, {len(self.wrong)} otherwise wrong"
        )
        for word in ("missing", "doubled", "unended", "wrong"):
            for fault in getattr(self, word)[:10]:
                text += f"\n  {word}: {fault}"
        return text


class World:
    """Everything that one series of rounds works on."""

    def __init__(self, directory: Path, database_url: str | None = None) -> None:
        self.directory = directory
        self.store = "PostgreSQL" if database_url else "SQLite"
        self.tokens = directory / "tokens"
        self.tokens.touch()
        self.server = Server(directory / "server", database_url=database_url).start()
        self.alice = self.server.admin
        self.client = Client(self.alice, directory / "client")
        self.agent = Agent(self.alice, directory / "agent", [QUEUE], max_jobs=4, name="chaos")
        self.prepare()
        self.agent.start()
        self.labels = itertools.count(1)
        self.pushes = Pushes(self.alice, QUEUE, self.client)
        # What the account leaves out so far.
        self.under_way: list[Push] = []
        self.account = Account()

    def prepare(self) -> None:
        """Makes the queue and what its items run."""
        code = self.client.write(JOB, "job")
        self.client.wandb(
            "job", "create", "code", "-p", "chaos", "-e", "alice", "-n", "job", "-E", "sh run.sh", "-r", "3.11", code
        ).ok()
        queues.create(self.alice, QUEUE)

    def close(self) -> None:
        self.pushes.close()
        self.agent.stop()
        self.server.stop()

    def say(self, text: str) -> None:
        """A line of a series that runs beside another one."""
        print(f"  {self.store}: {text}", flush=True)

    # --- pushing ----------------------------------------------------------------------------------

    def label(self) -> str:
        return f"item-{next(self.labels)}"

    def spec(self, label: str, entry_point: list[str], *more: str) -> dict[str, Any]:
        overrides = {"args": [str(self.tokens), label, *more], "entry_point": entry_point}
        return {"job": "alice/chaos/job:latest", "entity": "alice", "project": "chaos", "name": label, "overrides": overrides}

    def begin_push(self, kind: str, with_run: bool) -> Push:
        """Sends a push of a job, with a run that finishes or without one, and goes on."""
        label = self.label()
        entry_point = ["python3", "report.py"] if with_run else ["sh", "run.sh"]
        return self.pushes.begin(label, kind, "FINISHED" if with_run else "FAILED", self.spec(label, entry_point))

    def push(self, with_run: bool) -> None:
        """A push by our client that is acknowledged."""
        push = self.begin_push(OURS, with_run)
        wait_for(push.over.is_set, f"{push.label} to be acknowledged", 60, every=0.01)

    def push_job(self, entry_point: list[str], arguments: list[str], expected: str) -> str:
        """A push by our client of a job that ends so; gives back the item."""
        label = self.label()
        push = self.pushes.begin(label, OURS, expected, self.spec(label, entry_point, *arguments))
        wait_for(push.over.is_set, f"{label} to be acknowledged", 60)
        assert push.item, push.refusal
        return push.item

    def launch_officially(self) -> None:
        """A push by the official command, which sends one again by itself when the answer was lost."""
        label = self.label()
        push = self.pushes.add(label, OFFICIAL, "FAILED")
        overrides = {"overrides": {"args": [str(self.tokens), label]}}
        done = self.client.wandb(
            "launch", "-j", "alice/chaos/job:latest", "-q", QUEUE, "-e", "alice", "-p", "chaos", "--name", label, "-c", json.dumps(overrides)
        )
        if done.code:
            push.refusal = done.output
        else:
            push.item = "unknown to the command"
        push.over.set()

    # --- crashing ---------------------------------------------------------------------------------

    def kill_server(self) -> None:
        with self.pushes.striking():
            self.server.process.kill()

    def restart_server(self, extra_env: dict[str, str] | None = None) -> None:
        self.server.process.kill()
        self.server.start(extra_env)

    def restart_agent(self, extra_env: dict[str, str] | None = None) -> None:
        self.agent.process.kill()
        self.agent.start(extra_env)

    def revive(self) -> None:
        """Starts again whatever of the two is down."""
        if not self.server.process.running:
            self.server.start()
        if not self.agent.process.running:
            self.agent.start()

    # --- accounting -------------------------------------------------------------------------------

    def settle(self, seconds: float = 300, for_answers: bool = True) -> None:
        """Waits until every push is answered, if so asked, and every item has ended."""
        if for_answers:
            self.pushes.settle(seconds)
        self.under_way = [] if for_answers else [push for push in self.pushes.all if not push.over.is_set()]

        def ended() -> bool:
            self.revive()
            try:
                facts = queues.queue_facts(self.alice, "alice", QUEUE)["counts"]
            except requests.RequestException:
                return False
            return facts["pending"] + facts["starting"] + facts["running"] == 0

        try:
            wait_for(ended, "every item to end", seconds, every=0.2)
        except TimeoutError:
            pass  # the account names those that have not ended

    def check(self) -> Account:
        """Compares what was pushed with what the server tells and with what really started."""
        started: dict[str, list[str]] = {}
        for line in self.tokens.read_text().splitlines():
            label, run = line.split()
            started.setdefault(label, []).append(run)
        # Before the items: what is pushed in between has a run that is not among these.
        runs = queues.runs(self.alice, "alice", "chaos")
        by_label: dict[str, list[dict[str, Any]]] = {}
        for item in queues.items(self.alice, "alice", QUEUE):
            by_label.setdefault(item["finalSpec"]["name"], []).append(item)
        account = Account(len(self.pushes.all), sum(map(len, by_label.values())), len(runs))
        going_on = {item["runName"] for push in self.under_way for item in by_label.get(push.label, [])}
        for push in self.pushes.all:
            if push not in self.under_way:
                self._check_push(account, push, by_label.get(push.label, []), started.get(push.label, []))
        for run in runs:
            if run["state"] not in RUN_ENDED and run["name"] not in going_on:
                account.unended.append(f"run {run['name']}: {run['state']}")
        self.account = account
        return account

    def _check_push(self, account: Account, push: Push, found: list[dict[str, Any]], started: list[str]) -> None:
        told = f"{push.label} ({push.kind}): {len(found)} items, {len(started)} starts: {summary(found)}"
        if push.refusal or not push.over.is_set():
            account.wrong.append(f"{told}: {push.refusal or 'never answered'}")
        if not found and push.must_exist() or found and not started:
            account.missing.append(told)
        if len(found) > 1 or len(started) > len(found):
            account.doubled.append(told)
        for item in found:
            run = item["run"] or {"state": "absent"}
            if item["state"] not in queues.ENDED:
                account.unended.append(told)
            elif item["state"] != push.expected:
                account.wrong.append(f"{told}: expected {push.expected}")
            elif push.expected == "FINISHED" and run["state"] != "finished":
                account.wrong.append(f"{told}: its run is {run['state']}")
            elif started and item["runName"] != started[0]:
                account.wrong.append(f"{told}: what started was run {started[0]}")


def summary(found: list[dict[str, Any]]) -> str:
    return "; ".join(
        f"{item['id']} {item['state']} attempt {item['attempt']} run {item['runName']} {item['failure'] or item['waitReason'] or ''}"
        for item in found
    )
