//! What a runner is asked to run, and what it says of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use slipway_model::Millis;

/// Names one attempt of one queue item. The names of everything that a runner creates derive from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkloadId {
    item: String,
    attempt: i64,
}

/// Why an item and attempt cannot name a workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The item's id is empty or longer than 160 bytes.
    #[error("a queue item's id has 1 to 160 bytes; this one has {0}")]
    Length(usize),
    /// Attempts count from 1.
    #[error("attempts count from 1; got {0}")]
    Attempt(i64),
}

impl WorkloadId {
    /// Joins an item's id, which is opaque text, and an attempt.
    ///
    /// # Errors
    /// If the id could not become a file name, or the attempt is below 1.
    pub fn new(item: impl Into<String>, attempt: i64) -> Result<Self, IdError> {
        let item = item.into();
        if item.is_empty() || item.len() > 160 {
            return Err(IdError::Length(item.len()));
        }
        if attempt < 1 {
            return Err(IdError::Attempt(attempt));
        }
        Ok(Self { item, attempt })
    }

    /// The item's id.
    #[must_use]
    pub fn item(&self) -> &str {
        &self.item
    }

    /// The attempt, from 1.
    #[must_use]
    pub const fn attempt(&self) -> i64 {
        self.attempt
    }

    /// A name that any file system carries: letters, digits, `-` and `_` as they are, every other
    /// byte as `%` and two hexadecimal digits. Different ids have different names.
    #[must_use]
    pub fn file_name(&self) -> String {
        let mut name = String::with_capacity(self.item.len() + 8);
        for byte in self.item.bytes() {
            if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
                name.push(char::from(byte));
            } else {
                name.push_str(&format!("%{byte:02X}"));
            }
        }
        format!("{name}.{}", self.attempt)
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (attempt {})", self.item, self.attempt)
    }
}

/// One attempt to run a job. `Debug` leaves out the environment, which carries an API key.
#[derive(Clone)]
pub struct Workload {
    /// Its identity.
    pub id: WorkloadId,
    /// What the agent wants to know of it after a restart, such as the lease handle. No secrets.
    pub labels: BTreeMap<String, String>,
    /// The target, as `resource` in a launch spec spells it.
    pub resource: String,
    /// The container image, where the job is one.
    pub image: Option<String>,
    /// The entry point: a program and what always follows it. Empty where an image brings its own.
    pub command: Vec<String>,
    /// What the launch adds after the entry point.
    pub arguments: Vec<String>,
    /// Variables of the job. They win over what the target passes on by itself.
    pub environment: Vec<(String, String)>,
    /// A directory whose content the job finds in its working directory. The job gets a copy.
    pub source: Option<PathBuf>,
    /// The directory below the source in which the job runs, as a submitter wrote it; none for the
    /// source's own. A target refuses what leads out of the source.
    pub working_directory: Option<String>,
    /// The target's part of the launch spec, macros replaced.
    pub resource_args: serde_json::Value,
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workload")
            .field("id", &self.id)
            .field("labels", &self.labels)
            .field("resource", &self.resource)
            .field("image", &self.image)
            .field("command", &self.command)
            .field("arguments", &self.arguments)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// A workload that a runner found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its identity.
    pub id: WorkloadId,
    /// The labels that it was launched with.
    pub labels: BTreeMap<String, String>,
}

/// Where a workload stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// There is none, and nothing that was begun will start one.
    Absent,
    /// It was created and does not run yet.
    Starting,
    /// It runs since then.
    Running {
        /// When it started.
        since: Millis,
    },
    /// It has ended.
    Exited(Exit),
    /// It had started and is gone, and how it ended was not recorded.
    Lost {
        /// A stable code, such as `machine-restarted`.
        reason: &'static str,
        /// A sentence for people.
        message: String,
    },
}

/// How a workload ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Why it ended.
    pub cause: ExitCause,
    /// Whether it had been asked to stop before it ended.
    pub stopped: bool,
    /// When it started.
    pub started_at: Millis,
    /// When it ended.
    pub ended_at: Millis,
    /// Output bytes that were not kept, because of the limit or because they could not be written.
    #[serde(default)]
    pub output_dropped: u64,
    /// Whether one of its processes, not its first one perhaps, was killed because memory ran out.
    #[serde(default)]
    pub memory_ran_out: bool,
}

/// Why a workload ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitCause {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Killed because it used more memory than it may.
    OutOfMemory,
    /// Its program could not be executed, for this reason.
    NotStarted(String),
}

impl Exit {
    /// Whether it ended by itself with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.cause == ExitCause::Code(0)
    }

    /// The exit code; 128 and the signal's number where a signal ended it, as shells report it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self.cause {
            ExitCause::Code(code) => Some(code),
            ExitCause::Signal(signal) => Some(128 + signal),
            ExitCause::OutOfMemory => Some(137),
            ExitCause::NotStarted(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_any_server_become_distinct_file_names() {
        for (item, attempt, name) in [
            ("UnVuUXVldWVJdGVtOjE6Mg", 1, "UnVuUXVldWVJdGVtOjE6Mg.1"),
            ("UnVuUXVldWVJdGVtOjExOA==", 2, "UnVuUXVldWVJdGVtOjExOA%3D%3D.2"),
            ("../../etc/passwd", 1, "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd.1"),
            ("a.1", 1, "a%2E1.1"),
            ("ü", 1, "%C3%BC.1"),
        ] {
            assert_eq!(WorkloadId::new(item, attempt).unwrap().file_name(), name);
        }
    }

    #[test]
    fn ids_that_cannot_be_file_names_are_refused() {
        assert_eq!(WorkloadId::new("", 1), Err(IdError::Length(0)));
        assert_eq!(WorkloadId::new("x".repeat(161), 1), Err(IdError::Length(161)));
        assert_eq!(WorkloadId::new("x", 0), Err(IdError::Attempt(0)));
    }

    #[test]
    fn a_workload_does_not_print_its_environment() {
        let workload = Workload {
            id: WorkloadId::new("item", 1).unwrap(),
            labels: BTreeMap::new(),
            resource: "local-process".to_owned(),
            image: None,
            command: vec!["true".to_owned()],
            arguments: Vec::new(),
            environment: vec![("WANDB_API_KEY".to_owned(), "very-secret".to_owned())],
            source: None,
            working_directory: None,
            resource_args: serde_json::Value::Null,
        };
        assert!(!format!("{workload:?}").contains("very-secret"));
    }
}
