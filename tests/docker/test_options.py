"""Every option of `docker run` through a queue, judged by what the engine reports of the container (R01–R05, R11).

The judge is docker's own command: the same options are given to `docker create`, and both containers are
inspected. Options of Windows and those that no engine of today takes are named and left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import queues
from support.agent import Agent
from support.client import Client
from support.containers import ended, failed, output, push, shell
from support.docker import BUSYBOX, Docker
from support.processes import REPO, free_port, wait_for
from support.registry import Registry

StartAgent = Callable[..., Agent]

# The command of today gives Debian's engine one network only; with several it is judged by these.
NETWORKS = {"@NET": {"aliases": ["cache", "db"], "ip": "@NET_IP"}, "@OTHER": {"aliases": [], "ip": None}}

MAC = "02:42:0a:d5:00:4d"

# What the queue says; what begins with `@` is made by each test run.
CASES: dict[str, dict[str, Any]] = {
    "on the default network": {
        "mount": [
            "type=bind,source=@DIR,target=/in,readonly", "type=tmpfs,target=/scratch,tmpfs-size=1m,tmpfs-mode=1770",
            "type=volume,source=@VOLUME,target=/named,volume-nocopy",
        ],
        "env": {"A": "1 2", "B": "x=y"}, "env-file": "@DIR/variables",
        "publish": ["127.0.0.1:@PORT:8000", "9000/udp"], "expose": ["7000-7002", "53/udp"],
        "device": ["/dev/null:/dev/nothing:rw", "/dev/zero"], "device-cgroup-rule": "c 1:3 rwm",
        "device-read-bps": "@DEVICE:1mb", "device-write-bps": ["@DEVICE:2mb"], "device-read-iops": "@DEVICE:100", "device-write-iops": "@DEVICE:200",
        "log-driver": "json-file", "log-opt": {"max-size": "10k", "max-file": "2"},
        "hostname": "box", "domainname": "example.org", "add-host": ["db:10.0.0.1", "self:host-gateway"],
        "dns": ["10.0.0.2", "10.0.0.3"], "dns-option": "ndots:2", "dns-search": ["a.example", "b.example"], "link": "@STRANGER:other",
        "health-cmd": "true", "health-interval": "1s", "health-timeout": "2s", "health-retries": 3, "health-start-period": "500ms",
        "label": ["a=1", "b"], "label-file": "@DIR/labels", "platform": "linux/amd64", "restart": "no",
    },
    "several networks": {"network": ["@NET", "@OTHER"], "network-alias": ["db", "cache"], "ip": "@NET_IP", "mac-address": MAC, "cpus": 0.5},
    "a network with its settings": {
        "network": "name=@NET,alias=web", "volume": ["@DIR:/in:ro", "@DIR/sub:/sub", "@VOLUME:/named", "/anonymous"],
        "publish-all": True, "expose": "7000", "no-healthcheck": True, "tty": True, "interactive": True,
        "user": "1000:1000", "group-add": ["2000", "3000"], "security-opt": ["no-new-privileges", "seccomp=unconfined"],
        "cap-add": ["SYS_PTRACE"], "cap-drop": ["NET_RAW", "MKNOD"], "userns": "host",
        "detach": True, "attach": ["STDOUT"], "rm": True, "quiet": True, "sig-proxy": False, "disable-content-trust": True, "detach-keys": "ctrl-x",
    },
    "another's namespaces": {
        "network": "container:@STRANGER", "pid": "container:@STRANGER", "ipc": "shareable", "volumes-from": "@STRANGER", "volume-driver": "local",
        "cpu-period": 50000, "cpu-quota": 25000, "cpu-shares": 512, "cpuset-cpus": "0", "cpuset-mems": "0", "memory": "64m",
        "memory-reservation": "32m", "memory-swap": "128m", "memory-swappiness": 10, "oom-kill-disable": True, "oom-score-adj": 100,
        "pids-limit": 50, "shm-size": "16m", "blkio-weight": 300,
    },
    "no network": {
        "network": "none", "v": "@DIR:/in", "ipc": "host", "pid": "host", "uts": "host", "cgroupns": "host",
        "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"}, "runtime": "runc", "cgroup-parent": "/slipway-test",
        "read-only": True, "tmpfs": ["/run:size=1m", "/tmp"], "init": True, "workdir": "/tmp", "stop-timeout": 7,
        "ulimit": {"nofile": "100:200", "core": 0},
    },
}  # fmt: skip

# Options that the table above leaves out, and why.
ELSEWHERE = {
    "Windows": {"cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops", "isolation"},
    "refused, tested in the model": {"cidfile", "kernel-memory", "use-api-socket"},
    "a later engine": {"annotation", "health-start-interval"},
    "a kernel or a driver that test machines lack": {"privileged", "cpu-rt-period", "cpu-rt-runtime", "blkio-weight-device", "storage-opt", "ip6", "link-local-ip"},
    "a test of its own": {"entrypoint", "gpus", "name", "pull", "stop-signal", "env"},
}  # fmt: skip

# What is of no effect here, and what `docker create` does not know or take.
NOT_FOR_THE_COMMAND = {"detach", "attach", "rm", "quiet", "sig-proxy", "detach-keys"}

# What a container that ran has and one that was only created lacks, or what differs by nature.
BY_NATURE = {"AttachStdout", "AttachStderr", "AttachStdin", "StdinOnce", "Env", "Labels", "Image", "ConsoleSize", "OpenStdin"}


def flags(options: dict[str, Any]) -> list[str]:
    """The options as a command line."""
    line = []
    for name, value in options.items():
        prefix = f"-{name}" if len(name) == 1 else f"--{name}"
        if name in NOT_FOR_THE_COMMAND:
            continue
        match value:
            case bool():
                line += [f"{prefix}={str(value).lower()}"]
            case dict():
                line += [part for key, item in value.items() for part in (prefix, f"{key}={item}")]
            case list():
                line += [part for item in value for part in (prefix, str(item))]
            case _:
                line += [prefix, str(value)]
    return line


def facts(found: dict[str, Any]) -> dict[str, Any]:
    """What the options of `docker run` decide of a container."""
    config = {key: value for key, value in found["Config"].items() if key not in BY_NATURE}
    if re.fullmatch("[0-9a-f]{12}", config["Hostname"]):
        config["Hostname"] = "the engine's"
    host = {key: value or None for key, value in found["HostConfig"].items() if key not in {"Binds", "Mounts", "ConsoleSize"}}
    host["ContainerIDFile"] = None
    host["RestartPolicy"] = (host["RestartPolicy"] or {}).get("Name") or "no"
    host["Links"] = [link.replace(found["Name"], "") for link in host["Links"] or []]
    host["Ulimits"] = sorted(host["Ulimits"] or [], key=lambda limit: limit["Name"])
    for caps in ("CapAdd", "CapDrop"):
        host[caps] = sorted(cap.removeprefix("CAP_") for cap in host[caps] or [])
    mounts = [{key: mount.get(key, "") for key in ("Type", "Source", "Destination", "RW", "Name")} for mount in found["Mounts"]]
    for mount in mounts:
        if mount["Type"] == "volume":
            mount["Source"] = "the engine's"
        if len(mount["Name"]) == 64:
            mount["Name"] = "none"
    networks = {
        network: {
            "aliases": sorted(set(settings["Aliases"] or []) - {found["Id"][:12]}),
            "ip": (settings["IPAMConfig"] or {}).get("IPv4Address"),
        }
        for network, settings in found["NetworkSettings"]["Networks"].items()
    }
    environment = [entry for entry in found["Config"]["Env"] if not entry.startswith(("WANDB_", "PYTHONUNBUFFERED="))]
    labels = {key: value for key, value in found["Config"]["Labels"].items() if not key.startswith("slipway.")}
    return {
        **{f"Config.{key}": value or None for key, value in config.items()},
        **{f"HostConfig.{key}": value for key, value in host.items()},
        "Mounts": sorted(mounts, key=lambda mount: mount["Destination"]),
        "Networks": networks,
        "Env": sorted(environment),
        "Labels": labels,
    }


@pytest.fixture
def words(docker: Docker, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What the words of the table stand for."""
    own = f"slipway-test-options-{os.getpid()}"
    directory = tmp_path / "in"
    (directory / "sub").mkdir(parents=True)
    (directory / "variables").write_text("# a comment\nC=3\nD=a b\n")
    (directory / "labels").write_text("c=3\n# a comment\n")
    docker.run("network", "create", f"{own}-net", "--subnet", f"10.213.{os.getpid() % 256}.0/24")
    docker.run("network", "create", f"{own}-other")
    docker.run("volume", "create", f"{own}-volume")
    stranger = ("--name", f"{own}-stranger", "--ipc", "shareable", "--volume", "/of-the-stranger")
    docker.run("run", "--detach", *stranger, BUSYBOX, "sleep", "600")
    disk = re.search(r"^/dev/\S+", Path("/proc/mounts").read_text(), re.MULTILINE)
    yield {
        "@NET_IP": f"10.213.{os.getpid() % 256}.77", "@NET": f"{own}-net", "@OTHER": f"{own}-other", "@VOLUME": f"{own}-volume",
        "@STRANGER": f"{own}-stranger", "@DIR": str(directory), "@PORT": str(free_port()), "@DEVICE": disk.group() if disk else "/dev/null",
    }  # fmt: skip
    docker.run("rm", "--force", f"{own}-stranger")
    docker.run("network", "rm", f"{own}-net", f"{own}-other")
    docker.run("volume", "rm", f"{own}-volume")


