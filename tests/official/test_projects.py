"""Projects as `wandb.Api` lists them."""

from __future__ import annotations

from support.client import Client
from support.server import User

MAKE = """
    import wandb

    for project in ("first-of-all", "second"):
        api.create_project(project, entity)
    result = True
"""

LIST = """
    found = api.projects(entity, per_page=1)
    result = [[project.name, project.entity, project.url, project.id] for project in found]
"""

ONE = """
    project = api.project("second", entity)
    result = [project.id, project.created_at, project.is_benchmark, project.owner.username]
"""


def test_the_projects_of_an_entity_are_listed(client: Client, alice: User) -> None:
    assert client.api(MAKE, entity=alice.name)
    found = {name: rest for name, *rest in client.api(LIST, entity=alice.name)}
    assert {"first-of-all", "second"} <= set(found)
    entity, url, identifier = found["second"]
    assert (entity, url) == (alice.name, f"{alice.base_url}/{alice.name}/second/workspace")
    one = client.api(ONE, entity=alice.name)
    assert one[0] == identifier
    assert one[1] and one[2:] == [False, alice.name]
