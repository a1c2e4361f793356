//! `slipway launch-agent` as a process: against our server, and against one that has only the
//! official API.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, in its helpers too")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use support::{Program, World, stderr, stdout};

const DEADLINE: Duration = Duration::from_secs(60);

/// A job that does of `wandb.init` and `wandb.finish` what a server sees. Its first argument is a file
/// that counts its starts; with a second one, a named pipe, it waits until somebody writes to that.
const JOB: &str = r#"
import base64, json, os, sys, urllib.request

entity, project, run = (os.environ["WANDB_" + name] for name in ("ENTITY", "PROJECT", "RUN_ID"))

def post(path, body):
    request = urllib.request.Request(os.environ["WANDB_BASE_URL"] + path, json.dumps(body).encode())
    key = base64.b64encode(b"api:" + os.environ["WANDB_API_KEY"].encode()).decode()
    request.add_header("Authorization", "Basic " + key)
    request.add_header("Content-Type", "application/json")
    urllib.request.urlopen(request).read()

def stream(line, text, **end):
    files = {"output.log": {"offset": line, "content": [text]}}
    post(f"/files/{entity}/{project}/{run}/file_stream", {"files": files, **end})

with open(sys.argv[1], "a") as starts:
    starts.write(run + "\n")
query = """mutation UpsertBucket($entity: String, $project: String, $name: String) {
  upsertBucket(input: {entityName: $entity, modelName: $project, name: $name}) { bucket { id } } }"""
post("/graphql", {"query": query, "variables": {"entity": entity, "project": project, "name": run}})
stream(0, "begin")
print("printed begin", flush=True)
if len(sys.argv) > 2:
    open(sys.argv[2]).read()
stream(1, "end", complete=True, exitcode=0)
print("printed end", flush=True)
"#;

/// A server with a queue and a job.
struct Bench {
    world: World,
}

impl Bench {
    fn new(server: &[&str]) -> Self {
        let world = World::with_server_as(server);
        fs::create_dir_all(world.path("code")).unwrap();
        fs::write(world.path("code/train.py"), JOB).unwrap();
        world.json(&["queue", "create", "q", "-r", "local-process"]);
        let entry = format!("python3 train.py {}", world.path("starts").display());
        let create = [
            "job", "create", "code", "code", "-p", "p", "-n", "train", "-r", "3.11", "-E",
        ];
        world.json(&[&create[..], &[&entry]].concat());
        let bench = Self { world };
        bench.configure("queues: [q]\nprocess: {enabled: true}\nstopped_run_timeout: 5\n");
        bench
    }

    fn configure(&self, text: &str) {
        fs::write(self.world.path("launch-config.yaml"), text).unwrap();
    }

