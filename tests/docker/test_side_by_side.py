"""The official agent and ours, side by side on the same items; what differs is what the manual lists, and nothing else."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest

from support.client import Client
from support.docker import PYTHON, Docker
from support.processes import REPO
from support.server import Server
from support.side_by_side import PROBE, Scenario, Trial

# The official agent looks for a run that never came for more than a minute.
pytestmark = pytest.mark.timeout(2400)

MANUAL = REPO / "docs" / "compared.md"


@dataclass(frozen=True)
class Difference:
    """A row of the manual's table."""

    what: str
    official: str
    ours: str
    why: str
    # The test that shows our side, where no scenario shows both.
    shown_by: str = ""


DIFFERENCES = {
    "entry point": Difference(
        "`overrides.entry_point` on `local-container`",
        "ignored: the job's own entry point runs, or the image's",
        "replaces the entry point of job and image",
        "it is what the option says, and what `local-process` does with either agent",
    ),
    "early": Difference(
        "a job that ends before `wandb.init`",
        "fails with one of two sentences, after a minute, without exit code",
        "fails with its exit code or signal and the last lines printed, at once",
        "the agent knows how the job ended and that no run came",
    ),
    "reason": Difference(
        "the reason of a failure, as a word for programs",
        "`agent-report` for everything that the agent reports",
        "a word for each kind, such as `image-not-found`, in [the manual](docker.md#when-something-goes-wrong)",
        "so that retries and alerts can tell them apart",
    ),
    "message": Difference(
        "a job that fails after `wandb.init`",
        "the run's exit code; its log holds the rest",
        "the exit code and the last lines printed, on the item",
        "what was printed after the client library let go is in no run's log",
    ),
    "output": Difference(
        "what a job prints",
        "in the run's log from `wandb.init` on; nothing with the item",
        "also with the item, from the first byte, while it runs (`slipway item logs -f`), up to 1 GiB",
        "what goes wrong before `wandb.init` is what people look for",
    ),
    "log file": Difference(
        "the log of a failed item",
        "`error.log` among the files of the agent's own run",
        "with the item; on a server that keeps no output, as the official agent",
        "everybody who sees the item sees its output",
    ),
    "engine": Difference(
        "a value that the engine refuses",
        "`The submitted run was not successfully started`, stage `run`, after a minute",
        "the engine's own words, stage `agent`, at once",
        "no job ran",
    ),
    "run": Difference(
        "an option that is refused",
        "before the item has a run",
        "after the item has got its run, which fails with it",
        "options are judged where the engine is; the run says why it never started",
    ),
    "options": Difference(
        "options of the queue on `local-container`",
        "a fixed list of 19, as texts and numbers; `volume`, `network`, `rm` and all else are refused",
        "every option of `docker run`; what a submitter may set is a list that [the queue's owner](docker.md#options) extends",
        "the queue's owner is trusted with the machine, a submitter is not; our server tells them apart",
    ),
    "secret": Difference(
        "`env` without a value, and macros, of names that look like a secret's",
        "the agent's own value goes to the job",
        "refused, unless `allowed_env` lists the name",
        "whoever may submit could read the agent's keys",
    ),
    "macro": Difference(
        "`${run_name}` in an option",
        "as written, spaces and all; `None` for a run without name",
        "one word, with `-` for what could add to an option; left as it is for a run without name",
        "a submitter names the run, the queue's owner the option",
    ),
    "code": Difference(
        "code and git jobs on `local-container`",
        "built into an image, or mounted into the job's base image",
        "refused with reason `needs-image`",
        "this version builds no images; such jobs run on `local-process`",
    ),
    "network": Difference(
        "a server on `localhost`",
        "moves the container to the host's network, whatever the queue's `network` is; for no other spelling of the address",
        "keeps the network and passes connections on: `WANDB_BASE_URL` is an address of the network's gateway, `WANDB_APP_URL` "
        "the server's own for links",
        "the queue's network is kept, and jobs of one machine do not share its ports",
    ),
    "buffering": Difference(
        "`PYTHONUNBUFFERED`",
        "as the image or the agent's own environment has it",
        "set",
        "lines show when they are printed",
    ),
    "environment": Difference(
        "the variables of a job on `local-process`",
        "all of the agent's, keys included",
        "[a list](agent.md#jobs-as-processes), which `process.env` extends",
        "jobs are other people's programs",
    ),
    "packages": Difference(
        "the packages that a job was made with, on `local-process`",
        "`requirements.frozen.txt` is put beside the code, and the log warns of packages that differ",
        "not compared",
        "the job's interpreter need not be the agent's",
    ),
    "stop": Difference(
        "a stop",
        "the signal comes `stopped_run_timeout` after the wish to stop; until then only the client library hears of it",
        "the signal comes at once, the kill `stopped_run_timeout` later",
        "most jobs end when asked, and nobody waits a minute for it",
    ),
    "deaf": Difference(
        "a container that ignores the signal",
        "goes on for ever; the item stays running and keeps its slot",
        "is killed; the item is killed with exit code 137",
        "a stop that does not stop is none",
    ),
    "another entity": Difference(
        "a run of another entity than the agent's that fails before `wandb.init`",
        "nothing is reported: the item stays as it is",
        "reported as any other",
        "people wait for it all the same",
    ),
    "name": Difference(
        "`name` from a submitter",
        "becomes the container's name",
        "refused unless the queue lists it; without `name` the container is called by run and attempt",
        "a name is how an attempt is kept from starting twice, and two jobs of one name cannot run at once",
        "tests/docker/test_agent_on_containers.py::test_what_a_submitter_may_set_is_the_queues_to_say",
    ),
    "labels": Difference(
        "labels of a container",
        "none",
        "run, entity, project, item, attempt and agent",
        "so that a later agent, and people, find it",
        "tests/docker/test_container_jobs.py::test_the_documented_queue_runs_as_printed",
    ),
    "key": Difference(
        "the job's API key",
        "on the command line of `docker run` and of the shell, for every user of the machine to see",
        "in the request to the engine, or the process's environment",
        "an argument list is public",
        "tests/docker/test_container_jobs.py::test_every_spelling_reaches_the_engine",
    ),
    "pull": Difference(
        "an image that was made on the machine",
        "pulled first; a warning if that fails",
        "taken as it is; `pull: always` asks the registry",
        "it never came from a registry, which need not know it",
        "tests/docker/test_options.py::test_an_image_of_the_machine_is_asked_for_only_if_the_queue_says_so",
    ),
    "removal": Difference(
        "the end of a container",
        "`--rm`: the engine removes it, and its outcome, at once",
        "removed once the server has recorded the outcome",
        "an outcome must survive the agent",
        "tests/docker/test_crashes.py::test_an_outcome_survives_its_agent",
    ),
    "restart": Difference(
        "an agent that is killed or upgraded",
        "forgets its jobs, which go on unwatched",
        "takes its jobs back under its name, output included",
        "a job is never lost",
        "tests/docker/test_crashes.py::test_output_is_whole_after_the_agent_was_killed_while_a_job_printed",
    ),
    "drain": Difference(
        "SIGTERM and Ctrl-C",
        "end the agent at once, nothing is reported",
        "drain: nothing new is taken, the agent ends after its last job; a second one ends it at once",
        "the machine can be taken out of service without loss",
        "tests/docker/test_agent_on_containers.py::test_a_drain_waits_for_the_container",
    ),
    "engine away": Difference(
        "an engine that is away",
        "the job fails",
        "jobs wait for it, running ones are looked at again",
        "a restart of the engine is no fault of the job",
        "tests/docker/test_crashes.py::test_jobs_outlive_an_engine_that_is_away",
    ),
    "enabled": Difference(
        "jobs on `local-process`",
        "run by every agent",
        "refused unless `process.enabled` is set",
        "they have every right of the agent's user",
        "crates/slipway-agent/src/item/plan.rs::what_this_agent_does_not_run_is_refused_with_a_reason",
    ),
    "sweep": Difference(
        "an item of a sweep that has ended, or that the server does not know",
        "fails once it is acknowledged, unless the sweep runs or is paused",
        "runs",
        "sweeps by Launch are to come; until then nothing says that a sweep has ended",
    ),
    "secure": Difference(
        "`secure_mode`",
        "refuses `overrides.entry_point`, and on Kubernetes `command` and four keys of a pod",
        "refuses besides an image beside a job, and a submitter's command or entry point of a container",
        "each of them replaces what the job runs",
        "crates/slipway-model/src/policy/tests.rs::secure_mode_refuses_what_replaces_a_jobs_own_image_or_command",
    ),
    "schedulers": Difference(
        "sweep schedulers",
        "run",
        "refused with reason `sweep-scheduler`",
        "sweeps by Launch are to come",
        "crates/slipway-agent/src/item/plan.rs::what_this_agent_does_not_run_is_refused_with_a_reason",
    ),
}

