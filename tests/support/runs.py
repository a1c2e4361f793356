"""Programs with a run of the official library that a test acts upon while they run."""

from __future__ import annotations

import signal
import subprocess
import textwrap

from support.client import Client, Done
from support.processes import wait_for
from support.server import User

ENDLESS = """
import time
import wandb
run = wandb.init(project="proj", id="{run}")
for step in range(5):
    run.log({{"step_i": step}})
open("started", "w").close()
for _ in range(1000):
    time.sleep(0.1)
"""


def stop_from_the_server(client: Client, run: str) -> Done:
    """Starts a program with this run, asks the server to stop the run, and waits for the program's end."""
    script = client.work / "stop.py"
    script.write_text(textwrap.dedent(ENDLESS.format(run=run)))
    process = subprocess.Popen(
        [client.venv / "bin" / "python", script],
        cwd=client.work,
        env=client.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell lets what it starts in the background ignore interrupts, and the client's is one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        identifier = wait_for(lambda: running(client.user, run), "the run to start", 120)
        # The client interrupts once: inside its own code the interrupt may be lost.
        wait_for((client.work / "started").exists, "the program to leave the client's code", 120)
        stopped = client.user.graphql("mutation Stop($id: ID!) { stopRun(input: {id: $id}) { success } }", {"id": identifier})
        assert stopped["stopRun"]["success"]
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    return Done(process.returncode, output)


def running(user: User, run: str) -> str | None:
    """The id of a run, once it runs."""
    document = 'query Run($run: String!) { project(entityName: "alice", name: "proj") { run(name: $run) { id state } } }'
    project = user.graphql(document, {"run": run})["project"]
    found = project and project["run"]
    return found["id"] if found and found["state"] == "running" else None
