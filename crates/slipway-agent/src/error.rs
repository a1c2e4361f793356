//! Why an agent does not start, or ends.

use std::io;
use std::path::PathBuf;

use slipway_model::address::HostPort;

/// What ends an agent. Failures of single items never do.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The server refuses. Passing failures are waited out and never get here.
    #[error("{action}: {source}")]
    Server {
        /// What was asked of it.
        action: &'static str,
        /// Its refusal.
        source: slipway_client::Error,
    },
    /// Queues that do not exist, or that the key may not see.
    #[error(
        "entity `{entity}` has no queue named {}; {}",
        quoted(.missing),
        if .available.is_empty() {
            "it has none at all: create one with `slipway queue create`".to_owned()
        } else {
            format!("it has {}", quoted(.available))
        }
    )]
    MissingQueues {
        /// The queues' owner.
        entity: String,
        /// All that were asked for and are not there.
        missing: Vec<String>,
        /// All that are there.
        available: Vec<String>,
    },
    /// The key names no entity and the configuration neither.
    #[error("this API key has no default entity; set `entity` in the agent's configuration")]
    NoEntity,
    /// Another agent of this machine uses the state directory.
    #[error(
        "another agent named `{name}` runs on this machine with the same state directory `{}`; give this one \
         a name of its own with `--name`", directory.display()
    )]
    AlreadyRunning {
        /// The name.
        name: String,
        /// Where agents of this user keep their state.
        directory: PathBuf,
    },
    /// The name's directory holds jobs of an agent of another server or entity. Taking them over
    /// would end them: this server does not know their items.
    #[error(
        "agent `{name}` has {jobs} jobs here of entity `{entity}` on {server}, which this start would end. Start it \
         as it was, or give this agent another `--name`; if {server} is only another address of the same server, \
         start with `--take-over`"
    )]
    OtherHome {
        /// The name.
        name: String,
        /// How many jobs.
        jobs: usize,
        /// The owner of their queues.
        entity: String,
        /// Their server.
        server: String,
    },
    /// The state directory cannot be used.
    #[error("could not {action} `{}`: {source}", path.display())]
    State {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Health and metrics cannot be answered where they were asked for.
    #[error("`health_address` {address} cannot be listened on: {source}; name a free address of this machine")]
    HealthAddress {
        /// The address.
        address: HostPort,
        /// Why it failed.
        source: io::Error,
    },
    /// Nobody knows the host where health and metrics are to be answered.
    #[error("`health_address`: the host `{host}` is not known here: {source}; name one that this machine has")]
    HealthHost {
        /// The host.
        host: String,
        /// Why it failed.
        source: io::Error,
    },
    /// What still runs cannot be looked at.
    #[error(transparent)]
    Runner(#[from] slipway_runner::RunnerError),
    /// Another instance took over the agent's name.
    #[error("another agent took the name `{name}`{}; this one has ended its jobs, and ends", told(.by))]
    Replaced {
        /// The name.
        name: String,
        /// Where the other one runs and what it is, if the server says so.
        by: Option<String>,
    },
}

fn told(by: &Option<String>) -> String {
    by.as_ref().map_or_else(String::new, |by| format!(": {by}"))
}

fn quoted(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
