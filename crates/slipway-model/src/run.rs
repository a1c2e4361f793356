//! Runs: states and who decides them.

use serde::{Deserialize, Serialize};

/// The longest run id, in characters.
const MAX_RUN_ID: usize = 128;

/// Why a run's id is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunIdError {
    /// It is empty.
    #[error("a run needs an id")]
    Empty,
    /// It is longer than allowed.
    #[error("a run's id has at most {MAX_RUN_ID} characters; this one has {0}")]
    Long(usize),
    /// It holds a character that addresses or paths use.
    #[error("a run's id may not contain {0:?}; choose another, or leave it out and one is made")]
    Character(char),
    /// Addresses lose it: there it means a place, as in paths of files.
    #[error("`{0}` is no id for a run: addresses cannot carry it; choose another, or leave it out and one is made")]
    Dots(String),
}

/// Checks a run's id by the official client's rule: it becomes part of addresses, of paths, and of the
/// client's storage id. 1 to 128 characters, none of `/\#?%:` or a control character; not `.` or `..`.
///
/// # Errors
/// Says which rule is broken.
pub fn check_run_id(id: &str) -> Result<(), RunIdError> {
    if id.trim().is_empty() {
        return Err(RunIdError::Empty);
    }
    let length = id.chars().count();
    if length > MAX_RUN_ID {
        return Err(RunIdError::Long(length));
    }
    if matches!(id, "." | "..") {
        return Err(RunIdError::Dots(id.to_owned()));
    }
    match id.chars().find(|c| c.is_control() || "/\\#?%:".contains(*c)) {
        Some(character) => Err(RunIdError::Character(character)),
        None => Ok(()),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_hold_nothing_that_addresses_use_or_lose() {
        for good in ["abc123", "agent-1.x", "ü", "...", ".hidden"] {
            assert_eq!(check_run_id(good), Ok(()), "{good}");
        }
        let long = "x".repeat(129);
        for bad in ["", " ", ".", "..", "a/b", "a:b", "a\u{0}b", long.as_str()] {
            assert!(check_run_id(bad).is_err(), "{bad}");
        }
        assert_eq!(
            check_run_id("..").unwrap_err().to_string(),
            "`..` is no id for a run: addresses cannot carry it; choose another, or leave it out and one is made"
        );
    }
}
