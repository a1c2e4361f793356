"""Queues through the official public API (trace 03; Q05, Q07, Q12, Q14, Q16–Q19)."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import queues
from support.client import Client
from support.server import Server

VARIABLES = {
    "cpu": {"schema": {"type": "integer", "minimum": 1, "maximum": 4, "default": 2}, "description": "cores"},
    "team": {"schema": {"type": "string", "enum": ["red", "blue"]}},
}

READ_QUEUE = """
    queue = api.run_queue(entity, name)
    result = {
        "type": queue.type,
        "access": queue.access,
        "mode": queue.prioritization_mode,
        "config": queue.default_resource_config,
        "variables": queue.template_variables,
        "links": queue.external_links,
        "items": [item.id for item in queue.items],
    }
"""


def read_queue(client: Client, name: str) -> dict:
    return client.api(READ_QUEUE, entity=client.user.name, name=name)


def test_a_created_queue_reads_back_as_given(client: Client, queue_name: str) -> None:
    config = {"resource_args": {"local-process": {"env": {"TEAM": "{{team}}", "CPU": "{{cpu}}"}}}}
    client.api(
        """
        api.create_run_queue(name=name, type="local-process", prioritization_mode="V0",
                             config=config["resource_args"]["local-process"], template_variables=variables)
        """,
        name=queue_name,
        config=config,
        variables=VARIABLES,
    )
    queue = read_queue(client, queue_name)
    assert (queue["type"], queue["access"], queue["mode"]) == ("local-process", "PROJECT", "V0")
    assert queue["config"] == config
    assert queue["items"] == []
    names = {variable["name"] for variable in queue["variables"]} if isinstance(queue["variables"], list) else set(queue["variables"])
    assert names == {"cpu", "team"}


@pytest.mark.parametrize("kind", ["local-container", "local-process", "kubernetes", "sagemaker", "gcp-vertex"])
def test_every_target_resource_can_have_a_queue(client: Client, queue_name: str, kind: str) -> None:
    # What each target requires of a configuration, nothing more (Q14: blank is fine where nothing is).
    config = {
        "sagemaker": {
            "RoleArn": "arn:aws:iam::123456789012:role/launch",
            "ResourceConfig": {"InstanceType": "ml.m4.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 2},
            "OutputDataConfig": {"S3OutputPath": "s3://bucket/output"},
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        },
        "gcp-vertex": {
            "spec": {
                "worker_pool_specs": [
                    {
                        "machine_spec": {"machine_type": "n1-standard-4"},
                        "replica_count": 1,
                        "container_spec": {"image_uri": "${image_uri}"},
                    }
                ],
                "staging_bucket": "gs://bucket",
            },
            "run": {"restart_job_on_worker_restart": False},
        },
    }.get(kind, {})
    client.api("api.create_run_queue(name=name, type=kind, config=config)", name=queue_name, kind=kind, config=config)
    queue = read_queue(client, queue_name)
    assert (queue["type"], queue["mode"]) == (kind, "DISABLED")
    assert queue["config"] == {"resource_args": {kind: config}}


def test_upsert_makes_then_changes_a_queue_and_keeps_its_id(client: Client, queue_name: str) -> None:
    facts = client.api(
        """
        def upsert(env, **more):
            api.upsert_run_queue(name=name, entity=entity, resource_type="local-process",
                                 resource_config={"env": env}, **more)
            return api.run_queue(entity, name)

        first = upsert({"A": "{{cpu}}"}, template_variables={"cpu": variables["cpu"]},
                       external_links={"grafana": "https://grafana.example.com/d"}, prioritization_mode="V0")
        before = [first.id, first.external_links, first.prioritization_mode, len(first.template_variables)]
        second = upsert({"A": "2"}, template_variables={})
        result = [before, [second.id, second.default_resource_config, len(second.template_variables)]]
        """,
        name=queue_name,
        entity=client.user.name,
        variables=VARIABLES,
    )
    (identifier, links, mode, variables), (same, config, none_left) = facts
    assert links == {"links": [{"label": "grafana", "url": "https://grafana.example.com/d"}]} or links == {
        "grafana": "https://grafana.example.com/d"
    }
    assert (mode, variables) == ("V0", 1)
    assert same == identifier
    assert config == {"resource_args": {"local-process": {"env": {"A": "2"}}}}
    assert none_left == 0


def test_a_deleted_queue_is_gone(client: Client, queue_name: str) -> None:
    gone = client.api(
        """
        api.create_run_queue(name=name, type="local-process").delete()
        try:
            result = api.run_queue(entity, name).id
        except Exception as error:
            result = type(error).__name__
        """,
        entity=client.user.name,
        name=queue_name,
    )
    assert gone in ("TypeError", "CommError", "ValueError", "AttributeError")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"name": "", "type": "local-process"}, "name"),
        ({"name": "x" * 65, "type": "local-process"}, "64"),
        ({"name": "fine", "type": "mainframe"}, "resource_type"),
        ({"name": "fine", "type": "local-process", "config": {"env": {"A": "{{a}}"}}, "template_variables": {"a": {"schema": {"type": "colour"}}}}, "a"),
    ],
    ids=["empty name", "long name", "unknown resource", "bad template variable"],
)
def test_a_queue_that_makes_no_sense_is_refused_with_the_reason(client: Client, arguments: dict, expected: str) -> None:
    message = client.api(
        """
        try:
            api.create_run_queue(**arguments)
            result = "created"
        except Exception as error:
            result = str(error)
        """,
        arguments=arguments,
    )
    assert message != "created"
    assert expected in message


def test_creating_a_queue_twice_is_refused(client: Client, queue_name: str) -> None:
    message = client.api(
        """
        api.create_run_queue(name=name, type="local-process")
        try:
            api.create_run_queue(name=name, type="local-process")
            result = "created"
        except Exception as error:
            result = str(error)
        """,
        name=queue_name,
    )
    assert message != "created"
    assert queue_name in message


def test_the_first_push_of_an_entity_makes_its_default_queue(server: Server, tmp_path: Path) -> None:
    newcomer = Client(server.add_user("newcomer"), tmp_path)
    pushed = newcomer.api(
        """
        from wandb.sdk.launch.api import LaunchApi
        spec = {"entity": "newcomer", "project": "proj", "docker": {"docker_image": "busybox:1"}, "resource": "local-container"}
        result = LaunchApi().push_to_run_queue("default", spec, None, "model-registry")
        """
    )
    assert queues.only_item(newcomer.user, "newcomer", "default")["id"] == pushed["runQueueItemId"]