def filled(value: Any, words: dict[str, str]) -> Any:
    """The value with what its words stand for."""
    match value:
        case str():
            return re.sub("|".join(words), lambda found: words[found.group()], value)
        case dict():
            return {key: filled(item, words) for key, item in value.items()}
        case list():
            return [filled(item, words) for item in value]
    return value


def test_every_option_reaches_the_engine_as_docker_run_would_give_it(
    client: Client, queue_name: str, docker: Docker, words: dict[str, str], start_agent: StartAgent
) -> None:
    # Jobs end by a signal that nobody can ignore: there is nothing to wait for.
    options = {case: filled(asked, words) | {"stop-signal": "KILL"} for case, asked in CASES.items()}
    names = {case: f"{queue_name}-{number}" for number, case in enumerate(options)}
    for case, name in names.items():
        queues.create(client.user, name, resource="local-container", config=options[case])
    start_agent(*names.values(), max_jobs=-1)
    items = {case: push(client.user, name, shell("sleep 600")) for case, name in names.items()}
    wrong: dict[str, Any] = {}
    found, created = {}, []
    for case, item in items.items():
        wait_for(lambda item=item: queues.item(client.user, item)["state"] in ("RUNNING", "FAILED"), f"the case {case}", 60)
        now = queues.item(client.user, item)
        if now["state"] == "RUNNING":
            found[case] = docker.wait_running(now["runName"])
        else:
            wrong[case] = now["failure"]
    for case in found:
        ours = facts(found[case])
        if case == "several networks":
            networks = {words[name]: filled(settings, words) for name, settings in NETWORKS.items()}
            # Which the command refuses to ask of an engine that has it in another place.
            mac = found[case]["NetworkSettings"]["Networks"][words["@NET"]]["MacAddress"]
            if (ours["Networks"], mac) != (networks, MAC):
                wrong[case] = (networks, ours["Networks"], mac)
            continue
        asked = options[case]
        made = docker.run("create", *flags(asked), "--entrypoint", "sh", BUSYBOX, "-c", "sleep 600")
        created.append(made)
        expected = facts(docker.inspect(made) or {})
        differ = {key: (expected.get(key), ours.get(key)) for key in expected | ours if expected.get(key) != ours.get(key)}
        if differ:
            wrong[case] = differ
    docker.run("rm", "--force", "--volumes", *created)
    health = found["on the default network"]["Id"]
    wait_for(lambda: docker.run("inspect", "--format", "{{.State.Health.Status}}", health) == "healthy", "the job to be healthy")
    for case in found:
        queues.cancel(client.user, items[case])
    for case in found:
        ended(client.user, items[case], "KILLED")
    assert wrong == {}


