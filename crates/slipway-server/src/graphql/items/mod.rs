//! Queue items as the wire shows them.

pub(super) mod hold;
mod manage;
pub(super) mod push;

pub(super) use hold::HoldMutation;
pub(super) use manage::ManageMutation;
pub(super) use push::PushMutation;

use std::sync::Arc;

use async_graphql::{Context, ID, Object, SimpleObject};
use serde_json::json;
use slipway_model::id::{ItemRef, LeaseHandle};
use slipway_model::item::Failure;
use slipway_model::wait::{WaitFacts, wait_reason};
use slipway_store::Page;
use slipway_store::agents::Agent;
use slipway_store::events::{Event, Position, Scope};
use slipway_store::items::Item;
use slipway_store::queues::Queue;

use super::Result;
use super::agents::LaunchAgent;
use super::context::RequestContext as _;

use super::page::{PageInfo, page_size};
use super::runs::Run;
use super::scalars::{DateTime, Int64, Json};
use crate::{ApiError, access};

/// Finding items.
#[derive(Default)]
pub(crate) struct ItemQuery;

#[Object]
impl ItemQuery {
    /// An item, by its id or by a lease handle; null if there is none that the caller may see.
    #[graphql(visible = "super::additions")]
    async fn run_queue_item(&self, ctx: &Context<'_>, id: ID) -> Result<Option<RunQueueItem>> {
        RunQueueItem::find(ctx, &id).await
    }
}

/// A queue item.
#[derive(Clone)]
pub(crate) struct RunQueueItem(Arc<Item>);

impl RunQueueItem {
    /// The wire's item over a stored one.
    pub(crate) fn new(item: Item) -> Self {
        Self(Arc::new(item))
    }

    /// What is stored.
    pub(crate) fn item(&self) -> &Item {
        &self.0
    }

    /// Finds an item that the caller may see.
    pub(crate) async fn find(ctx: &Context<'_>, id: &str) -> Result<Option<Self>> {
        let Ok(reference) = id.parse::<ItemRef>() else {
            return Ok(None);
        };
        let Some(item) = ctx.store().item(reference.item).await? else {
            return Ok(None);
        };
        let entity = ctx.app().lookup.entity_name(ctx.store(), item.id.entity).await?;
        Ok(access::can_read_entity(ctx.principal(), &entity).then(|| Self::new(item)))
    }

    /// Finds an item that the caller may see, or says that it does not exist.
    pub(super) async fn get(ctx: &Context<'_>, id: &str) -> Result<Self> {
        let found = Self::find(ctx, id).await?;
        found.ok_or_else(|| ApiError::not_found("queue item", &id.chars().take(80).collect::<String>()))
    }

    /// The name of the entity that owns it.
    pub(super) async fn entity(&self, ctx: &Context<'_>) -> Result<Arc<String>> {
        ctx.app().lookup.entity_name(ctx.store(), self.0.id.entity).await
    }

    async fn queue(&self, ctx: &Context<'_>) -> Result<Option<Queue>> {
        Ok(ctx.store().queue_by_id(self.0.queue).await?)
    }

    async fn holder(&self, ctx: &Context<'_>) -> Result<Option<Agent>> {
        match self.0.agent {
            Some(agent) => Ok(ctx.store().agent(agent).await?),
            None => Ok(None),
        }
    }
}

