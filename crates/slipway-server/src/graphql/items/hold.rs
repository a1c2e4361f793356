//! What agents do with items: take, acknowledge, start, renew, finish, fail, give back.
//!
//! Every write carries the lease handle that the pop returned; the store refuses stale ones. The
//! official agent's single calls and the batch calls of ours end in the same store operations.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::names::check_run_id;
use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slipway_model::config::resource_args;
use slipway_model::id::{ItemId, LeaseHandle, RunName};
use slipway_model::item::{Failure, LEASE_TERM, Refusal};
use slipway_model::merge::{FinalSpec, submitted};
use slipway_model::policy::check_submitter_args;
use slipway_model::push::{Destination, not_allowed};
use slipway_model::queue::{QUEUE_PROJECT, Resource};
use slipway_model::spec::RUN_KEY;
use slipway_store::agents::Agent;
use slipway_store::events::{Position, Scope};
use slipway_store::items::{Acked, Item, Leased, Outcome, Report, ReturnCause as StoreCause};

use super::super::Result;
use super::super::agents::find_own_agent;
use super::super::context::{Caller, RequestContext as _};
use super::super::project::DEFAULT_PROJECT;
use super::super::scalars::Json;
use super::super::strict::{objects, word};
use crate::auth::Principal;
use crate::lookup::{QueueConfig, QueueName};
use crate::{ApiError, access};

/// The most items of one batch.
const MAX_BATCH: usize = 1_000;

/// The longest message of a failure or warning, in bytes; more is cut off.
const MAX_MESSAGE: usize = 64 << 10;

/// What agents do with items.
#[derive(Default)]
pub(crate) struct HoldMutation;

#[Object]
impl HoldMutation {
    /// Takes the next item of a queue; null if there is none.
    async fn pop_from_run_queue(
        &self,
        ctx: &Context<'_>,
        input: PopFromRunQueueInput,
    ) -> Result<Option<PopFromRunQueuePayload>> {
        let entity = input
            .entity_name
            .unwrap_or_else(|| ctx.principal().default_entity().to_owned());
        let project = input.project_name.as_deref().unwrap_or(QUEUE_PROJECT);
        access::run_agent(ctx.principal(), &entity)?;
        let agent = match &input.launch_agent_id {
            Some(id) => Some(find_own_agent(ctx.caller(), id).await?.id),
            None => None,
        };
        let queue = ctx
            .store()
            .queue(&entity, project, &input.queue_name)
            .await?
            .ok_or_else(|| ApiError::not_found("queue", &input.queue_name))?;
        if let Some(agent) = agent {
            let contacts = &ctx.app().contacts;
            contacts.hear(ctx.store(), agent, None, ctx.now()).await?;
        }
        let leased = ctx.store().lease(agent, vec![queue.id], 1, false, ctx.now()).await?;
        for leased in leased {
            if let Some(spec) = handed_out(ctx.caller(), &leased).await? {
                return Ok(Some(PopFromRunQueuePayload {
                    run_queue_item_id: ID(leased.handle.to_string()),
                    run_spec: Json(spec.spec),
                    client_mutation_id: input.client_mutation_id,
                }));
            }
        }
        Ok(None)
    }

    /// Takes up to `limit` items of an agent's queues, in turn.
    #[graphql(visible = "super::super::additions")]
    async fn pop_run_queue_items(
        &self,
        ctx: &Context<'_>,
        input: PopRunQueueItemsInput,
    ) -> Result<PopRunQueueItemsPayload> {
        pop_items(ctx.caller(), input).await
    }

