//! Artifacts: collections, versions, aliases, manifests, files, uses.
//!
//! A version is made in steps: created (pending), its files and manifest announced, their bytes
//! uploaded, then committed, which numbers it. Bytes lie in the blob storage by their content, and
//! this module knows which of them have arrived. It never reads them: what a manifest lists is told
//! by the caller.

mod rows;
mod versions;

use slipway_model::Millis;
use slipway_model::id::{ArtifactId, CollectionId, ManifestId, RunName};

use crate::blobs::{decode_md5, path};
use crate::engine::{Field, Lane, Records, Tx, params};
use crate::{Error, Result, Store, projects, runs};

/// The state of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArtifactState {
    /// Being uploaded.
    Pending = 0,
    /// Complete and numbered.
    Committed = 1,
    /// Gone.
    Deleted = 2,
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
    /// How many files, those that are only references included.
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
    /// Aliases to move to it at commit. `v0`, `v1`, … are reserved for version numbers.
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
    /// Finds or makes a version: the one of the same client id; else, with
    /// [`NewArtifact::deduplicate`], a committed one of the same digest; else a pending one of the same
    /// digest; else a new one. Returns it with the collection's latest committed version (id, index).
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown entity, [`Error::Invalid`] if the collection is of another
    /// type or an alias is reserved.
    pub async fn create_artifact(
        &self,
        artifact: NewArtifact,
        now: Millis,
    ) -> Result<(Artifact, Option<(ArtifactId, i64)>)> {
        self.write(Lane::Control, "create_artifact", move |tx| {
            versions::create(tx, &artifact, now)
        })
        .await
    }

    /// Finds or makes the manifest of a version under a name; a non-empty digest is recorded.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown version, [`Error::Invalid`] for a digest that is not base64 of
    /// an MD5, or another digest once the version is committed.
    pub async fn create_manifest(
        &self,
        artifact: ArtifactId,
        name: &str,
        digest: &str,
        kind: &str,
        now: Millis,
    ) -> Result<Manifest> {
        let (name, digest, kind) = (name.to_owned(), digest.to_owned(), kind.to_owned());
        self.write(Lane::Control, "create_manifest", move |tx| {
            versions::announce_manifest(tx, artifact, &name, &digest, &kind, now)
        })
        .await
    }

    /// Finds a manifest.
    pub async fn manifest(&self, id: ManifestId) -> Result<Option<Manifest>> {
        self.read(Lane::Control, "manifest", move |tx| {
            let sql = "SELECT id, entity_id, artifact_id, name, digest, kind FROM manifests \
                 WHERE entity_id = $1 AND id = $2";
            let row = tx.query_opt(sql, params![id.entity, id.number])?;
            row.as_ref().map(rows::read_manifest).transpose()
        })
        .await
    }

    /// Announces files: (name, base64 MD5). Each gets a blob path by content; tells whether those
    /// bytes are stored already. Answers in the order given.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown version, [`Error::Invalid`] for one that is complete or a
    /// digest that is not base64 of an MD5.
    pub async fn create_artifact_files(
        &self,
        artifact: ArtifactId,
        files: Vec<(String, String)>,
    ) -> Result<Vec<(ArtifactFile, bool)>> {
        let work = move |tx: &mut dyn Tx| versions::announce_files(tx, artifact, &files);
        self.write(Lane::Control, "create_artifact_files", work).await
    }

    /// Notes that the bytes at a blob path are stored.
    pub async fn blob_stored(&self, blob: &str, size: i64) -> Result<()> {
        let blob = blob.to_owned();
        self.write(Lane::Control, "blob_stored", move |tx| {
            let sql = "INSERT INTO blobs (path, size) VALUES ($1, $2) \
                 ON CONFLICT (path) DO UPDATE SET size = excluded.size";
            tx.execute(sql, params![&blob, size]).map(drop)
        })
        .await
    }

    /// Those of the blob paths whose bytes are not known to be stored.
    pub async fn unknown_blobs(&self, blobs: Vec<String>) -> Result<Vec<String>> {
        self.read(Lane::Control, "unknown_blobs", move |tx| {
            let paths = blobs.iter().map(|blob| params![blob].to_vec());
            let records = Records::new(tx.dialect(), &[("path", Field::Text)], paths)?;
            let sql = format!(
                "SELECT DISTINCT new.path FROM {} AS new LEFT JOIN blobs b ON b.path = new.path WHERE b.path IS NULL",
                records.source(1)
            );
            tx.query(&sql, &records.after(params![]))?
                .iter()
                .map(|row| row.text(0))
                .collect()
        })
        .await
    }

    /// Whether the bytes at a blob path are stored.
    pub async fn is_blob_stored(&self, blob: &str) -> Result<bool> {
        let blob = blob.to_owned();
        self.read(Lane::Control, "is_blob_stored", move |tx| {
            Ok(tx
                .query_opt("SELECT size FROM blobs WHERE path = $1", params![&blob])?
                .is_some())
        })
        .await
    }

    /// Completes a version: `contents` are (name, base64 MD5, size) of its manifest, and `references` is how
    /// many further entries point elsewhere. Numbers it, moves its aliases and `latest`. Idempotent.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown version, [`Error::Invalid`] while bytes are missing.
    pub async fn commit_artifact(
        &self,
        artifact: ArtifactId,
        contents: Vec<(String, String, i64)>,
        references: usize,
        now: Millis,
    ) -> Result<Artifact> {
        let work = move |tx: &mut dyn Tx| versions::commit(tx, artifact, &contents, references, now);
        self.write(Lane::Control, "commit_artifact", work).await
    }

    /// Finds a version.
    pub async fn artifact(&self, id: ArtifactId) -> Result<Option<Artifact>> {
        self.read(Lane::Control, "artifact", move |tx| rows::find(tx, id)).await
    }

    /// Finds a committed version by `collection:alias`, `collection:vN` or `collection` (latest).
    pub async fn artifact_by_name(&self, entity: &str, project: &str, name: &str) -> Result<Option<Artifact>> {
        let (entity, project, name) = (entity.to_owned(), project.to_owned(), name.to_owned());
        self.read(Lane::Control, "artifact_by_name", move |tx| {
            let (collection, alias) = name.split_once(':').unwrap_or((&name, LATEST));
            match rows::collection(tx, &entity, &project, collection)? {
                Some(collection) => rows::by_alias(tx, collection.id, alias),
                None => Ok(None),
            }
        })
        .await
    }

    /// The committed versions of a collection, newest first.
    pub async fn versions(&self, collection: CollectionId) -> Result<Vec<Artifact>> {
        self.read(Lane::Control, "versions", move |tx| {
            let clause = "WHERE a.entity_id = $1 AND a.collection_id = $2 AND a.state = 1 \
                 ORDER BY a.version_index DESC";
            rows::load(tx, clause, params![collection.entity, collection.number])
        })
        .await
    }

    /// Finds a collection by name.
    pub async fn collection(&self, entity: &str, project: &str, name: &str) -> Result<Option<Collection>> {
        let (entity, project, name) = (entity.to_owned(), project.to_owned(), name.to_owned());
        let work = move |tx: &mut dyn Tx| rows::collection(tx, &entity, &project, &name);
        self.read(Lane::Control, "collection", work).await
    }

    /// The collections of a project, of one type or of all, by name.
    pub async fn collections(&self, entity: &str, project: &str, kind: Option<&str>) -> Result<Vec<Collection>> {
        let (entity, project, kind) = (entity.to_owned(), project.to_owned(), kind.map(str::to_owned));
        self.read(Lane::Control, "collections", move |tx| {
            let Some(project) = projects::find(tx, &entity, &project)? else {
                return Ok(Vec::new());
            };
            rows::collections(tx, &project, kind.as_deref())
        })
        .await
    }

    /// The files of a version, by name.
    pub async fn artifact_files(&self, artifact: ArtifactId) -> Result<Vec<ArtifactFile>> {
        self.read(Lane::Control, "artifact_files", move |tx| {
            let sql = "SELECT name, md5, size FROM artifact_files WHERE entity_id = $1 AND artifact_id = $2 \
                 ORDER BY name";
            let found = tx.query(sql, params![artifact.entity, artifact.number])?;
            found
                .iter()
                .map(|row| rows::read_artifact_file(row, artifact.entity))
                .collect()
        })
        .await
    }

    /// Changes metadata, description, aliases or tags; `None` leaves them. Aliases given are taken
    /// from other versions; `latest` stays where it is unless another version is given it.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown version, [`Error::Invalid`] for a reserved alias.
    pub async fn update_artifact(
        &self,
        artifact: ArtifactId,
        metadata: Option<String>,
        description: Option<String>,
        aliases: Option<Vec<String>>,
        tags: Option<Vec<String>>,
        now: Millis,
    ) -> Result<Artifact> {
        self.write(Lane::Control, "update_artifact", move |tx| {
            let locked = versions::lock(tx, artifact)?;
            let tags = tags.as_ref().map(|tags| serde_json::json!(tags).to_string());
            let sql = "UPDATE artifacts SET metadata = COALESCE(CAST($3 AS TEXT), metadata), \
                 description = COALESCE(CAST($4 AS TEXT), description), tags = COALESCE(CAST($5 AS TEXT), tags), \
                 updated_at = $6 WHERE entity_id = $1 AND id = $2";
            let (metadata, description) = (metadata.as_deref(), description.as_deref());
            let params = params![artifact.entity, artifact.number, metadata, description, tags, now];
            tx.execute(sql, params)?;
            if let Some(aliases) = &aliases {
                versions::replace_aliases(tx, &locked, aliases)?;
            }
            rows::require(tx, artifact)
        })
        .await
    }

    /// Records that a run uses a version.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown run or version.
    pub async fn use_artifact(&self, run: &RunName, artifact: ArtifactId, now: Millis) -> Result<()> {
        let run = run.clone();
        self.write(Lane::Control, "use_artifact", move |tx| {
            let number = runs::number(tx, &run)?.ok_or_else(|| Error::not_found("run", &run))?;
            rows::require(tx, artifact)?;
            let sql = "INSERT INTO artifact_uses (run_number, artifact_entity_id, artifact_id, at) \
                 VALUES ($1, $2, $3, $4) ON CONFLICT (run_number, artifact_entity_id, artifact_id) DO NOTHING";
            tx.execute(sql, params![number, artifact.entity, artifact.number, now])
                .map(drop)
        })
        .await
    }

    /// Versions that a run used, oldest use first.
    pub async fn used_artifacts(&self, run: &RunName) -> Result<Vec<Artifact>> {
        let clause = "JOIN artifact_uses u ON u.artifact_entity_id = a.entity_id AND u.artifact_id = a.id \
             WHERE u.run_number = $1 ORDER BY u.at, a.id";
        self.artifacts_of_run(run, clause).await
    }

    /// Versions that a run logged, oldest first.
    pub async fn logged_artifacts(&self, run: &RunName) -> Result<Vec<Artifact>> {
        self.artifacts_of_run(run, "WHERE a.run_number = $1 ORDER BY a.id")
            .await
    }

    async fn artifacts_of_run(&self, run: &RunName, clause: &'static str) -> Result<Vec<Artifact>> {
        let run = run.clone();
        self.read(Lane::Control, "artifacts_of_run", move |tx| {
            match runs::number(tx, &run)? {
                Some(number) => rows::load(tx, clause, params![number]),
                None => Ok(Vec::new()),
            }
        })
        .await
    }

    /// The version that a client knows by its own id.
    pub async fn artifact_by_client_id(&self, client_id: &str) -> Result<Option<ArtifactId>> {
        let client_id = client_id.to_owned();
        self.read(Lane::Control, "artifact_by_client_id", move |tx| {
            let sql = "SELECT entity_id, artifact_id FROM artifact_client_ids WHERE client_id = $1";
            let row = tx.query_opt(sql, params![&client_id])?;
            row.map(|row| Ok(ArtifactId::new(row.i64(0)?, row.i64(1)?))).transpose()
        })
        .await
    }
}

/// The alias that every newest version gets.
const LATEST: &str = "latest";

/// The number in `v0`, `v1`, …
fn version_number(alias: &str) -> Option<i64> {
    let digits = alias
        .strip_prefix('v')
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

/// Where the bytes of a digest lie.
///
/// # Errors
/// [`Error::Invalid`] if it is not base64 of an MD5.
fn blob_path(entity: i64, digest: &str) -> Result<String> {
    let md5 = decode_md5(digest)
        .ok_or_else(|| Error::Invalid(format!("`{}` is not the base64 form of an MD5 digest", shorten(digest))))?;
    Ok(path::artifact(entity, &md5))
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_v_and_digits_name_a_version_by_number() {
        let cases = [
            ("v0", Some(0)),
            ("v12", Some(12)),
            ("v", None),
            ("v1a", None),
            ("V1", None),
            ("latest", None),
            ("v+1", None),
            ("v99999999999999999999", None),
        ];
        for (alias, number) in cases {
            assert_eq!(version_number(alias), number, "{alias}");
        }
    }
}
