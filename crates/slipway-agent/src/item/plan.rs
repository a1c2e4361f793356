//! Whether this agent runs an item, and as what. Pure.
//!
//! The server has checked a push already; the agent checks again, because its server may know none
//! of the rules, and because its machine is what is at stake.

use std::str::FromStr as _;

use serde_json::Value;
use slipway_model::agent_config::{AgentConfig, ResourceArgsPolicy};
use slipway_model::id::{LeaseHandle, RunName};
use slipway_model::item::Failure;
use slipway_model::merge::{Origin, Origins, submitted};
use slipway_model::policy::{check_secure_mode, check_submitter_args};
use slipway_model::push::not_allowed;
use slipway_model::queue::{QueuePolicy, Resource};
use slipway_model::spec::{LaunchSpec, RUN_KEY};
use slipway_runner::WorkloadId;
use slipway_wire::item::LeasedItem;

use crate::secret::Secret;

/// The target of a spec that names none, as the official agent has it.
const DEFAULT_RESOURCE: &str = "local-container";

/// The project of a spec that names none.
const DEFAULT_PROJECT: &str = "uncategorized";

/// What is to be run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The final spec, without the run key.
    pub(crate) spec: LaunchSpec,
    /// The target.
    pub(crate) resource: Resource,
    /// The run.
    pub(crate) run: RunName,
    /// The attempt's own key, where the server makes one.
    pub(crate) run_key: Option<Secret>,
    /// The workload's identity.
    pub(crate) workload: WorkloadId,
}

/// A failure on the agent's side.
pub(crate) fn failure(reason: impl Into<String>, message: impl Into<String>) -> Failure {
    Failure {
        stage: "agent".to_owned(),
        message: message.into(),
        reason: reason.into(),
        file_paths: Vec::new(),
    }
}

/// Reads an item and checks it against the agent's configuration. `fresh_run`: the id of the run,
/// if the submitter chose none.
pub(crate) fn plan(item: &LeasedItem, config: &AgentConfig, fresh_run: String) -> Result<Plan, Failure> {
    let mut spec = LaunchSpec::from_value(item.run_spec.clone())
        .map_err(|error| failure("bad-spec", format!("the item's launch spec cannot be read: {error}")))?;
    let run_key = match spec.remove(RUN_KEY) {
        Some(Value::String(key)) if !key.is_empty() => Some(Secret::new(key)),
        _ => None,
    };
    let workload = workload_id(&item.run_queue_item_id, item.attempt)?;
    let run = RunName {
        entity: spec.entity().unwrap_or(&item.queue_entity).to_owned(),
        project: spec.run_project().unwrap_or_else(|| DEFAULT_PROJECT.to_owned()),
        run: spec.run_id().map_or(fresh_run, str::to_owned),
    };
    if spec.is_scheduler() {
        return Err(failure(
            "sweep-scheduler",
            "this agent does not run sweep schedulers; start one with the official `wandb launch-agent`",
        ));
    }
    let resource = spec.resource().unwrap_or(DEFAULT_RESOURCE);
    let resource = Resource::from_str(resource).map_err(|error| failure("unknown-resource", error.to_string()))?;
    check_target(&spec, resource, config)?;
    let origins = origins(&item.origins);
    if config.secure_mode {
        check_secure_mode(&spec, origins.as_ref()).map_err(|error| failure("secure-mode", error.to_string()))?;
    }
    let args = spec.resource_args(resource.as_str()).unwrap_or(&Value::Null);
    match &origins {
        Some(origins) => check_submitted(item, resource, args, origins)?,
        None if config.resource_args_policy == ResourceArgsPolicy::Restrict => check_unknown(resource, args)?,
        None => {}
    }
    Ok(Plan {
        spec,
        resource,
        run,
        run_key,
        workload,
    })
}

/// Where each argument comes from, if the server says. A word that this version does not know counts
/// as a submitter's.
fn origins(told: &Value) -> Option<Origins> {
    let entries = told.as_object()?.iter();
    let known = entries.filter_map(|(path, word)| {
        let origin: Origin = serde_json::from_value(word.clone()).ok()?;
        Some((path.clone(), origin))
    });
    Some(known.collect())
}

