"""The series of kills: at random moments, and at every failpoint."""

from __future__ import annotations

import random
import threading
import time

from chaos.pushes import KINDS, OFFICIAL, ONCE, OURS
from chaos.world import World
from support.processes import wait_for

# After how many rounds everything must have ended, and is counted.
SETTLE_EVERY = 10

# How many rounds may be added until a push of each kind was under way at a kill. Whether one is, within
# milliseconds, is up to the machine.
FURTHER = 100

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


def rounds(world: World, count: int, seed: int, first: int = 1) -> bool:
    """Pushes and kills at moments drawn from the seed. True if the account is clean."""
    last = first + count - 1
    number = first - 1
    while number < last or (count >= SETTLE_EVERY and idle(world) and number < last + FURTHER):
        number += 1
        # Each round has its own generator: round 731 of a seed can be repeated without the 730 before.
        chance = random.Random(f"{seed}/{number}")
        for victim in chance.choices(["server", "agent", "both"], k=chance.randint(1, 3)):
            one_round(world, chance, victim)
        if number % SETTLE_EVERY == 0 or number >= last:
            # The official client waits longer after each kill: only the end waits for all of its pushes.
            world.settle(for_answers=number >= last)
            account = world.check()
            print(f"  round {number}: {account}", flush=True)
            if account.faults:
                return False
    print(f"  {world.pushes}", flush=True)
    if idle(world) and count >= SETTLE_EVERY:
        print(f"  no push was under way at a kill, of these kinds: {', '.join(idle(world))}; the rounds show nothing for them", flush=True)
        return False
    return True


def idle(world: World) -> list[str]:
    """The kinds of pushes of which none was under way at a kill."""
    return [kind for kind in KINDS if not world.pushes.struck(kind)]


def one_round(world: World, chance: random.Random, victim: str) -> None:
    """One kill: of the server while pushes are under way, of the agent whenever."""
    kinds = [OURS] + [kind for kind in (ONCE, OFFICIAL) if victim != "agent" and chance.random() < 0.6]
    pushes = [world.begin_push(kind, with_run=chance.random() < 0.5) for kind in kinds]
    if victim == "agent" or chance.random() < 0.2:
        time.sleep(chance.uniform(0, 0.4))
    else:
        # An answer takes some ten milliseconds.
        wait_for(lambda: all(push.sent.is_set() for push in pushes), "the pushes to be sent", every=0.001)
        time.sleep(chance.uniform(0, 0.02))
    if victim in ("server", "both"):
        world.kill_server()
    if victim in ("agent", "both"):
        world.agent.process.kill()
    time.sleep(chance.uniform(0, 0.2))
    world.revive()


def failpoints(world: World) -> bool:
    """Every point between a commit and its answer, and around creating a workload."""
    for kind, process, names in (
        (OURS, "server", SERVER_FAILPOINTS),
        (OFFICIAL, "server", [name for name in SERVER_FAILPOINTS if name.startswith("push.")]),
        (OURS, "agent", AGENT_FAILPOINTS),
    ):
        for name in names:
            fire(world, name, process, kind)
            account = world.check()
            by = " under the official client" if kind == OFFICIAL else ""
            print(f"  {name}{by}: {account}", flush=True)
            if account.faults:
                return False
    return True


def fire(world: World, failpoint: str, process: str, kind: str) -> None:
    """Lets one failpoint kill the server or the agent while two items go through."""
    marker = world.directory / f"fired-{failpoint}-{kind}"
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

    if failpoint.startswith("push."):
        # A push that the failpoint of pushing kills is answered by the server that comes after it.
        if kind == OFFICIAL:
            pusher = threading.Thread(target=world.launch_officially)
            pusher.start()
        else:
            world.begin_push(kind, with_run=True)
        wait_for(fired, f"{failpoint} to fire", 120)
    else:
        world.push(with_run=True)
        if process == "server":
            world.agent.process.start()
        wait_for(fired, f"{failpoint} to fire", 120)
    world.revive()
    world.push(with_run=False)
    world.settle()
