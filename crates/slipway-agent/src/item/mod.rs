//! The life of one item in the agent's hands, from the lease to the accepted report.
//!
//! The order of steps is what the guarantees rest on: the run is acknowledged before anything is
//! fetched, the start is on the server's disk before a workload is created, and a workload is removed
//! only after its outcome was accepted. A task that dies between two steps leaves enough behind for
//! [`crate::recovery`].

mod board;
pub(crate) mod outcome;
mod output;
pub(crate) mod plan;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use slipway_client::{Client, ClientOptions};
use slipway_model::agent_config::AgentConfig;
use slipway_model::id::RunName;
use slipway_model::item::Failure;
use slipway_model::macros::{MacroContext, expand};
use slipway_model::queue::QUEUE_PROJECT;
use slipway_model::queue::Resource;
use slipway_runner::{Exit, Line, Notice, Runner, RunnerError, Status, Workload, WorkloadId};
use slipway_wire::item::{Ack, ItemResult, LeasedItem, ReturnCause};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use self::board::Board;
use self::outcome::{Conclusion, Ended, TAIL_BYTES, conclude};
use self::output::OutputFollower;
use self::plan::{Plan, failure, plan};
use crate::environment::{JobFacts, VALUE_LIMIT, job_environment};
use crate::health::Vitals;
use crate::patience::{is_strange, persistently};
use crate::recovery::HANDLE;
use crate::secret::Secret;
use crate::state_directory::random_base36;
use crate::{failpoint, source};

/// How often a server without event stream is asked whether a run is to stop.
const STOP_POLL: Duration = Duration::from_secs(10);

/// Waits between looks whether a run has started, on our server: it knows before a job can end.
const RUN_LOOKS: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1500)];

/// The same on an official server, as its own agent waits.
const OFFICIAL_RUN_LOOKS: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(32),
];

/// How long to wait before a refused report is offered again; somebody may renew a key meanwhile.
const REFUSED_REPORT: Duration = Duration::from_secs(60);

/// How long to wait before a target that failed is asked again.
const TARGET_AGAIN: Duration = Duration::from_secs(2);

/// The longest wait before a removal that the target refused is asked for again: an agent that has drained
/// sees several more attempts.
const REMOVE_AGAIN: Duration = Duration::from_secs(10);

/// Why an item fails whose task panicked.
const AGENT_FAULT: &str = "a fault in the agent itself ended its work on this item, and the job was stopped; the \
                           agent's log says where. Submit the item again, and report the fault";

/// What the loop tells an item's task. A later order replaces an earlier one and is never weaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Go on.
    Go,
    /// End the workload and report it as killed.
    Stop,
    /// End the workload and report nothing: the item is somebody else's.
    Abandon,
}

/// What every item's task shares.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) runner: Arc<dyn Runner>,
    pub(crate) config: AgentConfig,
    pub(crate) agent_id: String,
    /// The owner of the queues, and of the agent's own run.
    pub(crate) entity: String,
    /// The agent's name, and the id of its own run on an official server.
    pub(crate) agent_name: String,
    pub(crate) cache: PathBuf,
    pub(crate) vitals: Vitals,
    /// Whether the server knows our additions.
    pub(crate) managed: bool,
    /// What of jobs that have ended is still to be removed.
    pub(crate) removals: TaskTracker,
}

/// Why preparation ended without a workload.
pub(crate) enum Halt {
    /// The lease is over; there is nothing to say.
    Gone,
    /// The item ends here.
    Conclude(Conclusion),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Conclude(Conclusion::failed(failure))
    }
}

/// The task of one item.
pub(crate) struct ItemTask {
    shared: Arc<Shared>,
    handle: String,
    orders: watch::Receiver<Order>,
    board: Arc<Board>,
    /// The target's end of the board.
    line: Line,
}

/// How an item stood with the server when its workload was taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stood {
    /// Whether the server knows that it runs.
    pub(crate) runs: bool,
    /// What was said of it.
    pub(crate) warning: Option<slipway_wire::item::Failure>,
}

/// A workload that exists, or should.
struct Job {
    workload: WorkloadId,
    run: Option<RunName>,
    /// Whether an earlier process created it.
    adopted: bool,
    clock: StartClock,
}

/// What is left of the time that a job may take to start; none for no limit. What the server takes does
/// not count.
struct StartClock(Option<Duration>);

