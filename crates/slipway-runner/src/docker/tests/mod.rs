//! The target against an engine that is away, refuses, or answers late. What engines do when they are
//! well is tested with real ones.

mod scripted;

use std::path::PathBuf;

use serde_json::json;

use self::scripted::{Scripted, Turn};
use super::*;
use crate::News;

/// How long a condition may take; the clock is the test's own and jumps.
const DEADLINE: Duration = Duration::from_secs(3600);

struct Bench {
    root: tempfile::TempDir,
    engine: Scripted,
    runner: DockerRunner,
    line: Line,
    news: Arc<Mutex<Vec<News>>>,
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let engine = Scripted::new(root.path());
        let news = Arc::new(Mutex::new(Vec::new()));
        let ear = Arc::clone(&news);
        Self {
            runner: runner(root.path().join("containers"), &engine, "scope", 1 << 20),
            line: Line::new(move |one| ear.lock().unwrap().push(one)),
            root,
            engine,
            news,
        }
    }

    fn directory(&self) -> PathBuf {
        self.root.path().join("containers")
    }

    /// The runner of a later process.
    fn successor(&self, scope: &str) -> DockerRunner {
        runner(self.directory(), &self.engine, scope, 1 << 20)
    }

    async fn launched(&self) -> WorkloadId {
        let job = workload(&json!({}));
        let id = job.id.clone();
        self.runner.launch(job, &self.line).await.unwrap();
        id
    }

    async fn status(&self, id: &WorkloadId) -> Status {
        self.runner.status(id).await.unwrap()
    }

    async fn exit(&self, id: &WorkloadId) -> Exit {
        let exit = async {
            loop {
                if let Ok(Status::Exited(exit)) = self.runner.status(id).await {
                    return exit;
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::time::timeout(DEADLINE, exit).await.unwrap()
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let wait = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "in vain: {what}");
    }

    /// What was told about a stage.
    fn told(&self, stage: &str) -> Vec<String> {
        let news = self.news.lock().unwrap();
        let notices = news.iter().filter_map(|one| match one {
            News::Waits(notice) | News::Warns(notice) => Some(notice),
            News::GoesOn => None,
        });
        notices
            .filter(|notice| notice.stage == stage)
            .map(|notice| notice.message.clone())
            .collect()
    }

    fn left(&self) -> usize {
        fs::read_dir(self.directory()).map_or(0, Iterator::count)
    }

    async fn output(&self, id: &WorkloadId) -> String {
        String::from_utf8(self.runner.output(id, 0, 1 << 20).await.unwrap()).unwrap()
    }
}

fn runner(directory: PathBuf, engine: &Scripted, scope: &str, output_limit: u64) -> DockerRunner {
    let options = DockerOptions {
        directory,
        scope: scope.to_owned(),
        server: "https://api.example.com".to_owned(),
        allowed_env: Vec::new(),
        output_limit,
    };
    DockerRunner::at(options, Ok(Address(engine.address())), Vec::new())
}

fn workload(resource_args: &serde_json::Value) -> Workload {
    Workload {
        id: WorkloadId::new("item", 1).unwrap(),
        labels: BTreeMap::from([("run".to_owned(), "r".to_owned())]),
        resource: RESOURCE.to_owned(),
        image: Some("image:1".to_owned()),
        command: Vec::new(),
        arguments: Vec::new(),
        environment: Vec::new(),
        source: None,
        working_directory: None,
        resource_args: resource_args.clone(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_is_called_off_while_the_engine_is_away_starts_nothing() {
    for lost in [false, true] {
        let bench = Bench::new();
        bench.engine.script(move |call| match call {
            "POST /containers/create" if lost => Turn::Lost,
            _ => Turn::Away,
        });
        if lost {
            // The version has to be agreed on before anything is created.
            bench.engine.well();
            bench.runner.check().await.unwrap();
            bench.engine.script(|call| match call {
                "POST /containers/create" => Turn::Lost,
                _ => Turn::Away,
            });
        }
        let launch = bench.runner.launch(workload(&json!({})), &bench.line);
        let called_off = async {
            bench
                .until("the wait to be told", |bench| !bench.told("engine-away").is_empty())
                .await;
            bench.line.withdraw();
        };
        let (launched, ()) = tokio::join!(launch, called_off);
        assert!(matches!(launched, Err(RunnerError::Withdrawn)), "{launched:?}");
        assert_eq!(bench.engine.containers().len(), usize::from(lost));
        let found = bench.successor("scope").records().unwrap();
        assert!(found.iter().all(|record| bench.runner.directory(&record.id).has(DONE)));
        bench.engine.well();
        bench.until("what is left to go", |bench| bench.left() == 0).await;
        assert_eq!(bench.engine.containers().len(), 0);
        assert_eq!(bench.engine.count("POST /containers/c1/start"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_is_called_off_before_its_start_leaves_no_container() {
    let bench = Bench::new();
    let line = bench.line.clone();
    bench.engine.script(move |call| {
        if call == "POST /containers/create" {
            line.withdraw();
        }
        Turn::Usual
    });
    let launched = bench.runner.launch(workload(&json!({})), &bench.line).await;
    assert!(matches!(launched, Err(RunnerError::Withdrawn)), "{launched:?}");
    assert_eq!(bench.engine.count("POST /containers/c1/start"), 0);
    assert_eq!((bench.engine.containers().len(), bench.left()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_answer_was_lost_is_not_called_off_but_looked_after() {
    let bench = Bench::new();
    let line = bench.line.clone();
    bench.engine.script(move |call| {
        if call == "POST /containers/c1/start" {
            line.withdraw();
            return Turn::Lost;
        }
        Turn::Usual
    });
    bench.launched().await;
    assert_eq!(bench.engine.containers()[0].starts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_was_never_started_is_absent_and_not_lost() {
    let bench = Bench::new();
    let line = bench.line.clone();
    bench.engine.script(move |call| {
        if call == "POST /containers/c1/start" {
            line.withdraw();
            return Turn::Away;
        }
        Turn::Usual
    });
    let id = bench.launched().await;
    bench.engine.well();
    for _ in 0..2 {
        assert_eq!(bench.status(&id).await, Status::Absent);
    }
    assert_eq!(bench.engine.containers().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_for_what_and_what_the_engine_warns_of() {
    let bench = Bench::new();
    bench.engine.script(|call| match call {
        call if call.starts_with("GET /images") => Turn::Answer(404, "No such image"),
        "POST /images/create" => Turn::Late(Duration::from_secs(12)),
        _ => Turn::Usual,
    });
    let job = workload(&json!({}));
    let _ = bench.runner.prepare(&job, &bench.line).await;
    let told = bench.told("image-pull");
    assert!(
        told.len() >= 2 && told[0] == "the image `image:1` is being pulled, for 5 s: the engine tells of no layer yet",
        "{told:?}"
    );
    bench.engine.well();
    bench.launched().await;
    assert_eq!(bench.told("engine-warning"), ["the engine warns: no swap limit"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_the_engine_refuses_is_repeated_and_told() {
    let bench = Bench::new();
    let id = bench.launched().await;
    let mut refusals = 3;
    bench.engine.script(move |call| {
        if call == "POST /containers/c1/stop" && refusals > 0 {
            refusals -= 1;
            return Turn::Answer(500, "tried to kill container, but did not receive an exit event");
        }
        Turn::Usual
    });
    bench
        .runner
        .stop(&id, Duration::from_secs(5), &bench.line)
        .await
        .unwrap();
    let exit = bench.exit(&id).await;
    assert!(exit.stopped);
    assert_eq!(bench.engine.count("POST /containers/c1/stop?t=5"), 4);
    assert!(bench.told("stop")[0].contains("did not receive an exit event"));
}

#[tokio::test(start_paused = true)]
async fn a_paused_container_is_unpaused_to_be_stopped() {
    let bench = Bench::new();
    let id = bench.launched().await;
    bench.engine.change(|fake| fake.status = "paused");
    bench
        .runner
        .stop(&id, Duration::from_secs(5), &bench.line)
        .await
        .unwrap();
    assert!(bench.exit(&id).await.stopped);
    assert!(bench.told("unpaused")[0].contains("was unpaused"));
}

#[tokio::test(start_paused = true)]
async fn a_long_grace_is_one_request() {
    let bench = Bench::new();
    let id = bench.launched().await;
    bench.engine.script(|call| match call {
        "POST /containers/c1/stop" => Turn::Late(Duration::from_secs(500)),
        _ => Turn::Usual,
    });
    bench
        .runner
        .stop(&id, Duration::from_secs(500), &bench.line)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert_eq!(bench.engine.count("POST /containers/c1/stop"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_end_counts_as_stopped_if_it_came_after_the_stop_whatever_the_clocks_say() {
    let bench = Bench::new();
    let id = bench.launched().await;
    // Years ago, by the engine's clock.
    bench
        .runner
        .stop(&id, Duration::from_secs(5), &bench.line)
        .await
        .unwrap();
    assert!(bench.exit(&id).await.stopped);

    let bench = Bench::new();
    let id = bench.launched().await;
    bench.engine.change(|fake| {
        fake.status = "exited";
        fake.finished_at = "2100-01-01T00:00:00Z";
    });
    bench
        .runner
        .stop(&id, Duration::from_secs(5), &bench.line)
        .await
        .unwrap();
    assert!(!bench.exit(&id).await.stopped);
    assert_eq!(bench.engine.count("POST /containers/c1/stop"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_strangers_container_under_the_same_name_is_not_touched() {
    let bench = Bench::new();
    let job = workload(&json!({"name": "fixed"}));
    let id = job.id.clone();
    bench.runner.launch(job, &bench.line).await.unwrap();
    bench.engine.clear();
    bench.engine.stranger("fixed");
    bench.runner.stop(&id, Duration::ZERO, &bench.line).await.unwrap();
    let status = bench.successor("scope").status(&id).await.unwrap();
    assert!(
        matches!(
            status,
            Status::Lost {
                reason: "container-removed",
                ..
            }
        ),
        "{status:?}"
    );
    bench.runner.remove(&id).await.unwrap();
    bench.until("the record to go", |bench| bench.left() == 0).await;
    assert_eq!(bench.engine.containers()[0].status, "running");
    assert_eq!(bench.engine.count("POST /containers/fixed"), 0);
    assert_eq!(bench.engine.count("DELETE "), 0);
}

#[tokio::test(start_paused = true)]
async fn a_container_stays_the_agents_when_the_servers_address_changes() {
    let bench = Bench::new();
    let id = bench.launched().await;
    let successor = bench.successor("scope under another address");
    assert_eq!(successor.list().await.unwrap().found.len(), 1);
    let status = successor.status(&id).await.unwrap();
    assert!(matches!(status, Status::Running { .. }), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_workload_is_absent_only_once_the_engine_said_so() {
    let bench = Bench::new();
    let id = bench.launched().await;
    fs::remove_dir_all(bench.directory()).unwrap();
    let successor = bench.successor("scope");
    bench.engine.away();
    let listing = successor.list().await.unwrap();
    assert_eq!((listing.found.len(), listing.complete), (0, false));
    assert!(successor.status(&id).await.unwrap_err().is_away());
    bench.engine.well();
    let status = successor.status(&id).await.unwrap();
    assert!(matches!(status, Status::Running { .. }), "{status:?}");
    let other = WorkloadId::new("other", 1).unwrap();
    assert_eq!(successor.status(&other).await.unwrap(), Status::Absent);
    assert!(successor.list().await.unwrap().complete);
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_the_engine_refuses_is_repeated() {
    let bench = Bench::new();
    let id = bench.launched().await;
    bench.engine.change(|fake| fake.status = "exited");
    let mut refusals = 3;
    bench.engine.script(move |call| {
        if call == "DELETE /containers/c1" && refusals > 0 {
            refusals -= 1;
            return Turn::Answer(409, "removal of container c1 is already in progress");
        }
        Turn::Usual
    });
    bench.exit(&id).await;
    bench.runner.remove(&id).await.unwrap();
    bench
        .until("the container to go", |bench| bench.engine.containers().is_empty())
        .await;
    bench.until("the record to go", |bench| bench.left() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_is_not_done_yet_can_be_waited_for() {
    let bench = Bench::new();
    // Where nothing is to be removed, nothing is waited for.
    bench.runner.removed().await;
    let id = bench.launched().await;
    bench.engine.change(|fake| fake.status = "exited");
    bench.exit(&id).await;
    bench.engine.away();
    bench.runner.remove(&id).await.unwrap();
    // The one who looks for a container on its way out does so again when the engine is back.
    let back = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!((bench.engine.containers().len(), bench.left()), (1, 1));
        bench.engine.well();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = bench.runner.removed() => {}
        () = back => {}
    }
    assert_eq!((bench.engine.containers().len(), bench.left()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn output_goes_on_after_an_engine_failed_for_once() {
    let bench = Bench::new();
    let mut failures = 2;
    bench.engine.script(move |call| {
        if call.ends_with("/logs") && failures > 0 {
            failures -= 1;
            return Turn::Answer(500, "error while reading the log");
        }
        Turn::Usual
    });
    let id = bench.launched().await;
    bench.engine.change(|fake| {
        fake.status = "exited";
        fake.log = vec!["one", "two"];
    });
    bench.exit(&id).await;
    assert_eq!(bench.output(&id).await, "one\ntwo\n");
}

#[tokio::test(start_paused = true)]
async fn an_outcome_waits_for_the_end_of_the_output_while_the_engine_is_away() {
    let bench = Bench::new();
    let id = bench.launched().await;
    bench.engine.change(|fake| {
        fake.status = "exited";
        fake.log = vec!["last words"];
    });
    bench.engine.script(|call| match call {
        call if call.ends_with("/logs") => Turn::Away,
        _ => Turn::Usual,
    });
    for _ in 0..3 {
        assert!(bench.runner.status(&id).await.unwrap_err().is_away());
    }
    bench.engine.well();
    bench.exit(&id).await;
    assert_eq!(bench.output(&id).await, "last words\n");
}

#[tokio::test(start_paused = true)]
async fn output_beyond_the_limit_ends_with_a_word_about_it() {
    let bench = Bench::new();
    let runner = runner(bench.directory(), &bench.engine, "scope", 10);
    let job = workload(&json!({}));
    let id = job.id.clone();
    runner.launch(job, &bench.line).await.unwrap();
    bench.engine.change(|fake| {
        fake.status = "exited";
        fake.log = vec!["0123456789abc", "more"];
    });
    let status = runner.status(&id).await.unwrap();
    assert!(
        matches!(&status, Status::Exited(exit) if exit.output_dropped == 9),
        "{status:?}"
    );
    assert_eq!(
        bench.output(&id).await,
        "0123456789\n[slipway] the output limit of 10 bytes is reached; what follows is not kept\n"
    );
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_is_known_by_the_words_of_either_engine() {
    let words = "creating container storage: the container name \"fixed\" is already in use by 0. You have to remove \
                 that container to be able to reuse that name: that name is already in use";
    for (status, message) in [(409, "the name is in use"), (500, words)] {
        // By a stranger's container.
        let bench = Bench::new();
        bench.engine.stranger("fixed");
        bench.engine.script(move |call| match call {
            "POST /containers/create" => Turn::Answer(status, message),
            _ => Turn::Usual,
        });
        let job = workload(&json!({"name": "fixed"}));
        let error = bench.runner.launch(job, &bench.line).await.unwrap_err();
        assert_eq!(error.reason(), "name-taken", "{error}");
        // By its own, whose creation was not answered.
        let bench = Bench::new();
        let mut calls = 0;
        bench.engine.script(move |call| {
            calls += usize::from(call == "POST /containers/create");
            match (call, calls) {
                ("POST /containers/create", 1) => Turn::Lost,
                ("POST /containers/create", _) => Turn::Answer(status, message),
                _ => Turn::Usual,
            }
        });
        bench.launched().await;
        assert_eq!(
            (bench.engine.containers().len(), bench.engine.containers()[0].starts),
            (1, 1)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn directories_with_a_label_are_looked_for_before_an_engine_could_make_them() {
    let job = || workload(&json!({"volume": ["/data:/in:ro,z", "named:/v", "/plain:/p"], "name": "fixed"}));
    let bench = Bench::new();
    bench.runner.launch(job(), &bench.line).await.unwrap();
    let made = bench.engine.containers();
    assert_eq!((made.len(), made[0].starts), (1, 1));
    assert_eq!(
        made[0].body["HostConfig"]["Binds"],
        json!(["/data:/in:ro,z", "named:/v"])
    );
    assert_eq!(bench.engine.count("POST /containers/create"), 2);
    assert_eq!(bench.told("engine-warning").len(), 1);

    let bench = Bench::new();
    bench.engine.script(|call| match call {
        "POST /containers/create" => Turn::Answer(400, "bind source path does not exist: /data"),
        _ => Turn::Usual,
    });
    let error = bench.runner.launch(job(), &bench.line).await.unwrap_err();
    assert_eq!(error.reason(), "path-missing");
    assert_eq!(bench.engine.count("POST /containers/create"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_stays_unreadable_is_lost_and_its_container_goes() {
    let bench = Bench::new();
    let id = bench.launched().await;
    let readable = bench.status(&id).await;
    assert!(matches!(readable, Status::Running { .. }), "{readable:?}");
    bench.engine.script(|call| match call {
        "GET /containers/c1/json" => Turn::Garbage,
        _ => Turn::Usual,
    });
    tokio::time::sleep(TRUST).await;
    let began = Instant::now();
    let (reason, message) = loop {
        match bench.runner.status(&id).await {
            Err(error) => assert_eq!(error.reason(), "target-unreadable"),
            Ok(Status::Lost { reason, message }) => break (reason, message),
            Ok(other) => panic!("{other:?}"),
        }
        assert!(began.elapsed() <= UNREADABLE + AGAIN);
        tokio::time::sleep(AGAIN).await;
    };
    assert!(began.elapsed() >= UNREADABLE);
    assert_eq!(reason, "status-unreadable");
    assert!(message.contains("answers what cannot be read"), "{message}");
    bench.runner.stop(&id, Duration::ZERO, &bench.line).await.unwrap();
    bench
        .until("the stop", |bench| bench.engine.count("POST /containers/c1/stop") == 1)
        .await;
    bench.runner.remove(&id).await.unwrap();
    bench.until("the record to go", |bench| bench.left() == 0).await;
    assert!(bench.engine.containers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_state_that_stays_unreadable_is_lost_also_where_nothing_is_recorded() {
    for garbled in ["GET /containers/c1/json", "GET /containers/json"] {
        let bench = Bench::new();
        let id = bench.launched().await;
        fs::remove_dir_all(bench.directory()).unwrap();
        let successor = bench.successor("scope");
        bench.engine.script(move |call| match call {
            call if call == garbled => Turn::Garbage,
            _ => Turn::Usual,
        });
        let began = Instant::now();
        let reason = loop {
            match successor.status(&id).await {
                Err(error) => assert_eq!(error.reason(), "target-unreadable"),
                Ok(Status::Lost { reason, .. }) => break reason,
                Ok(other) => panic!("{other:?}"),
            }
            assert!(began.elapsed() <= UNREADABLE + AGAIN, "{garbled}");
            tokio::time::sleep(AGAIN).await;
        };
        assert!(began.elapsed() >= UNREADABLE);
        assert_eq!(reason, "status-unreadable");
        if garbled == "GET /containers/c1/json" {
            // It is known by the engine's list, and goes.
            successor.stop(&id, Duration::ZERO, &bench.line).await.unwrap();
            successor.remove(&id).await.unwrap();
            bench.until("the record to go", |bench| bench.left() == 0).await;
            assert!(bench.engine.containers().is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_looked_at_when_a_container_was_adopted_is_looked_at_later() {
    let bench = Bench::new();
    let job = workload(&json!({"tty": true}));
    let id = job.id.clone();
    bench.runner.launch(job, &bench.line).await.unwrap();
    fs::remove_dir_all(bench.directory()).unwrap();
    bench.engine.script(|call| match call {
        "GET /containers/c1/json" => Turn::Answer(404, "No such container"),
        _ => Turn::Usual,
    });
    let successor = bench.successor("scope");
    assert_eq!(successor.list().await.unwrap().found.len(), 1);
    assert_eq!(successor.record(&id).unwrap().unwrap().tty, None);
    bench.engine.well();
    let status = successor.status(&id).await.unwrap();
    assert!(matches!(status, Status::Running { .. }), "{status:?}");
    assert_eq!(successor.record(&id).unwrap().unwrap().tty, Some(true));
}

#[tokio::test(start_paused = true)]
async fn a_job_is_stopped_and_removed_where_nothing_can_be_written() {
    let bench = Bench::new();
    let id = bench.launched().await;
    for name in [RECORD, directory::STOP, DONE] {
        // No new file can be made, as on a full disk.
        fs::create_dir(bench.runner.directory(&id).file(&format!("{name}.new"))).unwrap();
    }
    let grace = Duration::from_secs(5);
    bench.runner.stop(&id, grace, &bench.line).await.unwrap();
    assert!(bench.exit(&id).await.stopped);
    bench.runner.remove(&id).await.unwrap();
    bench.until("the record to go", |bench| bench.left() == 0).await;
    assert!(bench.engine.containers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stays_unreadable_ends_a_launch() {
    let bench = Bench::new();
    bench.engine.script(|call| match call {
        "POST /containers/create" => Turn::Garbage,
        _ => Turn::Usual,
    });
    let began = Instant::now();
    let error = bench
        .runner
        .launch(workload(&json!({})), &bench.line)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "target-unreadable");
    assert!((UNREADABLE..UNREADABLE * 2).contains(&began.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn an_option_that_the_engine_would_ignore_is_refused() {
    for (args, option) in [
        (json!({"annotation": "a=b"}), "annotation"),
        (
            json!({"mac-address": "02:42:0a:01:00:05", "network": ["one", "name=two,mac-address=02:42:0a:01:00:06"]}),
            "mac-address",
        ),
        (json!({"mount": "src=v,dst=/v,volume-subpath=a"}), "volume-subpath"),
    ] {
        let bench = Bench::new();
        let job = || workload(&args);
        for error in [
            bench.runner.prepare(&job(), &bench.line).await.unwrap_err(),
            bench.runner.launch(job(), &bench.line).await.unwrap_err(),
        ] {
            assert_eq!(error.reason(), "engine-too-old");
            assert!(error.to_string().contains(&format!("`{option}`")), "{error}");
        }
        assert_eq!(bench.engine.count("POST /containers/create"), 0);
        // Podman says this of itself whatever it can do.
        bench
            .engine
            .components(json!([{"Name": "Podman Engine", "Version": "4.3.1"}]));
        let launched = bench.runner.launch(job(), &bench.line).await;
        assert_eq!(launched.is_ok(), option == "mac-address", "{launched:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mac_address_is_where_an_earlier_engine_looks_for_it() {
    for args in [
        json!({"mac-address": "02:42:0a:01:00:05"}),
        json!({"network": ["name=one,mac-address=02:42:0a:01:00:05", "two"]}),
    ] {
        let bench = Bench::new();
        bench.runner.prepare(&workload(&args), &bench.line).await.unwrap();
        bench.runner.launch(workload(&args), &bench.line).await.unwrap();
        let body = bench.engine.containers()[0].body.clone();
        assert_eq!(body["MacAddress"], "02:42:0a:01:00:05");
        assert_eq!(body["Image"], "image:1");
    }
}

#[test]
fn an_end_is_a_code_a_signal_or_a_lack_of_memory() {
    let state = |code: i64, oom: bool, error: &str| ContainerState {
        exit_code: Some(code),
        oom_killed: Some(oom),
        error: Some(error.to_owned()),
        ..ContainerState::default()
    };
    for (state, expected) in [
        (state(0, false, ""), ExitCause::Code(0)),
        (state(3, false, ""), ExitCause::Code(3)),
        (state(127, false, ""), ExitCause::Code(127)),
        (state(137, false, ""), ExitCause::Signal(9)),
        (state(143, false, ""), ExitCause::Signal(15)),
        (state(137, true, ""), ExitCause::OutOfMemory),
        (state(0, true, ""), ExitCause::Code(0)),
        (state(1, true, ""), ExitCause::Code(1)),
        (state(255, false, ""), ExitCause::Code(255)),
        (
            state(127, false, "no program"),
            ExitCause::NotStarted("no program".to_owned()),
        ),
    ] {
        assert_eq!(cause(&state), expected);
    }
}
