//! Hiding secrets in documents that are stored and shown, such as an agent's configuration.
//!
//! What counts as a secret is decided by names, with [`is_secret_name`], and for addresses by the user
//! information in them. Values without a telling name are left as they are: this is a net below the
//! rule that secrets do not belong in such documents, not a replacement for it.

use serde_json::{Map, Value};

use crate::macros::is_secret_name;

/// What stands in the place of a secret.
pub const REDACTED: &str = "<redacted>";

/// Replaces the values of keys that look secret, at any depth, and passwords within addresses.
///
/// A map with a secret-looking `name` and a `value`, the form of environment variables in
/// Kubernetes, loses its `value`.
pub fn redact(value: &mut Value) {
    match value {
        Value::Object(map) => redact_map(map),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::String(text) => {
            if let Some(shorter) = without_user_information(text) {
                *text = shorter;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn redact_map(map: &mut Map<String, Value>) {
    let names_secret = map.get("name").and_then(Value::as_str).is_some_and(looks_secret);
    for (key, value) in map.iter_mut() {
        if looks_secret(key) || (names_secret && key == "value") {
            hide(value);
        } else {
            redact(value);
        }
    }
}

/// Hides every scalar; the shape stays, so that readers still see what is set.
fn hide(value: &mut Value) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Object(map) => map.values_mut().for_each(hide),
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::String(_) | Value::Number(_) => *value = Value::String(REDACTED.to_owned()),
    }
}

/// [`is_secret_name`] for the spellings of configuration files: `api-key`, `apiKey`, `api_key`.
fn looks_secret(key: &str) -> bool {
    let mut name = String::with_capacity(key.len() + 4);
    let mut lower = false;
    for c in key.chars() {
        if c.is_ascii_uppercase() && lower {
            name.push('_');
        }
        lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        name.push(if c.is_ascii_alphanumeric() { c } else { '_' });
    }
    is_secret_name(&name)
}

/// An address whose user information is hidden; `None` if there is none.
fn without_user_information(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let at = authority.rfind('@')?;
    Some(format!("{scheme}://{REDACTED}{}", &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_hidden_wherever_they_stand_and_nothing_else_is() {
        let cases = [
            (json!({"api_key": "k"}), json!({"api_key": REDACTED})),
            (
                json!({"apiKey": 7, "api-key": "k"}),
                json!({"apiKey": REDACTED, "api-key": REDACTED}),
            ),
            (
                json!({"registry": {"password": "p", "uri": "r.example/x"}}),
                json!({"registry": {"password": REDACTED, "uri": "r.example/x"}}),
            ),
            (
                json!({"env": [{"name": "HF_TOKEN", "value": "t"}, {"name": "MODE", "value": "fast"}]}),
                json!({"env": [{"name": "HF_TOKEN", "value": REDACTED}, {"name": "MODE", "value": "fast"}]}),
            ),
            (
                json!({"secrets": {"a": "1", "b": ["2", null, true]}}),
                json!({"secrets": {"a": REDACTED, "b": [REDACTED, null, true]}}),
            ),
            (
                json!({"url": "https://me:pw@host/p?q#f", "ssh": "ssh://git@host", "plain": "me@host"}),
                json!({"url": "https://<redacted>@host/p?q#f", "ssh": "ssh://<redacted>@host", "plain": "me@host"}),
            ),
            (
                json!({"max_jobs": 4, "queues": ["q"], "tokenizers": "x", "monkey": "y", "path": "/a@b"}),
                json!({"max_jobs": 4, "queues": ["q"], "tokenizers": "x", "monkey": "y", "path": "/a@b"}),
            ),
        ];
        for (mut given, expected) in cases {
            redact(&mut given);
            assert_eq!(given, expected);
        }
    }

    #[test]
    fn redacting_twice_changes_nothing() {
        let mut value = json!({"token": "t", "url": "https://a:b@c"});
        redact(&mut value);
        let once = value.clone();
        redact(&mut value);
        assert_eq!(value, once);
    }
}
