"""The official agent runs containers from our server, and ours the same item to the same end (trace 18)."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from support import queues
from support.agent import Agent
from support.client import Client
from support.docker import PYTHON
from support.server import User

StartAgent = Callable[..., Agent]

TRAIN = """
import os, sys, wandb
with wandb.init() as run:
    run.log({"answer": run.config["lr"] * 2})
    run.summary["seen"] = [sys.argv[1:], os.environ["FROM_QUEUE"]]
"""

READ = """
    run = api.run(path)
    result = [run.state, run.summary["answer"], run.summary["seen"], run.config["lr"]]
"""


@pytest.mark.parametrize("whose", ["official", "ours"])
def test_an_image_job_ends_alike_with_either_agent(
    alice: User, queue_name: str, start_agent: StartAgent, tmp_path: Path, whose: str
) -> None:
    # The official agent adapts containers only for the word `localhost`.
    user = replace(alice, base_url=alice.base_url.replace("127.0.0.1", "localhost"))
    client = Client(user, tmp_path / "alice")
    queues.create(user, queue_name, resource="local-container", config={"env": ["FROM_QUEUE=yes"], "memory": "1g"})
    job = f"job-{queue_name}"
    client.wandb("job", "create", "-p", "proj", "-e", "alice", "-n", job, "image", f"{PYTHON}").ok()
    # Arguments take the place of the image's command, which leaves the program to them.
    arguments = ["python", "-c", TRAIN, "--flag", "a b"]
    config = {"overrides": {"run_config": {"lr": 0.25}, "args": arguments}}
    client.wandb(
        "launch", "-j", f"alice/proj/{job}:latest", "-q", queue_name, "-e", "alice", "-p", "proj", "-c", json.dumps(config)
    ).ok()
    item = queues.only_item(user, "alice", queue_name)
    if whose == "official":
        agent = client.agent("-q", queue_name, "-e", "alice", "--max-jobs", "1", log=tmp_path / "official.log")
        agent.start()
        try:
            done = queues.wait_state(user, item["id"], "FINISHED", seconds=150)
        finally:
            agent.signal(signal.SIGINT)
            agent.stop()
        assert user.key not in agent.output()
    else:
        start_agent(queue_name)
        done = queues.wait_state(user, item["id"], "FINISHED", seconds=150)
    path = f"alice/proj/{done['runName']}"
    assert client.api(READ, path=path) == ["finished", 0.5, [["--flag", "a b"], "yes"], 0.25]
