"""A server, an agent and a queue that survive being killed, and the account of what was pushed.

Every job appends a token to one file as its first act. So a start that went missing and a start too
many are counted, not inferred from what the server believes.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from support import queues
from support.agent import Agent
from support.client import Client
from support.processes import wait_for
from support.server import GraphQLError, Server

QUEUE = "chaos"

# `run.sh` only leaves its token. `report.py` also starts and ends a run, in the few calls that the
# official library makes, with the standard library alone: it starts in a tenth of the time.
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
          upsertBucket(input: {name: $name, modelName: $project, entityName: $entity}) { bucket { id } } }'''
        call("/graphql", {"query": document, "variables": {"name": run, "project": project, "entity": entity}})
        line = json.dumps({"loss": 0.5, "_step": 0})
        stream = {"files": {"wandb-history.jsonl": {"offset": 0, "content": [line]}}, "complete": True, "exitcode": 0}
        call(f"/files/{entity}/{project}/{run}/file_stream", stream)
        """,
    "requirements.txt": "",
}


@dataclass
class Account:
    """What was pushed and what came of it."""

    pushed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unended: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        return len(self.missing) + len(self.doubled) + len(self.unended) + len(self.wrong)

    def __str__(self) -> str:
        text = (
            f"{len(self.pushed)} items, {len(self.missing)} missing, {len(self.doubled)} double starts, "
            f"{len(self.unended)} not ended, {len(self.wrong)} otherwise wrong"
        )
        for word in ("missing", "doubled", "unended", "wrong"):
            for fault in getattr(self, word)[:10]:
                text += f"\n  {word}: {fault}"
        return text


class World:
    """Everything that one series of rounds works on."""

    def __init__(self, directory: Path, database_url: str | None = None) -> None:
        self.directory = directory
        self.tokens = directory / "tokens"
        self.tokens.touch()
        self.server = Server(directory / "server", database_url=database_url).start()
        self.alice = self.server.admin
        self.client = Client(self.alice, directory / "client")
        code = self.client.write(JOB, "job")
        self.client.wandb(
            "job", "create", "code", "-p", "chaos", "-e", "alice", "-n", "job", "-E", "sh run.sh", "-r", "3.11", code
        ).ok()
        queues.create(self.alice, QUEUE)
        self.agent = Agent(self.alice, directory / "agent", [QUEUE], max_jobs=4, name="chaos").start()
        self.labels = itertools.count(1)
        self.expected: dict[str, str] = {}
        self.account = Account()

    def close(self) -> None:
        self.agent.stop()
        self.server.stop()

    # --- pushing ----------------------------------------------------------------------------------

    def spec(self, label: str, with_run: bool) -> dict[str, Any]:
        overrides: dict[str, Any] = {"args": [str(self.tokens), label]}
        if with_run:
            overrides["entry_point"] = ["python3", "report.py"]
        return {"job": "alice/chaos/job:latest", "entity": "alice", "project": "chaos", "name": label, "overrides": overrides}

    def push(self, with_run: bool, seconds: float = 60) -> str:
        """One push as our clients do it: repeated under one key until it is acknowledged."""
        label = self.new_label(with_run)
        deadline = time.monotonic() + seconds
        while True:
            try:
                queues.push(self.alice, QUEUE, self.spec(label, with_run), key=label)
                return label
            except (requests.RequestException, GraphQLError) as error:
                if isinstance(error, GraphQLError) and error.status < 500 or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def push_officially(self) -> str:
        """One push by the official client, which repeats a lost answer's request by itself."""
        label = self.new_label(with_run=False)
        overrides = '{"overrides": {"args": ["%s", "%s"]}}' % (self.tokens, label)
        self.client.wandb(
            "launch", "-j", "alice/chaos/job:latest", "-q", QUEUE, "-e", "alice", "-p", "chaos", "--name", label, "-c", overrides
        ).ok()
        return label

    def new_label(self, with_run: bool) -> str:
        label = f"item-{next(self.labels)}"
        self.account.pushed.append(label)
        self.expected[label] = "FINISHED" if with_run else "FAILED"
        return label

    # --- crashing ---------------------------------------------------------------------------------

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

    def settle(self, seconds: float = 180) -> None:
        """Waits until every item has ended."""

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
        started = Counter(line.split()[0] for line in self.tokens.read_text().splitlines())
        by_label: dict[str, list[dict[str, Any]]] = {}
        for item in queues.items(self.alice, "alice", QUEUE):
            by_label.setdefault(item["finalSpec"]["name"], []).append(item)
        account = self.account
        account.missing, account.doubled, account.unended, account.wrong = [], [], [], []
        for label in account.pushed:
            found = by_label.get(label, [])
            if not found or not started[label]:
                account.missing.append(f"{label}: {len(found)} items, {started[label]} starts: {summary(found)}")
            if len(found) > 1 or started[label] > 1:
                account.doubled.append(f"{label}: {len(found)} items, {started[label]} starts: {summary(found)}")
            for item in found:
                if item["state"] not in queues.ENDED:
                    account.unended.append(f"{label}: {summary([item])}")
                elif item["state"] != self.expected[label]:
                    account.wrong.append(f"{label}: expected {self.expected[label]}: {summary([item])}")
        return account


def summary(found: list[dict[str, Any]]) -> str:
    return "; ".join(
        f"{item['id']} {item['state']} attempt {item['attempt']} run {item['runName']} {item['failure'] or item['waitReason'] or ''}"
        for item in found
    )
