//! Launch agents.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::item::Item;
use crate::scalar::{json_or_text, null_as_default};

/// An agent as the server knows it. The official API answers the first few fields.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// Opaque.
    pub id: String,
    /// Also the id of the agent's own run.
    pub name: String,
    /// The owner of its queues.
    #[serde(default)]
    pub entity_name: Option<String>,
    /// Where it runs.
    #[serde(default)]
    pub hostname: Option<String>,
    /// What it runs.
    #[serde(default)]
    pub version: Option<String>,
    /// `POLLING`, `RUNNING`, `DRAINING` or `KILLED`.
    #[serde(default)]
    pub agent_status: Option<String>,
    /// Whether it was heard from lately.
    #[serde(default)]
    pub active: Option<bool>,
    /// Whether it renews its leases and records its starts.
    #[serde(default)]
    pub managed: Option<bool>,
    /// Counts the instances that took the name.
    #[serde(default)]
    pub epoch: Option<i64>,
    /// How many items it takes; -1 for no limit.
    #[serde(default)]
    pub max_jobs: Option<i64>,
    /// The queues that it serves.
    #[serde(default, deserialize_with = "json_or_text", skip_serializing_if = "Value::is_null")]
    pub run_queues: Value,
    /// Whether it was asked to take nothing new.
    #[serde(default)]
    pub drain_requested: Option<bool>,
    /// Whether it was asked to end.
    #[serde(default)]
    pub stop_polling: Option<bool>,
    /// When it first registered.
    #[serde(default)]
    pub created_at: Option<String>,
    /// When it was last heard from.
    #[serde(default)]
    pub heartbeat_at: Option<String>,
    /// Its configuration.
    #[serde(default, deserialize_with = "json_or_text", skip_serializing_if = "Value::is_null")]
    pub config: Value,
    /// The items that it holds, with their lease handles.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub held_items: Vec<Item>,
}

/// An agent to register.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// The owner of its queues.
    pub entity_name: String,
    /// The project of its queues.
    pub project_name: String,
    /// The ids of its queues.
    pub run_queues: Vec<String>,
    /// Where it runs.
    pub hostname: String,
    /// Its configuration without secrets, as JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_config: Option<String>,
    /// What it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// A stable name; whoever registers it again continues the former's work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which process registers: a restart of the same instance is never refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Take the name even from a live holder.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub take_over: bool,
    /// Whether the agent renews its leases, records its starts and reports outcomes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub managed: bool,
}
