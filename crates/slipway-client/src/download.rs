//! Downloading artifacts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt as _, TryStreamExt as _};
use md5::{Digest as _, Md5};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use slipway_wire::artifact::{Artifact, FileUrl, Manifest, ManifestEntry};
use slipway_wire::document::official;
use slipway_wire::graphql::Connection;
use slipway_wire::job::{self, JobFile};
use tokio::io::AsyncWriteExt as _;

use crate::Client;
use crate::error::Error;
use crate::transport::Repeat;

/// File addresses asked for at once.
const PAGE: usize = 5_000;

/// Files fetched at once.
const PARALLEL: usize = 8;

/// The largest manifest that is read.
const MANIFEST_LIMIT: usize = 256 << 20;

/// The largest job file that is read.
const JOB_FILE_LIMIT: usize = 4 << 20;

/// Why an artifact could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// A call failed.
    #[error(transparent)]
    Call(#[from] Error),
    /// The disk refused.
    #[error("cannot write `{path}`: {source}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file's name leads out of the folder, or is no plain path in it.
    #[error("the artifact holds a file named {name:?}, which is no plain path below its folder")]
    Name {
        /// The name.
        name: String,
    },
    /// The bytes are not those that were uploaded.
    #[error("file `{name}` of the artifact has MD5 {found}, its manifest says {expected}")]
    Digest {
        /// The file's name.
        name: String,
        /// Base64.
        expected: String,
        /// Base64.
        found: String,
    },
    /// The bytes are not stored with the artifact.
    #[error("file `{name}` of the artifact is only a reference, to `{target}`; references are not fetched")]
    Reference {
        /// The file's name.
        name: String,
        /// What it refers to.
        target: String,
    },
    /// The artifact or its server gives no address for a file.
    #[error("the server gives no address for file `{name}` of the artifact")]
    Missing {
        /// The file's name.
        name: String,
    },
    /// A file that must be small is not.
    #[error("`{name}` is larger than {limit} bytes")]
    Large {
        /// The file's name.
        name: String,
        /// The limit.
        limit: usize,
    },
}

impl DownloadError {
    /// Whether the same download may succeed later without anybody's doing.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_passing())
    }
}

type Result<T> = std::result::Result<T, DownloadError>;

impl Client {
    /// Downloads every file of a version into a folder, which is made if absent and should hold
    /// nothing else. Digests are checked. A file appears under its name only when it is complete.
    ///
    /// # Errors
    /// [`DownloadError`]; what was fetched before stays.
    pub async fn download_artifact(&self, artifact: &Artifact, folder: &Path) -> Result<Manifest> {
        let manifest = self.artifact_manifest(artifact).await?;
        let urls = self.file_urls(artifact).await?;
        let mut files = Vec::with_capacity(manifest.contents.len());
        for (name, entry) in &manifest.contents {
            let path = folder.join(file_path(name)?);
            files.push((name.as_str(), entry, address(name, entry, &urls)?, path));
        }
        make_folder(folder).await?;
        futures::stream::iter(files)
            .map(Ok)
            .try_for_each_concurrent(PARALLEL, |(name, entry, url, path)| async move {
                self.fetch_to(name, entry, url, &path).await
            })
            .await?;
        Ok(manifest)
    }

    /// Reads the job file of a job.
    ///
    /// # Errors
    /// [`DownloadError::Missing`] if the version is no job.
    pub async fn job_file(&self, artifact: &Artifact) -> Result<JobFile> {
        let missing = || DownloadError::Missing {
            name: job::FILE.to_owned(),
        };
        let manifest = self.artifact_manifest(artifact).await?;
        let entry = manifest.contents.get(job::FILE).ok_or_else(missing)?;
        let urls = self.file_urls(artifact).await?;
        let url = address(job::FILE, entry, &urls)?;
        let bytes = self.fetch_small(job::FILE, url, JOB_FILE_LIMIT).await?;
        check(job::FILE, entry, &Md5::digest(&bytes))?;
        serde_json::from_slice(&bytes).map_err(|error| self.protocol(format!("`{}`: {error}", job::FILE)).into())
    }

