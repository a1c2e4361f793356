//! The calls to an engine that the target makes, each with what its refusals mean.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, NetworkConnectRequest};
use bollard::query_parameters::{RemoveContainerOptions, StopContainerOptions};
use slipway_model::docker_options::{Api, FurtherNetwork, Need};
use tokio::time::Instant;

use super::engine::{self, Engine, TIMEOUT, Trouble};
use super::request::{self, Container};
use super::{AGAIN, UNREADABLE};
use crate::{Line, RunnerError, WorkloadId};

/// Repeats a call until the engine answers, or the workload is not wanted any more.
pub(super) async fn patiently<T, F>(line: &Line, action: &str, call: impl Fn() -> F) -> Result<T, RunnerError>
where
    F: Future<Output = Result<T, RunnerError>>,
{
    let mut said = false;
    let mut unreadable_since = None;
    loop {
        line.wanted()?;
        let answer = call().await;
        if !matches!(answer, Err(RunnerError::Unreadable { .. })) {
            unreadable_since = None;
        } else if unreadable_since.get_or_insert_with(Instant::now).elapsed() >= UNREADABLE {
            return answer;
        }
        match answer {
            Err(error) if error.is_away() => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, action, "trying again until it answers");
                    line.waits("engine-away", format!("{error}; the job waits for it"));
                }
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    () = line.withdrawn() => {}
                }
            }
            other => {
                if said {
                    tracing::info!(action, "the engine answers again");
                    line.goes_on();
                }
                return other;
            }
        }
    }
}

/// A container by id or name; none if there is none.
pub(super) async fn inspect(engine: &Engine, container: &str) -> Result<Option<ContainerInspectResponse>, RunnerError> {
    let found = engine.ask(|docker| async move { docker.inspect_container(container, None).await });
    match found.await {
        Ok(found) => Ok(Some(found)),
        Err(trouble) if trouble.status() == 404 => Ok(None),
        Err(trouble) => Err(engine.failure("look at a container", trouble)),
    }
}

/// Removes a container; it is no failure that there is none.
pub(super) async fn remove(engine: &Engine, container: &str, force: bool) -> Result<(), RunnerError> {
    let options = RemoveContainerOptions {
        // As `docker run --rm` does: volumes without a name go with their container.
        v: true,
        force,
        ..RemoveContainerOptions::default()
    };
    let removed = engine.ask(|docker| async move { docker.remove_container(container, Some(options)).await });
    match removed.await {
        Err(trouble) if trouble.status() == 404 => Ok(()),
        other => other.map_err(|trouble| engine.failure("remove a container", trouble)),
    }
}

/// Asks a container to stop, and kills it after its grace. The engine counts the grace, so that it ends
/// even if this process does, and answers only then: the call may take that long, and is not repeated
/// while it does, since a program may take a second signal as an order to drop everything.
pub(super) async fn stop(engine: &Engine, container: &str, grace: Duration) -> Result<(), RunnerError> {
    let options = StopContainerOptions {
        t: Some(i32::try_from(grace.as_secs()).unwrap_or(i32::MAX)),
        ..StopContainerOptions::default()
    };
    let limit = grace + Duration::from_secs(TIMEOUT);
    let stopped = engine.ask(|docker| async move {
        docker
            .with_timeout(limit)
            .stop_container(container, Some(options))
            .await
    });
    match stopped.await {
        Err(trouble) if trouble.status() == 404 => Ok(()),
        other => other.map_err(|trouble| engine.failure("stop a container", trouble)),
    }
}

/// Lets a paused container go on.
pub(super) async fn unpause(engine: &Engine, container: &str) -> Result<(), RunnerError> {
    let unpaused = engine.ask(|docker| async move { docker.unpause_container(container).await });
    match unpaused.await {
        Err(trouble) if trouble.status() == 404 => Ok(()),
        other => other.map_err(|trouble| engine.failure("unpause a container", trouble)),
    }
}

/// Connects a container to a further network.
pub(super) async fn connect(engine: &Engine, container: &str, network: &FurtherNetwork) -> Result<(), RunnerError> {
    let endpoint = serde_json::from_value(serde_json::Value::Object(network.endpoint.clone()));
    let request = NetworkConnectRequest {
        container: container.to_owned(),
        endpoint_config: endpoint.ok(),
    };
    let connected = engine.ask(|docker| async move { docker.connect_network(&network.name, request).await });
    match connected.await {
        // An earlier call had its effect and lost its answer.
        Err(Trouble::Answer { message, .. }) if message.contains("already exists in network") => Ok(()),
        Err(Trouble::Answer { message, .. }) => Err(engine::refusal("start", &message)),
        other => other.map_err(|trouble| engine.failure("connect a network", trouble)),
    }
}

/// What podman does although it says that its API is of an earlier version, and what other engines of
/// such a version have in another field of the request.
const MAC_ADDRESS: &str = "mac-address";

/// Refuses options that came with a later version of the API than the engine's: it would ignore them in
/// silence. Answers with the MAC address that goes into the container's own settings, where an earlier
/// engine looks for it.
pub(super) async fn require_api(engine: &Engine, container: &Container) -> Result<Option<String>, RunnerError> {
    let needs = &container.needs;
    if needs.is_empty() {
        return Ok(None);
    }
    let asked = engine.ask(|docker| async move { docker.version().await });
    let version = asked
        .await
        .map_err(|trouble| engine.failure("tell its version", trouble))?;
    let podman = version
        .components
        .iter()
        .flatten()
        .any(|component| component.name.starts_with("Podman"));
    let said = version.api_version.unwrap_or_default();
    let Some(has) = Api::parse(&said) else { return Ok(None) };
    let (addresses, missing): (Vec<&Need>, Vec<&Need>) = needs
        .iter()
        .filter(|need| need.since > has)
        .partition(|need| need.option == MAC_ADDRESS);
    let address = match addresses.first() {
        Some(_) if !podman => container.only_mac_address(),
        _ => None,
    };
    let unheard = addresses.first().filter(|_| !podman && address.is_none());
    match missing.first().or(unheard) {
        None => Ok(address),
        Some(need) => Err(RunnerError::Refused {
            reason: "engine-too-old",
            message: format!(
                "`{}` needs an engine whose API is of version {} at least, and this one's is {has}: it would ignore the \
                 option; use a later engine, or leave the option out",
                need.option, need.since
            ),
        }),
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

/// Whether a container has processes. One that is paused has; engines differ in whether they call it
/// running.
pub(super) fn runs(state: &ContainerState) -> bool {
    state.running.unwrap_or(false) || state.paused.unwrap_or(false)
}
