"""A job that fills the disk of its agent's state directory is stopped, ends and leaves like any other."""

from __future__ import annotations

import os
from pathlib import Path

from support import queues
from support.agent import Agent
from support.client import Client
from support.processes import wait_for

# Leaves nothing of the disk; what else it prints is lost with that.
FILL = """
import pathlib, sys, time
with open("fill", "wb", buffering=0) as file:
    for size in (65536, 1):
        try:
            while True:
                file.write(bytes(size))
        except OSError as error:
            print(error.strerror, flush=True)
pathlib.Path(sys.argv[1]).touch()
while sys.argv[2] == "waits":
    time.sleep(1)
sys.exit(3)
"""


def on_a_small_disk(agent: Agent) -> Agent:
    """Gives the agent and its jobs a state directory of 4 MiB, which nobody else sees."""
    state = agent.directory / "state"
    state.mkdir()
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mount = 'mount -t tmpfs -o size=4m none "$0" && exec "$@"'
    agent.process.command = ["unshare", *user, "--mount", "sh", "-c", mount, str(state), *agent.process.command]
    return agent


def test_a_job_that_fills_the_disk_is_stopped_and_ends_with_a_reason(client: Client, queue_name: str, tmp_path: Path) -> None:
    code = client.write({"fill.py": FILL, "requirements.txt": ""}, "fill")
    create = ("job", "create", "code", "-p", "proj", "-e", "alice", "-n", queue_name, "-r", "3.11")
    client.wandb(*create, "-E", "python fill.py", code).ok()
    queues.create(client.user, queue_name)

    def push(name: str, what: str) -> str:
        spec = {"entity": "alice", "project": "proj", "job": f"alice/proj/{queue_name}:latest", "resource": "local-process"}
        return queues.push(client.user, queue_name, spec | {"overrides": {"args": [str(tmp_path / name), what]}})

    agent = on_a_small_disk(Agent(client.user, tmp_path / "agent", [queue_name], max_jobs=1)).start()
    try:
        stopped = push("full", "waits")
        wait_for((tmp_path / "full").exists, "the disk to be full", 60)
        queues.wait_state(client.user, stopped, "RUNNING")
        queues.cancel(client.user, stopped)
        done = queues.wait_end(client.user, stopped)
        assert (done["state"], done["failure"]) == ("KILLED", None)
        # Its end was written down, and its slot and its space are free.
        for name in ("once", "again"):
            done = queues.wait_end(client.user, push(name, "ends"))
            assert (done["exitCode"], done["failure"]["reason"]) == (3, "exit-code"), done["failure"]
            assert (tmp_path / name).exists()
    finally:
        agent.stop()
