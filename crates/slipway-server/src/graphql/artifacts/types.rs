//! Versions, collections and memberships as the wire shows them.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Interface, Object, SimpleObject, Union};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use slipway_store::artifacts::{Artifact as Row, ArtifactState as StoredState, Collection, Manifest};
use slipway_store::blobs::Method;
use slipway_store::projects::Project as ProjectRow;

use super::super::context::RequestContext as _;
use super::super::files::{File, FileConnection, Slice};
use super::super::page::PageInfo;
use super::super::runs::Run;
use super::super::scalars::{DateTime, Int64, JsonString};
use super::super::{Project, Result};
use super::mutation::read_manifest;
use crate::manifest::references;
use crate::{ApiError, access};

/// The wire's word for a lifetime that is inherited; nothing expires here.
const TTL_INHERITED: i64 = -2;

/// Where a version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum ArtifactState {
    /// Being uploaded.
    Pending,
    /// Complete and numbered.
    Committed,
    /// Gone.
    Deleted,
}

/// How digests are computed. Only MD5 is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[graphql(rename_items = "SCREAMING_SNAKE_CASE")]
pub(crate) enum ArtifactDigestAlgorithm {
    /// MD5.
    #[graphql(name = "MANIFEST_MD5")]
    ManifestMd5,
    /// 128-bit XXH.
    #[graphql(name = "MANIFEST_XXH128")]
    ManifestXxh128,
}

/// A version.
#[derive(Clone)]
pub(crate) struct Artifact(Arc<Row>);

impl Artifact {
    /// The wire's version over a stored one.
    pub(crate) fn new(row: Row) -> Self {
        Self(Arc::new(row))
    }
}

#[Object]
impl Artifact {
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    async fn artifact_sequence(&self) -> ArtifactSequence {
        ArtifactSequence::new(self.0.collection.clone())
    }

    async fn artifact_type(&self, ctx: &Context<'_>) -> Result<ArtifactType> {
        let project = project_of(ctx, &self.0.collection).await?;
        Ok(ArtifactType(ArtifactTypeRef {
            project: Arc::new(project),
            name: self.0.collection.kind.clone(),
        }))
    }

    /// 0, 1, … once committed.
    async fn version_index(&self) -> Option<Int64> {
        self.0.version_index.map(Int64)
    }

    async fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    async fn metadata(&self) -> Option<JsonString> {
        self.0.metadata.clone().map(JsonString)
    }

    async fn ttl_duration_seconds(&self) -> Int64 {
        Int64(TTL_INHERITED)
    }

    async fn ttl_is_inherited(&self) -> bool {
        true
    }

    async fn tags(&self) -> Vec<Tag> {
        self.0.tags.iter().map(|name| Tag::new(name)).collect()
    }

    async fn history_step(&self) -> Option<Int64> {
        None
    }

    async fn state(&self) -> ArtifactState {
        match self.0.state {
            StoredState::Pending => ArtifactState::Pending,
            StoredState::Committed => ArtifactState::Committed,
            StoredState::Deleted => ArtifactState::Deleted,
        }
    }

    async fn size(&self) -> Int64 {
        Int64(self.0.size)
    }

    async fn digest(&self) -> &str {
        &self.0.digest
    }

    async fn digest_algorithm(&self) -> ArtifactDigestAlgorithm {
        ArtifactDigestAlgorithm::ManifestMd5
    }

    async fn commit_hash(&self) -> &str {
        &self.0.digest
    }

    async fn file_count(&self) -> Int64 {
        Int64(self.0.file_count)
    }

    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    async fn updated_at(&self) -> DateTime {
        DateTime(self.0.updated_at)
    }

    async fn aliases(&self) -> Vec<ArtifactAlias> {
        aliases(&self.0)
    }

    /// The manifest that was uploaded last.
    async fn current_manifest(&self, ctx: &Context<'_>) -> Result<Option<ArtifactManifest>> {
        let Some(id) = self.0.manifest else { return Ok(None) };
        let found = ctx.store().manifest(id).await?;
        Ok(found.map(ArtifactManifest::new))
    }

