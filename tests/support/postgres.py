"""Databases of their own on the PostgreSQL server that the tests were given."""

from __future__ import annotations

import itertools
import os
import subprocess

counter = itertools.count(1)


def new_database() -> str:
    """The URL of a new, empty database."""
    url = os.environ.get("SLIPWAY_TEST_POSTGRES_URL")
    if not url:
        raise RuntimeError("SLIPWAY_TEST_POSTGRES_URL is not set; get one with: scripts/postgres.sh start")
    name = f"test_{os.getpid()}_{next(counter)}"
    subprocess.run(["psql", "--quiet", url, "--command", f'CREATE DATABASE "{name}"'], check=True)
    return f"{url.rsplit('/', 1)[0]}/{name}"