    /// Names the run of an item. `success: false` if the lease has ended.
    async fn ack_run_queue_item(
        &self,
        ctx: &Context<'_>,
        input: AckRunQueueItemInput,
    ) -> Result<AckRunQueueItemPayload> {
        let run = match held(ctx.caller(), &input.run_queue_item_id).await? {
            None => None,
            Some(handle) => {
                check_run_id(&input.run_name)?;
                let lookup = &ctx.app().lookup;
                let destination = lookup.destinations(ctx.store(), &[handle.item]).await?.pop().flatten();
                match destination {
                    None => None,
                    Some(destination) => Some((
                        handle,
                        named_run(ctx.caller(), handle, &destination, &input.run_name, None, None).await?,
                    )),
                }
            }
        };
        let success = match run {
            None => false,
            Some(ack) => {
                let acked = ctx.store().ack(None, vec![ack], ctx.now()).await?;
                matches!(acked.first(), Some(Acked::Yes))
            }
        };
        Ok(AckRunQueueItemPayload {
            success,
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Names the runs of items.
    #[graphql(visible = "super::super::additions")]
    async fn ack_run_queue_items(&self, ctx: &Context<'_>, input: AckRunQueueItemsInput) -> Result<ItemResults> {
        ack_items(ctx.caller(), input).await
    }

    /// Records, before the workloads are created, that the items' attempts start.
    #[graphql(visible = "super::super::additions")]
    async fn start_run_queue_items(&self, ctx: &Context<'_>, input: StartRunQueueItemsInput) -> Result<ItemResults> {
        start_items(ctx.caller(), input).await
    }

    /// Notes that the items' workloads run.
    #[graphql(visible = "super::super::additions")]
    async fn mark_run_queue_items_running(
        &self,
        ctx: &Context<'_>,
        input: MarkRunQueueItemsRunningInput,
    ) -> Result<ItemResults> {
        let agent = find_own_agent(ctx.caller(), &input.launch_agent_id).await?;
        let batch = Batch::read(&agent, input.run_queue_item_ids)?;
        let answers = ctx.store().running(Some(agent.id), batch.handles(), ctx.now()).await?;
        Ok(batch.answer(answers.into_iter().map(settled), input.client_mutation_id))
    }

    /// Extends leases, and tells which items somebody asked to stop.
    #[graphql(visible = "super::super::additions")]
    async fn renew_run_queue_items(&self, ctx: &Context<'_>, input: RenewRunQueueItemsInput) -> Result<ItemResults> {
        renew_items(ctx.caller(), input).await
    }

    /// Ends items by what their agent saw.
    #[graphql(visible = "super::super::additions")]
    async fn finish_run_queue_items(&self, ctx: &Context<'_>, input: FinishRunQueueItemsInput) -> Result<ItemResults> {
        finish_items(ctx.caller(), input).await
    }

    /// Gives an item back to its queue.
    #[graphql(visible = "super::super::additions")]
    async fn return_run_queue_item(
        &self,
        ctx: &Context<'_>,
        input: ReturnRunQueueItemInput,
    ) -> Result<ReturnRunQueueItemPayload> {
        let agent = find_own_agent(ctx.caller(), &input.launch_agent_id).await?;
        let handle = held(ctx.caller(), &input.run_queue_item_id)
            .await?
            .ok_or_else(|| ApiError::bad("`runQueueItemId` must be the lease handle that the pop returned"))?;
        let cause = match input.cause {
            ReturnCause::Released => StoreCause::Released,
            ReturnCause::Absent => StoreCause::Absent,
            ReturnCause::Preempted => StoreCause::Preempted,
        };
        let answer = ctx.store().hand_back(Some(agent.id), handle, cause, ctx.now()).await?;
        Ok(ReturnRunQueueItemPayload {
            result: ItemResult::new(input.run_queue_item_id, settled(answer)),
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Fails an item. `success: false` if the lease has ended.
    async fn fail_run_queue_item(
        &self,
        ctx: &Context<'_>,
        input: FailRunQueueItemInput,
    ) -> Result<FailRunQueueItemPayload> {
        let success = match held(ctx.caller(), &input.run_queue_item_id).await? {
            None => false,
            Some(handle) => {
                let failure = Failure {
                    stage: input.stage,
                    message: shorten(input.message),
                    reason: "agent-report".to_owned(),
                    file_paths: input.file_paths.unwrap_or_default(),
                };
                ctx.store().fail(None, handle, failure, ctx.now()).await?.is_ok()
            }
        };
        Ok(FailRunQueueItemPayload {
            success,
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Attaches a warning to an item, in place of an earlier one; an empty message takes that away.
    /// `success: false` if the lease has ended.
    async fn update_run_queue_item_warning(
        &self,
        ctx: &Context<'_>,
        input: UpdateRunQueueItemWarningInput,
    ) -> Result<UpdateRunQueueItemWarningPayload> {
        let success = match held(ctx.caller(), &input.run_queue_item_id).await? {
            None => false,
            Some(handle) => {
                let warning = Failure {
                    stage: input.stage,
                    message: shorten(input.message),
                    reason: "agent-report".to_owned(),
                    file_paths: input.file_paths.unwrap_or_default(),
                };
                ctx.store().warn(None, handle, warning, ctx.now()).await?.is_ok()
            }
        };
        Ok(UpdateRunQueueItemWarningPayload {
            success,
            client_mutation_id: input.client_mutation_id,
        })
    }
}

/// Takes up to `limit` items of an agent's queues, in turn.
pub(in crate::graphql) async fn pop_items(
    ctx: &Caller,
    input: PopRunQueueItemsInput,
) -> Result<PopRunQueueItemsPayload> {
    let agent = find_own_agent(ctx, &input.launch_agent_id).await?;
    let limit = usize::try_from(input.limit)
        .ok()
        .filter(|limit| *limit <= MAX_BATCH)
        .ok_or_else(|| ApiError::bad(format!("`limit` must be between 0 and {MAX_BATCH}")))?;
    let wanted = input.queue_names;
    let mut chosen = Vec::new();
    let mut queues = HashMap::new();
    for id in &agent.queues {
        let queue = ctx.app().lookup.queue_name(ctx.store(), *id).await?;
        let queue = queue.filter(|queue| wanted.as_ref().is_none_or(|names| names.contains(&queue.name)));
        if let Some(queue) = queue {
            chosen.push(*id);
            queues.insert(*id, queue);
        }
    }
    let leased = ctx
        .store()
        .lease(Some(agent.id), chosen, limit, agent.managed, ctx.now())
        .await?;
    let mut items = Vec::with_capacity(leased.len());
    for leased in leased {
        let Some(spec) = handed_out(ctx, &leased).await? else {
            continue;
        };
        let config = ctx.app().lookup.config(ctx.store(), leased.item.revision).await?;
        let queue = queues.get(&leased.item.queue);
        let allowed_overrides = allowed_overrides(ctx, &config, queue, &leased.item, &spec).await?;
        items.push(LeasedItem {
            run_queue_item_id: ID(leased.handle.to_string()),
            run_spec: Json(spec.spec),
            queue_name: queue.map(|queue| queue.name.clone()).unwrap_or_default(),
            queue_entity: queue.map(|queue| queue.entity.clone()).unwrap_or_default(),
            attempt: leased.item.attempt,
            lease_term_millis: LEASE_TERM,
            origins: Json(json!(spec.origins)),
            template: !config.variables.is_empty(),
            allowed_overrides,
        });
    }
    Ok(PopRunQueueItemsPayload {
        items,
        client_mutation_id: input.client_mutation_id,
    })
}

/// Names the runs of items.
pub(in crate::graphql) async fn ack_items(ctx: &Caller, input: AckRunQueueItemsInput) -> Result<ItemResults> {
    let agent = find_own_agent(ctx, &input.launch_agent_id).await?;
    let ids = input.items.iter().map(|item| item.run_queue_item_id.clone()).collect();
    let mut batch = Batch::read(&agent, ids)?;
    let valid: Vec<(usize, LeaseHandle)> = batch.valid().collect();
    for (index, _) in &valid {
        check_run_id(&input.items[*index].run_name)?;
    }
    let destinations = ctx.app().lookup.destinations(ctx.store(), &batch.items()).await?;
    let mut acks = Vec::with_capacity(valid.len());
    for ((index, handle), destination) in valid.into_iter().zip(destinations) {
        let Some(destination) = destination else {
            batch.drop_handle(index);
            continue;
        };
        let item = &input.items[index];
        let (entity, project) = (item.entity_name.as_deref(), item.project_name.as_deref());
        let run = named_run(ctx, handle, &destination, &item.run_name, entity, project).await?;
        acks.push((handle, run));
    }
    let (store, now) = (ctx.store(), ctx.now());
    let answers = match input.start {
        Some(true) => store.ack_and_start(Some(agent.id), acks, now).await?,
        Some(false) | None => store.ack(Some(agent.id), acks, now).await?,
    };
    let answers = answers.into_iter().map(|acked| match acked {
        Acked::Yes => Ok(false),
        Acked::No(refusal) => Err(refused(refusal)),
        Acked::RunTaken => Err(RUN_TAKEN.to_owned()),
    });
    Ok(batch.answer(answers, input.client_mutation_id))
}

/// Records that the items' attempts start.
pub(in crate::graphql) async fn start_items(ctx: &Caller, input: StartRunQueueItemsInput) -> Result<ItemResults> {
    let agent = find_own_agent(ctx, &input.launch_agent_id).await?;
    let batch = Batch::read(&agent, input.run_queue_item_ids)?;
    let answers = ctx.store().start(Some(agent.id), batch.handles(), ctx.now()).await?;
    Ok(batch.answer(answers.into_iter().map(settled), input.client_mutation_id))
}

/// Extends leases.
pub(in crate::graphql) async fn renew_items(ctx: &Caller, input: RenewRunQueueItemsInput) -> Result<ItemResults> {
    let agent = find_own_agent(ctx, &input.launch_agent_id).await?;
    let batch = Batch::read(&agent, input.run_queue_item_ids)?;
    let answers = ctx.store().renew(agent.id, batch.handles(), ctx.now()).await?;
    let answers = answers.into_iter().map(|answer| answer.map_err(refused));
    Ok(batch.answer(answers, input.client_mutation_id))
}

/// Ends items by what their agent saw.
pub(in crate::graphql) async fn finish_items(ctx: &Caller, input: FinishRunQueueItemsInput) -> Result<ItemResults> {
    let agent = find_own_agent(ctx, &input.launch_agent_id).await?;
    let (ids, outcomes): (Vec<ID>, Vec<_>) = input
        .reports
        .into_iter()
        .map(|report| {
            let outcome = match report.outcome {
                ItemOutcome::Finished => Outcome::Finished,
                ItemOutcome::Killed => Outcome::Killed,
                ItemOutcome::Failed => Outcome::Failed(Failure {
                    stage: report.stage.unwrap_or_else(|| "run".to_owned()),
                    message: shorten(report.message.unwrap_or_default()),
                    reason: report.reason.unwrap_or_else(|| "failed".to_owned()),
                    file_paths: report.file_paths.unwrap_or_default(),
                }),
            };
            (report.run_queue_item_id, (outcome, report.exit_code))
        })
        .unzip();
    let batch = Batch::read(&agent, ids)?;
    let reports = batch
        .valid()
        .map(|(index, handle)| {
            let (outcome, exit_code) = outcomes[index].clone();
            Report {
                handle,
                outcome,
                exit_code,
            }
        })
        .collect();
    let answers = ctx.store().finish(Some(agent.id), reports, ctx.now()).await?;
    Ok(batch.answer(answers.into_iter().map(settled), input.client_mutation_id))
}

/// The spec that a lease hands out: final, with the run key. `None` if it cannot be derived; the
/// item then fails, since no later attempt could do better.
async fn handed_out(ctx: &Caller, leased: &Leased) -> Result<Option<FinalSpec>> {
    let config = ctx.app().lookup.config(ctx.store(), leased.item.revision).await?;
    match config.leased_spec(&leased.item) {
        Ok((mut final_spec, destination)) => {
            ctx.app().lookup.note_destination(leased.item.id, destination);
            if let Value::Object(spec) = &mut final_spec.spec {
                spec.insert(RUN_KEY.to_owned(), Value::String(ctx.app().auth.run_key(leased.handle)));
                spec.insert("author".to_owned(), Value::String(leased.item.author.clone()));
                // A later attempt goes on with the run of the earlier one.
                if let Some(run) = &leased.item.run {
                    spec.insert("run_id".to_owned(), Value::String(run.run.clone()));
                }
            }
            Ok(Some(final_spec))
        }
        Err(error) => {
            let failure = Failure {
                stage: "agent".to_owned(),
                message: "the item's spec does not fit its queue's configuration; push it again".to_owned(),
                reason: "spec-invalid".to_owned(),
                file_paths: Vec::new(),
            };
            tracing::error!(item = %leased.item.id, %error, "an item could not be handed out");
            // A refusal here means that the lease has ended already, and with it our concern.
            let _refused = ctx
                .store()
                .fail(leased.item.agent, leased.handle, failure, ctx.now())
                .await?;
            Ok(None)
        }
    }
}

/// What the agent, which checks a submitter's arguments again, has to let pass: what the queue allows
/// everybody, and whatever its owner put there.
async fn allowed_overrides(
    ctx: &Caller,
    config: &QueueConfig,
    queue: Option<&Arc<QueueName>>,
    item: &Item,
    spec: &FinalSpec,
) -> Result<Vec<String>> {
    let allowed = config.policy.allowed_overrides.clone();
    let resource = spec.spec.get("resource").and_then(Value::as_str).unwrap_or_default();
    let args = resource_args(&spec.spec, resource).and_then(|args| submitted(args, &spec.origins));
    let (Some(args), Ok(resource), Some(queue)) = (args, resource.parse::<Resource>(), queue) else {
        return Ok(allowed);
    };
    let guarded = !config.variables.is_empty() && not_allowed(&args, &allowed).is_some();
    if !guarded && check_submitter_args(resource, &args, &config.policy).is_ok() {
        return Ok(allowed);
    }
    // Such arguments come in only if an owner submits them, or moves somebody's item here.
    let record = ctx.store().events(Scope::Item(item.id), Position::default(), MAX_BATCH);
    let moves = record.await?.unwrap_or_default().into_iter().rev();
    let movers = moves.filter(|event| event.kind == "moved").map(|event| event.actor);
    for name in std::iter::once(item.author.clone()).chain(movers) {
        let person = ctx.store().principal(&name).await?.map(Principal::from);
        if person.is_some_and(|person| access::owns_queues(&person, &queue.entity)) {
            return Ok(vec![String::new()]);
        }
    }
    Ok(allowed)
}

/// The run that an acknowledgement names: where the item's spec says.
async fn named_run(
    ctx: &Caller,
    handle: LeaseHandle,
    destination: &Destination,
    run: &str,
    given_entity: Option<&str>,
    given_project: Option<&str>,
) -> Result<RunName> {
    let entity = match &destination.entity {
        Some(entity) => entity.clone(),
        None => ctx
            .app()
            .lookup
            .entity_name(ctx.store(), handle.item.entity)
            .await?
            .as_ref()
            .clone(),
    };
    if let Some(given) = given_entity.filter(|given| *given != entity) {
        return Err(ApiError::bad(format!(
            "the item's run goes to entity `{entity}`, not to `{given}`"
        )));
    }
    // The agent knows the project of a job that names none.
    let project = destination.project.clone().or_else(|| given_project.map(str::to_owned));
    Ok(RunName {
        entity,
        project: project.unwrap_or_else(|| DEFAULT_PROJECT.to_owned()),
        run: run.to_owned(),
    })
}

/// The lease that a single call names, if the caller may run agents there. A plain item id holds
/// no lease.
async fn held(ctx: &Caller, id: &ID) -> Result<Option<LeaseHandle>> {
    let Ok(handle) = id.parse::<LeaseHandle>() else {
        return Ok(None);
    };
    let entity = ctx.app().lookup.entity_name(ctx.store(), handle.item.entity).await?;
    access::run_agent(ctx.principal(), &entity)?;
    Ok(Some(handle))
}

fn shorten(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE)
            .rev()
            .find(|index| message.is_char_boundary(*index))
            .unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

/// What `ItemResult.error` says of a lease that has ended.
const STALE: &str = "stale";

/// What `ItemResult.error` says of a run that is neither the item's nor named by its spec.
const RUN_TAKEN: &str = "a run of that name exists already and is not this item's: name a new one, or push the item \
                         with its `run_id`";

/// The answer to a step that tells of no stop.
fn settled(answer: std::result::Result<(), Refusal>) -> std::result::Result<bool, String> {
    answer.map(|()| false).map_err(refused)
}

fn refused(refusal: Refusal) -> String {
    match refusal {
        Refusal::Stale => STALE.to_owned(),
        Refusal::State(_) => refusal.to_string(),
    }
}

/// The handles of a batch; those that are none are answered without asking the store.
struct Batch {
    ids: Vec<ID>,
    handles: Vec<Option<LeaseHandle>>,
}

impl Batch {
    /// Reads handles of items of the agent's entity.
    fn read(agent: &Agent, ids: Vec<ID>) -> Result<Self> {
        if ids.len() > MAX_BATCH {
            return Err(ApiError::bad(format!(
                "one call takes at most {MAX_BATCH} items, not {}",
                ids.len()
            )));
        }
        let read = |id: &ID| {
            id.parse()
                .ok()
                .filter(|handle: &LeaseHandle| handle.item.entity == agent.id.entity)
        };
        let handles = ids.iter().map(read).collect();
        Ok(Self { ids, handles })
    }

    /// Answers one of the batch as stale.
    fn drop_handle(&mut self, index: usize) {
        self.handles[index] = None;
    }

    /// The valid handles with their places in the batch.
    fn valid(&self) -> impl Iterator<Item = (usize, LeaseHandle)> {
        self.handles
            .iter()
            .enumerate()
            .filter_map(|(index, handle)| handle.map(|handle| (index, handle)))
    }

    fn items(&self) -> Vec<ItemId> {
        self.valid().map(|(_, handle)| handle.item).collect()
    }

    fn handles(&self) -> Vec<LeaseHandle> {
        self.valid().map(|(_, handle)| handle).collect()
    }

    /// Puts the answers for the valid handles beside the others.
    fn answer(
        self,
        answers: impl IntoIterator<Item = std::result::Result<bool, String>>,
        client_mutation_id: Option<String>,
    ) -> ItemResults {
        let mut answers = answers.into_iter();
        let results = self
            .ids
            .into_iter()
            .zip(self.handles)
            .map(|(id, handle)| {
                let answer = match handle {
                    None => Err(STALE.to_owned()),
                    Some(_) => answers.next().unwrap_or_else(|| Err(STALE.to_owned())),
                };
                ItemResult::new(id, answer)
            })
            .collect();
        ItemResults {
            results,
            client_mutation_id,
        }
    }
}

/// How a workload ended.
#[derive(Enum, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(rename_items = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ItemOutcome {
    /// Exit code 0.
    Finished,
    /// It ended otherwise, or could not be started.
    Failed,
    /// It ended because it was asked to.
    Killed,
}

/// Why a holder gives an item back.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(rename_items = "SCREAMING_SNAKE_CASE")]
enum ReturnCause {
    /// It was never started.
    Released,
    /// A start was recorded, but there is no workload of that attempt.
    Absent,
    /// The workload was preempted.
    Preempted,
}

/// What became of one item of a batch.
#[derive(SimpleObject, Serialize)]
#[serde(rename_all = "camelCase")]
struct ItemResult {
    run_queue_item_id: ID,
    success: bool,
    /// Whether somebody asked the item to stop.
    stop_requested: bool,
    /// Null, `stale`, or a sentence.
    error: Option<String>,
}

impl ItemResult {
    fn new(id: ID, answer: std::result::Result<bool, String>) -> Self {
        match answer {
            Ok(stop_requested) => Self {
                run_queue_item_id: id,
                success: true,
                stop_requested,
                error: None,
            },
            Err(error) => Self {
                run_queue_item_id: id,
                success: false,
                stop_requested: false,
                error: Some(error),
            },
        }
    }
}

/// What became of the items of a batch, in its order.
#[derive(SimpleObject, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::graphql) struct ItemResults {
    results: Vec<ItemResult>,
    #[serde(skip)]
    client_mutation_id: Option<String>,
}

/// What `popFromRunQueue` takes.
#[derive(InputObject)]
struct PopFromRunQueueInput {
    entity_name: Option<String>,
    project_name: Option<String>,
    queue_name: String,
    launch_agent_id: Option<ID>,
    client_mutation_id: Option<String>,
}

/// What `popFromRunQueue` answers.
#[derive(SimpleObject)]
struct PopFromRunQueuePayload {
    /// A lease handle.
    run_queue_item_id: ID,
    /// The final spec with the run key.
    run_spec: Json,
    client_mutation_id: Option<String>,
}

/// What `popRunQueueItems` takes.
#[derive(InputObject, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::graphql) struct PopRunQueueItemsInput {
    launch_agent_id: ID,
    /// Some of the agent's queues; null for all.
    queue_names: Option<Vec<String>>,
    limit: i32,
    client_mutation_id: Option<String>,
}

/// What `popRunQueueItems` answers.
#[derive(SimpleObject, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::graphql) struct PopRunQueueItemsPayload {
    items: Vec<LeasedItem>,
    #[serde(skip)]
    client_mutation_id: Option<String>,
}

/// An item that was just leased.
#[derive(SimpleObject, Serialize)]
#[serde(rename_all = "camelCase")]
struct LeasedItem {
    /// A lease handle.
    run_queue_item_id: ID,
    /// The final spec with the run key.
    run_spec: Json,
    queue_name: String,
    queue_entity: String,
    attempt: i64,
    /// For how long the lease lasts unless renewed.
    lease_term_millis: i64,
    /// Where each value of the final resource arguments comes from.
    origins: Json,
    /// Whether the queue has template variables.
    template: bool,
    /// Below which JSON pointers this submitter may set arguments; the empty one is all.
    allowed_overrides: Vec<String>,
}

/// What `ackRunQueueItem` takes.
#[derive(InputObject)]
struct AckRunQueueItemInput {
    run_queue_item_id: ID,
    run_name: String,
    client_mutation_id: Option<String>,
}

/// What `ackRunQueueItem` answers.
#[derive(SimpleObject)]
struct AckRunQueueItemPayload {
    success: bool,
    client_mutation_id: Option<String>,
}

/// What `ackRunQueueItems` takes.
#[derive(InputObject, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::graphql) struct AckRunQueueItemsInput {
    launch_agent_id: ID,
    #[serde(deserialize_with = "objects")]
    items: Vec<AckRunQueueItemsItemInput>,
    /// Also records that the attempts start, as `startRunQueueItems` does: for an agent that has nothing
    /// to prepare. By default it does not.
    start: Option<bool>,
    client_mutation_id: Option<String>,
}

/// One acknowledgement of `ackRunQueueItems`.
#[derive(InputObject, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AckRunQueueItemsItemInput {
    run_queue_item_id: ID,
    entity_name: Option<String>,
    project_name: Option<String>,
    run_name: String,
}

/// What `startRunQueueItems` takes.
#[derive(InputObject, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::graphql) struct StartRunQueueItemsInput {
    launch_agent_id: ID,
    run_queue_item_ids: Vec<ID>,
    client_mutation_id: Option<String>,
}

/// What `markRunQueueItemsRunning` takes.
#[derive(InputObject)]
struct MarkRunQueueItemsRunningInput {
    launch_agent_id: ID,
    run_queue_item_ids: Vec<ID>,
    client_mutation_id: Option<String>,
}

/// What `renewRunQueueItems` takes.
#[derive(InputObject, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::graphql) struct RenewRunQueueItemsInput {
    launch_agent_id: ID,
    run_queue_item_ids: Vec<ID>,
    client_mutation_id: Option<String>,
}

/// What `finishRunQueueItems` takes.
#[derive(InputObject, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::graphql) struct FinishRunQueueItemsInput {
    launch_agent_id: ID,
    #[serde(deserialize_with = "objects")]
    reports: Vec<FinishRunQueueItemsReportInput>,
    client_mutation_id: Option<String>,
}