    async fn files(
        &self,
        ctx: &Context<'_>,
        names: Option<Vec<String>>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<FileConnection> {
        files(ctx, &self.0, names.as_deref(), first, after.as_deref()).await
    }

    /// The files of manifest entries, in their order; unknown entries are left out.
    #[expect(clippy::too_many_arguments, reason = "the arguments are the wire's")]
    async fn files_by_manifest_entries(
        &self,
        ctx: &Context<'_>,
        entries: Option<Vec<ArtifactManifestEntryInput>>,
        #[graphql(name = "storageLayout")] _storage_layout: Option<String>,
        #[graphql(name = "manifestVersion")] _manifest_version: Option<String>,
        #[graphql(name = "storageRegion")] _storage_region: Option<String>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<FileConnection> {
        let names: Vec<String> = entries
            .unwrap_or_default()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        files(ctx, &self.0, Some(&names), first, after.as_deref()).await
    }

    /// The run that logged it, while that exists.
    async fn created_by(&self, ctx: &Context<'_>) -> Result<Option<ArtifactCreator>> {
        let Some(name) = &self.0.run else { return Ok(None) };
        if !access::can_read_project(ctx.principal(), &name.entity, &name.project) {
            return Ok(None);
        }
        let run = ctx.store().run(name).await?;
        Ok(run.map(|row| ArtifactCreator::Run(Run(row.into()))))
    }

    /// Its places in collections.
    async fn artifact_memberships(&self) -> ArtifactMembershipConnection {
        ArtifactMembershipConnection {
            edges: vec![ArtifactMembershipEdge {
                node: ArtifactMembership(self.clone()),
            }],
        }
    }
}

/// Who made a version.
#[derive(Union)]
pub(crate) enum ArtifactCreator {
    /// A run.
    Run(Run),
}

/// An entry of a manifest that a client wants the file of.
#[derive(InputObject)]
pub(crate) struct ArtifactManifestEntryInput {
    name: String,
    digest: Option<String>,
    #[graphql(name = "birthArtifactID")]
    birth_artifact_id: Option<String>,
}

async fn files(
    ctx: &Context<'_>,
    artifact: &Row,
    names: Option<&[String]>,
    first: Option<i32>,
    after: Option<&str>,
) -> Result<FileConnection> {
    let stored = ctx.store().artifact_files(artifact.id).await?;
    // Clients download what is listed here, also where the bytes lie elsewhere.
    let elsewhere = match artifact.manifest {
        Some(manifest) if usize::try_from(artifact.file_count).is_ok_and(|count| count > stored.len()) => {
            let read = async {
                let bytes = read_manifest(ctx, artifact).await?;
                references(&bytes).map_err(|error| ApiError::bad(error.to_string()))
            };
            ctx.app().references.of(manifest, read).await?
        }
        _ => Arc::from([]),
    };
    let stored = stored.into_iter().map(|file| File {
        storage_path: Some(file.blob),
        name: file.name,
        size: file.size,
        md5: Some(file.md5),
        updated_at: Some(artifact.updated_at),
        ..File::default()
    });
    let elsewhere = elsewhere.iter().map(|reference| File {
        direct_url: Some(reference.target.clone()),
        name: reference.name.clone(),
        size: reference.size,
        updated_at: Some(artifact.updated_at),
        ..File::default()
    });
    let mut rows: Vec<File> = stored.chain(elsewhere).collect();
    if let Some(names) = names.filter(|names| !names.is_empty()) {
        rows.retain(|file| names.contains(&file.name));
    }
    let total = rows.len();
    let slice = Slice::of(rows, first, after)?;
    let mut rows = Vec::with_capacity(slice.rows.len());
    for (cursor, mut file) in slice.rows {
        if let Some(blob) = &file.storage_path {
            let address = ctx.caller().blob_address(Method::Get, blob, &file.name, None);
            file.direct_url = Some(address.await?);
        }
        rows.push((cursor, file));
    }
    Ok(FileConnection::new(
        Slice {
            rows,
            page_info: slice.page_info,
        },
        total,
    ))
}

fn aliases(artifact: &Row) -> Vec<ArtifactAlias> {
    artifact
        .aliases
        .iter()
        .map(|alias| ArtifactAlias {
            alias: alias.clone(),
            collection: artifact.collection.clone(),
        })
        .collect()
}

async fn project_of(ctx: &Context<'_>, collection: &Collection) -> Result<ProjectRow> {
    let (entity, project) = (&collection.entity, &collection.project);
    let found = ctx.store().project(entity, project).await?;
    found.ok_or_else(|| ApiError::not_found("project", &format!("{entity}/{project}")))
}

/// A name for a version that moves.
pub(crate) struct ArtifactAlias {
    alias: String,
    collection: Collection,
}

#[Object]
impl ArtifactAlias {
    async fn id(&self) -> ID {
        ID(STANDARD.encode(format!("ArtifactAlias:{}:{}", self.collection.id, self.alias)))
    }

