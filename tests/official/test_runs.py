"""Runs through `wandb.init()`: what is logged can be read back (traces 02, 10, 11, 17)."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from support.client import Client
from support.runs import stop_from_the_server
from support.server import Server, new_key

READ_RUN = """
    run = api.run(f"{entity}/proj/{name}")
    history = list(run.scan_history())
    result = {
        "state": run.state,
        "config": {key: value for key, value in run.config.items() if not key.startswith("_")},
        "summary": {key: run.summary.get(key) for key in ("loss", "final", "accuracy", "after")},
        "history": [[row.get("_step"), row.get("loss")] for row in history],
        "files": sorted(file.name for file in run.files()),
        "display_name": run.name,
        "tags": run.tags,
        "notes": run.notes,
        "user": run.user.username,
    }
"""

PLAIN = """
    import pathlib
    import wandb

    with wandb.init(project="proj", id="plain-{id}", name="first", tags=["a", "b"], notes="why", config={{"lr": 0.1}}) as run:
        pathlib.Path("note.txt").write_text("hello")
        run.save("note.txt", policy="now")
        for step in range(3):
            run.log({{"loss": 1 / (step + 1)}})
            print("step", step)
        run.summary["final"] = 1
        run.config["epochs"] = 3
"""


def read_run(client: Client, name: str) -> dict:
    return client.api(READ_RUN, entity=client.user.name, name=name)


def test_what_a_run_logs_can_be_read_back(client: Client) -> None:
    done = client.program(PLAIN.format(id=1)).ok()
    assert f"{client.user.base_url}/{client.user.name}/proj/runs/plain-1" in done.output
    run = read_run(client, "plain-1")
    assert run["state"] == "finished"
    assert run["config"] == {"lr": 0.1, "epochs": 3}
    assert run["summary"]["final"] == 1
    assert run["summary"]["loss"] == pytest.approx(1 / 3)
    assert run["history"] == [[0, 1.0], [1, 0.5], [2, pytest.approx(1 / 3)]]
    assert {"note.txt", "config.yaml", "wandb-metadata.json", "wandb-summary.json", "output.log"} <= set(run["files"])
    assert (run["display_name"], run["tags"], run["notes"], run["user"]) == ("first", ["a", "b"], "why", client.user.name)


def test_saved_files_download_byte_for_byte(client: Client) -> None:
    client.program(PLAIN.format(id=2)).ok()
    text = client.api(
        """
        file = api.run(f"{entity}/proj/plain-2").file("note.txt").download(root="out", replace=True)
        result = [open(file.name).read(), open("out/note.txt").read()]
        """,
        entity=client.user.name,
    )
    assert text == ["hello", "hello"]


def test_the_page_of_a_run_shows_its_state_and_log(client: Client) -> None:
    client.program(PLAIN.format(id=3)).ok()
    page = client.user.get(f"/{client.user.name}/proj/runs/plain-3")
    assert page.status_code == 200
    assert "Finished" in page.text and "step 2" in page.text


@pytest.mark.parametrize(("ending", "code"), [("raise ValueError('no')", 1), ("import sys; sys.exit(3)", 3)])
def test_a_program_that_fails_leaves_a_failed_run(client: Client, ending: str, code: int) -> None:
    done = client.program(f"import wandb\nrun = wandb.init(project='proj', id='fails-{code}')\nrun.log({{'loss': 2}})\n{ending}\n")
    assert done.code == code
    assert read_run(client, f"fails-{code}")["state"] == "failed"


def test_resume_goes_on_where_the_run_ended(client: Client) -> None:
    source = """
        import wandb
        with wandb.init(project="proj", id="resumed", resume="allow", config={{"part": {part}}}) as run:
            print("resumed", run.resumed)
            run.log({{"loss": {part}}})
            run.log({{"loss": {part} + 0.5}})
    """
    assert "resumed False" in client.program(source.format(part=1)).ok().output
    assert "resumed True" in client.program(source.format(part=2)).ok().output
    run = read_run(client, "resumed")
    assert run["state"] == "finished"
    assert [loss for _, loss in run["history"]] == [1, 1.5, 2, 2.5]


def test_resume_must_refuses_an_unknown_run(client: Client) -> None:
    done = client.program("import wandb\nwandb.init(project='proj', id='never-was', resume='must')\n")
    assert done.code != 0


def test_an_alert_and_an_artifact_of_a_run_are_kept(client: Client) -> None:
    client.program(
        """
        import pathlib
        import wandb
        with wandb.init(project="proj", id="features") as run:
            run.alert("low accuracy", "below 0.5", level=wandb.AlertLevel.WARN, wait_duration=60)
            pathlib.Path("model.bin").write_bytes(b"weights" * 1000)
            artifact = wandb.Artifact("weights", type="model", metadata={"layers": 2})
            artifact.add_file("model.bin")
            run.log_artifact(artifact, aliases=["best"]).wait()
        with wandb.init(project="proj", id="consumer") as run:
            folder = run.use_artifact("weights:best").download()
            run.summary["after"] = pathlib.Path(folder, "model.bin").stat().st_size
        """
    ).ok()
    assert read_run(client, "consumer")["summary"]["after"] == 7000
    page = client.user.get("/alice/proj/runs/features").text
    assert "low accuracy" in page and "below 0.5" in page
    facts = client.api(
        """
        artifact = api.artifact(f"{entity}/proj/weights:latest")
        result = [artifact.version, sorted(artifact.aliases), artifact.metadata, artifact.type, artifact.size]
        """,
        entity=client.user.name,
    )
    assert facts == ["v0", ["best", "latest"], {"layers": 2}, "model", 7000]


def test_the_same_content_makes_no_new_version_and_other_content_does(client: Client) -> None:
    versions = client.program(
        """
        import pathlib
        import wandb
        with wandb.init(project="proj") as run:
            for content in ("one", "one", "two"):
                pathlib.Path("data.txt").write_text(content)
                artifact = wandb.Artifact("versions", type="dataset")
                artifact.add_file("data.txt")
                print("VERSION", run.log_artifact(artifact).wait().version)
        """
    ).ok()
    assert [line.split()[1] for line in versions.output.splitlines() if line.startswith("VERSION")] == ["v0", "v0", "v1"]


def test_stopping_a_run_interrupts_its_program(client: Client) -> None:
    done = stop_from_the_server(client, "stopped")
    # Interrupted: a shell calls this 130.
    assert done.code == -signal.SIGINT, done.output
    assert "KeyboardInterrupt" in done.output
    run = read_run(client, "stopped")
    assert run["state"] == "killed"
    assert run["history"], "what was logged before the stop is kept"


def test_init_with_a_wrong_key_fails_at_once(client: Client) -> None:
    client.env["WANDB_API_KEY"] = new_key()
    done = client.program("import wandb\nwandb.init(project='proj')\n", timeout=60)
    assert done.code != 0
    assert "CommError" in done.output or "AuthenticationError" in done.output, done.output


def test_init_in_somebody_elses_entity_is_refused(server: Server, tmp_path: Path) -> None:
    mallory = Client(server.add_user("mallory"), tmp_path / "mallory")
    done = mallory.program("import wandb\nwandb.init(entity='alice', project='proj', id='intruder')\n", timeout=60)
    assert done.code != 0
    assert "CommError" in done.output, done.output
    assert server.admin.graphql(
        'query { project(entityName: "alice", name: "proj") { run(name: "intruder") { id } } }'
    )["project"] in (None, {"run": None})


def test_listing_runs_filters_and_orders(client: Client) -> None:
    source = """
        import sys
        import wandb
        for number in range(3):
            run = wandb.init(project="listing", id=f"listed-{number}", config={"number": number}, reinit="finish_previous")
            run.finish(exit_code=1 if number == 1 else 0)
    """
    client.program(source).ok()
    names = client.api(
        """
        path = f"{entity}/listing"
        result = [
            [run.id for run in api.runs(path, order="+created_at")],
            [run.id for run in api.runs(path, filters={"state": "failed"})],
            [run.id for run in api.runs(path, filters={"config.number": {"$gt": 0}}, order="-created_at")],
            len(api.runs(path, per_page=1)),
        ]
        """,
        entity=client.user.name,
    )
    assert names == [["listed-0", "listed-1", "listed-2"], ["listed-1"], ["listed-2", "listed-1"], 3]
