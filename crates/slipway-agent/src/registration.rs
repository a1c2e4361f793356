//! How an agent makes itself known.

use slipway_client::Client;
use slipway_model::agent_config::AgentConfig;
use slipway_model::queue::QUEUE_PROJECT;
use slipway_runner::short_digest;
use slipway_wire::agent::Registration;
use slipway_wire::run::UpsertRun;

use crate::error::AgentError;
use crate::options::AgentOptions;
use crate::patience::patiently;
use crate::state_directory;

/// An agent that the server knows.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) id: String,
    /// As the server has it; an official one makes names up.
    pub(crate) name: String,
    /// Whether the server knows our additions.
    pub(crate) managed: bool,
}

fn server(action: &'static str) -> impl FnOnce(slipway_client::Error) -> AgentError {
    move |source| AgentError::Server { action, source }
}

/// The owner of the queues: as configured, else the key's default entity.
pub(crate) async fn entity(client: &Client, config: &AgentConfig) -> Result<String, AgentError> {
    // Asked in any case: a key that is not accepted should be the first thing that is said.
    let viewer = patiently(client, "look who the key belongs to", |client| async move {
        client.viewer().await
    })
    .await
    .map_err(server("could not sign in"))?;
    let configured = config.entity.clone();
    configured
        .or(viewer.entity)
        .or(viewer.username)
        .ok_or(AgentError::NoEntity)
}

/// The agent's stable name: as configured, else the one that the state directory keeps since the
/// agent's first start. A configuration may change; what runs is found again by the name.
pub(crate) fn stable_name(options: &AgentOptions, server: &str, entity: &str) -> Result<String, AgentError> {
    match &options.config.name {
        Some(name) => Ok(name.clone()),
        None => state_directory::kept_name(&options.state_directory, || first_name(options, server, entity)),
    }
}

/// The name that a start would have, without keeping it.
pub(crate) fn name_of_a_start(options: &AgentOptions, server: &str, entity: &str) -> String {
    let known = options.config.name.clone();
    known
        .or_else(|| state_directory::known_name(&options.state_directory))
        .unwrap_or_else(|| first_name(options, server, entity))
}

/// The name of a first start: from the machine and what the agent serves then, so that agents of
/// several machines are told apart. Valid as a run's id.
fn first_name(options: &AgentOptions, server: &str, entity: &str) -> String {
    let mut queues = options.config.queues.clone();
    queues.sort();
    let digest = short_digest([server, entity].into_iter().chain(queues.iter().map(String::as_str)));
    let host: String = options
        .hostname
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    match host.trim_matches('-') {
        "" => format!("agent-{digest}"),
        host => format!("{host}-{digest}"),
    }
}

/// The ids of all named queues.
pub(crate) async fn queue_ids(client: &Client, entity: &str, wanted: &[String]) -> Result<Vec<String>, AgentError> {
    let known = patiently(client, "list the queues", |client| async move {
        client.project_queues(entity, QUEUE_PROJECT).await
    });
    let known = match known.await {
        Ok(known) => known,
        Err(slipway_client::Error::NotFound(_)) => Vec::new(),
        Err(error) => return Err(server("could not list the queues")(error)),
    };
    let id = |name: &String| {
        known
            .iter()
            .find(|queue| queue.name == *name)
            .map(|queue| queue.id.clone())
    };
    let missing: Vec<String> = wanted.iter().filter(|name| id(name).is_none()).cloned().collect();
    if missing.is_empty() {
        return Ok(wanted.iter().filter_map(id).collect());
    }
    Err(AgentError::MissingQueues {
        entity: entity.to_owned(),
        missing,
        available: known.into_iter().map(|queue| queue.name).collect(),
    })
}

