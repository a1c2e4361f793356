//! How a command ends: exit codes, and errors as people read them.

use std::fmt;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use slipway_client::DownloadError;

/// Exit codes; `docs/exit-codes.md` explains them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something went wrong.
    Failure = 1,
    /// The command line or an input is wrong.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// The server refuses.
    Refused = 4,
    /// The server cannot be reached, or cannot serve.
    Unavailable = 5,
}

/// Why a command failed; as JSON what programs read of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Error {
    #[serde(rename = "error")]
    message: String,
    #[serde(rename = "code")]
    exit: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The code with which a followed job ended, as opposed to the command itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    job_exit_code: Option<i64>,
}

/// The result of a command.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with an exit code.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit: exit as u8,
            message: message.into(),
            hint: None,
            job_exit_code: None,
        }
    }

    /// A general failure.
    pub(crate) fn failure(message: impl Into<String>) -> Self {
        Self::new(Exit::Failure, message)
    }

    /// A command line or input that is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Something named that does not exist.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// The bad end of a followed job. Its exit code, if it has one, becomes the command's.
    pub(crate) fn job_ended(code: Option<i64>, message: impl Into<String>) -> Self {
        let code = code.filter(|code| *code != 0);
        Self {
            exit: code
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(Exit::Failure as u8),
            message: message.into(),
            hint: None,
            job_exit_code: code,
        }
    }

    /// What to do next.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says first where it happened.
    #[must_use]
    pub(crate) fn context(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// Says last what had taken effect before. The command failed then whatever the reason is: its other
    /// codes say that nothing was changed.
    #[must_use]
    pub(crate) fn after(mut self, done: &str) -> Self {
        self.message = format!("{}; {done}", self.message);
        self.exit = Exit::Failure as u8;
        self
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit)
    }

    /// What to do next, if anything is known.
    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<slipway_client::Error> for Error {
    fn from(error: slipway_client::Error) -> Self {
        use slipway_client::Error as Client;
        let (exit, hint) = match &error {
            Client::Unauthorized { .. } => (Exit::Refused, Some("sign in with `slipway login`")),
            Client::Forbidden(_) | Client::Conflict(_) => (Exit::Refused, None),
            Client::NotFound(_) => (Exit::NotFound, None),
            Client::Invalid(_) => (Exit::Usage, None),
            Client::Unavailable { .. } => (Exit::Unavailable, Some("try again in a moment")),
            Client::Transport { .. } => (
                Exit::Unavailable,
                Some("check the address (`WANDB_BASE_URL`, `slipway login --host`) and whether the server runs"),
            ),
            Client::Elsewhere { .. } => (
                Exit::Failure,
                Some("check the address (`WANDB_BASE_URL`, `slipway login --host`), its port and its path"),
            ),
            _ => (Exit::Failure, None),
        };
        let hint = error.hint().map(str::to_owned).or_else(|| hint.map(str::to_owned));
        Self {
            hint,
            ..Self::new(exit, error.to_string())
        }
    }
}

impl From<DownloadError> for Error {
    fn from(error: DownloadError) -> Self {
        match error {
            DownloadError::Call(error) => error.into(),
            other => Self::failure(other.to_string()),
        }
    }
}

impl From<slipway_store::Error> for Error {
    fn from(error: slipway_store::Error) -> Self {
        use slipway_store::Error as Store;
        let exit = match &error {
            Store::NotFound { .. } => Exit::NotFound,
            Store::Exists { .. } | Store::Refused(_) | Store::AgentHeld { .. } => Exit::Refused,
            Store::Invalid(_) => Exit::Usage,
            Store::Unavailable(_) => Exit::Unavailable,
            _ => Exit::Failure,
        };
        Self::new(exit, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, Exit};
    use serde_json::json;
    use slipway_client::{Error as Client, Refusal};

    #[test]
    fn programs_tell_the_jobs_code_from_the_commands_own() {
        let json = |error: &Error| serde_json::to_value(error).unwrap();
        assert_eq!(
            json(&Error::not_found("m").with_hint("h")),
            json!({"error": "m", "code": 3, "hint": "h"})
        );
        for (code, expected) in [
            (Some(3), json!({"error": "m", "code": 3, "jobExitCode": 3})),
            (Some(300), json!({"error": "m", "code": 1, "jobExitCode": 300})),
            (Some(0), json!({"error": "m", "code": 1})),
            (None, json!({"error": "m", "code": 1})),
        ] {
            assert_eq!(json(&Error::job_ended(code, "m")), expected);
        }
    }

    #[test]
    fn each_kind_of_error_has_its_exit_code() {
        let refusal = || Refusal {
            message: "m".to_owned(),
            hint: Some("h".to_owned()),
        };
        let server = "http://h".to_owned();
        for (error, exit, hint) in [
            (Client::NotFound(refusal()), Exit::NotFound, "h"),
            (Client::Invalid(refusal()), Exit::Usage, "h"),
            (Client::Forbidden(refusal()), Exit::Refused, "h"),
            (Client::Conflict(refusal()), Exit::Refused, "h"),
            (
                Client::Unavailable {
                    server,
                    message: "m".to_owned(),
                    retry_after: None,
                },
                Exit::Unavailable,
                "try again in a moment",
            ),
        ] {
            let error = Error::from(error);
            assert_eq!(error.exit, exit as u8);
            assert_eq!(error.hint(), Some(hint));
        }
    }
}
