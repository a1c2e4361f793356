//! What a server accepts when somebody pushes to a queue.
//!
//! One pure function over the queue's rules and the pusher's words. Who the pusher is, whether the
//! queue exists and whether a run may be written is the caller's business.

use serde_json::{Map, Value};

use crate::json::{child, is_below};
use crate::merge::{FinalSpec, final_spec};
use crate::policy::{PolicyError, check_submitter_args};
use crate::priority::{Priority, PriorityError};
use crate::queue::{Prioritization, QueuePolicy, Resource, ResourceError};
use crate::run::{RunIdError, check_run_id};
use crate::spec::{LaunchSpec, RUN_KEY, SpecError};
use crate::template::{TemplateError, TemplateVariables};

/// The rules of the queue that is pushed to.
#[derive(Debug, Clone, Copy)]
pub struct QueueRules<'a> {
    /// Its target resource; `None` for a queue without configuration.
    pub resource: Option<Resource>,
    /// Its stored configuration, `{"resource_args": {…}}`; `null` if it has none.
    pub config: &'a Value,
    /// Its template variables.
    pub variables: &'a TemplateVariables,
    /// What its owner allows submitters.
    pub policy: &'a QueuePolicy,
    /// Whether submitters may set priorities.
    pub prioritization: Prioritization,
}

/// What somebody pushes.
#[derive(Debug, Clone)]
pub struct Push<'a> {
    /// The pusher's user name.
    pub pusher: &'a str,
    /// Whether the pusher owns the queue: an admin of its team, or its user.
    pub is_owner: bool,
    /// Whom the pusher may attribute runs to besides themselves: the members of a service
    /// account's team.
    pub may_attribute_to: &'a [String],
    /// The launch spec.
    pub spec: LaunchSpec,
    /// The template values; `null` if none.
    pub template_values: Value,
    /// The priority, if one was given.
    pub priority: Option<i64>,
}

/// What becomes an item.
#[derive(Debug, Clone, PartialEq)]
pub struct AcceptedPush {
    /// The submitter's part: author filled in, template values and priority taken out.
    pub spec: LaunchSpec,
    /// The submitter's template values, as given.
    pub template_values: Map<String, Value>,
    /// The priority.
    pub priority: Priority,
    /// Whom the run is attributed to.
    pub author: String,
    /// Where the run goes.
    pub destination: Destination,
    /// The target resource.
    pub resource: Resource,
    /// What an agent will run, for a dry run and the answer.
    pub final_spec: FinalSpec,
}

/// Where a run goes, as far as the spec says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Destination {
    /// The entity; the queue's if absent.
    pub entity: Option<String>,
    /// The project, in lower case.
    pub project: Option<String>,
    /// The run's id.
    pub run_id: Option<String>,
}

impl Destination {
    /// Where the run of a spec goes.
    #[must_use]
    pub fn of(spec: &LaunchSpec) -> Self {
        Self {
            entity: spec.entity().map(str::to_owned),
            project: spec.run_project(),
            run_id: spec.run_id().map(str::to_owned),
        }
    }
}

/// Why a push is refused. Every one is the pusher's to correct.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The spec has the wrong shape.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Nothing to run.
    #[error("the run spec names nothing to run: set `/job` or `/docker/docker_image`")]
    NoSource,
    /// Too much to run.
    #[error("the run spec names `{first}` and `{second}`: keep exactly one of job and image")]
    TwoSources {
        /// A JSON pointer.
        first: &'static str,
        /// Another.
        second: &'static str,
    },
    /// An id that no run can have.
    #[error("the run spec's `/run_id`: {0}")]
    RunId(#[from] RunIdError),
    /// A key in the spec.
    #[error("the run spec may not carry an API key (`{0}`): jobs get a key of their own when they start")]
    ApiKey(String),
    /// A word that names no resource.
    #[error("the run spec's `/resource`: {0}")]
    UnknownResource(#[from] ResourceError),
    /// Neither queue nor spec names a resource.
    #[error(
        "the queue has no configuration and the run spec no `/resource`: name one, such as `\"resource\": \"local-container\"`"
    )]
    NoResource,
    /// The spec asks for another target.
    #[error(
        "the run spec's `/resource` is {given}, but this queue runs on {queue}: leave it out, or use another queue"
    )]
    OtherResource {
        /// What the spec says.
        given: Resource,
        /// What the queue is for.
        queue: Resource,
    },
    /// An image for a target that has none.
    #[error("an image cannot run on local-process: submit a job made from code, or use another queue")]
    ImageOnProcess,
    /// A scheduler that would run something else.
    #[error(
        "the run spec's `/uri` marks a sweep scheduler, whose `/overrides/entry_point` must begin with \
         `wandb scheduler`"
    )]
    Scheduler,
    /// The queue's template variables are the only thing that submitters may change.
    #[error(
        "this queue has template variables, so `/resource_args/{resource}{path}` cannot be set directly: {}",
        guardrail_hint(.variables)
    )]
    Guarded {
        /// The target resource.
        resource: Resource,
        /// The first path that was set.
        path: String,
        /// The queue's variables.
        variables: Vec<String>,
    },
    /// Not a submitter's to set.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A template value is missing or refused.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Two sets of template values.
    #[error(
        "template values are given twice and differ: keep either `/template_variables` in the run spec or \
         `templateVariableValues`"
    )]
    TwoTemplateValues,
    /// A number that is no priority.
    #[error(transparent)]
    Priority(#[from] PriorityError),
    /// A priority on a queue that has none.
    #[error("this queue has no prioritization: leave the priority out (it is medium, 2), or have its owner enable it")]
    NoPrioritization,
}

