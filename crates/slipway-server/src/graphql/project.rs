//! Projects themselves; what they contain is declared by the modules of queues, runs and artifacts.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use slipway_model::queue::QUEUE_PROJECT;

use super::context::RequestContext as _;
use super::identity::User;
use super::page::{PageInfo, bad_cursor, page_size};
use super::scalars::{DateTime, JsonString};
use super::{Entity, Project, Result};
use crate::{ApiError, access};

/// Finding projects.
#[derive(Default)]
pub(crate) struct ProjectQuery;

#[Object]
impl ProjectQuery {
    /// A project; null if there is none that the caller may see. Without `entityName` it is looked
    /// for in the caller's default entity.
    async fn project(
        &self,
        ctx: &Context<'_>,
        name: Option<String>,
        entity_name: Option<String>,
    ) -> Result<Option<Project>> {
        find(ctx, name, entity_name).await
    }

    /// The official API's older name of `project`.
    async fn model(
        &self,
        ctx: &Context<'_>,
        name: Option<String>,
        entity_name: Option<String>,
    ) -> Result<Option<Project>> {
        find(ctx, name, entity_name).await
    }

    /// The projects of an entity that the caller may see, newest first; null for an entity that it does not.
    async fn models(
        &self,
        ctx: &Context<'_>,
        entity_name: Option<String>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<Option<ProjectConnection>> {
        let principal = ctx.principal();
        let entity = entity_name.unwrap_or_else(|| principal.default_entity().to_owned());
        if !access::can_read_entity(principal, &entity) || ctx.store().entity(&entity).await?.is_none() {
            return Ok(None);
        }
        let after: Option<i64> = match after.as_deref() {
            None | Some("") => None,
            Some(cursor) => Some(cursor.parse().map_err(|_| bad_cursor(cursor))?),
        };
        let size = page_size(first, 50)?;
        let rows = ctx.store().projects(&entity).await?.into_iter();
        // Newer ones have higher numbers.
        let rows: Vec<_> = rows.filter(|row| after.is_none_or(|after| row.id < after)).collect();
        Ok(Some(ProjectConnection::new(rows, size)))
    }
}

/// Projects in the form that Relay gave lists.
#[derive(SimpleObject)]
pub(crate) struct ProjectConnection {
    edges: Vec<ProjectEdge>,
    page_info: PageInfo,
}

#[derive(SimpleObject)]
pub(crate) struct ProjectEdge {
    node: Project,
    cursor: String,
}

impl ProjectConnection {
    /// The first of these rows.
    fn new(mut rows: Vec<slipway_store::projects::Project>, size: usize) -> Self {
        let has_next_page = rows.len() > size;
        rows.truncate(size);
        let edges: Vec<ProjectEdge> = rows
            .into_iter()
            .map(|row| ProjectEdge {
                cursor: row.id.to_string(),
                node: Project::new(row),
            })
            .collect();
        let page_info = PageInfo {
            end_cursor: edges.last().map(|edge| edge.cursor.clone()),
            has_next_page,
        };
        Self { edges, page_info }
    }
}

/// The project of runs whose client names none.
pub(crate) const DEFAULT_PROJECT: &str = "uncategorized";

async fn find(ctx: &Context<'_>, name: Option<String>, entity: Option<String>) -> Result<Option<Project>> {
    let entity = entity.unwrap_or_else(|| ctx.principal().default_entity().to_owned());
    let name = name.unwrap_or_else(|| DEFAULT_PROJECT.to_owned());
    if !access::can_read_project(ctx.principal(), &entity, &name) {
        return Ok(None);
    }
    let found = ctx.store().project(&entity, &name).await?;
    // Queues live in it: every entity has it, and it is made when somebody first asks. The official
    // client makes an entity's first queue only after it has found it.
    if found.is_none() && name == QUEUE_PROJECT && ctx.store().entity(&entity).await?.is_some() {
        let (made, _) = ctx.store().ensure_project(&entity, &name, ctx.now()).await?;
        return Ok(Some(Project::new(made)));
    }
    Ok(found.map(Project::new))
}

/// Making projects.
#[derive(Default)]
pub(crate) struct ProjectMutation;

#[Object]
impl ProjectMutation {
    /// Makes a project, or finds it. Idempotent.
    async fn upsert_model(&self, ctx: &Context<'_>, input: UpsertModelInput) -> Result<UpsertModelPayload> {
        let entity = input
            .entity_name
            .unwrap_or_else(|| ctx.principal().default_entity().to_owned());
        let name = input.name.unwrap_or_else(|| DEFAULT_PROJECT.to_owned());
        slipway_model::queue::check_project_name(&name)?;
        access::make_project(ctx.principal(), &entity, &name)?;
        let (row, inserted) = ctx.store().ensure_project(&entity, &name, ctx.now()).await?;
        Ok(UpsertModelPayload {
            project: Project::new(row.clone()),
            model: Project::new(row),
            inserted,
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Refused: sweeps are not kept by this server. Clients show the sentence.
    async fn upsert_sweep(&self, _input: UpsertSweepInput) -> Result<UpsertSweepPayload> {
        Err(ApiError::bad(
            "this server keeps no sweeps: push one item per set of parameters to a queue instead, as \
             `slipway launch --queue` does",
        ))
    }
}

/// What `upsertSweep` takes.
#[derive(InputObject)]
pub(crate) struct UpsertSweepInput {
    id: Option<ID>,
    config: Option<String>,
    description: Option<String>,
    display_name: Option<String>,
    entity_name: Option<String>,
    project_name: Option<String>,
    controller: Option<JsonString>,
    scheduler: Option<JsonString>,
    launch_scheduler: Option<JsonString>,
    template_variable_values: Option<JsonString>,
    state: Option<String>,
    prior_runs_filters: Option<JsonString>,
    client_mutation_id: Option<String>,
}

/// What `upsertSweep` would answer.
#[derive(SimpleObject)]
pub(crate) struct UpsertSweepPayload {
    sweep: Option<Sweep>,
    config_validation_warnings: Vec<String>,
    client_mutation_id: Option<String>,
}

/// What `upsertModel` takes. Fields that the official API has beyond these are accepted and not kept.
#[derive(InputObject)]
pub(crate) struct UpsertModelInput {
    id: Option<String>,
    /// The project's name.
    name: Option<String>,
    entity_name: Option<String>,
    description: Option<String>,
    access: Option<String>,
    views: Option<String>,
    framework: Option<String>,
    client_mutation_id: Option<String>,
}

/// What `upsertModel` answers.
#[derive(SimpleObject)]
pub(crate) struct UpsertModelPayload {
    project: Project,
    model: Project,
    /// Whether it was made.
    inserted: bool,
    client_mutation_id: Option<String>,
}

/// A project itself; see [`Project`].
pub(crate) struct ProjectCore(pub(crate) Arc<slipway_store::projects::Project>);

#[Object]
impl ProjectCore {
    async fn id(&self) -> ID {
        ID(STANDARD.encode(format!("Project:v1:{}:{}", self.0.name, self.0.entity)))
    }

    async fn internal_id(&self) -> ID {
        ID(STANDARD.encode(format!("ProjectInternalId:{}", self.0.id)))
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn entity_name(&self) -> &str {
        &self.0.entity
    }

    async fn entity(&self, ctx: &Context<'_>) -> Result<Entity> {
        let row = ctx.store().entity(&self.0.entity).await?;
        let row = row.ok_or_else(|| ApiError::not_found("entity", &self.0.entity))?;
        Ok(Entity::new(row))
    }

    async fn description(&self) -> Option<String> {
        None
    }

    /// Membership of the entity decides who sees a project.
    async fn access(&self) -> &str {
        "PRIVATE"
    }

    async fn views(&self) -> Option<String> {
        None
    }

    /// Whether the caller may only read.
    async fn read_only(&self, ctx: &Context<'_>) -> bool {
        access::write_artifacts(ctx.principal(), &self.0.entity, &self.0.name).is_err()
    }

    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    /// The user whose own entity it is in; null for a team's.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let user = ctx.store().user(&self.0.entity).await?;
        Ok(user.filter(|user| user.service_of.is_none()).map(User))
    }

    /// A mark that only the vendor sets.
    async fn is_benchmark(&self) -> bool {
        false
    }

    /// Sweeps are not kept by this server: always null, which clients take for an unknown sweep.
    async fn sweep(&self, #[graphql(name = "sweepName")] _sweep_name: Option<String>) -> Option<Sweep> {
        None
    }
}

/// A sweep. None exist; the type is part of the contract.
#[derive(SimpleObject)]
pub(crate) struct Sweep {
    id: ID,
    name: String,
    state: String,
    project: Option<Project>,
}
