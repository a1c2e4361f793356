//! Why an item waits, in one sentence.

use serde::{Deserialize, Serialize};

use crate::Millis;
use crate::item::ItemState;
use crate::queue::{QUEUE_PROJECT, QueueName};

/// What is known of an item and its queue when the reason is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitFacts {
    /// The item's state.
    pub state: ItemState,
    /// Its queue, unless that is gone.
    pub queue: Option<QueueName>,
    /// 1 for the item that runs next; only while pending.
    pub position: Option<u64>,
    /// Whether the queue is paused.
    pub paused: bool,
    /// Agents that serve the queue and were heard from lately: (name, running, max; -1 = no limit,
    /// draining).
    pub agents: Vec<AgentLoad>,
    /// When the item was leased, while leased or claimed.
    pub leased_at: Option<Millis>,
    /// The name of the agent that holds it.
    pub holder: Option<String>,
    /// Since when the holder has not been heard from, if it is lost.
    pub holder_lost_since: Option<Millis>,
    /// A warning that the agent reported, such as an unschedulable pod.
    pub warning: Option<String>,
}

/// One agent's load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentLoad {
    /// The agent's name.
    pub name: String,
    /// Items that it holds.
    pub running: i64,
    /// How many it takes; -1 for no limit.
    pub max_jobs: i64,
    /// Whether it takes nothing new.
    pub draining: bool,
}

/// A typed reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum WaitReason {
    /// The queue is paused.
    QueuePaused,
    /// No agent serves the queue.
    NoAgent {
        /// The queue, unless it is gone.
        queue: Option<QueueName>,
    },
    /// Every agent drains.
    AgentsDraining,
    /// Every agent runs as many jobs as it may.
    AgentFull {
        /// Items that run.
        running: i64,
        /// Slots in all.
        slots: i64,
        /// The item's position.
        position: u64,
    },
    /// Other items run first.
    Position {
        /// 1 for the next.
        position: u64,
    },
    /// An agent is about to take it.
    NotYetLeased,
    /// An agent prepares it.
    Starting {
        /// The agent.
        agent: String,
    },
    /// The agent that holds it is not heard from.
    AgentLost {
        /// The agent.
        agent: String,
        /// Since when.
        since: Millis,
    },
    /// The agent reports what it waits for.
    Warning {
        /// The report.
        message: String,
    },
}

/// The reason why an item waits; `None` when it does not.
#[must_use]
pub fn wait_reason(facts: &WaitFacts) -> Option<WaitReason> {
    let lost = || {
        facts.holder_lost_since.map(|since| WaitReason::AgentLost {
            agent: facts.holder.clone().unwrap_or_default(),
            since,
        })
    };
    match facts.state {
        ItemState::Pending => {}
        ItemState::Leased | ItemState::Claimed => {
            return Some(lost().unwrap_or_else(|| match &facts.warning {
                Some(message) => WaitReason::Warning {
                    message: message.clone(),
                },
                None => WaitReason::Starting {
                    agent: facts.holder.clone().unwrap_or_default(),
                },
            }));
        }
        ItemState::Running => return lost(),
        ItemState::Finished | ItemState::Failed | ItemState::Crashed | ItemState::Killed => return None,
    }
    if facts.paused {
        return Some(WaitReason::QueuePaused);
    }
    if facts.agents.is_empty() {
        return Some(WaitReason::NoAgent {
            queue: facts.queue.clone(),
        });
    }
    let takers: Vec<&AgentLoad> = facts.agents.iter().filter(|agent| !agent.draining).collect();
    if takers.is_empty() {
        return Some(WaitReason::AgentsDraining);
    }
    let position = facts.position.unwrap_or(1);
    let full = takers
        .iter()
        .all(|agent| agent.max_jobs >= 0 && agent.running >= agent.max_jobs);
    if full {
        return Some(WaitReason::AgentFull {
            running: takers.iter().map(|agent| agent.running).sum(),
            slots: takers.iter().map(|agent| agent.max_jobs).sum(),
            position,
        });
    }
    Some(if position > 1 {
        WaitReason::Position { position }
    } else {
        WaitReason::NotYetLeased
    })
}

impl WaitReason {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::QueuePaused => "queue-paused",
            Self::NoAgent { .. } => "no-agent",
            Self::AgentsDraining => "agents-draining",
            Self::AgentFull { .. } => "agent-full",
            Self::Position { .. } => "position",
            Self::NotYetLeased => "not-yet-leased",
            Self::Starting { .. } => "starting",
            Self::AgentLost { .. } => "agent-lost",
            Self::Warning { .. } => "warning",
        }
    }

    /// The sentence for people. `now` turns points in time into durations.
    #[must_use]
    pub fn sentence(&self, now: Millis) -> String {
        match self {
            Self::QueuePaused => "The queue is paused; resume it to run its items".to_owned(),
            Self::NoAgent { queue: None } => "No agent serves this queue".to_owned(),
            Self::NoAgent { queue: Some(queue) } => match queue.agent_command() {
                Some(command) => format!("No agent serves this queue; start one with `{command}`"),
                None => format!(
                    "No agent serves this queue, which is of project `{}`: launch agents serve those of \
                     `{QUEUE_PROJECT}`; move the item to one of them with `slipway item move`",
                    queue.project
                ),
            },
            Self::AgentsDraining => "Every agent of this queue is draining and takes nothing new".to_owned(),
            Self::AgentFull { slots: 0, .. } => {
                "The agents of this queue take no jobs: their `max_jobs` is 0".to_owned()
            }
            Self::AgentFull {
                running,
                slots,
                position,
            } => {
                format!(
                    "Waiting for a free slot: agents run {running} of {slots} jobs; position {position} in the queue"
                )
            }
            Self::Position { position } => format!("Position {position} in the queue"),
            Self::NotYetLeased => "Next in the queue; an agent has not taken it yet".to_owned(),
            Self::Starting { agent } => format!("{} is preparing it", subject(agent)),
            Self::AgentLost { agent, since } => {
                let silence = duration(now - since);
                format!(
                    "{} has not been heard from for {silence}; the job may still run",
                    subject(agent)
                )
            }
            Self::Warning { message } => message.clone(),
        }
    }
}

/// The agent as the subject of a sentence.
fn subject(agent: &str) -> String {
    match agent {
        "" => "An agent".to_owned(),
        name => format!("Agent `{name}`"),
    }
}

/// A duration in its one or two largest units, such as `1 h 31 min`.
#[must_use]
pub fn duration(millis: Millis) -> String {
    let seconds = millis.max(0) / 1000;
    let (large, large_unit, small, small_unit) = match seconds {
        0..60 => return format!("{seconds} s"),
        60..3_600 => return format!("{} min", seconds / 60),
        3_600..86_400 => (seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => (seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    };
    match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    }
}

#[cfg(test)]
mod tests;
