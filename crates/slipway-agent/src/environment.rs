//! The variables by which a job finds its server, its run and its settings.
//!
//! Names, order and JSON spelling are those of the official agent, because `wandb.init` in the job
//! reads them.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use slipway_model::id::RunName;
use slipway_model::spec::LaunchSpec;

use crate::secret::Secret;

/// The longest value of one variable; longer settings are cut into numbered variables.
pub(crate) const VALUE_LIMIT: usize = 32_670;

/// What the variables are made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobFacts<'a> {
    /// The server's address, as the job reaches it.
    pub(crate) base_url: &'a str,
    /// The key that the job uses.
    pub(crate) api_key: &'a Secret,
    /// Whether that key is the run's own, which already says on whose behalf it acts.
    pub(crate) run_key: bool,
    /// The container image, where the job is one.
    pub(crate) image: Option<&'a str>,
    /// The final launch spec.
    pub(crate) spec: &'a LaunchSpec,
    /// The run.
    pub(crate) run: &'a RunName,
    /// Counts the starts, from 1.
    pub(crate) attempt: i64,
    /// The lease handle.
    pub(crate) handle: &'a str,
    /// The queue's name.
    pub(crate) queue: &'a str,
    /// The queue's owner.
    pub(crate) queue_entity: &'a str,
}

/// The variables, in the official order. No value is longer than `limit` characters, except
/// `WANDB_ARTIFACTS`, which clients read whole.
pub(crate) fn job_environment(facts: JobFacts<'_>, limit: usize) -> Vec<(String, String)> {
    let JobFacts { spec, run, .. } = facts;
    let overrides = spec.overrides();
    let mut variables = Variables {
        list: Vec::new(),
        limit,
    };
    variables.set("WANDB_BASE_URL", facts.base_url);
    variables.set("WANDB_API_KEY", facts.api_key.reveal());
    variables.set_if("WANDB_PROJECT", Some(&run.project));
    variables.set("WANDB_ENTITY", &run.entity);
    variables.set("WANDB_LAUNCH", "True");
    variables.set("WANDB_RUN_ID", &run.run);
    variables.set_if("WANDB_DOCKER", facts.image);
    variables.set_if("WANDB_NAME", spec.name());
    variables.set_if("WANDB_USERNAME", spec.author().filter(|_| !facts.run_key));
    variables.set_if("WANDB_SWEEP_ID", spec.sweep_id());
    if facts.attempt > 1 || spec.resume_count() > 0 {
        variables.set("WANDB_RESUME", "allow");
    }
    variables.set_if(
        "WANDB_LAUNCH_QUEUE_NAME",
        Some(facts.queue)
            .filter(|queue| !queue.is_empty())
            .and(Some(facts.queue)),
    );
    variables.set_if(
        "WANDB_LAUNCH_QUEUE_ENTITY",
        Some(facts.queue)
            .filter(|queue| !queue.is_empty())
            .and(Some(facts.queue_entity)),
    );
    variables.set("WANDB_LAUNCH_TRACE_ID", facts.handle);
    variables.set_json("WANDB_CONFIG", &overrides.run_config);
    variables.set_json("WANDB_LAUNCH_FILE_OVERRIDES", &overrides.files);
    variables.set("WANDB_ARTIFACTS", &artifacts(spec, overrides.artifacts));
    variables.list
}

/// The input artifacts: the job itself, which marks it as used, then what the submitter chose.
fn artifacts(spec: &LaunchSpec, chosen: Map<String, Value>) -> String {
    let mut artifacts = Map::new();
    if let Some(job) = spec.job().filter(|_| spec.docker_image().is_none()) {
        artifacts.insert("_wandb_job".to_owned(), Value::from(job));
    }
    artifacts.extend(chosen);
    python_json(&Value::Object(artifacts))
}

struct Variables {
    list: Vec<(String, String)>,
    limit: usize,
}

impl Variables {
    fn set(&mut self, name: &str, value: &str) {
        self.list.push((name.to_owned(), value.to_owned()));
    }

    fn set_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.set(name, value);
        }
    }

    /// One variable, or `NAME_0`, `NAME_1`, … if the text is longer than the limit.
    fn set_json(&mut self, name: &str, value: &Map<String, Value>) {
        let text = python_json(&Value::Object(value.clone()));
        if text.len() <= self.limit {
            return self.set(name, &text);
        }
        // The text is ASCII, so that any position is a boundary.
        let mut rest = text.as_str();
        for number in 0.. {
            if rest.is_empty() {
                return;
            }
            let (chunk, tail) = rest.split_at(rest.len().min(self.limit));
            self.set(&format!("{name}_{number}"), chunk);
            rest = tail;
        }
    }
}

/// JSON as Python writes it by default: `", "` and `": "`, everything outside ASCII escaped.
fn python_json(value: &Value) -> String {
    let mut text = String::new();
    write_json(value, &mut text);
    text
}