impl StartClock {
    /// Does a part of the start; none if the time is over before it is done.
    async fn spend<T>(&mut self, part: impl Future<Output = T>) -> Option<T> {
        let Some(left) = self.0 else {
            return Some(part.await);
        };
        let began = Instant::now();
        let done = timeout(left, part).await.ok();
        self.0 = Some(left.saturating_sub(began.elapsed()));
        done
    }
}

impl ItemTask {
    pub(crate) fn new(shared: Arc<Shared>, handle: String, orders: watch::Receiver<Order>) -> Self {
        let board = Arc::new(Board::new(shared.client.clone(), handle.clone(), shared.managed));
        let ear = Arc::clone(&board);
        Self {
            shared,
            handle,
            orders,
            board,
            line: Line::new(move |news| ear.take(news)),
        }
    }

    fn clock(&self) -> StartClock {
        StartClock(self.shared.config.start_timeout)
    }

    /// Runs a new item to its end.
    pub(crate) async fn run(mut self, item: LeasedItem) {
        match self.begin(&item).await {
            Ok(job) => self.see_through(job).await,
            Err(Halt::Gone) => {}
            Err(Halt::Conclude(conclusion)) => {
                let log = conclusion.failure.as_ref().map(|failure| failure.message.clone());
                self.report(conclusion, log).await;
            }
        }
    }

    /// Goes on with a workload of an earlier process.
    pub(crate) async fn resume(mut self, workload: WorkloadId, labels: &BTreeMap<String, String>, stood: Stood) {
        self.board.take_over(stood.runs, stood.warning).await;
        let label = |name: &str| labels.get(name).cloned();
        let run = (|| {
            Some(RunName {
                entity: label("entity")?,
                project: label("project")?,
                run: label("run")?,
            })
        })();
        tracing::info!(%workload, "took over a job that was started before");
        let job = Job {
            workload,
            run,
            adopted: true,
            clock: self.clock(),
        };
        self.see_through(job).await;
    }

    /// Sees to an item whose task panicked: what it started is ended, the item fails, and its slot is
    /// free again. An item that is somebody else's by now is only ended.
    pub(crate) async fn rescue(mut self, workload: Option<WorkloadId>) {
        self.shared.vitals.count(|counts| &mut counts.faults);
        let order = (*self.orders.borrow()).max(Order::Stop);
        // Nobody has orders for it any more that would change what happens here.
        self.orders = watch::channel(order).1;
        if let Some(workload) = &workload {
            let job = Job {
                workload: workload.clone(),
                run: None,
                adopted: false,
                clock: self.clock(),
            };
            self.supervise(&job).await;
        }
        if order < Order::Abandon {
            let fault = failure("agent-fault", AGENT_FAULT);
            self.report(Conclusion::failed(fault), Some(AGENT_FAULT.to_owned()))
                .await;
        }
        if let Some(workload) = &workload {
            self.remove(workload).await;
        }
    }

    async fn begin(&mut self, item: &LeasedItem) -> Result<Job, Halt> {
        let plan = plan(item, &self.shared.config, random_base36(8))?;
        self.acknowledge(&plan).await?;
        failpoint::hit(failpoint::ACKED);
        tracing::info!(workload = %plan.workload, run = %plan.run, queue = item.queue_name, "preparing");
        let mut clock = self.clock();
        let workload = {
            let prepared = async {
                let workload = prepare(&self.shared, item, &plan).await?;
                let ready = self.shared.runner.prepare(&workload, &self.line);
                let ready = clock.spend(ready).await.ok_or_else(|| self.too_late())?;
                ready.map_err(|error| failure(error.reason(), error.to_string()))?;
                Ok::<_, Halt>(workload)
            };
            let mut orders = self.orders.clone();
            tokio::select! {
                prepared = prepared => prepared?,
                halt = stopped(&mut orders) => return Err(halt),
            }
        };
        self.record_start().await?;
        failpoint::hit(failpoint::START_RECORDED);
        self.launch(workload, &mut clock).await?;
        failpoint::hit(failpoint::WORKLOAD_CREATED);
        Ok(Job {
            workload: plan.workload,
            run: Some(plan.run),
            adopted: false,
            clock,
        })
    }