# What the agents' own environment holds besides what every test has.
AGENT = {"FROM_AGENT": "of the agent", "OF_AGENT": "its own", "AWS_SECRET_ACCESS_KEY": "hush"}

PLAIN = {"env": ["FROM_QUEUE=yes", "FROM_AGENT", "FROM_RUN=${run_id} ${project_name}", "FROM_NAME=${run_name}"], "memory": "1g"}
QUEUES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("local-container", PLAIN),
    "volume": ("local-container", {"volume": "/tmp:/mnt", "rm": True}),
    "unknown": ("local-container", {"memroy": "1g"}),
    "refused": ("local-container", {"memory": "1k"}),
    "secret": ("local-container", {"env": ["AWS_SECRET_ACCESS_KEY", "FROM_AGENT=${AWS_SECRET_ACCESS_KEY}"]}),
    "process": ("local-process", {}),
}


def image(mode: str, *arguments: str, **overrides: Any) -> dict[str, Any]:
    return {"job": "alice/proj/image-job:latest", "overrides": {"args": ["python", "-c", PROBE, mode, *arguments], **overrides}}


def code(mode: str, *arguments: str, **overrides: Any) -> dict[str, Any]:
    return {"job": "alice/proj/code-job:latest", "overrides": {"args": [mode, *arguments], **overrides}}


