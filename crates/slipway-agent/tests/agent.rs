//! The agent against a real server on a real port, with real children.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, in its helpers too")]

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use slipway_agent::{Agent, AgentError, AgentOptions, End, Handle};
use slipway_client::{ArtifactUpload, Client, ClientOptions, Content, Follow, OutputEvent, SourceFile};
use slipway_model::agent_config::AgentConfig;
use slipway_server::{Server, ServerOptions};
use slipway_store::blobs::{BlobOptions, Blobs};
use slipway_store::identity::NewUser;
use slipway_store::{Options, Store};
use slipway_wire::item::Item;
use slipway_wire::job::{self, JobFile};
use slipway_wire::queue::{Push, UpsertQueue};
use slipway_wire::run::UpsertRun;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const KEY: &str = "slipway_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH";

/// How long a condition may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The agent starts this very program as the shim of a job, with the job directory as its last
/// argument. In an ordinary test run it does nothing.
#[test]
fn shim_entry() {
    if let Some(directory) = std::env::args()
        .skip(1)
        .last()
        .filter(|argument| argument.starts_with('/'))
    {
        let code = slipway_runner::process::shim::run(&PathBuf::from(directory));
        std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
    }
}

struct RunningServer {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

struct Bench {
    root: tempfile::TempDir,
    address: SocketAddr,
    server: Option<RunningServer>,
    client: Client,
    items: AtomicU64,
}

impl Bench {
    async fn new() -> Self {
        Self::with(false).await
    }

    async fn with(compat_official: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, server) = serve(root.path().join("data"), any, compat_official).await;
        let client = Client::new(ClientOptions::new(format!("http://{address}"), Some(KEY.to_owned()))).unwrap();
        let bench = Self {
            root,
            address,
            server: Some(server),
            client,
            items: AtomicU64::new(0),
        };
        bench.make_queue_and_job().await;
        bench
    }

    async fn stop_server(&mut self) {
        let server = self.server.take().unwrap();
        let _ = server.stop.send(());
        server.task.await.unwrap();
    }

    async fn start_server(&mut self) {
        let (_, server) = serve(self.root.path().join("data"), self.address, false).await;
        self.server = Some(server);
    }

    async fn make_queue_and_job(&self) {
        let queue = UpsertQueue {
            entity_name: "alice".to_owned(),
            project_name: "model-registry".to_owned(),
            queue_name: "q".to_owned(),
            resource_type: "local-process".to_owned(),
            resource_config: json!({"resource_args": {"local-process": {"env": {"RUN": "${run_id}"}}}}).to_string(),
            template_variables: None,
            prioritization_mode: None,
            external_links: None,
            policy: None,
        };
        assert!(self.client.upsert_queue(&queue).await.unwrap().success);
        let run = UpsertRun {
            name: Some("maker".to_owned()),
            project: Some("proj".to_owned()),
            entity: Some("alice".to_owned()),
            ..UpsertRun::default()
        };
        self.client.upsert_run(&run).await.unwrap();
        let code = self
            .upload("code", job::CODE_TYPE, "main.sh", b"echo from the code".to_vec())
            .await;
        let file = JobFile::code(&code, vec!["sh".to_owned(), "main.sh".to_owned()], "3.11");
        self.upload("job", job::TYPE, job::FILE, serde_json::to_vec(&file).unwrap())
            .await;
    }

    async fn upload(&self, collection: &str, kind: &str, name: &str, bytes: Vec<u8>) -> String {
        let upload = ArtifactUpload {
            entity: "alice".to_owned(),
            project: "proj".to_owned(),
            run: "maker".to_owned(),
            collection: collection.to_owned(),
            kind: kind.to_owned(),
            description: None,
            metadata: json!({}),
            aliases: Vec::new(),
            files: vec![SourceFile {
                name: name.to_owned(),
                content: Content::Bytes(bytes.into()),
            }],
        };
        self.client.upload_artifact(&upload).await.unwrap().id
    }

