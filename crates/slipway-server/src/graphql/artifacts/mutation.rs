//! How a version is made: create, announce files and manifest, upload, commit.

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};
use slipway_model::id::{ManifestId, RunName};
use slipway_model::queue::check_project_name;
use slipway_store::artifacts::{Artifact as Row, NewArtifact};
use slipway_store::blobs::{BlobError, Method, decode_md5, path as blob_path};

use super::super::Result;
use super::super::context::RequestContext as _;
use super::super::files::{File, FileConnection, Slice, check_file_name};
use super::super::page::PageInfo;
use super::super::scalars::{Int64, JsonString};
use super::types::{Artifact, ArtifactDigestAlgorithm, ArtifactManifest};
use super::{readable, writable};
use crate::manifest::{MAX_MANIFEST, ManifestError, is_md5, references, stored_entries};
use crate::uploads::note_direct_uploads;
use crate::{ApiError, Code, access};

/// How many files one call may announce.
const MAX_FILES: usize = 20_000;

/// Changing artifacts.
#[derive(Default)]
pub(crate) struct ArtifactMutation;

#[Object]
impl ArtifactMutation {
    /// Finds or makes a version. The same client id gets the same version; with
    /// `enableDigestDeduplication` a committed version of the same digest is returned.
    async fn create_artifact(&self, ctx: &Context<'_>, input: CreateArtifactInput) -> Result<CreateArtifactPayload> {
        access::write_artifacts(ctx.principal(), &input.entity_name, &input.project_name)?;
        check_project_name(&input.project_name)?;
        let names = input.artifact_collection_names.unwrap_or_default();
        let collection = input
            .artifact_collection_name
            .or_else(|| names.into_iter().next())
            .ok_or_else(|| ApiError::bad("createArtifact needs the name of a collection"))?;
        check_word("collection", &collection)?;
        check_word("artifact type", &input.artifact_type_name)?;
        if input.digest_algorithm == Some(ArtifactDigestAlgorithm::ManifestXxh128) {
            return Err(ApiError::bad("digests are MD5 here; send digestAlgorithm MANIFEST_MD5"));
        }
        if let Some(metadata) = &input.metadata {
            metadata.read("metadata")?;
        }
        let aliases: Vec<String> = input
            .aliases
            .unwrap_or_default()
            .into_iter()
            .filter(|alias| alias.artifact_collection_name == collection)
            .map(|alias| alias.alias)
            .collect();
        aliases.iter().try_for_each(|alias| check_word("alias", alias))?;
        let run = match input.run_name {
            Some(run) => {
                let name = RunName {
                    entity: input.entity_name.clone(),
                    project: input.project_name.clone(),
                    run,
                };
                ctx.store().run(&name).await?.map(|row| row.name)
            }
            None => None,
        };
        let new = NewArtifact {
            entity: input.entity_name,
            project: input.project_name,
            kind: input.artifact_type_name,
            collection,
            digest: input.digest,
            aliases,
            tags: tag_names(input.tags),
            description: input.description,
            metadata: input.metadata.map(|metadata| metadata.0),
            run,
            client_id: input.client_id.map(|id| id.0),
            sequence_client_id: input.sequence_client_id.map(|id| id.0),
            deduplicate: input.enable_digest_deduplication.unwrap_or(false),
        };
        let (artifact, _) = ctx.store().create_artifact(new, ctx.now()).await?;
        Ok(CreateArtifactPayload {
            artifact: Artifact::new(artifact),
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Announces a manifest; with a digest it says where to upload it.
    async fn create_artifact_manifest(
        &self,
        ctx: &Context<'_>,
        input: CreateArtifactManifestInput,
    ) -> Result<ArtifactManifestPayload> {
        let artifact = writable(ctx, &input.artifact_id).await?;
        check_file_name(&input.name)?;
        check_digest(&input.digest)?;
        let kind = input.kind.unwrap_or(ArtifactManifestType::Full).as_str();
        let manifest = ctx
            .store()
            .create_manifest(artifact.id, &input.name, &input.digest, kind, ctx.now())
            .await?;
        Ok(ArtifactManifestPayload {
            artifact_manifest: ArtifactManifest::new(manifest),
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Gives an announced manifest its digest.
    async fn update_artifact_manifest(
        &self,
        ctx: &Context<'_>,
        input: UpdateArtifactManifestInput,
    ) -> Result<ArtifactManifestPayload> {
        let id: ManifestId = input.artifact_manifest_id.parse()?;
        let manifest = ctx.store().manifest(id).await?;
        let manifest = manifest.ok_or_else(|| ApiError::not_found("manifest", &input.artifact_manifest_id))?;
        writable(ctx, &manifest.artifact.to_string()).await?;
        let digest = input.digest.unwrap_or_default();
        check_digest(&digest)?;
        let manifest = ctx
            .store()
            .create_manifest(manifest.artifact, &manifest.name, &digest, &manifest.kind, ctx.now())
            .await?;
        Ok(ArtifactManifestPayload {
            artifact_manifest: ArtifactManifest::new(manifest),
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Announces files and says where to upload them, in the order given. Bytes that are stored
    /// already have no upload address.
    async fn create_artifact_files(
        &self,
        ctx: &Context<'_>,
        input: CreateArtifactFilesInput,
    ) -> Result<CreateArtifactFilesPayload> {
        let specs = input.artifact_files;
        if specs.len() > MAX_FILES {
            let count = specs.len();
            return Err(ApiError::bad(format!(
                "{count} files; announce at most {MAX_FILES} at a time"
            )));
        }
        let Some(first) = specs.first() else {
            return Ok(CreateArtifactFilesPayload::new(Vec::new(), input.client_mutation_id));
        };
        let id = first.artifact_id.clone();
        if specs.iter().any(|spec| spec.artifact_id != id) {
            return Err(ApiError::bad(
                "the files of one call belong to one artifact; send a call for each",
            ));
        }
        let artifact = writable(ctx, &id).await?;
        for spec in &specs {
            check_file_name(&spec.name)?;
            if !is_md5(&spec.md5) {
                let shown: String = spec.name.chars().take(80).collect();
                return Err(ApiError::bad(format!(
                    "file `{shown}`: md5 is not the base64 form of an MD5 digest"
                )));
            }
        }
        let files = specs.into_iter().map(|spec| (spec.name, spec.md5)).collect();
        let files = ctx.store().create_artifact_files(artifact.id, files).await?;
        let owner = Artifact::new(artifact);
        let mut answers = Vec::with_capacity(files.len());
        for (file, stored) in files {
            let upload_url = if stored {
                None
            } else {
                let address = ctx
                    .caller()
                    .blob_address(Method::Put, &file.blob, &file.name, Some(&file.md5));
                Some(address.await?)
            };
            answers.push(File {
                upload_url,
                upload_headers: vec![format!("Content-MD5:{}", file.md5)],
                storage_path: Some(file.blob),
                artifact: Some(owner.clone()),
                name: file.name,
                size: file.size,
                md5: Some(file.md5),
                ..File::default()
            });
        }
        Ok(CreateArtifactFilesPayload::new(answers, input.client_mutation_id))
    }

    /// Completes a version: its manifest and every file in it must be uploaded. It gets the next
    /// number, and its aliases and `latest` move to it. Idempotent.
    async fn commit_artifact(&self, ctx: &Context<'_>, input: CommitArtifactInput) -> Result<ArtifactPayload> {
        let artifact = writable(ctx, &input.artifact_id).await?;
        let manifest = read_manifest(ctx, &artifact).await?;
        let bad = |error: ManifestError| ApiError::bad(error.to_string());
        let references = references(&manifest).map_err(bad)?.len();
        // The files that it lists: name, base64 of the MD5, bytes.
        let contents: Vec<(String, String, i64)> = stored_entries(&manifest)
            .map_err(bad)?
            .into_iter()
            .map(|entry| (entry.name, entry.md5, entry.size))
            .collect();
        let blobs = contents.iter().filter_map(|(_, md5, _)| {
            let md5 = decode_md5(md5)?;
            Some(blob_path::artifact(artifact.id.entity, &md5))
        });
        note_direct_uploads(ctx.app(), blobs.collect()).await?;
        let committed = ctx
            .store()
            .commit_artifact(artifact.id, contents, references, ctx.now())
            .await?;
        Ok(ArtifactPayload {
            artifact: Artifact::new(committed),
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Records that a run uses a version.
    async fn use_artifact(&self, ctx: &Context<'_>, input: UseArtifactInput) -> Result<ArtifactPayload> {
        let run = RunName {
            entity: input.entity_name,
            project: input.project_name,
            run: input.run_name,
        };
        access::write_run(ctx.principal(), &run)?;
        let artifact = readable(ctx, &input.artifact_id)
            .await?
            .ok_or_else(|| ApiError::not_found("artifact", &input.artifact_id))?;
        ctx.store().use_artifact(&run, artifact.id, ctx.now()).await?;
        Ok(ArtifactPayload {
            artifact: Artifact::new(artifact),
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Changes what is said of a version; its files stay. A field that is null stays as it is.
    async fn update_artifact(&self, ctx: &Context<'_>, input: UpdateArtifactInput) -> Result<ArtifactPayload> {
        let artifact = writable(ctx, &input.artifact_id).await?;
        if let Some(metadata) = &input.metadata {
            metadata.read("metadata")?;
        }
        let aliases = input.aliases.map(|aliases| {
            let own = aliases
                .into_iter()
                .filter(|alias| alias.artifact_collection_name == artifact.collection.name);
            own.map(|alias| alias.alias).collect::<Vec<String>>()
        });
        if let Some(aliases) = &aliases {
            aliases.iter().try_for_each(|alias| check_word("alias", alias))?;
        }
        let tags = (input.tags_to_add.is_some() || input.tags_to_delete.is_some()).then(|| {
            let gone = tag_names(input.tags_to_delete);
            let mut tags = artifact.tags.clone();
            tags.extend(tag_names(input.tags_to_add));
            tags.retain(|tag| !gone.contains(tag));
            let mut seen = std::collections::HashSet::new();
            tags.retain(|tag| seen.insert(tag.clone()));
            tags
        });
        let metadata = input.metadata.map(|metadata| metadata.0);
        let updated = ctx
            .store()
            .update_artifact(artifact.id, metadata, input.description, aliases, tags, ctx.now())
            .await?;
        Ok(ArtifactPayload {
            artifact: Artifact::new(updated),
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Moves aliases to a version.
    async fn add_aliases(&self, ctx: &Context<'_>, input: AddAliasesInput) -> Result<AliasesPayload> {
        let AddAliasesInput {
            artifact_id,
            aliases,
            client_mutation_id,
        } = input;
        change_aliases(ctx, &artifact_id, aliases, |aliases, named| aliases.extend(named)).await?;
        Ok(AliasesPayload {
            success: true,
            client_mutation_id,
        })
    }

    /// Takes aliases from a version.
    async fn delete_aliases(&self, ctx: &Context<'_>, input: DeleteAliasesInput) -> Result<AliasesPayload> {
        let DeleteAliasesInput {
            artifact_id,
            aliases,
            client_mutation_id,
        } = input;
        change_aliases(ctx, &artifact_id, aliases, |aliases, named| {
            aliases.retain(|alias| !named.contains(alias));
        })
        .await?;
        Ok(AliasesPayload {
            success: true,
            client_mutation_id,
        })
    }
}

async fn change_aliases(
    ctx: &Context<'_>,
    id: &ID,
    named: Vec<ArtifactCollectionAliasInput>,
    change: impl FnOnce(&mut Vec<String>, Vec<String>),
) -> Result<()> {
    let artifact = writable(ctx, id).await?;
    let named: Vec<String> = named
        .into_iter()
        .filter(|alias| alias.artifact_collection_name == artifact.collection.name)
        .map(|alias| alias.alias)
        .collect();
    named.iter().try_for_each(|alias| check_word("alias", alias))?;
    let mut aliases = artifact.aliases.clone();
    change(&mut aliases, named);
    let mut seen = std::collections::HashSet::new();
    aliases.retain(|alias| seen.insert(alias.clone()));
    ctx.store()
        .update_artifact(artifact.id, None, None, Some(aliases), None, ctx.now())
        .await?;
    Ok(())
}

/// The manifest of a version, as it was uploaded.
pub(super) async fn read_manifest(ctx: &Context<'_>, artifact: &Row) -> Result<bytes::Bytes> {
    let missing = || {
        ApiError::bad(format!("artifact `{}` has no uploaded manifest", artifact.id))
            .with_hint("upload the manifest to the address that createArtifactManifest returned, then commit")
    };
    let id = artifact.manifest.ok_or_else(missing)?;
    let manifest = ctx.store().manifest(id).await?.ok_or_else(missing)?;
    let blobs = &ctx.app().blobs;
    let info = match blobs.head(&manifest.blob).await {
        Err(BlobError::NotFound(_)) => return Err(missing()),
        other => other?,
    };
    if info.size > MAX_MANIFEST as u64 {
        return Err(ApiError::new(
            Code::TooLarge,
            format!(
                "the manifest has {} bytes; at most {MAX_MANIFEST} are accepted",
                info.size
            ),
        ));
    }
    Ok(blobs.read(&manifest.blob).await?)
}

/// Checks a name that people type as `collection:alias`.
fn check_word(kind: &str, word: &str) -> Result<()> {
    let length = word.chars().count();
    let problem = if word.trim().is_empty() {
        "is empty".to_owned()
    } else if length > 128 {
        format!("has {length} characters; at most 128 are accepted")
    } else if let Some(character) = word.chars().find(|c| c.is_control() || "/:".contains(*c)) {
        format!("contains {character:?}")
    } else {
        return Ok(());
    };
    let shown: String = word.chars().take(40).collect();
    Err(ApiError::bad(format!("{kind} {shown:?} {problem}")))
}

/// A manifest's digest is empty until it is known.
fn check_digest(digest: &str) -> Result<()> {
    if digest.is_empty() || is_md5(digest) {
        return Ok(());
    }
    Err(ApiError::bad("digest is not the base64 form of an MD5 digest"))
}

fn tag_names(tags: Option<Vec<TagInput>>) -> Vec<String> {
    tags.unwrap_or_default().into_iter().map(|tag| tag.tag_name).collect()
}

/// An alias in a collection.
#[derive(InputObject)]
pub(crate) struct ArtifactAliasInput {
    alias: String,
    artifact_collection_name: String,
}

/// An alias in a collection of a project.
#[derive(InputObject)]
pub(crate) struct ArtifactCollectionAliasInput {
    alias: String,
    artifact_collection_name: String,
    entity_name: Option<String>,
    project_name: Option<String>,
}

/// A tag.
#[derive(InputObject)]
pub(crate) struct TagInput {
    tag_name: String,
    tag_category_name: Option<String>,
    attributes: Option<JsonString>,
}

/// What `createArtifact` takes. Fields beyond those that are used are accepted and not kept.
#[derive(InputObject)]
pub(crate) struct CreateArtifactInput {
    artifact_type_name: String,
    artifact_collection_name: Option<String>,
    artifact_collection_names: Option<Vec<String>>,
    entity_name: String,
    project_name: String,
    run_name: Option<String>,
    description: Option<String>,
    digest: String,
    digest_algorithm: Option<ArtifactDigestAlgorithm>,
    aliases: Option<Vec<ArtifactAliasInput>>,
    metadata: Option<JsonString>,
    labels: Option<JsonString>,
    #[graphql(name = "clientID")]
    client_id: Option<ID>,
    #[graphql(name = "sequenceClientID")]
    sequence_client_id: Option<ID>,
    #[graphql(name = "distributedID")]
    distributed_id: Option<String>,
    enable_digest_deduplication: Option<bool>,
    history_step: Option<Int64>,
    storage_region: Option<String>,
    ttl_duration_seconds: Option<Int64>,
    tags: Option<Vec<TagInput>>,
    client_mutation_id: Option<String>,
}

/// What `createArtifact` answers.
#[derive(SimpleObject)]
pub(crate) struct CreateArtifactPayload {
    artifact: Artifact,
    client_mutation_id: Option<String>,
}

/// What a manifest holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum ArtifactManifestType {
    /// All files.
    Full,
    /// Files to add.
    Incremental,
    /// Changes to another version.
    Patch,
}

impl ArtifactManifestType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Incremental => "INCREMENTAL",
            Self::Patch => "PATCH",
        }
    }
}

/// What `createArtifactManifest` takes.
#[derive(InputObject)]
pub(crate) struct CreateArtifactManifestInput {
    #[graphql(name = "artifactID")]
    artifact_id: ID,
    #[graphql(name = "baseArtifactID")]
    base_artifact_id: Option<ID>,
    name: String,
    /// Base64 of the manifest's MD5; empty while it is not known.
    digest: String,
    entity_name: Option<String>,
    project_name: Option<String>,
    run_name: Option<String>,
    #[graphql(name = "type")]
    kind: Option<ArtifactManifestType>,
    client_mutation_id: Option<String>,
}

/// What `updateArtifactManifest` takes.
#[derive(InputObject)]
pub(crate) struct UpdateArtifactManifestInput {
    #[graphql(name = "artifactManifestID")]
    artifact_manifest_id: ID,
    digest: Option<String>,
    #[graphql(name = "baseArtifactID")]
    base_artifact_id: Option<ID>,
    client_mutation_id: Option<String>,
}

/// A manifest.
#[derive(SimpleObject)]
pub(crate) struct ArtifactManifestPayload {
    artifact_manifest: ArtifactManifest,
    client_mutation_id: Option<String>,
}

/// How the official storage lays out files. Both are accepted; files are stored by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(crate) enum ArtifactStorageLayout {
    /// The first layout.
    V1,
    /// The second layout.
    V2,
}

/// A part of a large upload.
#[derive(InputObject)]
pub(crate) struct UploadPartsInput {
    part_number: Int64,
    #[graphql(name = "hexMD5")]
    hex_md5: String,
}

/// A file to upload.
#[derive(InputObject)]
pub(crate) struct CreateArtifactFileSpecInput {
    #[graphql(name = "artifactID")]
    artifact_id: ID,
    #[graphql(name = "artifactManifestID")]
    artifact_manifest_id: Option<ID>,
    name: String,
    /// Base64 of the MD5.
    md5: String,
    mimetype: Option<String>,
    digest: Option<String>,
    upload_parts_input: Option<Vec<UploadPartsInput>>,
}

/// What `createArtifactFiles` takes.
#[derive(InputObject)]
pub(crate) struct CreateArtifactFilesInput {
    artifact_files: Vec<CreateArtifactFileSpecInput>,
    storage_layout: Option<ArtifactStorageLayout>,
    #[graphql(name = "cloudRegionID")]
    cloud_region_id: Option<ID>,
    digest_algorithm: Option<ArtifactDigestAlgorithm>,
    client_mutation_id: Option<String>,
}

/// What `createArtifactFiles` answers.
#[derive(SimpleObject)]
pub(crate) struct CreateArtifactFilesPayload {
    files: FileConnection,
    client_mutation_id: Option<String>,
}

impl CreateArtifactFilesPayload {
    fn new(files: Vec<File>, client_mutation_id: Option<String>) -> Self {
        let total = files.len();
        let rows = files.into_iter().enumerate();
        let slice = Slice {
            rows: rows.map(|(index, file)| (index.to_string(), file)).collect(),
            page_info: PageInfo {
                has_next_page: false,
                end_cursor: None,
            },
        };
        Self {
            files: FileConnection::new(slice, total),
            client_mutation_id,
        }
    }
}

/// What `commitArtifact` takes.
#[derive(InputObject)]
pub(crate) struct CommitArtifactInput {
    #[graphql(name = "artifactID")]
    artifact_id: ID,
    client_mutation_id: Option<String>,
}

/// What `useArtifact` takes.
#[derive(InputObject)]
pub(crate) struct UseArtifactInput {
    entity_name: String,
    project_name: String,
    run_name: String,
    #[graphql(name = "artifactID")]
    artifact_id: ID,
    artifact_entity_name: Option<String>,
    artifact_project_name: Option<String>,
    used_as: Option<String>,
    client_mutation_id: Option<String>,
}

/// What `updateArtifact` takes.
#[derive(InputObject)]
pub(crate) struct UpdateArtifactInput {
    #[graphql(name = "artifactID")]
    artifact_id: ID,
    description: Option<String>,
    metadata: Option<JsonString>,
    labels: Option<JsonString>,
    aliases: Option<Vec<ArtifactAliasInput>>,
    tags_to_add: Option<Vec<TagInput>>,
    tags_to_delete: Option<Vec<TagInput>>,
    ttl_duration_seconds: Option<Int64>,
    client_mutation_id: Option<String>,
}

/// A version.
#[derive(SimpleObject)]
pub(crate) struct ArtifactPayload {
    artifact: Artifact,
    client_mutation_id: Option<String>,
}

/// What `addAliases` takes.
#[derive(InputObject)]
pub(crate) struct AddAliasesInput {
    #[graphql(name = "artifactID")]
    artifact_id: ID,
    aliases: Vec<ArtifactCollectionAliasInput>,
    client_mutation_id: Option<String>,
}

/// What `deleteAliases` takes.
#[derive(InputObject)]
pub(crate) struct DeleteAliasesInput {
    #[graphql(name = "artifactID")]
    artifact_id: ID,
    aliases: Vec<ArtifactCollectionAliasInput>,
    client_mutation_id: Option<String>,
}

/// Whether the aliases changed.
#[derive(SimpleObject)]
pub(crate) struct AliasesPayload {
    success: bool,
    client_mutation_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_type_are_checked() {
        for word in ["code-job", "latest", "3.11-slim", "図"] {
            assert!(check_word("alias", word).is_ok(), "{word}");
        }
        for word in ["", " ", "a/b", "a:b", "a\nb", &"x".repeat(129)] {
            assert!(check_word("alias", word).is_err(), "{word}");
        }
        assert!(check_digest("").is_ok() && check_digest("/YEdbWke7l8pbzvG+h65zQ==").is_ok());
        assert!(check_digest("5f4ccca8").is_err());
    }
}
