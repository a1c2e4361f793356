//! What people do with items: cancel, retry, move, delete.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use slipway_model::id::{ItemRef, QueueId};
use slipway_model::priority::Priority;
use slipway_model::queue::{Prioritization, QUEUE_PROJECT};
use slipway_store::queues::Queue;

use super::super::Result;
use super::super::context::RequestContext as _;
use super::RunQueueItem;
use crate::error::Code;
use crate::{ApiError, access, again};

/// What people do with items.
#[derive(Default)]
pub(crate) struct ManageMutation;

#[Object]
impl ManageMutation {
    /// Deletes an item that waits or has ended.
    async fn delete_from_run_queue(
        &self,
        ctx: &Context<'_>,
        input: DeleteFromRunQueueInput,
    ) -> Result<DeleteFromRunQueuePayload> {
        let queue: QueueId = input.queue_id.parse()?;
        let reference: ItemRef = input.run_queue_item_id.parse()?;
        let found = RunQueueItem::find(ctx, &input.run_queue_item_id).await?;
        let success = match found.filter(|item| item.item().queue == queue) {
            None => false,
            Some(item) => {
                access::manage_items(ctx.principal(), &item.entity(ctx).await?)?;
                let author = ctx.principal().author();
                ctx.store().delete_item(reference.item, author, ctx.now()).await?
            }
        };
        Ok(DeleteFromRunQueuePayload {
            success,
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Cancels an item: at once while it waits, otherwise by asking its holder to stop it.
    #[graphql(visible = "super::super::additions")]
    async fn cancel_run_queue_item(
        &self,
        ctx: &Context<'_>,
        input: CancelRunQueueItemInput,
    ) -> Result<CancelRunQueueItemPayload> {
        let item = manageable(ctx, &input.run_queue_item_id).await?;
        let author = ctx.principal().author();
        let item = ctx.store().cancel(item.item().id, author, ctx.now()).await?;
        Ok(CancelRunQueueItemPayload {
            item: RunQueueItem::new(item),
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Pushes an ended item again, as a new item.
    #[graphql(visible = "super::super::additions")]
    async fn retry_run_queue_item(
        &self,
        ctx: &Context<'_>,
        input: RetryRunQueueItemInput,
    ) -> Result<RetryRunQueueItemPayload> {
        let item = manageable(ctx, &input.run_queue_item_id).await?;
        let principal = ctx.principal();
        again::may_retry(ctx.app(), principal, item.item()).await?;
        let again = ctx
            .store()
            .retry(item.item().id, principal.author(), principal.key_id, ctx.now())
            .await?;
        Ok(RetryRunQueueItemPayload {
            item: RunQueueItem::new(again),
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Moves a waiting item to another queue of its entity, or changes its priority.
    #[graphql(visible = "super::super::additions")]
    async fn move_run_queue_item(
        &self,
        ctx: &Context<'_>,
        input: MoveRunQueueItemInput,
    ) -> Result<MoveRunQueueItemPayload> {
        let item = manageable(ctx, &input.run_queue_item_id).await?;
        let entity = item.entity(ctx).await?;
        let stored = item.item();
        let current = ctx
            .store()
            .queue_by_id(stored.queue)
            .await?
            .ok_or_else(|| ApiError::not_found("queue", &stored.queue.to_string()))?;
        let target = match &input.queue_name {
            None => current,
            // Who names the queue that it is in, and a priority, wants that priority.
            Some(name) if *name == current.name && input.project_name.is_none() && input.priority.is_some() => current,
            Some(name) => {
                let target = queue_named(ctx, &entity, input.project_name.as_deref(), &current, name).await?;
                let resource = |queue: &Queue| queue.revision.as_ref().map(|r| r.resource);
                if resource(&target) != resource(&current) {
                    return Err(ApiError::bad(format!(
                        "queue `{name}` has another target resource than `{}`: push the job there instead",
                        current.name
                    )));
                }
                if target.id == current.id && input.project_name.is_none() {
                    return Err(ApiError::new(
                        Code::Conflict,
                        format!(
                            "the item is in queue `{name}` of project `{}` already, and there is no other of this name \
                             beside it or in `{QUEUE_PROJECT}`",
                            current.project
                        ),
                    ));
                }
                target
            }
        };
        again::may_move(ctx.app(), ctx.principal(), stored, &target).await?;
        let priority = input.priority.map(Priority::from_code).transpose()?;
        if target.prioritization == Prioritization::Disabled && priority.is_some_and(|p| p != Priority::Medium) {
            return Err(ApiError::bad(format!(
                "queue `{}` has no prioritization: leave the priority out, or have its owner enable it",
                target.name
            )));
        }
        let moved = ctx
            .store()
            .move_item(
                stored.id,
                input.queue_name.is_some().then_some(target.id),
                priority,
                ctx.principal().author(),
                ctx.now(),
            )
            .await?;
        Ok(MoveRunQueueItemPayload {
            item: RunQueueItem::new(moved),
            client_mutation_id: input.client_mutation_id,
        })
    }
}

/// Finds the queue that an item is to move to: in the project that the caller names, else beside the
/// item's own queue, else where queues usually are. The item's own counts if there is no other of its name.
async fn queue_named(
    ctx: &Context<'_>,
    entity: &str,
    project: Option<&str>,
    current: &Queue,
    name: &str,
) -> Result<Queue> {
    let projects = match project {
        Some(project) => vec![project],
        None => vec![current.project.as_str(), QUEUE_PROJECT],
    };
    let mut own = None;
    for project in projects {
        match ctx.store().queue(entity, project, name).await? {
            Some(queue) if queue.id == current.id => own = Some(queue),
            Some(queue) => return Ok(queue),
            None => {}
        }
    }
    own.ok_or_else(|| ApiError::not_found("queue", name))
}

/// Finds an item that the caller may manage: a member of its entity.
async fn manageable(ctx: &Context<'_>, id: &ID) -> Result<RunQueueItem> {
    let item = RunQueueItem::get(ctx, id).await?;
    access::manage_items(ctx.principal(), &item.entity(ctx).await?)?;
    Ok(item)
}

/// What `deleteFromRunQueue` takes.
#[derive(InputObject)]
struct DeleteFromRunQueueInput {
    #[graphql(name = "queueID")]
    queue_id: ID,
    run_queue_item_id: ID,
    client_mutation_id: Option<String>,
}

/// What `deleteFromRunQueue` answers.
#[derive(SimpleObject)]
struct DeleteFromRunQueuePayload {
    success: bool,
    client_mutation_id: Option<String>,
}

/// What `cancelRunQueueItem` takes.
#[derive(InputObject)]
struct CancelRunQueueItemInput {
    run_queue_item_id: ID,
    client_mutation_id: Option<String>,
}

/// What `cancelRunQueueItem` answers.
#[derive(SimpleObject)]
struct CancelRunQueueItemPayload {
    item: RunQueueItem,
    client_mutation_id: Option<String>,
}

/// What `retryRunQueueItem` takes.
#[derive(InputObject)]
struct RetryRunQueueItemInput {
    run_queue_item_id: ID,
    client_mutation_id: Option<String>,
}

/// What `retryRunQueueItem` answers.
#[derive(SimpleObject)]
struct RetryRunQueueItemPayload {
    /// The new item.
    item: RunQueueItem,
    client_mutation_id: Option<String>,
}

/// What `moveRunQueueItem` takes.
#[derive(InputObject)]
struct MoveRunQueueItemInput {
    run_queue_item_id: ID,
    queue_name: Option<String>,
    /// The project of that queue; that of the item's own queue, else `model-registry`, if absent.
    project_name: Option<String>,
    /// 0 critical, 1 high, 2 medium, 3 low.
    priority: Option<i64>,
    client_mutation_id: Option<String>,
}

/// What `moveRunQueueItem` answers.
#[derive(SimpleObject)]
struct MoveRunQueueItemPayload {
    item: RunQueueItem,
    client_mutation_id: Option<String>,
}
