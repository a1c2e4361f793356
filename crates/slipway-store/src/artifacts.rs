//! Artifacts: collections, versions, aliases, manifests, files, uses.

use slipway_model::Millis;
use slipway_model::id::{ArtifactId, CollectionId, ManifestId, RunName};

use crate::identity::unfinished;
use crate::{Result, Store};

/// The state of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArtifactState {
    /// Being uploaded.
    Pending,
    /// Complete and numbered.
    Committed,
    /// Gone.
    Deleted,
}

/// A sequence of versions under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Its id.
    pub id: CollectionId,
    /// The owning entity's name.
    pub entity: String,
    /// The project.
    pub project: String,
    /// The project's number.
    pub project_id: i64,
    /// The artifact type, such as `job`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Millis,
}

/// One version.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// Its id.
    pub id: ArtifactId,
    /// The collection that numbers it.
    pub collection: Collection,
    /// The state.
    pub state: ArtifactState,
    /// 0, 1, … once committed.
    pub version_index: Option<i64>,
    /// As the client computed it.
    pub digest: String,
    /// Free text.
    pub description: Option<String>,
    /// JSON text.
    pub metadata: Option<String>,
    /// Bytes of all files.
    pub size: i64,
    /// How many files.
    pub file_count: i64,
    /// Aliases, `latest` included.
    pub aliases: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// The run that logged it.
    pub run: Option<RunName>,
    /// The client's own id for it.
    pub client_id: Option<String>,
    /// When it was made.
    pub created_at: Millis,
    /// When it was last changed.
    pub updated_at: Millis,
    /// Its manifest, once uploaded.
    pub manifest: Option<ManifestId>,
}

/// A request for a version.
#[derive(Debug, Clone)]
pub struct NewArtifact {
    /// The owning entity's name.
    pub entity: String,
    /// The project; made if absent.
    pub project: String,
    /// The artifact type.
    pub kind: String,
    /// The collection's name.
    pub collection: String,
    /// As the client computed it.
    pub digest: String,
    /// Aliases to move to it at commit.
    pub aliases: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Free text.
    pub description: Option<String>,
    /// JSON text.
    pub metadata: Option<String>,
    /// The run that logs it.
    pub run: Option<RunName>,
    /// The client's own id: the same id gets the same pending version.
    pub client_id: Option<String>,
    /// The client's own id of the collection.
    pub sequence_client_id: Option<String>,
    /// Return a committed version of the same digest, with the aliases added.
    pub deduplicate: bool,
}

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its id.
    pub id: ManifestId,
    /// The version.
    pub artifact: ArtifactId,
    /// `wandb_manifest.json` and the like.
    pub name: String,
    /// Base64 of its MD5; empty until announced.
    pub digest: String,
    /// `FULL`, `INCREMENTAL` or `PATCH`.
    pub kind: String,
    /// Where its bytes are, below the blob root.
    pub blob: String,
}

/// A file of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactFile {
    /// Its path within the artifact.
    pub name: String,
    /// Base64 of its MD5.
    pub md5: String,
    /// Bytes, once known.
    pub size: Option<i64>,
    /// Where its bytes are, below the blob root.
    pub blob: String,
}

impl Store {
    /// Finds or makes a version, see [`NewArtifact`]. Returns it with the collection's latest
    /// committed version (id, index).
    pub async fn create_artifact(
        &self,
        artifact: NewArtifact,
        now: Millis,
    ) -> Result<(Artifact, Option<(ArtifactId, i64)>)> {
        unfinished(artifact, now)
    }
    /// Finds or makes the manifest of a version under a name; a non-empty digest is recorded.
    pub async fn create_manifest(
        &self,
        artifact: ArtifactId,
        name: &str,
        digest: &str,
        kind: &str,
        now: Millis,
    ) -> Result<Manifest> {
        unfinished((artifact, name), (digest, kind, now))
    }
    /// Finds a manifest.
    pub async fn manifest(&self, id: ManifestId) -> Result<Option<Manifest>> {
        unfinished(id, ())
    }
    /// Announces files: (name, base64 MD5). Each gets a blob path by content; tells whether those
    /// bytes are stored already.
    pub async fn create_artifact_files(
        &self,
        artifact: ArtifactId,
        files: Vec<(String, String)>,
    ) -> Result<Vec<(ArtifactFile, bool)>> {
        unfinished(artifact, files)
    }
    /// Notes that the bytes at a blob path are stored.
    pub async fn blob_stored(&self, blob: &str, size: i64) -> Result<()> {
        unfinished(blob, size)
    }
    /// Whether the bytes at a blob path are stored.
    pub async fn is_blob_stored(&self, blob: &str) -> Result<bool> {
        unfinished(blob, ())
    }
    /// Completes a version: `contents` are (name, base64 MD5, size) of its manifest. Numbers it,
    /// moves its aliases and `latest`. Refused while bytes are missing. Idempotent.
    pub async fn commit_artifact(
        &self,
        artifact: ArtifactId,
        contents: Vec<(String, String, i64)>,
        now: Millis,
    ) -> Result<Artifact> {
        unfinished(artifact, (contents, now))
    }
    /// Finds a version.
    pub async fn artifact(&self, id: ArtifactId) -> Result<Option<Artifact>> {
        unfinished(id, ())
    }
    /// Finds a committed version by `collection:alias`, `collection:vN` or `collection` (latest).
    pub async fn artifact_by_name(&self, entity: &str, project: &str, name: &str) -> Result<Option<Artifact>> {
        unfinished((entity, project), name)
    }
    /// The committed versions of a collection, newest first.
    pub async fn versions(&self, collection: CollectionId) -> Result<Vec<Artifact>> {
        unfinished(collection, ())
    }
    /// Finds a collection by name.
    pub async fn collection(&self, entity: &str, project: &str, name: &str) -> Result<Option<Collection>> {
        unfinished((entity, project), name)
    }
    /// The collections of a project, of one type or of all.
    pub async fn collections(&self, entity: &str, project: &str, kind: Option<&str>) -> Result<Vec<Collection>> {
        unfinished((entity, project), kind)
    }
    /// The files of a version.
    pub async fn artifact_files(&self, artifact: ArtifactId) -> Result<Vec<ArtifactFile>> {
        unfinished(artifact, ())
    }
    /// Changes metadata, description, aliases or tags; `None` leaves them.
    pub async fn update_artifact(
        &self,
        artifact: ArtifactId,
        metadata: Option<String>,
        description: Option<String>,
        aliases: Option<Vec<String>>,
        tags: Option<Vec<String>>,
        now: Millis,
    ) -> Result<Artifact> {
        unfinished((artifact, metadata, description), (aliases, tags, now))
    }
    /// Records that a run uses a version.
    pub async fn use_artifact(&self, run: &RunName, artifact: ArtifactId, now: Millis) -> Result<()> {
        unfinished((run, artifact), now)
    }
    /// Versions that a run used.
    pub async fn used_artifacts(&self, run: &RunName) -> Result<Vec<Artifact>> {
        unfinished(run, ())
    }
    /// Versions that a run logged.
    pub async fn logged_artifacts(&self, run: &RunName) -> Result<Vec<Artifact>> {
        unfinished(run, ())
    }
    /// The version that a client knows by its own id.
    pub async fn artifact_by_client_id(&self, client_id: &str) -> Result<Option<ArtifactId>> {
        unfinished(client_id, ())
    }
}
