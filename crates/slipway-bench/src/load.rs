//! The measurements: each drives the server in one way and says how fast it went.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures::future::try_join_all;
use http_body_util::BodyExt as _;
use rand::RngExt as _;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slipway_wire::document::{Document, additions, official};

use crate::connection::{Connection, body};
use crate::server::{Server, USER, Used};

/// The project in which queues live.
const QUEUE_PROJECT: &str = "model-registry";

/// A queue of the measurements.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    name: String,
    id: String,
}

impl Queue {
    /// Makes a queue with an empty configuration.
    pub(crate) async fn create(server: &Server, name: &str) -> Result<Self> {
        let mut connection = Connection::open(server).await?;
        connection
            .call::<IgnoredAny>(
                &official::UPSERT_RUN_QUEUE,
                &json!({"entityName": USER, "projectName": QUEUE_PROJECT, "queueName": name,
                    "resourceType": "local-container", "resourceConfig": "{\"resource_args\":{\"local-container\":{}}}"}),
            )
            .await?;
        let data: Value = connection
            .call(
                &official::GET_RUN_QUEUE_METADATA,
                &json!({"entityName": USER, "projectName": QUEUE_PROJECT, "runQueue": name}),
            )
            .await?;
        let id = data["project"]["runQueue"]["id"]
            .as_str()
            .context("the queue has no id")?
            .to_owned();
        Ok(Self {
            name: name.to_owned(),
            id,
        })
    }
}

/// What stands in a spec where each push of its own has a number.
const NUMBER: &str = "@number@";

/// A launch spec of about 600 bytes.
fn spec() -> String {
    json!({
        "entity": USER, "project": "bench", "name": format!("run {NUMBER} of the benchmark"), "docker": {"docker_image": "registry.example/team/train:1"},
        "resource": "local-container", "author": USER, "git": {},
        "overrides": {"args": ["--epochs", "10", "--data", "/mnt/datasets/digits"],
            "run_config": {"learning_rate": 0.01, "batch_size": 32, "note": "x".repeat(250)}, "entry_point": ["python", "train.py"]},
        "resource_args": {"local-container": {"env": ["A=1", "B=2"]}},
    })
    .to_string()
}

/// Single pushes, each with a spec of its own: the server takes a push that it is asked for twice for
/// one that was sent again.
struct Singles {
    head: String,
    tail: String,
    next: AtomicUsize,
}

impl Singles {
    fn new(queue: &Queue) -> Result<Self> {
        let text = json!({
            "operationName": official::PUSH.name,
            "query": official::PUSH.text,
            "variables": {"entityName": USER, "projectName": QUEUE_PROJECT, "queueName": queue.name, "runSpec": spec()},
        })
        .to_string();
        let (head, tail) = text
            .split_once(NUMBER)
            .context("the spec has no place for its number")?;
        Ok(Self {
            head: head.to_owned(),
            tail: tail.to_owned(),
            next: AtomicUsize::new(0),
        })
    }

    fn next(&self) -> Bytes {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Bytes::from(format!("{}{number:010}{}", self.head, self.tail))
    }
}

fn bulk(queue: &Queue, size: usize) -> Result<Bytes> {
    let items: Vec<Value> = (0..size).map(|_| json!({"runSpec": spec()})).collect();
    body(
        &additions::PUSH_MANY,
        &json!({"input": {"entityName": USER, "projectName": QUEUE_PROJECT, "queueName": queue.name, "items": items}}),
    )
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

/// Pushes one by one from many connections.
pub(crate) async fn push_single(server: &Server, queue: &Queue, count: usize, clients: usize) -> Result<(f64, Used)> {
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(Connection::open(server).await?);
    }
    let left = Arc::new(AtomicUsize::new(count));
    let bodies = Arc::new(Singles::new(queue)?);
    let meter = server.meter()?;
    try_join_all(connections.into_iter().map(|mut connection| {
        let (left, bodies) = (left.clone(), bodies.clone());
        tokio::spawn(async move {
            while take(&left) {
                connection.post::<IgnoredAny>(bodies.next()).await?;
            }
            anyhow::Ok(())
        })
    }))
    .await?
    .into_iter()
    .collect::<Result<()>>()?;
    Ok((rate(count, meter.elapsed()), meter.used()?))
}

fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        .is_ok()
}

/// Pushes in bulks from a few connections.
pub(crate) async fn push_bulk(
    server: &Server,
    queue: &Queue,
    count: usize,
    size: usize,
    clients: usize,
) -> Result<(f64, Used)> {
    let calls = count.div_ceil(size);
    let left = Arc::new(AtomicUsize::new(calls));
    let body = bulk(queue, size)?;
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(Connection::open(server).await?);
    }
    let meter = server.meter()?;
    try_join_all(connections.into_iter().map(|mut connection| {
        let (left, body) = (left.clone(), body.clone());
        tokio::spawn(async move {
            while take(&left) {
                connection.post::<IgnoredAny>(body.clone()).await?;
            }
            anyhow::Ok(())
        })
    }))
    .await?
    .into_iter()
    .collect::<Result<()>>()?;
    Ok((rate(calls * size, meter.elapsed()), meter.used()?))
}

/// Spreads items over many queues.
pub(crate) async fn fill(server: &Server, queues: &[Queue], count: usize) -> Result<(f64, Used)> {
    let each = count / queues.len();
    let next = Arc::new(AtomicUsize::new(0));
    let queues: Arc<[Queue]> = queues.into();
    let meter = server.meter()?;
    try_join_all((0..4).map(|_| {
        let (next, queues) = (next.clone(), queues.clone());
        let connection = Connection::open(server);
        async move {
            let mut connection = connection.await?;
            loop {
                let Some(queue) = queues.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    return anyhow::Ok(());
                };
                connection.post::<IgnoredAny>(bulk(queue, each)?).await?;
            }
        }
    }))
    .await?;
    Ok((rate(each * queues.len(), meter.elapsed()), meter.used()?))
}

/// An agent that speaks the additions.
struct Agent {
    id: String,
    connection: Connection,
}

impl Agent {
    async fn register(server: &Server, queues: &[&Queue], name: &str) -> Result<Self> {
        let mut connection = Connection::open(server).await?;
        let ids: Vec<&str> = queues.iter().map(|queue| queue.id.as_str()).collect();
        let data: Value = connection
            .call(
                &additions::CREATE_LAUNCH_AGENT,
                &json!({"input": {"entityName": USER, "projectName": QUEUE_PROJECT, "runQueues": ids, "hostname": "bench",
                    "agentConfig": "{\"max_jobs\":-1}", "version": "slipway-bench", "name": name, "instance": name,
                    "takeOver": true, "managed": true}}),
            )
            .await?;
        let id = data["createLaunchAgent"]["launchAgentId"]
            .as_str()
            .context("the agent has no id")?
            .to_owned();
        Ok(Self { id, connection })
    }

    async fn pop(&mut self, limit: usize) -> Result<Vec<String>> {
        let input = json!({"input": {"launchAgentId": self.id, "limit": limit}});
        self.pop_with(&input).await
    }

    async fn pop_with(&mut self, input: &Value) -> Result<Vec<String>> {
        let Popped { payload } = self.connection.call(&additions::POP, input).await?;
        Ok(payload.items.into_iter().map(|item| item.run_queue_item_id).collect())
    }

    /// Acknowledges, starts and finishes items.
    async fn run(&mut self, handles: &[String], steps: Steps) -> Result<()> {
        let agent = self.id.as_str();
        let acks = Acks {
            launch_agent_id: agent,
            items: handles.iter().map(|handle| Ack::of(handle)).collect(),
            start: steps == Steps::Three,
        };
        let acked: Results = self.connection.call(&additions::ACK, &Input { input: acks }).await?;
        acked.check()?;
        if steps == Steps::Four {
            let starts = Starts {
                launch_agent_id: agent,
                run_queue_item_ids: handles,
            };
            let started: Results = self
                .connection
                .call(&additions::START, &Input { input: starts })
                .await?;
            started.check()?;
        }
        let reports = Reports {
            launch_agent_id: agent,
            reports: handles.iter().map(|handle| Finished::of(handle)).collect(),
        };
        let finished: Results = self
            .connection
            .call(&additions::FINISH, &Input { input: reports })
            .await?;
        finished.check()
    }
}

