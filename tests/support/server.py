"""A real Slipway server on a port of its own, and people who have a key to it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from support.processes import Process, free_port, slipway_binary, wait_for


class GraphQLError(Exception):
    """The server refused a document."""

    def __init__(self, status: int, errors: list[dict[str, Any]]) -> None:
        super().__init__(f"HTTP {status}: " + "; ".join(error.get("message", "?") for error in errors))
        self.status = status
        self.codes = [error.get("extensions", {}).get("code") for error in errors]


@dataclass(frozen=True)
class User:
    """Somebody with an API key."""

    name: str
    key: str
    base_url: str

    def graphql(self, document: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Runs one document as this user; raises `GraphQLError` on any refusal."""
        answer = requests.post(
            f"{self.base_url}/graphql",
            json={"query": document, "variables": dict(variables or {})},
            auth=("api", self.key),
            timeout=60,
        )
        body = answer.json()
        if answer.status_code != 200 or body.get("errors"):
            raise GraphQLError(answer.status_code, body.get("errors", []))
        return body["data"]

    def get(self, path: str, **options: Any) -> requests.Response:
        """A GET below the server's address, authorised as this user."""
        return requests.get(f"{self.base_url}{path}", auth=("api", self.key), timeout=60, **options)


def clean_environment(home: Path) -> dict[str, str]:
    """An environment in which nothing of the person who runs the tests is visible."""
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "NETRC": str(home / ".netrc"),
        "WANDB_CONFIG_DIR": str(home / ".config" / "wandb"),
        "RUST_BACKTRACE": "1",
    }


def new_key() -> str:
    """A key that the official client's own rule accepts."""
    return secrets.token_hex(20)


class Server:
    """`slipway server` with a data directory of its own and an admin named `alice`."""

    def __init__(self, directory: Path, *options: str, database_url: str | None = None) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.admin = User("alice", new_key(), self.base_url)
        self.home = directory / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.store_options = ["--data-dir", str(self.data)]
        if database_url:
            self.store_options += ["--database-url", database_url]
        env = clean_environment(self.home) | {
            "SLIPWAY_ADMIN_USER": self.admin.name,
            "SLIPWAY_ADMIN_API_KEY": self.admin.key,
            "SLIPWAY_LOG": "info",
        }
        if database_url:
            options = ("--single-replica", *options)
        command = [slipway_binary(), "server", *self.store_options, "--listen", f"127.0.0.1:{self.port}", *options]
        self.process = Process("slipway server", command, directory / "server.log", env)

    def start(self, extra_env: Mapping[str, str] | None = None) -> Server:
        self.process.start(extra_env)
        self.wait_ready()
        return self

    def ready(self) -> bool:
        try:
            return requests.get(f"{self.base_url}/readyz", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def wait_ready(self, seconds: float = 60) -> None:
        def ready() -> bool:
            self.process.require_running()
            return self.ready()

        wait_for(ready, "the server to be ready", seconds, every=0.02)

    def stop(self) -> None:
        self.process.stop()

    def add_user(self, name: str) -> User:
        """A further user, with a key that is imported as in a migration."""
        user = User(name, new_key(), self.base_url)
        self.admin.graphql(
            """mutation User($name: String!, $key: String!) {
              createUser(input: {username: $name, apiKey: $key}) { user { username } } }""",
            {"name": name, "key": user.key},
        )
        return user

    def add_team(self, name: str, *members: User) -> None:
        """A team of the admin and these members."""
        self.admin.graphql("mutation Team($name: String!) { createTeam(input: {name: $name}) { entity { name } } }", {"name": name})
        for member in members:
            self.admin.graphql(
                """mutation Member($team: String!, $name: String!) {
                  setTeamMember(input: {team: $team, username: $name, role: "member"}) { success } }""",
                {"team": name, "name": member.name},
            )
