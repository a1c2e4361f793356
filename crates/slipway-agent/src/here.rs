//! One job without a queue, here and now: `slipway launch` without `--queue`.
//!
//! The job is prepared and run exactly as an item of a queue would be, and nobody but the caller
//! watches it: it has no item on the server, no lease and no second attempt. What a caller that was
//! killed leaves of its job, the next one ends and removes, as does the next agent of the directory.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use slipway_model::item::Failure;
use slipway_runner::{Exit, Line, News, Runner, RunnerError, Status, WorkloadId};
use slipway_wire::item::LeasedItem;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::health::Vitals;
use crate::item::plan::{failure, plan};
use crate::item::{Halt, Shared, prepare};
use crate::options::AgentOptions;
use crate::state_directory::{CONTAINERS, JOBS, StateDirectory, random_base36};
use crate::targets;

/// The directory of such jobs, in the state directory of the agents.
pub(crate) const HERE: &str = "here";

/// How long a target may take to remove a job that has ended before the caller goes.
const REMOVAL: Duration = Duration::from_secs(10);

/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(100);

/// How long what earlier callers left may keep a new one from its own job.
const SWEEP: Duration = Duration::from_secs(20);

/// After how much of that it is told.
const SWEEP_TOLD: Duration = Duration::from_secs(2);

/// Bytes of output handed on at once.
const CHUNK: usize = 64 * 1024;

/// Why a job could not be run here.
#[derive(Debug, thiserror::Error)]
pub enum HereError {
    /// The job or the target refuses; the message says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// What became of it is not known.
    #[error("{0}")]
    Lost(String),
    /// The caller would not wait any longer.
    #[error(
        "given up: the target does not answer, and the job may run on; the next `slipway launch` on this machine \
         ends it and removes what is left"
    )]
    GivenUp,
    /// The target failed.
    #[error(transparent)]
    Runner(#[from] RunnerError),
}

impl From<Failure> for HereError {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure.message)
    }
}

/// Runs a launch spec to its end. `started` is told once the job exists; `print` gets the output as it
/// comes. The first of the `interrupts` stops the job, the second kills it, and the third gives up on a
/// target that does neither.
pub(crate) async fn launch(
    options: &AgentOptions,
    client: &slipway_client::Client,
    spec: Value,
    entity: &str,
    started: impl FnOnce(),
    mut print: impl FnMut(&[u8]),
    mut interrupts: UnboundedReceiver<()>,
) -> Result<Exit, HereError> {
    let item: LeasedItem = serde_json::from_value(json!({
        "runQueueItemId": format!("launch-{}", random_base36(16)),
        "runSpec": spec, "queueName": "", "queueEntity": entity,
    }))
    .map_err(|error| failure("bad-spec", format!("the launch spec cannot be read: {error}")))?;
    let plan = plan(&item, &options.config, random_base36(8))?;
    sweep_first(options, client.base_url()).await;
    let parent = options.state_directory.join(HERE);
    // Its lock tells others that somebody looks after the job.
    let state = StateDirectory::open(&parent, &plan.workload.file_name())
        .map_err(|error| HereError::Refused(error.to_string()))?;
    let directory = state.path().to_owned();
    let name = format!("launch-{}", plan.run.run);
    let targets = targets::targets(options, &directory, &name, entity, client.base_url());
    let shared = Shared {
        client: client.clone(),
        runner: Arc::new(targets),
        config: options.config.clone(),
        agent_id: String::new(),
        entity: entity.to_owned(),
        agent_name: name,
        cache: directory.join("cache"),
        vitals: Vitals::new(&options.version, 1),
        managed: false,
        removals: TaskTracker::new(),
    };
    let ended = async {
        let prepared = tokio::select! {
            prepared = prepared(&shared, &item, &plan) => prepared,
            Some(()) = interrupts.recv() => return Err(interrupted()),
        };
        let workload = prepared?;
        let id = workload.id.clone();
        start(&shared, workload, &mut interrupts).await?;
        started();
        let end = attend(&shared, &id, &mut print, &mut interrupts).await;
        let left = match &end {
            Ok(_) => shared.runner.remove(&id).await,
            Err(HereError::GivenUp) => return end,
            Err(_) => tokio::select! {
                left = give_up(shared.runner.as_ref(), &id) => left,
                Some(()) = interrupts.recv() => return Err(HereError::GivenUp),
            },
        };
        if let Err(error) = left {
            tracing::warn!(%error, job = %id, "what is left of the job could not be removed; the next launch tries again");
        }
        end
    }
    .await;
    let waits = !matches!(ended, Err(HereError::GivenUp));
    let deadline = Instant::now() + REMOVAL;
    while waits && !is_empty(&directory) && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    if is_empty(&directory) {
        // Only this process ever knew of it.
        let _ = fs::remove_dir_all(&directory);
    }
    ended
}

fn interrupted() -> HereError {
    HereError::Refused("interrupted before the job started".to_owned())
}

/// What the target says while somebody waits at a terminal.
fn line() -> Line {
    Line::new(|news| match news {
        News::Waits(notice) => tracing::info!(stage = %notice.stage, "{}", notice.message),
        News::Warns(notice) => tracing::warn!(stage = %notice.stage, "{}", notice.message),
        News::GoesOn => {}
    })
}

/// The workload, with everything that its launch needs.
async fn prepared(
    shared: &Shared,
    item: &LeasedItem,
    plan: &crate::item::plan::Plan,
) -> Result<slipway_runner::Workload, HereError> {
    let workload = prepare(shared, item, plan).await.map_err(|halt| match halt {
        Halt::Conclude(conclusion) => conclusion
            .failure
            .map_or_else(|| HereError::Refused("the job was stopped".to_owned()), HereError::from),
        Halt::Gone => HereError::Refused("the job was taken back".to_owned()),
    })?;
    shared.runner.prepare(&workload, &line()).await?;
    Ok(workload)
}