    async fn alias(&self) -> &str {
        &self.alias
    }

    async fn artifact_collection(&self) -> ArtifactCollection {
        ArtifactSequence::new(self.collection.clone()).into()
    }
}

/// A word on a version.
pub(crate) struct Tag(String);

impl Tag {
    fn new(name: &str) -> Self {
        Self(name.to_owned())
    }
}

#[Object]
impl Tag {
    async fn id(&self) -> ID {
        ID(STANDARD.encode(format!("Tag:{}", self.0)))
    }

    async fn name(&self) -> &str {
        &self.0
    }
}

/// Tags of a listing.
#[derive(SimpleObject)]
pub(crate) struct TagConnection {
    edges: Vec<TagEdge>,
}

/// A tag in a listing.
#[derive(SimpleObject)]
pub(crate) struct TagEdge {
    node: Tag,
}

/// A place in a collection.
pub(crate) struct ArtifactMembership(Artifact);

impl ArtifactMembership {
    /// The place of a version in the collection that numbers it.
    pub(crate) fn new(row: Row) -> Self {
        Self(Artifact::new(row))
    }
}

#[Object(name = "ArtifactCollectionMembership")]
impl ArtifactMembership {
    async fn id(&self) -> ID {
        ID(STANDARD.encode(format!("ArtifactCollectionMembership:{}", self.0.0.id)))
    }

    async fn version_index(&self) -> Option<Int64> {
        self.0.0.version_index.map(Int64)
    }

    async fn created_at(&self) -> DateTime {
        DateTime(self.0.0.created_at)
    }

    async fn aliases(&self) -> Vec<ArtifactAlias> {
        aliases(&self.0.0)
    }

    async fn artifact_collection(&self) -> ArtifactCollection {
        ArtifactSequence::new(self.0.0.collection.clone()).into()
    }

    async fn artifact(&self) -> Artifact {
        self.0.clone()
    }

    async fn files(
        &self,
        ctx: &Context<'_>,
        names: Option<Vec<String>>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<FileConnection> {
        files(ctx, &self.0.0, names.as_deref(), first, after.as_deref()).await
    }
}

/// Places of a listing.
#[derive(SimpleObject)]
#[graphql(name = "ArtifactCollectionMembershipConnection")]
pub(crate) struct ArtifactMembershipConnection {
    edges: Vec<ArtifactMembershipEdge>,
}

/// A place in a listing.
#[derive(SimpleObject)]
#[graphql(name = "ArtifactCollectionMembershipEdge")]
pub(crate) struct ArtifactMembershipEdge {
    node: ArtifactMembership,
}

/// A named collection of versions.
#[derive(Interface)]
#[graphql(
    field(name = "id", ty = "ID"),
    field(name = "name", ty = "String"),
    field(name = "description", ty = "Option<String>"),
    field(name = "created_at", ty = "DateTime"),
    field(name = "updated_at", ty = "DateTime"),
    field(name = "project", ty = "Project"),
    field(name = "default_artifact_type", ty = "ArtifactType"),
    field(name = "tags", ty = "TagConnection"),
    field(
        name = "artifact_membership",
        ty = "Option<ArtifactMembership>",
        arg(name = "alias_name", ty = "String")
    ),
    field(
        name = "artifacts",
        ty = "ArtifactConnection",
        arg(name = "first", ty = "Option<i32>"),
        arg(name = "after", ty = "Option<String>")
    )
)]
pub(crate) enum ArtifactCollection {
    /// The collection that numbers its versions.
    ArtifactSequence(ArtifactSequence),
}

