"""What tests of the official client and of targets have in common: one server for all of them; names keep them apart."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.client import Client
from support.server import Server, User

counter = itertools.count(1)

# Where a shell has started the suite in the background, it ignores the interrupt, and so would all that it starts:
# a stop of the official client is an interrupt that the program gives itself.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def alice(server: Server) -> User:
    return server.admin


@pytest.fixture
def client(alice: User, tmp_path: Path) -> Client:
    """The official client 0.31.0 in alice's hands."""
    return Client(alice, tmp_path / "alice")


@pytest.fixture
def queue_name() -> str:
    return f"queue-{next(counter)}"
