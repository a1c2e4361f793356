"""Pushes that are on their way while the server is killed, and what came of each.

Three kinds: ours, repeated under one key until it is acknowledged; one that nobody repeats; the official
client's, which sends a lost one again by itself.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from support import queues
from support.client import Client
from support.processes import wait_for
from support.server import GraphQLError, User

OURS = "ours"
ONCE = "sent once"
OFFICIAL = "official"
KINDS = (OURS, ONCE, OFFICIAL)

# What the official library says when it had no answer in time, which refuses nothing.
GAVE_UP = "did not respond in time"

PROGRAM = Path(__file__).with_name("official_pusher.py")


@dataclass
class Push:
    """One push and what its sender knows of it."""

    label: str
    kind: str
    # The state in which its item must end.
    expected: str
    sent: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    # The item, once the server said so.
    item: str | None = None
    # Why there is none, if the server said that.
    refusal: str | None = None
    # Whether the server was killed while the answer was due.
    struck: bool = False

    def must_exist(self) -> bool:
        """A push that was acknowledged, and one that is repeated until it is. The other two kinds may exist
        or not if their sender gave up."""
        return self.item is not None or self.kind == OURS


class Pushes:
    """All pushes of a series."""

    def __init__(self, user: User, queue: str, client: Client) -> None:
        self.user = user
        self.queue = queue
        self.client = client
        self.all: list[Push] = []
        self.official: OfficialPusher | None = None

    def close(self) -> None:
        if self.official:
            self.official.close()

    def begin(self, label: str, kind: str, expected: str, spec: dict[str, Any]) -> Push:
        """Sends a push without waiting for its answer."""
        push = Push(label, kind, expected)
        self.all.append(push)
        if kind == OFFICIAL:
            if self.official is None:
                self.official = OfficialPusher(self.client)
            self.official.begin(push, self.queue, spec)
        else:
            threading.Thread(target=self._send, args=(push, spec), daemon=True).start()
        return push

    def add(self, label: str, kind: str, expected: str) -> Push:
        """Accounts for a push that somebody else sends; whoever does says what came of it."""
        push = Push(label, kind, expected)
        self.all.append(push)
        push.sent.set()
        return push

    def _send(self, push: Push, spec: dict[str, Any]) -> None:
        key = push.label if push.kind == OURS else None
        deadline = time.monotonic() + 60
        push.sent.set()
        while True:
            try:
                push.item = queues.push(self.user, self.queue, spec, key=key)
                break
            except (requests.RequestException, GraphQLError) as error:
                refused = isinstance(error, GraphQLError) and error.status < 500
                if refused or (push.kind == OURS and time.monotonic() > deadline):
                    push.refusal = str(error)
                    break
                if push.kind == ONCE:
                    break
                time.sleep(0.05)
        push.over.set()

    @contextmanager
    def striking(self) -> Iterator[None]:
        """Marks the pushes that were under way before the block, which kills the server, and have no
        answer after it."""
        due = [push for push in self.all if push.sent.is_set() and not push.over.is_set()]
        yield
        for push in due:
            push.struck = push.struck or push.item is None

    def settle(self, seconds: float) -> None:
        """Waits until each push has its answer, or will never have one. The account names the others."""
        deadline = time.monotonic() + seconds
        for push in self.all:
            push.over.wait(max(0.0, deadline - time.monotonic()))

    def struck(self, kind: str) -> int:
        return sum(push.struck for push in self.all if push.kind == kind)

    def __str__(self) -> str:
        def told(kind: str) -> str:
            count = sum(push.kind == kind for push in self.all)
            return f"{count} {kind} ({self.struck(kind)} under way when the server was killed)"

        return "pushes: " + ", ".join(told(kind) for kind in KINDS)


class OfficialPusher:
    """One process with the official client's library, which costs seconds to start, and one push a line."""

    def __init__(self, client: Client) -> None:
        self.pushes: dict[str, Push] = {}
        self.ready = threading.Event()
        self.log = client.home / "official-pusher.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [client.venv / "bin" / "python", PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=client.env,
                cwd=client.work,
            )
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            wait_for(self.ready.is_set, "the official client's library to be ready", 60)
        except TimeoutError as error:
            self.close()
            raise RuntimeError(f"{error}; its log: {self.log.read_text()}") from None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()

    def begin(self, push: Push, queue: str, spec: dict[str, Any]) -> None:
        self.pushes[push.label] = push
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"label": push.label, "queue": queue, "spec": spec}) + "\n")
        self.process.stdin.flush()

    def _listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            if not line.startswith("["):
                continue  # what the library prints for people
            word, label, detail = json.loads(line)
            if word == "ready":
                self.ready.set()
                continue
            push = self.pushes[label]
            if word == "sending":
                push.sent.set()
                continue
            if word == "acknowledged":
                push.item = detail
            elif GAVE_UP not in detail:
                push.refusal = detail
            push.over.set()
