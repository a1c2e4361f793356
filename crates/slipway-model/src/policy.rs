//! What a submitter may set of a target resource's arguments.
//!
//! A queue's owner is trusted with the agent's machine; a submitter is not. Each target has its own
//! rule, and a queue may allow more through its policy. Nothing here looks at the queue's own
//! configuration: the caller passes only what the submitter adds or changes.

use serde_json::{Map, Value};

use crate::docker_options::{self, Shape};
use crate::json::{child, is_below, kind};
use crate::merge::{Origins, submitted};
use crate::queue::{QueuePolicy, Resource};
use crate::spec::LaunchSpec;

mod kubernetes;

/// Why a submitter's arguments are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// An option that is not a submitter's to set.
    #[error(
        "`/resource_args/{resource}{path}` is not a submitter's to set: {reason}. Put it into the queue's \
         configuration, or have the queue's owner list `{path}` in `allowed_overrides`"
    )]
    NotAllowed {
        /// The target resource.
        resource: Resource,
        /// Where, as a JSON pointer below the resource's arguments.
        path: String,
        /// Why.
        reason: String,
    },
    /// A value of the wrong type.
    #[error("`/resource_args/{resource}{path}` must be {expected}, not {found}")]
    Value {
        /// The target resource.
        resource: Resource,
        /// Where, as a JSON pointer below the resource's arguments.
        path: String,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// An agent in secure mode refuses the spec.
    #[error("this agent runs in secure mode, which refuses `{0}`")]
    SecureMode(String),
}

/// Checks what a submitter sets of a target's arguments.
///
/// # Errors
/// Names the first option that is refused, the reason, and who can allow it.
pub fn check_submitter_args(resource: Resource, args: &Value, policy: &QueuePolicy) -> Result<(), PolicyError> {
    let Value::Object(map) = args else {
        return match args {
            Value::Null => Ok(()),
            other => Err(PolicyError::Value {
                resource,
                path: String::new(),
                expected: "a map",
                found: kind(other),
            }),
        };
    };
    let rule = Rule { resource, policy };
    match resource {
        Resource::LocalContainer => rule.container(map),
        Resource::LocalProcess => rule.process(map),
        Resource::Kubernetes => rule.kubernetes(args, ""),
        Resource::Sagemaker => rule.identities(args, "", "rolearn", "the queue chooses the role that jobs assume"),
        Resource::GcpVertex => rule.identities(
            args,
            "",
            "serviceaccount",
            "the queue chooses the service account that jobs run as",
        ),
    }
}

/// What an agent in secure mode refuses besides: whatever takes the place of a job's own image or
/// command. `origins`: those of the resource's arguments; without them a container's command counts as
/// the submitter's.
///
/// # Errors
/// Names what is refused.
pub fn check_secure_mode(spec: &LaunchSpec, origins: Option<&Origins>) -> Result<(), PolicyError> {
    let refuse = |path: &str| Err(PolicyError::SecureMode(path.to_owned()));
    if !spec.overrides().entry_point.is_empty() {
        return refuse("/overrides/entry_point");
    }
    if spec.job().is_some() && spec.docker_image().is_some() {
        let beside = spec.fields().get("image_uri").is_some_and(Value::is_string);
        return refuse(if beside { "/image_uri" } else { "/docker/docker_image" });
    }
    if let Some(path) = container_command(spec, origins) {
        return refuse(&path);
    }
    let Some(args) = spec.resource_args(Resource::Kubernetes.as_str()) else {
        return Ok(());
    };
    match kubernetes::first_command(args, "") {
        Some(path) => refuse(&format!("/resource_args/kubernetes{path}")),
        None => Ok(()),
    }
}

/// Where a submitter's arguments replace what a container runs.
fn container_command(spec: &LaunchSpec, origins: Option<&Origins>) -> Option<String> {
    let resource = Resource::LocalContainer.as_str();
    let args = spec.resource_args(resource)?;
    let part = match origins {
        Some(origins) => submitted(args, origins)?,
        None => args.clone(),
    };
    let replaces = |(key, value): &(&String, &Value)| {
        let entry_point = docker_options::find(key).is_some_and(|option| option.name == "entrypoint");
        !value.is_null() && (entry_point || *key == "command")
    };
    let (key, _) = part.as_object()?.iter().find(replaces)?;
    Some(format!("/resource_args/{resource}{}", child("", key)))
}

struct Rule<'a> {
    resource: Resource,
    policy: &'a QueuePolicy,
}

