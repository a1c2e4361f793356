"""A run of the official library that lives through a kill of its server loses nothing, on either store."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.client import Client
from support.postgres import new_database
from support.processes import wait_for
from support.server import Server

TRAIN = """
import pathlib, time, wandb
with wandb.init(project="proj", id="survivor", config={"lr": 0.1}) as run:
    step = 0
    while not pathlib.Path("enough").exists():
        run.log({"loss": 1 / (step + 1), "number": step})
        print("step", step, flush=True)
        step += 1
        pathlib.Path("step").write_text(str(step))
        time.sleep(0.1)
    pathlib.Path("model.bin").write_bytes(b"weights" * 1000)
    run.save("model.bin", policy="now")
    artifact = wandb.Artifact("survivor", type="model")
    artifact.add_file("model.bin")
    run.log_artifact(artifact)
    run.summary["steps"] = step
"""

READ = """
run = api.run("alice/proj/survivor")
log = open(run.file("output.log").download(root="out", replace=True).name).read()
result = {
    "state": run.state,
    "numbers": [row["number"] for row in run.scan_history(keys=["number"])],
    "steps": run.summary["steps"],
    "config": run.config["lr"],
    "log": [line for line in log.splitlines() if line.startswith("step ")],
    "model": api.artifact("alice/proj/survivor:latest").size,
}
"""


@pytest.fixture(params=["sqlite", "postgres"])
def killed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server that the test may kill."""
    url = new_database() if request.param == "postgres" else None
    server = Server(tmp_path / "server", database_url=url).start()
    yield server
    server.stop()


def test_a_run_goes_on_through_a_kill_of_its_server_and_nothing_is_missing(killed: Server, tmp_path: Path) -> None:
    client = Client(killed.admin, tmp_path / "alice")
    script = client.work / "train.py"
    script.write_text(textwrap.dedent(TRAIN))
    log = tmp_path / "train.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [client.venv / "bin" / "python", script], cwd=client.work, env=client.env, stdout=output, stderr=subprocess.STDOUT
        )
    try:

        def step() -> int:
            assert process.poll() is None, log.read_text()
            file = client.work / "step"
            return int(file.read_text() or 0) if file.exists() else 0

        def rows() -> int:
            document = 'query { project(entityName: "alice", name: "proj") { run(name: "survivor") { historyLineCount } } }'
            project = client.user.graphql(document)["project"]
            return project["run"]["historyLineCount"] if project and project["run"] else 0

        for _ in range(2):
            before = rows()
            wait_for(lambda before=before: rows() > before, "rows to arrive", 180)
            killed.process.kill()
            lost = step() + 10
            wait_for(lambda lost=lost: step() > lost, "steps while the server is away")
            killed.start()
        (client.work / "enough").touch()
        assert process.wait(300) == 0, log.read_text()
    finally:
        process.kill()
    run = client.api(READ)
    steps = run["steps"]
    assert run == {
        "state": "finished",
        "numbers": list(range(steps)),
        "steps": steps,
        "config": 0.1,
        "log": [f"step {number}" for number in range(steps)],
        "model": 7000,
    }