#[Object]
impl RunQueueItem {
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    /// PENDING, LEASED, CLAIMED, RUNNING, FINISHED, FAILED, CRASHED or KILLED.
    async fn state(&self) -> &'static str {
        self.0.state.as_str()
    }

    /// The run's id, once an agent has acknowledged the item.
    async fn associated_run_id(&self) -> Option<&str> {
        self.0.run.as_ref().map(|run| run.run.as_str())
    }

    /// The lease handle while an agent holds the item; only for those who may run agents.
    #[graphql(visible = "super::additions")]
    async fn handle(&self, ctx: &Context<'_>) -> Result<Option<ID>> {
        let entity = self.entity(ctx).await?;
        let shown = self.0.state.is_held() && access::run_agent(ctx.principal(), &entity).is_ok();
        let handle = LeaseHandle {
            item: self.0.id,
            epoch: self.0.epoch,
        };
        Ok(shown.then(|| ID(handle.to_string())))
    }

    #[graphql(visible = "super::additions")]
    async fn queue_name(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        Ok(self.queue(ctx).await?.map(|queue| queue.name))
    }

    #[graphql(visible = "super::additions")]
    async fn queue_entity(&self, ctx: &Context<'_>) -> Result<String> {
        Ok(self.entity(ctx).await?.as_ref().clone())
    }

    /// The state in the word that people read.
    #[graphql(visible = "super::additions")]
    async fn label(&self, ctx: &Context<'_>) -> Result<&'static str> {
        let active = self.0.state != slipway_model::item::ItemState::Pending
            || !ctx.store().queue_agents(self.0.queue, ctx.now()).await?.is_empty();
        Ok(self.0.state.label(active))
    }

    /// 1, and one more for each requeue after a start.
    #[graphql(visible = "super::additions")]
    async fn attempt(&self) -> i64 {
        self.0.attempt
    }

    #[graphql(visible = "super::additions")]
    async fn priority(&self) -> i64 {
        self.0.priority.code()
    }

    /// Whom the run is attributed to.
    #[graphql(visible = "super::additions")]
    async fn author(&self) -> &str {
        &self.0.author
    }

    /// 1 for the item that runs next; null if it does not wait.
    #[graphql(visible = "super::additions")]
    async fn position(&self, ctx: &Context<'_>) -> Result<Option<i64>> {
        let position = ctx.store().position(self.0.id).await?;
        Ok(position.and_then(|position| i64::try_from(position).ok()))
    }

    /// Why it waits; null if it does not.
    #[graphql(visible = "super::additions")]
    async fn wait_reason(&self, ctx: &Context<'_>) -> Result<Option<WaitReason>> {
        if self.0.state.is_terminal() {
            return Ok(None);
        }
        let agents = ctx.store().queue_agents(self.0.queue, ctx.now()).await?;
        let facts = WaitFacts {
            state: self.0.state,
            position: ctx.store().position(self.0.id).await?,
            paused: self.queue(ctx).await?.is_some_and(|queue| queue.paused),
            agents: agents.into_iter().map(|(_, load)| load).collect(),
            leased_at: self.0.leased_at,
            holder: self.holder(ctx).await?.map(|agent| agent.name),
            holder_lost_since: self.0.lost_since,
            warning: self.0.warning.as_ref().map(|warning| warning.message.clone()),
        };
        Ok(wait_reason(&facts).map(|reason| WaitReason {
            code: reason.code(),
            sentence: reason.sentence(ctx.now()),
        }))
    }

    /// Why it failed.
    #[graphql(visible = "super::additions")]
    async fn failure(&self) -> Option<ItemFailure> {
        self.0.failure.clone().map(ItemFailure::from)
    }

    /// The last warning.
    #[graphql(visible = "super::additions")]
    async fn warning(&self) -> Option<ItemFailure> {
        self.0.warning.clone().map(ItemFailure::from)
    }

    #[graphql(visible = "super::additions")]
    async fn run_name(&self) -> Option<&str> {
        self.0.run.as_ref().map(|run| run.run.as_str())
    }

    #[graphql(visible = "super::additions")]
    async fn run_entity(&self) -> Option<&str> {
        self.0.run.as_ref().map(|run| run.entity.as_str())
    }

    #[graphql(visible = "super::additions")]
    async fn run_project(&self) -> Option<&str> {
        self.0.run.as_ref().map(|run| run.project.as_str())
    }

    /// The run that it launched, if the caller may see it.
    #[graphql(visible = "super::additions")]
    async fn run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
        let Some(name) = &self.0.run else {
            return Ok(None);
        };
        if !access::can_read_project(ctx.principal(), &name.entity, &name.project) {
            return Ok(None);
        }
        Ok(ctx.store().run(name).await?.map(|run| Run(Arc::new(run))))
    }

    /// The agent that holds it, or held it last.
    #[graphql(visible = "super::additions")]
    async fn agent(&self, ctx: &Context<'_>) -> Result<Option<LaunchAgent>> {
        Ok(self.holder(ctx).await?.map(LaunchAgent::new))
    }

    #[graphql(visible = "super::additions")]
    async fn exit_code(&self) -> Option<i64> {
        self.0.exit_code
    }

    /// Whether somebody asked it to stop.
    #[graphql(visible = "super::additions")]
    async fn stop_requested(&self) -> bool {
        self.0.stop_requested
    }

    #[graphql(visible = "super::additions")]
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    #[graphql(visible = "super::additions")]
    async fn leased_at(&self) -> Option<DateTime> {
        self.0.leased_at.map(DateTime)
    }

    #[graphql(visible = "super::additions")]
    async fn started_at(&self) -> Option<DateTime> {
        self.0.started_at.map(DateTime)
    }

    #[graphql(visible = "super::additions")]
    async fn ended_at(&self) -> Option<DateTime> {
        self.0.ended_at.map(DateTime)
    }

    /// The submitter's part of the spec.
    #[graphql(visible = "super::additions")]
    async fn submitted_spec(&self) -> Json {
        Json::from_text(&self.0.spec)
    }

    /// What a pop hands out, without the run key.
    #[graphql(visible = "super::additions")]
    async fn final_spec(&self, ctx: &Context<'_>) -> Result<Json> {
        let config = ctx.app().lookup.config(ctx.store(), self.0.revision).await?;
        Ok(Json(config.final_spec(&self.0)?.spec))
    }

    /// Where each value of the final resource arguments comes from.
    #[graphql(visible = "super::additions")]
    async fn origins(&self, ctx: &Context<'_>) -> Result<Json> {
        let config = ctx.app().lookup.config(ctx.store(), self.0.revision).await?;
        Ok(Json(json!(config.final_spec(&self.0)?.origins)))
    }

    /// The item's history, oldest first.
    #[graphql(visible = "super::additions")]
    async fn events(&self, ctx: &Context<'_>, after: Option<String>, first: Option<i32>) -> Result<Vec<ItemEvent>> {
        let after = match after.as_deref() {
            None => Position::default(),
            Some(text) => text
                .parse()
                .map_err(|()| ApiError::bad("`after` must be the position of an event"))?,
        };
        let limit = page_size(first, 200)?;
        let events = ctx.store().events(Scope::Item(self.0.id), after, limit).await?;
        Ok(events.unwrap_or_default().into_iter().map(ItemEvent::from).collect())
    }

    /// Captured output, from a byte position on.
    #[graphql(visible = "super::additions")]
    async fn output(
        &self,
        ctx: &Context<'_>,
        attempt: Option<i64>,
        from: Option<Int64>,
        limit: Option<i32>,
    ) -> Result<ItemOutput> {
        const MAX: i32 = 1 << 20;
        let attempt = attempt.unwrap_or(self.0.attempt);
        let from = from.map_or(0, |from| from.0).max(0);
        let limit = limit.unwrap_or(MAX).clamp(0, MAX).unsigned_abs() as usize;
        let piece = crate::output::read(ctx.store(), self.0.id, attempt, from, limit).await?;
        let end = ctx.store().output_end(self.0.id, attempt).await?;
        Ok(ItemOutput {
            offset: Int64(piece.offset),
            end: Int64(piece.end()),
            complete: piece.end() >= end && (self.0.state.is_terminal() || attempt < self.0.attempt),
            text: String::from_utf8_lossy(&piece.bytes).into_owned(),
        })
    }
}