/// The variables of a document that takes its input as a whole.
#[derive(Serialize)]
struct Input<T> {
    input: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Acks<'a> {
    launch_agent_id: &'a str,
    items: Vec<Ack<'a>>,
    start: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ack<'a> {
    run_queue_item_id: &'a str,
    entity_name: &'static str,
    project_name: &'static str,
    run_name: String,
}

impl<'a> Ack<'a> {
    /// Names a run that nobody has named before.
    fn of(handle: &'a str) -> Self {
        let run: u64 = rand::random();
        Self {
            run_queue_item_id: handle,
            entity_name: USER,
            project_name: "bench",
            run_name: format!("{run:016x}"),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Starts<'a> {
    launch_agent_id: &'a str,
    run_queue_item_ids: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reports<'a> {
    launch_agent_id: &'a str,
    reports: Vec<Finished<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Finished<'a> {
    run_queue_item_id: &'a str,
    outcome: &'static str,
    exit_code: i64,
}

impl<'a> Finished<'a> {
    const fn of(handle: &'a str) -> Self {
        Self {
            run_queue_item_id: handle,
            outcome: "FINISHED",
            exit_code: 0,
        }
    }
}

/// What a pop answers, as far as the load needs it.
#[derive(Deserialize)]
struct Popped {
    #[serde(rename = "popRunQueueItems")]
    payload: PoppedItems,
}

#[derive(Deserialize)]
struct PoppedItems {
    items: Vec<PoppedItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PoppedItem {
    run_queue_item_id: String,
}

/// What the other calls answer.
#[derive(Deserialize)]
struct Results {
    #[serde(
        alias = "ackRunQueueItems",
        alias = "startRunQueueItems",
        rename = "finishRunQueueItems"
    )]
    payload: ItemResults,
}

#[derive(Deserialize)]
struct ItemResults {
    results: Vec<ItemResult>,
}

#[derive(Deserialize)]
struct ItemResult {
    success: bool,
    error: Option<String>,
}

impl Results {
    /// Whether all went well.
    fn check(self) -> Result<()> {
        match self.payload.results.into_iter().find(|result| !result.success) {
            Some(result) => bail!("refused: {}", result.error.unwrap_or_default()),
            None => Ok(()),
        }
    }
}

/// How long items take from a push to the hands of an idle agent that listens.
pub(crate) struct Latency {
    /// From the push's answer.
    pub(crate) answered: Vec<Duration>,
    /// From the push's request, as the peers count it.
    pub(crate) sent: Vec<Duration>,
    /// Processor time of both sides.
    pub(crate) used: Used,
}

/// Pushes items one by one to an idle agent that listens.
pub(crate) async fn latency(server: &Server, queue: &Queue, rounds: usize) -> Result<Latency> {
    let mut agent = Agent::register(server, &[queue], "latency").await?;
    let mut listening = Connection::open(server).await?;
    let mut events = listening
        .open_stream(&format!("/slipway/v1/agents/{}/events", agent.id))
        .await?
        .into_body();
    let mut pusher = Connection::open(server).await?;
    let bodies = Singles::new(queue)?;
    let (mut answered, mut sent) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    let meter = server.meter()?;
    for _ in 0..rounds {
        let mut handles = agent.pop(10).await?;
        agent.run(&handles, Steps::Three).await?;
        handles.clear();
        let began = Instant::now();
        let push = async {
            pusher.post::<IgnoredAny>(bodies.next()).await?;
            anyhow::Ok(Instant::now())
        };
        let receive = async {
            loop {
                let frame = events.frame().await.context("the event stream ended")??;
                if !frame
                    .data_ref()
                    .is_some_and(|data| contains(data, b"event: items") || contains(data, b"event:items"))
                {
                    continue;
                }
                handles = agent.pop(1).await?;
                if !handles.is_empty() {
                    return anyhow::Ok(Instant::now());
                }
            }
        };
        let (pushed, received) = tokio::try_join!(push, receive)?;
        answered.push(received.saturating_duration_since(pushed));
        sent.push(received.saturating_duration_since(began));
        agent.run(&handles, Steps::Three).await?;
    }
    let used = meter.used()?;
    answered.sort_unstable();
    sent.sort_unstable();
    Ok(Latency { answered, sent, used })
}

fn contains(data: &[u8], needle: &[u8]) -> bool {
    data.windows(needle.len()).any(|window| window == needle)
}

/// The calls in which an agent takes a batch to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steps {
    /// Lease, start (which acknowledges), finish: of an agent that has nothing to prepare.
    Three,
    /// Lease, acknowledge, start, finish: of one that prepares in between.
    Four,
}

