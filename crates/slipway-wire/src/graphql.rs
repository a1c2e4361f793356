//! The envelope of GraphQL over HTTP.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Document;

/// A request.
#[derive(Debug, Clone, Serialize)]
pub struct Request<'a, V> {
    /// The document.
    pub query: &'a str,
    /// The values of its variables.
    pub variables: V,
    /// Which operation of the document to run.
    #[serde(rename = "operationName")]
    pub operation_name: &'a str,
}

impl<'a, V> Request<'a, V> {
    /// A request that runs a document.
    pub const fn new(document: &Document, variables: V) -> Self {
        Self {
            query: document.text,
            variables,
            operation_name: document.name,
        }
    }
}

/// An answer, as far as it was read: `data` keeps its text until its type is known.
#[derive(Debug, Clone, Deserialize)]
pub struct Response {
    /// The result; null or absent when the request failed as a whole.
    #[serde(default)]
    pub data: Option<Value>,
    /// What went wrong.
    #[serde(default, deserialize_with = "crate::scalar::null_as_default")]
    pub errors: Vec<Error>,
    /// The form of an error that servers use outside GraphQL: a text, or an object with `message`.
    #[serde(default)]
    pub error: Option<Value>,
}

/// One GraphQL error.
#[derive(Debug, Clone, Deserialize)]
pub struct Error {
    /// The text for people.
    #[serde(default)]
    pub message: String,
    /// Where in the answer.
    #[serde(default)]
    pub path: Option<Value>,
    /// What programs read.
    #[serde(default, deserialize_with = "crate::scalar::null_as_default")]
    pub extensions: Extensions,
}

/// The part of an error for programs.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Extensions {
    /// A stable code, such as `NOT_FOUND`.
    #[serde(default)]
    pub code: Option<String>,
    /// What to do next.
    #[serde(default)]
    pub hint: Option<String>,
}

impl Response {
    /// The first error's code.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.errors.iter().find_map(|error| error.extensions.code.as_deref())
    }

    /// The first error's hint.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.errors.iter().find_map(|error| error.extensions.hint.as_deref())
    }

    /// The texts of all errors, joined; `None` if there is none.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        if !self.errors.is_empty() {
            let texts: Vec<&str> = self.errors.iter().map(|error| error.message.as_str()).collect();
            return Some(texts.join("; "));
        }
        match self.error.as_ref()? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(
                other
                    .get("message")
                    .and_then(Value::as_str)
                    .map_or_else(|| other.to_string(), str::to_owned),
            ),
        }
    }
}

/// A list in the form that Relay gave it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection<T> {
    /// The rows.
    pub edges: Vec<Edge<T>>,
    /// Whether more follow.
    #[serde(default)]
    pub page_info: PageInfo,
}

/// A row of a [`Connection`].
#[derive(Debug, Clone, Deserialize)]
pub struct Edge<T> {
    /// The row's value.
    pub node: T,
}

/// Where a page ends.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PageInfo {
    /// The place after which the next page begins.
    pub end_cursor: Option<String>,
    /// Whether there is a next page.
    pub has_next_page: bool,
}

impl<T> Connection<T> {
    /// The rows' values.
    pub fn into_nodes(self) -> impl Iterator<Item = T> {
        self.edges.into_iter().map(|edge| edge.node)
    }
}

/// The answer of mutations that only say whether they worked.
#[derive(Debug, Clone, Deserialize)]
pub struct Success {
    /// Whether it worked; absent and null count as success, as the official client reads it.
    #[serde(default = "yes")]
    pub success: Option<bool>,
}

impl Success {
    /// Whether it worked.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.success.unwrap_or(true)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's type")]
fn yes() -> Option<bool> {
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::Response;
    use serde_json::json;

    #[test]
    fn the_error_text_is_found_in_every_form_that_servers_use() {
        for (body, message, code) in [
            (json!({"errors": [{"message": "no"}]}), Some("no"), None),
            (
                json!({"errors": [{"message": "a", "extensions": {"code": "NOT_FOUND"}}, {"message": "b"}]}),
                Some("a; b"),
                Some("NOT_FOUND"),
            ),
            (json!({"error": "plain"}), Some("plain"), None),
            (json!({"error": {"message": "nested"}}), Some("nested"), None),
            (json!({"data": {}, "errors": null}), None, None),
        ] {
            let response: Response = serde_json::from_value(body.clone()).unwrap();
            assert_eq!(response.message().as_deref(), message, "{body}");
            assert_eq!(response.code(), code, "{body}");
        }
    }
}
