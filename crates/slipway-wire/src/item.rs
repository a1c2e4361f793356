//! Queue items, and what an agent says about those that it holds.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::scalar::{json_or_text, null_as_default, object_or_text};

/// A queue item. The official API answers only `id`, `state` and `associatedRunId`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Opaque.
    pub id: String,
    /// In capitals, as `slipway_model::item::ItemState` spells it.
    #[serde(default)]
    pub state: String,
    /// The word that people read.
    #[serde(default)]
    pub label: Option<String>,
    /// The lease handle; only for the user whose agent holds the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// The queue's name.
    #[serde(default)]
    pub queue_name: Option<String>,
    /// The queue's owner.
    #[serde(default)]
    pub queue_entity: Option<String>,
    /// 0 critical, 1 high, 2 medium, 3 low.
    #[serde(default)]
    pub priority: Option<i64>,
    /// The job or image that it runs.
    #[serde(default)]
    pub job: Option<String>,
    /// Who submitted it.
    #[serde(default)]
    pub author: Option<String>,
    /// Counts the starts.
    #[serde(default)]
    pub attempt: Option<i64>,
    /// 1 for the item that runs next.
    #[serde(default)]
    pub position: Option<i64>,
    /// Why it waits.
    #[serde(default)]
    pub wait_reason: Option<WaitReason>,
    /// Why it failed.
    #[serde(default)]
    pub failure: Option<Failure>,
    /// What the agent reports meanwhile.
    #[serde(default)]
    pub warning: Option<Failure>,
    /// The run's id.
    #[serde(default, alias = "associatedRunId")]
    pub run_name: Option<String>,
    /// The run's owner.
    #[serde(default)]
    pub run_entity: Option<String>,
    /// The run's project.
    #[serde(default)]
    pub run_project: Option<String>,
    /// The agent that holds or held it.
    #[serde(default)]
    pub agent: Option<AgentName>,
    /// How the workload ended.
    #[serde(default)]
    pub exit_code: Option<i64>,
    /// Whether somebody asked it to stop.
    #[serde(default)]
    pub stop_requested: Option<bool>,
    /// When it was submitted.
    #[serde(default)]
    pub created_at: Option<String>,
    /// When it was taken.
    #[serde(default)]
    pub leased_at: Option<String>,
    /// When its run started.
    #[serde(default)]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<String>,
    /// What was submitted.
    #[serde(default, deserialize_with = "json_or_text", skip_serializing_if = "Value::is_null")]
    pub submitted_spec: Value,
    /// What runs.
    #[serde(default, deserialize_with = "json_or_text", skip_serializing_if = "Value::is_null")]
    pub final_spec: Value,
    /// Where each value of the resource arguments comes from: JSON pointer to origin.
    #[serde(default, deserialize_with = "json_or_text", skip_serializing_if = "Value::is_null")]
    pub origins: Value,
}

/// An agent, by name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentName {
    /// Opaque.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Why an item waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WaitReason {
    /// A stable code.
    pub code: String,
    /// For people.
    pub sentence: String,
}

/// Where and why an item failed, or what it waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failure {
    /// `agent`, `build`, `run`, or the target's name.
    pub stage: String,
    /// For people.
    pub message: String,
    /// A stable code.
    pub reason: Option<String>,
    /// Run files of the agent's own run that hold more.
    #[serde(deserialize_with = "null_as_default")]
    pub file_paths: Vec<String>,
}

/// An entry of an item's record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ItemEvent {
    /// Its place in the order of commits.
    pub position: String,
    /// When, ISO 8601.
    pub at: String,
    /// What happened.
    pub kind: String,
    /// Who did it.
    pub actor: String,
    /// Particulars.
    #[serde(default, deserialize_with = "json_or_text")]
    pub detail: Value,
}

/// An item that a pop hands out.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeasedItem {
    /// The lease handle.
    pub run_queue_item_id: String,
    /// The final spec, with the run key of this attempt as `_wandb_api_key` where the server makes
    /// one: not to be logged.
    #[serde(deserialize_with = "object_or_text")]
    pub run_spec: Value,
    /// The queue's name.
    #[serde(default)]
    pub queue_name: String,
    /// The queue's owner.
    #[serde(default)]
    pub queue_entity: String,
    /// Counts the starts; 1 with servers that do not count.
    #[serde(default = "one")]
    pub attempt: i64,
    /// How long the lease lasts without renewal, in milliseconds; none with servers that renew
    /// nothing.
    #[serde(default)]
    pub lease_term_millis: Option<u64>,
    /// Where each value of the resource arguments comes from; null with servers that do not say.
    #[serde(default, deserialize_with = "json_or_text")]
    pub origins: Value,
    /// Whether the queue has template variables; none with servers that do not say.
    #[serde(default)]
    pub template: Option<bool>,
    /// Below which JSON pointers the queue lets this submitter set arguments; the empty one is all.
    #[serde(default)]
    pub allowed_overrides: Vec<String>,
}

const fn one() -> i64 {
    1
}

/// An acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ack {
    /// The lease handle.
    pub run_queue_item_id: String,
    /// The run's owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_name: Option<String>,
    /// The run's project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_name: Option<String>,
    /// The run's id.
    pub run_name: String,
}

/// How a workload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    /// With exit code 0.
    Finished,
    /// Otherwise, or it could not be started.
    Failed,
    /// Stopped on request.
    Killed,
}

/// A report of how a workload ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The lease handle.
    pub run_queue_item_id: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The workload's exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// For failures: `agent`, `build`, `run`, or the target's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// For failures: a sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// For failures: a stable code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Run files of the agent's own run that hold more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_paths: Option<Vec<String>>,
}

/// Why an item goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ReturnCause {
    /// It was not started.
    Released,
    /// A start was recorded, but there is no workload.
    Absent,
    /// The workload was preempted.
    Preempted,
}

/// What became of one item of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemResult {
    /// The lease handle.
    pub run_queue_item_id: String,
    /// Whether it was done.
    pub success: bool,
    /// Whether somebody asked the item to stop.
    #[serde(default)]
    pub stop_requested: bool,
    /// `stale` if another lease is in force, or a sentence.
    #[serde(default)]
    pub error: Option<String>,
}
