"""Items of the Docker target, as the tests of it push and judge them."""

from __future__ import annotations

from typing import Any

from support import queues
from support.docker import BUSYBOX
from support.server import User


def shell(script: str) -> dict[str, Any]:
    """A spec that runs this in a shell of the small image."""
    return {"docker": {"docker_image": BUSYBOX}, "overrides": {"entry_point": ["sh", "-c", script]}}


def push(user: User, queue: str, spec: dict[str, Any], **resource_args: Any) -> str:
    """An item with a submitter's own options."""
    target = {"entity": "alice", "project": "proj", "resource": "local-container"}
    arguments = {"resource_args": {"local-container": resource_args}} if resource_args else {}
    return queues.push(user, queue, target | arguments | spec)


def output(user: User, item: str) -> str:
    return user.get(f"/slipway/v1/items/{item}/output?follow=false").text


def ended(user: User, item: str, state: str, seconds: float = 120) -> dict[str, Any]:
    done = queues.wait_end(user, item, seconds)
    assert done["state"] == state, (done["failure"], output(user, item))
    return done


def failed(user: User, item: str, reason: str, seconds: float = 120) -> str:
    """The message of an item that failed for this reason."""
    failure = ended(user, item, "FAILED", seconds)["failure"]
    assert failure["reason"] == reason, failure
    return failure["message"]
