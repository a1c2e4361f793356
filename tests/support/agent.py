"""Our launch agent as a process, with the process target enabled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.processes import REPO, Process, slipway_binary
from support.server import User, clean_environment


class Agent:
    """`slipway launch-agent` on some queues; keeps its state below `directory` across restarts."""

    def __init__(
        self,
        user: User,
        directory: Path,
        queues: Sequence[str],
        *,
        entity: str | None = None,
        max_jobs: int = 4,
        client_version: str = "0.31",
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = directory
        home = directory / "home"
        home.mkdir(parents=True, exist_ok=True)
        config = directory / "launch-config.yaml"
        usual = {
            "entity": entity or user.name,
            "queues": list(queues),
            "max_jobs": max_jobs,
            "stopped_run_timeout": 5,
            "process": {"enabled": True},
        }
        # JSON is YAML.
        config.write_text(json.dumps(usual | dict(settings or {}), indent=1))
        # Jobs run in the agent's environment: its `python` is the one with the official client.
        path = f"{REPO / '.cache' / f'venv-{client_version}' / 'bin'}:{os.environ['PATH']}"
        env = clean_environment(home) | {
            "PATH": path,
            "WANDB_BASE_URL": user.base_url,
            "WANDB_API_KEY": user.key,
            "SLIPWAY_LOG": "info",
        }
        command = [slipway_binary(), "launch-agent", "--config", config, "--state-dir", directory / "state"]
        if name:
            command += ["--name", name]
        self.process = Process("slipway launch-agent", command, directory / "agent.log", env)

    def start(self, extra_env: Mapping[str, str] | None = None) -> Agent:
        self.process.start(extra_env)
        return self

    def stop(self) -> None:
        """A drain (SIGTERM); jobs that do not end in time are left to run."""
        self.process.stop()
