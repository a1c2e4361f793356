//! The agent's configuration: `launch-config.yaml`, environment variables and flags as typed data.
//!
//! Layers, later wins: defaults, file, environment, flags; the source of every value is kept, so
//! that a person can be told where it comes from. An unknown key at the top of the file is an error,
//! within a block a warning. Whether a registry or an engine answers is not checked here.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::address::HostPort;
use crate::config::ConfigError;

mod blocks;
mod file;
pub mod keys;
mod tree;

pub use blocks::{Builder, BuilderKind, Environment, ProcessTarget, Registry, RegistryKind};

/// How far an agent trusts resource arguments whose origin its server does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ResourceArgsPolicy {
    /// As if a submitter had written them.
    #[default]
    Restrict,
    /// As if the queue's owner had written them.
    Trust,
}

impl ResourceArgsPolicy {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restrict => "restrict",
            Self::Trust => "trust",
        }
    }
}

/// An agent's configuration after all layers.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentConfig {
    /// The owner of the queues; `None` for the key's default entity.
    pub entity: Option<String>,
    /// The queues to serve: one or more, none twice.
    pub queues: Vec<String>,
    /// The agent's stable name; `None` for the one that its state directory keeps.
    pub name: Option<String>,
    /// How many jobs may run at once; -1 for no limit, 0 to take none.
    pub max_jobs: i64,
    /// How many sweep schedulers may run at once, besides jobs; -1 for no limit.
    pub max_schedulers: i64,
    /// Whether entry points and commands of submitters are refused.
    pub secure_mode: bool,
    /// 0: a status line each five minutes; 1: each 20 s; 2: the log as well.
    pub verbosity: u8,
    /// How long a workload may take to stop before it is killed.
    pub stopped_run_timeout: Duration,
    /// How long a workload may take to start; `None` for no limit.
    pub start_timeout: Option<Duration>,
    /// How long a drain waits for running jobs; `None` for as long as they take.
    pub drain_timeout: Option<Duration>,
    /// Where health and metrics are answered; `None` for nowhere.
    pub health_address: Option<HostPort>,
    /// The cloud in which the agent acts.
    pub environment: Option<Environment>,
    /// Where images are pushed to.
    pub registry: Option<Registry>,
    /// How images are built.
    pub builder: Builder,
    /// How far resource arguments of unknown origin are trusted.
    pub resource_args_policy: ResourceArgsPolicy,
    /// Environment variables that macros and pass-through `env` may read although their names look
    /// like those of secrets.
    pub allowed_env: Vec<String>,
    /// The process target.
    pub process: ProcessTarget,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            entity: None,
            queues: Vec::new(),
            name: None,
            max_jobs: 1,
            max_schedulers: 1,
            secure_mode: false,
            verbosity: 0,
            stopped_run_timeout: Duration::from_secs(60),
            start_timeout: Some(Duration::from_secs(1800)),
            drain_timeout: None,
            health_address: None,
            environment: None,
            registry: None,
            builder: Builder::default(),
            resource_args_policy: ResourceArgsPolicy::default(),
            allowed_env: Vec::new(),
            process: ProcessTarget::default(),
        }
    }
}

