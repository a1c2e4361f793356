//! Queue items as the wire shows them.

pub(super) mod hold;
mod manage;
pub(super) mod push;

pub(super) use hold::HoldMutation;
pub(super) use manage::ManageMutation;
pub(super) use push::PushMutation;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_graphql::{Context, ID, Object, SimpleObject};
use serde_json::json;
use slipway_model::id::{ItemRef, LeaseHandle, RunName};
use slipway_model::item::{Failure, ItemState};
use slipway_model::spec::LaunchSpec;
use slipway_model::wait::{WaitFacts, wait_reason};
use slipway_store::Page;
use slipway_store::agents::Agent;
use slipway_store::events::{Event, Position, Scope};
use slipway_store::items::{Item, Surroundings};
use slipway_store::queues::Queue;
use tokio::sync::OnceCell;

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

/// Items that were listed together. What surrounds them is read for all of them, once, when it is
/// first asked for.
struct Listed {
    items: Vec<Item>,
    surroundings: OnceCell<Surroundings>,
    runs: OnceCell<HashMap<RunName, Run>>,
}

impl Listed {
    async fn surroundings(&self, ctx: &Context<'_>) -> Result<&Surroundings> {
        let read = || async { Ok(ctx.store().surroundings(&self.items, ctx.now()).await?) };
        self.surroundings.get_or_try_init(read).await
    }

    /// The runs that the caller may see.
    async fn runs(&self, ctx: &Context<'_>) -> Result<&HashMap<RunName, Run>> {
        let read = || async {
            let names = self.items.iter().filter_map(|item| item.run.as_ref());
            let visible = |name: &&RunName| access::can_read_project(ctx.principal(), &name.entity, &name.project);
            let names: HashSet<RunName> = names.filter(visible).cloned().collect();
            let runs = ctx.store().runs_named(names.into_iter().collect()).await?;
            Ok(runs
                .into_iter()
                .map(|run| (run.name.clone(), Run(Arc::new(run))))
                .collect())
        };
        self.runs.get_or_try_init(read).await
    }
}

/// A queue item.
#[derive(Clone)]
pub(crate) struct RunQueueItem {
    /// The items with which it was listed.
    listed: Arc<Listed>,
    /// Its place among them.
    index: usize,
}

impl RunQueueItem {
    /// The wire's item over a stored one.
    pub(crate) fn new(item: Item) -> Self {
        Self {
            listed: Arc::new(Listed {
                items: vec![item],
                surroundings: OnceCell::new(),
                runs: OnceCell::new(),
            }),
            index: 0,
        }
    }

    /// The wire's items over stored ones that are listed together.
    pub(crate) fn listed(items: Vec<Item>) -> impl Iterator<Item = Self> {
        let count = items.len();
        let listed = Arc::new(Listed {
            items,
            surroundings: OnceCell::new(),
            runs: OnceCell::new(),
        });
        (0..count).map(move |index| Self {
            listed: Arc::clone(&listed),
            index,
        })
    }

    /// What is stored.
    pub(crate) fn item(&self) -> &Item {
        &self.listed.items[self.index]
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
        ctx.app().lookup.entity_name(ctx.store(), self.item().id.entity).await
    }
}

#[Object]
impl RunQueueItem {
    async fn id(&self) -> ID {
        ID(self.item().id.to_string())
    }

