//! The GraphQL API: one schema, merged from the parts that each domain module declares.
//!
//! Types that several domains extend ([`Query`], [`Mutation`], [`Project`], [`Entity`]) are merged
//! objects: a domain adds its part to the tuple here and nowhere else.

mod admin;
mod agents;
mod artifacts;
mod compat;
mod context;
mod direct;
pub(crate) mod files;
mod handler;
mod identity;
mod items;
pub(crate) mod names;
mod page;
mod project;
mod queues;
mod runs;
pub(crate) mod scalars;
mod size;
mod strict;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod validate_only;
mod wording;

pub(crate) use context::Caller;
pub(crate) use handler::post_graphql;

use std::sync::Arc;

use async_graphql::{Context, EmptySubscription, MergedObject, Schema, SchemaBuilder};

/// What resolvers answer. The error keeps its code on the way out: see [`handler`].
pub(crate) type Result<T> = std::result::Result<T, crate::ApiError>;

/// The whole schema.
pub(crate) type ApiSchema = Schema<Query, Mutation, EmptySubscription>;

/// How deep a document may nest; introspection by common tools needs 15.
const MAX_DEPTH: usize = 24;

/// How many fields a document may select, fragments expanded.
const MAX_COMPLEXITY: usize = 2_000;

/// What can be read.
#[derive(MergedObject, Default)]
pub(crate) struct Query(
    identity::IdentityQuery,
    project::ProjectQuery,
    queues::QueueQuery,
    items::ItemQuery,
    agents::AgentQuery,
    artifacts::ArtifactQuery,
);

/// What can be changed.
#[derive(MergedObject, Default)]
pub(crate) struct Mutation(
    admin::AdminMutation,
    project::ProjectMutation,
    queues::QueueMutation,
    items::PushMutation,
    items::HoldMutation,
    items::ManageMutation,
    agents::AgentMutation,
    runs::RunMutation,
    artifacts::ArtifactMutation,
);

/// Whether fields that the official API lacks are shown: not with `--compat official`.
pub(crate) fn additions(ctx: &Context<'_>) -> bool {
    ctx.data_opt::<Caller>()
        .is_none_or(|caller| !caller.app.options.compat_official)
}

/// A container for runs, queues and artifacts.
#[derive(MergedObject)]
pub(crate) struct Project(
    project::ProjectCore,
    queues::ProjectQueues,
    runs::ProjectRuns,
    artifacts::ProjectArtifacts,
);

impl Project {
    /// The wire's project over a stored one.
    #[must_use]
    pub(crate) fn new(row: slipway_store::projects::Project) -> Self {
        let row = Arc::new(row);
        Self(
            project::ProjectCore(Arc::clone(&row)),
            queues::ProjectQueues(Arc::clone(&row)),
            runs::ProjectRuns(Arc::clone(&row)),
            artifacts::ProjectArtifacts(row),
        )
    }
}

/// An owner of projects: a user's own entity, or a team.
#[derive(MergedObject)]
pub(crate) struct Entity(identity::EntityCore, queues::EntityQueues);

impl Entity {
    /// The wire's entity over a stored one.
    #[must_use]
    pub(crate) fn new(row: slipway_store::identity::Entity) -> Self {
        let row = Arc::new(row);
        Self(identity::EntityCore(Arc::clone(&row)), queues::EntityQueues(row))
    }
}

/// Builds the schema. `official_only`: documents that use an addition are refused.
pub(crate) fn schema(official_only: bool) -> ApiSchema {
    if official_only {
        builder().extension(compat::OfficialOnly).finish()
    } else {
        builder().finish()
    }
}

fn builder() -> SchemaBuilder<Query, Mutation, EmptySubscription> {
    Schema::build(Query::default(), Mutation::default(), EmptySubscription)
        .limit_depth(MAX_DEPTH)
        .limit_complexity(MAX_COMPLEXITY)
        .limit_directives(8)
}

#[cfg(test)]
mod tests;
