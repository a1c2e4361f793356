//! The stream of a run's data: `POST /files/{entity}/{project}/{run}/file_stream`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The console's file.
pub const OUTPUT: &str = "output.log";

/// One request. An empty one is a heartbeat.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Chunk {
    /// New or rewritten lines, by file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, Lines>,
    /// Files whose upload is complete.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uploaded: Vec<String>,
    /// Whether the run ends with this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// With `complete`: 0 for success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exitcode: Option<i64>,
}

/// Lines of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lines {
    /// The number of the first one.
    pub offset: u64,
    /// The lines.
    pub content: Vec<String>,
}

/// The answer.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Answer {
    /// Whether the run is asked to stop.
    #[serde(default)]
    pub stopped: Option<bool>,
}