fn write_json(value: &Value, text: &mut String) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => text.push_str(&value.to_string()),
        Value::String(string) => write_string(string, text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                write_json(item, text);
            }
            text.push(']');
        }
        Value::Object(map) => {
            text.push('{');
            for (index, (key, item)) in map.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                write_string(key, text);
                text.push_str(": ");
                write_json(item, text);
            }
            text.push('}');
        }
    }
}

fn write_string(string: &str, text: &mut String) {
    for c in Value::from(string).to_string().chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variables(spec: Value, attempt: i64, run_key: bool, limit: usize) -> Vec<(String, String)> {
        let run = RunName {
            entity: "alice".to_owned(),
            project: "proj".to_owned(),
            run: "76avhhop".to_owned(),
        };
        let spec = LaunchSpec::from_value(spec).unwrap();
        let facts = JobFacts {
            base_url: "http://localhost:8080",
            api_key: &Secret::new("key"),
            run_key,
            image: spec.docker_image(),
            spec: &spec,
            run: &run,
            attempt,
            handle: "handle",
            queue: "q1",
            queue_entity: "team",
        };
        job_environment(facts, limit)
    }

    fn lines(variables: &[(String, String)]) -> Vec<String> {
        variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    #[test]
    fn a_code_job_gets_the_official_variables_in_order() {
        let spec = json!({
            "entity": "alice", "project": "proj", "job": "alice/proj/code-job:latest", "name": "my-run", "author": "bob",
            "sweep_id": "sw", "overrides": {
                "run_config": {"lr": 0.5, "text": "ä\n"}, "files": {"c.yaml": {"a": [1, true, null]}},
                "artifacts": {"data": "alice/proj/data:v1"},
            },
        });
        assert_eq!(
            lines(&variables(spec, 1, false, VALUE_LIMIT)),
            [
                "WANDB_BASE_URL=http://localhost:8080",
                "WANDB_API_KEY=key",
                "WANDB_PROJECT=proj",
                "WANDB_ENTITY=alice",
                "WANDB_LAUNCH=True",
                "WANDB_RUN_ID=76avhhop",
                "WANDB_NAME=my-run",
                "WANDB_USERNAME=bob",
                "WANDB_SWEEP_ID=sw",
                "WANDB_LAUNCH_QUEUE_NAME=q1",
                "WANDB_LAUNCH_QUEUE_ENTITY=team",
                "WANDB_LAUNCH_TRACE_ID=handle",
                r#"WANDB_CONFIG={"lr": 0.5, "text": "\u00e4\n"}"#,
                r#"WANDB_LAUNCH_FILE_OVERRIDES={"c.yaml": {"a": [1, true, null]}}"#,
                r#"WANDB_ARTIFACTS={"_wandb_job": "alice/proj/code-job:latest", "data": "alice/proj/data:v1"}"#,
            ]
        );
    }

    #[test]
    fn settings_beyond_the_limit_are_cut_into_numbered_variables() {
        let spec = json!({"overrides": {"run_config": {"learning_rate": 0.01, "batch_size": 32}}});
        let set = lines(&variables(spec, 1, false, 12));
        let config: Vec<&String> = set.iter().filter(|line| line.starts_with("WANDB_CONFIG")).collect();
        assert_eq!(
            config,
            [
                r#"WANDB_CONFIG_0={"learning_r"#,
                r#"WANDB_CONFIG_1=ate": 0.01, "#,
                r#"WANDB_CONFIG_2="batch_size""#,
                "WANDB_CONFIG_3=: 32}",
            ]
        );
        let long = json!({"overrides": {"run_config": {"text": "x".repeat(40_000)}}});
        let names: Vec<String> = variables(long, 1, false, VALUE_LIMIT)
            .into_iter()
            .filter(|(name, _)| name.starts_with("WANDB_CONFIG"))
            .map(|(name, value)| format!("{name}:{}", value.len()))
            .collect();
        assert_eq!(names, ["WANDB_CONFIG_0:32670", "WANDB_CONFIG_1:7342"]);
    }

    #[test]
    fn what_depends_on_key_attempt_and_image() {
        let has = |set: &[(String, String)], name: &str| set.iter().any(|(known, _)| known == name);
        let first = variables(json!({"author": "bob", "job": "e/p/j:v0"}), 1, true, VALUE_LIMIT);
        assert!(!has(&first, "WANDB_USERNAME") && !has(&first, "WANDB_RESUME") && !has(&first, "WANDB_DOCKER"));
        let second = variables(json!({}), 2, false, VALUE_LIMIT);
        assert!(has(&second, "WANDB_RESUME"));
        let resumed = variables(json!({"_resume_count": 1}), 1, false, VALUE_LIMIT);
        assert!(has(&resumed, "WANDB_RESUME"));
        let image = lines(&variables(
            json!({"docker": {"docker_image": "img:1"}}),
            1,
            false,
            VALUE_LIMIT,
        ));
        assert!(image.contains(&"WANDB_DOCKER=img:1".to_owned()));
        assert!(image.contains(&"WANDB_ARTIFACTS={}".to_owned()));
    }
}
