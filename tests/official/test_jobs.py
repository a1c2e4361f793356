"""`wandb job create`, `list` and `describe` (traces 04, 05, 07; J06, J07, J08, J11)."""

from __future__ import annotations

from support.client import Client

READ_JOB = """
    artifact = api.artifact(name, type="job")
    job = api.job(name)
    result = {
        "version": artifact.version,
        "aliases": sorted(artifact.aliases),
        "description": artifact.description,
        "source_type": job._job_info["source_type"],
        "source": job._job_info["source"],
        "runtime": job._job_info.get("runtime"),
    }
"""


def create_code_job(client: Client, name: str, text: str) -> None:
    code = client.write({"train.py": text, "lib/helper.py": "VALUE = 7\n", "requirements.txt": "wandb\n"}, name)
    client.wandb("job", "create", "code", "-p", "jobs", "-e", client.user.name, "-n", name, "-E", "python train.py", "-r", "3.11", code).ok()


def test_an_image_job_names_its_image_and_bears_its_tag(client: Client) -> None:
    client.wandb(
        "job", "create", "image", "-p", "jobs", "-e", client.user.name, "-n", "image-job", "-d", "an image", "-a", "prod", "python:3.11-slim"
    ).ok()
    job = client.api(READ_JOB, name=f"{client.user.name}/jobs/image-job:latest")
    assert job["source_type"] == "image"
    assert job["source"]["image"] == "python:3.11-slim"
    assert (job["version"], job["aliases"]) == ("v0", ["3.11-slim", "latest", "prod"])
    assert job["description"] == "an image"


def test_a_code_job_carries_its_whole_directory(client: Client) -> None:
    create_code_job(client, "whole-directory", "import lib.helper\n")
    job = client.api(READ_JOB, name=f"{client.user.name}/jobs/whole-directory:latest")
    assert (job["source_type"], job["source"]["entrypoint"], job["runtime"]) == ("artifact", ["python", "train.py"], "3.11")
    files = client.api(
        """
        import pathlib
        folder = api.artifact(f"{entity}/jobs/code-whole-directory:latest").download()
        result = {str(path.relative_to(folder)): path.read_text() for path in pathlib.Path(folder).rglob("*") if path.is_file()}
        """,
        entity=client.user.name,
    )
    assert files["lib/helper.py"] == "VALUE = 7\n"
    assert files["train.py"] == "import lib.helper\n"


def test_changed_code_makes_a_new_version_and_unchanged_code_does_not(client: Client) -> None:
    versions = []
    for text in ("print(1)\n", "print(1)\n", "print(2)\n"):
        create_code_job(client, "versions", text)
        versions.append(client.api(READ_JOB, name=f"{client.user.name}/jobs/versions:latest")["version"])
    assert versions == ["v0", "v0", "v1"]


def test_the_helper_run_of_job_create_is_deleted_and_the_job_stays(client: Client) -> None:
    client.wandb("job", "create", "image", "-p", "helperless", "-e", client.user.name, "-n", "kept", "python:3.11").ok()
    left = client.api("result = [run.id for run in api.runs(f'{entity}/helperless')]", entity=client.user.name)
    assert left == []
    assert client.api(READ_JOB, name=f"{client.user.name}/helperless/kept:latest")["version"] == "v0"


def test_list_and_describe_show_jobs(client: Client) -> None:
    create_code_job(client, "listed", "print(3)\n")
    assert "listed" in client.wandb("job", "list", "-p", "jobs", "-e", client.user.name).ok().output
    described = client.wandb("job", "describe", f"{client.user.name}/jobs/listed:latest").ok().output
    assert "train.py" in described


def test_an_unknown_job_is_named_in_the_error(client: Client) -> None:
    done = client.wandb("job", "describe", f"{client.user.name}/jobs/no-such-job:latest")
    assert "no-such-job" in done.output
