//! Fetches what an item runs: the job, its code, its entry point.
//!
//! Code artifacts are kept below the agent's cache by digest, complete or not at all; a workload
//! gets a copy. Nothing of a job is executed here.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use slipway_client::{ArtifactName, Client, DownloadError};
use slipway_model::item::Failure;
use slipway_model::queue::Resource;
use slipway_wire::artifact::Artifact;
use slipway_wire::job::{JobFile, SourceType};

use crate::item::plan::{IMAGE_ON_PROCESS, Plan, failure};
use crate::patience::persistently;
use crate::state_directory::random_base36;

pub(crate) mod git;

pub(crate) use git::GitError;

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// The code; none for a job that is only a command.
    pub(crate) directory: Option<PathBuf>,
    /// The image, where the job is one.
    pub(crate) image: Option<String>,
    /// The entry point; empty where an image brings its own.
    pub(crate) command: Vec<String>,
    /// What follows it.
    pub(crate) arguments: Vec<String>,
}

/// Why a job's source could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(
        "the launch spec names no job and no image, nor an entry point that could run without, so there is nothing to run"
    )]
    Nothing,
    #[error("job `{0}` does not exist, or the job's author may not read it")]
    NoJob(String),
    #[error("job `{job}` needs its code, artifact `{id}`, which was deleted; create the job again")]
    CodeDeleted { job: String, id: String },
    #[error("job `{0}` has no usable description: it names neither code nor repository")]
    BadJob(String),
    #[error("job `{0}` is a container image; {IMAGE_ON_PROCESS}")]
    Image(String),
    #[error(
        "job `{0}` is code, and a container needs an image, which this agent does not build; make an image job of it \
         (`slipway job create image`), or run it as a process: on a queue of `local-process`, or without a queue by \
         `slipway launch --resource local-process`"
    )]
    NeedsImage(String),
    #[error("job `{job}` is a notebook; convert it to a script, for example with `jupyter nbconvert --to script`")]
    Notebook { job: String },
    #[error(transparent)]
    Call(#[from] slipway_client::Error),
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("could not keep the code in `{}`: {source}", path.display())]
    Cache { path: PathBuf, source: std::io::Error },
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let reason = match &error {
            SourceError::Nothing => "no-source",
            SourceError::NoJob(_) => "job-not-found",
            SourceError::CodeDeleted { .. } => "code-deleted",
            SourceError::BadJob(_) => "bad-job",
            SourceError::Image(_) => "image-on-process",
            SourceError::NeedsImage(_) => "needs-image",
            SourceError::Notebook { .. } => "notebook",
            SourceError::Call(_) | SourceError::Download(_) => "fetch-failed",
            SourceError::Git(_) => "git",
            SourceError::Cache { .. } => "cache",
        };
        failure(reason, error.to_string())
    }
}