fn guardrail_hint(variables: &[String]) -> String {
    format!("set its variables instead (`{}`)", variables.join("`, `"))
}

/// Decides whether a push becomes an item.
///
/// # Errors
/// Says which rule the push breaks, where, and what to do.
pub fn check_push(rules: QueueRules<'_>, push: Push<'_>) -> Result<AcceptedPush, PushError> {
    let Push {
        pusher,
        is_owner,
        may_attribute_to,
        mut spec,
        template_values,
        priority,
    } = push;
    refuse_keys(&spec)?;
    check_source(&spec)?;
    spec.run_id().map_or(Ok(()), check_run_id)?;
    let resource = check_resource(rules, &spec)?;
    let priority = check_priority(rules.prioritization, priority)?;
    let template_values = take_template_values(&mut spec, template_values)?;

    let queue_resource = rules.resource.map(Resource::as_str);
    let values = Value::Object(template_values.clone());
    spec.set("resource", resource.as_str());
    if !is_owner {
        check_arguments(rules, &values, resource, &spec)?;
    }
    let author = spec
        .author()
        .filter(|author| *author != pusher && may_attribute_to.iter().any(|member| member == author))
        .unwrap_or(pusher)
        .to_owned();
    spec.set("author", author.as_str());
    spec.remove("priority");
    let final_spec = final_spec(rules.config, queue_resource, rules.variables, &values, spec.clone())?;
    Ok(AcceptedPush {
        destination: Destination::of(&spec),
        spec,
        template_values,
        priority,
        author,
        resource,
        final_spec,
    })
}

fn check_source(spec: &LaunchSpec) -> Result<(), PushError> {
    match (spec.job().is_some(), spec.docker_image().is_some(), spec.is_scheduler()) {
        (true, true, _) => Err(PushError::TwoSources {
            first: "/job",
            second: "/docker/docker_image",
        }),
        (false, false, false) => Err(PushError::NoSource),
        // A scheduler without a job runs its entry point on the agent itself.
        (false, false, true)
            if !spec
                .overrides()
                .entry_point
                .starts_with(&["wandb".into(), "scheduler".into()]) =>
        {
            Err(PushError::Scheduler)
        }
        _ => Ok(()),
    }
}

/// Keys belong to no spec, wherever they hide.
fn refuse_keys(spec: &LaunchSpec) -> Result<(), PushError> {
    fn find(map: &Map<String, Value>, path: &str) -> Option<String> {
        map.iter().find_map(|(key, value)| {
            let path = child(path, key);
            if key == RUN_KEY && !value.is_null() {
                return Some(path);
            }
            value.as_object().and_then(|map| find(map, &path))
        })
    }
    match find(spec.fields(), "") {
        Some(path) => Err(PushError::ApiKey(path)),
        None => Ok(()),
    }
}

fn check_resource(rules: QueueRules<'_>, spec: &LaunchSpec) -> Result<Resource, PushError> {
    let given: Option<Resource> = spec.resource().map(str::parse).transpose()?;
    let resource = match (rules.resource, given) {
        (Some(queue), Some(given)) if queue != given && !is_native_scheduler(spec, given) => {
            return Err(PushError::OtherResource { given, queue });
        }
        (_, Some(given)) => given,
        (Some(queue), None) => queue,
        (None, None) => return Err(PushError::NoResource),
    };
    if resource == Resource::LocalProcess && spec.docker_image().is_some() {
        return Err(PushError::ImageOnProcess);
    }
    Ok(resource)
}

