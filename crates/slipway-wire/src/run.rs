//! Runs, their files and their console lines.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::item::Item;
use crate::scalar::{json_or_text, null_as_default};

/// A run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The storage id.
    pub id: String,
    /// The run's id in its project.
    pub name: String,
    /// The name that people read.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Lower case, as `slipway_model::run::RunState` spells it.
    #[serde(default)]
    pub state: Option<String>,
    /// By key, each `{"value": …}`.
    #[serde(default, deserialize_with = "json_or_text", skip_serializing_if = "Value::is_null")]
    pub config: Value,
    /// The last value of each metric.
    #[serde(default, deserialize_with = "json_or_text", skip_serializing_if = "Value::is_null")]
    pub summary_metrics: Value,
    /// The sweep that it belongs to.
    #[serde(default)]
    pub sweep_name: Option<String>,
    /// The group that it belongs to.
    #[serde(default)]
    pub group: Option<String>,
    /// What it does, in its author's words.
    #[serde(default)]
    pub job_type: Option<String>,
    /// The commit that it ran.
    #[serde(default)]
    pub commit: Option<String>,
    /// Labels.
    #[serde(default, deserialize_with = "null_as_default")]
    pub tags: Vec<String>,
    /// Remarks.
    #[serde(default)]
    pub notes: Option<String>,
    /// When it was made.
    #[serde(default)]
    pub created_at: Option<String>,
    /// When it was last heard from.
    #[serde(default)]
    pub heartbeat_at: Option<String>,
    /// How many history lines it has.
    #[serde(default)]
    pub history_line_count: Option<i64>,
    /// Whose it is.
    #[serde(default)]
    pub user: Option<User>,
    /// Its page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The item that launched it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_item: Option<Item>,
}

/// A user, by name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct User {
    /// The name that people read.
    #[serde(default)]
    pub name: Option<String>,
    /// The user's name.
    #[serde(default)]
    pub username: Option<String>,
}

/// A run to make or change; what is none stays as it is.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpsertRun {
    /// The storage id.
    pub id: Option<String>,
    /// The run's id in its project.
    pub name: Option<String>,
    /// The project.
    pub project: Option<String>,
    /// The owner.
    pub entity: Option<String>,
    /// The group that it belongs to.
    pub group_name: Option<String>,
    /// A description.
    pub description: Option<String>,
    /// The name that people read.
    pub display_name: Option<String>,
    /// Remarks.
    pub notes: Option<String>,
    /// The commit that it runs.
    pub commit: Option<String>,
    /// The configuration as JSON text.
    pub config: Option<String>,
    /// Where it runs.
    pub host: Option<String>,
    /// Unused by servers.
    pub debug: Option<bool>,
    /// What it runs.
    pub program: Option<String>,
    /// The repository that it runs from.
    pub repo: Option<String>,
    /// What it does, in its author's words.
    pub job_type: Option<String>,
    /// The state.
    pub state: Option<String>,
    /// The sweep that it belongs to.
    pub sweep: Option<String>,
    /// Labels.
    pub tags: Option<Vec<String>>,
    /// The last value of each metric, as JSON text.
    pub summary_metrics: Option<String>,
}

/// What an upsert answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpsertedRun {
    /// The storage id.
    pub id: String,
    /// The run's id in its project.
    pub name: String,
    /// The name that people read.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Its project.
    pub project: Project,
    /// How many history lines it has.
    #[serde(default)]
    pub history_line_count: Option<i64>,
}

/// A project with its owner.
#[derive(Debug, Clone, Deserialize)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub entity: Owner,
}

/// An owner, by name.
#[derive(Debug, Clone, Deserialize)]
pub struct Owner {
    /// Its name.
    pub name: String,
}

/// Where to upload a run's files.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunFileUploads {
    /// `Name:Value`, to be sent with each upload.
    #[serde(default, deserialize_with = "null_as_default")]
    pub upload_headers: Vec<String>,
    /// One per file, in any order.
    pub files: Vec<RunFileUpload>,
}

/// Where to upload one file.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunFileUpload {
    /// The file's name.
    pub name: String,
    /// Where to put it; none if it needs no upload.
    #[serde(default)]
    pub upload_url: Option<String>,
}

/// A console line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogLine {
    /// Counted from 0.
    pub number: i64,
    /// When it was printed, as the client said.
    #[serde(default)]
    pub timestamp: Option<String>,
    /// `error` for the error stream.
    #[serde(default)]
    pub level: Option<String>,
    /// Which of several writers printed it.
    #[serde(default)]
    pub label: Option<String>,
    /// The text.
    #[serde(default)]
    pub line: String,
}
