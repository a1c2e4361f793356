"""`wandb login` against our server (trace 01), and that either client reads what the other one keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.client import Client
from support.processes import slipway_binary
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


def test_the_official_client_reads_what_slipway_login_keeps(newcomer: Client, alice: User) -> None:
    done = newcomer.run(slipway_binary(), "login", "--host", alice.base_url, typed=f"{alice.key}\n").ok()
    assert alice.key not in done.output
    read = "import wandb\napi = wandb.Api()\nprint('READ', api.settings['base_url'], api.viewer.username)\n"
    assert f"READ {alice.base_url} {alice.name}" in newcomer.program(read).ok().output
    # And it logs a run with no more than that.
    newcomer.program("import wandb\nwith wandb.init(project='proj', id='after-our-login') as run:\n    run.log({'a': 1})\n").ok()


def test_slipway_reads_what_the_official_login_keeps(newcomer: Client, alice: User) -> None:
    newcomer.wandb("login", alice.key, "--host", alice.base_url).ok()
    done = newcomer.run(slipway_binary(), "queue", "list", "--output", "json").ok()
    # Before it there may be a word about a server that takes its time.
    assert isinstance(json.loads(done.output[done.output.index("[") :]), list)
