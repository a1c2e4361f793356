//! Queues as the wire shows them.

mod change;

pub(super) use change::QueueMutation;

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, Object, SimpleObject};
use serde_json::json;
use slipway_model::id::RevisionId;
use slipway_model::item::ItemState;
use slipway_model::queue::{Access, Prioritization, QueuePolicy};
use slipway_store::items::ItemFilter;
use slipway_store::queues::{Queue, QueueCounts, Revision};

use super::Result;
use super::agents::LaunchAgent;
use super::context::RequestContext as _;
use super::items::{RunQueueItem, RunQueueItemConnection};
use super::page::{bad_cursor, page_size};
use super::scalars::{DateTime, Json, JsonString};
use crate::{ApiError, access};

/// How the official API spells who may see a queue.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(
    name = "RunQueueAccessType",
    rename_items = "SCREAMING_SNAKE_CASE",
    remote = "Access"
)]
pub(super) enum AccessType {
    /// Every member of the entity.
    Project,
    /// The user alone.
    User,
}

/// Whether submitters may set priorities.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(
    name = "RunQueuePrioritizationMode",
    rename_items = "SCREAMING_SNAKE_CASE",
    remote = "Prioritization"
)]
pub(super) enum PrioritizationMode {
    /// First in, first out.
    Disabled,
    /// By priority, then by submission.
    V0,
}

/// Finding queues.
#[derive(Default)]
pub(crate) struct QueueQuery;

#[Object]
impl QueueQuery {
    /// Every queue of an entity, or of every entity, that the caller sees.
    #[graphql(visible = "super::additions")]
    async fn run_queues(&self, ctx: &Context<'_>, entity_name: Option<String>) -> Result<Vec<RunQueue>> {
        let entities: Vec<String> = match entity_name {
            Some(name) => {
                access::read_entity(ctx.principal(), &name)?;
                vec![name]
            }
            None => access::readable_entities(ctx.store(), ctx.principal()).await?,
        };
        let mut queues = Vec::new();
        for entity in entities {
            queues.extend(ctx.store().queues(&entity, None).await?);
        }
        Ok(queues.into_iter().map(RunQueue::new).collect())
    }
}

/// The queues of a project, for those who see its entity: a job that sees only the project does not.
pub(crate) struct ProjectQueues(pub(crate) Arc<slipway_store::projects::Project>);

#[Object]
impl ProjectQueues {
    /// Every queue of the project, by name.
    async fn run_queues(&self, ctx: &Context<'_>) -> Result<Vec<RunQueue>> {
        if !access::can_read_entity(ctx.principal(), &self.0.entity) {
            return Ok(Vec::new());
        }
        let queues = ctx.store().queues(&self.0.entity, Some(&self.0.name)).await?;
        Ok(queues.into_iter().map(RunQueue::new).collect())
    }

    /// One queue; null if there is none.
    async fn run_queue(&self, ctx: &Context<'_>, name: String) -> Result<Option<RunQueue>> {
        if !access::can_read_entity(ctx.principal(), &self.0.entity) {
            return Ok(None);
        }
        let queue = ctx.store().queue(&self.0.entity, &self.0.name, &name).await?;
        Ok(queue.map(RunQueue::new))
    }
}

/// The queue configurations of an entity.
pub(crate) struct EntityQueues(pub(crate) Arc<slipway_store::identity::Entity>);

#[Object]
impl EntityQueues {
    /// A revision of a queue's configuration; null if there is none.
    async fn default_resource_config(&self, ctx: &Context<'_>, id: ID) -> Result<Option<DefaultResourceConfig>> {
        let Ok(id) = id.parse::<RevisionId>() else {
            return Ok(None);
        };
        if id.entity != self.0.id || !access::can_read_entity(ctx.principal(), &self.0.name) {
            return Ok(None);
        }
        Ok(ctx.store().revision(id).await?.map(DefaultResourceConfig))
    }
}

/// A revision of a queue's configuration.
pub(crate) struct DefaultResourceConfig(Revision);

