"""The container engine under test, by its command. Only what a test made is ever touched."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from support.agent import Agent
from support.processes import wait_for

BUSYBOX = "slipway-test/busybox:1"
PYTHON = "slipway-test/python:1"


class Docker:
    """The engine that the agent talks to: the one that `docker` finds, or the one at this address."""

    def __init__(self, address: str | None = None) -> None:
        self.address = address
        self.command = ["docker", "--host", address] if address else ["docker"]

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.command, *arguments], capture_output=True, text=True, timeout=120)

    def run(self, *arguments: str, check: bool = True) -> str:
        """`docker ARGUMENTS`; gives back what it prints."""
        done = self.call(*arguments)
        if check and done.returncode != 0:
            raise RuntimeError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def require(self) -> None:
        """Fails unless the engine and the images are there."""
        for image in (BUSYBOX, PYTHON):
            if self.call("image", "inspect", image).returncode != 0:
                raise RuntimeError(f"no engine with the image {image} answers; get one with: scripts/docker.sh start")

    def inspect(self, container: str) -> dict[str, Any] | None:
        done = self.call("container", "inspect", container)
        return json.loads(done.stdout)[0] if done.returncode == 0 else None

    def containers(self, label: str, value: str) -> list[str]:
        """The names of all containers, running or not, whose label ends in this value."""
        listed = self.run("ps", "--all", "--filter", f"label={label}", "--format", "{{.Names}}").split()
        found = [name for name in listed if (facts := self.inspect(name)) and facts["Config"]["Labels"].get(label, "").endswith(value)]
        return sorted(found)

    def remove(self, container: str) -> None:
        """Removes a container, which somebody else may be about to remove too."""
        self.run("rm", "--force", container, check=False)
        wait_for(lambda: self.inspect(container) is None, f"the container {container} to be removed")

    def leftovers(self, agents: Iterable[Agent], scope: str) -> list[str]:
        """Ends these agents and removes the containers of this scope that they left behind. An agent removes a
        container only after its outcome is acknowledged, so that it may still be at it when a test ends: it is
        ended once it is done, or has had its time."""
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: self.containers("slipway.scope", scope) == [], "the containers to be removed")
        for agent in agents:
            agent.stop()
        left = self.containers("slipway.scope", scope)
        for container in left:
            self.remove(container)
        return left

    def of_run(self, run: str) -> dict[str, Any] | None:
        """The container of a run, if it is there."""
        names = self.containers("slipway.run", run)
        return self.inspect(names[0]) if names else None

    def wait_running(self, run: str, seconds: float = 60) -> dict[str, Any]:
        """The container of a run once it runs."""
        return wait_for(
            lambda: (found := self.of_run(run)) and found["State"]["Running"] and found, f"the container of run {run} to run", seconds
        )


class EngineProxy:
    """The engine at a socket of its own, which can go away and come back, and lose a single message."""

    def __init__(self, path: Path, engine: str = "/var/run/docker.sock") -> None:
        self.path = path
        self.engine = engine
        self.listener: socket.socket | None = None
        # Of `listener` and `open`: no connection comes to be while all of them are broken.
        self.lock = threading.Lock()
        self.open: set[socket.socket] = set()
        self.to_lose: tuple[str, bytes, bytes] | None = None
        # Whether the engine goes away with the message that is lost.
        self.goes = False
        self.lost = threading.Event()
        self.unanswered: set[socket.socket] = set()
        self.start()

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def stop(self) -> None:
        """Breaks every connection and takes no new one; the socket stays, as that of a dead engine."""
        with self.lock:
            if self.listener:
                self.listener.shutdown(socket.SHUT_RDWR)
                self.listener.close()
                self.listener = None
            for connection in self.open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def lose(self, what: str, method: str, path: str, and_go: bool = False) -> threading.Event:
        """Breaks the connection of the next call like this one, once: its `request` before the engine
        hears it, or its `answer` once the engine has done it. The event tells that it happened. The engine
        may go away with it, before anybody can ask again."""
        self.lost = threading.Event()
        self.goes = and_go
        self.to_lose = (what, method.encode() + b" ", path.encode())
        return self.lost

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            upstream = socket.socket(socket.AF_UNIX)
            try:
                upstream.connect(self.engine)
            except OSError:
                client.close()
                continue
            with self.lock:
                if self.listener is not listener:
                    client.close()
                    upstream.close()
                    return
                self.open |= {client, upstream}
            for source, sink in ((client, upstream), (upstream, client)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source in self.unanswered or self._loses(data, sink):
                    if self.goes:
                        self.stop()
                    self.lost.set()
                    source.shutdown(socket.SHUT_RDWR)
                    break
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        with self.lock:
            self.open.discard(source)

    def _loses(self, data: bytes, sink: socket.socket) -> bool:
        """Whether these bytes go no further."""
        if self.to_lose is None:
            return False
        what, method, path = self.to_lose
        if not data.startswith(method) or path not in data.split(b"\r\n", 1)[0]:
            return False
        self.to_lose = None
        if what == "answer":
            self.unanswered.add(sink)
        return what == "request"
