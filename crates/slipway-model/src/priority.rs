//! Priorities: 0 critical, 1 high, 2 medium, 3 low. Lower runs first; absent means medium.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::queue::Prioritization;

/// The priority of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// 0.
    Critical,
    /// 1.
    High,
    /// 2, and what an item without a priority has.
    #[default]
    Medium,
    /// 3.
    Low,
}

/// A number or word that is no priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("priority `{0}` is not one of 0 (critical), 1 (high), 2 (medium), 3 (low)")]
pub struct PriorityError(pub String);

impl Priority {
    /// Every priority, first to run first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Medium, Self::Low];

    /// The number on the wire and in stores.
    #[must_use]
    pub const fn code(self) -> i64 {
        self as i64
    }

    /// What it comes to in a queue: one without prioritization runs its items in order of submission.
    #[must_use]
    pub const fn within(self, prioritization: Prioritization) -> Self {
        match prioritization {
            Prioritization::V0 => self,
            Prioritization::Disabled => Self::Medium,
        }
    }

    /// The word that people read and type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }

    /// Reads a number from the wire.
    ///
    /// # Errors
    /// If the number is not 0 to 3.
    pub fn from_code(code: i64) -> Result<Self, PriorityError> {
        usize::try_from(code)
            .ok()
            .and_then(|index| Self::ALL.get(index).copied())
            .ok_or_else(|| PriorityError(code.to_string()))
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = PriorityError;

    fn from_str(text: &str) -> Result<Self, PriorityError> {
        Self::ALL
            .into_iter()
            .find(|priority| priority.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| PriorityError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests;
