"""A job that prints far more than anybody reads: it ends, its slot is free, and the agent stays small."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support import queues
from support.agent import Agent
from support.client import Client
from support.containers import ended, failed, push, shell
from support.docker import Docker

StartAgent = Callable[..., Agent]

GIBIBYTE = 1 << 30

# What an agent of a debug build may have had in memory at most. It had 59 MiB.
PEAK_KIB = 96 * 1024


def peak_kib(process: int) -> int:
    """The most memory that a process ever had."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


@pytest.mark.timeout(1800)
def test_a_job_that_prints_a_gibibyte_ends_and_frees_its_slot(
    client: Client, queue_name: str, start_agent: StartAgent, docker: Docker
) -> None:
    queues.create(client.user, queue_name, resource="local-container")
    agent = start_agent(queue_name, max_jobs=1)
    began = time.monotonic()
    lines = f"yes $(printf %01023d 0) | head -c {GIBIBYTE}"
    item = push(client.user, queue_name, shell(f"{lines}; echo the end >&2; exit 5"))
    after = push(client.user, queue_name, shell("exit 6"))
    message = failed(client.user, item, "exit-code", 1500)
    seconds = time.monotonic() - began
    assert "exited with code 5" in message
    assert ended(client.user, after, "FAILED")["exitCode"] == 6
    assert agent.process.process
    peak = peak_kib(agent.process.process.pid)
    print(f"1 GiB of output: {seconds:.0f} s, the agent had {peak // 1024} MiB at most")
    assert peak < PEAK_KIB