ALL = {
    "run_config": {"lr": 0.25},
    "files": {"c.yaml": {"a": 1}},
    "artifacts": {"data": "alice/proj/data:v1"},
}

# What recurs: the fact, the official agent's, ours, and the difference.
Facts = dict[str, tuple[Any, Any, str]]
PRINTED: Facts = {"output": (False, True, "output")}
CONTAINER: Facts = PRINTED | {
    "$WANDB_BASE_URL": ("SERVER", "RELAY", "network"),
    "$WANDB_APP_URL": (None, "SERVER", "network"),
    "$PYTHONUNBUFFERED": (None, "1", "buffering"),
}
NAMELESS: Facts = {"$FROM_NAME": ("None", "${run_name}", "macro")}
PROCESS: Facts = PRINTED | {f"${name}": (value, None, "environment") for name, value in AGENT.items()} | {
    "code": (["requirements.frozen.txt", "requirements.txt", "train.py"], ["requirements.txt", "train.py"], "packages"),
}  # fmt: skip


def reported(reason: str) -> Facts:
    """A failure that both agents report."""
    return {"reason": ("agent-report", reason, "reason"), "log attached": (True, False, "log file")}


def early(reason: str, code: int) -> Facts:
    """An end before `wandb.init`."""
    return PRINTED | reported(reason) | {"exit code": (None, code, "early")}


def only(whose: str, difference: str, stage: str, reason: str) -> Facts:
    """A job that only one of the agents runs."""
    runs = {"state": "FINISHED", "run": "finished", "stage": None, "reason": None, "exit code": 0, "ran": True}
    refuses = {"state": "FAILED", "run": "failed", "stage": stage, "reason": reason, "exit code": None, "ran": False}
    official, ours = (runs, refuses) if whose == "official" else (refuses, runs)
    return {fact: (official[fact], ours[fact], difference) for fact in runs}


