//! Why a runner could not do what it was asked.

use std::io;
use std::path::PathBuf;

use crate::workload::{IdError, WorkloadId};

/// A failure of a target resource.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The workload asks for something that this target does not do. Trying again does not help.
    #[error("{message}")]
    Refused {
        /// A stable code, such as `unknown-option`.
        reason: &'static str,
        /// What is refused and what to do instead.
        message: String,
    },
    /// Something else has the name that the workload would get.
    #[error("`{}` exists already and does not belong to {id}; move it away", path.display())]
    Conflict {
        /// The workload.
        id: WorkloadId,
        /// What is in the way.
        path: PathBuf,
    },
    /// The machine did not do it; trying again may help.
    #[error("could not {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The target is away; it may come back.
    #[error("{target} does not answer: {message}")]
    Unavailable {
        /// What is away, and where it was looked for.
        target: String,
        /// What was seen of it.
        message: String,
    },
    /// The target answers, and what it says cannot be read; it may be in passing.
    #[error("{target} answers what cannot be read: {message}")]
    Unreadable {
        /// Where it was asked.
        target: String,
        /// What is wrong with the answer.
        message: String,
    },
    /// The launch was called off before the workload was started. Nothing of it is left, or will be once
    /// the target answers.
    #[error("the launch was called off before the job was started")]
    Withdrawn,
    /// An id that cannot name a workload.
    #[error(transparent)]
    Id(#[from] IdError),
}

impl RunnerError {
    /// A stable code, from which metrics and failure reports derive.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused { reason, .. } => reason,
            Self::Conflict { .. } => "name-taken",
            Self::Io { .. } => "target-io",
            Self::Unavailable { .. } => "target-unavailable",
            Self::Unreadable { .. } => "target-unreadable",
            Self::Withdrawn => "withdrawn",
            Self::Id(_) => "bad-id",
        }
    }

    /// Whether the target gave no answer that could be read, so that trying again later may help.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Unreadable { .. })
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