/// Registers the agent.
pub(crate) async fn register(
    client: &Client,
    options: &AgentOptions,
    entity: &str,
    name: &str,
    instance: &str,
) -> Result<Registered, AgentError> {
    let managed = patiently(client, "ask what the server can do", |client| async move {
        client.has_additions().await
    })
    .await
    .map_err(server("could not ask what the server can do"))?;
    let run_queues = queue_ids(client, entity, &options.config.queues).await?;
    let registration = &Registration {
        entity_name: entity.to_owned(),
        project_name: QUEUE_PROJECT.to_owned(),
        run_queues,
        hostname: options.hostname.clone(),
        agent_config: Some(options.config.to_value().to_string()),
        version: Some(options.version.clone()),
        name: Some(name.to_owned()),
        instance: Some(instance.to_owned()),
        take_over: options.take_over,
        managed,
    };
    let id = patiently(client, "register the agent", |client| async move {
        client.register_agent(registration).await
    })
    .await
    .map_err(server("could not register the agent"))?;
    if managed {
        let name = name.to_owned();
        return Ok(Registered { id, name, managed });
    }
    let agent_id = &id;
    let name = patiently(client, "look at the agent", |client| async move {
        client.agent(agent_id).await
    })
    .await
    .map_err(server("could not look at the agent"))?
    .name;
    // The official agent's own run, which carries the logs of failed items.
    let run = UpsertRun {
        name: Some(name.clone()),
        project: Some(QUEUE_PROJECT.to_owned()),
        entity: Some(entity.to_owned()),
        host: Some(options.hostname.clone()),
        job_type: Some("sweep-controller".to_owned()),
        ..UpsertRun::default()
    };
    if let Err(error) = client.upsert_run(&run).await {
        tracing::warn!(%error, "the agent's own run could not be made; failed jobs will have no log file");
    }
    Ok(Registered { id, name, managed })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn options(hostname: &str, queues: &[&str], name: Option<&str>, state: &Path) -> AgentOptions {
        AgentOptions {
            config: AgentConfig {
                queues: queues.iter().map(|queue| (*queue).to_owned()).collect(),
                name: name.map(str::to_owned),
                ..AgentConfig::default()
            },
            state_directory: state.to_owned(),
            hostname: hostname.to_owned(),
            version: "slipway@0".to_owned(),
            take_over: false,
            shim: Vec::new(),
        }
    }

    #[test]
    fn the_first_start_decides_the_name_and_a_given_one_wins() {
        let state = tempfile::tempdir().unwrap();
        let name = |queues: &[&str], given| {
            let options = options("h", queues, given, state.path());
            stable_name(&options, "s", "e").unwrap()
        };
        let first = name(&["a"], None);
        assert_eq!(
            name(&["a", "b"], None),
            first,
            "another list of queues is the same agent"
        );
        assert_eq!(name(&["a"], Some("mine")), "mine");
        assert_eq!(name(&["c"], None), first, "a given name is not kept");
    }

    #[test]
    fn first_names_differ_by_machine_and_by_what_is_served() {
        let name = |host: &str, queues: &[&str], entity: &str| {
            first_name(&options(host, queues, None, Path::new("unused")), "s", entity)
        };
        assert_eq!(
            name("Host.example", &["a", "b"], "e"),
            name("Host.example", &["b", "a"], "e")
        );
        assert_ne!(name("h", &["a"], "e"), name("h", &["b"], "e"));
        assert_ne!(name("h", &["a"], "e"), name("h", &["a"], "f"));
        assert!(name("Host.example", &["a"], "e").starts_with("host-example-"));
        assert!(name("…", &["a"], "e").starts_with("agent-"));
    }

    #[test]
    fn missing_queues_are_named_all_at_once_with_what_there_is() {
        let error = AgentError::MissingQueues {
            entity: "team".to_owned(),
            missing: vec!["a".to_owned(), "b".to_owned()],
            available: vec!["c".to_owned()],
        };
        assert_eq!(
            error.to_string(),
            "entity `team` has no queue named `a`, `b`; it has `c`"
        );
    }
}
