"""Crash rounds of the Docker target: server, agent and engine go away while containers are made, run and end.

    python -m chaos.containers rounds --rounds 100 --seed 7 [--database-url URL]
    python -m chaos.containers failpoints [--database-url URL]
    python -m chaos.containers outage --seconds 600
    python -m chaos.containers engine --rounds 5 --seed 7

The agent reaches the engine through a proxy, which goes away in the engine's place: others may use the
engine too. Only `engine` kills a real one, and only one that this checkout has started.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from chaos.pushes import OURS, Push
from chaos.series import SETTLE_EVERY, fire
from chaos.world import QUEUE, Account, World
from support import queues
from support.docker import BUSYBOX, Docker, EngineProxy
from support.processes import REPO, wait_for

# Around creating a container and its end, and after what the server keeps of them.
FAILPOINTS = [
    *((name, "agent") for name in ("agent.start-recorded", "docker.created", "docker.started", "agent.workload-created")),
    *((name, "agent") for name in ("agent.finished-before-report", "agent.reported")),
    *((name, "server") for name in ("start.committed", "finish.committed")),
]

# What goes away. A message is lost on its way to the engine or back.
VICTIMS = ["agent", "server", "engine", "message", "agent server", "agent engine", "agent server engine"]
MESSAGES = [
    ("request", "POST", "/containers/create"),
    ("answer", "POST", "/containers/create"),
    ("answer", "POST", "/start"),
    ("answer", "GET", "/logs"),
    ("answer", "GET", "/json"),
    ("request", "DELETE", "/containers/"),
    ("answer", "DELETE", "/containers/"),
]

# Leaves its token, goes on for a while and, if it is to, makes a run and ends it, in the calls that the
# official library makes. The server may be away meanwhile.
JOB = r"""
echo "$1 $WANDB_RUN_ID" >>/shared/tokens
sleep "$2"
[ "$3" = report ] || exit 0
key=$(printf 'api:%s' "$WANDB_API_KEY" | base64 -w 0)
call() {
  tries=0
  until timeout 10 wget -q -O /dev/null --header "Authorization: Basic $key" --header 'Content-Type: application/json' \
    --post-data "$2" "$WANDB_BASE_URL$1"; do
    tries=$((tries + 1))
    [ $tries -lt 900 ] || exit 1
    sleep 0.2
  done
}
document='mutation UpsertBucket($name: String, $project: String, $entity: String) {'
document="$document upsertBucket(input: {name: \$name, modelName: \$project, entityName: \$entity}) { bucket { id } } }"
call /graphql '{"query": "'"$document"'", "variables": {
  "name": "'"$WANDB_RUN_ID"'", "project": "'"$WANDB_PROJECT"'", "entity": "'"$WANDB_ENTITY"'"}}'
call "/files/$WANDB_ENTITY/$WANDB_PROJECT/$WANDB_RUN_ID/file_stream" '{"complete": true, "exitcode": 0,
  "files": {"wandb-history.jsonl": {"offset": 0, "content": ["{\"loss\": 0.5, \"_step\": 0}"]}}}'
