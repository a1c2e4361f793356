"""Images that do not come: registries that fail or hang, and what becomes of the item meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support import queues
from support.agent import Agent
from support.client import Client
from support.containers import ended, failed, push, shell
from support.registry import Registry

StartAgent = Callable[..., Agent]

REASONS = {
    401: "registry-unauthorised",
    403: "registry-unauthorised",
    404: "image-not-found",
    429: "registry-rate-limit",
    500: "registry-unreachable",
    503: "registry-unreachable",
}


@pytest.fixture
def registry() -> Iterator[Callable[..., Registry]]:
    """Starts registries, which end with the test."""
    started: list[Registry] = []

    def start(**answers: object) -> Registry:
        started.append(Registry(**answers))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for one in started:
        one.stop()


def image(registry: Registry) -> dict[str, dict[str, str]]:
    return {"docker": {"docker_image": f"{registry.host}/team/image:1"}}


@pytest.mark.parametrize("everywhere", [False, True], ids=["for the image", "for everything"])
def test_a_registry_that_says_nothing_but_a_status_is_understood(
    client: Client, queue_name: str, start_agent: StartAgent, registry: Callable[..., Registry], everywhere: bool
) -> None:
    queues.create(client.user, queue_name, resource="local-container")
    start_agent(queue_name, max_jobs=-1)
    items = {status: push(client.user, queue_name, image(registry(bare=status, everywhere=everywhere))) for status in REASONS}
    for status, item in items.items():
        failed(client.user, item, REASONS[status], 120)


def test_a_job_that_is_cancelled_while_its_image_is_pulled_frees_its_slot_at_once(
    client: Client, queue_name: str, start_agent: StartAgent, registry: Callable[..., Registry]
) -> None:
    queues.create(client.user, queue_name, resource="local-container")
    start_agent(queue_name, max_jobs=1)
    silent = registry(silent=True)
    pulls = push(client.user, queue_name, image(silent))
    assert silent.asked.wait(60), "nobody asked for the image"
    after = push(client.user, queue_name, shell("echo next"))
    assert queues.item(client.user, after)["state"] == "PENDING"
    queues.cancel(client.user, pulls)
    # The registry still says nothing: whoever waited for it would do so until the test ends.
    ended(client.user, pulls, "KILLED")
    failed(client.user, after, "no-run")
    times = "query Times($id: ID!) { runQueueItem(id: $id) { leasedAt endedAt } }"
    first, second = (client.user.graphql(times, {"id": item})["runQueueItem"] for item in (pulls, after))
    assert first["endedAt"] <= second["leasedAt"], (first, second)
