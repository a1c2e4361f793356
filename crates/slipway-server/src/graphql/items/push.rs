//! Submitting: one item by the official mutations, or many at once.

use std::sync::Arc;

use async_graphql::{ComplexObject, Context, ID, InputObject, Object, SimpleObject};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use slipway_model::id::{ItemId, QueueId, RunName};
use slipway_model::identity::Credential;
use slipway_model::merge::FinalSpec;
use slipway_model::push::{AcceptedPush, Destination, Push, check_push};
use slipway_model::queue::QUEUE_PROJECT;
use slipway_model::spec::{LaunchSpec, RUN_KEY};
use slipway_store::items::NewItem;
use slipway_store::queues::Queue;

use super::super::Result;
use super::super::context::{Caller, RequestContext as _};
use super::super::scalars::{Json, JsonString};
use super::super::strict::objects;
use super::RunQueueItem;
use crate::auth::Principal;
use crate::lookup::QueueConfig;
use crate::{ApiError, access};

/// The most items of one bulk push.
const MAX_BULK: usize = 10_000;

/// The longest idempotency key.
const MAX_IDEMPOTENCY_KEY: usize = 200;

/// Submitting.
#[derive(Default)]
pub(crate) struct PushMutation;

#[Object]
impl PushMutation {
    /// Submits an item to a queue, by the queue's name.
    async fn push_to_run_queue_by_name(
        &self,
        ctx: &Context<'_>,
        input: PushToRunQueueByNameInput,
    ) -> Result<PushToRunQueueByNamePayload> {
        push_by_name(ctx.caller(), input, &path(ctx)).await
    }