    /// Has the workload created and started, unless it is called off meanwhile: by somebody who stops
    /// the item, by an agent that takes its name over, or because it takes too long.
    async fn launch(&self, workload: Workload, clock: &mut StartClock) -> Result<(), Halt> {
        let mut launch = self.shared.runner.launch(workload, &self.line);
        let mut orders = self.orders.clone();
        let halt = tokio::select! {
            // An order that is there already comes before the start.
            biased;
            halt = stopped(&mut orders) => halt,
            launched = clock.spend(&mut launch) => match launched {
                Some(launched) => return launched.map_err(|error| failure(error.reason(), error.to_string()).into()),
                None => self.too_late().into(),
            },
        };
        self.line.withdraw();
        match launch.await {
            // It was on its way, and is looked after until it has ended.
            Ok(()) => Ok(()),
            Err(error) => match halt {
                Halt::Conclude(_) if !matches!(error, RunnerError::Withdrawn) => {
                    Err(failure(error.reason(), error.to_string()).into())
                }
                halt => Err(halt),
            },
        }
    }

    /// The end of an item whose job did not start in time.
    fn too_late(&self) -> Failure {
        let seconds = self.shared.config.start_timeout.map_or(0, |timeout| timeout.as_secs());
        let waited = self
            .board
            .latest()
            .map_or_else(String::new, |what| format!("; it waited: {what}"));
        failure(
            "start-failed",
            format!("the job did not start within {seconds} s (`start_timeout`){waited}"),
        )
    }

    async fn acknowledge(&self, plan: &Plan) -> Result<(), Halt> {
        let ack = Ack {
            run_queue_item_id: self.handle.clone(),
            entity_name: Some(plan.run.entity.clone()),
            project_name: Some(plan.run.project.clone()),
            run_name: plan.run.run.clone(),
        };
        let acks = &[ack];
        let agent = &self.shared.agent_id;
        let results = persistently(&self.shared.client, "acknowledge an item", |client| async move {
            client.ack(agent, acks).await
        });
        self.accepted("acknowledgement", results.await)
    }

    async fn record_start(&self) -> Result<(), Halt> {
        let handles = &[self.handle.clone()];
        let agent = &self.shared.agent_id;
        let results = persistently(&self.shared.client, "record a start", |client| async move {
            client.start(agent, handles).await
        });
        self.accepted("start", results.await)
    }

    /// Whether the server took a step of this item; whether it is to go on at all.
    fn accepted(&self, step: &str, results: slipway_client::Result<Vec<ItemResult>>) -> Result<(), Halt> {
        let result = match results {
            Ok(results) => results.into_iter().next(),
            Err(error) => return Err(failure("refused", format!("the server refused the {step}: {error}")).into()),
        };
        match result {
            Some(result) if result.success && result.stop_requested => Err(Halt::Conclude(Conclusion::killed())),
            Some(result) if result.success => Ok(()),
            Some(result) => {
                let why = result.error.unwrap_or_default();
                tracing::warn!(item = self.handle, step, why, "the item is no longer this agent's");
                Err(Halt::Gone)
            }
            None => Err(Halt::Gone),
        }
    }

    /// From an existing workload to the accepted report.
    async fn see_through(&mut self, job: Job) {
        let (end, stop_wanted) = self.supervise(&job).await;
        if *self.orders.borrow() == Order::Abandon {
            self.shared.vitals.count(|counts| &mut counts.abandoned);
            tracing::warn!(workload = %job.workload, "ended: the item is no longer this agent's");
            return self.remove(&job.workload).await;
        }
        let (conclusion, log) = match end {
            Status::Exited(exit) => self.judge(&job, &exit, stop_wanted).await,
            // It is gone as it was asked to be, whoever else had a hand in it.
            Status::Lost { .. } if stop_wanted => (Conclusion::killed(), None),
            Status::Lost { reason, message } => (Conclusion::failed(failure(reason, &message)), Some(message)),
            Status::Absent if job.adopted => {
                self.remove(&job.workload).await;
                return give_back(&self.shared, &self.handle, ReturnCause::Absent).await;
            }
            Status::Absent if stop_wanted => (Conclusion::killed(), None),
            Status::Absent => {
                let message = "nothing is left of the job: it never started, or somebody removed its directory or \
                               container; see the agent's log";
                (Conclusion::failed(failure("start-failed", message)), None)
            }
            Status::Starting | Status::Running { .. } => (Conclusion::failed(self.too_late()), None),
        };
        failpoint::hit(failpoint::FINISHED_BEFORE_REPORT);
        self.report(conclusion, log).await;
        failpoint::hit(failpoint::REPORTED);
        self.remove(&job.workload).await;
    }