    /// The list of a version's files.
    ///
    /// # Errors
    /// [`DownloadError::Missing`] if the version has none.
    pub async fn artifact_manifest(&self, artifact: &Artifact) -> Result<Manifest> {
        #[derive(Deserialize)]
        struct Answer {
            artifact: Option<WithManifest>,
        }
        #[derive(Deserialize)]
        struct WithManifest {
            #[serde(rename = "currentManifest")]
            manifest: Option<WithFile>,
        }
        #[derive(Deserialize)]
        struct WithFile {
            file: Option<File>,
        }
        #[derive(Deserialize)]
        struct File {
            #[serde(rename = "directUrl")]
            direct_url: Option<String>,
        }
        let name = "the manifest";
        let variables = json!({"id": artifact.id});
        let answer: Answer = self.call(&official::FETCH_ARTIFACT_MANIFEST, variables).await?;
        let manifest = answer.artifact.and_then(|artifact| artifact.manifest);
        let url = manifest
            .and_then(|manifest| manifest.file)
            .and_then(|file| file.direct_url);
        let url = url.ok_or_else(|| DownloadError::Missing { name: name.to_owned() })?;
        let bytes = self.fetch_small(name, &url, MANIFEST_LIMIT).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.protocol(format!("{name} of an artifact: {error}")).into())
    }

    async fn file_urls(&self, artifact: &Artifact) -> Result<BTreeMap<String, String>> {
        #[derive(Deserialize)]
        struct Answer {
            project: Option<Project>,
        }
        #[derive(Deserialize)]
        struct Project {
            #[serde(rename = "artifactCollection")]
            collection: Option<Collection>,
        }
        #[derive(Deserialize)]
        struct Collection {
            #[serde(rename = "artifactMembership")]
            membership: Option<Membership>,
        }
        #[derive(Deserialize)]
        struct Membership {
            files: Connection<FileUrl>,
        }
        let sequence = &artifact.artifact_sequence;
        let alias = format!("v{}", artifact.version_index.unwrap_or_default());
        let mut urls = BTreeMap::new();
        let mut cursor: Option<String> = None;
        loop {
            let variables = json!({
                "entity": sequence.project.entity.name, "project": sequence.project.name,
                "collection": sequence.name, "alias": alias, "cursor": cursor, "perPage": PAGE,
            });
            let answer: Answer = self
                .call(&official::GET_ARTIFACT_MEMBERSHIP_FILE_URLS, variables)
                .await?;
            let collection = answer.project.and_then(|project| project.collection);
            let Some(membership) = collection.and_then(|collection| collection.membership) else {
                return Ok(urls);
            };
            let page = membership.files.page_info.clone();
            let files = membership.files.into_nodes();
            urls.extend(files.filter_map(|file| Some((file.name, file.direct_url?))));
            if !page.has_next_page || page.end_cursor.is_none() || page.end_cursor == cursor {
                return Ok(urls);
            }
            cursor = page.end_cursor;
        }
    }

    async fn fetch_to(&self, name: &str, entry: &ManifestEntry, url: &str, path: &Path) -> Result<()> {
        let disk = |source| DownloadError::Disk {
            path: path.to_owned(),
            source,
        };
        if let Some(parent) = path.parent() {
            make_folder(parent).await?;
        }
        // A name that no artifact file has: the suffix follows a character that MD5 base64 lacks.
        let partial = path.with_file_name(format!(".{}.partial", md5_hex(name)));
        let digest = self.fetch_file(url, &partial).await?;
        check(name, entry, &digest)?;
        tokio::fs::rename(&partial, path).await.map_err(disk)
    }

    /// Streams an address into a file and returns the MD5 of what came.
    async fn fetch_file(&self, url: &str, path: &Path) -> Result<Vec<u8>> {
        let disk = |source| DownloadError::Disk {
            path: path.to_owned(),
            source,
        };
        // A broken connection begins anew; a full disk does not, so it is carried through as a value.
        self.repeat(Repeat::Harmless, || async {
            let response = self
                .signed(Method::GET, url)?
                .send()
                .await
                .map_err(|error| self.transport(&error))?;
            let mut body = self.check(response).await?.bytes_stream();
            let mut file = match tokio::fs::File::create(path).await {
                Ok(file) => file,
                Err(error) => return Ok(Err(disk(error))),
            };
            let mut digest = Md5::new();
            while let Some(bytes) = tokio::time::timeout(self.timeout(), body.next())
                .await
                .map_err(|_| self.silent("a download stalled"))?
            {
                let bytes = bytes.map_err(|error| self.transport(&error))?;
                digest.update(&bytes);
                if let Err(error) = file.write_all(&bytes).await {
                    return Ok(Err(disk(error)));
                }
            }
            Ok(file.flush().await.map_err(disk).map(|()| digest.finalize().to_vec()))
        })
        .await?
    }

    /// Reads what an address gives, if that is no more than `limit` bytes.
    pub(crate) async fn fetch_small(&self, name: &str, url: &str, limit: usize) -> Result<Vec<u8>> {
        let bytes = self
            .repeat(Repeat::Harmless, || async {
                let response = self
                    .signed(Method::GET, url)?
                    .timeout(self.timeout())
                    .send()
                    .await
                    .map_err(|error| self.transport(&error))?;
                let mut body = self.check(response).await?.bytes_stream();
                let mut bytes = Vec::new();
                while let Some(chunk) = body.next().await {
                    bytes.extend_from_slice(&chunk.map_err(|error| self.transport(&error))?);
                    if bytes.len() > limit {
                        return Ok(None);
                    }
                }
                Ok(Some(bytes))
            })
            .await?;
        bytes.ok_or_else(|| DownloadError::Large {
            name: name.to_owned(),
            limit,
        })
    }
}

