//! Launch agents as the server knows them.

use serde::{Deserialize, Serialize};

/// What an agent last said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AgentStatus {
    /// Waits for items.
    Polling,
    /// Executes at least one item.
    Running,
    /// Takes nothing new.
    Draining,
    /// Has ended. A later report does not bring it back.
    Killed,
}

impl AgentStatus {
    /// Every status, in the order of its code.
    pub const ALL: [Self; 4] = [Self::Polling, Self::Running, Self::Draining, Self::Killed];

    /// The number that stores keep.
    #[must_use]
    pub const fn code(self) -> i64 {
        self as i64
    }

    /// The status of a stored number.
    #[must_use]
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "POLLING",
            Self::Running => "RUNNING",
            Self::Draining => "DRAINING",
            Self::Killed => "KILLED",
        }
    }

    /// Reads the word that an agent sends; the case does not matter.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str().eq_ignore_ascii_case(text))
    }
}
