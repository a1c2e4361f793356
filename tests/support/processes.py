"""Long-running programs under test: started, watched, killed.

A program that dies or does not come up in time fails with the end of its log, never with a bare
timeout.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

REPO = Path(__file__).resolve().parents[2]
SLIPWAY = Path(os.environ.get("SLIPWAY_BIN", REPO / "target" / "debug" / "slipway"))


# Below those that the system hands out by itself, to whoever asks for any port and to every connection:
# a server that is away for a while finds its port free when it comes back.
PORTS = range(20_000, 32_000)

# Each process of tests begins elsewhere and gives none out twice.
ports = itertools.islice(itertools.cycle(PORTS), random.randrange(len(PORTS)), None)


def free_port() -> int:
    """A TCP port on which nothing listens now, for one that is to listen later."""
    for port in itertools.islice(ports, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no port of 127.0.0.1 is free from {PORTS.start} to {PORTS.stop - 1}")


def slipway_binary() -> Path:
    """The binary under test."""
    if not SLIPWAY.exists():
        raise FileNotFoundError(f"{SLIPWAY} does not exist; build it with: cargo build --package slipway")
    return SLIPWAY


def wait_for(condition: Callable[[], T], what: str, seconds: float = 60, every: float = 0.1) -> T:
    """The first truthy value of `condition`; fails at the deadline, naming what was waited for. A deadline
    only ends what hangs: it is far beyond what a busy machine takes."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}; last value: {value!r}")
        time.sleep(every)


class Process:
    """One program with its log file. Restartable: `start` after `kill` runs the same command again."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        env: Mapping[str, str],
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log = log
        self.env = dict(env)
        self.cwd = cwd
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, extra_env: Mapping[str, str] | None = None) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env | dict(extra_env or {}),
                cwd=self.cwd,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = 25) -> str:
        return "\n".join(self.output().splitlines()[-lines:])

    def require_running(self) -> None:
        if not self.running:
            code = self.process.returncode if self.process else "never started"
            raise RuntimeError(f"{self.name} is not running (exit code {code}). Its log ends:\n{self.tail()}")

    def wait_for_output(self, text: str, seconds: float = 60) -> None:
        """Waits until the program printed `text`."""

        def printed() -> bool:
            found = text in self.output()
            if not found:
                self.require_running()
            return found

        try:
            wait_for(printed, f"{self.name} to print {text!r}", seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}. Its log ends:\n{self.tail()}") from None

    def wait(self, seconds: float = 60) -> int:
        """The exit code, once the program has ended by itself."""
        assert self.process is not None, f"{self.name} was never started"
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} did not end within {seconds:g} s. Its log ends:\n{self.tail()}") from None

    def signal(self, number: signal.Signals) -> None:
        if self.running:
            assert self.process is not None
            self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to this program alone: what it started lives on, as after a crash."""
        if self.process is not None:
            if self.running:
                self.process.kill()
            self.process.wait()

    def stop(self, seconds: float = 60) -> None:
        """SIGTERM, then SIGKILL for one that does not go."""
        if self.process is None:
            return
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