impl Rule<'_> {
    fn allows(&self, path: &str) -> bool {
        self.policy.allowed_overrides.iter().any(|root| is_below(path, root))
    }

    fn refuse(&self, path: &str, reason: impl Into<String>) -> Result<(), PolicyError> {
        Err(PolicyError::NotAllowed {
            resource: self.resource,
            path: path.to_owned(),
            reason: reason.into(),
        })
    }

    fn wrong(&self, path: &str, expected: &'static str, found: &Value) -> Result<(), PolicyError> {
        Err(PolicyError::Value {
            resource: self.resource,
            path: path.to_owned(),
            expected,
            found: kind(found),
        })
    }

    fn container(&self, args: &Map<String, Value>) -> Result<(), PolicyError> {
        for (key, value) in args {
            let path = child("", key);
            let option = docker_options::find(key);
            let long = option.map_or(key.as_str(), |option| option.name);
            if self.allows(&path) || self.allows(&child("", long)) {
                continue;
            }
            match (key.as_str(), option) {
                ("builder", _) if !value.is_object() => self.wrong(&path, "a map", value)?,
                ("builder", _) => {}
                ("command", _) => self.scalars(&path, value)?,
                (_, Some(option)) if option.name == "env" => self.env(&path, value)?,
                (_, Some(option)) if option.submitter => match option.shape {
                    Shape::Many | Shape::Pairs => self.scalars(&path, value)?,
                    Shape::One | Shape::Flag if !is_word(value) => self.wrong(&path, "a string or a number", value)?,
                    Shape::One | Shape::Flag => {}
                },
                (_, Some(_)) => self.refuse(&path, format!("submitters may set {}", submitter_options()))?,
                (_, None) => {
                    let meant = docker_options::suggest(key)
                        .map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"));
                    let known = submitter_options();
                    self.refuse(
                        &path,
                        format!("it is no option of `docker run`{meant}; submitters may set {known}"),
                    )?;
                }
            }
        }
        Ok(())
    }

    fn process(&self, args: &Map<String, Value>) -> Result<(), PolicyError> {
        for (key, value) in args {
            let path = child("", key);
            if self.allows(&path) {
                continue;
            }
            match key.as_str() {
                "env" => self.env(&path, value)?,
                _ => self.refuse(&path, "submitters may set env")?,
            }
        }
        Ok(())
    }

    /// A string or number, or a list of them.
    fn scalars(&self, path: &str, value: &Value) -> Result<(), PolicyError> {
        match value {
            Value::Array(items) => match items.iter().position(|item| !is_word(item)) {
                Some(index) => self.wrong(&format!("{path}/{index}"), "a string or a number", &items[index]),
                None => Ok(()),
            },
            value if is_word(value) => Ok(()),
            value => self.wrong(path, "a string, a number or a list of them", value),
        }
    }

    /// `K=V` strings, or a map of names to values. A name alone would read the agent's environment.
    fn env(&self, path: &str, value: &Value) -> Result<(), PolicyError> {
        let assigned = |path: &str, entry: &Value| match entry {
            Value::String(text) if text.split_once('=').is_some_and(|(name, _)| !name.trim().is_empty()) => Ok(()),
            Value::String(text) => self.refuse(
                path,
                format!(
                    "`{}` without a value would take it from the agent's environment; write NAME=value",
                    text.chars().take(60).collect::<String>()
                ),
            ),
            other => self.wrong(path, "a string of the form NAME=value", other),
        };
        match value {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .try_for_each(|(index, item)| assigned(&format!("{path}/{index}"), item)),
            Value::Object(map) => map.iter().try_for_each(|(name, value)| match value {
                Value::Null => self.refuse(
                    &child(path, name),
                    "a name without a value would take it from the agent's environment",
                ),
                Value::Bool(_) => Ok(()),
                value if is_word(value) => Ok(()),
                value => self.wrong(&child(path, name), "a string or a number", value),
            }),
            value => assigned(path, value),
        }
    }

    /// Refuses, at any depth, a key that chooses the identity under which jobs run.
    fn identities(&self, value: &Value, path: &str, refused: &str, reason: &str) -> Result<(), PolicyError> {
        match value {
            Value::Object(map) => map.iter().try_for_each(|(key, value)| {
                let path = child(path, key);
                if self.allows(&path) {
                    return Ok(());
                }
                let normal: String = key.chars().filter(char::is_ascii_alphanumeric).collect();
                if normal.eq_ignore_ascii_case(refused) {
                    return self.refuse(&path, reason);
                }
                self.identities(value, &path, refused, reason)
            }),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .try_for_each(|(index, value)| self.identities(value, &format!("{path}/{index}"), refused, reason)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }
}

/// What a submitter may set of a container, for messages.
fn submitter_options() -> String {
    let options = docker_options::OPTIONS
        .iter()
        .filter(|option| option.submitter)
        .map(|option| option.name);
    docker_options::OTHER_KEYS
        .into_iter()
        .chain(options)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A string or a number.
fn is_word(value: &Value) -> bool {
    value.is_string() || value.is_number()
}

#[cfg(test)]
mod tests;
