//! Making, changing, pausing and deleting queues.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use serde_json::Value;
use slipway_model::config::{parse_config, resource_args, stored_config};
use slipway_model::docker_options;
use slipway_model::id::{QueueId, RevisionId};
use slipway_model::queue::{
    ExternalLinks, Prioritization, QUEUE_PROJECT, QueuePolicy, Resource, check_project_name, check_queue_name,
};
use slipway_model::template::TemplateVariables;
use slipway_store::queues::{NewQueue, NewRevision, Queue, QueueUpdate};

use super::super::Result;
use super::super::context::RequestContext as _;
use super::super::scalars::JsonString;
use super::{AccessType, PrioritizationMode, RunQueue};
use crate::{ApiError, access};

/// Changing queues.
#[derive(Default)]
pub(crate) struct QueueMutation;

#[Object]
impl QueueMutation {
    /// Stores a configuration that `createRunQueue` then gives to a queue.
    async fn create_default_resource_config(
        &self,
        ctx: &Context<'_>,
        input: CreateDefaultResourceConfigInput,
    ) -> Result<CreateDefaultResourceConfigPayload> {
        access::edit_queues(ctx.principal(), &input.entity_name)?;
        let revision = new_revision(
            ctx.principal().author(),
            &input.resource,
            &input.config.0,
            input.template_variables.as_ref(),
            None,
        )?;
        let id = ctx
            .store()
            .add_revision(&input.entity_name, revision.stored, ctx.now())
            .await?;
        Ok(CreateDefaultResourceConfigPayload {
            default_resource_config_id: Some(ID(id.to_string())),
            success: true,
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Makes a queue.
    async fn create_run_queue(&self, ctx: &Context<'_>, input: CreateRunQueueInput) -> Result<CreateRunQueuePayload> {
        access::edit_queues(ctx.principal(), &input.entity_name)?;
        let project = input.project_name.unwrap_or_else(|| QUEUE_PROJECT.to_owned());
        check_queue_name(&input.queue_name)?;
        check_project_name(&project)?;
        let revision = input
            .default_resource_config_id
            .map(|id| id.parse::<RevisionId>())
            .transpose()?;
        let queue = ctx
            .store()
            .create_queue(
                NewQueue {
                    entity: input.entity_name,
                    project,
                    name: input.queue_name,
                    access: input.access.unwrap_or(AccessType::Project).into(),
                    prioritization: input
                        .prioritization_mode
                        .map_or(Prioritization::Disabled, Prioritization::from),
                    revision,
                    links: ExternalLinks::new(),
                    created_by: ctx.principal().author().to_owned(),
                },
                ctx.now(),
            )
            .await?;
        Ok(CreateRunQueuePayload {
            success: true,
            queue_id: Some(ID(queue.id.to_string())),
            queue: Some(RunQueue::new(queue)),
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Makes a queue with its configuration, or gives an existing one a new revision.
    async fn upsert_run_queue(&self, ctx: &Context<'_>, input: UpsertRunQueueInput) -> Result<UpsertRunQueuePayload> {
        access::edit_queues(ctx.principal(), &input.entity_name)?;
        let project = input.project_name.unwrap_or_else(|| QUEUE_PROJECT.to_owned());
        check_queue_name(&input.queue_name)?;
        check_project_name(&project)?;
        let policy = input.policy.as_ref().map(read_policy).transpose()?;
        let revision = new_revision(
            ctx.principal().author(),
            &input.resource_type,
            &input.resource_config.0,
            input.template_variables.as_ref(),
            policy,
        )?;
        let links = input.external_links.as_ref().map(read_links).transpose()?;
        let prioritization = input.prioritization_mode.map(Prioritization::from);
        let existing = ctx
            .store()
            .queue(&input.entity_name, &project, &input.queue_name)
            .await?;
        let queue = match existing {
            Some(queue) => {
                let update = QueueUpdate {
                    revision: Some(revision.stored),
                    prioritization,
                    links,
                    paused: None,
                };
                let author = ctx.principal().author();
                ctx.store().update_queue(queue.id, update, author, ctx.now()).await?
            }
            None => {
                let id = ctx
                    .store()
                    .add_revision(&input.entity_name, revision.stored, ctx.now())
                    .await?;
                let new = NewQueue {
                    entity: input.entity_name,
                    project,
                    name: input.queue_name,
                    access: AccessType::Project.into(),
                    prioritization: prioritization.unwrap_or_default(),
                    revision: Some(id),
                    links: links.unwrap_or_default(),
                    created_by: ctx.principal().author().to_owned(),
                };
                ctx.store().create_queue(new, ctx.now()).await?
            }
        };
        Ok(UpsertRunQueuePayload {
            success: true,
            config_schema_validation_errors: (!revision.warnings.is_empty()).then_some(revision.warnings),
            queue: Some(RunQueue::new(queue)),
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Deletes queues with the items that wait in them; what was handed out runs on.
    async fn delete_run_queues(
        &self,
        ctx: &Context<'_>,
        input: DeleteRunQueuesInput,
    ) -> Result<DeleteRunQueuesPayload> {
        let mut queues = Vec::new();
        for id in &input.queue_ids {
            queues.push(editable(ctx, id).await?);
        }
        let mut success = true;
        for queue in queues {
            let author = ctx.principal().author();
            success &= ctx.store().delete_queue(queue.id, author, ctx.now()).await?.is_some();
        }
        Ok(DeleteRunQueuesPayload {
            success,
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Pauses a queue, which then hands out nothing, or resumes it.
    #[graphql(visible = "super::super::additions")]
    async fn pause_run_queue(&self, ctx: &Context<'_>, input: PauseRunQueueInput) -> Result<PauseRunQueuePayload> {
        let queue = editable(ctx, &input.queue_id).await?;
        let update = QueueUpdate {
            paused: Some(input.paused),
            ..QueueUpdate::default()
        };
        let author = ctx.principal().author();
        let queue = ctx.store().update_queue(queue.id, update, author, ctx.now()).await?;
        Ok(PauseRunQueuePayload {
            queue: RunQueue::new(queue),
            client_mutation_id: input.client_mutation_id,
        })
    }
}

/// Finds a queue that the caller may change.
async fn editable(ctx: &Context<'_>, id: &ID) -> Result<Queue> {
    let missing = || ApiError::not_found("queue", id);
    let parsed: QueueId = id.parse().map_err(|_| missing())?;
    let queue = ctx.store().queue_by_id(parsed).await?.ok_or_else(missing)?;
    if !access::can_read_entity(ctx.principal(), &queue.entity) {
        return Err(missing());
    }
    access::edit_queues(ctx.principal(), &queue.entity)?;
    Ok(queue)
}

/// A configuration that passed the checks.
struct CheckedRevision {
    stored: NewRevision,
    /// What is odd but allowed.
    warnings: Vec<String>,
}

/// Checks a configuration as its owner wrote it.
fn new_revision(
    author: &str,
    resource: &str,
    config: &str,
    variables: Option<&JsonString>,
    policy: Option<QueuePolicy>,
) -> Result<CheckedRevision> {
    let resource: Resource = resource.parse()?;
    let parsed = parse_config(config).map_err(|error| ApiError::bad(format!("the queue's configuration: {error}")))?;
    let stored = stored_config(resource, parsed);
    let variables = match variables {
        Some(text) => TemplateVariables::parse(&text.0),
        None => Ok(TemplateVariables::default()),
    }
    .map_err(|error| ApiError::bad(format!("the queue's template variables: {error}")))?;
    variables
        .check_config(&stored)
        .map_err(|error| ApiError::bad(format!("the queue's configuration: {error}")))?;
    let mut warnings: Vec<String> = variables
        .unused_in(&stored)
        .into_iter()
        .map(|name| format!("template variable `{name}` is not used in the configuration"))
        .collect();
    if let Some(options) = resource_args(&stored, Resource::LocalContainer.as_str()) {
        // Agents of another version may know more options, and other agents other values.
        let doubts = [
            docker_options::check_names(options),
            docker_options::check_values(options),
        ];
        warnings.extend(
            doubts
                .into_iter()
                .filter_map(std::result::Result::err)
                .map(|error| error.to_string()),
        );
    }
    Ok(CheckedRevision {
        stored: NewRevision {
            resource,
            config: stored.to_string(),
            template_variables: variables.to_value().to_string(),
            policy,
            created_by: author.to_owned(),
        },
        warnings,
    })
}

fn read_policy(text: &JsonString) -> Result<QueuePolicy> {
    let policy: QueuePolicy = match text.read("`policy`")? {
        Value::Null => QueuePolicy::default(),
        value => serde_json::from_value(value).map_err(|error| ApiError::bad(format!("`policy`: {error}")))?,
    };
    if policy.agent_lost_timeout.is_some_and(|timeout| timeout <= 0) {
        return Err(ApiError::bad(
            "`policy.agent_lost_timeout` is a duration in milliseconds and must be above 0",
        ));
    }
    if let Some(scope) = policy
        .run_key_scopes
        .iter()
        .find(|scope| *scope != access::LAUNCH_SCOPE)
    {
        return Err(ApiError::bad(format!(
            "`policy.run_key_scopes`: `{scope}` is not known; the only scope is `{}`",
            access::LAUNCH_SCOPE
        )));
    }
    Ok(policy)
}

/// Reads `{"links": [{"label", "url"}]}`. Only http and https addresses are kept as links.
fn read_links(text: &JsonString) -> Result<ExternalLinks> {
    let value = text.read("`externalLinks`")?;
    let shape = || ApiError::bad("`externalLinks` must be {\"links\": [{\"label\": \"…\", \"url\": \"https://…\"}]}");
    let list = match &value {
        Value::Null => return Ok(ExternalLinks::new()),
        Value::Object(map) if map.is_empty() => return Ok(ExternalLinks::new()),
        Value::Object(map) => map.get("links").and_then(Value::as_array).ok_or_else(shape)?,
        _ => return Err(shape()),
    };
    list.iter()
        .map(|link| {
            let field = |name: &str| link.get(name).and_then(Value::as_str).ok_or_else(shape);
            let (label, address) = (field("label")?, field("url")?);
            match url::Url::parse(address) {
                Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => Ok((label.to_owned(), address.to_owned())),
                _ => Err(ApiError::bad(format!(
                    "external link `{label}`: `{address}` is not an http or https address"
                ))),
            }
        })
        .collect()
}

/// What `createDefaultResourceConfig` takes.
#[derive(InputObject)]
struct CreateDefaultResourceConfigInput {
    entity_name: String,
    /// The target resource.
    resource: String,
    config: JsonString,
    template_variables: Option<JsonString>,
    client_mutation_id: Option<String>,
}

/// What `createDefaultResourceConfig` answers.
#[derive(SimpleObject)]
struct CreateDefaultResourceConfigPayload {
    #[graphql(name = "defaultResourceConfigID")]
    default_resource_config_id: Option<ID>,
    success: bool,
    client_mutation_id: Option<String>,
}

/// What `createRunQueue` takes.
#[derive(InputObject)]
struct CreateRunQueueInput {
    entity_name: String,
    project_name: Option<String>,
    queue_name: String,
    access: Option<AccessType>,
    prioritization_mode: Option<PrioritizationMode>,
    #[graphql(name = "defaultResourceConfigID")]
    default_resource_config_id: Option<ID>,
    client_mutation_id: Option<String>,
}

/// What `createRunQueue` answers.
#[derive(SimpleObject)]
struct CreateRunQueuePayload {
    success: bool,
    #[graphql(name = "queueID")]
    queue_id: Option<ID>,
    #[graphql(visible = "super::super::additions")]
    queue: Option<RunQueue>,
    client_mutation_id: Option<String>,
}

/// What `upsertRunQueue` takes.
#[derive(InputObject)]
struct UpsertRunQueueInput {
    entity_name: String,
    project_name: Option<String>,
    queue_name: String,
    /// The target resource.
    resource_type: String,
    resource_config: JsonString,
    /// Null means none.
    template_variables: Option<JsonString>,
    prioritization_mode: Option<PrioritizationMode>,
    /// `{"links": [{"label", "url"}]}`; null leaves them.
    external_links: Option<JsonString>,
    /// What the owner allows submitters; null leaves it.
    #[graphql(visible = "super::super::additions")]
    policy: Option<JsonString>,
    client_mutation_id: Option<String>,
}

/// What `upsertRunQueue` answers.
#[derive(SimpleObject)]
struct UpsertRunQueuePayload {
    success: bool,
    /// Warnings; null if there are none.
    config_schema_validation_errors: Option<Vec<String>>,
    #[graphql(visible = "super::super::additions")]
    queue: Option<RunQueue>,
    client_mutation_id: Option<String>,
}

/// What `deleteRunQueues` takes.
#[derive(InputObject)]
struct DeleteRunQueuesInput {
    #[graphql(name = "queueIDs")]
    queue_ids: Vec<ID>,
    client_mutation_id: Option<String>,
}

/// What `deleteRunQueues` answers.
#[derive(SimpleObject)]
struct DeleteRunQueuesPayload {
    success: bool,
    client_mutation_id: Option<String>,
}

/// What `pauseRunQueue` takes.
#[derive(InputObject)]
struct PauseRunQueueInput {
    #[graphql(name = "queueID")]
    queue_id: ID,
    paused: bool,
    client_mutation_id: Option<String>,
}

/// What `pauseRunQueue` answers.
#[derive(SimpleObject)]
struct PauseRunQueuePayload {
    queue: RunQueue,
    client_mutation_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn links_are_read_from_the_wires_shape_and_only_web_addresses_pass() {
        let read = |value: Value| read_links(&JsonString(value.to_string()));
        let grafana = json!({"links": [{"label": "grafana", "url": "https://g.example/d"}]});
        assert_eq!(
            read(grafana).expect("links"),
            ExternalLinks::from([("grafana".to_owned(), "https://g.example/d".to_owned())])
        );
        assert!(read(json!(null)).expect("none").is_empty());
        assert!(read(json!({})).expect("none").is_empty());
        for bad in [
            json!([]),
            json!({"links": 1}),
            json!({"links": [{"label": "x"}]}),
            json!({"links": [{"label": "x", "url": "javascript:alert(1)"}]}),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_policy_with_unknown_words_is_refused() {
        let read = |value: Value| read_policy(&JsonString(value.to_string()));
        assert!(read(json!({"run_key_scopes": ["launch"], "agent_lost_timeout": 1000})).is_ok());
        assert_eq!(read(json!(null)).expect("default"), QueuePolicy::default());
        for bad in [
            json!({"run_key_scopes": ["admin"]}),
            json!({"agent_lost_timeout": 0}),
            json!({"alowed_overrides": []}),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_configuration_is_stored_below_its_resource_and_odd_variables_are_told() {
        let variables =
            JsonString(json!({"a": {"schema": {"type": "string"}}, "b": {"schema": {"type": "string"}}}).to_string());
        let checked =
            new_revision("alice", "local-container", r#"{"e": "{{a}}"}"#, Some(&variables), None).expect("passes");
        assert_eq!(
            checked.stored.config,
            r#"{"resource_args":{"local-container":{"e":"{{a}}"}}}"#
        );
        assert_eq!(
            checked.warnings,
            ["template variable `b` is not used in the configuration"]
        );
        assert!(new_revision("alice", "local-container", r#"{"e": "{{c}}"}"#, Some(&variables), None).is_err());
        assert!(new_revision("alice", "no-such", "{}", None, None).is_err());
        assert!(new_revision("alice", "kubernetes", "{a: [}", None, None).is_err());
    }
}
