//! Artifacts: versions, manifests, uploads and downloads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::run::Project;
use crate::scalar::{json_or_text, null_as_default};

/// The name under which a manifest is uploaded.
pub const MANIFEST_NAME: &str = "wandb_manifest.json";

/// A version of an artifact in a collection.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    /// The number of the version in the collection.
    #[serde(default)]
    pub version_index: Option<i64>,
    /// The names of the version.
    #[serde(default, deserialize_with = "null_as_default")]
    pub aliases: Vec<Alias>,
    /// The collection.
    pub artifact_collection: Collection,
    /// The version.
    pub artifact: Artifact,
}

/// A name of a version.
#[derive(Debug, Clone, Deserialize)]
pub struct Alias {
    /// Such as `latest`.
    pub alias: String,
}

/// A collection with its project.
#[derive(Debug, Clone, Deserialize)]
pub struct Collection {
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: Project,
}

/// A version of an artifact.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Standard base64.
    pub id: String,
    /// The collection in which it was made.
    pub artifact_sequence: Collection,
    /// The number of the version in that collection.
    #[serde(default)]
    pub version_index: Option<i64>,
    /// The type.
    pub artifact_type: ArtifactType,
    /// A description.
    #[serde(default)]
    pub description: Option<String>,
    /// Free data.
    #[serde(default, deserialize_with = "json_or_text")]
    pub metadata: Value,
    /// `PENDING`, `COMMITTED` or `DELETED`.
    pub state: String,
    /// The sum of its files, in bytes.
    #[serde(default)]
    pub size: Option<i64>,
    /// Over the manifest.
    #[serde(default)]
    pub digest: Option<String>,
    /// When it was made.
    #[serde(default)]
    pub created_at: Option<String>,
}

/// The type of an artifact.
#[derive(Debug, Clone, Deserialize)]
pub struct ArtifactType {
    /// Such as `job`.
    pub name: String,
}

/// The list of an artifact's files.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The format's version, 1.
    pub version: i64,
    /// How files are stored.
    pub storage_policy: String,
    /// Particulars of that.
    #[serde(default)]
    pub storage_policy_config: Value,
    /// By file name.
    pub contents: BTreeMap<String, ManifestEntry>,
}

/// One file of an artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// MD5, base64.
    pub digest: String,
    /// In bytes.
    #[serde(default)]
    pub size: Option<u64>,
    /// The version that first held the file.
    #[serde(rename = "birthArtifactID", default, skip_serializing_if = "Option::is_none")]
    pub birth_artifact_id: Option<String>,
    /// Where the bytes are, for files that are not stored with the artifact.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

impl Manifest {
    /// A manifest of files that are stored with the artifact.
    #[must_use]
    pub fn new(contents: BTreeMap<String, ManifestEntry>) -> Self {
        Self {
            version: 1,
            storage_policy: "wandb-storage-policy-v1".to_owned(),
            storage_policy_config: json!({"storageLayout": "V2"}),
            contents,
        }
    }

    /// The text whose MD5 in hex is the artifact's digest.
    #[must_use]
    pub fn digest_text(&self) -> String {
        let mut text = String::from("wandb-artifact-manifest-v1\n");
        for (name, entry) in &self.contents {
            text.push_str(&format!("{name}:{}\n", entry.digest));
        }
        text
    }
}

/// A version to begin.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewArtifact {
    /// The type.
    pub artifact_type_name: String,
    /// The collection.
    pub artifact_collection_name: String,
    /// The owner.
    pub entity_name: String,
    /// The project.
    pub project_name: String,
    /// The run that makes it.
    pub run_name: Option<String>,
    /// A description.
    pub description: Option<String>,
    /// Over the manifest.
    pub digest: String,
    /// Always `MANIFEST_MD5`.
    pub digest_algorithm: &'static str,
    /// The names of the version.
    pub aliases: Vec<NewAlias>,
    /// Free data, as JSON text.
    pub metadata: Option<String>,
    /// Chosen by the client, so that a repeated request finds its version again.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// Likewise for the collection.
    #[serde(rename = "sequenceClientID")]
    pub sequence_client_id: String,
    /// Whether a committed version with the same digest is answered instead.
    pub enable_digest_deduplication: bool,
}

/// A name to give to a version.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewAlias {
    /// Such as `latest`.
    pub alias: String,
    /// The collection.
    pub artifact_collection_name: String,
}

/// A version that was begun, or found.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedArtifact {
    /// Standard base64.
    pub id: String,
    /// `COMMITTED` if the same content was there already.
    pub state: String,
    /// The collection's last version.
    #[serde(default)]
    pub artifact_sequence: Option<Sequence>,
}

/// A collection's last version.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sequence {
    /// None if the collection is new.
    #[serde(default)]
    pub latest_artifact: Option<Latest>,
}

/// A version, by id.
#[derive(Debug, Clone, Deserialize)]
pub struct Latest {
    /// Standard base64.
    pub id: String,
}

/// Where to upload a file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Upload {
    /// Where to put it; none if it is stored already.
    pub upload_url: Option<String>,
    /// `Name:Value`, to be sent with the upload.
    #[serde(deserialize_with = "null_as_default")]
    pub upload_headers: Vec<String>,
}

/// A file to upload.
#[derive(Debug, Clone, Serialize)]
pub struct NewFile {
    /// The version.
    #[serde(rename = "artifactID")]
    pub artifact_id: String,
    /// Its manifest.
    #[serde(rename = "artifactManifestID")]
    pub artifact_manifest_id: String,
    /// The file's name.
    pub name: String,
    /// MD5, base64.
    pub md5: String,
}

/// A file and where its bytes are.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileUrl {
    /// The file's name.
    pub name: String,
    /// Where to get it, without credentials.
    #[serde(default)]
    pub direct_url: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::{Manifest, ManifestEntry};
    use std::collections::BTreeMap;

    #[test]
    fn the_digest_covers_names_and_digests_in_order() {
        let entry = |digest: &str| ManifestEntry {
            digest: digest.to_owned(),
            size: Some(1),
            birth_artifact_id: None,
            reference: None,
        };
        let manifest = Manifest::new(BTreeMap::from([
            ("b".to_owned(), entry("2")),
            ("a".to_owned(), entry("1")),
        ]));
        assert_eq!(manifest.digest_text(), "wandb-artifact-manifest-v1\na:1\nb:2\n");
    }
}
