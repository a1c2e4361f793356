//! Queues as documents: what `queue export` writes and `queue apply` reads.
//!
//! A document holds what a queue's owner decides, nothing that the server adds; what is left out
//! has its default. Export and apply are inverse to each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use slipway_model::config::{parse_configs, resource_args, stored_config};
use slipway_model::names::nearest;
use slipway_model::queue::{QUEUE_PROJECT, Resource};
use slipway_wire::queue::{Queue, UpsertQueue};

use crate::exit::{Error, Result};

/// A queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct QueueDocument {
    /// Unique in its entity.
    pub name: String,
    /// The owner; that of the command line if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// The project in which it lives, unless it is the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The target resource.
    pub resource: String,
    /// Whether submitters may set priorities.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prioritization: bool,
    /// The arguments of the target resource.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub config: Value,
    /// By name: schema and description.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub template_variables: Value,
    /// Label to URL.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub external_links: BTreeMap<String, String>,
    /// What submitters may do beyond template variables.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub policy: Value,
}

const KEYS: [&str; 9] = [
    "name",
    "entity",
    "project",
    "resource",
    "prioritization",
    "config",
    "templateVariables",
    "externalLinks",
    "policy",
];

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// Reads documents: in YAML separated by `---`, or a list of them, which is also what a JSON file with
/// several holds. `place`: where the text is from.
pub(crate) fn read(text: &str, place: &str) -> Result<Vec<QueueDocument>> {
    let mut documents = Vec::new();
    for (line, part) in parts(text) {
        let values = parse_configs(&part).map_err(|error| {
            let failure = Error::usage(format!(
                "{place}: line {}, column {}: {}",
                line + error.line,
                error.column,
                error.message
            ));
            match error.hint {
                Some(hint) => failure.with_hint(hint),
                None => failure,
            }
        })?;
        let several = values.len() > 1;
        for (index, value) in values.into_iter().enumerate() {
            let document = read_one(value).map_err(|error| {
                let entry = if several {
                    format!(", entry {}", index + 1)
                } else {
                    String::new()
                };
                error.context(format!("{place}, document at line {}{entry}", line + 1))
            });
            documents.push(document?);
        }
    }
    if documents.is_empty() {
        return Err(Error::usage(format!("{place} holds no queue")));
    }
    Ok(documents)
}