/// A sweep scheduler runs beside the agent whatever the queue's target is.
fn is_native_scheduler(spec: &LaunchSpec, resource: Resource) -> bool {
    spec.is_scheduler() && spec.job().is_none() && spec.docker_image().is_none() && resource == Resource::LocalProcess
}

fn check_priority(prioritization: Prioritization, priority: Option<i64>) -> Result<Priority, PushError> {
    let priority = priority.map(Priority::from_code).transpose()?;
    match (prioritization, priority) {
        (Prioritization::Disabled, Some(priority)) if priority != Priority::Medium => Err(PushError::NoPrioritization),
        (_, priority) => Ok(priority.unwrap_or_default()),
    }
}

/// Template values may come beside the spec or, from older clients, within it.
fn take_template_values(spec: &mut LaunchSpec, beside: Value) -> Result<Map<String, Value>, PushError> {
    let within = spec.remove("template_variables").unwrap_or_default();
    let value = match (beside, within) {
        (Value::Null, within) => within,
        (beside, Value::Null) => beside,
        (beside, within) if beside == within => beside,
        _ => return Err(PushError::TwoTemplateValues),
    };
    match value {
        Value::Null => Ok(Map::new()),
        Value::Object(values) => Ok(values),
        other => Err(TemplateError::NotAMap(crate::json::kind(&other)).into()),
    }
}

/// Holds a submitter's arguments against the queue's guardrails and its target's policy.
///
/// What equals the queue's own value changes nothing and is not looked at: a clone of a run, or an
/// agent that queues a preempted one again, sends the merged arguments back.
fn check_arguments(
    rules: QueueRules<'_>,
    values: &Value,
    resource: Resource,
    spec: &LaunchSpec,
) -> Result<(), PushError> {
    if resource == Resource::Kubernetes
        && let Some(services) = spec.fields().get("additional_services")
        && services.as_array().is_none_or(|list| !list.is_empty())
        && !services.is_null()
    {
        let wrapped = Value::Object(Map::from_iter([("additional_services".to_owned(), services.clone())]));
        check_submitter_args(resource, &wrapped, rules.policy)?;
    }
    let Some(args) = spec.resource_args(resource.as_str()) else {
        return Ok(());
    };
    let mut queue_only = LaunchSpec::default();
    queue_only.set("resource", resource.as_str());
    let queue_resource = rules.resource.map(Resource::as_str);
    let queue = final_spec(rules.config, queue_resource, rules.variables, values, queue_only)?;
    let queue_args = crate::config::resource_args(&queue.spec, resource.as_str());
    let Some(changed) = changes(queue_args, args) else {
        return Ok(());
    };
    let guarded = !rules.variables.is_empty() && rules.resource.is_none_or(|queue| queue == resource);
    if guarded && let Some(path) = not_allowed(&changed, &rules.policy.allowed_overrides) {
        return Err(PushError::Guarded {
            resource,
            path,
            variables: rules.variables.variables().iter().map(|v| v.name.clone()).collect(),
        });
    }
    check_submitter_args(resource, &changed, rules.policy)?;
    Ok(())
}

/// The part of `args` that differs from `queue`; `None` if nothing does.
fn changes(queue: Option<&Value>, args: &Value) -> Option<Value> {
    match (queue, args) {
        (Some(Value::Object(queue)), Value::Object(args)) => {
            let changed: Map<String, Value> = args
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), changes(queue.get(key), value)?)))
                .collect();
            (!changed.is_empty()).then_some(Value::Object(changed))
        }
        (Some(queue), args) if queue == args => None,
        _ => Some(args.clone()),
    }
}

/// The path of the first value that no allowed override covers: what a submitter may not set on a queue
/// with template variables.
#[must_use]
pub fn not_allowed(args: &Value, allowed_overrides: &[String]) -> Option<String> {
    first_leaf(args, "", &|path| {
        !allowed_overrides.iter().any(|root| is_below(path, root))
    })
}

/// The path of the first scalar, list or empty map that a predicate picks.
fn first_leaf(value: &Value, path: &str, picks: &dyn Fn(&str) -> bool) -> Option<String> {
    match value {
        Value::Object(map) if !map.is_empty() => map
            .iter()
            .find_map(|(key, value)| first_leaf(value, &child(path, key), picks)),
        _ => picks(path).then(|| path.to_owned()),
    }
}

#[cfg(test)]
mod tests;