    fn agent(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Program {
        let command = ["launch-agent", "-c", "launch-config.yaml", "--state-dir", "state"];
        self.world.spawn(&[&command[..], arguments].concat(), variables)
    }

    /// Submits a job that waits for its pipe.
    fn launch_waiting(&self, pipe: &str) -> PathBuf {
        self.launch_waiting_on("q", pipe)
    }

    fn launch_waiting_on(&self, queue: &str, pipe: &str) -> PathBuf {
        let path = self.world.path(pipe);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        let starts = self.world.path("starts");
        let entry = format!("python3 train.py {} {}", starts.display(), path.display());
        self.world.json(&[
            "launch",
            "-j",
            "admin/p/train:latest",
            "-p",
            "p",
            "-q",
            queue,
            "-E",
            &entry,
        ]);
        path
    }

    fn starts(&self) -> Vec<String> {
        let text = fs::read_to_string(self.world.path("starts")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until so many jobs have called `wandb.init`, and answers with the last one's run.
    fn started(&self, count: usize) -> String {
        until("a job starts", || self.starts().len() == count);
        let run = self.starts().pop().unwrap();
        self.wait_for_run(&run, "running");
        run
    }

    fn wait_for_run(&self, run: &str, state: &str) {
        until(&format!("run {run} is {state}"), || {
            let runs = self.world.json(&["run", "list", "-p", "p"]);
            let mut runs = runs.as_array().unwrap().iter();
            runs.any(|known| known["name"] == run && known["state"] == state)
        });
    }

    /// Asks the agent's health endpoint; status and text.
    fn get(address: &str, path: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(address).unwrap();
        write!(
            socket,
            "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let answer = std::io::read_to_string(socket).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    fn checks(
        &self,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> (Option<i32>, BTreeMap<String, (bool, String)>) {
        let command = ["launch-agent", "--check", "--state-dir", "state", "--output", "json"];
        let mut command = self.world.command(&[&command[..], arguments].concat());
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let lines: Vec<Value> =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
        let line = |line: &Value| {
            let text = |key: &str| line[key].as_str().unwrap().to_owned();
            (text("check"), (line["ok"].as_bool().unwrap(), text("found")))
        };
        (output.status.code(), lines.iter().map(line).collect())
    }

    /// The items of all queues.
    fn items(&self) -> Vec<Value> {
        let items = self.world.json(&["item", "list"]);
        items.as_array().unwrap().clone()
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::yield_now();
    }
}

/// Lets a waiting job go on.
fn release(pipe: &Path) {
    fs::write(pipe, "go").unwrap();
}

#[test]
fn the_whole_flow_on_a_server_that_has_only_the_official_api() {
    let bench = Bench::new(&["--compat", "official"]);
    let world = &bench.world;
    let mut followed = world.spawn(
        &["launch", "-j", "admin/p/train:latest", "-p", "p", "-q", "q", "--wait"],
        &[],
    );
    followed.says("Queued");
    let [_stopped, adopted, drained] = ["stopped", "adopted", "drained"].map(|pipe| bench.launch_waiting(pipe));
    let states = |items: &[Value]| items.iter().map(|item| item["state"].clone()).collect::<Vec<_>>();
    assert_eq!(states(&bench.items()), ["PENDING"; 4]);
    let table = stdout(&world.run(&["item", "list", "--state", "queued", "--limit", "1"]));
    assert!(table.contains("admin/q") && table.contains("Queued"), "{table}");
    assert_eq!(
        world.json(&["item", "list", "--state", "running"]),
        serde_json::json!([])
    );

    // Queued before the agent comes: it polls at once, and again whenever a job has ended.
    let mut agent = bench.agent(&[], &[]);
    agent.says("no additions: polling");
    let (status, printed, said) = followed.end();
    assert!(status.success(), "{said}");
    assert_eq!(printed, "begin\nend\n");
    assert!(said.contains("/admin/p/runs/"), "{said}");
    let first = &bench.starts()[0];
    assert_eq!(stdout(&world.run(&["run", "logs", first, "-p", "p"])), "begin\nend\n");

    let run = bench.started(2);
    assert!(world.run(&["run", "stop", &run, "-p", "p"]).status.success());
    agent.says("outcome=Killed");

    let run = bench.started(3);
    agent.kill();
    let mut agent = bench.agent(&[], &[]);
    agent.says("took over a job that was started before");
    release(&adopted);
    bench.wait_for_run(&run, "finished");

    let run = bench.started(4);
    agent.signal(Signal::TERM);
    agent.says("draining");
    release(&drained);
    let (status, _, said) = agent.end();
    assert!(status.success() && said.contains("every job has ended"), "{said}");
    bench.wait_for_run(&run, "finished");
    assert_eq!(bench.starts().len(), 4, "a job was started twice");
    let mut runs: Vec<Value> = bench.items().iter().map(|item| item["runName"].clone()).collect();
    let mut started = bench.starts();
    runs.sort_by_key(ToString::to_string);
    started.sort();
    assert_eq!(runs, started);
    until("the items have ended as their runs", || {
        let states = states(&bench.items());
        states.iter().filter(|state| *state == "FINISHED").count() == 3
    });
}

#[test]
fn what_the_official_api_lacks_is_said_by_the_command() {
    let bench = Bench::new(&["--compat", "official"]);
    let id = bench
        .world
        .json(&["launch", "-j", "admin/p/train:latest", "-p", "p", "-q", "q"]);
    let id = id["runQueueItemId"].as_str().unwrap();
    for arguments in [
        &["item", "show", id][..],
        &["item", "logs", id],
        &["item", "cancel", id],
        &["queue", "pause", "q"],
        &["agents", "list"],
        &[
            "launch",
            "-j",
            "admin/p/train:latest",
            "-p",
            "p",
            "-q",
            "q",
            "--dry-run",
        ],
    ] {
        let output = bench.world.run(arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains("it is not a Slipway server"), "{arguments:?}: {said}");
    }
}

#[test]
fn the_log_of_a_failure_and_its_item_are_read_where_output_and_queue_are_gone() {
    let mut bench = Bench::new(&["--compat", "official"]);
    // On such a server an agent keeps the log of a failure among the files of its own run.
    let absent = r#"{"overrides": {"working_dir": "absent"}}"#;
    let launch = [
        "launch",
        "-j",
        "admin/p/train:latest",
        "-p",
        "p",
        "-q",
        "q",
        "-c",
        absent,
    ];
    let pushed = bench.world.json(&launch);
    let id = pushed["runQueueItemId"].as_str().unwrap();
    let mut agent = bench.agent(&[], &[]);
    agent.says("preparing");
    agent.signal(Signal::TERM);
    assert!(agent.end().0.success());

    let world = &mut bench.world;
    world.kill();
    world.start();
    world.sign_in();
    let logs = |arguments: &[&str]| world.run(&[&["item", "logs", id], arguments].concat());
    let (read, followed) = (logs(&[]), logs(&["--follow"]));
    for output in [&read, &followed] {
        assert!(output.status.success(), "{}", stderr(output));
        assert!(stdout(output).contains("no directory `absent`"), "{}", stdout(output));
    }
    assert!(
        stderr(&followed).contains("the item is FAILED"),
        "{}",
        stderr(&followed)
    );
    let line: Value = serde_json::from_str(stdout(&logs(&["-o", "json"])).lines().next().unwrap()).unwrap();
    assert!(line["file"].as_str().unwrap().ends_with("/error/error.log"), "{line}");
    assert!(
        line["text"].as_str().unwrap().contains("no directory `absent`"),
        "{line}"
    );

    assert!(world.run(&["queue", "delete", "q", "--yes"]).status.success());
    let shown = stdout(&world.run(&["item", "show", id]));
    for text in [
        "Failed",
        "no directory `absent`",
        "deleted; it was admin's",
        "`slipway item logs ",
    ] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert!(stdout(&logs(&[])).contains("no directory `absent`"));
    let retried = world.run(&["item", "retry", id]);
    assert_eq!(retried.status.code(), Some(3), "{}", stderr(&retried));
    assert!(
        stderr(&retried).contains("submit the job to another queue"),
        "{}",
        stderr(&retried)
    );
}

#[test]
fn a_fault_of_the_agent_fails_its_item_and_frees_the_slot() {
    let bench = Bench::new(&[]);
    bench.launch_waiting("waits");
    let fault = [
        ("SLIPWAY_FAILPOINT", "agent.workload-created"),
        ("SLIPWAY_FAILPOINT_PANIC", "1"),
    ];
    let mut agent = bench.agent(&[], &fault);
    agent.says("the item's task panicked");
    // The agent has one slot, and this job needs it.
    let launch = ["launch", "-j", "admin/p/train:latest", "-p", "p", "-q", "q", "--wait"];
    let next = bench.world.run(&launch);
    assert!(next.status.success(), "{}", stderr(&next));
    assert_eq!(stdout(&next), "printed begin\nprinted end\n");
    let items = bench.items();
    let failed = items.iter().find(|item| item["state"] == "FAILED").unwrap();
    assert_eq!(failed["failure"]["reason"], "agent-fault", "{failed}");
    agent.signal(Signal::TERM);
    assert!(agent.end().0.success());
}

#[test]
fn a_configuration_that_is_wrong_is_refused_with_its_place() {
    let world = World::empty();
    fs::create_dir(world.path("folder")).unwrap();
    for (name, text) in [
        ("typo.yaml", "queues: [q]\nmax_job: 2\n"),
        ("type.yaml", "queues: [q]\n\nmax_jobs: many\n"),
        ("tabs.yaml", "queues:\n\t- q\n"),
        ("none.yaml", "entity: team\n"),
    ] {
        fs::write(world.path(name), text).unwrap();
    }
    let launch_agent = |arguments: &[&str], variable: Option<(&str, &str)>| {
        let mut command = world.command(&[&["launch-agent"], arguments].concat());
        command.envs(variable).output().unwrap()
    };
    let jobs = "WANDB_LAUNCH_MAX_JOBS";
    for (arguments, variable, text) in [
        (
            &["-c", "typo.yaml"][..],
            None,
            "`typo.yaml`: line 2: unknown key `max_job`; did you mean `max_jobs`?",
        ),
        (
            &["-c", "type.yaml"],
            None,
            "line 3: `max_jobs` must be a whole number, not `many`",
        ),
        (&["-c", "tabs.yaml"], None, "line 2, column 1"),
        (&["-c", "none.yaml"], None, "no queue to serve"),
        (&["-c", "absent.yaml"], None, "absent.yaml"),
        (&["-c", "folder"], None, "folder/launch-config.yaml"),
        (&[], None, "no queue to serve"),
        (
            &["-q", "q"],
            Some((jobs, "many")),
            "environment variable WANDB_LAUNCH_MAX_JOBS",
        ),
        (&["-q", "q", "-j", "-2"], None, "flag --max-jobs"),
        (&["-q", "q", "--name", "../up"], None, "flag --name"),
        (&["-q", "q", "--url", "x"], None, "not supported any more"),
    ] {
        let refused = launch_agent(arguments, variable);
        let said = stderr(&refused);
        assert_ne!(refused.status.code(), Some(0), "{arguments:?}");
        assert!(said.contains(text), "{arguments:?}: {said}");
        assert!(said.lines().count() <= 2, "{arguments:?}: {said}");
    }
}

#[test]
fn a_check_tells_each_thing_in_one_line_and_changes_nothing() {
    let bench = Bench::new(&[]);
    fs::create_dir_all(bench.world.path("etc")).unwrap();
    let file = "queues: [q]\nmax_jobs: 2\nprocess:\n  enabled: true\n  work_dirs: x\n";
    fs::write(bench.world.path("etc/launch-config.yaml"), file).unwrap();
    let (code, found) = bench.checks(&["-c", "etc"], &[("WANDB_LAUNCH_MAX_JOBS", "3")]);
    assert_eq!(code, Some(0), "{found:?}");
    for (check, text) in [
        (
            "config",
            "etc/launch-config.yaml`; max_jobs by environment variable WANDB_LAUNCH_MAX_JOBS",
        ),
        ("server", "accepts the key of `admin` and tells of items at once"),
        ("entity", "`admin`"),
        ("queue q", "run on local-process"),
        ("state", "state"),
        ("local-process", "ready"),
    ] {
        assert!(found[check].0 && found[check].1.contains(text), "{check}: {found:?}");
    }
    assert!(!bench.world.path("state").exists(), "a check makes nothing");
    assert_eq!(bench.world.json(&["agents", "list", "--all"]), serde_json::json!([]));

    // The official client's place, with what is wrong in it said at once.
    fs::create_dir_all(bench.world.path(".config/wandb")).unwrap();
    fs::write(
        bench.world.path(".config/wandb/launch-config.yaml"),
        "queues: [nor, q, none]\nbuilder: {destinaton: x}\n",
    )
    .unwrap();
    let (code, found) = bench.checks(&[], &[]);
    assert_eq!(code, Some(1), "{found:?}");
    for (check, text) in [
        ("queue nor", "no queue named `nor`; it has `q`"),
        ("queue none", "no queue named `none`"),
        (
            "queue q",
            "`local-process`, which is not enabled: set `process: {enabled: true}`",
        ),
    ] {
        assert!(!found[check].0 && found[check].1.contains(text), "{check}: {found:?}");
    }
    let table = bench.world.run(&["launch-agent", "--check"]);
    assert!(stdout(&table).contains("wrong"), "{}", stdout(&table));
    let warned = stderr(&table);
    assert!(
        warned.contains("line 2: unknown key `destinaton` in `builder`"),
        "{warned}"
    );
    let started = bench.world.run(&["launch-agent"]);
    assert_eq!(started.status.code(), Some(3));
    assert!(
        stderr(&started).contains("no queue named `nor`, `none`; it has `q`"),
        "{}",
        stderr(&started)
    );

    let unreachable = bench
        .world
        .run(&["launch-agent", "--check", "--host", "http://127.0.0.1:1"]);
    assert_ne!(unreachable.status.code(), Some(0));
}

#[test]
fn probes_see_an_agent_that_serves_and_one_that_is_drained_from_afar() {
    let bench = Bench::new(&[]);
    let pipe = bench.launch_waiting("waits");
    let mut agent = bench.agent(&["--health-address", "localhost:0", "--name", "probed"], &[]);
    let line = agent.says("health and metrics are answered on http://");
    let address = line.rsplit_once("http://").unwrap().1.trim().to_owned();
    let run = bench.started(1);
    until("the agent is ready", || Bench::get(&address, "/readyz").0 == 200);
    assert_eq!(Bench::get(&address, "/healthz"), (200, "ok\n".to_owned()));
    let metrics = Bench::get(&address, "/metrics").1;
    for line in [
        "slipway_agent_jobs 1",
        "slipway_agent_items_taken_total 1",
        "slipway_agent_max_jobs 1",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line}: {metrics}");
    }
    agent.says("running 1 of 1 jobs; waits for a job to end");

    bench.world.json(&["agents", "drain", "probed"]);
    agent.says("draining: takes nothing new");
    let (status, why) = Bench::get(&address, "/readyz");
    assert_eq!((status, why.as_str()), (503, "draining: the agent takes nothing new\n"));
    assert_eq!(Bench::get(&address, "/healthz").0, 200);
    release(&pipe);
    let (status, _, said) = agent.end();
    assert!(status.success() && said.contains("every job has ended"), "{said}");
    bench.wait_for_run(&run, "finished");
}

#[test]
fn an_upgraded_agent_goes_on_with_the_jobs_of_the_old_one() {
    let bench = Bench::new(&[]);
    let pipes = [bench.launch_waiting("left"), bench.launch_waiting("killed")];
    let installed = bench.world.path("slipway");
    fs::copy(env!("CARGO_BIN_EXE_slipway"), &installed).unwrap();
    let start = || {
        let arguments = [
            "launch-agent",
            "-c",
            "launch-config.yaml",
            "--state-dir",
            "state",
            "-j",
            "2",
        ];
        bench.world.spawn_program(&installed, &arguments)
    };
    let mut agent = start();
    bench.started(2);
    // The second signal ends it at once.
    agent.signal(Signal::TERM);
    agent.says("draining");
    agent.signal(Signal::TERM);
    let (status, _, said) = agent.end();
    assert!(status.success() && said.contains("left 2 jobs running"), "{said}");

    fs::rename(&installed, bench.world.path("slipway.old")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_slipway"), &installed).unwrap();
    fs::remove_file(bench.world.path("slipway.old")).unwrap();
    let mut agent = start();
    agent.says("took over a job");
    agent.says("took over a job");
    release(&pipes[0]);
    agent.kill();
    release(&pipes[1]);
    let mut agent = start();
    for run in bench.starts() {
        bench.wait_for_run(&run, "finished");
    }
    until("both items are finished", || {
        bench.items().iter().all(|item| item["state"] == "FINISHED")
    });
    assert_eq!(bench.starts().len(), 2, "a job was started twice");
    agent.signal(Signal::TERM);
    assert!(agent.end().0.success());
}

#[test]
fn a_name_has_one_live_holder_unless_another_takes_over() {
    let bench = Bench::new(&[]);
    let mut first = bench.agent(&["--name", "one"], &[]);
    first.says("waits for items of q");
    let same_state = bench.agent(&["--name", "one"], &[]).end();
    assert!(
        !same_state.0.success() && same_state.2.contains("with the same state directory"),
        "{}",
        same_state.2
    );
    let elsewhere = [
        "launch-agent",
        "-c",
        "launch-config.yaml",
        "--state-dir",
        "elsewhere",
        "--name",
        "one",
    ];
    let checked = bench.world.run(&[&elsewhere[..], &["--check"]].concat());
    assert!(stdout(&checked).contains("`one` is alive on"), "{}", stdout(&checked));
    let refused = bench.world.run(&elsewhere);
    assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("one"), "{}", stderr(&refused));
    let mut second = bench.world.spawn(&[&elsewhere[..], &["--take-over"]].concat(), &[]);
    second.says("waits for items of q");
    let (status, _, said) = first.end();
    assert!(
        !status.success() && said.contains("another agent took the name `one`"),
        "{said}"
    );
    second.signal(Signal::TERM);
    assert!(second.end().0.success());
}

#[test]
fn the_log_goes_where_it_is_wanted() {
    let bench = Bench::new(&[]);
    let mut agent = bench.agent(&["-l", "agent.log", "-vv"], &[]);
    let log = || fs::read_to_string(bench.world.path("agent.log")).unwrap_or_default();
    until("the agent serves", || {
        log().contains("running 0 of 1 jobs; waits for items of q")
    });
    agent.signal(Signal::TERM);
    assert!(agent.end().0.success());
    let mut agent = bench.agent(&["-l", "-"], &[]);
    until("the agent serves", || {
        bench
            .world
            .json(&["agents", "list"])
            .as_array()
            .is_some_and(|agents| agents.len() == 1)
    });
    agent.signal(Signal::TERM);
    let (status, printed, _) = agent.end();
    assert!(status.success() && printed.contains("agent "), "{printed}");
}

#[test]
fn what_a_job_prints_is_read_in_every_form() {
    let bench = Bench::new(&[]);
    let world = &bench.world;
    let pipe = bench.launch_waiting("waits");
    let mut agent = bench.agent(&["--name", "one"], &[]);
    let run = bench.started(1);
    let id = bench.items()[0]["id"].as_str().unwrap().to_owned();
    let follow = |arguments: &[&str]| world.spawn(arguments, &[]);
    let mut followers = [
        follow(&["item", "logs", "--follow", &id]),
        follow(&["item", "logs", "-f", &id, "-o", "json"]),
        follow(&["run", "logs", "--follow", &run, "-p", "p"]),
        follow(&["run", "logs", "-f", &run, "-p", "p", "-o", "json"]),
    ];

    // Meanwhile the agent is asked to drain, and that is taken back.
    let listed = stdout(&world.run(&["agents", "list"]));
    let line = listed.lines().find(|line| line.starts_with("one ")).unwrap().to_owned();
    assert!(line.contains(" q ") && line.contains("1 of 1"), "{listed}");
    world.json(&["agents", "drain", "one"]);
    agent.says("draining: takes nothing new");
    let taken_back = world.run(&["agents", "undrain", "one"]);
    assert_eq!(
        stdout(&taken_back),
        "one takes items again\n",
        "{}",
        stderr(&taken_back)
    );
    agent.says("waits for a job to end");

    release(&pipe);
    let ended = followers.each_mut().map(|follower| {
        let (status, printed, said) = follower.end();
        assert!(status.success(), "{said}");
        (printed, said)
    });
    let lines = |text: &str| {
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect::<Vec<Value>>()
    };
    assert_eq!(ended[0].0, "printed begin\nprinted end\n");
    assert!(ended[0].1.contains("the item is FINISHED"), "{}", ended[0].1);
    let pieces = lines(&ended[1].0);
    let text: String = pieces.iter().filter_map(|piece| piece["text"].as_str()).collect();
    assert_eq!(text, "printed begin\nprinted end\n");
    assert_eq!(pieces[0]["offset"], 0);
    assert_eq!(pieces.last().unwrap()["state"], "FINISHED");
    assert_eq!(ended[2].0, "begin\nend\n");
    let pieces = lines(&ended[3].0);
    let begin = serde_json::json!({"number": 0, "line": "begin"});
    assert_eq!(pieces[0], begin);
    assert_eq!(pieces.last().unwrap()["state"], "finished");
    assert_eq!(
        lines(&stdout(&world.run(&["run", "logs", &run, "-p", "p", "-o", "json"])))[0],
        begin
    );

    let stopped = world.run(&["run", "stop", &run, "-p", "p"]);
    assert_eq!(
        stdout(&stopped),
        format!("admin/p/{run} has ended already: it is finished\n")
    );

    // A job's own code is told from the command's.
    let launch = [
        "launch",
        "-j",
        "admin/p/train:latest",
        "-p",
        "p",
        "-q",
        "q",
        "--wait",
        "-E",
    ];
    let failed = world.run(&[&launch[..], &["sh -c 'echo oh no; exit 3'", "-o", "json"]].concat());
    assert_eq!(failed.status.code(), Some(3), "{}", stderr(&failed));
    let error: Value = serde_json::from_str(stderr(&failed).lines().last().unwrap()).unwrap();
    assert_eq!(
        (&error["code"], &error["jobExitCode"]),
        (&3.into(), &3.into()),
        "{error}"
    );
    let item: Value = serde_json::from_slice(&failed.stdout).unwrap();
    let shown = stdout(&world.run(&["item", "show", item["id"].as_str().unwrap()]));
    assert!(
        shown.contains("oh no") && shown.contains("`slipway item logs "),
        "{shown}"
    );
    agent.signal(Signal::TERM);
    assert!(agent.end().0.success());
}

#[test]
fn several_queues_share_the_slots_of_an_agent() {
    let bench = Bench::new(&[]);
    bench.world.json(&["queue", "create", "r", "-r", "local-process"]);
    let pipes = [("q", "one"), ("q", "two"), ("r", "three")].map(|(queue, pipe)| bench.launch_waiting_on(queue, pipe));
    let mut agent = bench.agent(&["-q", "q", "-q", "r", "-j", "2"], &[]);
    agent.says("running 2 of 2 jobs; waits for a job to end before it takes more of q, r");
    bench.started(2);
    let waiting: Vec<Value> = bench
        .items()
        .into_iter()
        .filter(|item| item["state"] == "PENDING")
        .collect();
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert_eq!(waiting[0]["waitReason"]["code"], "agent-full", "{waiting:?}");
    let releasing = std::thread::spawn(move || pipes.iter().for_each(|pipe| release(pipe)));
    until("all have ended", || {
        bench.items().iter().all(|item| item["state"] == "FINISHED")
    });
    releasing.join().unwrap();
    assert_eq!(bench.starts().len(), 3);
    agent.signal(Signal::TERM);
    assert!(agent.end().0.success());
}
