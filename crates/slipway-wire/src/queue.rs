//! Queues.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::Agent;
use crate::scalar::{json_or_text, null_as_default};

/// A queue. Fields that the official API does not have are absent from its answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// Opaque.
    pub id: String,
    /// Unique in its entity.
    pub name: String,
    /// The owner.
    #[serde(default)]
    pub entity_name: Option<String>,
    /// The project in which it lives.
    #[serde(default)]
    pub project_name: Option<String>,
    /// The target resource.
    #[serde(default)]
    pub resource: Option<String>,
    /// `PROJECT` or `USER`.
    #[serde(default)]
    pub access: Option<String>,
    /// `DISABLED` or `V0`.
    #[serde(default)]
    pub prioritization_mode: Option<String>,
    /// `{"links": [{"label", "url"}]}`.
    #[serde(default, deserialize_with = "json_or_text", skip_serializing_if = "Value::is_null")]
    pub external_links: Value,
    /// Whether it hands out nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Whether an agent serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// How many items stand where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<Value>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// The whole stored configuration, `{"resource_args": {"<resource>": {…}}}`.
    #[serde(default, deserialize_with = "json_or_text", skip_serializing_if = "Value::is_null")]
    pub config: Value,
    /// Template variables: an object by name, or the official list of `{name, schema}`.
    #[serde(default, deserialize_with = "json_or_text", skip_serializing_if = "Value::is_null")]
    pub template_variables: Value,
    /// What submitters may do beyond template variables.
    #[serde(default, deserialize_with = "json_or_text", skip_serializing_if = "Value::is_null")]
    pub policy: Value,
    /// The number of the configuration's revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// The agents that serve it.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<Agent>,
    /// The stored configuration's id, in the official API.
    #[serde(default, rename = "defaultResourceConfigID", skip_serializing_if = "Option::is_none")]
    pub default_resource_config_id: Option<String>,
}

/// How many items stand where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Wait.
    pub pending: i64,
    /// Are held by an agent and do not run yet.
    pub starting: i64,
    /// Run.
    pub running: i64,
    /// Since when the oldest waits.
    pub oldest_pending_at: Option<String>,
    /// When an item last ended well.
    pub last_success_at: Option<String>,
}

/// A stored configuration, as the official API answers it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefaultResourceConfig {
    /// `{"resource_args": {"<resource>": {…}}}`.
    #[serde(default, deserialize_with = "json_or_text")]
    pub config: Value,
    /// The target resource.
    #[serde(default)]
    pub resource: Option<String>,
    /// A list of `{name, schema}`.
    #[serde(default, deserialize_with = "json_or_text")]
    pub template_variables: Value,
}

/// A queue to make or change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpsertQueue {
    /// The owner.
    pub entity_name: String,
    /// The project in which it lives.
    pub project_name: String,
    /// Its name.
    pub queue_name: String,
    /// The target resource.
    pub resource_type: String,
    /// The configuration, as JSON text.
    pub resource_config: String,
    /// Template variables as JSON text; none removes them.
    pub template_variables: Option<String>,
    /// `DISABLED` or `V0`.
    pub prioritization_mode: Option<String>,
    /// `{"links": [{"label", "url"}]}` as JSON text.
    pub external_links: Option<String>,
    /// The policy as JSON text; only for servers with our additions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// What an upsert says.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpsertedQueue {
    /// Whether it was stored.
    pub success: bool,
    /// What is doubtful in the configuration.
    #[serde(default, deserialize_with = "null_as_default")]
    pub config_schema_validation_errors: Vec<String>,
    /// The queue as it is now; absent from official answers.
    #[serde(default)]
    pub queue: Option<Queue>,
}

/// A run spec to put on a queue.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Push {
    /// The queue's owner.
    pub entity_name: String,
    /// The queue's project.
    pub project_name: String,
    /// The queue's name.
    pub queue_name: String,
    /// The spec, as JSON text.
    pub run_spec: String,
    /// 0 critical, 1 high, 2 medium, 3 low.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// Values of template variables, as JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_variable_values: Option<String>,
    /// A second push with the same key answers with the first one's item. Kept 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Store nothing; answer with the final spec.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What a push says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pushed {
    /// The item; null in a dry run.
    #[serde(default)]
    pub run_queue_item_id: Option<String>,
    /// The final spec.
    #[serde(default, deserialize_with = "json_or_text")]
    pub run_spec: Value,
    /// Where each value of the resource arguments comes from: JSON pointer to origin.
    #[serde(default, deserialize_with = "json_or_text", skip_serializing_if = "Value::is_null")]
    pub origins: Value,
}

/// One of many run specs to put on a queue.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PushItem {
    /// The spec, as JSON text.
    pub run_spec: String,
    /// 0 critical, 1 high, 2 medium, 3 low.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// Values of template variables, as JSON text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_variable_values: Option<String>,
    /// As in [`Push`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}