#[Object]
impl DefaultResourceConfig {
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    /// `{"resource_args": {"<resource>": {…}}}`, template variables and macros as written.
    async fn config(&self) -> Json {
        Json::from_text(&self.0.config)
    }

    async fn resource(&self) -> &'static str {
        self.0.resource.as_str()
    }

    /// In the order written.
    async fn template_variables(&self) -> Vec<TemplateVariable> {
        match serde_json::from_str(&self.0.template_variables) {
            Ok(serde_json::Value::Object(map)) => map
                .into_iter()
                .map(|(name, entry)| TemplateVariable {
                    name,
                    schema: JsonString(entry.get("schema").cloned().unwrap_or_default().to_string()),
                    description: entry
                        .get("description")
                        .and_then(|text| text.as_str())
                        .map(str::to_owned),
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// A template variable.
#[derive(SimpleObject)]
pub(crate) struct TemplateVariable {
    name: String,
    /// Compact, keys in the order written.
    schema: JsonString,
    description: Option<String>,
}

/// A queue.
#[derive(Clone)]
pub(crate) struct RunQueue(Arc<Queue>);

impl RunQueue {
    /// The wire's queue over a stored one.
    pub(crate) fn new(queue: Queue) -> Self {
        Self(Arc::new(queue))
    }
}

#[Object]
impl RunQueue {
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn access(&self) -> AccessType {
        self.0.access.into()
    }

    /// The entity whose it is: clients compare it with their own default entity.
    async fn created_by(&self) -> &str {
        &self.0.created_by
    }

    #[graphql(name = "defaultResourceConfigID")]
    async fn default_resource_config_id(&self) -> Option<ID> {
        self.0.revision.as_ref().map(|revision| ID(revision.id.to_string()))
    }

    async fn prioritization_mode(&self) -> PrioritizationMode {
        self.0.prioritization.into()
    }

    /// `{"links": [{"label", "url"}]}`, or null.
    async fn external_links(&self) -> Option<Json> {
        if self.0.links.is_empty() {
            return None;
        }
        let links: Vec<_> = self
            .0
            .links
            .iter()
            .map(|(label, url)| json!({"label": label, "url": url}))
            .collect();
        Some(Json(json!({ "links": links })))
    }

    /// The newest items.
    async fn run_queue_items(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<RunQueueItemConnection> {
        self.list(ctx, Vec::new(), first, after.as_deref()).await
    }

    /// One item of the queue; null if there is none.
    async fn run_queue_item(&self, ctx: &Context<'_>, id: ID) -> Result<Option<RunQueueItem>> {
        let found = RunQueueItem::find(ctx, &id).await?;
        Ok(found.filter(|item| item.item().queue == self.0.id))
    }

    #[graphql(visible = "super::additions")]
    async fn entity_name(&self) -> &str {
        &self.0.entity
    }

    #[graphql(visible = "super::additions")]
    async fn project_name(&self) -> &str {
        &self.0.project
    }

    /// The target resource; null for a queue without configuration.
    #[graphql(visible = "super::additions")]
    async fn resource(&self) -> Option<&'static str> {
        self.0.revision.as_ref().map(|revision| revision.resource.as_str())
    }

    /// Whether it hands out nothing.
    #[graphql(visible = "super::additions")]
    async fn paused(&self) -> bool {
        self.0.paused
    }

    /// Whether an agent serves it.
    #[graphql(visible = "super::additions")]
    async fn active(&self, ctx: &Context<'_>) -> Result<bool> {
        Ok(!ctx.store().queue_agents(self.0.id, ctx.now()).await?.is_empty())
    }

    /// How many items it holds, by state.
    #[graphql(visible = "super::additions")]
    async fn counts(&self, ctx: &Context<'_>) -> Result<Counts> {
        let counts = ctx.store().queue_counts(&[self.0.id]).await?;
        Ok(counts.first().copied().unwrap_or_default().into())
    }

    /// The whole stored configuration.
    #[graphql(visible = "super::additions")]
    async fn config(&self) -> Option<Json> {
        self.0
            .revision
            .as_ref()
            .map(|revision| Json::from_text(&revision.config))
    }

    /// `{"name": {"schema": {…}, "description": "…"}}`.
    #[graphql(visible = "super::additions")]
    async fn template_variables(&self) -> Option<Json> {
        self.0
            .revision
            .as_ref()
            .map(|revision| Json::from_text(&revision.template_variables))
    }

    /// What the owner allows submitters.
    #[graphql(visible = "super::additions")]
    async fn policy(&self) -> Json {
        let policy = self.0.revision.as_ref().map(|revision| &revision.policy);
        Json(json!(policy.unwrap_or(&QueuePolicy::default())))
    }

    /// The number of the current revision; null for a queue without configuration.
    #[graphql(visible = "super::additions")]
    async fn revision(&self) -> Option<i64> {
        self.0.revision.as_ref().map(|revision| revision.number)
    }

    #[graphql(visible = "super::additions")]
    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// The agents that serve it and were heard from lately.
    #[graphql(visible = "super::additions")]
    async fn agents(&self, ctx: &Context<'_>) -> Result<Vec<LaunchAgent>> {
        let agents = ctx.store().queue_agents(self.0.id, ctx.now()).await?;
        Ok(agents.into_iter().map(|(agent, _)| LaunchAgent::new(agent)).collect())
    }

    /// Items, newest first; with `waiting: true` those that wait, in the order in which they run.
    #[graphql(visible = "super::additions")]
    async fn items(
        &self,
        ctx: &Context<'_>,
        state: Option<Vec<String>>,
        waiting: Option<bool>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<RunQueueItemConnection> {
        if waiting == Some(true) {
            let offset = match after.as_deref() {
                None => 0,
                Some(cursor) => cursor.parse().map_err(|_| bad_cursor(cursor))?,
            };
            let page = ctx.store().waiting(self.0.id, offset, page_size(first, 100)?).await?;
            return Ok(RunQueueItemConnection::waiting(page, offset));
        }
        let states = state
            .unwrap_or_default()
            .iter()
            .map(|word| read_state(word))
            .collect::<Result<_>>()?;
        self.list(ctx, states, first, after.as_deref()).await
    }
}

impl RunQueue {
    async fn list(
        &self,
        ctx: &Context<'_>,
        states: Vec<ItemState>,
        first: Option<i32>,
        after: Option<&str>,
    ) -> Result<RunQueueItemConnection> {
        let after = after
            .map(|cursor| cursor.parse::<i64>().map_err(|_| bad_cursor(cursor)))
            .transpose()?;
        let filter = ItemFilter {
            queue: Some(self.0.id),
            states,
            ..ItemFilter::default()
        };
        let page = ctx.store().items(filter, after, page_size(first, 100)?).await?;
        Ok(RunQueueItemConnection::listed(page))
    }
}

fn read_state(word: &str) -> Result<ItemState> {
    ItemState::ALL
        .into_iter()
        .find(|state| state.as_str().eq_ignore_ascii_case(word))
        .ok_or_else(|| {
            let known: Vec<_> = ItemState::ALL.iter().map(|state| state.as_str()).collect();
            ApiError::bad(format!(
                "`{word}` is not an item state; these are: {}",
                known.join(", ")
            ))
        })
}

/// How many items a queue holds, by state.
#[derive(SimpleObject)]
#[graphql(name = "RunQueueCounts")]
pub(crate) struct Counts {
    /// Waiting.
    pending: i64,
    /// Leased or claimed.
    starting: i64,
    running: i64,
    /// When the oldest waiting item was pushed.
    oldest_pending_at: Option<DateTime>,
    /// When an item last finished with success.
    last_success_at: Option<DateTime>,
}

impl From<QueueCounts> for Counts {
    fn from(counts: QueueCounts) -> Self {
        Self {
            pending: counts.pending,
            starting: counts.starting,
            running: counts.running,
            oldest_pending_at: counts.oldest_pending_at.map(DateTime),
            last_success_at: counts.last_success_at.map(DateTime),
        }
    }
}
