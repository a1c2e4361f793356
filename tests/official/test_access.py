"""Who may use which queue (Q03, Q04; design of keys and entities)."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import queues
from support.client import Client
from support.server import GraphQLError, Server, User

SPEC = {"docker": {"docker_image": "python:3.11"}}


@pytest.fixture(scope="module")
def people(server: Server) -> dict[str, User]:
    people = {name: server.add_user(name) for name in ("bob", "carol")}
    server.add_team("research", people["bob"])
    return people


def spec(entity: str) -> dict:
    return SPEC | {"entity": entity, "project": "proj"}


def test_every_member_may_push_to_a_team_queue(people: dict[str, User], alice: User, queue_name: str) -> None:
    queues.create(alice, queue_name, entity="research", resource="local-container")
    identifier = queues.push(people["bob"], queue_name, spec("research"), entity="research")
    assert queues.item(alice, identifier)["author"] == "bob"


@pytest.mark.parametrize("entity", ["research", "alice"])
def test_an_outsider_neither_sees_nor_uses_a_queue(people: dict[str, User], alice: User, queue_name: str, entity: str) -> None:
    queues.create(alice, queue_name, entity=entity, resource="local-container")
    identifier = queues.push(alice, queue_name, spec(entity), entity=entity)
    carol = people["carol"]
    with pytest.raises((GraphQLError, AssertionError)):
        queues.queue_facts(carol, entity, queue_name)
    with pytest.raises((GraphQLError, AssertionError)):
        queues.push(carol, queue_name, spec(entity), entity=entity)
    with pytest.raises((GraphQLError, AssertionError)):
        queues.item(carol, identifier)
    assert [item["id"] for item in queues.items(alice, entity, queue_name)] == [identifier]


def test_the_official_client_tells_an_outsider(people: dict[str, User], alice: User, queue_name: str, tmp_path: Path) -> None:
    queues.create(alice, queue_name, resource="local-container")
    carol = Client(people["carol"], tmp_path / "carol")
    done = carol.wandb("launch", "-d", "python:3.11", "-q", queue_name, "-e", "alice", "-p", "proj")
    assert done.code != 0
    assert queues.items(alice, "alice", queue_name) == []


def test_a_member_of_the_team_launches_with_the_official_client(
    people: dict[str, User], alice: User, queue_name: str, tmp_path: Path
) -> None:
    queues.create(alice, queue_name, entity="research", resource="local-container")
    bob = Client(people["bob"], tmp_path / "bob")
    bob.wandb("launch", "-d", "python:3.11", "-q", queue_name, "-e", "research", "-p", "proj").ok()
    assert queues.only_item(alice, "research", queue_name)["author"] == "bob"


@pytest.mark.parametrize("key", ["", "x" * 40], ids=["no key", "unknown key"])
def test_no_valid_key_no_answer(server: Server, key: str) -> None:
    with pytest.raises(GraphQLError) as refused:
        User("nobody", key, server.base_url).graphql("query { runQueues { id } }")
    assert refused.value.status == 401


def test_the_admin_header_grants_nothing(people: dict[str, User], server: Server, queue_name: str, alice: User) -> None:
    queues.create(alice, queue_name, resource="local-container")
    carol = Client(people["carol"], server.directory / "carol-header")
    # The public API sends `Use-Admin-Privileges: true` with every request.
    seen = carol.api(
        """
        try:
            result = api.run_queue("alice", name).id
        except Exception as error:
            result = None
        """,
        name=queue_name,
    )
    assert seen is None