    /// Submits an item to a queue, by the queue's id.
    async fn push_to_run_queue(&self, ctx: &Context<'_>, input: PushToRunQueueInput) -> Result<PushToRunQueuePayload> {
        let missing = || ApiError::not_found("queue", &input.queue_id);
        let id: QueueId = input.queue_id.parse().map_err(|_| missing())?;
        let queue = ctx.store().queue_by_id(id).await?.ok_or_else(missing)?;
        if !access::can_read_entity(ctx.principal(), &queue.entity) {
            return Err(missing());
        }
        let one = One {
            spec: input.run_spec,
            template_values: input.template_variable_values,
            priority: input.priority,
            idempotency_key: input.idempotency_key,
        };
        let pushed = push_one(ctx.caller(), queue, one, &path(ctx), input.dry_run.unwrap_or(false)).await?;
        Ok(PushToRunQueuePayload {
            run_queue_item_id: pushed.id.map(|id| ID(id.to_string())),
            run_spec: Some(JsonString(pushed.final_spec.spec.to_string())),
            origins: Json(json!(pushed.final_spec.origins)),
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Submits many items to one queue, in order, all or none.
    #[graphql(visible = "super::super::additions")]
    async fn push_run_queue_items(
        &self,
        ctx: &Context<'_>,
        input: PushRunQueueItemsInput,
    ) -> Result<PushRunQueueItemsPayload> {
        push_many(ctx.caller(), input).await
    }
}

/// Submits an item to a queue, by the queue's name. `path` is the field's place in the document.
pub(in crate::graphql) async fn push_by_name(
    ctx: &Caller,
    input: PushToRunQueueByNameInput,
    path: &str,
) -> Result<PushToRunQueueByNamePayload> {
    let queue = find_queue(ctx, input.entity_name, input.project_name, &input.queue_name).await?;
    let one = One {
        spec: input.run_spec,
        template_values: input.template_variable_values,
        priority: input.priority,
        idempotency_key: input.idempotency_key,
    };
    let pushed = push_one(ctx, queue, one, path, input.dry_run.unwrap_or(false)).await?;
    Ok(PushToRunQueueByNamePayload {
        run_queue_item_id: pushed.id.map(|id| ID(id.to_string())),
        run_spec: Some(JsonString(pushed.final_spec.spec.to_string())),
        origins: Json(json!(pushed.final_spec.origins)),
        client_mutation_id: input.client_mutation_id,
    })
}

/// Submits many items to one queue, in order, all or none.
pub(in crate::graphql) async fn push_many(
    ctx: &Caller,
    input: PushRunQueueItemsInput,
) -> Result<PushRunQueueItemsPayload> {
    if input.items.len() > MAX_BULK {
        return Err(ApiError::bad(format!(
            "one call pushes at most {MAX_BULK} items, not {}",
            input.items.len()
        )));
    }
    let queue = find_queue(
        ctx,
        Some(input.entity_name),
        Some(input.project_name),
        &input.queue_name,
    )
    .await?;
    let pusher = Pusher::of(ctx, queue).await?;
    let queue = pusher.queue.id;
    let principal = Arc::clone(&ctx.principal);
    // Checking thousands of specs takes a while: not on a thread that serves other requests.
    let items: Result<Vec<NewItem>> = tokio::task::spawn_blocking(move || {
        let accept = |item: PushRunQueueItemInput| {
            let one = One {
                spec: item.run_spec,
                template_values: item.template_variable_values,
                priority: item.priority,
                idempotency_key: item.idempotency_key,
            };
            let accepted = pusher.check(one.parse()?, &one)?;
            check_destination(&principal, &pusher, &accepted.destination)?;
            Ok(pusher.item(accepted, one.idempotency_key, None).0)
        };
        input
            .items
            .into_iter()
            .enumerate()
            .map(|(index, item)| {
                accept(item).map_err(|mut error: ApiError| {
                    error.message = format!("item {index}: {}", error.message);
                    error
                })
            })
            .collect()
    })
    .await
    .map_err(ApiError::internal)?;
    let pushed = ctx.store().push(queue, items?, ctx.now()).await?;
    Ok(PushRunQueueItemsPayload {
        run_queue_item_ids: pushed.iter().map(|pushed| ID(pushed.id.to_string())).collect(),
        client_mutation_id: input.client_mutation_id,
    })
}

/// A field's place in its document.
fn path(ctx: &Context<'_>) -> String {
    let path = ctx.path_node.map(|path| path.to_string_vec().join("."));
    path.unwrap_or_default()
}

/// One submission, as the wire gives it.
struct One {
    spec: JsonString,
    template_values: Option<JsonString>,
    priority: Option<i64>,
    idempotency_key: Option<String>,
}

impl One {
    fn parse(&self) -> Result<LaunchSpec> {
        LaunchSpec::parse(&self.spec.0).map_err(|error| ApiError::bad(error.to_string()))
    }
}

/// A submission that was accepted. `id` is absent for a dry run.
struct PushedOne {
    id: Option<ItemId>,
    final_spec: FinalSpec,
}

/// Who pushes, and the queue's rules for it.
struct Pusher {
    queue: Queue,
    config: Arc<QueueConfig>,
    name: String,
    key_id: i64,
    is_owner: bool,
    may_attribute_to: Vec<String>,
}

impl Pusher {
    /// Reads what the rules depend on.
    ///
    /// # Errors
    /// If the caller may not submit to the queue.
    async fn of(ctx: &Caller, queue: Queue) -> Result<Self> {
        let principal = ctx.principal();
        access::submit(principal, &queue.entity)?;
        let is_owner = access::owns_queues(principal, &queue.entity);
        if let Credential::Run { item_entity, item, .. } = &principal.credential {
            let own = ctx.store().item(ItemId::new(*item_entity, *item)).await?;
            if own.is_none_or(|own| own.queue != queue.id) {
                return Err(ApiError::forbidden(
                    "a job's run key launches into the queue of its own item only",
                ));
            }
        }
        let may_attribute_to = match (&principal.user.service_of, &principal.credential) {
            (Some(team), Credential::User) => {
                let members = ctx.store().members(team).await?;
                members.into_iter().map(|(user, _)| user.username).collect()
            }
            _ => Vec::new(),
        };
        Ok(Self {
            config: ctx
                .app()
                .lookup
                .config(ctx.store(), queue.revision.as_ref().map(|revision| revision.id))
                .await?,
            queue,
            name: principal.author().to_owned(),
            key_id: principal.key_id,
            is_owner,
            may_attribute_to,
        })
    }

    /// Applies the queue's rules to a spec, which is that of the submission.
    fn check(&self, spec: LaunchSpec, one: &One) -> Result<AcceptedPush> {
        let template_values = match &one.template_values {
            Some(text) => text.read("`templateVariableValues`")?,
            None => Value::Null,
        };
        if one
            .idempotency_key
            .as_ref()
            .is_some_and(|key| key.is_empty() || key.len() > MAX_IDEMPOTENCY_KEY)
        {
            return Err(ApiError::bad(format!(
                "`idempotencyKey` must have 1 to {MAX_IDEMPOTENCY_KEY} bytes"
            )));
        }
        let accepted = check_push(
            self.config.rules(self.queue.prioritization),
            Push {
                pusher: &self.name,
                is_owner: self.is_owner,
                may_attribute_to: &self.may_attribute_to,
                spec,
                template_values,
                priority: one.priority,
            },
        )
        .map_err(|error| ApiError::bad(error.to_string()))?;
        Ok(accepted)
    }

    /// What the store keeps of an accepted submission, and its final spec.
    fn item(
        &self,
        accepted: AcceptedPush,
        idempotency_key: Option<String>,
        digest: Option<[u8; 32]>,
    ) -> (NewItem, FinalSpec) {
        let item = NewItem {
            spec: accepted.spec.into_value().to_string(),
            template_values: Value::Object(accepted.template_values).to_string(),
            priority: accepted.priority,
            revision: self.queue.revision.as_ref().map(|revision| revision.id),
            author: accepted.author,
            key_id: self.key_id,
            idempotency_key,
            digest,
        };
        (item, accepted.final_spec)
    }
}

async fn push_one(ctx: &Caller, queue: Queue, one: One, path: &str, dry_run: bool) -> Result<PushedOne> {
    let pusher = Pusher::of(ctx, queue).await?;
    let queue = pusher.queue.id;
    let principal = ctx.principal();
    let digest = one
        .idempotency_key
        .is_none()
        .then(|| digest(principal, path, queue, &one));
    let mut spec = one.parse()?;
    drop_own_run_key(ctx, &pusher.queue, &mut spec).await?;
    let accepted = pusher.check(spec, &one)?;
    check_destination(principal, &pusher, &accepted.destination)?;
    let (item, final_spec) = pusher.item(accepted, one.idempotency_key, digest);
    if dry_run {
        return Ok(PushedOne { id: None, final_spec });
    }
    let claim = match digest {
        Some(digest) => Some(ctx.app().deliveries.claim(ctx.store(), digest).await?),
        None => None,
    };
    let pushed = ctx.store().push(queue, vec![item], ctx.now()).await?;
    let id = pushed
        .first()
        .map(|pushed| pushed.id)
        .ok_or_else(|| ApiError::internal("a push of one item returned none"))?;
    if let Some(claim) = claim {
        ctx.deliver(claim.holding(id));
    }
    Ok(PushedOne {
        id: Some(id),
        final_spec,
    })
}

/// Takes the run key out of a spec that an official agent queues again.
///
/// When a job is preempted that agent pushes the spec that it popped, with the run's id and with the
/// key that the pop put there. The key grants nothing that a new attempt needs: it gets one of its
/// own. Every other key stays where it is and is refused, so that nobody's key is stored.
async fn drop_own_run_key(ctx: &Caller, queue: &Queue, spec: &mut LaunchSpec) -> Result<()> {
    let key = spec.fields().get(RUN_KEY).and_then(Value::as_str);
    let Some(lease) = key.and_then(|key| ctx.app().auth.lease_of(key)) else {
        return Ok(());
    };
    let Some(item) = ctx.store().item(lease.item).await? else {
        return Ok(());
    };
    let same_run = item.run.as_ref().is_some_and(|run| {
        spec.run_id() == Some(&run.run)
            && spec.entity().unwrap_or(&queue.entity) == run.entity
            && spec.run_project().is_none_or(|project| project == run.project)
    });
    if same_run && spec.author().is_none_or(|author| author == item.author) {
        spec.remove(RUN_KEY);
    }
    Ok(())
}

async fn find_queue(ctx: &Caller, entity: Option<String>, project: Option<String>, name: &str) -> Result<Queue> {
    let entity = entity.unwrap_or_else(|| ctx.principal().default_entity().to_owned());
    let project = project.unwrap_or_else(|| QUEUE_PROJECT.to_owned());
    let missing = || {
        ApiError::not_found("queue", name).with_hint(format!(
            "look at the queues of {entity}/{project}, or make this one first"
        ))
    };
    if !access::can_read_entity(ctx.principal(), &entity) {
        return Err(missing());
    }
    ctx.store().queue(&entity, &project, name).await?.ok_or_else(missing)
}

/// The run must go where the pusher may write.
fn check_destination(principal: &Principal, pusher: &Pusher, destination: &Destination) -> Result<()> {
    let run = RunName {
        entity: destination
            .entity
            .clone()
            .unwrap_or_else(|| pusher.queue.entity.clone()),
        project: destination.project.clone().unwrap_or_default(),
        run: destination.run_id.clone().unwrap_or_default(),
    };
    access::launch_run(principal, &run).map_err(|mut error| {
        error.message = format!("the run spec's `/entity`: {}", error.message);
        error
    })
}

/// Names a push that is sent again byte by byte: by whom, where in the document, and what.
fn digest(principal: &Principal, path: &str, queue: QueueId, one: &One) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    part(&principal.key_id.to_le_bytes());
    part(principal.author().as_bytes());
    part(place(path).as_bytes());
    part(queue.to_string().as_bytes());
    part(one.spec.0.as_bytes());
    part(one.template_values.as_ref().map_or("", |text| &text.0).as_bytes());
    part(&one.priority.unwrap_or(-1).to_le_bytes());
    hash.finalize().into()
}

/// What tells two equal pushes of one document apart. Under their own names the two official mutations
/// count as one: the official client pushes by the queue's id what it pushed by the queue's name, when
/// no answer came within 19 seconds.
fn place(path: &str) -> &str {
    match path {
        "pushToRunQueueByName" => "pushToRunQueue",
        other => other,
    }
}

/// What `pushToRunQueueByName` takes.
#[derive(InputObject, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::graphql) struct PushToRunQueueByNameInput {
    entity_name: Option<String>,
    project_name: Option<String>,
    queue_name: String,
    run_spec: JsonString,
    /// 0 critical, 1 high, 2 medium, 3 low.
    priority: Option<i64>,
    template_variable_values: Option<JsonString>,
    /// Kept 24 hours: a push with a known key returns the item that it made.
    #[graphql(visible = "super::super::additions")]
    idempotency_key: Option<String>,
    /// Store nothing; answer the final spec.
    #[graphql(visible = "super::super::additions")]
    dry_run: Option<bool>,
    client_mutation_id: Option<String>,
}

impl PushToRunQueueByNameInput {
    /// The names of the fields that are given.
    pub(in crate::graphql) fn given(&self) -> Vec<&'static str> {
        let fields = [
            ("entityName", self.entity_name.is_some()),
            ("projectName", self.project_name.is_some()),
            ("queueName", true),
            ("runSpec", true),
            ("priority", self.priority.is_some()),
            ("templateVariableValues", self.template_variable_values.is_some()),
            ("idempotencyKey", self.idempotency_key.is_some()),
            ("dryRun", self.dry_run.is_some()),
            ("clientMutationId", self.client_mutation_id.is_some()),
        ];
        fields
            .into_iter()
            .filter_map(|(name, given)| given.then_some(name))
            .collect()
    }
}