/// Applies the queue's rules for submitters once more, to what the submitter set.
fn check_submitted(item: &LeasedItem, resource: Resource, args: &Value, origins: &Origins) -> Result<(), Failure> {
    let Some(args) = submitted(args, origins) else {
        return Ok(());
    };
    let allowed = &item.allowed_overrides;
    let guarded = item.template.unwrap_or_default();
    if guarded && let Some(path) = not_allowed(&args, allowed) {
        return Err(failure(
            "resource-args",
            format!(
                "this queue has template variables, so a submitter may not set `/resource_args/{}{path}`",
                resource.as_str()
            ),
        ));
    }
    let policy = QueuePolicy {
        allowed_overrides: allowed.clone(),
        ..QueuePolicy::default()
    };
    check_submitter_args(resource, &args, &policy).map_err(|error| failure("resource-args", error.to_string()))
}

/// Treats arguments of which nobody tells the origin as a submitter's.
fn check_unknown(resource: Resource, args: &Value) -> Result<(), Failure> {
    check_submitter_args(resource, args, &QueuePolicy::default()).map_err(|error| {
        failure(
            "resource-args",
            format!(
                "{error}. This server does not tell which values are the queue's own; if its queues' owners are \
                 trusted, set `resource_args_policy: trust` in the agent's configuration"
            ),
        )
    })
}

fn check_target(spec: &LaunchSpec, resource: Resource, config: &AgentConfig) -> Result<(), Failure> {
    match resource {
        Resource::LocalContainer => Ok(()),
        Resource::LocalProcess if !config.process.enabled => Err(failure(
            "process-disabled",
            "this agent does not run jobs as processes of its machine. Such jobs can do whatever the agent's user \
             can; to allow them, set `process: {enabled: true}` in the agent's configuration",
        )),
        Resource::LocalProcess if spec.docker_image().is_some() => Err(failure("image-on-process", IMAGE_ON_PROCESS)),
        Resource::LocalProcess => Ok(()),
        Resource::Kubernetes | Resource::Sagemaker | Resource::GcpVertex => Err(failure(
            "target-unavailable",
            format!(
                "this agent runs jobs on `local-container` and `local-process`, not on `{resource}`; start an agent \
                 that does",
                resource = resource.as_str()
            ),
        )),
    }
}

/// Why an image job is refused.
pub(crate) const IMAGE_ON_PROCESS: &str = "`local-process` runs no container images; push image jobs to a queue \
                                           of another resource, such as `local-container`";

