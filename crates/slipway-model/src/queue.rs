//! Queues as data: target resource, access, prioritization, policy.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The project in which queues live unless a client names another.
pub const QUEUE_PROJECT: &str = "model-registry";

/// The longest name of a queue, in characters.
pub const MAX_QUEUE_NAME: usize = 64;

/// The target resource on which a queue's jobs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Resource {
    /// Docker.
    #[serde(rename = "local-container")]
    LocalContainer,
    /// A process on the agent's machine.
    #[serde(rename = "local-process")]
    LocalProcess,
    /// Kubernetes.
    #[serde(rename = "kubernetes")]
    Kubernetes,
    /// Amazon SageMaker.
    #[serde(rename = "sagemaker")]
    Sagemaker,
    /// Google Vertex AI.
    #[serde(rename = "gcp-vertex")]
    GcpVertex,
}

/// A word that names no target resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("resource `{0}` is not one of local-container, local-process, kubernetes, sagemaker, gcp-vertex")]
pub struct ResourceError(pub String);

impl Resource {
    /// Every target resource.
    pub const ALL: [Self; 5] = [
        Self::LocalContainer,
        Self::LocalProcess,
        Self::Kubernetes,
        Self::Sagemaker,
        Self::GcpVertex,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LocalContainer => "local-container",
            Self::LocalProcess => "local-process",
            Self::Kubernetes => "kubernetes",
            Self::Sagemaker => "sagemaker",
            Self::GcpVertex => "gcp-vertex",
        }
    }

    /// The name that people read.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::LocalContainer => "Docker",
            Self::LocalProcess => "Process",
            Self::Kubernetes => "Kubernetes",
            Self::Sagemaker => "SageMaker",
            Self::GcpVertex => "GCP Vertex",
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Resource {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, ResourceError> {
        match text {
            "local" => Ok(Self::LocalContainer),
            "vertex" => Ok(Self::GcpVertex),
            _ => Self::ALL
                .into_iter()
                .find(|resource| resource.as_str() == text)
                .ok_or_else(|| ResourceError(text.to_owned())),
        }
    }
}

/// Whether submitters may set priorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Prioritization {
    /// First in, first out.
    #[default]
    #[serde(rename = "DISABLED")]
    Disabled,
    /// By priority, then by submission.
    #[serde(rename = "V0")]
    V0,
}

/// Who sees a queue, as the official API spells it. Membership of the entity decides in truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Access {
    /// Every member of the entity.
    #[default]
    Project,
    /// The user alone.
    User,
}

/// What a queue's owner allows submitters beyond template variables.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueuePolicy {
    /// JSON pointers below `resource_args.<resource>` that submitters may set although the queue
    /// has template variables, and options of the target that are refused without being listed.
    pub allowed_overrides: Vec<String>,
    /// What a job's run key may do beyond its own run, such as `launch`.
    pub run_key_scopes: Vec<String>,
    /// Milliseconds after which an item whose agent is lost fails.
    pub agent_lost_timeout: Option<i64>,
}

/// Label to URL.
pub type ExternalLinks = BTreeMap<String, String>;

/// Where a queue is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueName {
    /// Its owner.
    pub entity: String,
    /// The project in which it lives.
    pub project: String,
    /// Its name.
    pub name: String,
}

impl QueueName {
    /// The command that starts an agent for it; none outside of [`QUEUE_PROJECT`], where launch agents look for
    /// no queues.
    #[must_use]
    pub fn agent_command(&self) -> Option<String> {
        (self.project == QUEUE_PROJECT).then(|| {
            let (name, entity) = (shell_word(&self.name), shell_word(&self.entity));
            // A name that looks like a flag is only taken as part of one.
            let queue = if name.starts_with('-') { "--queue=" } else { "-q " };
            format!("slipway launch-agent {queue}{name} --entity {entity}")
        })
    }
}

/// A word as a POSIX shell reads it.
#[must_use]
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is empty.
    #[error("a {0} needs a name")]
    Empty(&'static str),
    /// It is longer than allowed.
    #[error("the name of a {kind} has at most {limit} characters; this one has {length}")]
    Long {
        /// The kind of thing.
        kind: &'static str,
        /// The limit.
        limit: usize,
        /// The length given.
        length: usize,
    },
    /// It holds a character that addresses or file names cannot carry.
    #[error("the name of a {kind} may not contain {character:?}")]
    Character {
        /// The kind of thing.
        kind: &'static str,
        /// The first offending character.
        character: char,
    },
    /// Addresses lose it: there it means a place, as in paths of files.
    #[error("`{name}` is no name for a {kind}: addresses cannot carry it")]
    Dots {
        /// The kind of thing.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// It is a word that an address of the server uses.
    #[error("`{0}` is a reserved name")]
    Reserved(String),
}

/// Checks a queue's name: 1 to 64 characters, none of them a control character or `/`; not `.` or `..`.
///
/// # Errors
/// Says which rule is broken.
pub fn check_queue_name(name: &str) -> Result<(), NameError> {
    check("queue", name, MAX_QUEUE_NAME)
}

/// Checks a project's name: 1 to 128 characters, none of `/\#?%:` or a control character; not `.` or `..`.
///
/// # Errors
/// Says which rule is broken.
pub fn check_project_name(name: &str) -> Result<(), NameError> {
    check("project", name, 128)?;
    forbid("project", name, "\\#?%:")
}

/// Checks the name of a user or team: 1 to 64 of `a-z A-Z 0-9 _ . -`; not `.`, `..` or a reserved word.
///
/// # Errors
/// Says which rule is broken.
pub fn check_entity_name(name: &str) -> Result<(), NameError> {
    check("user or team", name, 64)?;
    if let Some(character) = name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "_.-".contains(*c)))
    {
        return Err(NameError::Character {
            kind: "user or team",
            character,
        });
    }
    if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(NameError::Reserved(name.to_owned()));
    }
    Ok(())
}

/// First path segments of the server's own addresses, in lower case.
pub const RESERVED: [&str; 19] = [
    "artifacts",
    "artifactsv2",
    "favicon.ico",
    "launch",
    "settings",
    "login",
    "logout",
    "authorize",
    "graphql",
    "files",
    "oidc",
    "sdk",
    "assets",
    "metrics",
    "ready",
    "readyz",
    "healthz",
    "slipway",
    "storage",
];

fn check(kind: &'static str, name: &str, limit: usize) -> Result<(), NameError> {
    if name.trim().is_empty() {
        return Err(NameError::Empty(kind));
    }
    let length = name.chars().count();
    if length > limit {
        return Err(NameError::Long { kind, limit, length });
    }
    if matches!(name, "." | "..") {
        return Err(NameError::Dots {
            kind,
            name: name.to_owned(),
        });
    }
    forbid(kind, name, "/")
}

fn forbid(kind: &'static str, name: &str, set: &str) -> Result<(), NameError> {
    match name.chars().find(|c| c.is_control() || set.contains(*c)) {
        Some(character) => Err(NameError::Character { kind, character }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
