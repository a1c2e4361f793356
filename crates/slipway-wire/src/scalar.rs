//! How JSON values travel inside GraphQL.
//!
//! The official API has two scalars for JSON: `JSON`, an inline value, and `JSONString`, a string
//! that contains JSON. Which one a field uses differs between servers and versions, so answers are
//! read leniently with [`json_or_text`]; inputs are written with [`to_text`].

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Reads an inline JSON value, or a string that contains JSON. Null stays null; a string that is
/// not JSON stays a string.
///
/// # Errors
/// Only those of the deserializer.
pub fn json_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        other => other,
    })
}

/// Reads a run spec: a JSON object, or a string that contains one.
///
/// # Errors
/// If it is anything else.
pub fn object_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    match json_or_text(deserializer)? {
        value @ Value::Object(_) => Ok(value),
        _ => Err(D::Error::custom(
            "expected a JSON object, or a string that contains one",
        )),
    }
}

/// Reads a value that may be null as its default, as lists that a server leaves out.
///
/// # Errors
/// Those of the value.
pub fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Writes a value as a `JSONString`.
#[must_use]
pub fn to_text(value: &Value) -> String {
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::{json_or_text, object_or_text};
    use serde::Deserialize;
    use serde_json::{Value, json};

    #[derive(Deserialize)]
    struct Lenient {
        #[serde(default, deserialize_with = "json_or_text")]
        value: Value,
    }

    #[derive(Debug, Deserialize)]
    struct Spec {
        #[serde(deserialize_with = "object_or_text")]
        #[expect(dead_code, reason = "only whether it is read matters")]
        spec: Value,
    }

    #[test]
    fn json_is_read_inline_and_from_text() {
        for (sent, read) in [
            (json!({"value": {"a": 1}}), json!({"a": 1})),
            (json!({"value": "{\"a\": 1}"}), json!({"a": 1})),
            (json!({"value": "not json"}), json!("not json")),
            (json!({"value": null}), Value::Null),
            (json!({}), Value::Null),
        ] {
            let lenient: Lenient = serde_json::from_value(sent.clone()).unwrap();
            assert_eq!(lenient.value, read, "{sent}");
        }
    }

    #[test]
    fn a_run_spec_is_an_object() {
        for (sent, good) in [
            (json!({"spec": {}}), true),
            (json!({"spec": "{}"}), true),
            (json!({"spec": "[]"}), false),
            (json!({"spec": null}), false),
        ] {
            assert_eq!(serde_json::from_value::<Spec>(sent.clone()).is_ok(), good, "{sent}");
        }
    }
}
