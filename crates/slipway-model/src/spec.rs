//! The launch spec: what a client asks to be run.
//!
//! A thin view over a JSON object. Keys that this version does not know are kept. Shape is checked
//! here; who may set what is [`crate::push`]'s business.

use serde_json::{Map, Value};

use crate::json::{self, JsonError, child};

/// The key under which a server hands an attempt's run key to an agent, and nobody else uses.
pub const RUN_KEY: &str = "_wandb_api_key";

/// A launch spec of the wrong shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The text is not JSON.
    #[error("the run spec is not valid JSON: {0}")]
    Json(#[from] JsonError),
    /// A part has the wrong type.
    #[error("the run spec's `{path}` must be {expected}, not {found}")]
    Shape {
        /// Where, as a JSON pointer.
        path: String,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// One thing under two names.
    #[error("the run spec has both `{first}` and `{second}`, which mean the same; keep one of them")]
    Twice {
        /// A JSON pointer.
        first: &'static str,
        /// Another.
        second: &'static str,
    },
}

/// A launch spec whose known keys have the right types.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LaunchSpec {
    fields: Map<String, Value>,
}

/// What a spec changes of its job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Overrides {
    /// Arguments that follow the entry point.
    pub args: Vec<String>,
    /// The run's config.
    pub run_config: Map<String, Value>,
    /// The command, in place of the job's; empty if the job's own is used.
    pub entry_point: Vec<String>,
    /// A Dockerfile within the source.
    pub dockerfile: Option<String>,
    /// The directory, below the source's, in which the command runs.
    pub working_dir: Option<String>,
    /// Config files to patch: path to values.
    pub files: Map<String, Value>,
    /// Input artifacts by name.
    pub artifacts: Map<String, Value>,
}

impl LaunchSpec {
    /// Reads a spec from its JSON text.
    ///
    /// # Errors
    /// If the text is not JSON within the limits, or a known key has the wrong type.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        Self::from_value(json::parse(text)?)
    }

    /// Reads a spec from a JSON value. `entrypoint` becomes `entry_point`.
    ///
    /// # Errors
    /// If a known key has the wrong type.
    pub fn from_value(value: Value) -> Result<Self, SpecError> {
        let mut fields = match value {
            Value::Object(fields) => fields,
            other => return Err(shape("/", "an object", &other)),
        };
        json::check_depth_of_map(&fields).map_err(|message| JsonError {
            line: 1,
            column: 1,
            message,
        })?;
        for key in TEXT_KEYS {
            check(&fields, "", key, "a string", Value::is_string)?;
        }
        for key in MAP_KEYS {
            check(&fields, "", key, "an object", Value::is_object)?;
        }
        if let Some(Value::Object(args)) = fields.get("resource_args") {
            for resource in args.keys() {
                check(args, "/resource_args", resource, "an object", Value::is_object)?;
            }
        }
        if let Some(Value::Object(docker)) = fields.get("docker") {
            check(docker, "/docker", "docker_image", "a string", Value::is_string)?;
            check(docker, "/docker", "user_id", "a number, 0 or more", Value::is_u64)?;
        }
        check(&fields, "", "priority", "a whole number", Value::is_i64)?;
        check(&fields, "", "_resume_count", "a number, 0 or more", Value::is_u64)?;
        if let Some(Value::Object(overrides)) = fields.get_mut("overrides") {
            if let Some(value) = overrides.remove("entrypoint") {
                if overrides.get("entry_point").is_some_and(|known| !known.is_null()) {
                    return Err(SpecError::Twice {
                        first: "/overrides/entry_point",
                        second: "/overrides/entrypoint",
                    });
                }
                overrides.insert("entry_point".to_owned(), value);
            }
            check_overrides(overrides)?;
        }
        Ok(Self { fields })
    }

    /// The spec as JSON.
    #[must_use]
    pub fn into_value(self) -> Value {
        Value::Object(self.fields)
    }

    /// The spec's keys.
    #[must_use]
    pub const fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// Sets a key.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.fields.insert(key.to_owned(), value.into());
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.fields.shift_remove(key)
    }

    /// The entity of the run.
    #[must_use]
    pub fn entity(&self) -> Option<&str> {
        self.text("entity")
    }

    /// The project of the run, as written. Runs live in [`Self::run_project`].
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        self.text("project")
    }

    /// The project of the run, in lower case, as clients address it.
    #[must_use]
    pub fn run_project(&self) -> Option<String> {
        self.project().map(str::to_lowercase)
    }

    /// The job: `entity/project/name:alias`.
    #[must_use]
    pub fn job(&self) -> Option<&str> {
        self.text("job")
    }

    /// Entity and project of the job, if it is named in full.
    #[must_use]
    pub fn job_project(&self) -> Option<(&str, &str)> {
        let mut parts = self.job()?.splitn(3, '/');
        let (entity, project) = (parts.next()?, parts.next()?);
        parts.next().map(|_name| (entity, project))
    }

    /// The image, for a spec without a job.
    #[must_use]
    pub fn docker_image(&self) -> Option<&str> {
        let nested = self.fields.get("docker").and_then(|docker| docker.get("docker_image"));
        nested
            .and_then(Value::as_str)
            .filter(|image| !image.is_empty())
            .or_else(|| self.text("image_uri"))
    }

    /// The run's display name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.text("name")
    }

    /// The run's id, if the submitter chooses it.
    #[must_use]
    pub fn run_id(&self) -> Option<&str> {
        self.text("run_id")
    }

    /// The target resource's word.
    #[must_use]
    pub fn resource(&self) -> Option<&str> {
        self.text("resource")
    }

    /// The arguments for one target resource.
    #[must_use]
    pub fn resource_args(&self, resource: &str) -> Option<&Value> {
        let args = self.fields.get("resource_args")?.get(resource)?;
        args.as_object().is_some_and(|map| !map.is_empty()).then_some(args)
    }

    /// Whom the run is attributed to.
    #[must_use]
    pub fn author(&self) -> Option<&str> {
        self.text("author")
    }

    /// The sweep to which the run belongs.
    #[must_use]
    pub fn sweep_id(&self) -> Option<&str> {
        self.text("sweep_id")
    }

    /// The uri; only placeholders mean something to an agent.
    #[must_use]
    pub fn uri(&self) -> Option<&str> {
        self.text("uri")
    }

    /// Whether the spec runs a sweep's scheduler.
    #[must_use]
    pub fn is_scheduler(&self) -> bool {
        self.uri().is_some_and(|uri| uri.starts_with("placeholder"))
    }

    /// How often the run was queued again after a preemption.
    #[must_use]
    pub fn resume_count(&self) -> u64 {
        self.fields.get("_resume_count").and_then(Value::as_u64).unwrap_or(0)
    }

    /// Template values that a client left in the spec.
    #[must_use]
    pub fn template_variables(&self) -> Option<&Value> {
        self.fields.get("template_variables").filter(|values| !values.is_null())
    }

    /// What the spec changes of its job.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        let Some(overrides) = self.fields.get("overrides") else {
            return Overrides::default();
        };
        let words = |key: &str| {
            let words = overrides.get(key).and_then(Value::as_array);
            words
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        let map = |key: &str| {
            overrides
                .get(key)
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default()
        };
        let text = |key: &str| overrides.get(key).and_then(Value::as_str).map(str::to_owned);
        Overrides {
            args: words("args"),
            run_config: map("run_config"),
            entry_point: words("entry_point"),
            dockerfile: text("dockerfile"),
            working_dir: text("working_dir"),
            files: map("files"),
            artifacts: map("artifacts"),
        }
    }

    /// A string that is there and not empty.
    fn text(&self, key: &str) -> Option<&str> {
        self.fields
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    }
}

