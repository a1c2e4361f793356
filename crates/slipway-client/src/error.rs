//! What can go wrong in a call.

use std::time::Duration;

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// What a server says when it refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What is wrong, in the server's words.
    pub message: String,
    /// What to do next, if the server says so.
    pub hint: Option<String>,
}

/// Why a call failed. No variant carries a credential or a signed address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The key is missing, unknown or expired. Repeating does not help.
    #[error("{server} does not accept the API key: {refusal}")]
    Unauthorized {
        /// The server's address.
        server: String,
        /// In its words.
        refusal: Refusal,
    },
    /// The key may not do this.
    #[error("{0}")]
    Forbidden(Refusal),
    /// The thing does not exist, or the key may not see it.
    #[error("{0}")]
    NotFound(Refusal),
    /// The input breaks a rule.
    #[error("{0}")]
    Invalid(Refusal),
    /// The state of things does not allow it now, such as a stale lease or a name that is taken.
    #[error("{0}")]
    Conflict(Refusal),
    /// The server cannot serve anybody right now; the same call may succeed later.
    #[error("{server} is unavailable: {message}")]
    Unavailable {
        /// The server's address.
        server: String,
        /// In its words.
        message: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// No answer came. `sent`: whether the request may have reached the server.
    #[error("cannot reach {server}: {message}")]
    Transport {
        /// The server's address.
        server: String,
        /// Why.
        message: String,
        /// Whether the request may have taken effect.
        sent: bool,
    },
    /// Something else than this API answers at the address.
    #[error("{address} is not the API of W&B or Slipway: {answer}")]
    Elsewhere {
        /// The address that was asked.
        address: String,
        /// What came.
        answer: String,
    },
    /// An answer came that makes no sense: not JSON, or of an unexpected shape.
    #[error("{server} sent an answer that this client cannot read: {message}")]
    Protocol {
        /// The server's address.
        server: String,
        /// What is wrong with it.
        message: String,
    },
}

impl Error {
    /// Whether the same call may succeed later without anybody's doing.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Transport { .. })
    }

    /// Whether the call surely had no effect, so that repeating it is harmless even where the
    /// server cannot recognise a repetition.
    #[must_use]
    pub const fn had_no_effect(&self) -> bool {
        match self {
            Self::Transport { sent, .. } => !*sent,
            // A gateway that gives up waiting (504) also lands here, without `Retry-After`.
            Self::Unavailable { retry_after, .. } => retry_after.is_some(),
            _ => true,
        }
    }

    /// What to do next, if anybody said so.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Unauthorized { refusal, .. }
            | Self::Forbidden(refusal)
            | Self::NotFound(refusal)
            | Self::Invalid(refusal)
            | Self::Conflict(refusal) => refusal.hint.as_deref(),
            Self::Unavailable { .. } | Self::Transport { .. } | Self::Elsewhere { .. } | Self::Protocol { .. } => None,
        }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::NotFound(Refusal {
            message: message.into(),
            hint: None,
        })
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(Refusal {
            message: message.into(),
            hint: None,
        })
    }
}