def test_every_option_of_the_manual_is_tried_or_named() -> None:
    manual = (REPO / "docs" / "docker.md").read_text().split("\n## Options\n")[1]
    options = {tuple(re.findall(r"`([^`]+)`", row)) for row in re.findall(r"^\| `.*?\|.*?\|", manual, re.MULTILINE)}
    tried = {name for asked in CASES.values() for name in asked} | set().union(*ELSEWHERE.values())
    assert {names[0] for names in options if not tried & set(names)} == set()


def test_the_program_of_the_queue_is_for_jobs_that_bring_none(client: Client, queue_name: str, start_agent: StartAgent) -> None:
    queues.create(
        client.user, queue_name, resource="local-container",
        config={"entrypoint": "echo", "command": ["of", "the queue"], "env": {"A": "1"}, "e": ["B=2"]},
    )  # fmt: skip
    start_agent(queue_name)
    image = {"docker": {"docker_image": BUSYBOX}}
    for overrides, printed in [
        ({}, "of the queue\n"),
        ({"args": ["of", "the launch"]}, "of the launch\n"),
        ({"entry_point": ["sh", "-c", "echo $A $B"]}, "1 2\n"),
    ]:
        item = push(client.user, queue_name, image | {"overrides": overrides})
        failed(client.user, item, "no-run")
        assert output(client.user, item) == printed


