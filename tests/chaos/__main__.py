"""Runs crash rounds and prints one closing line per series.

    python -m chaos rounds --rounds 1000 --seed 7 [--database-url URL]
    python -m chaos failpoints [--database-url URL]
    python -m chaos outage --seconds 600
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from chaos.world import World
from support import queues
from support.processes import wait_for

# After how many rounds everything must have ended, and is counted.
SETTLE_EVERY = 10

SERVER_FAILPOINTS = [
    f"{operation}.{point}" for operation in ("push", "lease", "ack", "start", "finish") for point in ("begun", "committed")
]
AGENT_FAILPOINTS = [
    "agent.acked",
    "agent.start-recorded",
    "agent.workload-created",
    "agent.finished-before-report",
    "agent.reported",
]


def rounds(world: World, count: int, seed: int) -> bool:
    """Pushes and kills at moments drawn from the seed. True if the account is clean."""
    for number in range(1, count + 1):
        # Each round has its own generator: round 731 of a seed can be repeated without the 730 before.
        chance = random.Random(f"{seed}/{number}")
        for _ in range(chance.randint(1, 4)):
            world.push(with_run=chance.random() < 0.5)
            time.sleep(chance.uniform(0, 0.05))
        if chance.random() < 0.04:
            world.push_officially()
        for victim in chance.choices(["server", "agent", "both"], k=chance.randint(1, 3)):
            time.sleep(chance.uniform(0, 0.4))
            if victim in ("agent", "both"):
                world.agent.process.kill()
            if victim in ("server", "both"):
                world.server.process.kill()
            time.sleep(chance.uniform(0, 0.2))
            world.revive()
        if number % SETTLE_EVERY == 0 or number == count:
            world.settle()
            account = world.check()
            print(f"  round {number}: {account}", flush=True)
            if account.faults:
                return False
    return True


def fire(world: World, failpoint: str, process: str) -> None:
    """Lets one failpoint kill the server or the agent while two items go through."""
    marker = world.directory / f"fired-{failpoint}"
    armed = {"SLIPWAY_FAILPOINT": failpoint, "SLIPWAY_FAILPOINT_FILE": str(marker)}
    if process == "server":
        # An agent that finds nothing leases too: it comes back once there is something to lose.
        world.agent.process.kill()
        world.restart_server(armed)
    else:
        world.restart_agent(armed)
    victim = world.server.process if process == "server" else world.agent.process

    def fired() -> bool:
        return marker.exists() and not victim.running

    def push() -> None:
        # A push that the failpoint of pushing kills is answered by the server that comes after it.
        world.push(with_run=True)

    if failpoint.startswith("push."):
        pusher = threading.Thread(target=push)
        pusher.start()
        wait_for(fired, f"{failpoint} to fire")
        world.revive()
        pusher.join()
    else:
        push()
        if process == "server":
            world.agent.process.start()
        wait_for(fired, f"{failpoint} to fire")
    world.revive()
    world.push(with_run=False)
    world.settle()


def failpoints(world: World) -> bool:
    """Every point between a commit and its answer, and around creating a workload."""
    for process, names in (("server", SERVER_FAILPOINTS), ("agent", AGENT_FAILPOINTS)):
        for name in names:
            fire(world, name, process)
            account = world.check()
            print(f"  {name}: {account}", flush=True)
            if account.faults:
                return False
    return True


def outage(world: World, seconds: float) -> bool:
    """The server is away for a long time while jobs run: nothing is requeued, nothing counts as crashed."""
    gate = world.directory / "gate"
    label = world.new_label(with_run=False)
    spec = world.spec(label, with_run=False)
    spec["overrides"] |= {
        "entry_point": ["sh", "-c", f'echo "$2" >>"$1"; until [ -e {gate} ]; do sleep 0.2; done', "job"],
    }
    identifier = queues.push(world.alice, "chaos", spec)
    before = queues.wait_state(world.alice, identifier, "CLAIMED", "RUNNING")
    wait_for(lambda: label in world.tokens.read_text(), "the job to start")
    world.server.process.kill()
    print(f"  server down for {seconds:g} s", flush=True)
    time.sleep(seconds)
    world.server.start()
    # The job goes on; what the server thinks of it must not have changed once the agent is back.
    time.sleep(10)
    after = queues.item(world.alice, identifier)
    untouched = (after["state"] in ("CLAIMED", "RUNNING")) and after["attempt"] == before["attempt"]
    print(f"  after the outage: {after['state']}, attempt {after['attempt']}", flush=True)
    gate.touch()
    world.settle()
    account = world.check()
    print(f"  {account}", flush=True)
    return untouched and not account.faults


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("series", choices=["rounds", "failpoints", "outage"])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--database-url", help="PostgreSQL instead of SQLite")
    options = parser.parse_args()
    series: dict[str, Callable[[World], bool]] = {
        "rounds": lambda world: rounds(world, options.rounds, options.seed),
        "failpoints": failpoints,
        "outage": lambda world: outage(world, options.seconds),
    }
    store = "PostgreSQL" if options.database_url else "SQLite"
    title = {
        "rounds": f"{options.rounds} rounds of seed {options.seed}",
        "failpoints": "failpoints",
        "outage": f"server away for {options.seconds:g} s",
    }[options.series]
    print(f"{title} on {store}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="slipway-chaos-"))
    began = time.monotonic()
    world = World(directory, options.database_url)
    try:
        clean = series[options.series](world)
    finally:
        world.close()
    verdict = "ok" if clean else f"FAILED, everything is kept in {directory}"
    print(f"chaos: {title} on {store}: {world.account}\nchaos: {verdict} after {time.monotonic() - began:.0f} s", flush=True)
    if clean:
        shutil.rmtree(directory, ignore_errors=True)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
