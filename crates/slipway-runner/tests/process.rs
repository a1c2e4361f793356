//! The process target with real shims and real children.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, in its helpers too")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use slipway_runner::process::{ProcessOptions, ProcessRunner};
use slipway_runner::{Exit, ExitCause, Line, Runner, RunnerError, Status, Workload, WorkloadId};

/// How long a condition may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A line whose other end nobody listens to.
fn line() -> Line {
    Line::new(|_| {})
}

struct Bench {
    root: tempfile::TempDir,
    runner: ProcessRunner,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut ProcessOptions)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let shim = vec![OsString::from(env!("CARGO_BIN_EXE_slipway-shim"))];
        let mut options = ProcessOptions::new(root.path().join("jobs"), shim);
        options.linger = Duration::from_millis(100);
        change(&mut options);
        Self {
            runner: ProcessRunner::new(options),
            root,
        }
    }

    fn job_directory(&self, id: &WorkloadId) -> PathBuf {
        self.root.path().join("jobs").join(id.file_name())
    }

    async fn launch(&self, script: &str) -> WorkloadId {
        let workload = workload(script);
        let id = workload.id.clone();
        self.runner.launch(workload, &line()).await.unwrap();
        id
    }

    async fn wait_for(&self, id: &WorkloadId, wanted: impl Fn(&Status) -> bool) -> Status {
        let mut watch = self.runner.watch(id);
        let deadline = Instant::now() + DEADLINE;
        loop {
            let status = self.runner.status(id).await.unwrap();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "still {status:?} after {DEADLINE:?}");
            watch.changed().await;
        }
    }

    async fn exit(&self, id: &WorkloadId) -> Exit {
        match self
            .wait_for(id, |status| {
                !matches!(status, Status::Starting | Status::Running { .. })
            })
            .await
        {
            Status::Exited(exit) => exit,
            other => panic!("ended as {other:?}"),
        }
    }

    async fn output(&self, id: &WorkloadId) -> Vec<u8> {
        self.runner.output(id, 0, usize::MAX).await.unwrap()
    }

    /// Waits until the job has printed this.
    async fn printed(&self, id: &WorkloadId, text: &str) {
        let mut watch = self.runner.watch(id);
        let deadline = Instant::now() + DEADLINE;
        while !String::from_utf8_lossy(&self.output(id).await).contains(text) {
            assert!(Instant::now() < deadline, "`{text}` was not printed");
            watch.changed().await;
        }
    }
}

fn workload(script: &str) -> Workload {
    Workload {
        id: WorkloadId::new("UnVuUXVldWVJdGVtOjE6MQ", 1).unwrap(),
        labels: BTreeMap::from([("handle".to_owned(), "h1".to_owned())]),
        resource: "local-process".to_owned(),
        image: None,
        command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        arguments: Vec::new(),
        environment: vec![("WANDB_API_KEY".to_owned(), "secret-key".to_owned())],
        source: None,
        working_directory: None,
        resource_args: serde_json::json!({"env": {"FROM_QUEUE": 7}}),
    }
}

/// The processes whose environment or arguments hold `text`.
fn processes_with(text: &str) -> Vec<u32> {
    let me = std::process::id();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|id| *id != me)
        .filter(|id| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .collect()
}

/// A duration for `sleep` that no other process uses, by which a child is recognised.
fn nap() -> String {
    format!("{}.{}", 4000 + rand::random_range(0..100_000), std::process::id())
}