/// Leases, starts and finishes what waits, in batches.
pub(crate) async fn work(
    server: &Server,
    queue: &Queue,
    steps: Steps,
    count: usize,
    batch: usize,
    agents: usize,
) -> Result<(f64, Used)> {
    let mut workers = Vec::new();
    for number in 0..agents {
        workers.push(Agent::register(server, &[queue], &format!("worker-{number}")).await?);
    }
    let begun = Arc::new(AtomicUsize::new(0));
    let meter = server.meter()?;
    let worked: usize = try_join_all(workers.into_iter().map(|mut agent| {
        let begun = begun.clone();
        tokio::spawn(async move {
            let mut worked = 0;
            loop {
                let before = begun.fetch_add(batch, Ordering::Relaxed);
                let limit = batch.min(count.saturating_sub(before));
                if limit == 0 {
                    return anyhow::Ok(worked);
                }
                let handles = agent.pop(limit).await?;
                agent.run(&handles, steps).await?;
                worked += handles.len();
            }
        })
    }))
    .await?
    .into_iter()
    .sum::<Result<usize>>()?;
    if worked < count {
        bail!("only {worked} of {count} items were there to work on");
    }
    Ok((rate(worked, meter.elapsed()), meter.used()?))
}

/// Pushes in bulks while agents work, until all is done.
pub(crate) async fn life_cycle(
    server: &Server,
    queue: &Queue,
    count: usize,
    batch: usize,
    agents: usize,
) -> Result<(f64, Used)> {
    let steps = Steps::Three;
    let count = count.div_ceil(1_000) * 1_000;
    let mut workers = Vec::new();
    for number in 0..agents {
        workers.push(Agent::register(server, &[queue], &format!("cycle-{number}")).await?);
    }
    let done = Arc::new(AtomicUsize::new(0));
    let meter = server.meter()?;
    let pushing = push_bulk(server, queue, count, 1_000, 1);
    let working = try_join_all(workers.into_iter().map(|mut agent| {
        let done = done.clone();
        async move {
            while done.load(Ordering::Relaxed) < count {
                let handles = agent.pop(batch).await?;
                agent.run(&handles, steps).await?;
                done.fetch_add(handles.len(), Ordering::Relaxed);
            }
            anyhow::Ok(())
        }
    }));
    tokio::try_join!(async { pushing.await.map(drop) }, async { working.await.map(drop) })?;
    Ok((rate(count, meter.elapsed()), meter.used()?))
}

/// Pops one item at a time from queues taken at random.
pub(crate) async fn pops(server: &Server, queues: &[Queue], rounds: usize) -> Result<(Vec<Duration>, Used)> {
    let all: Vec<&Queue> = queues.iter().collect();
    let mut agent = Agent::register(server, &all, "pops").await?;
    let mut random = rand::rng();
    let mut times = Vec::with_capacity(rounds);
    let meter = server.meter()?;
    for _ in 0..rounds {
        let queue = &queues[random.random_range(0..queues.len())];
        let input = json!({"input": {"launchAgentId": agent.id, "limit": 1, "queueNames": [queue.name]}});
        let start = Instant::now();
        let handles = agent.pop_with(&input).await?;
        times.push(start.elapsed());
        if handles.is_empty() {
            bail!("queue {} was empty", queue.name);
        }
    }
    let used = meter.used()?;
    times.sort_unstable();
    Ok((times, used))
}

