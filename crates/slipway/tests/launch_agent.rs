//! `slipway launch-agent` as a process: against our server, and against one that has only the
//! official API.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, in its helpers too")]

mod support;

use std::fs;
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
            "q",
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

    fn items(&self) -> Vec<Value> {
        let items = self.world.json(&["item", "list", "-q", "q"]);
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
    followed.says("PENDING");
    let [_stopped, adopted, drained] = ["stopped", "adopted", "drained"].map(|pipe| bench.launch_waiting(pipe));

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
