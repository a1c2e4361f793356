//! The final spec: queue configuration, template values, then the submitter's arguments.
//!
//! Maps merge key by key; scalars and lists replace. Nothing of the result is stored: an item keeps
//! the queue's immutable revision and the submitter's part, and this module derives the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::resource_args;
use crate::json::child;
use crate::spec::LaunchSpec;
use crate::template::{TemplateError, TemplateVariables, fill};

/// Where a value of the final resource arguments comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The queue's configuration.
    Queue,
    /// A template variable of the queue, filled in.
    Template,
    /// The submitter's resource arguments.
    Submitter,
    /// A default of the target resource.
    Default,
}

impl Origin {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Template => "template",
            Self::Submitter => "submitter",
            Self::Default => "default",
        }
    }
}

/// JSON pointers below the resource's arguments, each with its origin. Every leaf has one: every
/// scalar, list and empty map.
pub type Origins = BTreeMap<String, Origin>;

/// What an agent runs.
#[derive(Debug, Clone, PartialEq)]
pub struct FinalSpec {
    /// The spec with `resource` and the final `resource_args`.
    pub spec: Value,
    /// The origin of each leaf of the final resource arguments.
    pub origins: Origins,
}

/// Derives the final spec of an item.
///
/// `queue_config` is the stored form, `{"resource_args": {"<resource>": {…}}}`; `null` for a queue
/// without configuration. `queue_resource` is the queue's target; a spec that names another one (a
/// sweep's scheduler) keeps its own, and takes neither configuration nor variables from the queue.
///
/// # Errors
/// If a value is refused, or a variable that the configuration uses has none.
pub fn final_spec(
    queue_config: &Value,
    queue_resource: Option<&str>,
    variables: &TemplateVariables,
    values: &Value,
    mut spec: LaunchSpec,
) -> Result<FinalSpec, TemplateError> {
    let queue_resource = queue_resource.or_else(|| queue_config.get("resource").and_then(Value::as_str));
    let resource = spec.resource().or(queue_resource).map(str::to_owned);
    spec.remove("template_variables");
    let Some(resource) = resource else {
        return Ok(FinalSpec {
            spec: spec.into_value(),
            origins: Origins::new(),
        });
    };
    let empty = Value::Object(Map::new());
    let (queue_args, filled) = if queue_resource.is_none_or(|queue| queue == resource) {
        let args = resource_args(queue_config, &resource).unwrap_or(&empty);
        (args, fill(args, variables, values)?)
    } else {
        (&empty, empty.clone())
    };
    let mut origins = Origins::new();
    mark_filled(queue_args, &filled, "", &mut origins);
    let merged = match spec.resource_args(&resource) {
        None => filled,
        Some(submitted) => merge_marked(filled, submitted, "", &mut origins),
    };
    if merged.as_object().is_some_and(Map::is_empty) {
        origins.clear();
    }
    let mut args = match spec.remove("resource_args") {
        Some(Value::Object(args)) => args,
        _ => Map::new(),
    };
    args.insert(resource.clone(), merged);
    spec.set("resource", resource);
    spec.set("resource_args", args);
    Ok(FinalSpec {
        spec: spec.into_value(),
        origins,
    })
}

/// Merges `over` into `base`: maps merge, anything else replaces.
#[must_use]
pub fn merge(base: Value, over: &Value) -> Value {
    merge_marked(base, over, "", &mut Origins::new())
}

/// As [`merge`], and notes every replaced or added leaf as the submitter's. One that repeats what is
/// there changes nothing: a clone of a run sends the merged arguments back.
fn merge_marked(base: Value, over: &Value, path: &str, origins: &mut Origins) -> Value {
    match (base, over) {
        (Value::Object(mut base), Value::Object(over)) => {
            // A map that was empty was a leaf itself; with the first key it no longer is.
            if base.is_empty() && !over.is_empty() {
                origins.remove(path);
            }
            for (key, value) in over {
                let path = child(path, key);
                let merged = match base.get_mut(key).map(Value::take) {
                    // Taking leaves the key in place, so that the order of keys stays.
                    Some(old) => merge_marked(old, value, &path, origins),
                    None => {
                        mark(value, &path, Origin::Submitter, origins);
                        value.clone()
                    }
                };
                base.insert(key.clone(), merged);
            }
            Value::Object(base)
        }
        (base, over) if base == *over => base,
        (base, over) => {
            unmark(&base, path, origins);
            mark(over, path, Origin::Submitter, origins);
            over.clone()
        }
    }
}

/// Notes the origin of every leaf of a value.
pub fn mark(value: &Value, path: &str, origin: Origin, origins: &mut Origins) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                mark(value, &child(path, key), origin, origins);
            }
        }
        _ => {
            origins.insert(path.to_owned(), origin);
        }
    }
}

/// The part of final arguments that is the submitter's; `None` if nothing is. A leaf of which the
/// origin is not known counts as theirs.
#[must_use]
pub fn submitted(args: &Value, origins: &Origins) -> Option<Value> {
    fn part(value: &Value, path: &str, origins: &Origins) -> Option<Value> {
        match value {
            Value::Object(map) if !map.is_empty() => {
                let part: Map<String, Value> = map
                    .iter()
                    .filter_map(|(key, value)| Some((key.clone(), part(value, &child(path, key), origins)?)))
                    .collect();
                (!part.is_empty()).then_some(Value::Object(part))
            }
            leaf => match origins.get(path) {
                Some(Origin::Submitter) | None => Some(leaf.clone()),
                Some(Origin::Queue | Origin::Template | Origin::Default) => None,
            },
        }
    }
    // No arguments are no leaf.
    let empty = args.is_null() || args.as_object().is_some_and(Map::is_empty);
    if empty { None } else { part(args, "", origins) }
}

fn unmark(value: &Value, path: &str, origins: &mut Origins) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                unmark(value, &child(path, key), origins);
            }
        }
        _ => {
            origins.remove(path);
        }
    }
}

/// Notes the leaves of a filled configuration: those that held a variable are the template's.
fn mark_filled(written: &Value, filled: &Value, path: &str, origins: &mut Origins) {
    match (written, filled) {
        (Value::Object(written), Value::Object(filled)) if !filled.is_empty() => {
            for (key, value) in filled {
                mark_filled(
                    written.get(key).unwrap_or(&Value::Null),
                    value,
                    &child(path, key),
                    origins,
                );
            }
        }
        (written, filled) => {
            let origin = if written == filled {
                Origin::Queue
            } else {
                Origin::Template
            };
            origins.insert(path.to_owned(), origin);
        }
    }
}

#[cfg(test)]
mod tests;