/// What idle agents cost.
pub(crate) struct Idle {
    /// The server's processor time, of one core.
    pub(crate) core_percent: f64,
    /// The server's memory for each.
    pub(crate) kib_each: f64,
    /// Processor time of both sides.
    pub(crate) used: Used,
}

/// For how long the server is watched with idle agents.
const IDLE_WINDOW: Duration = Duration::from_secs(60);

/// How often an idle agent of ours pops although the stream told of nothing, and how often it repeats
/// its status: what `slipway_agent` does while its stream is open.
const SAFETY_POLL: Duration = Duration::from_secs(120);
const HEARTBEAT: Duration = Duration::from_secs(300);

/// Connects agents that wait, and watches the server for a minute in which they ask what ours ask.
pub(crate) async fn idle_agents(server: &Server, queue: &Queue, count: usize) -> Result<Idle> {
    let before = server.resident_mib()?;
    let mut streams = Vec::with_capacity(count);
    let mut agents = Vec::with_capacity(count);
    for number in 0..count {
        let agent = Agent::register(server, &[queue], &format!("idle-{number}")).await?;
        let mut connection = agent.connection;
        let mut events = connection
            .open_stream(&format!("/slipway/v1/agents/{}/events", agent.id))
            .await?
            .into_body();
        streams.push(tokio::spawn(async move {
            let _open = connection;
            while let Some(Ok(_)) = events.frame().await {}
        }));
        agents.push(agent.id);
    }
    let after = server.resident_mib()?;
    let pops = ask_in_turn(
        server,
        &agents,
        SAFETY_POLL,
        &additions::POP,
        |id| json!({"input": {"launchAgentId": id, "limit": 1}}),
    );
    let heartbeats = ask_in_turn(
        server,
        &agents,
        HEARTBEAT,
        &official::UPDATE_LAUNCH_AGENT,
        |id| json!({"agentId": id, "agentStatus": "POLLING"}),
    );
    let meter = server.meter()?;
    tokio::select! {
        ended = async { tokio::try_join!(pops, heartbeats) } => { ended?; }
        () = tokio::time::sleep(IDLE_WINDOW) => {}
    }
    let used = meter.used()?;
    for stream in &streams {
        if stream.is_finished() {
            bail!("the server closed the stream of an idle agent");
        }
        stream.abort();
    }
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    let kib_each = (after - before) * 1024.0 / count as f64;
    Ok(Idle {
        core_percent: used.server * 100.0,
        kib_each,
        used,
    })
}

/// Asks for each agent once a period, spread over it; ends with an error only.
async fn ask_in_turn(
    server: &Server,
    agents: &[String],
    period: Duration,
    document: &Document,
    variables: impl Fn(&str) -> Value,
) -> Result<()> {
    let mut connection = Connection::open(server).await?;
    let count = u32::try_from(agents.len()).unwrap_or(u32::MAX).max(1);
    let mut turns = tokio::time::interval(period / count);
    for id in agents.iter().cycle() {
        turns.tick().await;
        connection.call::<IgnoredAny>(document, &variables(id)).await?;
    }
    Ok(())
}

/// Runs a peer on the same PostgreSQL; it prints one JSON object.
pub(crate) fn peer(command: &str, url: &str, items: usize) -> Result<Value> {
    let output = Command::new("sh")
        .args(["-c", command])
        .env("BENCH_POSTGRES_URL", url)
        .env("BENCH_SINGLES", items.to_string())
        .env("BENCH_BULK", items.to_string())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running the peer `{command}`"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .last()
        .with_context(|| format!("the peer `{command}` printed nothing"))?;
    serde_json::from_str(line).with_context(|| format!("the peer `{command}` printed no JSON: {line}"))
}