/// Has the job started. An interrupt calls it off; the next one does not wait for the target's word.
async fn start(
    shared: &Shared,
    workload: slipway_runner::Workload,
    interrupts: &mut UnboundedReceiver<()>,
) -> Result<(), HereError> {
    let line = line();
    let id = workload.id.clone();
    let mut launch = shared.runner.launch(workload, &line);
    tokio::select! {
        launched = &mut launch => return Ok(launched?),
        Some(()) = interrupts.recv() => line.withdraw(),
    }
    let launched = tokio::select! {
        launched = launch => launched,
        Some(()) = interrupts.recv() => return Err(HereError::GivenUp),
    };
    match launched {
        Err(RunnerError::Withdrawn) => Err(interrupted()),
        Err(error) => Err(error.into()),
        // It was on its way.
        Ok(()) => Ok(shared
            .runner
            .stop(&id, shared.config.stopped_run_timeout, &line)
            .await?),
    }
}

/// Sees a job that was started to its end.
async fn attend(
    shared: &Shared,
    id: &WorkloadId,
    print: &mut impl FnMut(&[u8]),
    interrupts: &mut UnboundedReceiver<()>,
) -> Result<Exit, HereError> {
    let line = line();
    let mut following = std::pin::pin!(follow(shared.runner.as_ref(), id, print));
    for grace in [shared.config.stopped_run_timeout, Duration::ZERO] {
        tokio::select! {
            end = &mut following => return end,
            Some(()) = interrupts.recv() => shared.runner.stop(id, grace, &line).await?,
        }
    }
    tokio::select! {
        end = following => end,
        Some(()) = interrupts.recv() => Err(HereError::GivenUp),
    }
}

/// Ends a job that can be followed no longer, and removes it.
async fn give_up(runner: &dyn Runner, id: &WorkloadId) -> Result<(), RunnerError> {
    let mut watch = runner.watch(id);
    runner.stop(id, Duration::ZERO, &line()).await?;
    while matches!(runner.status(id).await?, Status::Starting | Status::Running { .. }) {
        watch.changed().await;
    }
    runner.remove(id).await
}

async fn follow(runner: &dyn Runner, id: &WorkloadId, print: &mut impl FnMut(&[u8])) -> Result<Exit, HereError> {
    let mut watch = runner.watch(id);
    let mut offset = 0;
    loop {
        let status = runner.status(id).await;
        loop {
            let piece = runner.output(id, offset, CHUNK).await?;
            if piece.is_empty() {
                break;
            }
            offset += piece.len() as u64;
            print(&piece);
        }
        match status {
            Ok(Status::Exited(exit)) => return Ok(exit),
            Ok(Status::Lost { message, .. }) => return Err(HereError::Lost(message)),
            Ok(Status::Absent) => return Err(HereError::Lost("the job ended before it could be started".to_owned())),
            Ok(Status::Starting | Status::Running { .. }) => {}
            Err(error) if error.is_away() => tracing::warn!(%error, "waiting for it"),
            Err(error) => return Err(error.into()),
        }
        watch.changed().await;
    }
}

/// Whether no target keeps anything of a job in its directory.
fn is_empty(directory: &Path) -> bool {
    [CONTAINERS, JOBS].into_iter().all(|kind| {
        let mut entries = fs::read_dir(directory.join(kind)).into_iter().flatten().flatten();
        !entries.any(|entry| entry.path().is_dir())
    })
}

/// [`sweep`] before a job of one's own, which does not wait long for it.
async fn sweep_first(options: &AgentOptions, server: &str) {
    let mut sweep = std::pin::pin!(sweep(options, server));
    if timeout(SWEEP_TOLD, &mut sweep).await.is_ok() {
        return;
    }
    tracing::warn!(
        "what a killed launch left of its job is ended first; that is waited for {} s at most",
        SWEEP.as_secs()
    );
    if timeout(SWEEP.saturating_sub(SWEEP_TOLD), sweep).await.is_err() {
        tracing::warn!(
            "what a killed launch left of its job does not end: its supervisor or its engine does nothing. The new job \
             starts beside it, and the next launch tries again"
        );
    }
}

/// Ends and removes the jobs of callers that were killed. What a target does not answer for stays for the
/// next time.
pub(crate) async fn sweep(options: &AgentOptions, server: &str) {
    let parent = options.state_directory.join(HERE);
    let entries = fs::read_dir(&parent).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.path().is_dir());
    for name in directories.filter_map(|entry| entry.file_name().into_string().ok()) {
        // One that is locked is somebody's.
        let Ok(state) = StateDirectory::open(&parent, &name) else {
            continue;
        };
        if let Err(error) = sweep_one(options, state.path(), server).await {
            tracing::warn!(directory = %state.path().display(), %error, "left for later: what a killed launch left of its job");
        }
    }
}

async fn sweep_one(options: &AgentOptions, directory: &Path, server: &str) -> Result<(), RunnerError> {
    let runner = targets::targets(options, directory, "launch", "launch", server);
    for found in runner.list().await?.found {
        tracing::warn!(job = %found.id, "ending a job whose `slipway launch` was killed");
        give_up(&runner, &found.id).await?;
    }
    let deadline = Instant::now() + REMOVAL;
    while !is_empty(directory) && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    if is_empty(directory) {
        let _ = fs::remove_dir_all(directory);
    }
    Ok(())
}
