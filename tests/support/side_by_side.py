"""The same items, run by the official agent and by ours, and what people see of each.

An agent gets queues of its own, all items at once, and is watched until everything has ended, but for
jobs that do not heed a stop: those are looked at once they were asked to end. What is seen is made
comparable: the run's own id, the lease and addresses become words.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import queues
from support.agent import Agent
from support.client import Client
from support.docker import Docker
from support.processes import Process, wait_for
from support.server import User

# What a job does is its first argument. It says what it was given in its run's summary.
PROBE = """
import json, os, signal, sys, time
mode = sys.argv[1]
print("first line", flush=True)
if mode == "no run":
    sys.exit(0)
if mode == "early":
    sys.exit(4)
# Dozens of these start at once.
os.environ |= {"WANDB__SERVICE_WAIT": "600", "WANDB_INIT_TIMEOUT": "600"}
import wandb
with wandb.init(config={"lr": 0.1, "epochs": 3}) as run:
    names = ("WANDB_", "FROM_", "OF_AGENT", "PYTHONUNBUFFERED", "AWS_")
    run.summary["seen"] = json.dumps({
        "arguments": sys.argv[2:],
        "code": sorted(set(os.listdir()) & {"train.py", "requirements.txt", "requirements.frozen.txt"}),
        "environment": {name: value for name, value in os.environ.items() if name.startswith(names)},
    })
    print("middle line", flush=True)
    if mode == "stop":
        while True:
            time.sleep(1)
    if mode == "deaf":
        signal.signal(signal.SIGTERM, lambda *_: print("asked to end", flush=True))
        while True:
            try:
                time.sleep(1)
                print("goes on", flush=True)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
    if mode == "raise":
        raise ValueError("bad data")
    print("last line", flush=True)
"""

LOOK = """query Look($id: ID!) { runQueueItem(id: $id) {
  state exitCode priority runEntity runProject runName failure { stage message reason filePaths }
  run { id state summaryMetrics } } }"""

READ_RUNS = """
import tempfile
result = {}
for path in paths:
    run = api.run(path)
    log = ""
    if "output.log" in [file.name for file in run.files()]:
        log = open(run.file("output.log").download(root=tempfile.mkdtemp()).name).read()
    result[path] = [dict(run.config), run.summary.get("seen"), run.name, run.user.username, log]