/// The workload's identity: the item without its lease where the handle tells, so that a later lease
/// of the same attempt finds what an earlier one created.
pub(crate) fn workload_id(handle: &str, attempt: i64) -> Result<WorkloadId, Failure> {
    let item = handle
        .parse::<LeaseHandle>()
        .map_or_else(|_| handle.to_owned(), |handle| handle.item.to_string());
    WorkloadId::new(item, attempt).map_err(|error| failure("bad-id", error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(spec: Value) -> LeasedItem {
        serde_json::from_value(json!({
            "runQueueItemId": "UnVuUXVldWVJdGVtOjExOA==", "runSpec": spec, "queueName": "q", "queueEntity": "team",
        }))
        .unwrap()
    }

    fn config() -> AgentConfig {
        let mut config = AgentConfig::default();
        config.process.enabled = true;
        config
    }

    fn reason(spec: Value, config: &AgentConfig) -> String {
        plan(&item(spec), config, "fresh".to_owned()).map_or_else(|failure| failure.reason, |_| "runs".to_owned())
    }

    #[test]
    fn what_this_agent_does_not_run_is_refused_with_a_reason() {
        let disabled = AgentConfig::default();
        let secure = AgentConfig {
            secure_mode: true,
            ..config()
        };
        let local = |extra: Value| {
            let mut spec = json!({"entity": "e", "project": "p", "resource": "local-process", "job": "e/p/j:v0"});
            spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            spec
        };
        for (spec, config, expected) in [
            (local(json!({})), config(), "runs"),
            (local(json!({})), disabled, "process-disabled"),
            (
                local(json!({"docker": {"docker_image": "a:b"}})),
                config(),
                "image-on-process",
            ),
            (
                local(json!({"uri": "placeholder-uri-scheduler"})),
                config(),
                "sweep-scheduler",
            ),
            (local(json!({"resource": "kubernetes"})), config(), "target-unavailable"),
            (local(json!({"resource": "slurm"})), config(), "unknown-resource"),
            (json!({"job": "e/p/j:v0"}), config(), "runs"),
            (
                json!({"docker": {"docker_image": "a:b"}, "resource": "local-container"}),
                AgentConfig::default(),
                "runs",
            ),
            (local(json!({"overrides": {"args": "x"}})), config(), "bad-spec"),
            (
                local(json!({"overrides": {"entry_point": ["sh"]}})),
                secure,
                "secure-mode",
            ),
        ] {
            assert_eq!(reason(spec.clone(), &config), expected, "{spec}");
        }
    }

    #[test]
    fn arguments_of_unknown_origin_count_as_a_submitters_unless_the_agent_trusts() {
        let spec = json!({"resource": "local-process", "resource_args": {"local-process": {"no-such-option": 1}}});
        assert_eq!(reason(spec.clone(), &config()), "resource-args");
        let trusting = AgentConfig {
            resource_args_policy: ResourceArgsPolicy::Trust,
            ..config()
        };
        assert_eq!(reason(spec.clone(), &trusting), "runs");
        let mut told = item(spec);
        told.origins = json!({"/no-such-option": "queue"});
        assert!(plan(&told, &config(), String::new()).is_ok());
    }

    #[test]
    fn what_a_server_says_is_a_submitters_is_checked_again() {
        let args = json!({"volume": ["/etc:/etc"], "env": {"A": "1"}});
        let spec = json!({"docker": {"docker_image": "a:b"}, "resource": "local-container",
                          "resource_args": {"local-container": args}});
        let volume = |origin: &str| json!({"/volume": origin, "/env/A": "submitter"});
        for (origins, template, allowed, expected) in [
            (volume("queue"), false, &[][..], "runs"),
            (volume("template"), false, &[], "runs"),
            (volume("submitter"), false, &[], "resource-args"),
            (volume("a word of later versions"), false, &[], "resource-args"),
            (json!({}), false, &[], "resource-args"),
            (volume("submitter"), false, &["/volume"], "runs"),
            (volume("submitter"), false, &[""], "runs"),
            // Template variables leave a submitter what is listed.
            (volume("queue"), true, &[], "resource-args"),
            (volume("queue"), true, &["/env"], "runs"),
            (volume("submitter"), true, &[""], "runs"),
        ] {
            let case = format!("{origins} template={template} {allowed:?}");
            let leased = LeasedItem {
                origins,
                template: Some(template),
                allowed_overrides: allowed.iter().map(|path| (*path).to_owned()).collect(),
                ..item(spec.clone())
            };
            let planned = plan(&leased, &config(), "fresh".to_owned());
            let reason = planned.map_or_else(|failure| failure.reason, |_| "runs".to_owned());
            assert_eq!(reason, expected, "{case}");
        }
    }

    #[test]
    fn the_run_is_named_and_the_key_taken_out() {
        let spec = json!({"project": "Big", "resource": "local-process", "_wandb_api_key": "very-secret"});
        let planned = plan(&item(spec), &config(), "fresh".to_owned()).unwrap();
        assert_eq!(planned.run.to_string(), "team/big/fresh");
        assert_eq!(planned.run_key.as_ref().map(Secret::reveal), Some("very-secret"));
        assert!(!format!("{planned:?}").contains("very-secret"));
        let spec = json!({"entity": "e", "run_id": "mine", "resource": "local-process"});
        let planned = plan(&item(spec), &config(), "fresh".to_owned()).unwrap();
        assert_eq!(planned.run.to_string(), "e/uncategorized/mine");
    }

    #[test]
    fn a_workload_is_named_by_the_item_and_not_by_the_lease() {
        let item = slipway_model::id::ItemId::new(3, 7);
        let first = LeaseHandle { item, epoch: 1 }.to_string();
        let second = LeaseHandle { item, epoch: 2 }.to_string();
        assert_eq!(workload_id(&first, 1).unwrap(), workload_id(&second, 1).unwrap());
        assert_eq!(workload_id("opaque", 1).unwrap().item(), "opaque");
    }
}
