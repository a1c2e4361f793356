//! Kubernetes: a manifest has no closed list of harmless keys, so the dangerous ones are refused
//! wherever they stand.

use serde_json::Value;

use super::{PolicyError, Rule};
use crate::json::child;

/// When a key is refused.
enum When {
    /// Always.
    Present,
    /// If its value switches something on.
    On,
    /// If its value is not empty.
    Filled,
}

/// Keys in lower case, when they are refused, and why.
const REFUSED: [(&str, When, &str); 14] = [
    (
        "securitycontext",
        When::Present,
        "the queue decides how far a container is confined",
    ),
    ("hostpath", When::Present, "it reaches the node's files"),
    ("serviceaccounttoken", When::Present, "it hands out cluster credentials"),
    (
        "additional_services",
        When::Present,
        "it creates further objects in the cluster",
    ),
    ("hostpid", When::On, "it shares the node's processes"),
    ("hostipc", When::On, "it shares the node's memory"),
    ("hostnetwork", When::On, "it shares the node's network"),
    ("hostusers", When::On, "it shares the node's users"),
    (
        "shareprocessnamespace",
        When::On,
        "it shares processes between containers",
    ),
    (
        "automountserviceaccounttoken",
        When::On,
        "it hands out cluster credentials",
    ),
    ("hostport", When::On, "it opens a port of the node"),
    (
        "serviceaccountname",
        When::Filled,
        "the queue chooses the account that jobs run as",
    ),
    (
        "serviceaccount",
        When::Filled,
        "the queue chooses the account that jobs run as",
    ),
    ("nodename", When::Filled, "it bypasses the scheduler"),
];

impl Rule<'_> {
    pub(super) fn kubernetes(&self, value: &Value, path: &str) -> Result<(), PolicyError> {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let at = child(path, key);
                    if !self.allows(&at) {
                        self.kubernetes_key(key, value, path, &at)?;
                        self.kubernetes(value, &at)?;
                    }
                }
                Ok(())
            }
            Value::Array(items) => items
                .iter()
                .enumerate()
                .try_for_each(|(index, item)| self.kubernetes(item, &format!("{path}/{index}"))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }

    fn kubernetes_key(&self, key: &str, value: &Value, parent: &str, path: &str) -> Result<(), PolicyError> {
        let lower = key.to_ascii_lowercase();
        if let Some((_, when, reason)) = REFUSED.iter().find(|(name, ..)| *name == lower) {
            let refused = match when {
                When::Present => !value.is_null(),
                When::On => is_on(value),
                When::Filled => !is_empty(value),
            };
            if refused {
                return self.refuse(path, *reason);
            }
        }
        let is_text = |expected: &str| value.as_str().is_some_and(|text| text.eq_ignore_ascii_case(expected));
        match (parent, lower.as_str()) {
            ("", "apiversion") if !is_text("batch/v1") => {
                return self.refuse(path, "the queue chooses which kind of object its agent creates");
            }
            ("", "kind") if !is_text("Job") => {
                return self.refuse(path, "the queue chooses which kind of object its agent creates");
            }
            _ => {}
        }
        if lower == "mountpropagation" && is_text("Bidirectional") {
            return self.refuse(path, "it mounts into the node");
        }
        let confines = lower.contains("apparmor") || lower.contains("seccomp");
        if confines
            && value
                .as_str()
                .is_some_and(|text| text.to_ascii_lowercase().contains("unconfined"))
        {
            return self.refuse(path, "the queue decides how far a container is confined");
        }
        Ok(())
    }
}

/// Whether a value switches an option on, in any of the spellings that a parser may accept.
fn is_on(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !matches!(
            text.trim().to_ascii_lowercase().as_str(),
            "" | "0" | "false" | "no" | "off"
        ),
        Value::Array(_) | Value::Object(_) => true,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The first place in a manifest that replaces what an image runs, or leaves its confinement.
pub(super) fn first_command(value: &Value, path: &str) -> Option<String> {
    const REFUSED: [&str; 5] = ["hostPID", "hostIPC", "hostNetwork", "initContainers", "command"];
    match value {
        Value::Object(map) => map.iter().find_map(|(key, value)| {
            let at = child(path, key);
            if REFUSED.contains(&key.as_str()) && is_on(value) && !is_empty(value) {
                return Some(at);
            }
            first_command(value, &at)
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| first_command(item, &format!("{path}/{index}"))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}
