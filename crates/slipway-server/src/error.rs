//! The one error that callers see: a stable code, a sentence, and where there is one, what to do next.
//!
//! The code decides the HTTP status and `extensions.code` of GraphQL. Details of our own defects go
//! to the log, never into an answer.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// What kind of error it is. Clients may rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request breaks a rule. 400.
    BadUserInput,
    /// No credential, or one that is unknown, expired or revoked. 401.
    Unauthenticated,
    /// The credential may not do this. 403.
    Forbidden,
    /// It does not exist, or the caller may not know that it does. 404.
    NotFound,
    /// It does not fit what is stored. 409.
    Conflict,
    /// The body is larger than allowed. 413.
    TooLarge,
    /// Too many requests by this key. 429.
    RateLimited,
    /// Passing trouble of ours; the same request may succeed later. 503.
    Unavailable,
    /// A defect of ours. 500.
    Internal,
}

impl Code {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadUserInput => "BAD_USER_INPUT",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::Conflict => "CONFLICT",
            Self::TooLarge => "TOO_LARGE",
            Self::RateLimited => "RATE_LIMITED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadUserInput => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Seconds after which a retry makes sense, for codes that a client should retry.
    #[must_use]
    pub const fn retry_after(self) -> Option<u32> {
        match self {
            Self::RateLimited => Some(1),
            Self::Unavailable => Some(2),
            _ => None,
        }
    }
}

/// Why a request is not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind of error it is.
    pub code: Code,
    /// What went wrong, and where. Without secrets.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl ApiError {
    /// Builds an error of any code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
        }
    }

    /// Says what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Builds a [`Code::BadUserInput`] error.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(Code::BadUserInput, message)
    }

    /// Builds a [`Code::NotFound`] error in the store's wording.
    pub fn not_found(kind: &str, name: &str) -> Self {
        Self::new(Code::NotFound, format!("{kind} `{name}` does not exist"))
    }

    /// Builds a [`Code::Forbidden`] error.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Code::Forbidden, message)
    }

    /// Builds a [`Code::Internal`] error; the detail goes to the log only.
    pub fn internal(detail: impl std::fmt::Display) -> Self {
        tracing::error!(%detail, "internal error");
        Self::new(Code::Internal, "internal error; the server's log says more")
    }
}

impl From<slipway_store::Error> for ApiError {
    fn from(error: slipway_store::Error) -> Self {
        use slipway_store::Error as E;
        let code = match &error {
            E::NotFound { .. } => Code::NotFound,
            E::Exists { .. } | E::Refused(_) | E::AgentHeld { .. } => Code::Conflict,
            E::Invalid(_) => Code::BadUserInput,
            E::Unavailable(_) => Code::Unavailable,
            _ => return Self::internal(error),
        };
        Self::new(code, error.to_string())
    }
}

impl From<slipway_model::id::IdError> for ApiError {
    /// An id that does not decode names nothing.
    fn from(error: slipway_model::id::IdError) -> Self {
        Self::new(Code::NotFound, error.to_string())
    }
}

impl From<slipway_model::queue::NameError> for ApiError {
    fn from(error: slipway_model::queue::NameError) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<slipway_model::queue::ResourceError> for ApiError {
    fn from(error: slipway_model::queue::ResourceError) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<slipway_model::priority::PriorityError> for ApiError {
    fn from(error: slipway_model::priority::PriorityError) -> Self {
        Self::bad(error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(json!({
            "error": self.message,
            "code": self.code.as_str(),
            "hint": self.hint,
        }));
        let mut response = (self.code.status(), body).into_response();
        if let Some(seconds) = self.code.retry_after() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::Unauthenticated {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"slipway\""),
            );
        }
        response
    }
}
