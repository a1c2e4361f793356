//! Runs: state, listing, stopping, files and console lines.

use bytes::Bytes;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_wire::artifact::FileUrl;
use slipway_wire::document::{additions, official};
use slipway_wire::file_stream::{Answer as StreamAnswer, Chunk};
use slipway_wire::graphql::Connection;
use slipway_wire::run::{LogLine, Run, RunFileUploads, UpsertRun, UpsertedRun};

use crate::Client;
use crate::download::DownloadError;
use crate::error::{Error, Result};
use crate::transport::Repeat;

/// Runs asked for at once.
const PAGE: usize = 100;

/// Console lines asked for at once.
const LOG_PAGE: usize = 10_000;

/// The largest file of a run that is read as text.
const TEXT_LIMIT: usize = 16 << 20;

/// Which runs of a project to list.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// As the public API filters, such as `{"state": "running"}`; null for all.
    pub filters: Value,
    /// Such as `-created_at`; the server's default if none.
    pub order: Option<String>,
    /// At most so many.
    pub limit: usize,
}

#[derive(Deserialize)]
struct InProject<T> {
    project: Option<T>,
}

#[derive(Deserialize)]
struct WithRun<T> {
    run: Option<T>,
}

impl Client {
    /// A run, or none if it does not exist or the caller may not see it.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn run(&self, entity: &str, project: &str, run: &str) -> Result<Option<Run>> {
        let document = if self.has_additions().await? {
            additions::RUN
        } else {
            official::RUN
        };
        let variables = json!({"entity": entity, "project": project, "name": run});
        let answer: InProject<WithRun<Run>> = self.call(&document, variables).await?;
        Ok(answer.project.and_then(|project| project.run))
    }

    /// Runs of a project.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such project, or the caller may not see it.
    pub async fn runs(&self, entity: &str, project: &str, filter: &RunFilter) -> Result<Vec<Run>> {
        #[derive(Deserialize)]
        struct Project {
            runs: Connection<Run>,
        }
        let filters = (!filter.filters.is_null()).then(|| filter.filters.to_string());
        let mut runs = Vec::new();
        let mut cursor: Option<String> = None;
        while runs.len() < filter.limit {
            let variables = json!({
                "entity": entity, "project": project, "cursor": cursor, "order": filter.order, "filters": filters,
                "perPage": PAGE.min(filter.limit - runs.len()),
            });
            let answer: InProject<Project> = self.call(&official::RUNS, variables).await?;
            let found = answer.project.ok_or_else(|| {
                Error::not_found(format!(
                    "there is no project `{entity}/{project}`, or you may not see it"
                ))
            })?;
            let page = found.runs.page_info.clone();
            runs.extend(found.runs.into_nodes());
            if !page.has_next_page || page.end_cursor.is_none() || page.end_cursor == cursor {
                break;
            }
            cursor = page.end_cursor;
        }
        Ok(runs)
    }

    /// The state of a run, lower case; none if it does not exist.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn run_state(&self, entity: &str, project: &str, run: &str) -> Result<Option<String>> {
        #[derive(Deserialize)]
        struct State {
            state: Option<String>,
        }
        let variables = json!({"entity": entity, "project": project, "name": run});
        let answer: InProject<WithRun<State>> = self.call(&official::RUN_STATE, variables).await?;
        Ok(answer.project.and_then(|project| project.run).and_then(|run| run.state))
    }

    /// Whether somebody asked a run to stop; false if it does not exist.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn run_stopped(&self, entity: &str, project: &str, run: &str) -> Result<bool> {
        #[derive(Deserialize)]
        struct Stopped {
            stopped: Option<bool>,
        }
        let variables = json!({"entityName": entity, "projectName": project, "runId": run});
        let answer: InProject<WithRun<Stopped>> = self.call(&official::RUN_STOPPED_STATUS, variables).await?;
        let run = answer.project.and_then(|project| project.run);
        Ok(run.and_then(|run| run.stopped).unwrap_or(false))
    }

    /// The state of a sweep, in capitals; none if it does not exist.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn sweep_state(&self, entity: &str, project: &str, sweep: &str) -> Result<Option<String>> {
        #[derive(Deserialize)]
        struct Project {
            sweep: Option<Sweep>,
        }
        #[derive(Deserialize)]
        struct Sweep {
            state: Option<String>,
        }
        let variables = json!({"entity": entity, "project": project, "sweep": sweep});
        let answer: InProject<Project> = self.call(&official::GET_SWEEP_STATE, variables).await?;
        Ok(answer
            .project
            .and_then(|project| project.sweep)
            .and_then(|sweep| sweep.state))
    }

    /// Asks a run to stop. `id`: its storage id, see [`slipway_model::id::RunName::storage_id`].
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such run.
    pub async fn stop_run(&self, id: &str) -> Result<()> {
        self.call::<_, Value>(&official::STOP_RUN, json!({"id": id})).await?;
        Ok(())
    }

    /// Removes a run. `id`: its storage id. Artifacts that it made stay.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such run.
    pub async fn delete_run(&self, id: &str) -> Result<()> {
        self.call::<_, Value>(&official::DELETE_RUN, json!({"id": id})).await?;
        Ok(())
    }

    /// Makes or changes a run.
    ///
    /// # Errors
    /// [`Error::Forbidden`] if the key may not write to the project.
    pub async fn upsert_run(&self, run: &UpsertRun) -> Result<UpsertedRun> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "upsertBucket")]
            payload: Option<Payload>,
        }
        #[derive(Deserialize)]
        struct Payload {
            bucket: Option<UpsertedRun>,
        }
        let answer: Answer = self.call(&official::UPSERT_BUCKET, run).await?;
        let bucket = answer.payload.and_then(|payload| payload.bucket);
        bucket.ok_or_else(|| self.protocol("`UpsertBucket`: the answer holds no run"))
    }

    /// Uploads a file of a run.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such run.
    pub async fn upload_run_file(
        &self,
        entity: &str,
        project: &str,
        run: &str,
        name: &str,
        content: Bytes,
    ) -> Result<()> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "createRunFiles")]
            uploads: RunFileUploads,
        }
        let variables = json!({"entity": entity, "project": project, "run": run, "files": [name]});
        let answer: Answer = self.call(&official::CREATE_RUN_FILES, variables).await?;
        let headers = answer.uploads.upload_headers;
        let file = answer.uploads.files.into_iter().find(|file| file.name == name);
        match file.and_then(|file| file.upload_url) {
            Some(address) => self.put(&address, &headers, &crate::Content::Bytes(content)).await,
            None => Err(self.protocol(format!("`CreateRunFiles`: no address for `{name}`"))),
        }
    }

    /// Reads a file of a run as text; `None` if there is no such file, or no such run for the caller.
    ///
    /// # Errors
    /// [`DownloadError::Large`] if it is no file to read on a screen.
    pub async fn run_file(
        &self,
        entity: &str,
        project: &str,
        run: &str,
        name: &str,
    ) -> std::result::Result<Option<String>, DownloadError> {
        #[derive(Deserialize)]
        struct Files {
            files: Connection<FileUrl>,
        }
        let variables = json!({"entity": entity, "project": project, "name": run, "fileNames": [name]});
        let answer: InProject<WithRun<Files>> = self.call(&official::RUN_FILES, variables).await?;
        let files = answer.project.and_then(|project| project.run).map(|run| run.files);
        let mut files = files.into_iter().flat_map(Connection::into_nodes);
        let Some(url) = files.find(|file| file.name == name).and_then(|file| file.direct_url) else {
            return Ok(None);
        };
        let bytes = self.fetch_small(name, &url, TEXT_LIMIT).await?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Sends run data. Answers whether the run is asked to stop.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the run was deleted.
    pub async fn file_stream(&self, entity: &str, project: &str, run: &str, chunk: &Chunk) -> Result<bool> {
        let url = self.url_of_segments(&["files", entity, project, run, "file_stream"], &[]);
        self.repeat(Repeat::Harmless, || async {
            let response = self
                .authorized(Method::POST, url.clone())
                .timeout(self.timeout())
                .json(chunk)
                .send()
                .await
                .map_err(|error| self.transport(&error))?;
            let response = self.check(response).await?;
            let answer: StreamAnswer = response.json().await.map_err(|error| self.transport(&error))?;
            Ok(answer.stopped.unwrap_or(false))
        })
        .await
    }

    /// All console lines of a run so far.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such run.
    pub async fn log_lines(&self, entity: &str, project: &str, run: &str) -> Result<Vec<LogLine>> {
        #[derive(Deserialize)]
        struct Lines {
            #[serde(rename = "logLines")]
            log_lines: Option<Connection<LogLine>>,
        }
        let mut lines = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let variables = json!({
                "entity": entity, "project": project, "name": run, "first": LOG_PAGE, "after": after,
            });
            let answer: InProject<WithRun<Lines>> = self.call(&additions::RUN_CONSOLE_LOG, variables).await?;
            let found = answer.project.and_then(|project| project.run).ok_or_else(|| {
                Error::not_found(format!(
                    "there is no run `{entity}/{project}/{run}`, or you may not see it"
                ))
            })?;
            let Some(page) = found.log_lines else {
                return Ok(lines);
            };
            let place = page.page_info.clone();
            lines.extend(page.into_nodes());
            if !place.has_next_page || place.end_cursor.is_none() || place.end_cursor == after {
                return Ok(lines);
            }
            after = place.end_cursor;
        }
    }
}