def test_two_jobs_share_a_cache(client: Client, queue_name: str, start_agent: StartAgent, docker: Docker) -> None:
    """R11."""
    volume = f"slipway-test-cache-{os.getpid()}"
    queues.create(client.user, queue_name, resource="local-container", config={"volume": f"{volume}:/root/.cache"})
    start_agent(queue_name)
    try:
        for script, printed in [("echo a >/root/.cache/model; echo stored", "stored\n"), ("cat /root/.cache/model", "a\n")]:
            item = push(client.user, queue_name, shell(script))
            failed(client.user, item, "no-run")
            assert output(client.user, item) == printed
        wait_for(lambda: docker.containers("slipway.scope", client.user.base_url) == [], "the containers to be removed")
        assert docker.run("volume", "inspect", "--format", "{{.Name}}", volume) == volume, "it outlives its containers"
    finally:
        docker.run("volume", "rm", volume)


def test_no_line_is_lost_while_the_engine_rotates_its_log(
    client: Client, queue_name: str, start_agent: StartAgent, tmp_path: Path
) -> None:
    read = tmp_path / "read"
    read.mkdir()
    config = {"log-driver": "json-file", "log-opt": ["max-size=20k", "max-file=3"], "volume": f"{read}:/read"}
    queues.create(client.user, queue_name, resource="local-container", config=config)
    start_agent(queue_name)
    # Some 200 KiB of log. The engine throws away what nobody has read in time: every 8 KiB are read first.
    script = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo line $i; [ $((i % 100)) -ne 0 ] || until [ -e /read/$i ]; do usleep 20000; done; done"
    item = push(client.user, queue_name, shell(script))
    for number in range(100, 2001, 100):
        wait_for(lambda number=number: f"line {number}\n" in output(client.user, item), f"line {number}")
        (read / str(number)).touch()
    failed(client.user, item, "no-run")
    # Engines of before 2023 tell some lines twice when they rotate, by `docker logs` as well; none may be missing.
    told = output(client.user, item).splitlines()
    assert list(dict.fromkeys(told)) == [f"line {number}" for number in range(1, 2001)]


def test_what_a_terminal_shows_is_kept(client: Client, queue_name: str, start_agent: StartAgent) -> None:
    queues.create(client.user, queue_name, resource="local-container", config={"tty": True})
    start_agent(queue_name)
    item = push(client.user, queue_name, shell("test -t 1 && echo a terminal; sleep 1; echo end; exit 3"))
    failed(client.user, item, "exit-code")
    assert output(client.user, item) == "a terminal\r\nend\r\n"


def test_an_image_of_the_machine_is_asked_for_only_if_the_queue_says_so(
    client: Client, queue_name: str, start_agent: StartAgent, docker: Docker
) -> None:
    registry = Registry()
    image = f"{registry.host}/team/made-here:1"
    docker.run("tag", BUSYBOX, image)
    spec = {"docker": {"docker_image": image}, "overrides": {"entry_point": ["true"]}}
    try:
        queues.create(client.user, queue_name, resource="local-container")
        start_agent(queue_name)
        failed(client.user, push(client.user, queue_name, spec), "no-run")
        queues.create(client.user, queue_name, resource="local-container", config={"pull": "always"})
        assert image in failed(client.user, push(client.user, queue_name, spec), "image-not-found")
    finally:
        docker.run("rmi", image)
        registry.stop()