fn kill(id: u32) {
    let pid = rustix::process::Pid::from_raw(id.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_job_runs_in_its_directory_with_its_variables_and_leaves_output_and_code() {
    let bench = Bench::new();
    let source = bench.root.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("hello.sh"), "echo code of the job; exit 3").unwrap();
    let mut job = workload("echo $FROM_QUEUE $WANDB_API_KEY; echo oops >&2; . ./hello.sh");
    job.source = Some(source);
    let id = job.id.clone();
    bench.runner.launch(job, &line()).await.unwrap();
    let exit = bench.exit(&id).await;
    assert_eq!(exit.cause, ExitCause::Code(3));
    assert!(!exit.stopped && !exit.success());
    let output = String::from_utf8(bench.output(&id).await).unwrap();
    assert_eq!(output, "7 secret-key\noops\ncode of the job\n");
    assert_eq!(bench.runner.output(&id, 2, 6).await.unwrap(), b"secret");

    let found = bench.runner.list().await.unwrap().found;
    assert_eq!(
        (found[0].id.clone(), found[0].labels["handle"].as_str()),
        (id.clone(), "h1")
    );
    bench.runner.remove(&id).await.unwrap();
    bench.runner.remove(&id).await.unwrap();
    assert_eq!(bench.runner.status(&id).await.unwrap(), Status::Absent);
    // As a removal leaves it that could not be finished.
    let trash = bench
        .job_directory(&id)
        .with_extension(format!("{}.removed", id.attempt()));
    std::fs::create_dir_all(trash.join("work")).unwrap();
    bench.runner.remove(&id).await.unwrap();
    assert!(!trash.exists(), "the rest of a removal goes with the next one");
    assert_eq!(bench.runner.list().await.unwrap().found, []);
}

#[tokio::test]
async fn a_check_finds_what_is_missing_and_makes_nothing() {
    let bench = Bench::new();
    bench.runner.check().await.unwrap();
    assert!(!bench.root.path().join("jobs").exists());
    let file = bench.root.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = Bench::with(|options| options.directory = file.join("jobs"));
    let error = below.runner.check().await.unwrap_err().to_string();
    assert!(error.contains("file"), "{error}");
    // What only trying shows.
    let dangling = bench.root.path().join("dangling");
    std::os::unix::fs::symlink(bench.root.path().join("nowhere"), &dangling).unwrap();
    for directory in [
        dangling,
        "/proc/none/jobs".into(),
        bench.root.path().join("n".repeat(300)),
    ] {
        let never = Bench::with(|options| options.directory = directory.clone());
        let error = never.runner.check().await.unwrap_err().to_string();
        assert!(
            error.contains(&format!("could not create `{}`", directory.display())),
            "{error}"
        );
    }
    let shimless = Bench::with(|options| options.shim = vec![OsString::from("/nowhere/slipway")]);
    let error = shimless.runner.check().await.unwrap_err().to_string();
    assert!(error.contains("/nowhere/slipway"), "{error}");
}

#[tokio::test]
async fn the_agents_variables_and_the_key_stay_out_of_sight() {
    let bench = Bench::new();
    let id = bench.launch("env; echo ready; sleep 1000").await;
    bench.printed(&id, "ready").await;
    let output = String::from_utf8_lossy(&bench.output(&id).await).into_owned();
    assert!(!output.contains("CARGO"), "the agent's environment leaked:\n{output}");
    assert_eq!(processes_with("secret-key"), Vec::<u32>::new());
    let spec = bench.job_directory(&id).join("spec.json");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(spec.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    bench.runner.stop(&id, Duration::ZERO, &line()).await.unwrap();
    bench.exit(&id).await;
}

#[tokio::test]
async fn a_second_launch_adopts_and_a_foreign_directory_is_left_alone() {
    let bench = Bench::new();
    let id = bench.launch("echo started; sleep 1000").await;
    bench.printed(&id, "started").await;
    bench.runner.launch(workload("echo twice"), &line()).await.unwrap();
    assert!(matches!(
        bench.runner.status(&id).await.unwrap(),
        Status::Running { .. }
    ));
    assert!(matches!(
        bench.runner.remove(&id).await,
        Err(RunnerError::Refused {
            reason: "still-running",
            ..
        })
    ));
    bench.runner.stop(&id, Duration::ZERO, &line()).await.unwrap();
    bench.exit(&id).await;
    assert_eq!(bench.output(&id).await, b"started\n");

    let other = WorkloadId::new("other", 1).unwrap();
    std::fs::create_dir(bench.job_directory(&other)).unwrap();
    std::fs::write(bench.job_directory(&other).join("mine"), "").unwrap();
    let mut job = workload("true");
    job.id = other.clone();
    assert!(matches!(
        bench.runner.launch(job, &line()).await,
        Err(RunnerError::Conflict { .. })
    ));
    assert!(bench.job_directory(&other).join("mine").exists());
}

#[tokio::test]
async fn an_attempt_that_was_started_is_not_started_again() {
    let bench = Bench::new();
    let id = bench.launch("echo once >> ../count").await;
    bench.exit(&id).await;
    std::fs::remove_file(bench.job_directory(&id).join("exit")).unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_slipway-shim"))
        .arg(bench.job_directory(&id))
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success());
    let count = std::fs::read_to_string(bench.job_directory(&id).join("count")).unwrap();
    assert_eq!(count, "once\n");
}

#[tokio::test]
async fn a_stop_is_heard_at_once_and_a_job_may_end_in_its_own_way() {
    let bench = Bench::new();
    let id = bench
        .launch("trap 'echo cleaning up; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
        .await;
    bench.printed(&id, "ready").await;
    let asked = Instant::now();
    bench.runner.stop(&id, Duration::from_secs(60), &line()).await.unwrap();
    let exit = bench.exit(&id).await;
    assert!(asked.elapsed() < Duration::from_secs(10));
    assert_eq!((exit.cause, exit.stopped), (ExitCause::Code(5), true));
    assert!(bench.output(&id).await.ends_with(b"cleaning up\n"));
}

#[tokio::test]
async fn a_job_that_ignores_the_stop_is_killed_with_all_its_children() {
    let bench = Bench::new();
    // One child in the group, one that left it for a session of its own.
    let nap = nap();
    let id = bench
        .launch(&format!(
            "trap '' TERM; sleep {nap}1 & setsid sh -c 'trap \"\" TERM; sleep {nap}2' & \
             echo ready; while :; do sleep 0.05; done",
        ))
        .await;
    bench.printed(&id, "ready").await;
    bench
        .runner
        .stop(&id, Duration::from_millis(200), &line())
        .await
        .unwrap();
    let exit = bench.exit(&id).await;
    assert_eq!((exit.cause, exit.stopped), (ExitCause::Signal(9), true));
    until("children outlived the job", || processes_with(&nap).is_empty()).await;
}

#[tokio::test]
async fn on_a_full_disk_a_second_stop_kills_a_job_that_ignores_the_first() {
    let bench = Bench::new();
    let id = bench
        .launch("trap '' TERM; echo up; while :; do sleep 0.05; done")
        .await;
    bench.printed(&id, "up").await;
    // No new file can be made for the request.
    std::fs::create_dir(bench.job_directory(&id).join("stop.new")).unwrap();
    let long = Duration::from_secs(3600);
    for grace in [long, long, Duration::ZERO, Duration::ZERO] {
        bench.runner.stop(&id, grace, &line()).await.unwrap();
    }
    let exit = bench.exit(&id).await;
    assert_eq!((exit.cause, exit.stopped), (ExitCause::Signal(9), true));
    bench.runner.remove(&id).await.unwrap();
}

#[tokio::test]
async fn what_a_job_leaves_behind_is_ended_after_it() {
    let bench = Bench::new();
    let nap = nap();
    let id = bench
        .launch(&format!("sleep {nap}1 & setsid sleep {nap}2 & echo done"))
        .await;
    let exit = bench.exit(&id).await;
    assert_eq!((exit.cause, exit.stopped), (ExitCause::Code(0), false));
    until("children outlived the job", || processes_with(&nap).is_empty()).await;
    assert_eq!(bench.output(&id).await, b"done\n");
}

#[tokio::test]
async fn a_stop_before_the_start_and_a_stop_after_the_end_are_harmless() {
    let bench = Bench::new();
    let unknown = WorkloadId::new("unknown", 1).unwrap();
    bench.runner.stop(&unknown, Duration::ZERO, &line()).await.unwrap();
    let id = bench.launch("exit 0").await;
    let exit = bench.exit(&id).await;
    bench.runner.stop(&id, Duration::ZERO, &line()).await.unwrap();
    assert_eq!(bench.exit(&id).await, exit);
}

#[tokio::test]
async fn a_killed_shim_leaves_a_lost_job_and_the_lock_tells() {
    let bench = Bench::new();
    let nap = nap();
    let id = bench.launch(&format!("echo ready; sleep {nap}")).await;
    bench.printed(&id, "ready").await;
    let directory = bench.job_directory(&id);
    let shims = processes_with(directory.to_str().unwrap());
    assert_eq!(shims.len(), 1);
    kill(shims[0]);
    let status = bench
        .wait_for(&id, |status| !matches!(status, Status::Running { .. }))
        .await;
    assert!(matches!(
        status,
        Status::Lost {
            reason: "shim-killed",
            ..
        }
    ));

    bench.runner.stop(&id, Duration::ZERO, &line()).await.unwrap();
    until("the job outlived its shim", || processes_with(&nap).is_empty()).await;

    let started = directory.join("started");
    std::fs::write(&started, r#"{"at": 1, "boot": "another boot"}"#).unwrap();
    let status = bench.runner.status(&id).await.unwrap();
    assert!(matches!(
        status,
        Status::Lost {
            reason: "machine-restarted",
            ..
        }
    ));
}

#[tokio::test]
async fn a_shim_whose_directory_is_gone_ends_its_job_and_itself() {
    for moved in [false, true] {
        let bench = Bench::new();
        let nap = nap();
        let id = bench
            .launch(&format!(
                "trap '' TERM; sleep {nap}1 & echo ready; sleep {nap}2; sleep {nap}3"
            ))
            .await;
        bench.printed(&id, "ready").await;
        let directory = bench.job_directory(&id);
        let name = directory.to_str().unwrap().to_owned();
        assert_eq!(processes_with(&name).len(), 1);
        if moved {
            std::fs::rename(&directory, bench.root.path().join("elsewhere")).unwrap();
        } else {
            std::fs::remove_dir_all(&directory).unwrap();
        }
        until("the job outlived its directory", || processes_with(&nap).is_empty()).await;
        until("the shim outlived its directory", || processes_with(&name).is_empty()).await;
        assert!(!directory.exists(), "the directory came back");
    }
}

#[tokio::test]
async fn another_runner_finds_a_running_job_and_sees_it_end() {
    let bench = Bench::new();
    let id = bench
        .launch("echo ready; while [ ! -e ../go ]; do sleep 0.02; done; echo went on")
        .await;
    bench.printed(&id, "ready").await;
    let successor = Bench {
        runner: bench.runner.clone(),
        root: bench.root,
    };
    drop(bench.runner);
    let found = successor.runner.list().await.unwrap().found;
    assert_eq!(found.len(), 1);
    assert!(matches!(
        successor.runner.status(&id).await.unwrap(),
        Status::Running { .. }
    ));
    std::fs::write(successor.job_directory(&id).join("go"), "").unwrap();
    assert!(successor.exit(&id).await.success());
    assert_eq!(successor.output(&id).await, b"ready\nwent on\n");
}

#[tokio::test]
async fn output_is_kept_raw_up_to_the_limit() {
    let bench = Bench::with(|options| options.output_limit = 3_000_000);
    // Binary bytes, then one line of 4 MB.
    let id = bench
        .launch(r"printf '\000\377\001\n'; head -c 4000000 /dev/zero | tr '\0' x; echo; echo end")
        .await;
    let exit = bench.exit(&id).await;
    let output = bench.output(&id).await;
    assert_eq!(&output[..4], [0, 0xff, 1, b'\n']);
    assert_eq!(exit.output_dropped, 4_000_009 - 3_000_000);
    assert_eq!(output[2_999_999], b'x');
    let notice = String::from_utf8(output[3_000_000..].to_vec()).unwrap();
    assert!(notice.contains("limit of 3000000 bytes"), "{notice}");
    assert!(exit.success());
}

#[tokio::test]
async fn what_cannot_be_run_says_why_and_leaves_nothing() {
    let bench = Bench::new();
    for (command, environment, reason) in [
        (vec!["no-such-program"], ("A", "b"), "program-not-found"),
        (vec![], ("A", "b"), "no-entry-point"),
        (vec!["true"], ("A=B", "b"), "bad-environment"),
        (vec!["true"], ("A", "b\0"), "bad-environment"),
    ] {
        let mut job = workload("");
        job.command = command.into_iter().map(str::to_owned).collect();
        job.environment = vec![(environment.0.to_owned(), environment.1.to_owned())];
        let error = bench.runner.launch(job, &line()).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert_eq!(bench.runner.list().await.unwrap().found, []);
    }
    let mut job = workload("");
    job.command = vec!["/bin/sh/none".to_owned()];
    let id = job.id.clone();
    bench.runner.launch(job, &line()).await.unwrap();
    let exit = bench.exit(&id).await;
    assert!(matches!(exit.cause, ExitCause::NotStarted(ref why) if why.contains("/bin/sh/none")));
}

#[tokio::test]
async fn a_launch_that_was_cut_short_is_cleared_away() {
    let bench = Bench::new();
    let cut = WorkloadId::new("cut", 1).unwrap();
    std::fs::create_dir_all(bench.job_directory(&cut)).unwrap();
    assert_eq!(bench.runner.status(&cut).await.unwrap(), Status::Absent);
    assert_eq!(bench.runner.list().await.unwrap().found, []);
    assert!(!bench.job_directory(&cut).exists());
}

#[tokio::test]
async fn the_check_names_a_shim_that_cannot_run() {
    Bench::new().runner.check().await.unwrap();
    let bench = Bench::with(|options| options.shim = vec![OsString::from("/none")]);
    let error = bench.runner.check().await.unwrap_err();
    assert!(error.to_string().contains("/none"), "{error}");
    assert!(!Path::new("/none").exists());
}
