//! Who may do what: roles, principals, scopes.

use serde::{Deserialize, Serialize};

/// What a member of a team may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads, submits, runs agents.
    Member,
    /// Also edits queues, members and keys.
    Admin,
}

impl Role {
    /// The word in stores and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Viewer, Self::Member, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
    }
}

/// What kind of credential a request carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A person's or a service account's key, or a page session.
    User,
    /// The key of one attempt of a queue item: it writes its run and that run's project's
    /// artifacts, and reads those, its job and the queue's entity.
    Run {
        /// The item's entity number.
        item_entity: i64,
        /// The item's number.
        item: i64,
        /// The run's entity.
        entity: String,
        /// The run's project.
        project: String,
        /// The run's id.
        run: String,
        /// The entity of the item's queue.
        queue_entity: String,
        /// Entity and project of the job, if the item names one.
        job: Option<(String, String)>,
        /// What the queue's owner allows beyond that, such as `launch`.
        scopes: Vec<String>,
    },
}

/// The key's prefix; what follows it has 43 base62 characters.
pub const KEY_PREFIX: &str = "slipway_";

/// Why an imported key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Fewer than 40 characters after the first `-` (or in all).
    #[error("an API key needs at least 40 characters after its first `-` (or in all); this one has {0}")]
    Short(usize),
    /// A character outside `A-Z a-z 0-9 _ -`.
    #[error("an API key consists of letters, digits, `_` and `-`")]
    Character,
}

/// Checks an imported key by the rule that the official client applies to keys.
///
/// # Errors
/// Says which rule is broken, without repeating the key.
pub fn check_imported_key(key: &str) -> Result<(), KeyError> {
    if !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Err(KeyError::Character);
    }
    let secret = key.split_once('-').map_or(key, |(_, rest)| rest);
    if secret.len() < 40 {
        Err(KeyError::Short(secret.len()))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
