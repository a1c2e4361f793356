//! A queue's configuration as people write it: JSON or YAML, the same value from both.
//!
//! Template variables need no quotes: `gpus: {{gpus}}` means `gpus: "{{gpus}}"`, and filling keeps
//! the variable's type ([`crate::template::fill`]). This module reads text and says where it is
//! wrong; what the keys mean belongs to the target resource.

use serde_json::{Map, Value, json};

use crate::json::{self, JsonError, Strict};
use crate::queue::Resource;

mod quote;
pub(crate) mod yaml;

/// Text that is no queue configuration. Lines and columns start at 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}{}", .hint.as_deref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
pub struct ConfigError {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl From<JsonError> for ConfigError {
    fn from(error: JsonError) -> Self {
        Self {
            line: error.line,
            column: error.column,
            message: error.message,
            hint: None,
        }
    }
}

/// Reads a queue's configuration. Blank text is an empty configuration.
///
/// # Errors
/// Says where the text is neither JSON nor YAML, repeats a key, is indented with tabs, is not a
/// map, or exceeds a limit.
pub fn parse_config(text: &str) -> Result<Value, ConfigError> {
    match parse(text)? {
        Value::Null => Ok(Value::Object(Map::new())),
        Value::Object(map) => Ok(Value::Object(map)),
        other => Err(ConfigError {
            line: 1,
            column: 1,
            message: format!("a configuration is a map of keys to values, not {}", json::kind(&other)),
            hint: Some("write `key: value` lines, or a JSON object".to_owned()),
        }),
    }
}

/// Reads one map as [`parse_config`] does, or a list of them.
///
/// # Errors
/// Those of [`parse_config`].
pub fn parse_configs(text: &str) -> Result<Vec<Value>, ConfigError> {
    match parse(text)? {
        Value::Array(list) if list.iter().all(Value::is_object) => Ok(list),
        Value::Array(_) => Err(ConfigError {
            line: 1,
            column: 1,
            message: "a list holds something else than maps of keys to values".to_owned(),
            hint: None,
        }),
        _ => Ok(vec![parse_config(text)?]),
    }
}

fn parse(text: &str) -> Result<Value, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(error) = json::too_long(text) {
        return Err(error.into());
    }
    let start = text.trim_start();
    if start.is_empty() {
        Ok(Value::Null)
    } else if start.starts_with(['{', '[']) {
        parse_braces(text)
    } else {
        parse_yaml(text)
    }
}

/// The configuration as queues store it: `{"resource_args": {"<resource>": args}}`.
///
/// `args` may already be of that form, or hold its arguments below the resource's name, as people
/// write for Kubernetes custom resources.
#[must_use]
pub fn stored_config(resource: Resource, args: Value) -> Value {
    let name = resource.as_str();
    let args = match args {
        Value::Object(map) if map.get("resource_args").is_some_and(Value::is_object) => return Value::Object(map),
        Value::Object(mut map) if map.len() == 1 && map.get(name).is_some_and(Value::is_object) => {
            map.remove(name).unwrap_or_default()
        }
        other => other,
    };
    json!({"resource_args": {name: args}})
}

/// The arguments of one resource in a stored configuration or a launch spec; `None` if absent.
#[must_use]
pub fn resource_args<'a>(stored: &'a Value, resource: &str) -> Option<&'a Value> {
    stored
        .get("resource_args")?
        .get(resource)
        .filter(|args| !args.is_null())
}

/// Text that opens with a brace is JSON, or YAML in its flow style. A quoted first key says JSON:
/// YAML would take most slips of the pen in JSON for plain strings.
fn parse_braces(text: &str) -> Result<Value, ConfigError> {
    let quoted = quote::in_json(text);
    match json::parse(&quoted.text) {
        Ok(value) => Ok(value),
        Err(error) if text.trim_start()[1..].trim_start().starts_with('"') => {
            let column = quoted.original_column(error.line, error.column);
            Err(JsonError { column, ..error }.into())
        }
        Err(_) => parse_yaml(text),
    }
}

fn parse_yaml(text: &str) -> Result<Value, ConfigError> {
    let quoted = quote::in_yaml(text);
    let Strict(value) = yaml::parse(text, &quoted.text).map_err(|error| ConfigError {
        column: quoted.original_column(error.line, error.column),
        ..error
    })?;
    json::check_depth(&value).map_err(|message| ConfigError {
        line: 1,
        column: 1,
        message,
        hint: None,
    })?;
    Ok(value)
}

#[cfg(test)]
mod tests;