    /// Watches a workload until it has ended, and sees to it that it does if it is to.
    async fn supervise(&mut self, job: &Job) -> (Status, bool) {
        let shared = Arc::clone(&self.shared);
        let news = Arc::new(Notify::new());
        let (ended, ended_reader) = watch::channel(false);
        let output = shared.managed.then(|| {
            let follower = OutputFollower {
                client: shared.client.clone(),
                runner: Arc::clone(&shared.runner),
                workload: job.workload.clone(),
                handle: self.handle.clone(),
                news: Arc::clone(&news),
                ended: ended_reader,
            };
            AbortOnDropHandle::new(tokio::spawn(follower.run()))
        });
        let mut watcher = shared.runner.watch(&job.workload);
        let start_deadline = job.clock.0.map(|left| Instant::now() + left);
        let (mut announced, mut stop_sent, mut unreadable) = (false, false, false);
        let mut next_stop_poll = Instant::now() + STOP_POLL;
        let end = loop {
            let order = *self.orders.borrow_and_update();
            if order > Order::Go && !stop_sent {
                match shared
                    .runner
                    .stop(&job.workload, shared.config.stopped_run_timeout, &self.line)
                    .await
                {
                    Ok(()) => stop_sent = true,
                    Err(error) => {
                        tracing::warn!(workload = %job.workload, %error, "could not be stopped; trying again")
                    }
                }
            }
            let status = shared.runner.status(&job.workload).await;
            if status.is_ok() {
                if std::mem::take(&mut unreadable) {
                    tracing::info!(workload = %job.workload, "its status can be read again");
                }
                // Also what an earlier process said that was killed before it could.
                self.board.unanswered(None);
            }
            match status {
                Ok(Status::Starting) => {
                    if start_deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        let _ = shared.runner.stop(&job.workload, Duration::ZERO, &self.line).await;
                        break Status::Starting;
                    }
                }
                Ok(Status::Running { .. }) if !announced => {
                    announced = true;
                    tokio::spawn(announce(
                        Arc::clone(&shared),
                        self.handle.clone(),
                        Arc::clone(&self.board),
                    ));
                }
                Ok(Status::Running { .. }) => {}
                Ok(end) => break end,
                Err(error) => {
                    if !std::mem::replace(&mut unreadable, true) {
                        tracing::warn!(workload = %job.workload, %error, "its status cannot be read; trying again");
                    }
                    self.board.unanswered(Some(Notice::new(
                        if error.is_away() { "engine-away" } else { "status" },
                        format!("{error}; how the job stands is not known until it can be asked"),
                    )));
                    sleep(TARGET_AGAIN).await;
                }
            }
            tokio::select! {
                () = watcher.changed() => news.notify_one(),
                Ok(()) = self.orders.changed() => {}
                () = sleep_until(next_stop_poll), if !shared.managed => {
                    next_stop_poll = Instant::now() + STOP_POLL;
                    if run_is_to_stop(&shared, job.run.as_ref()).await && !stop_sent {
                        let stop = shared.runner.stop(&job.workload, shared.config.stopped_run_timeout, &self.line);
                        stop_sent = stop.await.is_ok();
                    }
                }
            }
        };
        if matches!(end, Status::Lost { .. }) {
            // Nobody watches what may be left of it; it must not outlive its report.
            let _ = shared.runner.stop(&job.workload, Duration::ZERO, &self.line).await;
        }
        let _ = ended.send(true);
        if let Some(output) = output {
            // An outcome is not to be read before the last line.
            let _ = output.await;
        }
        (end, stop_sent)
    }

    async fn judge(&self, job: &Job, exit: &Exit, stop_wanted: bool) -> (Conclusion, Option<String>) {
        let run_started = stop_wanted || self.run_started(job.run.as_ref()).await;
        let tail = self.tail(&job.workload).await;
        let mut conclusion = conclude(Ended {
            exit,
            stop_wanted,
            run_started,
            tail: &tail,
        });
        tracing::info!(workload = %job.workload, outcome = ?conclusion.outcome, exit_code = conclusion.exit_code, "ended");
        if !self.shared.managed && run_started {
            // There the run's own state is the outcome, and a failure would contradict it.
            conclusion.failure = None;
        }
        (conclusion, Some(String::from_utf8_lossy(&tail).into_owned()))
    }

    /// Whether the run called `wandb.init`. What cannot be known counts as yes: a job is not to
    /// fail for that.
    async fn run_started(&self, run: Option<&RunName>) -> bool {
        let Some(run) = run else { return true };
        let looks: &[Duration] = if self.shared.managed {
            &RUN_LOOKS
        } else {
            &OFFICIAL_RUN_LOOKS
        };
        let mut waits = looks.iter();
        loop {
            let state = persistently(&self.shared.client, "look at a run", |client| async move {
                client.run_state(&run.entity, &run.project, &run.run).await
            });
            match state.await {
                Ok(Some(state)) if state != "pending" => return true,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%run, %error, "the run's state cannot be read");
                    return true;
                }
            }
            match waits.next() {
                Some(wait) => sleep(*wait).await,
                None => return false,
            }
        }
    }

    async fn tail(&self, workload: &WorkloadId) -> Vec<u8> {
        let mut tail = Vec::new();
        let mut offset = 0;
        while let Ok(piece) = self.shared.runner.output(workload, offset, 1 << 20).await {
            if piece.is_empty() {
                break;
            }
            offset += piece.len() as u64;
            tail.extend(piece);
            tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
        }
        tail
    }

    /// Reports until the report is accepted, or refused for good.
    async fn report(&self, mut conclusion: Conclusion, log: Option<String>) {
        let shared = &self.shared;
        self.board.close().await;
        if let (false, Some(failure), Some(log)) = (shared.managed, conclusion.failure.as_mut(), log) {
            failure.file_paths = attach_log(shared, &self.handle, log).await;
        }
        let reports = &[conclusion.report(&self.handle)];
        loop {
            let results = persistently(&shared.client, "report an outcome", |client| async move {
                client.finish(&shared.agent_id, reports).await
            });
            match results.await {
                Ok(results) => {
                    shared.vitals.ended(conclusion.outcome);
                    if let Some(refused) = results.iter().find(|result| !result.success) {
                        let why = refused.error.as_deref().unwrap_or_default();
                        tracing::warn!(item = self.handle, why, "the server did not take the outcome");
                    }
                    return;
                }
                Err(error) if is_strange(&error) || is_of_the_key(&error) => {
                    tracing::error!(item = self.handle, %error, "the outcome is kept and offered again");
                    sleep(REFUSED_REPORT).await;
                }
                Err(error) => {
                    tracing::error!(item = self.handle, %error, "the server refused the outcome");
                    return;
                }
            }
        }
    }

    /// Removes a workload, or sees to it that it goes: one that was to start no more may be starting, and is
    /// ended first.
    async fn remove(&self, workload: &WorkloadId) {
        let Err(mut error) = self.shared.runner.remove(workload).await else {
            return;
        };
        tracing::warn!(%workload, %error, "could not be removed yet; trying again");
        let (runner, workload) = (Arc::clone(&self.shared.runner), workload.clone());
        self.shared.removals.spawn(async move {
            // It has no item any more that could be told of anything.
            let (mut wait, mut stopped, line) = (TARGET_AGAIN, false, Line::new(|_| {}));
            loop {
                if error.reason() == "still-running" && !stopped {
                    stopped = runner.stop(&workload, Duration::ZERO, &line).await.is_ok();
                }
                sleep(wait).await;
                match runner.remove(&workload).await {
                    Ok(()) => return,
                    Err(again) => error = again,
                }
                wait = (wait * 2).min(REMOVE_AGAIN);
            }
        });
    }
}