const TEXT_KEYS: [&str; 11] = [
    "entity",
    "project",
    "job",
    "image_uri",
    "name",
    "run_id",
    "resource",
    "author",
    "sweep_id",
    "uri",
    "python_version",
];

const MAP_KEYS: [&str; 6] = [
    "docker",
    "git",
    "overrides",
    "resource_args",
    "registry",
    "template_variables",
];

fn check_overrides(overrides: &Map<String, Value>) -> Result<(), SpecError> {
    for key in ["args", "entry_point"] {
        check(overrides, "/overrides", key, "a list of strings", Value::is_array)?;
        let words = overrides.get(key).and_then(Value::as_array);
        for (index, word) in words.into_iter().flatten().enumerate() {
            if !word.is_string() {
                let path = format!("/overrides/{key}/{index}");
                return Err(shape(&path, "a string (put quotes around it)", word));
            }
        }
    }
    for key in ["run_config", "files", "artifacts"] {
        check(overrides, "/overrides", key, "an object", Value::is_object)?;
    }
    for key in ["dockerfile", "working_dir"] {
        check(overrides, "/overrides", key, "a string", Value::is_string)?;
    }
    Ok(())
}

/// Checks the type of a key that is present and not null.
fn check(
    map: &Map<String, Value>,
    parent: &str,
    key: &str,
    expected: &'static str,
    accept: impl Fn(&Value) -> bool,
) -> Result<(), SpecError> {
    match map.get(key) {
        Some(value) if !value.is_null() && !accept(value) => Err(shape(&child(parent, key), expected, value)),
        _ => Ok(()),
    }
}

fn shape(path: &str, expected: &'static str, found: &Value) -> SpecError {
    SpecError::Shape {
        path: path.to_owned(),
        expected,
        found: json::kind(found),
    }
}

#[cfg(test)]
mod tests;