async fn make_folder(path: &Path) -> Result<()> {
    tokio::fs::create_dir_all(path)
        .await
        .map_err(|source| DownloadError::Disk {
            path: path.to_owned(),
            source,
        })
}

fn address<'a>(name: &str, entry: &ManifestEntry, urls: &'a BTreeMap<String, String>) -> Result<&'a str> {
    if let Some(target) = &entry.reference {
        return Err(DownloadError::Reference {
            name: name.to_owned(),
            target: target.clone(),
        });
    }
    urls.get(name)
        .map(String::as_str)
        .ok_or_else(|| DownloadError::Missing { name: name.to_owned() })
}

fn check(name: &str, entry: &ManifestEntry, digest: &[u8]) -> Result<()> {
    let found = STANDARD.encode(digest);
    if found == entry.digest {
        return Ok(());
    }
    Err(DownloadError::Digest {
        name: name.to_owned(),
        expected: entry.digest.clone(),
        found,
    })
}

/// Where a file of an artifact is kept below the artifact's folder. The name is whatever the manifest
/// says.
///
/// # Errors
/// [`DownloadError::Name`] if the path would not stay in the folder, or would have another name too.
pub fn file_path(name: &str) -> Result<PathBuf> {
    // A path would leave out empty and `.` parts, and two files of the manifest would be one.
    let plain = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !plain || name.contains('\0') {
        return Err(DownloadError::Name { name: name.to_owned() });
    }
    Ok(PathBuf::from(name))
}

fn md5_hex(text: &str) -> String {
    Md5::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{check, file_path};
    use slipway_wire::artifact::ManifestEntry;

    #[test]
    fn names_stay_in_their_folder() {
        for (name, stays) in [
            ("train.py", true),
            ("src/model/net.py", true),
            ("odd=name %20", true),
            ("", false),
            ("/etc/passwd", false),
            ("../x", false),
            ("a/../../x", false),
            ("a/", false),
            ("a//b", false),
            ("a/./b", false),
            ("a/.", false),
            ("./a", false),
            ("a\0b", false),
        ] {
            assert_eq!(file_path(name).is_ok(), stays, "{name:?}");
        }
    }

    #[test]
    fn a_digest_that_differs_is_refused() {
        let entry = ManifestEntry {
            digest: "AAAA".to_owned(),
            size: None,
            birth_artifact_id: None,
            reference: None,
        };
        assert!(check("x", &entry, &[0, 0, 0]).is_ok());
        assert!(check("x", &entry, &[0, 0, 1]).is_err());
    }
}
