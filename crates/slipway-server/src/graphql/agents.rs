//! Launch agents: registering, heartbeats, drain.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use serde_json::{Map, Value};
use slipway_model::agent::AgentStatus;
use slipway_model::id::{AgentId, QueueId};
use slipway_model::redact::redact;
use slipway_store::agents::{Agent, NewAgent};

use super::Result;
use super::context::{Caller, RequestContext as _};
use super::items::RunQueueItem;
use super::names::check_run_id;
use super::scalars::{DateTime, Json, JsonString};
use crate::{ApiError, access};

/// The longest configuration that an agent may send, in bytes.
const MAX_CONFIG: usize = 256 << 10;

/// Finding agents.
#[derive(Default)]
pub(crate) struct AgentQuery;

#[Object]
impl AgentQuery {
    /// An agent; null if there is none that the caller may see. An official agent asks for itself
    /// at every turn of its loop, which is its heartbeat.
    async fn launch_agent(&self, ctx: &Context<'_>, id: ID) -> Result<Option<LaunchAgent>> {
        let Some(agent) = find_agent(ctx.caller(), &id).await? else {
            return Ok(None);
        };
        if !agent.managed && access::run_agent(ctx.principal(), &agent.entity).is_ok() {
            let contacts = &ctx.app().contacts;
            contacts.hear(ctx.store(), agent.id, None, ctx.now()).await?;
        }
        Ok(Some(LaunchAgent::new(agent)))
    }

    /// The agents of an entity, newest first.
    #[graphql(visible = "super::additions")]
    async fn launch_agents(&self, ctx: &Context<'_>, entity_name: String) -> Result<Vec<LaunchAgent>> {
        access::read_entity(ctx.principal(), &entity_name)?;
        let agents = ctx.store().agents(&entity_name).await?;
        Ok(agents.into_iter().map(LaunchAgent::new).collect())
    }
}

/// Finds an agent that the caller may see.
async fn find_agent(ctx: &Caller, id: &str) -> Result<Option<Agent>> {
    let Ok(id) = id.parse::<AgentId>() else {
        return Ok(None);
    };
    let agent = ctx.store().agent(id).await?;
    Ok(agent.filter(|agent| access::can_read_entity(ctx.principal(), &agent.entity)))
}

/// Finds an agent for which the caller may act.
pub(super) async fn find_own_agent(ctx: &Caller, id: &str) -> Result<Agent> {
    let agent = find_agent(ctx, id)
        .await?
        .ok_or_else(|| ApiError::not_found("launch agent", &id.chars().take(80).collect::<String>()))?;
    access::run_agent(ctx.principal(), &agent.entity)?;
    Ok(agent)
}

/// Changing agents.
#[derive(Default)]
pub(crate) struct AgentMutation;

