//! The calls to an engine that the target makes, each with what its refusals mean.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, NetworkConnectRequest};
use bollard::query_parameters::{RemoveContainerOptions, StopContainerOptions};
use slipway_model::docker_options::FurtherNetwork;

use super::AGAIN;
use super::engine::{self, Engine, Trouble};
use super::request;
use crate::{RunnerError, WorkloadId};

/// Repeats a call until the engine answers.
pub(super) async fn patiently<T, F>(action: &str, call: impl Fn() -> F) -> Result<T, RunnerError>
where
    F: Future<Output = Result<T, RunnerError>>,
{
    let mut said = false;
    loop {
        match call().await {
            Err(error) if error.is_away() => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, action, "trying again until it answers");
                }
                tokio::time::sleep(AGAIN).await;
            }
            other => {
                if said {
                    tracing::info!(action, "the engine answers again");
                }
                return other;
            }
        }
    }
}

/// A container by name; none if there is none.
pub(super) async fn inspect(engine: &Engine, name: &str) -> Result<Option<ContainerInspectResponse>, RunnerError> {
    let found = match engine.docker().await {
        Ok(docker) => docker.inspect_container(name, None).await.map_err(Trouble::from),
        Err(trouble) => Err(trouble),
    };
    match found {
        Ok(found) => Ok(Some(found)),
        Err(trouble) if trouble.status() == 404 => Ok(None),
        Err(trouble) => Err(engine.failure("look at a container", trouble)),
    }
}

/// Removes a container; it is no failure that there is none.
pub(super) async fn remove(engine: &Engine, name: &str, force: bool) -> Result<(), RunnerError> {
    let options = RemoveContainerOptions {
        // As `docker run --rm` does: volumes without a name go with their container.
        v: true,
        force,
        ..RemoveContainerOptions::default()
    };
    let removed = match engine.docker().await {
        Ok(docker) => docker
            .remove_container(name, Some(options))
            .await
            .map_err(Trouble::from),
        Err(trouble) => Err(trouble),
    };
    match removed {
        Err(trouble) if trouble.status() == 404 => Ok(()),
        other => other.map_err(|trouble| engine.failure("remove a container", trouble)),
    }
}

/// Asks a container to stop, and kills it after its grace.
pub(super) async fn stop(engine: &Engine, name: &str, options: StopContainerOptions) -> Result<(), RunnerError> {
    let stopped = match engine.docker().await {
        Ok(docker) => docker.stop_container(name, Some(options)).await.map_err(Trouble::from),
        Err(trouble) => Err(trouble),
    };
    match stopped {
        Err(trouble) if trouble.status() == 404 => Ok(()),
        other => other.map_err(|trouble| engine.failure("stop a container", trouble)),
    }
}

/// Connects a container to a further network.
pub(super) async fn connect(engine: &Engine, name: &str, network: &FurtherNetwork) -> Result<(), RunnerError> {
    let endpoint = serde_json::from_value(serde_json::Value::Object(network.endpoint.clone()));
    let request = NetworkConnectRequest {
        container: name.to_owned(),
        endpoint_config: endpoint.ok(),
    };
    let connected = match engine.docker().await {
        Ok(docker) => docker
            .connect_network(&network.name, request)
            .await
            .map_err(Trouble::from),
        Err(trouble) => Err(trouble),
    };
    match connected {
        // An earlier call had its effect and lost its answer.
        Err(Trouble::Answer { message, .. }) if message.contains("already exists in network") => Ok(()),
        Err(Trouble::Answer { message, .. }) => Err(engine::refusal("start", &message)),
        other => other.map_err(|trouble| engine.failure("connect a network", trouble)),
    }
}

/// A container's labels.
pub(super) fn labels(found: &ContainerInspectResponse) -> Option<&HashMap<String, String>> {
    found.config.as_ref()?.labels.as_ref()
}

/// The workload that a container's labels name.
pub(super) fn identity(found: &ContainerInspectResponse) -> Option<(WorkloadId, BTreeMap<String, String>)> {
    request::identify(labels(found)?)
}

/// Whether a container was never started.
pub(super) fn created_only(found: &ContainerInspectResponse) -> bool {
    found
        .state
        .as_ref()
        .is_some_and(|state| state.status == Some(ContainerStateStatusEnum::CREATED))
}
