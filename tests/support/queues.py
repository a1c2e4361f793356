"""Queues and items, read through the server's API."""

from __future__ import annotations

import json
from typing import Any

from support.processes import wait_for
from support.server import User

PROJECT = "model-registry"

ITEM = """
fragment ItemFields on RunQueueItem {
  id state label attempt priority author position queueName runName runEntity runProject exitCode
  stopRequested waitReason { code sentence } failure { stage message reason filePaths } warning { message }
  finalSpec origins run { state }
}
"""

ENDED = ("FINISHED", "FAILED", "CRASHED", "KILLED")


def item(user: User, identifier: str) -> dict[str, Any]:
    """One item by its plain id or a lease handle."""
    document = "query Item($id: ID!) { runQueueItem(id: $id) { ...ItemFields } }" + ITEM
    found = user.graphql(document, {"id": identifier})["runQueueItem"]
    assert found is not None, f"no item {identifier}"
    return found


def items(user: User, entity: str, queue: str) -> list[dict[str, Any]]:
    """Every item of a queue, oldest first."""
    document = (
        """query Items($entity: String!, $project: String!, $queue: String!, $after: String) {
          project(entityName: $entity, name: $project) { runQueue(name: $queue) {
            items(first: 100, after: $after) { edges { node { ...ItemFields } } pageInfo { endCursor hasNextPage } } } } }"""
        + ITEM
    )
    found: list[dict[str, Any]] = []
    after = None
    while True:
        variables = {"entity": entity, "project": PROJECT, "queue": queue, "after": after}
        page = user.graphql(document, variables)["project"]["runQueue"]["items"]
        found += [edge["node"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            return found[::-1]


def runs(user: User, entity: str, project: str) -> list[dict[str, Any]]:
    """Every run of a project, with its state."""
    document = """query Runs($entity: String!, $project: String!, $after: String) {
      project(entityName: $entity, name: $project) { runs(first: 100, after: $after) {
        edges { node { name state } } pageInfo { endCursor hasNextPage } } } }"""
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = user.graphql(document, {"entity": entity, "project": project, "after": after})["project"]["runs"]
        found += [edge["node"] for edge in page["edges"]]
        if not page["pageInfo"]["hasNextPage"]:
            return found
        after = page["pageInfo"]["endCursor"]


def only_item(user: User, entity: str, queue: str) -> dict[str, Any]:
    """The one item of a queue."""
    found = items(user, entity, queue)
    assert len(found) == 1, f"{len(found)} items in {entity}/{queue}"
    return found[0]


def wait_state(user: User, identifier: str, *states: str, seconds: float = 120) -> dict[str, Any]:
    """The item once it is in one of these states; stops early at an end that is none of them."""

    def reached() -> dict[str, Any] | None:
        now = item(user, identifier)
        if now["state"] in states:
            return now
        assert now["state"] not in ENDED, f"item ended {now['state']}, not {states}: {now['failure']}"
        return None

    return wait_for(reached, f"item {identifier} to be {' or '.join(states)}", seconds)


def wait_end(user: User, identifier: str, seconds: float = 120) -> dict[str, Any]:
    """The item once it has ended, however."""
    return wait_for(
        lambda: (now := item(user, identifier))["state"] in ENDED and now, f"item {identifier} to end", seconds
    )


def create(
    user: User,
    queue: str,
    *,
    entity: str | None = None,
    resource: str = "local-process",
    config: dict[str, Any] | None = None,
    prioritization: str = "DISABLED",
    template_variables: dict[str, Any] | None = None,
) -> str:
    """A queue made through the API; gives back its id."""
    document = """mutation Upsert($entity: String!, $project: String!, $queue: String!, $resource: String!,
        $config: JSONString!, $variables: JSONString, $mode: RunQueuePrioritizationMode) {
      upsertRunQueue(input: {entityName: $entity, projectName: $project, queueName: $queue, resourceType: $resource,
        resourceConfig: $config, templateVariables: $variables, prioritizationMode: $mode}) { success }
      }"""
    variables = {
        "entity": entity or user.name,
        "project": PROJECT,
        "queue": queue,
        "resource": resource,
        "config": json.dumps({"resource_args": {resource: config or {}}}),
        "variables": json.dumps(template_variables) if template_variables else None,
        "mode": prioritization,
    }
    assert user.graphql(document, variables)["upsertRunQueue"]["success"]
    return queue_facts(user, entity or user.name, queue)["id"]


def queue_facts(user: User, entity: str, queue: str) -> dict[str, Any]:
    """What people see of a queue."""
    document = """query Queue($entity: String!, $project: String!, $queue: String!) {
      project(entityName: $entity, name: $project) { runQueue(name: $queue) {
        id name resource active paused counts { pending starting running } } } }"""
    project = user.graphql(document, {"entity": entity, "project": PROJECT, "queue": queue})["project"]
    assert project and project["runQueue"], f"no queue {entity}/{queue}"
    return project["runQueue"]


def push(
    user: User,
    queue: str,
    spec: dict[str, Any],
    *,
    entity: str | None = None,
    priority: int | None = None,
    key: str | None = None,
) -> str:
    """One item pushed through the API; gives back its id."""
    document = """mutation Push($entity: String!, $project: String!, $queue: String!, $spec: JSONString!,
        $priority: Int, $key: String) {
      pushToRunQueueByName(input: {entityName: $entity, projectName: $project, queueName: $queue, runSpec: $spec,
        priority: $priority, idempotencyKey: $key}) { runQueueItemId } }"""
    variables = {
        "entity": entity or user.name,
        "project": PROJECT,
        "queue": queue,
        "spec": json.dumps(spec),
        "priority": priority,
        "key": key,
    }
    pushed = user.graphql(document, variables)["pushToRunQueueByName"]
    assert pushed, f"push to {queue} answered null"
    return pushed["runQueueItemId"]


def cancel(user: User, identifier: str) -> None:
    """Asks for an item's end."""
    user.graphql(
        "mutation Cancel($id: ID!) { cancelRunQueueItem(input: {runQueueItemId: $id}) { item { id } } }", {"id": identifier}
    )
