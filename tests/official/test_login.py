"""`wandb login` against our server (trace 01)."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.client import Client
from support.server import User, new_key


@pytest.fixture
def newcomer(alice: User, tmp_path: Path) -> Client:
    return Client(alice, tmp_path / "newcomer").without_login()


def test_login_stores_the_key_and_later_commands_use_it(newcomer: Client, alice: User) -> None:
    done = newcomer.wandb("login", alice.key, "--host", alice.base_url).ok()
    assert alice.key not in done.output
    netrc = (newcomer.home / ".netrc").read_text()
    assert alice.key in netrc
    assert newcomer.api("result = [api.viewer.username, api.default_entity]") == [alice.name, alice.name]


def test_relogin_with_verify_accepts_a_good_key(newcomer: Client, alice: User) -> None:
    newcomer.wandb("login", alice.key, "--host", alice.base_url).ok()
    newcomer.wandb("login", "--relogin", "--verify", alice.key, "--host", alice.base_url).ok()


def test_login_with_a_wrong_key_is_refused_and_says_so(newcomer: Client, alice: User) -> None:
    done = newcomer.wandb("login", "--verify", new_key(), "--host", alice.base_url)
    assert done.code != 0
    assert f"Failed to authenticate with {alice.base_url}" in done.output