"""


@dataclass(frozen=True)
class Scenario:
    """One item."""

    # What is run, in the manual's words.
    what: str
    queue: str
    spec: Mapping[str, Any]
    # The item's state in the end, with ours.
    ends: str
    # What is seen otherwise: the fact, the official agent's, ours, and the name of the difference.
    differs: Mapping[str, tuple[Any, Any, str]]
    # What the message says with the official agent and with ours, and the name of the difference.
    says: tuple[str, str, str] = ("", "", "")
    # Whether somebody stops the run once the job is in the middle of it.
    stopped: bool = False
    # Whether the official agent never tells of its end: it is looked at once all others have ended.
    unreported: bool = False


class Trial:
    """One agent with its queues."""

    def __init__(self, whose: str, client: Client, directory: Path, docker: Docker, configs: Mapping[str, tuple[str, Any]]) -> None:
        self.whose, self.client, self.docker = whose, client, docker
        self.user: User = client.user
        # Of containers that are to be found again: the official agent sets no label.
        self.prefix = f"side-{whose}-{os.getpid()}"
        self.resources = {name: resource for name, (resource, _) in configs.items()}
        for name, (resource, config) in configs.items():
            named = {"name": f"{self.prefix}-${{run_id}}"} if resource == "local-container" else {}
            queues.create(self.user, self.queue(name), resource=resource, config=config | named, prioritization="V0")
        self.agent = self._agent([self.queue(name) for name in configs], directory)

    def queue(self, name: str) -> str:
        return f"{self.whose}-{name}"

    def _agent(self, names: list[str], directory: Path) -> Process:
        settings = {"stopped_run_timeout": 60, "max_jobs": -1}
        if self.whose == "ours":
            return Agent(self.user, directory / "ours", names, settings=settings).process
        config = directory / "official.yaml"
        config.write_text(json.dumps(settings | {"entity": "alice", "queues": names}))
        return self.client.agent("-c", str(config), log=directory / "official.log")

    def run(self, scenarios: Mapping[str, Scenario], env: Mapping[str, str], seconds: float) -> dict[str, dict[str, Any]]:
        """Runs every scenario; gives back what is seen of each."""
        self.agent.start(env)
        try:
            items = {}
            for name, scenario in scenarios.items():
                spec = {"entity": "alice", "project": "proj", "resource": self.resources[scenario.queue]} | dict(scenario.spec)
                items[name] = queues.push(self.user, self.queue(scenario.queue), spec, priority=1)
            asked: set[str] = set()
            waiting: dict[str, str] = {}

            def settled() -> bool:
                waiting.clear()
                for name, item in items.items():
                    now = self.look(item)
                    if now["state"] in queues.ENDED or (scenarios[name].unreported and self.whose == "official"):
                        continue
                    if scenarios[name].stopped and name not in asked and self.stop(now):
                        asked.add(name)
                    if not (self.whose == "official" and name in asked and self.was_asked(now)):
                        waiting[name] = now["state"]
                self.agent.require_running()
                return not waiting

            try:
                wait_for(settled, f"the items of the {self.whose} agent to end", seconds, every=1)
            except TimeoutError as error:
                told = "".join(f"\n  {name}: {state}" for name, state in waiting.items())
                raise TimeoutError(f"{error}. These go on:{told}\nThe agent's log ends:\n{self.agent.tail()}") from None
            assert self.user.key not in self.agent.output()
            return self.seen(items)
        finally:
            self.agent.signal(signal.SIGINT)
            self.agent.stop()
            for container in self.docker.run("ps", "--all", "--quiet", "--filter", f"name={self.prefix}").split():
                self.docker.remove(container)

    def look(self, item: str) -> dict[str, Any]:
        return self.user.graphql(LOOK, {"id": item})["runQueueItem"]

    def stop(self, now: Mapping[str, Any]) -> bool:
        """Stops the run, as the page's button does, once the job is in the middle of it."""
        if not now["run"] or "seen" not in (now["run"]["summaryMetrics"] or ""):
            return False
        stopped = self.user.graphql("mutation Stop($id: ID!) { stopRun(input: {id: $id}) { success } }", {"id": now["run"]["id"]})
        return stopped["stopRun"]["success"]

    def was_asked(self, now: Mapping[str, Any]) -> bool:
        """Whether a job that goes on was told to end by its agent."""
        return "asked to end" in self.docker.run("logs", f"{self.prefix}-{now['runName']}", check=False)

    def seen(self, items: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        found = {name: self.look(item) for name, item in items.items()}
        paths = {name: f"{now['runEntity']}/{now['runProject']}/{now['runName']}" for name, now in found.items() if now["run"]}
        runs = self.client.api(READ_RUNS, paths=list(paths.values()))
        facts = {}
        for name, now in found.items():
            config, given, run_name, author, log = runs[paths[name]] if name in paths else [{}, None, None, None, ""]
            failure = now["failure"] or {"stage": None, "message": "", "reason": None, "filePaths": []}
            told = json.loads(given or "{}")
            output = self.user.get(f"/slipway/v1/items/{items[name]}/output?follow=false").text
            container = self.docker.inspect(f"{self.prefix}-{now['runName']}")
            facts[name] = {
                "state": now["state"],
                "exit code": now["exitCode"],
                "priority": now["priority"],
                "stage": failure["stage"],
                "message": failure["message"],
                "reason": failure["reason"],
                "log attached": bool(failure["filePaths"]),
                "run": now["run"] and now["run"]["state"],
                "named": run_name == "by hand",
                "author": author,
                "config": config,
                "ran": bool(told),
                "arguments": told.get("arguments"),
                "code": told.get("code"),
                "log": [line for line in log.splitlines() if not line.startswith(" ")],
                "output": "first line" in output.splitlines(),
                "left behind": bool(container and container["State"]["Running"]),
            } | {f"${name}": value for name, value in self.comparable(told.get("environment", {}), now).items()}
        return facts

    def comparable(self, environment: Mapping[str, str], now: Mapping[str, Any]) -> dict[str, str]:
        """A job's variables, without what the client library and the test's own home add."""
        usual = set(self.client.env) - {"WANDB_API_KEY", "WANDB_BASE_URL"}
        words = [
            (re.escape(now["runName"] or "-"), "RUN"),
            (re.escape(self.user.key), "AGENT'S KEY"),
            (re.escape(self.user.base_url), "SERVER"),
            (r"^http://[\d.]+:\d+$", "RELAY"),
            (rf"^{self.whose}-", ""),
        ]
        comparable = {}
        for name, value in environment.items():
            if name in usual - {"PYTHONUNBUFFERED"} or name == "WANDB_SERVICE":
                continue
            for pattern, word in words:
                value = re.sub(pattern, word, value)
            if name == "WANDB_LAUNCH_TRACE_ID":
                value = "LEASE"
            if name == "WANDB_API_KEY" and value != "AGENT'S KEY":
                value = "RUN'S KEY"
            comparable[name] = value
        return comparable
