//! How an agent is set up.

use std::ffi::OsString;
use std::path::PathBuf;

use slipway_model::agent_config::AgentConfig;

/// What an agent is given besides its client.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// The configuration, all layers resolved.
    pub config: AgentConfig,
    /// Where agents of this user keep their state: `<data directory>/agent`.
    pub state_directory: PathBuf,
    /// The name of this machine.
    pub hostname: String,
    /// What the agent says it is, such as `slipway@0.1.0`.
    pub version: String,
    /// Take the agent's name even from a live holder.
    pub take_over: bool,
    /// The command that runs a job's shim (`slipway shim --dir`); the job directory is appended.
    pub shim: Vec<OsString>,
}
