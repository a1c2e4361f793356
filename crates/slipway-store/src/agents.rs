//! Launch agents.

use slipway_model::Millis;
use slipway_model::agent::AgentStatus;
use slipway_model::id::{AgentId, QueueId};
use slipway_model::wait::AgentLoad;

use crate::identity::unfinished;
use crate::items::Item;
use crate::{Result, Store};

/// A registered agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// The entity whose queues it serves.
    pub entity: String,
    /// Its name: stable for ours, made up for others. Also the id of the official agent's own run,
    /// so it is a valid run id.
    pub name: String,
    /// The queues that it serves.
    pub queues: Vec<QueueId>,
    /// Where it runs.
    pub hostname: String,
    /// What it says it is, such as `wandb@0.31.0`.
    pub version: String,
    /// Its configuration without secrets, JSON text.
    pub config: String,
    /// From the configuration; -1 for no limit.
    pub max_jobs: i64,
    /// What it last said.
    pub status: AgentStatus,
    /// Whether somebody asked it to drain.
    pub drain_requested: bool,
    /// The number of registrations under this name; an older holder is refused.
    pub epoch: i64,
    /// Whether it speaks our additions.
    pub managed: bool,
    /// When it was last heard from.
    pub heartbeat_at: Millis,
    /// When it registered.
    pub created_at: Millis,
    /// The key it registered with belongs to this user.
    pub user: String,
}

/// A registration.
#[derive(Debug, Clone)]
pub struct NewAgent {
    /// The entity whose queues it serves.
    pub entity: String,
    /// The stable name; `None` makes one up.
    pub name: Option<String>,
    /// Told by the agent, the same across its restarts on one machine: a registration under a live
    /// agent's name by another instance is refused unless `take_over`.
    pub instance: Option<String>,
    /// Take the name from a live holder.
    pub take_over: bool,
    /// The queues that it serves.
    pub queues: Vec<QueueId>,
    /// Where it runs.
    pub hostname: String,
    /// What it says it is.
    pub version: String,
    /// Its configuration without secrets, JSON text.
    pub config: String,
    /// From the configuration.
    pub max_jobs: i64,
    /// Whether it speaks our additions.
    pub managed: bool,
    /// The user whose key it uses.
    pub user: String,
}

impl Store {
    /// Registers an agent, or takes over its name with a new epoch.
    pub async fn register_agent(&self, agent: NewAgent, now: Millis) -> Result<Agent> {
        unfinished(agent, now)
    }
    /// Finds an agent.
    pub async fn agent(&self, id: AgentId) -> Result<Option<Agent>> {
        unfinished(id, ())
    }
    /// Finds an agent by name.
    pub async fn agent_by_name(&self, entity: &str, name: &str) -> Result<Option<Agent>> {
        unfinished(entity, name)
    }
    /// The agents of an entity, newest first.
    pub async fn agents(&self, entity: &str) -> Result<Vec<Agent>> {
        unfinished(entity, ())
    }
    /// Notes that an agent was heard from, and what it said. Killed agents stay killed. Writes at
    /// most once in five seconds unless something changed.
    pub async fn touch_agent(&self, id: AgentId, status: Option<AgentStatus>, now: Millis) -> Result<bool> {
        unfinished((id, status), now)
    }
    /// Asks an agent to drain, or takes that back.
    pub async fn request_drain(&self, id: AgentId, drain: bool) -> Result<()> {
        unfinished(id, drain)
    }
    /// The items that an agent holds.
    pub async fn held_items(&self, id: AgentId) -> Result<Vec<Item>> {
        unfinished(id, ())
    }
    /// The live agents that serve a queue and how busy they are.
    pub async fn queue_agents(&self, queue: QueueId, now: Millis) -> Result<Vec<(Agent, AgentLoad)>> {
        unfinished(queue, now)
    }
}