SCENARIOS = {
    "image job": Scenario(
        "an image job with arguments, run config, files, artifacts, a name and a priority", "plain",
        image("ok", "--flag", "a b", **ALL) | {"name": "by hand", "project": "Proj"},
        "FINISHED", CONTAINER | {"$FROM_NAME": ("by hand", "by-hand", "macro")},
    ),
    "image entry point": Scenario(
        "an image with an entry point", "plain",
        {"docker": {"docker_image": PYTHON}, "overrides": {"entry_point": ["python", "-c", PROBE], "args": ["ok"]}},
        "FINISHED", only("ours", "entry point", "run", "agent-report") | PRINTED | {"log attached": (True, False, "log file")},
        says=("The submitted run was not successfully started", "", "early"),
    ),
    "image raises": Scenario(
        "an image by its name, whose program raises after `wandb.init`", "plain",
        {"docker": {"docker_image": PYTHON}, "overrides": image("raise")["overrides"]},
        "FAILED", CONTAINER | NAMELESS, says=("exit code 1", "exited with code 1. It last printed:", "message"),
    ),
    "image no run": Scenario(
        "a program that exits with 0 and never calls `wandb.init`", "plain", image("no run"), "FAILED", early("no-run", 0),
        says=("failed to call wandb.init", "never called wandb.init", "early"),
    ),
    "image early": Scenario(
        "a program that exits with 4 before `wandb.init`", "plain", image("early"), "FAILED", early("exit-code", 4),
        says=("The submitted run was not successfully started", "exited with code 4", "early"),
    ),
    "image absent": Scenario(
        "an image that cannot be had", "plain", {"docker": {"docker_image": "127.0.0.1:1/no/image:1"}},
        "FAILED", reported("registry-unreachable"), says=("127.0.0.1:1/no/image:1", "127.0.0.1:1/no/image:1", "reason"),
    ),
    "image stop": Scenario(
        "a run that is stopped", "plain", image("stop"), "KILLED", CONTAINER | NAMELESS | {"exit code": (1, 130, "stop")}, stopped=True,
    ),
    "image deaf": Scenario(
        "a run that is stopped, and a program that does not heed it", "plain", image("deaf"), "KILLED",
        CONTAINER | NAMELESS | {
            "state": ("RUNNING", "KILLED", "deaf"), "run": ("running", "killed", "deaf"), "exit code": (None, 137, "deaf"),
            "left behind": (True, False, "deaf"),
        },
        stopped=True,
    ),
    "volume": Scenario(
        "a queue with `volume` and `rm`", "volume", image("ok"), "FINISHED",
        only("ours", "options", "agent", "agent-report") | PRINTED
        | {"run": (None, "finished", "run"), "author": (None, "alice", "run"), "log attached": (True, False, "log file")},
        says=("Unsupported resource_args.local-container option 'volume'", "", "options"),
    ),
    "unknown option": Scenario(
        "a queue with an option that does not exist", "unknown", image("ok"), "FAILED",
        reported("unknown-option") | {"run": (None, "failed", "run"), "author": (None, "alice", "run")},
        says=("option 'memroy'", "did you mean `memory`?", "options"),
    ),
    "refused option": Scenario(
        "a queue with a value that the engine refuses", "refused", image("ok"), "FAILED",
        reported("engine-refused") | {"stage": ("run", "agent", "engine")},
        says=("The submitted run was not successfully started", "Minimum memory limit", "engine"),
    ),
    "secret": Scenario(
        "a queue that passes a secret of the agent on, by name and by macro", "secret", image("ok"), "FAILED",
        only("official", "secret", "agent", "macro")
        | {"$AWS_SECRET_ACCESS_KEY": ("hush", None, "secret"), "$FROM_AGENT": ("hush", None, "secret")},
        says=("", "allowed_env", "secret"),
    ),
    "code on an image": Scenario(
        "a code job with a base image", "plain", {"job": "alice/proj/based-job:latest", "overrides": {"args": ["ok"]}}, "FAILED",
        only("official", "code", "agent", "needs-image"), says=("", "does not build", "code"),
    ),
    "sweep": Scenario(
        "a run of a sweep that the server does not know", "plain", image("ok") | {"sweep_id": "abcd1234"}, "FINISHED",
        only("ours", "sweep", "agent", "agent-report") | PRINTED | {"log attached": (True, False, "log file")},
        says=("in a terminal state", "", "sweep"),
    ),
    "another entity": Scenario(
        "a run of another entity, whose program exits with 4 before `wandb.init`", "plain", image("early") | {"entity": "side-team"},
        "FAILED",
        PRINTED | {
            "state": ("CLAIMED", "FAILED", "another entity"), "run": ("pending", "failed", "another entity"),
            "stage": (None, "run", "another entity"), "reason": (None, "exit-code", "another entity"),
            "exit code": (None, 4, "another entity"),
        },
        says=("", "exited with code 4", "another entity"), unreported=True,
    ),
    "code job": Scenario(
        "a code job with arguments, run config, files, artifacts, a name and a priority", "process",
        code("ok", "--flag", "a b", **ALL) | {"name": "by hand", "project": "Proj"}, "FINISHED", PROCESS,
    ),
    "code entry point": Scenario(
        "a code job with an entry point", "process", code("ok", entry_point=["python", "-u", "train.py"]), "FINISHED", PROCESS,
    ),
    "code raises": Scenario(
        "a program that raises after `wandb.init`", "process", code("raise"), "FAILED", PROCESS,
        says=("exit code 1", "exited with code 1. It last printed:", "message"),
    ),
    "code no run": Scenario(
        "a program that exits with 0 and never calls `wandb.init`", "process", code("no run"), "FAILED", early("no-run", 0),
        says=("failed to call wandb.init", "never called wandb.init", "early"),
    ),
    "code early": Scenario(
        "a program that exits with 4 before `wandb.init`", "process", code("early"), "FAILED", early("exit-code", 4),
        says=("The submitted run was not successfully started", "exited with code 4", "early"),
    ),
    "code absent": Scenario(
        "a job that does not exist", "process", {"job": "alice/proj/nowhere:v7"}, "FAILED", reported("job-not-found"),
        says=("alice/proj/nowhere:v7", "alice/proj/nowhere:v7", "reason"),
    ),
    "image on process": Scenario(
        "an image job", "process", {"job": "alice/proj/image-job:latest"}, "FAILED", reported("image-on-process"),
        says=("docker image", "container image", "reason"),
    ),
    "code stop": Scenario(
        "a run that is stopped", "process", code("stop"), "KILLED", PROCESS | {"exit code": (1, 143, "stop")}, stopped=True,
    ),
}  # fmt: skip