/// The collection that numbers its versions.
pub(crate) struct ArtifactSequence(Arc<Collection>);

impl ArtifactSequence {
    /// The wire's collection over a stored one.
    pub(crate) fn new(row: Collection) -> Self {
        Self(Arc::new(row))
    }

    async fn by_suffix(&self, ctx: &Context<'_>, suffix: &str) -> Result<Option<Row>> {
        let Collection {
            entity, project, name, ..
        } = &*self.0;
        let full = format!("{name}{suffix}");
        Ok(ctx.store().artifact_by_name(entity, project, &full).await?)
    }
}

#[Object]
impl ArtifactSequence {
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    async fn name(&self) -> String {
        self.0.name.clone()
    }

    async fn description(&self) -> Option<String> {
        None
    }

    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    async fn updated_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    async fn project(&self, ctx: &Context<'_>) -> Result<Project> {
        Ok(Project::new(project_of(ctx, &self.0).await?))
    }

    async fn default_artifact_type(&self, ctx: &Context<'_>) -> Result<ArtifactType> {
        Ok(ArtifactType(ArtifactTypeRef {
            project: Arc::new(project_of(ctx, &self.0).await?),
            name: self.0.kind.clone(),
        }))
    }

    async fn tags(&self) -> TagConnection {
        TagConnection { edges: Vec::new() }
    }

    /// The newest committed version.
    async fn latest_artifact(&self, ctx: &Context<'_>) -> Result<Option<Artifact>> {
        Ok(self.by_suffix(ctx, "").await?.map(Artifact::new))
    }

    /// The version that bears an alias or a number such as `v0`.
    async fn artifact_membership(&self, ctx: &Context<'_>, alias_name: String) -> Result<Option<ArtifactMembership>> {
        let found = self.by_suffix(ctx, &format!(":{alias_name}")).await?;
        Ok(found.map(ArtifactMembership::new))
    }