/// The parts between `---` lines that are not blank, with the number of lines before each.
fn parts(text: &str) -> Vec<(usize, String)> {
    let mut parts = vec![(0, String::new())];
    for (number, line) in text.lines().enumerate() {
        if line.trim_end() == "---" {
            parts.push((number + 1, String::new()));
        } else if let Some((_, part)) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    let meaningful = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    parts.retain(|(_, part)| part.lines().any(meaningful));
    parts
}

fn read_one(value: Value) -> Result<QueueDocument> {
    let keys = value.as_object().into_iter().flat_map(Map::keys);
    if let Some(unknown) = keys.into_iter().find(|key| !KEYS.contains(&key.as_str())) {
        let error = Error::usage(format!("a queue has no `{unknown}`"));
        return Err(match nearest(unknown, KEYS) {
            Some(known) => error.with_hint(format!("did you mean `{known}`?")),
            None => error.with_hint(format!("a queue has: {}", KEYS.join(", "))),
        });
    }
    let document: QueueDocument = serde_json::from_value(value).map_err(|error| Error::usage(error.to_string()))?;
    document.resource()?;
    Ok(document)
}

/// Writes documents as YAML.
pub(crate) fn write(documents: &[QueueDocument]) -> Result<String> {
    let texts = documents
        .iter()
        .map(serde_saphyr::to_string)
        .collect::<std::result::Result<Vec<_>, _>>();
    let texts = texts.map_err(|error| Error::failure(format!("cannot write YAML: {error}")))?;
    Ok(texts.join("---\n"))
}

impl QueueDocument {
    /// A queue with defaults only.
    pub(crate) fn new(name: &str, resource: &str) -> Self {
        Self {
            name: name.to_owned(),
            entity: None,
            project: None,
            resource: resource.to_owned(),
            prioritization: false,
            config: Value::Null,
            template_variables: Value::Null,
            external_links: BTreeMap::new(),
            policy: Value::Null,
        }
    }

    /// The document of a queue as the server answers it.
    pub(crate) fn of(queue: &Queue) -> Self {
        let resource = queue.resource.clone().unwrap_or_default();
        Self {
            name: queue.name.clone(),
            entity: queue.entity_name.clone(),
            project: queue.project_name.clone().filter(|project| project != QUEUE_PROJECT),
            config: resource_args(&queue.config, &resource).cloned().unwrap_or(Value::Null),
            resource,
            prioritization: queue.prioritization_mode.as_deref() == Some("V0"),
            template_variables: variables(&queue.template_variables),
            external_links: links(&queue.external_links),
            policy: policy(&queue.policy),
        }
    }

    /// The target resource.
    pub(crate) fn resource(&self) -> Result<Resource> {
        self.resource
            .parse()
            .map_err(|error: slipway_model::queue::ResourceError| Error::usage(error.to_string()))
    }

    /// The input that makes the queue so: what the document leaves out is sent as empty, because what is
    /// not sent stays. `entity`: the owner if the document names none.
    pub(crate) fn upsert(&self, entity: &str) -> Result<UpsertQueue> {
        let resource = self.resource()?;
        let text = |value: &Value| (!is_empty(value)).then(|| value.to_string());
        let config = if self.config.is_null() {
            json!({})
        } else {
            self.config.clone()
        };
        let links: Vec<Value> = self
            .external_links
            .iter()
            .map(|(label, url)| json!({"label": label, "url": url}))
            .collect();
        Ok(UpsertQueue {
            entity_name: self.entity.clone().unwrap_or_else(|| entity.to_owned()),
            project_name: self.project.clone().unwrap_or_else(|| QUEUE_PROJECT.to_owned()),
            queue_name: self.name.clone(),
            resource_type: resource.as_str().to_owned(),
            resource_config: stored_config(resource, config).to_string(),
            template_variables: text(&self.template_variables),
            prioritization_mode: Some(if self.prioritization { "V0" } else { "DISABLED" }.to_owned()),
            external_links: Some(json!({"links": links}).to_string()),
            policy: Some(policy(&self.policy).to_string()),
        })
    }
}

/// Whether two inputs make the same queue, however their JSON is written.
pub(crate) fn same(one: &UpsertQueue, other: &UpsertQueue) -> bool {
    meaning(one) == meaning(other)
}

fn meaning(input: &UpsertQueue) -> Value {
    let mut meaning = serde_json::to_value(input).unwrap_or_default();
    for key in ["resourceConfig", "templateVariables", "externalLinks", "policy"] {
        if let Some(Value::String(text)) = meaning.get(key) {
            let read = serde_json::from_str(text);
            meaning[key] = read.unwrap_or_else(|_| Value::String(text.clone()));
        }
    }
    meaning
}

/// Template variables by name. The official API answers a list of names and schemas, the latter
/// as text.
pub(crate) fn variables(value: &Value) -> Value {
    let Value::Array(list) = value else {
        return value.clone();
    };
    let entries = list.iter().filter_map(|entry| {
        let name = entry.get("name")?.as_str()?.to_owned();
        let schema = match entry.get("schema")? {
            Value::String(text) => serde_json::from_str(text).ok()?,
            other => other.clone(),
        };
        Some((name, json!({"schema": schema})))
    });
    Value::Object(entries.collect())
}

fn links(value: &Value) -> BTreeMap<String, String> {
    let list = value.get("links").and_then(Value::as_array).into_iter().flatten();
    let pairs = list.filter_map(|link| {
        let text = |key: &str| link.get(key).and_then(Value::as_str).map(str::to_owned);
        Some((text("label")?, text("url")?))
    });
    pairs.collect()
}

/// A policy without what is at its default.
fn policy(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Object(map) => {
            let set = map.iter().filter(|(_, value)| !is_empty(value));
            Value::Object(set.map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::{KEYS, QueueDocument, read, write};
    use serde_json::json;
    use slipway_wire::queue::Queue;
    use std::collections::BTreeSet;

    fn full() -> Queue {
        serde_json::from_value(json!({
            "id": "x", "name": "gpu", "entityName": "team", "projectName": "model-registry",
            "resource": "kubernetes", "prioritizationMode": "V0", "paused": false,
            "config": {"resource_args": {"kubernetes": {"spec": {"gpus": "{{gpus}}", "note": "a: b #c", "on": true}}}},
            "templateVariables": {"gpus": {"schema": {"type": "integer", "minimum": 1}, "description": "how many"}},
            "externalLinks": {"links": [{"label": "grafana", "url": "https://example.com"}]},
            "policy": {"allowed_overrides": ["/spec/env"], "run_key_scopes": [], "agent_lost_timeout": null},
        }))
        .unwrap()
    }

    #[test]
    fn export_and_apply_are_inverse() {
        let plain: Queue = serde_json::from_value(json!({
            "id": "y", "name": "laptop", "entityName": "me", "resource": "local-process",
            "config": {"resource_args": {"local-process": {}}}, "prioritizationMode": "DISABLED",
        }))
        .unwrap();
        let documents = vec![QueueDocument::of(&full()), QueueDocument::of(&plain)];
        let text = write(&documents).unwrap();
        let again = read(&text, "text").unwrap();
        let inputs = |documents: &[QueueDocument]| {
            documents
                .iter()
                .map(|document| serde_json::to_value(document.upsert("other").unwrap()).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(inputs(&again), inputs(&documents), "{text}");
        for json in [
            serde_json::to_string(&documents).unwrap(),
            serde_json::to_string_pretty(&documents).unwrap(),
        ] {
            assert_eq!(inputs(&read(&json, "text").unwrap()), inputs(&documents), "{json}");
        }
        assert!(!text.contains("paused") && !text.contains("run_key_scopes"), "{text}");
    }

    #[test]
    fn the_known_keys_are_those_that_a_document_can_have() {
        let mut document = QueueDocument::of(&full());
        document.project = Some("p".to_owned());
        let written = serde_json::to_value(&document).unwrap();
        let keys: BTreeSet<&str> = written.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, KEYS.into());
    }

    #[test]
    fn a_document_becomes_the_input_of_the_api() {
        let input = QueueDocument::of(&full()).upsert("other").unwrap();
        assert_eq!(input.entity_name, "team");
        assert_eq!(input.project_name, "model-registry");
        assert_eq!(
            input.resource_config,
            r#"{"resource_args":{"kubernetes":{"spec":{"gpus":"{{gpus}}","note":"a: b #c","on":true}}}}"#
        );
        assert_eq!(
            input.template_variables.as_deref(),
            Some(r#"{"gpus":{"schema":{"type":"integer","minimum":1},"description":"how many"}}"#)
        );
        assert_eq!(
            input.external_links.as_deref(),
            Some(r#"{"links":[{"label":"grafana","url":"https://example.com"}]}"#)
        );
        assert_eq!(input.policy.as_deref(), Some(r#"{"allowed_overrides":["/spec/env"]}"#));
    }

    #[test]
    fn what_a_document_leaves_out_is_sent_as_empty() {
        let input = QueueDocument::new("q", "local-process").upsert("me").unwrap();
        assert_eq!(input.policy.as_deref(), Some("{}"));
        assert_eq!(input.external_links.as_deref(), Some(r#"{"links":[]}"#));
    }

    #[test]
    fn inputs_are_the_same_however_they_are_written() {
        let read_one = |text: &str| read(text, "q.yaml").unwrap()[0].upsert("me").unwrap();
        let base = "name: a\nresource: local-container\n";
        let input = |rest: &str| read_one(&format!("{base}{rest}"));
        for (one, other, same) in [
            ("config: {a: 1, b: 2}\n", "config: {b: 2, a: 1}\n", true),
            ("config: {a: 1}\n", "config: {a: 2}\n", false),
            ("", "policy: {}\n", true),
            ("", "policy: {allowed_overrides: [], agent_lost_timeout: null}\n", true),
            ("", "policy: {allowed_overrides: [/volume]}\n", false),
            (
                "policy: {run_key_scopes: [launch], allowed_overrides: [/env]}\n",
                "policy: {allowed_overrides: [/env], run_key_scopes: [launch]}\n",
                true,
            ),
            ("", "externalLinks: {a: \"https://a\"}\n", false),
        ] {
            assert_eq!(super::same(&input(one), &input(other)), same, "{one:?} {other:?}");
        }
    }

    #[test]
    fn variables_of_the_official_api_are_understood() {
        let listed = json!([{"name": "cpu", "schema": "{\"type\":\"integer\"}"}]);
        assert_eq!(
            super::variables(&listed),
            json!({"cpu": {"schema": {"type": "integer"}}})
        );
    }

    #[test]
    fn mistakes_are_refused_with_their_place() {
        for (text, reason, hint) in [
            (
                "name: a\nresource: kubernetes\nconfg: {}\n",
                "document at line 1: a queue has no `confg`",
                Some("did you mean `config`?"),
            ),
            (
                "---\nname: a\nresource: kubernetes\n---\nname: b\nresource: moon\n",
                "document at line 5: resource `moon`",
                None,
            ),
            ("name: a\n\tresource: b\n", "line 2", None),
            ("resource: kubernetes\n", "missing field `name`", None),
            ("# nothing\n", "holds no queue", None),
            ("[]", "holds no queue", None),
            ("[1]", "a list holds something else", None),
            (
                r#"[{"name": "a", "resource": "kubernetes"}, {"name": "b", "resource": "moon"}]"#,
                "document at line 1, entry 2: resource `moon`",
                None,
            ),
        ] {
            let error = read(text, "q.yaml").unwrap_err();
            assert!(error.to_string().contains(reason), "{text:?}: {error}");
            if let Some(hint) = hint {
                assert_eq!(error.hint(), Some(hint));
            }
        }
    }
}