/// One report of `finishRunQueueItems`.
#[derive(InputObject, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FinishRunQueueItemsReportInput {
    run_queue_item_id: ID,
    #[serde(deserialize_with = "word")]
    outcome: ItemOutcome,
    exit_code: Option<i64>,
    stage: Option<String>,
    message: Option<String>,
    reason: Option<String>,
    file_paths: Option<Vec<String>>,
}

/// What `returnRunQueueItem` takes.
#[derive(InputObject)]
struct ReturnRunQueueItemInput {
    launch_agent_id: ID,
    run_queue_item_id: ID,
    cause: ReturnCause,
    client_mutation_id: Option<String>,
}

/// What `returnRunQueueItem` answers.
#[derive(SimpleObject)]
struct ReturnRunQueueItemPayload {
    result: ItemResult,
    client_mutation_id: Option<String>,
}

/// What `failRunQueueItem` takes.
#[derive(InputObject)]
struct FailRunQueueItemInput {
    run_queue_item_id: ID,
    message: String,
    /// `agent`, `build`, `run`, or the target resource's name.
    stage: String,
    file_paths: Option<Vec<String>>,
    client_mutation_id: Option<String>,
}

/// What `failRunQueueItem` answers.
#[derive(SimpleObject)]
struct FailRunQueueItemPayload {
    success: bool,
    client_mutation_id: Option<String>,
}

/// What `updateRunQueueItemWarning` takes.
#[derive(InputObject)]
struct UpdateRunQueueItemWarningInput {
    run_queue_item_id: ID,
    message: String,
    /// `agent`, `build`, `run`, or the target resource's name.
    stage: String,
    file_paths: Option<Vec<String>>,
    client_mutation_id: Option<String>,
}

/// What `updateRunQueueItemWarning` answers.
#[derive(SimpleObject)]
struct UpdateRunQueueItemWarningPayload {
    success: bool,
    client_mutation_id: Option<String>,
}