/// What the command line says. Absent values leave the lower layers as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flags {
    /// `--entity`.
    pub entity: Option<String>,
    /// `--queue`, as often as given; replaces the list.
    pub queues: Vec<String>,
    /// `--name`.
    pub name: Option<String>,
    /// `--max-jobs`.
    pub max_jobs: Option<i64>,
    /// `--verbose`, counted; 0 says nothing.
    pub verbosity: u8,
    /// `--health-address`.
    pub health_address: Option<HostPort>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Built in.
    Default,
    /// The file.
    File {
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(&'static str),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { line } => write!(f, "configuration file, line {line}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Something in the file that has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The line, from 1.
    pub line: usize,
    /// What has no effect, and what may have been meant.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentConfigError {
    /// The file is not YAML.
    #[error(transparent)]
    Yaml(#[from] ConfigError),
    /// The file holds something else than keys and values.
    #[error("line {line}: the configuration must be a map of keys to values, not {found}")]
    NotAMap {
        /// The line, from 1.
        line: usize,
        /// What is there.
        found: &'static str,
    },
    /// A key that does not exist.
    #[error("line {line}: unknown key `{key}`{}", known_key(.suggestion))]
    UnknownKey {
        /// The key.
        key: String,
        /// The line, from 1.
        line: usize,
        /// The nearest known key.
        suggestion: Option<&'static str>,
    },
    /// A value of the wrong type in the file.
    #[error("line {line}: `{key}` must be {expected}, not {found}")]
    Type {
        /// The key, with its block: `builder.type`.
        key: String,
        /// The line, from 1.
        line: usize,
        /// What belongs there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A key that its block needs.
    #[error("line {line}: `{key}` is missing: {hint}")]
    Missing {
        /// The key, with its block.
        key: &'static str,
        /// The line of the block, from 1.
        line: usize,
        /// What belongs there.
        hint: &'static str,
    },
    /// A value that is out of bounds, wherever it comes from.
    #[error("`{key}` ({source_of_value}): {problem}")]
    Value {
        /// The key.
        key: &'static str,
        /// Where the value comes from.
        source_of_value: Source,
        /// What is wrong, and what is permitted.
        problem: String,
    },
    /// No queue is named.
    #[error("no queue to serve: name one or more under `queues` in the configuration file, or with `--queue`")]
    NoQueues,
}

fn known_key(suggestion: &Option<&'static str>) -> String {
    match suggestion {
        Some(key) => format!("; did you mean `{key}`?"),
        None => format!("; known keys are {}", keys::top().collect::<Vec<_>>().join(", ")),
    }
}

/// A configuration, where its values come from, and what in the file has no effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The configuration.
    pub config: AgentConfig,
    /// The source of each key that is not at its default.
    pub sources: BTreeMap<&'static str, Source>,
    /// What in the file has no effect.
    pub warnings: Vec<Warning>,
}

impl Resolved {
    /// Where a key's value comes from.
    #[must_use]
    pub fn source(&self, key: &str) -> Source {
        self.sources.get(key).copied().unwrap_or(Source::Default)
    }
}

/// Puts the layers together. `file` is the file's text, if there is a file; `env` looks up an
/// environment variable.
///
/// # Errors
/// Names the key, where its value comes from, and what is permitted.
pub fn resolve(
    file: Option<&str>,
    env: &dyn Fn(&str) -> Option<String>,
    flags: &Flags,
) -> Result<Resolved, AgentConfigError> {
    let mut resolved = match file {
        Some(text) => file::read(text)?,
        None => Resolved {
            config: AgentConfig::default(),
            sources: BTreeMap::new(),
            warnings: Vec::new(),
        },
    };
    apply_environment(&mut resolved, env)?;
    apply_flags(&mut resolved, flags);
    check(&resolved)?;
    Ok(resolved)
}

const ENTITY: &str = "WANDB_ENTITY";
const NAME: &str = "SLIPWAY_AGENT_NAME";
const HEALTH_ADDRESS: &str = "SLIPWAY_AGENT_HEALTH_ADDRESS";
const MAX_JOBS: &str = "WANDB_LAUNCH_MAX_JOBS";
const START_TIMEOUT: &str = "WANDB_LAUNCH_START_TIMEOUT";

fn apply_environment(resolved: &mut Resolved, env: &dyn Fn(&str) -> Option<String>) -> Result<(), AgentConfigError> {
    let set = |name: &'static str| env(name).filter(|value| !value.trim().is_empty());
    let config = &mut resolved.config;
    if let Some(entity) = set(ENTITY) {
        config.entity = Some(entity.trim().to_owned());
        resolved.sources.insert("entity", Source::Environment(ENTITY));
    }
    if let Some(name) = set(NAME) {
        config.name = Some(name);
        resolved.sources.insert("name", Source::Environment(NAME));
    }
    if let Some(text) = set(HEALTH_ADDRESS) {
        let address = text.trim().parse().map_err(|_| AgentConfigError::Value {
            key: "health_address",
            source_of_value: Source::Environment(HEALTH_ADDRESS),
            problem: format!("`{}` is not {ADDRESS}", shorten(&text)),
        })?;
        config.health_address = Some(address);
        resolved
            .sources
            .insert("health_address", Source::Environment(HEALTH_ADDRESS));
    }
    if let Some(text) = set(MAX_JOBS) {
        config.max_jobs = text.trim().parse().map_err(|_| AgentConfigError::Value {
            key: "max_jobs",
            source_of_value: Source::Environment(MAX_JOBS),
            problem: format!("`{}` is not a whole number", shorten(&text)),
        })?;
        resolved.sources.insert("max_jobs", Source::Environment(MAX_JOBS));
    }
    if let Some(text) = set(START_TIMEOUT) {
        let seconds = text.trim().parse::<f64>().ok().filter(|seconds| seconds.is_finite());
        let seconds = seconds.ok_or_else(|| AgentConfigError::Value {
            key: "start_timeout",
            source_of_value: Source::Environment(START_TIMEOUT),
            problem: format!("`{}` is not a number of seconds", shorten(&text)),
        })?;
        config.start_timeout = limit(seconds);
        resolved
            .sources
            .insert("start_timeout", Source::Environment(START_TIMEOUT));
    }
    Ok(())
}

fn apply_flags(resolved: &mut Resolved, flags: &Flags) {
    let config = &mut resolved.config;
    let mut source = |key, flag| {
        resolved.sources.insert(key, Source::Flag(flag));
    };
    if let Some(entity) = &flags.entity {
        config.entity = Some(entity.clone());
        source("entity", "--entity");
    }
    if !flags.queues.is_empty() {
        config.queues = flags.queues.clone();
        source("queues", "--queue");
    }
    if let Some(name) = &flags.name {
        config.name = Some(name.clone());
        source("name", "--name");
    }
    if let Some(max_jobs) = flags.max_jobs {
        config.max_jobs = max_jobs;
        source("max_jobs", "--max-jobs");
    }
    if flags.verbosity > 0 {
        config.verbosity = flags.verbosity.min(2);
        source("verbosity", "--verbose");
    }
    if flags.health_address.is_some() {
        config.health_address.clone_from(&flags.health_address);
        source("health_address", "--health-address");
    }
}

fn check(resolved: &Resolved) -> Result<(), AgentConfigError> {
    let fault = |key: &'static str, problem: String| AgentConfigError::Value {
        key,
        source_of_value: resolved.source(key),
        problem,
    };
    let config = &resolved.config;
    for (key, value) in [("max_jobs", config.max_jobs), ("max_schedulers", config.max_schedulers)] {
        if value < -1 {
            return Err(fault(
                key,
                format!("{value} is too small: give 0 or more, or -1 for no limit"),
            ));
        }
    }
    if config.queues.is_empty() {
        return Err(AgentConfigError::NoQueues);
    }
    for (index, queue) in config.queues.iter().enumerate() {
        if let Err(error) = crate::queue::check_queue_name(queue) {
            return Err(fault("queues", error.to_string()));
        }
        if config.queues[..index].contains(queue) {
            return Err(fault("queues", format!("`{queue}` is listed twice")));
        }
    }
    if let Some(name) = &config.name
        && (name.trim().is_empty()
            || name.starts_with('.')
            || name.chars().count() > 128
            || name.chars().any(|c| c.is_control() || c == '/'))
    {
        let rule = "give 1 to 128 characters, none of them `/`, the first no dot";
        return Err(fault("name", rule.to_owned()));
    }
    Ok(())
}

/// A number of seconds as a limit; zero or less means none.
fn limit(seconds: f64) -> Option<Duration> {
    (seconds > 0.0).then(|| Duration::from_secs_f64(seconds.min(MAX_SECONDS)))
}

/// What belongs into `health_address`.
const ADDRESS: &str = "a host with a port, such as `127.0.0.1:8087` or `localhost:8087`";

/// Longer times than this (31 years) are not told apart.
const MAX_SECONDS: f64 = 1e9;

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

impl AgentConfig {
    /// What an agent tells its server of its configuration: no secrets, keys as in the file.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        let mut set = |key: &str, value: Value| {
            map.insert(key.to_owned(), value);
        };
        let seconds = |limit: Option<Duration>| limit.map_or(json!(0), |limit| json!(limit.as_secs_f64()));
        set("entity", json!(self.entity));
        set("queues", json!(self.queues));
        set("max_jobs", json!(self.max_jobs));
        set("max_schedulers", json!(self.max_schedulers));
        set("secure_mode", json!(self.secure_mode));
        set("verbosity", json!(self.verbosity));
        set("stopped_run_timeout", json!(self.stopped_run_timeout.as_secs()));
        set("start_timeout", seconds(self.start_timeout));
        set("drain_timeout", seconds(self.drain_timeout));
        set("builder", self.builder.to_value());
        set("resource_args_policy", json!(self.resource_args_policy.as_str()));
        set("process", json!({"enabled": self.process.enabled}));
        if let Some(address) = &self.health_address {
            set("health_address", json!(address.to_string()));
        }
        if let Some(environment) = &self.environment {
            set("environment", environment.to_value());
        }
        if let Some(registry) = &self.registry {
            set("registry", registry.to_value());
        }
        Value::Object(map)
    }
}

#[cfg(test)]
mod tests;
