//! Uploading artifacts and files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::TryStreamExt as _;
use md5::{Digest as _, Md5};
use rand::RngExt as _;
use reqwest::Method;
use reqwest::header::CONTENT_LENGTH;
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_wire::artifact::{
    CreatedArtifact, MANIFEST_NAME, Manifest, ManifestEntry, NewAlias, NewArtifact, NewFile, Upload,
};
use slipway_wire::document::official;
use slipway_wire::graphql::Connection;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use crate::Client;
use crate::error::{Error, Result};
use crate::transport::Repeat;

/// Files registered at once.
const BATCH: usize = 1_000;

/// Files sent at once.
const PARALLEL: usize = 8;

/// Where a file's bytes come from.
#[derive(Debug, Clone)]
pub enum Content {
    /// Memory.
    Bytes(Bytes),
    /// A file, which must not change meanwhile.
    File(PathBuf),
}

/// A file to upload.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Its name in the artifact, with `/` between folders.
    pub name: String,
    /// Its bytes.
    pub content: Content,
}

/// A version to make.
#[derive(Debug, Clone)]
pub struct ArtifactUpload {
    /// The owner.
    pub entity: String,
    /// The project.
    pub project: String,
    /// The run that makes it; the official API wants one.
    pub run: String,
    /// The collection.
    pub collection: String,
    /// The type, such as `job`.
    pub kind: String,
    /// A description.
    pub description: Option<String>,
    /// Free data.
    pub metadata: Value,
    /// Names of the version; `latest` is always among them.
    pub aliases: Vec<String>,
    /// The files.
    pub files: Vec<SourceFile>,
}

/// What an upload came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadOutcome {
    /// The collection is new.
    Created,
    /// The collection has a new version.
    Updated,
    /// The same content was there already.
    Unchanged,
}

/// A version that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// The version's id.
    pub id: String,
    /// What it came to.
    pub outcome: UploadOutcome,
}

impl Client {
    /// Makes a version of an artifact. It becomes visible at the end, as a whole.
    ///
    /// # Errors
    /// [`Error::Invalid`] also if a file cannot be read.
    pub async fn upload_artifact(&self, upload: &ArtifactUpload) -> Result<Uploaded> {
        let mut contents = BTreeMap::new();
        for file in &upload.files {
            contents.insert(file.name.clone(), entry(&file.content).await?);
        }
        let manifest = Manifest::new(contents);
        let created = self.create_artifact(upload, &manifest).await?;
        let is_new = created
            .artifact_sequence
            .as_ref()
            .is_none_or(|sequence| sequence.latest_artifact.is_none());
        if created.state == "COMMITTED" {
            return Ok(Uploaded {
                id: created.id,
                outcome: UploadOutcome::Unchanged,
            });
        }
        let (manifest_id, _) = self.register_manifest(upload, &created.id, "", false).await?;
        self.send_files(upload, &created.id, &manifest_id, &manifest).await?;
        self.send_manifest(upload, &created.id, manifest).await?;
        let committed: Value = self
            .call(&official::COMMIT_ARTIFACT, json!({"artifactID": created.id}))
            .await?;
        let id = committed.pointer("/commitArtifact/artifact/id").and_then(Value::as_str);
        Ok(Uploaded {
            id: id.map_or(created.id, str::to_owned),
            outcome: if is_new {
                UploadOutcome::Created
            } else {
                UploadOutcome::Updated
            },
        })
    }

