//! The records of a job directory. An agent reads what an older or newer shim wrote, so fields are
//! only ever added, with a default.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use slipway_model::Millis;

use crate::WorkloadId;

/// What the shim runs. Written by the agent, readable by its user only: the environment holds keys.
#[derive(Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) id: WorkloadId,
    pub(crate) labels: BTreeMap<String, String>,
    /// The program as an absolute path, then its arguments.
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) working_directory: PathBuf,
    /// Bytes of output that are kept.
    pub(crate) output_limit: u64,
    /// How long the job may take to end when the shim itself is told to end.
    pub(crate) grace_millis: u64,
    /// How long processes that outlive the job's main process may go on.
    pub(crate) linger_millis: u64,
}

/// Written by the shim before it starts the job. Where it exists, the job is never started again.
#[derive(Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) at: Millis,
    /// Which boot of the machine it was; tells a restart of the machine from a killed shim.
    #[serde(default)]
    pub(crate) boot: String,
}

/// Written by the agent when the job is to end.
#[derive(Serialize, Deserialize)]
pub(crate) struct StopRequest {
    pub(crate) grace_millis: u64,
}
