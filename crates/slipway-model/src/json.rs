//! JSON as a value with limits: strict reading, pointers, depth.
//!
//! Everything that a submitter sends passes [`parse`] before anything walks it, so the recursive
//! functions of this crate never meet a value deeper than [`MAX_DEPTH`].

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep maps and lists may nest.
pub const MAX_DEPTH: usize = 64;

/// How long a document may be, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// Text that is not JSON, or more of it than allowed. Lines and columns start at 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct JsonError {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// Reads JSON strictly: no duplicate keys, no more than [`MAX_BYTES`] and [`MAX_DEPTH`].
///
/// # Errors
/// Says where the text stops being JSON, or which limit it exceeds.
pub fn parse(text: &str) -> Result<Value, JsonError> {
    if let Some(error) = too_long(text) {
        return Err(error);
    }
    match serde_json::from_str::<Strict>(text) {
        Ok(Strict(value)) => {
            check_depth(&value).map_err(|message| JsonError {
                line: 1,
                column: 1,
                message,
            })?;
            Ok(value)
        }
        Err(error) => {
            let (line, byte_column) = (error.line().max(1), error.column());
            Err(JsonError {
                line,
                column: char_column(text, line, byte_column),
                message: without_position(&error),
            })
        }
    }
}

/// The error for a text longer than [`MAX_BYTES`].
pub(crate) fn too_long(text: &str) -> Option<JsonError> {
    (text.len() > MAX_BYTES).then(|| JsonError {
        line: 1,
        column: 1,
        message: format!("the document has {} bytes; at most {MAX_BYTES} are allowed", text.len()),
    })
}

/// Refuses values that nest deeper than [`MAX_DEPTH`].
pub(crate) fn check_depth(value: &Value) -> Result<(), String> {
    fits(value, MAX_DEPTH).then_some(()).ok_or_else(too_deep)
}

/// As [`check_depth`], for a map on its own.
pub(crate) fn check_depth_of_map(map: &Map<String, Value>) -> Result<(), String> {
    map.values()
        .all(|item| fits(item, MAX_DEPTH - 1))
        .then_some(())
        .ok_or_else(too_deep)
}

fn fits(value: &Value, left: usize) -> bool {
    match value {
        Value::Array(items) => left > 0 && items.iter().all(|item| fits(item, left - 1)),
        Value::Object(map) => left > 0 && map.values().all(|item| fits(item, left - 1)),
        _ => true,
    }
}

fn too_deep() -> String {
    format!("nests deeper than {MAX_DEPTH} levels")
}

/// The pointer of `key` below `parent` (RFC 6901).
#[must_use]
pub fn child(parent: &str, key: &str) -> String {
    if key.contains(['~', '/']) {
        format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1"))
    } else {
        format!("{parent}/{key}")
    }
}

/// Whether `pointer` is `root` or lies below it. A segment `*` of `root` matches any segment.
///
/// A root may be written without its leading `/`.
#[must_use]
pub fn is_below(pointer: &str, root: &str) -> bool {
    let mut segments = pointer.split('/').skip(1);
    let root = root.strip_prefix('/').unwrap_or(root);
    root.is_empty()
        || root
            .split('/')
            .all(|part| segments.next().is_some_and(|s| part == "*" || part == s))
}

/// The word for a value's type, as error messages use it.
#[must_use]
pub const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// The 1-based character column of a 1-based byte column.
fn char_column(text: &str, line: usize, byte_column: usize) -> usize {
    let line = text.split('\n').nth(line - 1).unwrap_or("");
    let before = byte_column.saturating_sub(1).min(line.len());
    line.char_indices().take_while(|(at, _)| *at < before).count() + 1
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// A value whose maps had no key twice. Works for JSON and YAML alike.
pub(crate) struct Strict(pub(crate) Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom(format!("`{value}` is not a finite number; write it as a string")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(de::Error::custom(format!("the key `{key}` occurs twice in one map")));
            }
            let Strict(value) = access.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests;