/// What `pushToRunQueue` takes.
#[derive(InputObject)]
struct PushToRunQueueInput {
    #[graphql(name = "queueID")]
    queue_id: ID,
    run_spec: JsonString,
    /// 0 critical, 1 high, 2 medium, 3 low.
    priority: Option<i64>,
    template_variable_values: Option<JsonString>,
    /// Kept 24 hours: a push with a known key returns the item that it made.
    #[graphql(visible = "super::super::additions")]
    idempotency_key: Option<String>,
    /// Store nothing; answer the final spec.
    #[graphql(visible = "super::super::additions")]
    dry_run: Option<bool>,
    client_mutation_id: Option<String>,
}

/// What `pushToRunQueueByName` answers.
#[derive(SimpleObject, Serialize)]
#[graphql(complex)]
#[serde(rename_all = "camelCase")]
pub(in crate::graphql) struct PushToRunQueueByNamePayload {
    /// Null for a dry run.
    run_queue_item_id: Option<ID>,
    /// The final spec.
    run_spec: Option<JsonString>,
    /// Where each value of the final resource arguments comes from.
    #[graphql(visible = "super::super::additions")]
    origins: Json,
    #[serde(skip)]
    client_mutation_id: Option<String>,
}

/// What the official documents select of [`PushToRunQueueByNamePayload`].
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::graphql) struct OfficialPush {
    run_queue_item_id: Option<ID>,
    run_spec: Option<JsonString>,
}