/// Whether the key is refused, which somebody may renew.
const fn is_of_the_key(error: &slipway_client::Error) -> bool {
    use slipway_client::Error;
    matches!(error, Error::Unauthorized { .. } | Error::Forbidden(_))
}

/// Waits for an order to stop.
async fn stopped(orders: &mut watch::Receiver<Order>) -> Halt {
    loop {
        match *orders.borrow_and_update() {
            Order::Go => {}
            Order::Stop => return Halt::Conclude(Conclusion::killed()),
            Order::Abandon => return Halt::Gone,
        }
        if orders.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What a submitter names, as one word of an option of `docker run`. Options are checked before their
/// macros are expanded: a run's name must not lead a volume elsewhere or add a part to an option.
fn word(text: &str) -> String {
    text.replace(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-')), "-")
        .replace("..", "--")
}

/// What the target is to run: source, macros, variables.
pub(crate) async fn prepare(shared: &Shared, item: &LeasedItem, plan: &Plan) -> Result<Workload, Halt> {
    // With a run key the source is fetched as the author, who may not read what the agent may.
    let reader = match &plan.run_key {
        Some(key) => Client::new(ClientOptions::new(
            shared.client.base_url(),
            Some(key.reveal().to_owned()),
        ))
        .map_err(|error| failure("refused", error.to_string()))?,
        None => shared.client.clone(),
    };
    let source = source::fetch(&reader, &shared.cache, plan)
        .await
        .map_err(Failure::from)?;
    let args = plan.spec.resource_args(plan.resource.as_str()).unwrap_or(&Value::Null);
    let word = |text: &str| match plan.resource {
        Resource::LocalContainer => word(text),
        _ => text.to_owned(),
    };
    let context = MacroContext {
        project_name: word(&plan.run.project),
        entity_name: word(&plan.run.entity),
        run_id: word(&plan.run.run),
        run_name: plan.spec.name().map(word),
        image_uri: source.image.clone(),
        author: plan.spec.author().map(word),
    };
    let resource_args = expand(
        args,
        &context,
        &|name| std::env::var(name).ok(),
        &shared.config.allowed_env,
    )
    .map_err(|error| failure("macro", error.to_string()))?;
    let agent_key = || Secret::new(shared.client.api_key().unwrap_or_default());
    let api_key = plan.run_key.clone().unwrap_or_else(agent_key);
    let environment = job_environment(
        JobFacts {
            base_url: shared.client.base_url(),
            api_key: &api_key,
            run_key: plan.run_key.is_some(),
            image: source.image.as_deref(),
            spec: &plan.spec,
            run: &plan.run,
            attempt: item.attempt,
            handle: &item.run_queue_item_id,
            queue: &item.queue_name,
            queue_entity: &item.queue_entity,
        },
        VALUE_LIMIT,
    );
    let labels = [
        (HANDLE, &item.run_queue_item_id),
        ("entity", &plan.run.entity),
        ("project", &plan.run.project),
        ("run", &plan.run.run),
    ];
    Ok(Workload {
        id: plan.workload.clone(),
        labels: labels.map(|(name, value)| (name.to_owned(), value.clone())).into(),
        resource: plan.resource.as_str().to_owned(),
        image: source.image,
        command: source.command,
        arguments: source.arguments,
        environment,
        source: source.directory,
        working_directory: plan.spec.overrides().working_dir,
        resource_args,
    })
}

/// Tells the server that a workload runs.
async fn announce(shared: Arc<Shared>, handle: String, board: Arc<Board>) {
    let mut standing = board.quiet().await;
    let (shared, handles) = (&shared, &[handle]);
    let told = persistently(&shared.client, "report a running job", |client| async move {
        client.mark_running(&shared.agent_id, handles).await
    });
    let told = told.await;
    if let Err(error) = &told {
        tracing::warn!(item = handles[0], %error, "the server refused the news that it runs");
    }
    board.runs(&mut standing, told.is_ok());
}

/// Whether an official server wants the run to stop. An unreachable one does not.
async fn run_is_to_stop(shared: &Shared, run: Option<&RunName>) -> bool {
    let Some(run) = run else { return false };
    let client = shared.client.with_retry(slipway_client::Retry::Never);
    client
        .run_stopped(&run.entity, &run.project, &run.run)
        .await
        .unwrap_or(false)
}

/// Gives an item back that has no workload.
pub(crate) async fn give_back(shared: &Shared, handle: &str, cause: ReturnCause) {
    let result = persistently(&shared.client, "give an item back", |client| async move {
        client.return_item(&shared.agent_id, handle, cause).await
    });
    match result.await {
        Ok(result) if result.success => tracing::info!(item = handle, ?cause, "gave an item back"),
        Ok(result) => {
            let why = result.error.unwrap_or_default();
            tracing::warn!(item = handle, ?cause, why, "the server did not take an item back");
        }
        Err(error) => tracing::warn!(item = handle, ?cause, %error, "the server did not take an item back"),
    }
}

/// On an official server: puts the log beside the agent's own run, and answers where it is.
async fn attach_log(shared: &Shared, handle: &str, log: String) -> Vec<String> {
    let path = format!("{handle}/error/error.log");
    let content = log.into_bytes();
    let sent = shared
        .client
        .upload_run_file(&shared.entity, QUEUE_PROJECT, &shared.agent_name, &path, content.into())
        .await;
    match sent {
        Ok(()) => vec![path],
        Err(error) => {
            tracing::warn!(item = handle, %error, "the log of a failed job could not be uploaded");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_submitter_names_stays_one_word_of_an_option() {
        for (text, expected) in [
            ("train-7_b.1", "train-7_b.1"),
            ("../etc", "---etc"),
            ("a/b:c", "a-b-c"),
            ("x,source=/", "x-source--"),
            ("..", "--"),
            ("学習 1", "学習-1"),
        ] {
            assert_eq!(word(text), expected);
        }
    }
}