# What a job tells of itself: nothing to compare where only one of the agents ran it.
OF_THE_JOB = {"config", "arguments", "code", "log"}


@pytest.fixture(scope="module")
def trials(server: Server, docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, Any]]]:
    """What is seen of every scenario, by agent."""
    directory = tmp_path_factory.mktemp("side-by-side")
    # The official agent adapts containers only for the word `localhost`.
    user = replace(server.admin, base_url=server.base_url.replace("127.0.0.1", "localhost"))
    server.add_team("side-team")
    client = Client(user, directory / "alice")
    sources = client.write({"train.py": PROBE, "requirements.txt": ""}, "code")
    create = ("job", "create", "-p", "proj", "-e", "alice", "-n")
    made = ("-E", "python train.py", "-r", "3.11", "code", sources)
    client.wandb(*create, "image-job", "image", PYTHON).ok()
    client.wandb(*create, "code-job", *made).ok()
    client.wandb(*create, "based-job", "-B", PYTHON, *made).ok()

    def run(whose: str) -> dict[str, dict[str, Any]]:
        return Trial(whose, client, directory, docker, QUEUES).run(SCENARIOS, AGENT, 1800)

    with ThreadPoolExecutor() as pool:
        return dict(zip(("official", "ours"), pool.map(run, ("official", "ours")), strict=True))


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_is_seen_differs_as_the_manual_says_and_not_otherwise(trials: dict[str, dict[str, dict[str, Any]]], name: str) -> None:
    scenario = SCENARIOS[name]
    official, ours = dict(trials["official"][name]), dict(trials["ours"][name])
    assert ours["state"] == scenario.ends
    for facts, says in ((official, scenario.says[0]), (ours, scenario.says[1])):
        assert says in facts.pop("message")
    expected = {fact: (theirs, own) for fact, (theirs, own, _) in scenario.differs.items()}
    if not (official["ran"] and ours["ran"]):
        for facts in (official, ours):
            for fact in [fact for fact in facts if fact in OF_THE_JOB or fact.startswith("$")]:
                if fact not in expected:
                    del facts[fact]
    if scenario.stopped:
        # How much of it arrived before the end is chance.
        del official["log"], ours["log"]
    unlike = {fact: (official.get(fact), ours.get(fact)) for fact in official | ours if official.get(fact) != ours.get(fact)}
    assert unlike == expected


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def test_the_manual_lists_what_was_run_and_every_difference() -> None:
    manual = MANUAL.read_text()
    rows = [row(difference.what, difference.official, difference.ours, difference.why) for difference in DIFFERENCES.values()]
    for resource in ("local-container", "local-process"):
        for scenario in SCENARIOS.values():
            if QUEUES[scenario.queue][0] == resource:
                official = scenario.differs.get("state", (scenario.ends,))[0]
                rows.append(row(f"`{resource}`", scenario.what, official.lower(), scenario.ends.lower()))
    assert [line for line in rows if line not in manual] == []
    assert len(re.findall(r"^\| (?!---|What |Target )", manual, re.MULTILINE)) == len(rows), "the manual lists something else besides"


def test_every_difference_is_shown_by_a_test() -> None:
    scenarios = {key for scenario in SCENARIOS.values() for *_, key in [*scenario.differs.values(), scenario.says]} - {""}
    elsewhere = {key: difference.shown_by for key, difference in DIFFERENCES.items() if difference.shown_by}
    assert scenarios | set(elsewhere) == set(DIFFERENCES)
    for test in elsewhere.values():
        file, _, name = test.partition("::")
        assert re.search(rf"\b{name}\b", (REPO / file).read_text()), f"{test} does not exist"
