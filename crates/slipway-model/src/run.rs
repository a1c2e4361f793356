//! Runs: states and who decides them.

use serde::{Deserialize, Serialize};

/// The state of a run, in the words that clients use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Named, not yet started: an item was acknowledged or a sweep reserved the run.
    Pending,
    /// Started and heard from.
    Running,
    /// Ended with exit code 0.
    Finished,
    /// Ended with another exit code, or never started.
    Failed,
    /// Not heard from for too long; undone by the next heartbeat.
    Crashed,
    /// Stopped on request.
    Killed,
    /// The run announced that it is about to be preempted.
    Preempting,
    /// Preempted; it will be resumed.
    Preempted,
}

impl RunState {
    /// Every state, in the order of its code.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Running,
        Self::Finished,
        Self::Failed,
        Self::Crashed,
        Self::Killed,
        Self::Preempting,
        Self::Preempted,
    ];

    /// The number that stores keep.
    #[must_use]
    pub const fn code(self) -> i64 {
        self as i64
    }

    /// The state of a stored number.
    #[must_use]
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }

    /// The word on the wire, lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
            Self::Killed => "killed",
            Self::Preempting => "preempting",
            Self::Preempted => "preempted",
        }
    }

    /// Whether the run has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Finished | Self::Failed | Self::Crashed | Self::Killed | Self::Preempted
        )
    }

    /// The state after the client reported the end of its process.
    ///
    /// `stop_requested`: whether somebody had asked the run to stop.
    #[must_use]
    pub const fn from_exit(exit_code: i64, stop_requested: bool) -> Self {
        match (exit_code, stop_requested) {
            (0, _) => Self::Finished,
            (_, true) => Self::Killed,
            (_, false) => Self::Failed,
        }
    }
}