#[Object]
impl AgentMutation {
    /// Registers an agent. With a name it takes over that name.
    async fn create_launch_agent(
        &self,
        ctx: &Context<'_>,
        input: CreateLaunchAgentInput,
    ) -> Result<CreateLaunchAgentPayload> {
        let entity = input
            .entity_name
            .unwrap_or_else(|| ctx.principal().default_entity().to_owned());
        access::run_agent(ctx.principal(), &entity)?;
        if let Some(name) = &input.name {
            // The name is the id of the agent's own run.
            check_run_id(name).map_err(|error| ApiError::bad(format!("the agent's name: {}", error.message)))?;
        }
        let queues = served_queues(ctx, &entity, &input.run_queues).await?;
        let config = read_config(input.agent_config.as_ref().map_or("{}", |config| &config.0))?;
        let agent = ctx
            .store()
            .register_agent(
                NewAgent {
                    entity,
                    name: input.name,
                    instance: input.instance,
                    take_over: input.take_over.unwrap_or(false),
                    queues,
                    hostname: input.hostname,
                    version: input.version.unwrap_or_default(),
                    max_jobs: max_jobs(&config),
                    config: Value::Object(config).to_string(),
                    managed: input.managed.unwrap_or(false),
                    user: ctx.principal().author().to_owned(),
                },
                ctx.now(),
            )
            .await?;
        Ok(CreateLaunchAgentPayload {
            launch_agent_id: Some(ID(agent.id.to_string())),
            agent: LaunchAgent::new(agent),
            success: true,
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Notes what an agent says of itself. One that has ended stays ended.
    async fn update_launch_agent(
        &self,
        ctx: &Context<'_>,
        input: UpdateLaunchAgentInput,
    ) -> Result<UpdateLaunchAgentPayload> {
        let agent = find_own_agent(ctx.caller(), &input.launch_agent_id).await?;
        let status = match input.agent_status.as_deref() {
            None => None,
            Some(word) => Some(AgentStatus::parse(word).ok_or_else(|| {
                ApiError::bad(format!(
                    "`{word}` is not an agent status; these are: POLLING, RUNNING, DRAINING, KILLED"
                ))
            })?),
        };
        let contacts = &ctx.app().contacts;
        Ok(UpdateLaunchAgentPayload {
            success: contacts.hear(ctx.store(), agent.id, status, ctx.now()).await?,
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Asks an agent to take nothing new and end when its jobs have ended, or takes that back.
    #[graphql(visible = "super::additions")]
    async fn drain_launch_agent(
        &self,
        ctx: &Context<'_>,
        input: DrainLaunchAgentInput,
    ) -> Result<DrainLaunchAgentPayload> {
        let agent = find_own_agent(ctx.caller(), &input.launch_agent_id).await?;
        let author = ctx.principal().author();
        ctx.store()
            .request_drain(agent.id, input.drain, author, ctx.now())
            .await?;
        Ok(DrainLaunchAgentPayload {
            agent: LaunchAgent::new(find_own_agent(ctx.caller(), &input.launch_agent_id).await?),
            client_mutation_id: input.client_mutation_id,
        })
    }
}

/// The queues of an agent: each must exist in its entity.
async fn served_queues(ctx: &Context<'_>, entity: &str, ids: &[ID]) -> Result<Vec<QueueId>> {
    let known: BTreeSet<QueueId> = ctx
        .store()
        .queues(entity, None)
        .await?
        .into_iter()
        .map(|queue| queue.id)
        .collect();
    let mut queues = Vec::new();
    for id in ids {
        let queue = id.parse().ok().filter(|queue| known.contains(queue));
        let queue = queue.ok_or_else(|| ApiError::not_found("queue", id))?;
        if !queues.contains(&queue) {
            queues.push(queue);
        }
    }
    Ok(queues)
}

/// An agent's configuration as it is kept and shown to everybody who sees the agent: without what
/// looks like a secret.
fn read_config(text: &str) -> Result<Map<String, Value>> {
    if text.len() > MAX_CONFIG {
        return Err(ApiError::bad(format!(
            "`agentConfig` has {} bytes; at most {MAX_CONFIG} are accepted",
            text.len()
        )));
    }
    let mut config =
        serde_json::from_str(text).map_err(|error| ApiError::bad(format!("`agentConfig` is not JSON: {error}")))?;
    redact(&mut config);
    match config {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(ApiError::bad("`agentConfig` must be a JSON object")),
    }
}

/// `max_jobs` of an agent's configuration: 1 if it says nothing, -1 for no limit.
fn max_jobs(config: &Map<String, Value>) -> i64 {
    config.get("max_jobs").and_then(Value::as_i64).unwrap_or(1).max(-1)
}

/// A launch agent.
#[derive(Clone)]
pub(crate) struct LaunchAgent(Arc<Agent>);

impl LaunchAgent {
    /// The wire's agent over a stored one.
    pub(crate) fn new(agent: Agent) -> Self {
        Self(Arc::new(agent))
    }
}

#[Object]
impl LaunchAgent {
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    /// Also the id of the official agent's own run.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The ids of the queues that it serves.
    async fn run_queues(&self) -> Vec<ID> {
        self.0.queues.iter().map(|queue| ID(queue.to_string())).collect()
    }

    async fn hostname(&self) -> &str {
        &self.0.hostname
    }

    async fn agent_status(&self) -> &'static str {
        self.0.status.as_str()
    }

    /// Whether it should take nothing new and end: somebody asked it to drain, or it was replaced.
    async fn stop_polling(&self) -> bool {
        self.0.drain_requested || self.0.status == AgentStatus::Killed
    }

    async fn heartbeat_at(&self) -> DateTime {
        DateTime(self.0.heartbeat_at)
    }

    #[graphql(visible = "super::additions")]
    async fn entity_name(&self) -> &str {
        &self.0.entity
    }

    #[graphql(visible = "super::additions")]
    async fn version(&self) -> &str {
        &self.0.version
    }

    /// -1 for no limit.
    #[graphql(visible = "super::additions")]
    async fn max_jobs(&self) -> i64 {
        self.0.max_jobs
    }

    #[graphql(visible = "super::additions")]
    async fn config(&self) -> Json {
        Json::from_text(&self.0.config)
    }

    /// Whether somebody asked it to drain.
    #[graphql(visible = "super::additions")]
    async fn drain_requested(&self) -> bool {
        self.0.drain_requested
    }

    /// The number of registrations under this name.
    #[graphql(visible = "super::additions")]
    async fn epoch(&self) -> i64 {
        self.0.epoch
    }

    /// Whether it speaks the additions.
    #[graphql(visible = "super::additions")]
    async fn managed(&self) -> bool {
        self.0.managed
    }

    #[graphql(visible = "super::additions")]
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// Whether it was heard from lately and has not ended.
    #[graphql(visible = "super::additions")]
    async fn active(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(ctx.store().is_active(&self.0, ctx.now()).await?)
    }

    /// The items that it holds.
    #[graphql(visible = "super::additions")]
    async fn held_items(&self, ctx: &Context<'_>) -> Result<Vec<RunQueueItem>> {
        let items = ctx.store().held_items(self.0.id).await?;
        Ok(RunQueueItem::listed(items).collect())
    }
}

/// What `createLaunchAgent` takes.
#[derive(InputObject)]
struct CreateLaunchAgentInput {
    entity_name: Option<String>,
    /// The project of the queues; their ids decide.
    project_name: Option<String>,
    run_queues: Vec<ID>,
    hostname: String,
    agent_config: Option<JsonString>,
    version: Option<String>,
    /// A stable name; null makes one up.
    #[graphql(visible = "super::additions")]
    name: Option<String>,
    /// The same across restarts on one machine.
    #[graphql(visible = "super::additions")]
    instance: Option<String>,
    /// Take the name from a live holder.
    #[graphql(visible = "super::additions")]
    take_over: Option<bool>,
    /// The agent renews leases and reports starts and outcomes.
    #[graphql(visible = "super::additions")]
    managed: Option<bool>,
    client_mutation_id: Option<String>,
}

/// What `createLaunchAgent` answers.
#[derive(SimpleObject)]
struct CreateLaunchAgentPayload {
    launch_agent_id: Option<ID>,
    success: bool,
    #[graphql(visible = "super::additions")]
    agent: LaunchAgent,
    client_mutation_id: Option<String>,
}

/// What `updateLaunchAgent` takes.
#[derive(InputObject)]
struct UpdateLaunchAgentInput {
    launch_agent_id: ID,
    /// POLLING, RUNNING, DRAINING or KILLED.
    agent_status: Option<String>,
    client_mutation_id: Option<String>,
}

/// What `updateLaunchAgent` answers.
#[derive(SimpleObject)]
struct UpdateLaunchAgentPayload {
    success: bool,
    client_mutation_id: Option<String>,
}

/// What `drainLaunchAgent` takes.
#[derive(InputObject)]
struct DrainLaunchAgentInput {
    launch_agent_id: ID,
    drain: bool,
    client_mutation_id: Option<String>,
}

/// What `drainLaunchAgent` answers.
#[derive(SimpleObject)]
struct DrainLaunchAgentPayload {
    agent: LaunchAgent,
    client_mutation_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_jobs_is_read_from_the_configuration() {
        for (config, expected) in [
            ("{}", Some(1)),
            (r#"{"max_jobs": 4}"#, Some(4)),
            (r#"{"max_jobs": -1}"#, Some(-1)),
            (r#"{"max_jobs": -7}"#, Some(-1)),
            (r#"{"max_jobs": "many"}"#, Some(1)),
            ("null", Some(1)),
            ("[]", None),
            ("{", None),
        ] {
            let read = read_config(config).ok();
            assert_eq!(read.as_ref().map(max_jobs), expected, "{config}");
        }
    }

    #[test]
    fn a_configuration_is_kept_without_its_secrets() {
        let read = read_config(r#"{"api_key": "k", "registry": {"password": "p", "uri": "r"}, "queues": ["q"]}"#);
        let kept = Value::Object(read.unwrap()).to_string();
        assert!(!kept.contains("\"k\"") && !kept.contains("\"p\""), "{kept}");
        assert!(kept.contains("api_key") && kept.contains("queues"), "{kept}");
    }
}