/// Fetches the source of a plan. `client` acts on the author's behalf where the server gave a key
/// for that. Waits through outages.
pub(crate) async fn fetch(client: &Client, cache: &Path, plan: &Plan) -> Result<Source, SourceError> {
    let overrides = plan.spec.overrides();
    let container = plan.resource == Resource::LocalContainer;
    if let Some(image) = plan.spec.docker_image() {
        return Ok(Source {
            directory: None,
            image: Some(image.to_owned()),
            command: overrides.entry_point,
            arguments: overrides.args,
        });
    }
    let Some(name) = plan.spec.job() else {
        if overrides.entry_point.is_empty() || container {
            return Err(SourceError::Nothing);
        }
        return Ok(Source {
            directory: None,
            image: None,
            command: overrides.entry_point,
            arguments: overrides.args,
        });
    };
    let job_name = &ArtifactName::parse(name, Some(&plan.run.entity), Some(&plan.run.project))?;
    let found = persistently(client, "find the job", |client| async move {
        client.artifact(job_name).await
    })
    .await?;
    let artifact = &found.ok_or_else(|| SourceError::NoJob(job_name.to_string()))?.artifact;
    let job = download(client, "read the job", |client| async move {
        client.job_file(artifact).await
    })
    .await?;
    if job.source.notebook == Some(true) {
        return Err(SourceError::Notebook { job: name.to_owned() });
    }
    let (mut directory, mut image) = (None, None);
    match job.source_type {
        SourceType::Image if !container => return Err(SourceError::Image(name.to_owned())),
        SourceType::Image => {
            let reference = job.source.image.clone().filter(|image| !image.is_empty());
            image = Some(reference.ok_or_else(|| SourceError::BadJob(name.to_owned()))?);
        }
        SourceType::Artifact | SourceType::Repo if container => return Err(SourceError::NeedsImage(name.to_owned())),
        SourceType::Artifact => directory = Some(fetch_code(client, cache, name, &job).await?),
        SourceType::Repo => {
            let git = job
                .source
                .git
                .as_ref()
                .ok_or_else(|| SourceError::BadJob(name.to_owned()))?;
            directory = Some(git::fetch(cache, git).await?);
        }
    }
    Ok(Source {
        directory,
        image,
        command: entry_point(job.source.entrypoint, overrides.entry_point),
        arguments: overrides.args,
    })
}

/// The override wins over the job's entry point.
fn entry_point(job: Option<Vec<String>>, over: Vec<String>) -> Vec<String> {
    if over.is_empty() { job.unwrap_or_default() } else { over }
}

async fn fetch_code(client: &Client, cache: &Path, job: &str, file: &JobFile) -> Result<PathBuf, SourceError> {
    let id = file
        .code_artifact_id()
        .ok_or_else(|| SourceError::BadJob(job.to_owned()))?;
    let deleted = || SourceError::CodeDeleted {
        job: job.to_owned(),
        id: id.to_owned(),
    };
    let artifact = &persistently(client, "find the code", |client| async move {
        client.artifact_by_id(id).await
    })
    .await?
    .filter(|artifact| artifact.state != "DELETED")
    .ok_or_else(deleted)?;
    let directory = cache.join("code").join(cache_key(client.base_url(), artifact));
    if directory.is_dir() {
        return Ok(directory);
    }
    let partial = &directory.with_extension(format!("{}.partial", random_base36(8)));
    let fetched = download(client, "download the code", |client| async move {
        client.download_artifact(artifact, partial).await
    });
    if let Err(error) = fetched.await {
        let _ = tokio::fs::remove_dir_all(partial).await;
        return Err(error.into());
    }
    if let Err(source) = tokio::fs::rename(partial, &directory).await {
        let _ = tokio::fs::remove_dir_all(partial).await;
        // Another item fetched the same code meanwhile.
        if !directory.is_dir() {
            return Err(SourceError::Cache {
                path: directory,
                source,
            });
        }
    }
    Ok(directory)
}

/// A name for one content of one server: ids and digests of others are not to be trusted with it.
fn cache_key(server: &str, artifact: &Artifact) -> String {
    let mut hash = Sha256::new();
    for part in [server, &artifact.id, artifact.digest.as_deref().unwrap_or_default()] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As [`persistently`], for downloads.
async fn download<T, F>(client: &Client, action: &'static str, fetch: impl Fn(Client) -> F) -> Result<T, DownloadError>
where
    F: Future<Output = Result<T, DownloadError>>,
{
    loop {
        match fetch(client.clone()).await {
            Err(error) if error.is_passing() => {
                tracing::warn!(%error, action, "trying again");
                // Answers as soon as the server does.
                persistently(client, action, |client| async move { client.viewer().await.map(drop) }).await?;
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_replaces_the_entry_point() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (job, over, expected) in [
            (Some("python train.py"), "", "python train.py"),
            (Some("python train.py"), "bash run.sh", "bash run.sh"),
            (None, "true", "true"),
            (None, "", ""),
        ] {
            assert_eq!(entry_point(job.map(words), words(over)), words(expected));
        }
    }
}
