//! The targets of an agent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use slipway_runner::docker::{DockerOptions, DockerRunner};
use slipway_runner::process::{INHERITED, ProcessOptions, ProcessRunner};
use slipway_runner::{Runner, Targets};

use crate::options::AgentOptions;
use crate::state_directory::{CONTAINERS, JOBS};

/// Bytes of output that are kept of one container.
const OUTPUT_LIMIT: u64 = 1 << 30;

/// Every target. `directory` is the agent's own; owner, name and server tell it from all agents that
/// share an engine, wherever its directory is.
pub(crate) fn targets(options: &AgentOptions, directory: &Path, name: &str, owner: &str, server: &str) -> Targets {
    let docker = DockerRunner::new(DockerOptions {
        directory: directory.join(CONTAINERS),
        scope: format!("{owner}/{name}@{server}"),
        server: server.to_owned(),
        allowed_env: options.config.allowed_env.clone(),
        output_limit: OUTPUT_LIMIT,
    });
    let process: Arc<dyn Runner> = Arc::new(process(options, directory.join(JOBS), name));
    Targets::new(process, [Arc::new(docker) as Arc<dyn Runner>])
}

/// The process target. A configured directory may be shared by agents, each of which must see only
/// its own jobs: it ends those that it does not know.
fn process(options: &AgentOptions, own: PathBuf, name: &str) -> ProcessRunner {
    let process = &options.config.process;
    let configured = process
        .work_dir
        .as_ref()
        .map(|directory| Path::new(directory).join(name));
    let directory = configured.unwrap_or(own);
    // A shim works in its job's directory, where a relative path leads elsewhere. An absolute one cannot
    // be had only where the agent's own directory is gone, which the runner then says by itself.
    let directory = std::path::absolute(&directory).unwrap_or(directory);
    let mut target = ProcessOptions::new(directory, options.shim.clone());
    let inherited = INHERITED.iter().map(|name| (*name).to_owned());
    target.inherit = inherited.chain(process.env.iter().cloned()).collect();
    target.grace = options.config.stopped_run_timeout;
    ProcessRunner::new(target)
}
