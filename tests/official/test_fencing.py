"""An agent that stops past its lease and goes on starts nothing twice and changes nothing: process target.

Official and ours against each other in every combination.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support import fencing, queues
from support.client import Client


@pytest.mark.timeout(1800)
def test_a_stopped_agent_starts_nothing_twice_and_changes_nothing(client: Client, queue_name: str, tmp_path: Path) -> None:
    code = client.write({"job.py": fencing.JOB, "requirements.txt": ""}, "fenced")
    client.wandb("job", "create", "code", "-p", "proj", "-e", "alice", "-n", "fenced", "-E", "python job.py", "-r", "3.11", code).ok()
    tokens = tmp_path / "tokens"
    tokens.mkdir()

    def spec(name: str, gate: str) -> dict[str, Any]:
        arguments = [str(tokens / name), gate]
        return {"job": "alice/proj/fenced:latest", "entity": "alice", "project": "proj", "overrides": {"args": arguments}}

    def starts(name: str) -> int:
        return len((tokens / name).read_text().splitlines())

    fencing.hold_duels(client.user, tmp_path, queue_name, lambda queue: queues.create(client.user, queue), spec, starts)
