//! `launch-agent --check`: looks at everything that an agent needs, and leaves nothing changed.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use slipway_client::{Client, Retry};
use slipway_model::queue::QUEUE_PROJECT;
use slipway_runner::Runner;
use slipway_wire::queue::Queue;

use crate::error::AgentError;
use crate::health::resolve;
use crate::options::AgentOptions;
use crate::registration::name_of_a_start;
use crate::state_directory;

/// One line of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at, such as `server` or `queue gpu`.
    pub name: String,
    /// What was found, or what is wrong and what to do.
    pub result: Result<String, String>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// In the order in which an agent needs them.
    pub checks: Vec<Check>,
}

impl CheckReport {
    /// Whether the agent would serve its queues.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.result.is_ok())
    }

    /// Adds a line.
    pub fn add(&mut self, name: impl Into<String>, result: Result<String, String>) {
        let name = name.into();
        self.checks.push(Check { name, result });
    }
}

/// A target resource, as far as the configuration has it.
pub(crate) struct Target<'a> {
    /// As queues name it.
    pub(crate) resource: &'static str,
    /// None where the configuration leaves it out.
    pub(crate) runner: Option<&'a dyn Runner>,
    /// How to have it.
    pub(crate) enable: &'static str,
}

/// Looks at everything. What cannot be looked at because of something before is left out.
pub(crate) async fn check(options: &AgentOptions, client: &Client, targets: &[Target<'_>]) -> CheckReport {
    let client = &client.with_retry(Retry::Never);
    let mut report = CheckReport::default();
    if let Some(entity) = server(options, client, &mut report).await {
        queues(options, client, &entity, targets, &mut report).await;
        name(options, client, &entity, &mut report).await;
    }
    report.add("state", writable(&options.state_directory));
    for target in targets {
        let result = match target.runner {
            Some(runner) => runner
                .check()
                .await
                .map(|()| "ready".to_owned())
                .map_err(|error| error.to_string()),
            None => Ok(format!("not enabled; {}", target.enable)),
        };
        report.add(target.resource, result);
    }
    if targets.iter().all(|target| target.runner.is_none()) {
        let ways: Vec<&str> = targets.iter().map(|target| target.enable).collect();
        let problem = format!("the agent runs jobs nowhere: {}", ways.join(", or "));
        report.add("targets", Err(problem));
    }
    if let Some(address) = &options.config.health_address {
        // The listener goes at once; the agent itself says it again if somebody is quicker.
        let bind = |found: Vec<SocketAddr>| {
            TcpListener::bind(&found[..]).map_err(|source| AgentError::HealthAddress {
                address: address.clone(),
                source,
            })
        };
        let result = resolve(address).await.and_then(bind);
        let told = result.map(|_| address.to_string()).map_err(|error| error.to_string());
        report.add("health", told);
    }
    report
}

/// The server, the key, and who owns the queues.
async fn server(options: &AgentOptions, client: &Client, report: &mut CheckReport) -> Option<String> {
    let viewer = match client.viewer().await {
        Ok(viewer) => viewer,
        Err(error) => {
            report.add("server", Err(explained(&error)));
            return None;
        }
    };
    let username = viewer.username.clone().unwrap_or_default();
    let kind = match client.has_additions().await {
        Ok(true) => "tells of items at once",
        Ok(false) => "has only the official API: the agent polls each 10 s",
        Err(error) => {
            report.add("server", Err(explained(&error)));
            return None;
        }
    };
    let found = format!("{} accepts the key of `{username}` and {kind}", client.base_url());
    report.add("server", Ok(found));
    let (entity, source) = match &options.config.entity {
        Some(entity) => (Some(entity.clone()), "as configured"),
        None => (viewer.entity.or(viewer.username), "the key's own"),
    };
    let result = match &entity {
        Some(entity) => Ok(format!("`{entity}`, {source}")),
        None => Err(AgentError::NoEntity.to_string()),
    };
    report.add("entity", result);
    entity
}

async fn queues(
    options: &AgentOptions,
    client: &Client,
    entity: &str,
    targets: &[Target<'_>],
    report: &mut CheckReport,
) {
    let known = match client.project_queues(entity, QUEUE_PROJECT).await {
        Ok(known) => known,
        Err(slipway_client::Error::NotFound(_)) => Vec::new(),
        Err(error) => return report.add("queues", Err(explained(&error))),
    };
    for name in &options.config.queues {
        let result = if known.iter().any(|queue| queue.name == *name) {
            match client.queue(entity, QUEUE_PROJECT, name).await {
                Ok(queue) => serves(queue.as_ref(), targets),
                Err(error) => Err(explained(&error)),
            }
        } else {
            let missing = AgentError::MissingQueues {
                entity: entity.to_owned(),
                missing: vec![name.clone()],
                available: known.iter().map(|queue| queue.name.clone()).collect(),
            };
            Err(missing.to_string())
        };
        report.add(format!("queue {name}"), result);
    }
}

/// Whether the agent has the target of a queue's jobs.
fn serves(queue: Option<&Queue>, targets: &[Target<'_>]) -> Result<String, String> {
    let Some(resource) = queue.and_then(|queue| queue.resource.as_deref()) else {
        return Ok("exists".to_owned());
    };
    match targets.iter().find(|target| target.resource == resource) {
        Some(target) if target.runner.is_some() => Ok(format!("exists; its jobs run on {resource}")),
        Some(target) => Err(format!(
            "its jobs run on `{resource}`, which is not enabled: {}",
            target.enable
        )),
        None => Err(format!(
            "its jobs run on `{resource}`, which this agent does not have; leave the queue to another agent"
        )),
    }
}

/// Whether the name is free.
async fn name(options: &AgentOptions, client: &Client, entity: &str, report: &mut CheckReport) {
    let name = name_of_a_start(options, client.base_url(), entity);
    let held_here = state_directory::runs(&options.state_directory, &name);
    // The server takes an agent for the same by what its state directory keeps.
    let known_here = state_directory::has_run(&options.state_directory, &name);
    let held_elsewhere = match client.agents(entity).await {
        Ok(agents) => agents.into_iter().find(|agent| {
            let here = known_here && agent.hostname.as_deref() == Some(options.hostname.as_str());
            agent.name == name && agent.active == Some(true) && !here
        }),
        // An official server has no stable names; what else is wrong was said before.
        Err(_) => None,
    };
    let result = match held_elsewhere {
        _ if held_here => Err(AgentError::AlreadyRunning {
            name: name.clone(),
            directory: options.state_directory.clone(),
        }
        .to_string()),
        Some(holder) if !options.take_over => Err(format!(
            "an agent named `{name}` is alive on `{}`; give this one another `--name`, or end that one with \
             `--take-over`",
            holder.hostname.unwrap_or_default()
        )),
        _ => Ok(format!("`{name}`")),
    };
    report.add("name", result);
}

/// Whether a directory can be written to, or made.
fn writable(directory: &Path) -> Result<String, String> {
    slipway_runner::check_directory(directory)
        .map(|()| directory.display().to_string())
        .map_err(|error| error.to_string())
}

fn explained(error: &slipway_client::Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_queue_whose_target_the_agent_lacks_is_told_apart() {
        let targets = [Target {
            resource: "local-process",
            runner: None,
            enable: "set `process: {enabled: true}`",
        }];
        let queue = |resource: Option<&str>| -> Queue {
            serde_json::from_value(json!({"id": "i", "name": "q", "resource": resource})).unwrap()
        };
        for (resource, expected) in [
            (None, Ok("exists")),
            (Some("local-process"), Err("process: {enabled: true}")),
            (Some("kubernetes"), Err("leave the queue to another agent")),
        ] {
            match (serves(Some(&queue(resource)), &targets), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(problem), Err(expected)) => assert!(problem.contains(expected), "{problem}"),
                (found, _) => panic!("{resource:?}: {found:?}"),
            }
        }
    }
}
