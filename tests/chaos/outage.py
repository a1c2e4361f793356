"""The server is away for a long time while jobs run: nothing is requeued, nothing counts as crashed."""

from __future__ import annotations

import json
import time
from typing import Any

from chaos.world import World
from support import queues
from support.processes import wait_for

# Words of an item's record that nothing of an outage may leave there.
FORBIDDEN = {"requeued", "crashed", "lost", "stale-write"}

READ = """
query Read($id: ID!) {
  runQueueItem(id: $id) { state attempt exitCode events(first: 200) { kind } run { state historyLineCount summaryMetrics } }
}
"""


def read(world: World, identifier: str) -> dict[str, Any]:
    return world.alice.graphql(READ, {"id": identifier})["runQueueItem"]


def outage(world: World, seconds: float) -> bool:
    """Five jobs: what holds on through the outage, what ends within it, and what waits."""
    after, within = world.directory / "after", world.directory / "within"
    jobs = {
        # With the official library, which sends a heartbeat and a metric every second.
        "training through it": (["python", "train.py"], after, "FINISHED"),
        "training that ends within it": (["python", "train.py"], within, "FINISHED"),
        # Without a run: only the agent tells of them.
        "silent through it": (["sh", "wait.sh"], after, "FAILED"),
        "silent that ends within it": (["sh", "wait.sh"], within, "FAILED"),
        # All slots are taken: it starts when one is free again.
        "waiting": (["sh", "wait.sh"], after, "FAILED"),
    }
    items: dict[str, str] = {}
    for name, (entry_point, gate, expected) in jobs.items():
        items[name] = world.push_job(entry_point, [str(gate)], expected)
        if name != "waiting":
            wait_for(lambda: len(world.tokens.read_text().splitlines()) == len(items), f"the job {name!r} to start", 120)
    trained = items["training through it"], items["training that ends within it"]
    wait_for(lambda: all((read(world, item)["run"] or {}).get("historyLineCount", 0) >= 3 for item in trained), "metrics", 120)
    before = {name: read(world, item) for name, item in items.items()}
    world.server.process.kill()
    world.say(f"server down for {seconds:g} s with {describe(before)}")
    time.sleep(seconds / 2)
    within.touch()
    time.sleep(seconds / 2)
    world.server.start()

    # What the server thinks of the job that goes on may not change before it is heard again, nor then.
    through = items["training through it"]
    heard_before = before["training through it"]["run"]["historyLineCount"]

    def heard() -> bool:
        now = read(world, through)
        assert (now["state"], now["run"]["state"]) == ("RUNNING", "running"), now
        return now["run"]["historyLineCount"] > heard_before

    began = time.monotonic()
    wait_for(heard, "the training to be heard again", 300, every=0.5)
    world.say(f"training heard again {time.monotonic() - began:.0f} s after the server; now {describe(states(world, items))}")
    after.touch()
    world.settle(300)
    done = states(world, items)
    account = world.check()
    world.say(f"in the end {describe(done)}\n  {account}")
    faults = account.faults + sum(fault(name, facts) for name, facts in done.items())
    return faults == 0


def states(world: World, items: dict[str, str]) -> dict[str, dict[str, Any]]:
    return {name: read(world, item) for name, item in items.items()}


def describe(items: dict[str, dict[str, Any]]) -> str:
    return ", ".join(f"{name}: {facts['state']}" for name, facts in items.items())


def fault(name: str, facts: dict[str, Any]) -> bool:
    """Whether an item shows that the outage touched it; says so."""
    found = FORBIDDEN & {event["kind"] for event in facts["events"]}
    wrong = [f"its record says {', '.join(sorted(found))}"] if found else []
    if facts["attempt"] != 1:
        wrong.append(f"attempt {facts['attempt']}")
    if name.startswith("training"):
        steps = json.loads(facts["run"]["summaryMetrics"]).get("steps")
        if facts["run"]["historyLineCount"] != steps:
            wrong.append(f"{facts['run']['historyLineCount']} rows of {steps}")
    elif facts["exitCode"] != 7:
        wrong.append(f"exit code {facts['exitCode']}")
    if wrong:
        print(f"  {name}: {'; '.join(wrong)}", flush=True)
    return bool(wrong)
