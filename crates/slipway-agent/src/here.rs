//! One job without a queue, here and now: `slipway launch` without `--queue`.
//!
//! The job is prepared and run exactly as an item of a queue would be, and nobody but the caller
//! watches it: it has no item on the server, no lease and no second attempt.

use std::future::Future;
use std::time::Duration;

use serde_json::{Value, json};
use slipway_model::item::Failure;
use slipway_runner::{Exit, RunnerError, Status, WorkloadId};
use slipway_wire::item::LeasedItem;

use crate::health::Vitals;
use crate::item::plan::{failure, plan};
use crate::item::{Halt, Shared, prepare};
use crate::options::AgentOptions;
use crate::state_directory::random_base36;
use crate::targets;

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
/// comes; once `interrupted` resolves, the job is stopped.
pub(crate) async fn launch(
    options: &AgentOptions,
    client: &slipway_client::Client,
    spec: Value,
    entity: &str,
    started: impl FnOnce(),
    mut print: impl FnMut(&[u8]),
    interrupted: impl Future<Output = ()>,
) -> Result<Exit, HereError> {
    let item: LeasedItem = serde_json::from_value(json!({
        "runQueueItemId": format!("launch-{}", random_base36(16)),
        "runSpec": spec, "queueName": "", "queueEntity": entity,
    }))
    .map_err(|error| failure("bad-spec", format!("the launch spec cannot be read: {error}")))?;
    let plan = plan(&item, &options.config, random_base36(8))?;
    let directory = options.state_directory.join("here").join(plan.workload.file_name());
    let name = format!("launch-{}", plan.run.run);
    let targets = targets::targets(options, &directory, &name, entity, client.base_url());
    let shared = Shared {
        client: client.clone(),
        runner: std::sync::Arc::new(targets),
        config: options.config.clone(),
        agent_id: String::new(),
        entity: entity.to_owned(),
        agent_name: name,
        cache: directory.join("cache"),
        vitals: Vitals::new(&options.version, 1),
        managed: false,
    };
    let mut interrupted = std::pin::pin!(interrupted);
    let mut gone = true;
    let ended = async {
        let prepared = tokio::select! {
            prepared = prepare(&shared, &item, &plan) => prepared,
            () = &mut interrupted => return Err(HereError::Refused("interrupted before the job started".to_owned())),
        };
        let workload = prepared.map_err(|halt| match halt {
            Halt::Conclude(conclusion) => conclusion
                .failure
                .map_or_else(|| HereError::Refused("the job was stopped".to_owned()), HereError::from),
            Halt::Gone => HereError::Refused("the job was taken back".to_owned()),
        })?;
        let id = workload.id.clone();
        shared.runner.launch(workload).await?;
        started();
        let end = follow(&shared, &id, &mut print, interrupted).await;
        let left = match &end {
            Ok(_) => shared.runner.remove(&id).await,
            Err(_) => give_up(&shared, &id).await,
        };
        if let Err(error) = left {
            gone = false;
            tracing::warn!(%error, job = %id, "what is left of the job could not be removed");
        }
        end
    }
    .await;
    if gone {
        // Only this process ever knew of it.
        let _ = std::fs::remove_dir_all(&directory);
    }
    ended
}

/// Ends a job that can be followed no longer, and removes it.
async fn give_up(shared: &Shared, id: &WorkloadId) -> Result<(), RunnerError> {
    let runner = &shared.runner;
    let mut watch = runner.watch(id);
    runner.stop(id, Duration::ZERO).await?;
    while matches!(runner.status(id).await?, Status::Starting | Status::Running { .. }) {
        watch.changed().await;
    }
    runner.remove(id).await
}

async fn follow(
    shared: &Shared,
    id: &WorkloadId,
    print: &mut impl FnMut(&[u8]),
    mut interrupted: std::pin::Pin<&mut impl Future<Output = ()>>,
) -> Result<Exit, HereError> {
    let runner = &shared.runner;
    let mut watch = runner.watch(id);
    let (mut offset, mut stopped) = (0, false);
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
        tokio::select! {
            () = watch.changed() => {}
            () = &mut interrupted, if !stopped => {
                stopped = true;
                runner.stop(id, shared.config.stopped_run_timeout).await?;
            }
        }
    }
}