    /// PENDING, LEASED, CLAIMED, RUNNING, FINISHED, FAILED, CRASHED or KILLED.
    async fn state(&self) -> &'static str {
        self.item().state.as_str()
    }

    /// The run's id, once an agent has acknowledged the item.
    async fn associated_run_id(&self) -> Option<&str> {
        self.item().run.as_ref().map(|run| run.run.as_str())
    }

    /// The lease handle while an agent holds the item; only for those who may run agents.
    #[graphql(visible = "super::additions")]
    async fn handle(&self, ctx: &Context<'_>) -> Result<Option<ID>> {
        let entity = self.entity(ctx).await?;
        let shown = self.item().state.is_held() && access::run_agent(ctx.principal(), &entity).is_ok();
        let handle = LeaseHandle {
            item: self.item().id,
            epoch: self.item().epoch,
        };
        Ok(shown.then(|| ID(handle.to_string())))
    }

    #[graphql(visible = "super::additions")]
    async fn queue_name(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        let queues = &self.listed.surroundings(ctx).await?.queues;
        Ok(queues.get(&self.item().queue).map(|queue| queue.name.clone()))
    }

    #[graphql(visible = "super::additions")]
    async fn queue_entity(&self, ctx: &Context<'_>) -> Result<String> {
        Ok(self.entity(ctx).await?.as_ref().clone())
    }

    /// The state in the word that people read.
    #[graphql(visible = "super::additions")]
    async fn label(&self, ctx: &Context<'_>) -> Result<&'static str> {
        let item = self.item();
        let active =
            item.state != ItemState::Pending || self.listed.surroundings(ctx).await?.serving.contains_key(&item.queue);
        Ok(item.state.label(active))
    }

    /// 1, and one more for each requeue after a start.
    #[graphql(visible = "super::additions")]
    async fn attempt(&self) -> i64 {
        self.item().attempt
    }

    #[graphql(visible = "super::additions")]
    async fn priority(&self) -> i64 {
        self.item().priority.code()
    }

    /// The job or image that it runs.
    #[graphql(visible = "super::additions")]
    async fn job(&self) -> Option<String> {
        let spec = LaunchSpec::parse(&self.item().spec).ok()?;
        spec.job().or_else(|| spec.docker_image()).map(str::to_owned)
    }

    /// Whom the run is attributed to.
    #[graphql(visible = "super::additions")]
    async fn author(&self) -> &str {
        &self.item().author
    }

    /// 1 for the item that runs next; null if it does not wait.
    #[graphql(visible = "super::additions")]
    async fn position(&self, ctx: &Context<'_>) -> Result<Option<i64>> {
        let item = self.item();
        if item.state != ItemState::Pending {
            return Ok(None);
        }
        let position = self.listed.surroundings(ctx).await?.positions.get(&item.id);
        Ok(position.and_then(|position| i64::try_from(*position).ok()))
    }

    /// Why it waits; null if it does not.
    #[graphql(visible = "super::additions")]
    async fn wait_reason(&self, ctx: &Context<'_>) -> Result<Option<WaitReason>> {
        let item = self.item();
        if item.state.is_terminal() {
            return Ok(None);
        }
        let around = self.listed.surroundings(ctx).await?;
        let serving = around.serving.get(&item.queue).into_iter().flatten();
        let queue = around.queues.get(&item.queue);
        let facts = WaitFacts {
            state: item.state,
            queue: queue.map(Queue::full_name),
            position: around.positions.get(&item.id).copied(),
            paused: queue.is_some_and(|queue| queue.paused),
            agents: serving.map(|(_, load)| load.clone()).collect(),
            leased_at: item.leased_at,
            holder: holder(item, around).map(|agent| agent.name.clone()),
            holder_lost_since: item.lost_since,
            warning: item.warning.as_ref().map(|warning| warning.message.clone()),
        };
        Ok(wait_reason(&facts).map(|reason| WaitReason {
            code: reason.code(),
            sentence: reason.sentence(ctx.now()),
        }))
    }

    /// Why it failed.
    #[graphql(visible = "super::additions")]
    async fn failure(&self) -> Option<ItemFailure> {
        self.item().failure.clone().map(ItemFailure::from)
    }

    /// The last warning.
    #[graphql(visible = "super::additions")]
    async fn warning(&self) -> Option<ItemFailure> {
        self.item().warning.clone().map(ItemFailure::from)
    }

    #[graphql(visible = "super::additions")]
    async fn run_name(&self) -> Option<&str> {
        self.item().run.as_ref().map(|run| run.run.as_str())
    }

    #[graphql(visible = "super::additions")]
    async fn run_entity(&self) -> Option<&str> {
        self.item().run.as_ref().map(|run| run.entity.as_str())
    }

    #[graphql(visible = "super::additions")]
    async fn run_project(&self) -> Option<&str> {
        self.item().run.as_ref().map(|run| run.project.as_str())
    }

    /// The run that it launched, if the caller may see it.
    #[graphql(visible = "super::additions")]
    async fn run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
        match &self.item().run {
            Some(name) => Ok(self.listed.runs(ctx).await?.get(name).cloned()),
            None => Ok(None),
        }
    }

    /// The agent that holds it, or held it last.
    #[graphql(visible = "super::additions")]
    async fn agent(&self, ctx: &Context<'_>) -> Result<Option<LaunchAgent>> {
        if self.item().agent.is_none() {
            return Ok(None);
        }
        let holder = holder(self.item(), self.listed.surroundings(ctx).await?);
        Ok(holder.cloned().map(LaunchAgent::new))
    }

    #[graphql(visible = "super::additions")]
    async fn exit_code(&self) -> Option<i64> {
        self.item().exit_code
    }

    /// Whether somebody asked it to stop.
    #[graphql(visible = "super::additions")]
    async fn stop_requested(&self) -> bool {
        self.item().stop_requested
    }

    #[graphql(visible = "super::additions")]
    async fn created_at(&self) -> DateTime {
        DateTime(self.item().created_at)
    }

    #[graphql(visible = "super::additions")]
    async fn leased_at(&self) -> Option<DateTime> {
        self.item().leased_at.map(DateTime)
    }

    #[graphql(visible = "super::additions")]
    async fn started_at(&self) -> Option<DateTime> {
        self.item().started_at.map(DateTime)
    }

    #[graphql(visible = "super::additions")]
    async fn ended_at(&self) -> Option<DateTime> {
        self.item().ended_at.map(DateTime)
    }

    /// The submitter's part of the spec.
    #[graphql(visible = "super::additions")]
    async fn submitted_spec(&self) -> Json {
        Json::from_text(&self.item().spec)
    }

    /// What a pop hands out, without the run key.
    #[graphql(visible = "super::additions")]
    async fn final_spec(&self, ctx: &Context<'_>) -> Result<Json> {
        let config = ctx.app().lookup.config(ctx.store(), self.item().revision).await?;
        Ok(Json(config.final_spec(self.item())?.spec))
    }

    /// Where each value of the final resource arguments comes from.
    #[graphql(visible = "super::additions")]
    async fn origins(&self, ctx: &Context<'_>) -> Result<Json> {
        let config = ctx.app().lookup.config(ctx.store(), self.item().revision).await?;
        Ok(Json(json!(config.final_spec(self.item())?.origins)))
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
        let events = ctx.store().events(Scope::Item(self.item().id), after, limit).await?;
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
        let attempt = attempt.unwrap_or(self.item().attempt);
        let from = from.map_or(0, |from| from.0).max(0);
        let limit = limit.unwrap_or(MAX).clamp(0, MAX).unsigned_abs() as usize;
        let piece = crate::output::read(ctx.store(), self.item().id, attempt, from, limit).await?;
        let end = ctx.store().output_end(self.item().id, attempt).await?;
        Ok(ItemOutput {
            offset: Int64(piece.offset),
            end: Int64(piece.end()),
            complete: piece.end() >= end && (self.item().state.is_terminal() || attempt < self.item().attempt),
            text: String::from_utf8_lossy(&piece.bytes).into_owned(),
        })
    }
}

/// The agent that holds an item, or held it last.
fn holder<'a>(item: &Item, around: &'a Surroundings) -> Option<&'a Agent> {
    item.agent.and_then(|agent| around.holders.get(&agent))
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
            kind: event.kind.into_owned(),
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
        let edges: Vec<RunQueueItemEdge> = RunQueueItem::listed(page.rows)
            .enumerate()
            .map(|(index, node)| RunQueueItemEdge {
                cursor: cursor(index, node.item()),
                node,
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