impl From<PushToRunQueueByNamePayload> for OfficialPush {
    fn from(payload: PushToRunQueueByNamePayload) -> Self {
        Self {
            run_queue_item_id: payload.run_queue_item_id,
            run_spec: payload.run_spec,
        }
    }
}

#[ComplexObject]
impl PushToRunQueueByNamePayload {
    /// The item; null for a dry run.
    #[graphql(visible = "super::super::additions")]
    async fn item(&self, ctx: &Context<'_>) -> Result<Option<RunQueueItem>> {
        pushed_item(ctx, self.run_queue_item_id.as_ref()).await
    }
}

/// What `pushToRunQueue` answers.
#[derive(SimpleObject)]
#[graphql(complex)]
struct PushToRunQueuePayload {
    /// Null for a dry run.
    run_queue_item_id: Option<ID>,
    /// The final spec.
    run_spec: Option<JsonString>,
    /// Where each value of the final resource arguments comes from.
    #[graphql(visible = "super::super::additions")]
    origins: Json,
    client_mutation_id: Option<String>,
}

#[ComplexObject]
impl PushToRunQueuePayload {
    /// The item; null for a dry run.
    #[graphql(visible = "super::super::additions")]
    async fn item(&self, ctx: &Context<'_>) -> Result<Option<RunQueueItem>> {
        pushed_item(ctx, self.run_queue_item_id.as_ref()).await
    }
}

async fn pushed_item(ctx: &Context<'_>, id: Option<&ID>) -> Result<Option<RunQueueItem>> {
    match id {
        Some(id) => RunQueueItem::get(ctx, id).await.map(Some),
        None => Ok(None),
    }
}

/// What `pushRunQueueItems` takes.
#[derive(InputObject, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::graphql) struct PushRunQueueItemsInput {
    entity_name: String,
    project_name: String,
    queue_name: String,
    #[serde(deserialize_with = "objects")]
    items: Vec<PushRunQueueItemInput>,
    client_mutation_id: Option<String>,
}

/// One item of `pushRunQueueItems`.
#[derive(InputObject, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PushRunQueueItemInput {
    run_spec: JsonString,
    /// 0 critical, 1 high, 2 medium, 3 low.
    priority: Option<i64>,
    template_variable_values: Option<JsonString>,
    /// Kept 24 hours: a push with a known key returns the item that it made.
    idempotency_key: Option<String>,
}

/// What `pushRunQueueItems` answers.
#[derive(SimpleObject, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::graphql) struct PushRunQueueItemsPayload {
    /// In the order of the input.
    run_queue_item_ids: Vec<ID>,
    #[serde(skip)]
    client_mutation_id: Option<String>,
}