    /// Pushes a job that runs a script in place of its own entry point.
    async fn push(&self, script: &str) -> Pushed {
        let number = self.items.fetch_add(1, Ordering::Relaxed);
        let run = format!("run{number}");
        let spec = json!({
            "entity": "alice", "project": "proj", "job": "alice/proj/job:latest", "run_id": run,
            "resource": "local-process", "overrides": {"entry_point": ["sh", "-c", script]},
        });
        let push = Push {
            entity_name: "alice".to_owned(),
            project_name: "model-registry".to_owned(),
            queue_name: "q".to_owned(),
            run_spec: spec.to_string(),
            priority: None,
            template_variable_values: None,
            idempotency_key: None,
            dry_run: false,
        };
        let pushed = self.client.push(push).await.unwrap();
        Pushed {
            id: pushed.run_queue_item_id.unwrap(),
            run,
        }
    }

    /// What `wandb.init` in the job would do.
    async fn begin_run(&self, pushed: &Pushed) {
        let run = UpsertRun {
            name: Some(pushed.run.clone()),
            project: Some("proj".to_owned()),
            entity: Some("alice".to_owned()),
            host: Some("host".to_owned()),
            ..UpsertRun::default()
        };
        self.client.upsert_run(&run).await.unwrap();
    }

    async fn wait_for(&self, pushed: &Pushed, states: &[&str]) -> Item {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let item = self.client.item(&pushed.id).await.unwrap().unwrap();
            if states.contains(&item.state.as_str()) {
                return item;
            }
            let ended = ["FINISHED", "FAILED", "KILLED"].contains(&item.state.as_str());
            assert!(!ended && Instant::now() < deadline, "not {states:?}: {item:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn output(&self, pushed: &Pushed) -> String {
        use futures::StreamExt as _;
        let mut text = String::new();
        let mut events = self.client.item_output(&pushed.id, None, Follow::default());
        while let Some(event) = events.next().await {
            if let OutputEvent::Text { text: more, .. } = event.unwrap() {
                text.push_str(&more);
            }
        }
        text
    }

    async fn wait_for_output(&self, pushed: &Pushed, wanted: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let output = self.output(pushed).await;
            if output.contains(wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "{wanted:?} is not in {output:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn agent(&self, change: impl FnOnce(&mut AgentConfig)) -> RunningAgent {
        let agent = Agent::new(self.agent_options(change), self.client.clone());
        let handle = agent.handle();
        RunningAgent {
            handle,
            task: tokio::spawn(agent.run()),
        }
    }

    fn agent_options(&self, change: impl FnOnce(&mut AgentConfig)) -> AgentOptions {
        let mut config = AgentConfig {
            queues: vec!["q".to_owned()],
            name: Some("tester".to_owned()),
            max_jobs: 4,
            ..AgentConfig::default()
        };
        config.process.enabled = true;
        change(&mut config);
        let program = std::env::current_exe().unwrap();
        let arguments = ["--exact", "shim_entry", "--nocapture", "--"].map(OsString::from);
        AgentOptions {
            config,
            state_directory: self.root.path().join("agent"),
            hostname: "host".to_owned(),
            version: "slipway@test".to_owned(),
            take_over: false,
            shim: [program.into_os_string()].into_iter().chain(arguments).collect(),
        }
    }

    /// A file that tells a waiting job to go on.
    fn signal(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }
}

struct Pushed {
    id: String,
    run: String,
}

struct RunningAgent {
    handle: Handle,
    task: JoinHandle<Result<End, AgentError>>,
}

impl RunningAgent {
    async fn drain(self) -> End {
        self.handle.drain();
        self.task.await.unwrap().unwrap()
    }
}

async fn serve(data: PathBuf, address: SocketAddr, compat_official: bool) -> (SocketAddr, RunningServer) {
    let mut options = Options::sqlite(data.join("store"));
    options.require_durable = false;
    // The last connection of a server that was stopped may still hold the directory.
    let deadline = Instant::now() + DEADLINE;
    let store = loop {
        match Store::open(options.clone()).await {
            Ok(store) => break store,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    if store.user("alice").await.unwrap().is_none() {
        let user = NewUser {
            username: "alice".to_owned(),
            name: String::new(),
            email: String::new(),
            admin: true,
            service_of: None,
            password_hash: None,
        };
        store.create_user(user, 0).await.unwrap();
        let digest: [u8; 32] = Sha256::digest(KEY).into();
        store.add_key("alice", digest, "slipway_0", "", None, 0).await.unwrap();
    }
    let blobs = Blobs::open(&BlobOptions::Local {
        dir: data.join("blobs"),
    })
    .unwrap();
    let options = ServerOptions {
        listen: address,
        compat_official,
        drain_timeout: Duration::from_millis(200),
        ..ServerOptions::default()
    };
    let listening = Server::new(options, store, blobs).bind().await.unwrap();
    let address = listening.address();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(listening.run(async {
        let _ = stopped.await;
    }));
    (address, RunningServer { stop, task })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_to_its_end_and_its_lines_arrive() {
    let bench = Bench::new().await;
    let agent = bench.agent(|_| {});
    let go = bench.signal("go");
    let pushed = bench
        .push(&format!(
            "sh main.sh; echo $RUN $WANDB_RUN_ID $WANDB_ENTITY; while [ ! -e {} ]; do sleep 0.02; done; exit 0",
            go.display()
        ))
        .await;
    bench.wait_for(&pushed, &["RUNNING"]).await;
    bench.begin_run(&pushed).await;
    bench.wait_for_output(&pushed, "from the code").await;
    std::fs::write(&go, "").unwrap();
    let item = bench.wait_for(&pushed, &["FINISHED"]).await;
    assert_eq!(item.exit_code, Some(0));
    assert_eq!(bench.output(&pushed).await, "from the code\nrun0 run0 alice\n");
    assert_eq!(agent.drain().await, End::Drained);
    let jobs = bench.root.path().join("agent/tester/jobs");
    assert_eq!(jobs.read_dir().unwrap().count(), 0, "the job directory was not removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_carry_stage_reason_and_last_lines() {
    let bench = Bench::new().await;
    let agent = bench.agent(|_| {});
    for (script, stage, reason, text) in [
        ("echo good bye", "run", "no-run", "never called wandb.init"),
        ("echo oh no >&2; exit 7", "run", "exit-code", "oh no"),
        ("kill -KILL $$", "run", "signal", "signal 9"),
    ] {
        let pushed = bench.push(script).await;
        let failure = bench.wait_for(&pushed, &["FAILED"]).await.failure.unwrap();
        let found = (failure.stage.as_str(), failure.reason.as_deref());
        assert_eq!(found, (stage, Some(reason)), "{script}");
        assert!(failure.message.contains(text), "{}", failure.message);
    }
    agent.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_the_process_target_says_how_to_enable_it() {
    let bench = Bench::new().await;
    let agent = bench.agent(|config| config.process.enabled = false);
    let pushed = bench.push("true").await;
    let failure = bench.wait_for(&pushed, &["FAILED"]).await.failure.unwrap();
    assert_eq!(failure.reason.as_deref(), Some("process-disabled"));
    assert!(
        failure.message.contains("process: {enabled: true}"),
        "{}",
        failure.message
    );
    agent.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_is_stopped_and_killed_if_it_does_not_listen() {
    let bench = Bench::new().await;
    let agent = bench.agent(|config| config.stopped_run_timeout = Duration::from_millis(300));
    let polite = bench
        .push("trap 'echo stopping; exit 0' TERM; echo up; while :; do sleep 0.02; done")
        .await;
    let deaf = bench.push("trap '' TERM; echo up; while :; do sleep 0.02; done").await;
    for pushed in [&polite, &deaf] {
        bench.wait_for_output(pushed, "up").await;
        bench.client.cancel_item(&pushed.id).await.unwrap();
    }
    bench.wait_for(&polite, &["KILLED"]).await;
    assert!(bench.output(&polite).await.contains("stopping"));
    let item = bench.wait_for(&deaf, &["KILLED"]).await;
    assert_eq!(item.exit_code, Some(128 + 9));
    agent.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_takes_running_and_ended_jobs_over() {
    let bench = Bench::new().await;
    let (go, start) = (bench.signal("go"), bench.signal("started"));
    let agent = bench.agent(|_| {});
    let script = |then: &str| {
        format!(
            "echo x >> {}; echo up; while [ ! -e {} ]; do sleep 0.02; done; {then}",
            start.display(),
            go.display()
        )
    };
    let running = bench.push(&script("while :; do sleep 0.02; done")).await;
    let ending = bench.push(&script("echo done; exit 0")).await;
    for pushed in [&running, &ending] {
        bench.wait_for_output(pushed, "up").await;
        bench.begin_run(pushed).await;
    }
    agent.handle.leave();
    assert_eq!(agent.task.await.unwrap().unwrap(), End::Left { jobs: 2 });
    // One ends while no agent looks.
    std::fs::write(&go, "").unwrap();

    let successor = bench.agent(|_| {});
    assert_eq!(bench.wait_for(&ending, &["FINISHED"]).await.exit_code, Some(0));
    assert_eq!(bench.output(&ending).await, "up\ndone\n");
    assert_eq!(bench.wait_for(&running, &["RUNNING"]).await.attempt, Some(1));
    bench.client.cancel_item(&running.id).await.unwrap();
    bench.wait_for(&running, &["KILLED"]).await;
    assert_eq!(
        std::fs::read_to_string(&start).unwrap(),
        "x\nx\n",
        "a job was started twice"
    );
    successor.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_on_while_the_server_is_gone_and_are_reported_later() {
    let mut bench = Bench::new().await;
    let go = bench.signal("go");
    let agent = bench.agent(|_| {});
    let pushed = bench
        .push(&format!(
            "echo up; while [ ! -e {} ]; do sleep 0.02; done; echo end; exit 0",
            go.display()
        ))
        .await;
    bench.wait_for_output(&pushed, "up").await;
    bench.begin_run(&pushed).await;
    bench.stop_server().await;
    std::fs::write(&go, "").unwrap();
    bench.start_server().await;
    bench.wait_for(&pushed, &["FINISHED"]).await;
    assert_eq!(bench.output(&pushed).await, "up\nend\n");
    agent.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_cannot_serve_says_why() {
    let bench = Bench::new().await;
    let missing = bench.agent(|config| config.queues = vec!["none".to_owned(), "q".to_owned(), "nor".to_owned()]);
    let error = missing.task.await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "entity `alice` has no queue named `none`, `nor`; it has `q`"
    );

    let first = bench.agent(|_| {});
    let pushed = bench.push("exit 3").await;
    bench.wait_for(&pushed, &["FAILED"]).await;
    let second = bench.agent(|_| {}).task.await.unwrap().unwrap_err();
    assert!(matches!(second, AgentError::AlreadyRunning { .. }), "{second}");
    first.drain().await;

    let report = Agent::new(bench.agent_options(|_| {}), bench.client.clone())
        .check()
        .await;
    assert!(report.passed(), "{report:?}");
    let wrong = bench.agent_options(|config| config.queues = vec!["none".to_owned()]);
    let report = Agent::new(wrong, bench.client.clone()).check().await;
    assert!(
        !report.passed() && format!("{report:?}").contains("`none`"),
        "{report:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_additions_is_served_by_polling() {
    let bench = Bench::with(true).await;
    let agent = bench.agent(|config| {
        config.resource_args_policy = slipway_model::agent_config::ResourceArgsPolicy::Trust;
    });
    let ran = bench.signal("ran");
    let pushed = bench
        .push(&format!("echo $WANDB_LAUNCH_QUEUE_NAME > {}", ran.display()))
        .await;
    let deadline = Instant::now() + DEADLINE;
    while std::fs::read_to_string(&ran).unwrap_or_default() != "q\n" {
        assert!(Instant::now() < deadline, "the job did not run");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.begin_run(&pushed).await;
    assert_eq!(agent.drain().await, End::Drained);
}