    /// Committed versions, newest first.
    async fn artifacts(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<ArtifactConnection> {
        let rows = ctx.store().versions(self.0.id).await?;
        ArtifactConnection::page(rows, first, after.as_deref())
    }

    async fn digest_algorithm(&self) -> ArtifactDigestAlgorithm {
        ArtifactDigestAlgorithm::ManifestMd5
    }
}

/// Versions of a listing.
#[derive(SimpleObject)]
pub(crate) struct ArtifactConnection {
    edges: Vec<ArtifactEdge>,
    page_info: PageInfo,
    total_count: i32,
}

/// A version in a listing.
#[derive(SimpleObject)]
pub(crate) struct ArtifactEdge {
    node: Artifact,
    cursor: String,
}

impl ArtifactConnection {
    /// A page of versions.
    pub(crate) fn page(rows: Vec<Row>, first: Option<i32>, after: Option<&str>) -> Result<Self> {
        let total_count = i32::try_from(rows.len()).unwrap_or(i32::MAX);
        let slice = Slice::of(rows, first, after)?;
        Ok(Self {
            edges: slice
                .rows
                .into_iter()
                .map(|(cursor, row)| ArtifactEdge {
                    node: Artifact::new(row),
                    cursor,
                })
                .collect(),
            page_info: slice.page_info,
            total_count,
        })
    }
}

/// Collections of a listing.
#[derive(SimpleObject)]
pub(crate) struct ArtifactCollectionConnection {
    edges: Vec<ArtifactCollectionEdge>,
    page_info: PageInfo,
    total_count: i32,
}

/// A collection in a listing.
#[derive(SimpleObject)]
pub(crate) struct ArtifactCollectionEdge {
    node: ArtifactCollection,
    cursor: String,
}

impl ArtifactCollectionConnection {
    /// A page of collections.
    pub(crate) fn page(rows: Vec<Collection>, first: Option<i32>, after: Option<&str>) -> Result<Self> {
        let total_count = i32::try_from(rows.len()).unwrap_or(i32::MAX);
        let slice = Slice::of(rows, first, after)?;
        Ok(Self {
            edges: slice
                .rows
                .into_iter()
                .map(|(cursor, row)| ArtifactCollectionEdge {
                    node: ArtifactSequence::new(row).into(),
                    cursor,
                })
                .collect(),
            page_info: slice.page_info,
            total_count,
        })
    }
}

/// A type in a project.
#[derive(Clone)]
pub(crate) struct ArtifactTypeRef {
    pub(crate) project: Arc<ProjectRow>,
    pub(crate) name: String,
}

/// What kind of thing an artifact is, such as `job` or `code`.
#[derive(Clone)]
pub(crate) struct ArtifactType(pub(crate) ArtifactTypeRef);

#[Object]
impl ArtifactType {
    async fn id(&self) -> ID {
        ID(STANDARD.encode(format!("ArtifactType:{}:{}", self.0.project.id, self.0.name)))
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn description(&self) -> Option<String> {
        None
    }

    async fn created_at(&self) -> DateTime {
        DateTime(self.0.project.created_at)
    }

    /// A collection of this type by its name.
    async fn artifact_collection(&self, ctx: &Context<'_>, name: String) -> Result<Option<ArtifactCollection>> {
        let ProjectRow {
            entity, name: project, ..
        } = &*self.0.project;
        let found = ctx.store().collection(entity, project, &name).await?;
        Ok(found
            .filter(|row| row.kind == self.0.name)
            .map(|row| ArtifactSequence::new(row).into()))
    }

    /// The collections of this type.
    async fn artifact_collections(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
        #[graphql(name = "filters")] _filters: Option<JsonString>,
        #[graphql(name = "order")] _order: Option<String>,
    ) -> Result<ArtifactCollectionConnection> {
        let ProjectRow {
            entity, name: project, ..
        } = &*self.0.project;
        let rows = ctx.store().collections(entity, project, Some(&self.0.name)).await?;
        ArtifactCollectionConnection::page(rows, first, after.as_deref())
    }
}

/// Types of a listing.
#[derive(SimpleObject)]
pub(crate) struct ArtifactTypeConnection {
    edges: Vec<ArtifactTypeEdge>,
    page_info: PageInfo,
}

/// A type in a listing.
#[derive(SimpleObject)]
pub(crate) struct ArtifactTypeEdge {
    node: ArtifactType,
    cursor: String,
}

impl ArtifactTypeConnection {
    /// A page of types.
    pub(crate) fn new(slice: Slice<ArtifactType>) -> Self {
        Self {
            edges: slice
                .rows
                .into_iter()
                .map(|(cursor, node)| ArtifactTypeEdge { node, cursor })
                .collect(),
            page_info: slice.page_info,
        }
    }
}

/// Which files belong to a version.
pub(crate) struct ArtifactManifest(Manifest);

impl ArtifactManifest {
    /// The wire's manifest over a stored one.
    pub(crate) fn new(row: Manifest) -> Self {
        Self(row)
    }
}

#[Object]
impl ArtifactManifest {
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn digest(&self) -> &str {
        &self.0.digest
    }

    /// The manifest's own file. It is written once its digest is known.
    async fn file(&self, ctx: &Context<'_>) -> File {
        let links = ctx.caller().links();
        let Manifest { name, digest, blob, .. } = &self.0;
        let known = !digest.is_empty();
        File {
            name: name.clone(),
            md5: known.then(|| digest.clone()),
            direct_url: known.then(|| links.blob(Method::Get, blob, name, None)),
            upload_url: known.then(|| links.blob(Method::Put, blob, name, Some(digest))),
            storage_path: Some(blob.clone()),
            ..File::default()
        }
    }
}
