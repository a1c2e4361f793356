//! Artifacts: collections, versions, their files, and jobs, which are artifacts of type `job`.
//!
//! Clients parse these answers strictly: every field named here that the wire calls non-null is
//! present, and `__typename` is the official name.

mod mutation;
mod types;

pub(crate) use mutation::ArtifactMutation;
pub(crate) use types::{Artifact, ArtifactConnection};

use std::sync::Arc;

use async_graphql::{Context, ID, Object, SimpleObject};
use slipway_model::id::ArtifactId;
use slipway_store::projects::Project;

use super::Result;
use super::context::RequestContext as _;
use super::files::Slice;
use super::scalars::JsonString;
use crate::{ApiError, access};
use types::{ArtifactCollection, ArtifactCollectionConnection, ArtifactMembership, ArtifactSequence, ArtifactType};
use types::{ArtifactTypeConnection, ArtifactTypeRef};

/// Finding artifacts by id.
#[derive(Default)]
pub(crate) struct ArtifactQuery;

#[Object]
impl ArtifactQuery {
    /// A version; null if there is none that the caller may see.
    async fn artifact(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Artifact>> {
        Ok(readable(ctx, &id).await?.map(Artifact::new))
    }

    /// The version that a client made under its own id.
    #[graphql(name = "clientIDMapping")]
    async fn client_id_mapping(
        &self,
        ctx: &Context<'_>,
        #[graphql(name = "clientID")] client_id: ID,
    ) -> Result<Option<ClientIdMapping>> {
        let Some(id) = ctx.store().artifact_by_client_id(&client_id).await? else {
            return Ok(None);
        };
        let visible = readable(ctx, &ID(id.to_string())).await?.is_some();
        Ok(visible.then(|| ClientIdMapping {
            server_id: ID(id.to_string()),
        }))
    }
}

/// From a client's own id of a version to the server's.
#[derive(SimpleObject)]
#[graphql(name = "ClientIDMapping")]
pub(crate) struct ClientIdMapping {
    #[graphql(name = "serverID")]
    server_id: ID,
}

/// The version of an id, if the caller may read it. An id of another kind names nothing.
async fn readable(ctx: &Context<'_>, id: &str) -> Result<Option<slipway_store::artifacts::Artifact>> {
    let Ok(id) = id.parse::<ArtifactId>() else {
        return Ok(None);
    };
    let found = ctx.store().artifact(id).await?;
    Ok(found.filter(|artifact| {
        let collection = &artifact.collection;
        access::can_read_project(ctx.principal(), &collection.entity, &collection.project)
    }))
}

/// The version of an id that the caller may write.
async fn writable(ctx: &Context<'_>, id: &str) -> Result<slipway_store::artifacts::Artifact> {
    let artifact = readable(ctx, id)
        .await?
        .ok_or_else(|| ApiError::not_found("artifact", id))?;
    access::write_artifacts(
        ctx.principal(),
        &artifact.collection.entity,
        &artifact.collection.project,
    )?;
    Ok(artifact)
}

/// The artifacts of a project.
pub(crate) struct ProjectArtifacts(pub(crate) Arc<Project>);

#[Object]
impl ProjectArtifacts {
    /// A committed version by `collection:alias`, `collection:vN` or `collection` (latest).
    async fn artifact(&self, ctx: &Context<'_>, name: String) -> Result<Option<Artifact>> {
        let Project {
            entity, name: project, ..
        } = &*self.0;
        let found = ctx.store().artifact_by_name(entity, project, &name).await?;
        Ok(found.map(Artifact::new))
    }

    /// As `artifact`, together with its place in the collection.
    async fn artifact_collection_membership(
        &self,
        ctx: &Context<'_>,
        name: String,
    ) -> Result<Option<ArtifactMembership>> {
        let Project {
            entity, name: project, ..
        } = &*self.0;
        let found = ctx.store().artifact_by_name(entity, project, &name).await?;
        Ok(found.map(ArtifactMembership::new))
    }

    /// A collection by its name.
    async fn artifact_collection(&self, ctx: &Context<'_>, name: String) -> Result<Option<ArtifactCollection>> {
        let Project {
            entity, name: project, ..
        } = &*self.0;
        let found = ctx.store().collection(entity, project, &name).await?;
        Ok(found.map(|row| ArtifactSequence::new(row).into()))
    }

    /// The collections of every type.
    async fn artifact_collections(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
        #[graphql(name = "filters")] _filters: Option<JsonString>,
        #[graphql(name = "order")] _order: Option<String>,
    ) -> Result<ArtifactCollectionConnection> {
        let rows = ctx.store().collections(&self.0.entity, &self.0.name, None).await?;
        ArtifactCollectionConnection::page(rows, first, after.as_deref())
    }

    /// A type. Types are words: one without a collection has no collections.
    async fn artifact_type(&self, name: String) -> Option<ArtifactType> {
        Some(ArtifactType(ArtifactTypeRef {
            project: Arc::clone(&self.0),
            name,
        }))
    }

    /// The types that the project's collections have.
    async fn artifact_types(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
        #[graphql(name = "includeAll")] _include_all: Option<bool>,
    ) -> Result<ArtifactTypeConnection> {
        let rows = ctx.store().collections(&self.0.entity, &self.0.name, None).await?;
        let names: std::collections::BTreeSet<String> = rows.into_iter().map(|row| row.kind).collect();
        let types = names.into_iter().map(|name| {
            ArtifactType(ArtifactTypeRef {
                project: Arc::clone(&self.0),
                name,
            })
        });
        Ok(ArtifactTypeConnection::new(Slice::of(types, first, after.as_deref())?))
    }
}

#[cfg(test)]
mod tests;
