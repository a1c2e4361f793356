//! What can go wrong in the store.

use slipway_model::item::Refusal;

/// The result of a store operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation did not happen. Nothing is changed in any of these cases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The named thing does not exist.
    #[error("{kind} `{name}` does not exist")]
    NotFound {
        /// `queue`, `run`, `artifact`, …
        kind: &'static str,
        /// Its name or id.
        name: String,
    },
    /// A thing of that name exists already.
    #[error("{kind} `{name}` exists already")]
    Exists {
        /// `queue`, `user`, …
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The input breaks a rule; the text says which, where, and what to do.
    #[error("{0}")]
    Invalid(String),
    /// The state machine refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The agent's name is held by another live agent.
    #[error("agent `{name}` is running on {host}; stop it, or choose another name")]
    AgentHeld {
        /// The agent's name.
        name: String,
        /// Where the holder runs.
        host: String,
    },
    /// The store cannot take the request now (disk full, database away, shutting down); the same
    /// request may succeed later. The text is for the log and the caller.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The database is not fit to be used: unsafe settings, a newer schema, another server's.
    #[error("{0}")]
    Unfit(String),
    /// A defect of ours, or a damaged database.
    #[error("internal store error: {0}")]
    Internal(String),
}

impl Error {
    /// Builds [`Error::NotFound`].
    pub fn not_found(kind: &'static str, name: impl ToString) -> Self {
        Self::NotFound {
            kind,
            name: name.to_string(),
        }
    }

    /// Builds [`Error::Exists`].
    pub fn exists(kind: &'static str, name: impl ToString) -> Self {
        Self::Exists {
            kind,
            name: name.to_string(),
        }
    }
}
