"""The official client as a person uses it: its command and its library, in a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.processes import REPO, Process
from support.server import User, clean_environment


@dataclass
class Done:
    """A command that has ended."""

    code: int
    output: str

    def ok(self) -> Done:
        assert self.code == 0, f"exit code {self.code}:\n{self.output}"
        return self


class Client:
    """One user on one machine with one version of the official client."""

    def __init__(self, user: User, home: Path, version: str = "0.31") -> None:
        self.user = user
        self.home = home
        self.venv = REPO / ".cache" / f"venv-{version}"
        if not (self.venv / "bin" / "wandb").exists():
            raise FileNotFoundError(f"{self.venv} is not set up; run: scripts/venv.sh {version}")
        self.work = home / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        # Where the command leaves its debug log.
        (home / "tmp").mkdir(exist_ok=True)
        self.env = clean_environment(home) | {
            "PATH": f"{self.venv / 'bin'}:{os.environ['PATH']}",
            "WANDB_BASE_URL": user.base_url,
            "WANDB_API_KEY": user.key,
            "WANDB_DIR": str(self.work),
            "TMPDIR": str(home / "tmp"),
            "WANDB_CACHE_DIR": str(home / "cache"),
            "WANDB_DATA_DIR": str(home / "data"),
            "WANDB_ERROR_REPORTING": "false",
            # Send every second (whole seconds only) instead of every 15, and take no system metrics.
            "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1",
            "WANDB__DISABLE_STATS": "true",
            # On a busy machine its service may take longer to start than the client has patience for.
            "WANDB__SERVICE_WAIT": "300",
            "NO_COLOR": "1",
        }

    def without_login(self) -> Client:
        """The same person before `wandb login`: no key and no address in the environment."""
        for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
            self.env.pop(name, None)
        return self

    def run(
        self, *command: str | Path, env: Mapping[str, str] | None = None, typed: str = "", timeout: float = 180
    ) -> Done:
        """Runs a program of the client's environment to its end, with `typed` as its input; output is
        both streams together."""
        done = subprocess.run(
            [str(part) for part in command],
            env=self.env | dict(env or {}),
            cwd=self.work,
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
        )
        return Done(done.returncode, done.stdout)

    def wandb(self, *arguments: str | Path, **options: Any) -> Done:
        """Runs `wandb ARGUMENTS`."""
        return self.run(self.venv / "bin" / "wandb", *arguments, **options)

    def program(self, source: str, **options: Any) -> Done:
        """Runs Python source as a file `train.py`, the way a person runs a training script."""
        script = self.work / "train.py"
        script.write_text(textwrap.dedent(source))
        return self.run(self.venv / "bin" / "python", script, **options)

    def api(self, source: str, **values: Any) -> Any:
        """Runs Python source with `api = wandb.Api()` and `values` in scope; gives back what it
        leaves in `result`, through JSON."""
        code = textwrap.dedent(
            """
            import json, os, sys
            import wandb
            api = wandb.Api()
            result = None
            """
        )
        code += f"globals().update(json.loads({json.dumps(json.dumps(values))}))\n"
        code += textwrap.dedent(source)
        code += "\nprint('RESULT ' + json.dumps(result))\n"
        done = self.run(self.venv / "bin" / "python", "-c", code).ok()
        for line in reversed(done.output.splitlines()):
            if line.startswith("RESULT "):
                return json.loads(line.removeprefix("RESULT "))
        raise AssertionError(f"the script printed no result:\n{done.output}")

    def agent(self, *arguments: str, log: Path) -> Process:
        """The official `wandb launch-agent`, not yet started."""
        command = [self.venv / "bin" / "wandb", "launch-agent", *arguments]
        return Process("wandb launch-agent", command, log, self.env | {"PYTHONUNBUFFERED": "1"}, cwd=self.work)

    def write(self, files: Mapping[str, str], directory: str) -> Path:
        """Writes files below the working directory and gives back their directory."""
        root = self.work / directory
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return root
