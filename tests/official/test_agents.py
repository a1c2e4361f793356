"""Items worked by the official agent and by ours, to the same outcome (traces 09, 10; Q07, Q11, Q13, Q15, Q18)."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from support import queues
from support.agent import Agent
from support.client import Client
from support.processes import wait_for
from support.server import User

StartAgent = Callable[..., Agent]

READ_RUN = """
    run = api.run(path)
    result = {
        "state": run.state,
        "lr_used": run.summary.get("lr_used"),
        "foo": run.summary.get("foo"),
        "losses": [row["loss"] for row in run.scan_history(keys=["loss"])],
        "name": run.name,
    }
"""


def launch(client: Client, queue: str, job: str, config: dict | None = None, *arguments: str) -> dict:
    """Puts one item on the queue as a person does and gives it back."""
    overrides = ["-c", json.dumps({"overrides": config})] if config else []
    client.wandb("launch", "-j", job, "-q", queue, "-e", "alice", "-p", "proj", *overrides, *arguments).ok()
    return queues.items(client.user, "alice", queue)[-1]


def code_job(client: Client, name: str, files: dict[str, str], entry_point: str) -> str:
    """A job from these files, made by the official client."""
    code = client.write({"requirements.txt": ""} | files, name)
    client.wandb("job", "create", "code", "-p", "proj", "-e", "alice", "-n", name, "-E", entry_point, "-r", "3.11", code).ok()
    return f"alice/proj/{name}:latest"


def read_run(client: Client, item: dict) -> dict:
    return client.api(READ_RUN, path=f"{item['runEntity']}/{item['runProject']}/{item['runName']}")


def captured_output(user: User, item: dict) -> str:
    return user.get(f"/slipway/v1/items/{item['id']}/output?follow=false").text


def test_the_official_agent_runs_a_code_job_to_its_end(client: Client, queue_name: str, code_job: str, tmp_path: Path) -> None:
    queues.create(client.user, queue_name)
    item = launch(client, queue_name, code_job, {"run_config": {"lr": 0.5}, "args": ["--foo", "bar"]}, "--name", "by official")
    agent = client.agent("-q", queue_name, "-e", "alice", "--max-jobs", "1", log=tmp_path / "agent.log")
    agent.start()
    try:
        done = queues.wait_state(client.user, item["id"], "FINISHED", seconds=240)
        assert queues.queue_facts(client.user, "alice", queue_name)["active"]
    finally:
        agent.signal(signal.SIGINT)
        agent.stop()
    run = read_run(client, done)
    assert run == {"state": "finished", "lr_used": 0.5, "foo": "bar", "losses": [1.0, 0.5, pytest.approx(1 / 3)], "name": "by official"}
    assert client.user.key not in agent.output()


def test_a_failure_that_the_official_agent_reports_is_shown_with_its_log(
    client: Client, queue_name: str, tmp_path: Path
) -> None:
    """Trace 09, exchanges 61 to 65: the agent keeps the log among the files of its own run."""
    queues.create(client.user, queue_name)
    identifier = queues.push(client.user, queue_name, {"job": "alice/proj/nowhere:v7", "entity": "alice", "project": "proj"})
    agent = client.agent("-q", queue_name, "-e", "alice", "--max-jobs", "1", log=tmp_path / "agent.log")
    agent.start()
    try:
        done = queues.wait_end(client.user, identifier, seconds=240)
        assert (done["state"], done["failure"]["stage"]) == ("FAILED", "agent")
        assert "nowhere" in done["failure"]["message"]
        [path] = done["failure"]["filePaths"]
        assert path.endswith("/error/error.log")
        assert path in client.user.get(f"/launch/alice/{queue_name}/items/{identifier}").text
        document = """query Agents { launchAgents(entityName: "alice") { name } }"""
        names = [found["name"] for found in client.user.graphql(document)["launchAgents"]]

        def log() -> str | None:
            return client.api(
                """
                for name in names:
                    try:
                        file = api.run(f"alice/model-registry/{name}").file(path)
                        result = open(file.download(root="out", replace=True).name).read()
                    except Exception as error:
                        print(name, error)
                """,
                names=names,
                path=path,
            )

        assert "nowhere" in wait_for(log, "the log to be uploaded", 120)
        assert f"{path}</a>" in client.user.get(f"/launch/alice/{queue_name}/items/{identifier}").text
    finally:
        agent.signal(signal.SIGINT)
        agent.stop()


def test_our_agent_runs_the_same_job_to_the_same_end(
    client: Client, queue_name: str, code_job: str, start_agent: StartAgent
) -> None:
    queues.create(client.user, queue_name)
    agent = start_agent(queue_name)
    item = launch(client, queue_name, code_job, {"run_config": {"lr": 0.5}, "args": ["--foo", "bar"]}, "--name", "by ours")
    done = queues.wait_state(client.user, item["id"], "FINISHED")
    run = read_run(client, done)
    assert run == {"state": "finished", "lr_used": 0.5, "foo": "bar", "losses": [1.0, 0.5, pytest.approx(1 / 3)], "name": "by ours"}
    assert done["exitCode"] == 0
    output = captured_output(client.user, done)
    assert "step 0" in output and "step 2" in output
    assert client.user.key not in agent.process.output()
    assert client.user.key not in output


def test_output_is_captured_without_the_client_library(client: Client, queue_name: str, start_agent: StartAgent) -> None:
    job = code_job(client, "plain-shell", {"run.sh": "echo from the first line\necho to stderr >&2\nexit 4\n"}, "sh run.sh")
    queues.create(client.user, queue_name)
    start_agent(queue_name)
    done = queues.wait_end(client.user, launch(client, queue_name, job)["id"])
    assert (done["state"], done["exitCode"]) == ("FAILED", 4)
    assert done["failure"]["stage"] == "run"
    output = captured_output(client.user, done)
    assert "from the first line" in output and "to stderr" in output


def test_a_job_that_never_calls_init_fails_with_that_reason(client: Client, queue_name: str, start_agent: StartAgent) -> None:
    job = code_job(client, "no-init", {"run.sh": "echo done\n"}, "sh run.sh")
    queues.create(client.user, queue_name)
    start_agent(queue_name)
    done = queues.wait_end(client.user, launch(client, queue_name, job)["id"])
    assert done["state"] == "FAILED"
    assert "wandb.init" in done["failure"]["message"]


def test_a_job_whose_run_fails_is_a_failed_item(client: Client, queue_name: str, start_agent: StartAgent) -> None:
    job = code_job(client, "raises", {"train.py": "import wandb\nwandb.init()\nraise ValueError('bad data')\n"}, "python train.py")
    queues.create(client.user, queue_name)
    start_agent(queue_name)
    done = queues.wait_end(client.user, launch(client, queue_name, job)["id"])
    assert (done["state"], done["exitCode"], done["run"]["state"]) == ("FAILED", 1, "failed")
    assert "bad data" in captured_output(client.user, done)


def test_an_unknown_job_fails_the_item_and_names_the_job(client: Client, queue_name: str, start_agent: StartAgent) -> None:
    queues.create(client.user, queue_name)
    start_agent(queue_name)
    identifier = queues.push(client.user, queue_name, {"job": "alice/proj/nowhere:v7", "entity": "alice", "project": "proj"})
    done = queues.wait_end(client.user, identifier)
    assert (done["state"], done["failure"]["stage"]) == ("FAILED", "agent")
    assert "nowhere" in done["failure"]["message"]


def test_stopping_the_run_ends_the_workload(client: Client, queue_name: str, start_agent: StartAgent, tmp_path: Path) -> None:
    source = f"""
        import pathlib, time, wandb
        run = wandb.init()
        pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(__import__("os").getpid()))
        while True:
            time.sleep(0.2)
    """
    job = code_job(client, "endless", {"train.py": source}, "python train.py")
    queues.create(client.user, queue_name)
    start_agent(queue_name)
    item = queues.wait_state(client.user, launch(client, queue_name, job)["id"], "RUNNING")
    wait_for((tmp_path / "pid").exists, "the job to run")
    document = "mutation Cancel($id: ID!) { cancelRunQueueItem(input: {runQueueItemId: $id}) { item { id } } }"
    client.user.graphql(document, {"id": item["id"]})
    assert queues.wait_end(client.user, item["id"], seconds=30)["state"] == "KILLED"
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the job's process to be gone", 15)


def record_order(client: Client, record: Path) -> Callable[[str], dict]:
    """A job that appends its argument to `record`; the result makes the spec of one such item."""
    job = code_job(client, "recorder", {"run.sh": 'echo "$2" >>"$1"\n'}, "sh run.sh")
    return lambda label: {
        "job": job,
        "entity": "alice",
        "project": "proj",
        "overrides": {"args": [str(record), label]},
    }


@pytest.mark.parametrize(
    ("mode", "pushed", "expected"),
    [
        (
            "V0",
            [("low", 3), ("medium 1", None), ("high", 1), ("medium 2", 2), ("critical", 0)],
            ["critical", "high", "medium 1", "medium 2", "low"],
        ),
        ("DISABLED", [("first", None), ("second", 2), ("third", None)], ["first", "second", "third"]),
    ],
    ids=["with prioritization", "without"],
)
def test_items_run_in_order_of_priority_then_submission(
    client: Client,
    queue_name: str,
    start_agent: StartAgent,
    tmp_path: Path,
    mode: str,
    pushed: list[tuple[str, int | None]],
    expected: list[str],
) -> None:
    spec = record_order(client, tmp_path / "record")
    queues.create(client.user, queue_name, prioritization=mode)
    identifiers = [queues.push(client.user, queue_name, spec(label), priority=priority) for label, priority in pushed]
    start_agent(queue_name, max_jobs=1)
    for identifier in identifiers:
        queues.wait_end(client.user, identifier)
    assert (tmp_path / "record").read_text().splitlines() == expected


def test_two_agents_never_run_the_same_item(client: Client, queue_name: str, start_agent: StartAgent, tmp_path: Path) -> None:
    spec = record_order(client, tmp_path / "record")
    queues.create(client.user, queue_name)
    start_agent(queue_name, max_jobs=2)
    start_agent(queue_name, max_jobs=2)
    identifiers = [queues.push(client.user, queue_name, spec(str(number))) for number in range(20)]
    for identifier in identifiers:
        queues.wait_end(client.user, identifier)
    assert sorted((tmp_path / "record").read_text().splitlines(), key=int) == [str(number) for number in range(20)]


def test_a_queue_is_active_while_an_agent_serves_it(client: Client, queue_name: str, start_agent: StartAgent) -> None:
    queues.create(client.user, queue_name)
    assert not queues.queue_facts(client.user, "alice", queue_name)["active"]
    agent = start_agent(queue_name)

    def active() -> bool:
        return queues.queue_facts(client.user, "alice", queue_name)["active"]

    wait_for(active, "the queue to be active")
    agent.stop()
    # At once if the server heard the agent's last word, and for its silence of a minute if not.
    wait_for(lambda: not active(), "the queue to be inactive after its agent left", 150)


def test_deleting_a_queue_removes_what_waits_and_leaves_what_runs(
    client: Client, queue_name: str, start_agent: StartAgent, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    job = code_job(client, "gated", {"run.sh": 'until [ -e "$1" ]; do sleep 0.1; done\nexit 5\n'}, "sh run.sh")
    spec = {"job": job, "entity": "alice", "project": "proj", "overrides": {"args": [str(gate)]}}
    queue_id = queues.create(client.user, queue_name)
    start_agent(queue_name, max_jobs=1)
    running, *waiting = [queues.push(client.user, queue_name, spec) for _ in range(3)]
    queues.wait_state(client.user, running, "RUNNING", "CLAIMED")
    deleted = client.user.graphql(
        "mutation Delete($id: ID!) { deleteRunQueues(input: {queueIDs: [$id]}) { success } }", {"id": queue_id}
    )
    assert deleted["deleteRunQueues"]["success"]
    gate.touch()
    done = queues.wait_end(client.user, running)
    assert (done["state"], done["exitCode"]) == ("FAILED", 5)
    document = "query Item($id: ID!) { runQueueItem(id: $id) { state } }"
    for identifier in waiting:
        assert client.user.graphql(document, {"id": identifier})["runQueueItem"] is None