/// Why an item waits.
#[derive(SimpleObject)]
#[graphql(name = "RunQueueItemWaitReason")]
pub(crate) struct WaitReason {
    /// Stable.
    code: &'static str,
    /// For people.
    sentence: String,
}

/// A failure or a warning.
#[derive(SimpleObject)]
#[graphql(name = "RunQueueItemFailure")]
pub(crate) struct ItemFailure {
    stage: String,
    message: String,
    /// A stable code.
    reason: String,
    file_paths: Vec<String>,
}

impl From<Failure> for ItemFailure {
    fn from(failure: Failure) -> Self {
        Self {
            stage: failure.stage,
            message: failure.message,
            reason: failure.reason,
            file_paths: failure.file_paths,
        }
    }
}

/// One entry of an item's history.
#[derive(SimpleObject)]
pub(crate) struct ItemEvent {
    position: String,
    at: DateTime,
    kind: String,
    /// A user, an agent's name, or empty for the server.
    actor: String,
    detail: Json,
}

impl From<Event> for ItemEvent {
    fn from(event: Event) -> Self {
        Self {
            position: event.position.to_string(),
            at: DateTime(event.at),
            kind: event.kind,
            actor: event.actor,
            detail: Json::from_text(&event.detail),
        }
    }
}

/// A piece of captured output.
#[derive(SimpleObject)]
pub(crate) struct ItemOutput {
    /// The position of its first byte.
    offset: Int64,
    /// The position after its last byte, from which to go on.
    end: Int64,
    text: String,
    /// Whether nothing will follow.
    complete: bool,
}

/// Items.
#[derive(SimpleObject)]
pub(crate) struct RunQueueItemConnection {
    edges: Vec<RunQueueItemEdge>,
    page_info: PageInfo,
}

impl RunQueueItemConnection {
    /// A page by item number.
    pub(super) fn listed(page: Page<Item>) -> Self {
        Self::build(page, |_, item| item.id.number.to_string())
    }

    /// A page by place in the queue.
    pub(super) fn waiting(page: Page<Item>, offset: usize) -> Self {
        Self::build(page, |index, _| (offset + index + 1).to_string())
    }

    fn build(page: Page<Item>, cursor: impl Fn(usize, &Item) -> String) -> Self {
        let edges: Vec<RunQueueItemEdge> = page
            .rows
            .into_iter()
            .enumerate()
            .map(|(index, item)| RunQueueItemEdge {
                cursor: cursor(index, &item),
                node: RunQueueItem::new(item),
            })
            .collect();
        Self {
            page_info: PageInfo {
                end_cursor: edges.last().map(|edge| edge.cursor.clone()),
                has_next_page: page.more,
            },
            edges,
        }
    }
}

/// An item in a listing.
#[derive(SimpleObject)]
pub(crate) struct RunQueueItemEdge {
    node: RunQueueItem,
    cursor: String,
}
