//! The agent against a real server on a real port, with real children.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, in its helpers too")]

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use slipway_agent::{Agent, AgentError, AgentOptions, End, Handle};
use slipway_client::{ArtifactUpload, Client, ClientOptions, Content, Follow, OutputEvent, RecordEvent, SourceFile};
use slipway_model::agent_config::AgentConfig;
use slipway_server::{Server, ServerOptions};
use slipway_store::blobs::{BlobOptions, Blobs};
use slipway_store::identity::NewUser;
use slipway_store::{Options, Store};
use slipway_wire::item::{Failure, Item, Outcome, Report};
use slipway_wire::job::{self, JobFile};
use slipway_wire::queue::{Push, UpsertQueue};
use slipway_wire::run::UpsertRun;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

const KEY: &str = "slipway_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH";

/// How long a condition may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Within which a job hears of a stop. On a machine that does nothing else it takes milliseconds; an agent
/// that missed the word and looked by itself would take five seconds.
const STOP_HEARD: Duration = Duration::from_secs(4);

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

    async fn make_queue(&self, name: &str) {
        let queue = UpsertQueue {
            entity_name: "alice".to_owned(),
            project_name: "model-registry".to_owned(),
            queue_name: name.to_owned(),
            resource_type: "local-process".to_owned(),
            resource_config: json!({"resource_args": {"local-process": {"env": {"RUN": "${run_id}"}}}}).to_string(),
            template_variables: None,
            prioritization_mode: None,
            external_links: None,
            policy: None,
        };
        assert!(self.client.upsert_queue(&queue).await.unwrap().success);
    }

    async fn make_queue_and_job(&self) {
        self.make_queue("q").await;
        let run = UpsertRun {
            name: Some("maker".to_owned()),
            project: Some("proj".to_owned()),
            entity: Some("alice".to_owned()),
            ..UpsertRun::default()
        };
        self.client.upsert_run(&run).await.unwrap();
        let code = self
            .upload(
                "code",
                job::CODE_TYPE,
                &[("main.sh", b"echo from the code"), ("sub/here.txt", b"below\n")],
            )
            .await;
        let file = JobFile::code(&code, vec!["sh".to_owned(), "main.sh".to_owned()], "3.11");
        let file = serde_json::to_vec(&file).unwrap();
        self.upload("job", job::TYPE, &[(job::FILE, &file)]).await;
    }

    async fn upload(&self, collection: &str, kind: &str, files: &[(&str, &[u8])]) -> String {
        let file = |(name, bytes): &(&str, &[u8])| SourceFile {
            name: (*name).to_owned(),
            content: Content::Bytes(bytes.to_vec().into()),
        };
        let upload = ArtifactUpload {
            entity: "alice".to_owned(),
            project: "proj".to_owned(),
            run: "maker".to_owned(),
            collection: collection.to_owned(),
            kind: kind.to_owned(),
            description: None,
            metadata: json!({}),
            aliases: Vec::new(),
            files: files.iter().map(file).collect(),
        };
        self.client.upload_artifact(&upload).await.unwrap().id
    }

    /// Pushes a job that runs a script in place of its own entry point.
    async fn push(&self, script: &str) -> Pushed {
        self.push_in("", script).await
    }

    /// As [`Self::push`], in a directory of the job's code.
    async fn push_in(&self, directory: &str, script: &str) -> Pushed {
        let number = self.items.fetch_add(1, Ordering::Relaxed);
        let run = format!("run{number}");
        let spec = json!({
            "entity": "alice", "project": "proj", "job": "alice/proj/job:latest", "run_id": run,
            "resource": "local-process",
            "overrides": {"entry_point": ["sh", "-c", script], "working_dir": directory},
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

    /// Looks at an item whenever its record says that something happened.
    async fn wait_for(&self, pushed: &Pushed, states: &[&str]) -> Item {
        let what = format!("becomes {states:?}");
        self.wait_until(pushed, &what, |item| states.contains(&item.state.as_str()))
            .await
    }

    async fn wait_until(&self, pushed: &Pushed, what: &str, condition: impl Fn(&Item) -> bool) -> Item {
        let mut record = self.client.item_record(&pushed.id);
        in_time(&format!("{} {what}", pushed.run), async {
            while let Some(event) = record.next().await {
                if let RecordEvent::Disconnected(_) = event.unwrap() {
                    continue;
                }
                let item = self.client.item(&pushed.id).await.unwrap().unwrap();
                if condition(&item) {
                    return item;
                }
                let ended = ["FINISHED", "FAILED", "KILLED"].contains(&item.state.as_str());
                assert!(!ended, "not {what}: {item:?}");
            }
            panic!("the record of {} ended", pushed.run);
        })
        .await
    }

    async fn output(&self, pushed: &Pushed) -> String {
        let mut text = String::new();
        let mut events = self.client.item_output(&pushed.id, None, Follow::default());
        while let Some(event) = events.next().await {
            if let OutputEvent::Text { text: more, .. } = event.unwrap() {
                text.push_str(&more);
            }
        }
        text
    }

    /// Ends an item as the server does when its agent was lost for too long.
    async fn give_up(&self, agent: &str, handle: String) {
        let given_up = Report {
            run_queue_item_id: handle,
            outcome: Outcome::Failed,
            exit_code: None,
            stage: Some("agent".to_owned()),
            message: Some("given up".to_owned()),
            reason: Some("agent-lost".to_owned()),
            file_paths: None,
        };
        let results = self.client.finish(agent, &[given_up]).await.unwrap();
        assert!(results[0].success, "{results:?}");
    }

    async fn wait_for_output(&self, pushed: &Pushed, wanted: &str) {
        let follow = Follow { from: 0, follow: true };
        let mut events = self.client.item_output(&pushed.id, None, follow);
        in_time(&format!("{} prints {wanted:?}", pushed.run), async {
            let mut output = String::new();
            while !output.contains(wanted) {
                match events.next().await.unwrap().unwrap() {
                    OutputEvent::Text { text, .. } => output.push_str(&text),
                    OutputEvent::End { state } => panic!("{state} without {wanted:?}: {output:?}"),
                }
            }
        })
        .await;
    }

    fn agent(&self, change: impl FnOnce(&mut AgentConfig)) -> RunningAgent {
        self.start(self.agent_options(change))
    }

    fn start(&self, options: AgentOptions) -> RunningAgent {
        let agent = Agent::new(options, self.client.clone());
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

/// Forwards connections to a server, and keeps what is answered to one request back.
struct Gate {
    address: SocketAddr,
    open: watch::Sender<bool>,
    /// Whether there is something to hold back.
    asked: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Gate {
    /// Holds back whatever is answered to a connection once `text` was sent on it, until it is opened.
    async fn before(server: SocketAddr, text: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, opened) = watch::channel(false);
        let (seen, asked) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(Self::forward(client, server, text, seen.clone(), opened.clone()));
            }
        });
        Self {
            address,
            open,
            asked,
            task,
        }
    }

    async fn forward(
        client: TcpStream,
        server: SocketAddr,
        text: &str,
        seen: watch::Sender<bool>,
        mut opened: watch::Receiver<bool>,
    ) {
        let server = TcpStream::connect(server).await.unwrap();
        let (mut asked, mut answered) = client.into_split();
        let (mut answers, mut asks) = server.into_split();
        let held = watch::Sender::new(false);
        let ask = async {
            let (mut said, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
            while let Ok(count @ 1..) = asked.read(&mut buffer).await {
                said.extend_from_slice(&buffer[..count]);
                if said.windows(text.len()).any(|window| window == text.as_bytes()) {
                    held.send_replace(true);
                    seen.send_replace(true);
                }
                asks.write_all(&buffer[..count]).await.unwrap();
            }
        };
        let answer = async {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = answers.read(&mut buffer).await {
                if *held.borrow() {
                    opened.wait_for(|open| *open).await.unwrap();
                }
                if answered.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(ask, answer);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for a condition, and says which one did not come true.
async fn in_time<T>(what: &str, condition: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, condition).await {
        Ok(answer) => answer,
        Err(_) => panic!("not in time: {what}"),
    }
}

/// Waits until the last connection of a server that was stopped has let go of its directory.
async fn released(store: PathBuf) {
    let released = tokio::task::spawn_blocking(move || {
        if let Ok(lock) = std::fs::File::open(store.join("lock")) {
            rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        }
    });
    in_time("the store is released", released).await.unwrap();
}

async fn serve(data: PathBuf, address: SocketAddr, compat_official: bool) -> (SocketAddr, RunningServer) {
    let mut options = Options::sqlite(data.join("store"));
    options.require_durable = false;
    released(data.join("store")).await;
    let store = Store::open(options).await.unwrap();
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
async fn what_an_agent_that_was_killed_said_of_its_target_is_taken_down_once_the_target_answers() {
    let bench = Bench::new().await;
    let agent = bench.agent(|_| {});
    let pushed = bench.push("echo up; while :; do sleep 0.02; done").await;
    bench.begin_run(&pushed).await;
    bench.wait_for(&pushed, &["RUNNING"]).await;
    let agents = bench.client.agents("alice").await.unwrap();
    let held = bench.client.agent(&agents[0].id).await.unwrap().held_items;
    let handle = held[0].handle.clone().unwrap();
    agent.handle.leave();
    agent.task.await.unwrap().unwrap();
    let away = Failure {
        stage: "engine-away".to_owned(),
        message: "the engine is away".to_owned(),
        ..Failure::default()
    };
    bench.client.warn_item(&handle, &away).await.unwrap();
    bench
        .wait_until(&pushed, "is warned of", |item| {
            item.warning
                .as_ref()
                .is_some_and(|warning| warning.message == away.message)
        })
        .await;

    let successor = bench.agent(|_| {});
    bench
        .wait_until(&pushed, "is warned of no more", |item| item.warning.is_none())
        .await;
    bench.client.cancel_item(&pushed.id).await.unwrap();
    bench.wait_for(&pushed, &["KILLED"]).await;
    successor.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_ends_while_it_registers_takes_its_leave() {
    let bench = Bench::new().await;
    let gate = Gate::before(bench.address, "createLaunchAgent").await;
    let through = ClientOptions::new(format!("http://{}", gate.address), Some(KEY.to_owned()));
    let start = || {
        let agent = Agent::new(bench.agent_options(|_| {}), Client::new(through.clone()).unwrap());
        RunningAgent {
            handle: agent.handle(),
            task: tokio::spawn(agent.run()),
        }
    };
    let registered = async |epoch| {
        in_time("the agent is registered", async {
            loop {
                let agents = bench.client.agents("alice").await.unwrap();
                if let Some(agent) = agents.into_iter().find(|agent| agent.epoch == Some(epoch)) {
                    return agent;
                }
            }
        })
        .await
    };
    // The server has it, and the agent does not know yet.
    let agent = start();
    assert_eq!(registered(1).await.active, Some(true));
    agent.handle.drain();
    gate.open.send_replace(true);
    assert_eq!(agent.task.await.unwrap().unwrap(), End::Drained);
    assert_eq!(
        registered(1).await.active,
        Some(false),
        "it still counts as serving its queue"
    );

    // A server that says nothing more keeps it for a moment, and not at all after a second signal.
    for (epoch, leaves) in [(2, false), (3, true)] {
        gate.open.send_replace(false);
        let agent = start();
        registered(epoch).await;
        agent.handle.drain();
        if leaves {
            agent.handle.leave();
        }
        let end = in_time("the agent ends", agent.task).await.unwrap().unwrap();
        assert_eq!(end, End::Left { jobs: 0 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_waits_for_the_one_before_it() {
    let bench = Bench::new().await;
    let mut gate = Gate::before(bench.address, "updateLaunchAgent").await;
    let through = ClientOptions::new(format!("http://{}", gate.address), Some(KEY.to_owned()));
    let agent = Agent::new(bench.agent_options(|_| {}), Client::new(through).unwrap());
    let agent = RunningAgent {
        handle: agent.handle(),
        task: tokio::spawn(agent.run()),
    };
    in_time("the first word", gate.asked.wait_for(|asked| *asked))
        .await
        .unwrap();
    let go = bench.signal("go");
    let pushed = bench
        .push(&format!("while [ ! -e {} ]; do sleep 0.02; done", go.display()))
        .await;
    bench.wait_for(&pushed, &["RUNNING"]).await;
    let status = async || {
        bench
            .client
            .agents("alice")
            .await
            .unwrap()
            .remove(0)
            .agent_status
            .unwrap()
    };
    assert_eq!(status().await, "POLLING", "its first word is not answered yet");
    gate.open.send_replace(true);
    in_time("the next word", async { while status().await != "RUNNING" {} }).await;
    std::fs::write(&go, "").unwrap();
    assert_eq!(agent.drain().await, End::Drained);
    assert_eq!(status().await, "KILLED");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_taken_when_a_drain_is_taken_back() {
    let bench = Bench::new().await;
    let agent = bench.agent(|_| {});
    let go = bench.signal("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done", go.display());
    let first = bench.push(&script).await;
    bench.wait_for(&first, &["RUNNING"]).await;
    let known = async || bench.client.agents("alice").await.unwrap().remove(0);
    let drain = async |drain| bench.client.drain_agent(&known().await.id, drain).await.unwrap();
    drain(true).await;
    in_time("the server knows that it drains", async {
        while known().await.agent_status.as_deref() != Some("DRAINING") {}
    })
    .await;
    let second = bench.push(&script).await;
    drain(false).await;
    bench.wait_for(&second, &["RUNNING"]).await;
    std::fs::write(&go, "").unwrap();
    assert_eq!(agent.drain().await, End::Drained);
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
    rustix::fs::mkfifoat(rustix::fs::CWD, &ran, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let mut heard = pipe::OpenOptions::new().read_write(true).open_receiver(&ran).unwrap();
    let pushed = bench
        .push(&format!("echo $WANDB_LAUNCH_QUEUE_NAME > {}", ran.display()))
        .await;
    let mut line = [0; 2];
    in_time("the job runs", heard.read_exact(&mut line)).await.unwrap();
    assert_eq!(&line, b"q\n");
    bench.begin_run(&pushed).await;
    assert_eq!(agent.drain().await, End::Drained);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_item_has_ended_elsewhere_is_ended_and_its_slot_is_free() {
    let bench = Bench::new().await;
    let agent = bench.agent(|config| config.max_jobs = 1);
    let overtaken = bench.push("echo up; while :; do sleep 0.02; done").await;
    bench.wait_for_output(&overtaken, "up").await;
    // As if the agent had been lost for so long that the server gave the item up.
    let agents = bench.client.agents("alice").await.unwrap();
    let held = bench.client.agent(&agents[0].id).await.unwrap().held_items;
    let handle = held[0].handle.clone().unwrap();
    bench.give_up(&agents[0].id, handle).await;
    // The next renewal tells the agent, which has one slot.
    let next = bench.push("exit 3").await;
    bench.wait_for(&next, &["FAILED"]).await;
    let failure = bench.wait_for(&overtaken, &["FAILED"]).await.failure.unwrap();
    assert_eq!(
        failure.reason.as_deref(),
        Some("agent-lost"),
        "the agent reported nothing"
    );
    agent.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_a_job_that_is_ended_although_its_item_is_not_held() {
    let bench = Bench::new().await;
    let agent = bench.agent(|_| {});
    let (place, stopping, go) = (bench.signal("place"), bench.signal("stopping"), bench.signal("go"));
    let pushed = bench
        .push(&format!(
            "pwd > {}; trap 'echo x > {}; while [ ! -e {} ]; do sleep 0.02; done; exit 0' TERM; echo up; \
             while :; do sleep 0.02; done",
            place.display(),
            stopping.display(),
            go.display()
        ))
        .await;
    bench.wait_for_output(&pushed, "up").await;
    let agents = bench.client.agents("alice").await.unwrap();
    let held = bench.client.agent(&agents[0].id).await.unwrap().held_items;
    let handle = held[0].handle.clone().unwrap();
    agent.handle.leave();
    agent.task.await.unwrap().unwrap();
    // Its item is given up meanwhile.
    bench.give_up(&agents[0].id, handle).await;

    let successor = bench.agent(|_| {});
    in_time("the job hears that it is to end", async {
        while !stopping.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    successor.handle.drain();
    in_time("the server hears of the end", async {
        let status = async || bench.client.agents("alice").await.unwrap().remove(0).agent_status;
        while status().await.as_deref() != Some("KILLED") {}
    })
    .await;
    std::fs::write(&go, "").unwrap();
    let end = in_time("the agent ends", successor.task).await.unwrap().unwrap();
    assert_eq!(end, End::Drained);
    let place = PathBuf::from(std::fs::read_to_string(&place).unwrap().trim());
    assert!(!place.exists(), "what the job left is removed before the agent leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_list_of_queues_is_the_same_agent_which_goes_on_with_its_jobs() {
    let bench = Bench::new().await;
    let go = bench.signal("go");
    let unnamed = |queues: &'static [&str]| {
        bench.agent(|config| {
            config.name = None;
            config.queues = queues.iter().map(|queue| (*queue).to_owned()).collect();
        })
    };
    let first = unnamed(&["q"]);
    let script = format!("echo up; while [ ! -e {} ]; do sleep 0.02; done", go.display());
    let pushed = bench.push(&script).await;
    bench.wait_for_output(&pushed, "up").await;
    bench.begin_run(&pushed).await;
    first.handle.leave();
    assert_eq!(first.task.await.unwrap().unwrap(), End::Left { jobs: 1 });

    bench.make_queue("another").await;
    let second = unnamed(&["another", "q"]);
    std::fs::write(&go, "").unwrap();
    let item = bench.wait_for(&pushed, &["FINISHED"]).await;
    assert_eq!(item.attempt, Some(1));
    assert_eq!(bench.client.agents("alice").await.unwrap().len(), 1);
    second.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_in_the_directory_that_its_submitter_names() {
    let bench = Bench::new().await;
    let agent = bench.agent(|_| {});
    let below = bench.push_in("sub", "cat here.txt; exit 3").await;
    bench.wait_for(&below, &["FAILED"]).await;
    assert_eq!(bench.output(&below).await, "below\n");
    for directory in ["../..", "/etc", "absent"] {
        let refused = bench.push_in(directory, "true").await;
        let failure = bench.wait_for(&refused, &["FAILED"]).await.failure.unwrap();
        assert_eq!(failure.reason.as_deref(), Some("working-directory"), "{directory}");
        assert!(failure.message.contains(directory), "{}", failure.message);
    }
    agent.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_hears_of_it_at_once() {
    let bench = Bench::new().await;
    let agent = bench.agent(|_| {});
    let pushed = bench
        .push("trap 'echo stopping; exit 0' TERM; echo up; while :; do sleep 0.02; done")
        .await;
    bench.wait_for_output(&pushed, "up").await;
    bench.begin_run(&pushed).await;
    let run = bench.client.run("alice", "proj", &pushed.run).await.unwrap().unwrap();
    // As the run's page does it: the server tells the agent, and the agent signals the job.
    bench.client.stop_run(&run.id).await.unwrap();
    let asked = Instant::now();
    bench.wait_for_output(&pushed, "stopping").await;
    assert!(asked.elapsed() < STOP_HEARD, "{:?}", asked.elapsed());
    bench.wait_for(&pushed, &["KILLED"]).await;
    agent.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_does_not_start_in_time_fails_and_frees_its_slot() {
    let bench = Bench::new().await;
    let go = bench.signal("go");
    let folder = go.parent().unwrap().display();
    // It ends with the folder too, which may be gone before it looks again.
    let hangs = format!(
        "while [ -d {folder} ] && [ ! -e {} ]; do sleep 0.02; done",
        go.display()
    );
    let mut options = bench.agent_options(|config| {
        config.max_jobs = 1;
        config.start_timeout = Some(Duration::from_secs(1));
    });
    options.shim = ["sh", "-c", &hangs, "shim"].map(OsString::from).to_vec();
    let agent = bench.start(options);
    let pushed = [bench.push("true").await, bench.push("true").await];
    for pushed in &pushed {
        let failure = bench.wait_for(pushed, &["FAILED"]).await.failure.unwrap();
        assert_eq!(failure.reason.as_deref(), Some("start-failed"));
        assert!(
            failure.message.contains("did not start within 1 s"),
            "{}",
            failure.message
        );
    }
    std::fs::write(&go, "").unwrap();
    // One that ends afterwards leaves nothing behind.
    assert_eq!(agent.drain().await, End::Drained);
    let jobs = bench.root.path().join("agent/tester/jobs");
    assert_eq!(std::fs::read_dir(jobs).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_has_a_key_of_its_own_for_its_run_alone() {
    let bench = Bench::new().await;
    let (key, go) = (bench.signal("key"), bench.signal("go"));
    let agent = bench.agent(|_| {});
    let script = format!(
        "echo $WANDB_API_KEY > {}; echo up; while [ ! -e {} ]; do sleep 0.02; done",
        key.display(),
        go.display()
    );
    let pushed = bench.push(&script).await;
    bench.wait_for_output(&pushed, "up").await;
    let key = std::fs::read_to_string(key).unwrap().trim().to_owned();
    assert!(key.starts_with("slipway_") && key != KEY, "the agent's key, or none");
    let job = Client::new(ClientOptions::new(bench.client.base_url(), Some(key.clone()))).unwrap();
    let upsert = |run: &str| UpsertRun {
        name: Some(run.to_owned()),
        project: Some("proj".to_owned()),
        entity: Some("alice".to_owned()),
        host: Some("host".to_owned()),
        ..UpsertRun::default()
    };
    let own = job.upsert_run(&upsert(&pushed.run)).await.unwrap();
    assert_eq!(own.name, pushed.run);
    let other = job.upsert_run(&upsert("another")).await.unwrap_err();
    assert!(matches!(other, slipway_client::Error::Forbidden(_)), "{other}");
    let push = Push {
        entity_name: "alice".to_owned(),
        project_name: "model-registry".to_owned(),
        queue_name: "q".to_owned(),
        run_spec: json!({"job": "alice/proj/job:latest", "entity": "alice", "project": "proj"}).to_string(),
        priority: None,
        template_variable_values: None,
        idempotency_key: None,
        dry_run: false,
    };
    let launched = job.push(push).await.unwrap_err();
    assert!(
        launched.to_string().contains("run key may not operate queues"),
        "{launched}"
    );
    std::fs::write(&go, "").unwrap();
    let item = bench.wait_for(&pushed, &["FINISHED"]).await;
    let shown = format!("{item:?}{}", bench.output(&pushed).await);
    assert!(!shown.contains(&key), "the key is shown");
    agent.drain().await;
}