    async fn create_artifact(&self, upload: &ArtifactUpload, manifest: &Manifest) -> Result<CreatedArtifact> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "createArtifact")]
            payload: Option<Payload>,
        }
        #[derive(Deserialize)]
        struct Payload {
            artifact: CreatedArtifact,
        }
        let mut aliases = upload.aliases.clone();
        if !aliases.iter().any(|alias| alias == "latest") {
            aliases.push("latest".to_owned());
        }
        let digest = Md5::digest(manifest.digest_text());
        let input = NewArtifact {
            artifact_type_name: upload.kind.clone(),
            artifact_collection_name: upload.collection.clone(),
            entity_name: upload.entity.clone(),
            project_name: upload.project.clone(),
            run_name: Some(upload.run.clone()),
            description: upload.description.clone(),
            digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            digest_algorithm: "MANIFEST_MD5",
            aliases: aliases
                .into_iter()
                .map(|alias| NewAlias {
                    alias,
                    artifact_collection_name: upload.collection.clone(),
                })
                .collect(),
            metadata: (!upload.metadata.is_null()).then(|| upload.metadata.to_string()),
            client_id: client_id(),
            sequence_client_id: client_id(),
            enable_digest_deduplication: true,
        };
        let answer: Answer = self.call(&official::CREATE_ARTIFACT, json!({"input": input})).await?;
        let payload = answer.payload.map(|payload| payload.artifact);
        payload.ok_or_else(|| self.protocol("`CreateArtifact`: the answer holds no artifact"))
    }

    async fn register_manifest(
        &self,
        upload: &ArtifactUpload,
        artifact_id: &str,
        digest: &str,
        include_upload: bool,
    ) -> Result<(String, Option<Upload>)> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "createArtifactManifest")]
            payload: Payload,
        }
        #[derive(Deserialize)]
        struct Payload {
            #[serde(rename = "artifactManifest")]
            manifest: WithFile,
        }
        #[derive(Deserialize)]
        struct WithFile {
            id: String,
            file: Option<Upload>,
        }
        let variables = json!({
            "artifactID": artifact_id, "baseArtifactID": null, "name": MANIFEST_NAME, "digest": digest,
            "entityName": upload.entity, "projectName": upload.project, "runName": upload.run,
            "manifestType": "FULL", "includeUpload": include_upload,
        });
        let answer: Answer = self.call(&official::CREATE_ARTIFACT_MANIFEST, variables).await?;
        let manifest = answer.payload.manifest;
        Ok((manifest.id, manifest.file))
    }

    async fn send_files(
        &self,
        upload: &ArtifactUpload,
        artifact_id: &str,
        manifest_id: &str,
        manifest: &Manifest,
    ) -> Result<()> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "createArtifactFiles")]
            payload: Payload,
        }
        #[derive(Deserialize)]
        struct Payload {
            files: Connection<Upload>,
        }
        for batch in upload.files.chunks(BATCH) {
            let files: Vec<NewFile> = batch
                .iter()
                .map(|file| NewFile {
                    artifact_id: artifact_id.to_owned(),
                    artifact_manifest_id: manifest_id.to_owned(),
                    name: file.name.clone(),
                    md5: manifest.contents[&file.name].digest.clone(),
                })
                .collect();
            let variables = json!({"input": {"artifactFiles": files, "storageLayout": "V2"}});
            let answer: Answer = self.call(&official::CREATE_ARTIFACT_FILES, variables).await?;
            // Answers are matched to requests by position.
            let places: Vec<Upload> = answer.payload.files.into_nodes().collect();
            if places.len() != batch.len() {
                return Err(self.protocol(format!(
                    "`CreateArtifactFiles`: {} answers for {} files",
                    places.len(),
                    batch.len()
                )));
            }
            futures::stream::iter(batch.iter().zip(places).map(Ok))
                .try_for_each_concurrent(PARALLEL, |(file, place)| async move {
                    match place.upload_url {
                        Some(url) => self.put(&url, &place.upload_headers, &file.content).await,
                        None => Ok(()),
                    }
                })
                .await?;
        }
        Ok(())
    }

    async fn send_manifest(&self, upload: &ArtifactUpload, artifact_id: &str, mut manifest: Manifest) -> Result<()> {
        for entry in manifest.contents.values_mut() {
            entry.birth_artifact_id = Some(artifact_id.to_owned());
        }
        let text = serde_json::to_vec(&manifest).map_err(|error| Error::invalid(error.to_string()))?;
        let digest = STANDARD.encode(Md5::digest(&text));
        let (_, place) = self.register_manifest(upload, artifact_id, &digest, true).await?;
        let place = place.unwrap_or_default();
        let Some(url) = place.upload_url else {
            return Err(self.protocol("`CreateArtifactManifest`: no address for the manifest"));
        };
        self.put(&url, &place.upload_headers, &Content::Bytes(text.into()))
            .await
    }

    /// Sends bytes to an address that the server gave. `headers`: `Name:Value`.
    pub(crate) async fn put(&self, address: &str, headers: &[String], content: &Content) -> Result<()> {
        self.repeat(Repeat::Harmless, || async {
            let mut request = self.signed(Method::PUT, address)?;
            for header in headers {
                if let Some((name, value)) = header.split_once(':') {
                    request = request.header(name.trim(), value.trim());
                }
            }
            let request = match content {
                Content::Bytes(bytes) => request.body(bytes.clone()),
                Content::File(path) => {
                    let file = tokio::fs::File::open(path)
                        .await
                        .map_err(|error| unreadable(path, &error))?;
                    let length = file.metadata().await.map_err(|error| unreadable(path, &error))?.len();
                    request
                        .header(CONTENT_LENGTH, length)
                        .body(reqwest::Body::wrap_stream(ReaderStream::new(file)))
                }
            };
            let response = request.send().await.map_err(|error| self.transport(&error))?;
            self.check(response).await.map(|_| ())
        })
        .await
    }
}

/// Reads a file once to learn its digest and size.
async fn entry(content: &Content) -> Result<ManifestEntry> {
    let (digest, size) = match content {
        Content::Bytes(bytes) => (Md5::digest(bytes).to_vec(), bytes.len() as u64),
        Content::File(path) => {
            let mut file = tokio::fs::File::open(path)
                .await
                .map_err(|error| unreadable(path, &error))?;
            let mut digest = Md5::new();
            let mut size = 0;
            let mut buffer = vec![0; 256 << 10];
            loop {
                let read = file.read(&mut buffer).await.map_err(|error| unreadable(path, &error))?;
                if read == 0 {
                    break;
                }
                digest.update(&buffer[..read]);
                size += read as u64;
            }
            (digest.finalize().to_vec(), size)
        }
    };
    Ok(ManifestEntry {
        digest: STANDARD.encode(digest),
        size: Some(size),
        birth_artifact_id: None,
        reference: None,
    })
}

fn unreadable(path: &std::path::Path, error: &std::io::Error) -> Error {
    Error::invalid(format!("cannot read `{}`: {error}", path.display()))
}

/// 128 characters, as the official client makes them.
fn client_id() -> String {
    const ALPHABET: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut rng = rand::rng();
    (0..128)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect()
}