"""


class ContainerWorld(World):
    """A world whose jobs are containers: their runs end too, and nothing of them stays."""

    def prepare(self) -> None:
        self.docker = Docker()
        self.docker.require()
        self.proxy = EngineProxy(self.directory / "engine.sock")
        self.agent.process.env["DOCKER_HOST"] = f"unix://{self.proxy.path}"
        self.shared = self.directory / "shared"
        self.shared.mkdir()
        self.tokens = self.shared / "tokens"
        self.tokens.touch()
        queues.create(self.alice, QUEUE, resource="local-container", config={"volume": f"{self.shared}:/shared"})
        # Whether the engine itself is killed, and its containers with it.
        self.engine_dies = False

    def close(self) -> None:
        super().close()
        self.proxy.stop()
        for container in self.containers():
            self.docker.run("rm", "--force", container, check=False)

    def begin_push(self, kind: str, with_run: bool) -> Push:
        label = self.label()
        seconds = f"{random.Random(label).uniform(0, 1.5):.2f}"
        spec = self.container(JOB, label, seconds, "report" if with_run else "")
        return self.pushes.begin(label, kind, "FINISHED" if with_run else "FAILED", spec)

    def container(self, script: str, *arguments: str) -> dict[str, Any]:
        """A spec that runs this in a shell; the first argument is its label."""
        return {
            "entity": "alice",
            "project": "chaos",
            "name": arguments[0],
            "resource": "local-container",
            "docker": {"docker_image": BUSYBOX},
            "overrides": {"entry_point": ["sh", "-c", script, "job"], "args": list(arguments)},
        }

    def revive(self) -> None:
        if self.proxy.listener is None:
            self.proxy.start()
        super().revive()

    def containers(self) -> list[str]:
        return self.docker.containers("slipway.scope", self.alice.base_url)

    def check(self) -> Account:
        account = super().check()
        records = self.agent.directory / "state" / "chaos" / "containers"

        def left() -> list[str]:
            return self.containers() + [str(path) for path in records.glob("*/")]

        try:
            wait_for(lambda: not left(), "the containers to be removed", 180, every=0.5)
        except TimeoutError:
            account.wrong += [f"{what} was left behind" for what in left()]
        return account

    def _check_push(self, account: Account, push: Push, found: list[dict[str, Any]], started: list[str]) -> None:
        if self.engine_dies and len(found) == 1 and found[0]["state"] in queues.ENDED:
            # A job that the engine took with it ends as it may, and perhaps before its token.
            push = replace(push, expected=found[0]["state"])
            started = started or [found[0]["runName"]]
        super()._check_push(account, push, found, started)


def judge(world: ContainerWorld, what: str) -> bool:
    """Waits for the end of everything, and prints the account. True if it is clean."""
    world.settle()
    account = world.check()
    print(f"  {what}: {account}", flush=True)
    return account.faults == 0


def strike(world: ContainerWorld, victim: str, chance: random.Random) -> None:
    if victim == "message":
        world.proxy.lose(*chance.choice(MESSAGES))
    if "agent" in victim:
        world.agent.process.kill()
    if "server" in victim:
        world.kill_server()
    if "engine" in victim:
        world.proxy.stop()


def rounds(world: ContainerWorld, count: int, seed: int) -> bool:
    """Pushes, kills and cuts at moments drawn from the seed."""
    for number in range(1, count + 1):
        chance = random.Random(f"{seed}/{number}")
        for _ in range(chance.randint(1, 3)):
            world.push(with_run=chance.random() < 0.5)
            time.sleep(chance.uniform(0, 0.05))
        for victim in chance.choices(VICTIMS, k=chance.randint(1, 3)):
            time.sleep(chance.uniform(0, 0.8))
            strike(world, victim, chance)
            time.sleep(chance.uniform(0, 0.4))
            world.revive()
        if (number % SETTLE_EVERY == 0 or number == count) and not judge(world, f"round {number}"):
            return False
    return True


def failpoints(world: ContainerWorld) -> bool:
    """Every point around creating, starting and ending a container."""
    for name, process in FAILPOINTS:
        fire(world, name, process, OURS)
        if not judge(world, name):
            return False
    return True


def outage(world: ContainerWorld, seconds: float) -> bool:
    """The engine is away for a long time. Of the jobs that run one ends meanwhile, one is cancelled and one
    goes on; one more waits for the engine. None is given up, and none starts again."""

    def push(gate: str, expected: str = "FAILED") -> str:
        label = world.label()
        script = f'echo "$1 $WANDB_RUN_ID" >>/shared/tokens; until [ -e /shared/{gate} ]; do sleep 0.2; done'
        push = world.pushes.begin(label, OURS, expected, world.container(script, label))
        wait_for(push.over.is_set, f"{label} to be acknowledged")
        assert push.item, push.refusal
        return push.item

    items = [push("meanwhile"), push("never", "KILLED"), push("afterwards")]
    wait_for(lambda: len(world.tokens.read_text().splitlines()) == len(items), "the jobs to start", 60)
    before = [queues.wait_state(world.alice, item, "RUNNING") for item in items]
    world.proxy.stop()
    print(f"  engine away for {seconds:g} s", flush=True)
    items.append(push("afterwards"))
    before.append(queues.wait_state(world.alice, items[-1], "CLAIMED"))
    (world.shared / "meanwhile").touch()
    queues.cancel(world.alice, items[1])
    time.sleep(seconds)
    after = [queues.item(world.alice, item) for item in items]
    print(f"  after the outage: {', '.join(item['state'] for item in after)}", flush=True)
    touched = [
        f"{then['state']} became {now['state']}, attempt {now['attempt']}: {now['failure']}"
        for then, now in zip(before, after, strict=True)
        if any(then[fact] != now[fact] for fact in ("state", "attempt", "failure"))
    ]
    for change in touched:
        print(f"  changed by the outage: {change}", flush=True)
    world.proxy.start()
    (world.shared / "afterwards").touch()
    return judge(world, "outage") and not touched


def engine(world: ContainerWorld, count: int, seed: int) -> bool:
    """Kills the engine itself, which takes its containers with it, and starts it again."""
    world.engine_dies = True
    pid_file = REPO / ".cache" / "docker" / "engine.pid"
    for number in range(1, count + 1):
        chance = random.Random(f"{seed}/{number}")
        for _ in range(chance.randint(1, 3)):
            world.push(with_run=chance.random() < 0.5)
        time.sleep(chance.uniform(0, 1.5))
        if chance.random() < 0.3:
            world.agent.process.kill()
        os.kill(int(pid_file.read_text()), chance.choice([signal.SIGKILL, signal.SIGTERM]))
        wait_for(lambda: not engine_runs(pid_file), "the engine to end", 60)
        subprocess.run([REPO / "scripts" / "docker.sh", "start"], check=True, stdout=subprocess.DEVNULL, timeout=120)
        world.revive()
        if not judge(world, f"round {number}"):
            return False
    return True


def engine_runs(pid_file: Path) -> bool:
    """Whether the engine whose process this file names is there."""
    try:
        return Path(f"/proc/{int(pid_file.read_text())}/comm").read_text().strip() == "dockerd"
    except OSError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos.containers", description=__doc__)
    parser.add_argument("series", choices=["rounds", "failpoints", "outage", "engine"])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--database-url", help="PostgreSQL instead of SQLite")
    options = parser.parse_args()
    series: dict[str, Callable[[ContainerWorld], bool]] = {
        "rounds": lambda world: rounds(world, options.rounds, options.seed),
        "failpoints": failpoints,
        "outage": lambda world: outage(world, options.seconds),
        "engine": lambda world: engine(world, options.rounds, options.seed),
    }
    store = "PostgreSQL" if options.database_url else "SQLite"
    title = "containers: " + {
        "rounds": f"{options.rounds} rounds of seed {options.seed}",
        "failpoints": "failpoints",
        "outage": f"engine away for {options.seconds:g} s",
        "engine": f"engine killed {options.rounds} times, seed {options.seed}",
    }[options.series]
    if options.series == "engine" and not engine_runs(REPO / ".cache" / "docker" / "engine.pid"):
        parser.error("only an engine that this checkout started is killed; start one with: scripts/docker.sh start")
    print(f"{title}, on {store}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="slipway-chaos-"))
    began = time.monotonic()
    world = ContainerWorld(directory, options.database_url)
    try:
        clean = series[options.series](world)
    finally:
        world.close()
    verdict = "ok" if clean else f"FAILED, everything is kept in {directory}"
    print(f"chaos: {title}, on {store}: {world.account}\nchaos: {verdict} after {time.monotonic() - began:.0f} s", flush=True)
    if clean:
        shutil.rmtree(directory, ignore_errors=True)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
