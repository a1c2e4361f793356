//! A run as the wire shows it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use async_graphql::{Context, ID, Object, SimpleObject};
use serde_json::{Map, Value, json};
use slipway_model::id::RunName;
use slipway_model::run::RunState;
use slipway_store::blobs::Method;
use slipway_store::run_data::Stream;

use super::super::artifacts::ArtifactConnection;
use super::super::context::RequestContext as _;
use super::super::files::{File, FileConnection, Slice, check_pattern, like, page_size, plain_name};
use super::super::identity::User;
use super::super::items::RunQueueItem;
use super::super::page::PageInfo;
use super::super::scalars::{DateTime, Int64, Json, JsonString};
use super::super::{Project, Result};
use crate::console::ConsoleLine;
use crate::uploads::percent_encode;
use crate::{ApiError, access, run_history};

/// How many lines a resuming client gets of the end of each stream.
const TAIL: usize = 10;

/// The most rows that one field of history answers.
const MAX_SAMPLES: usize = 100_000;

/// The most console lines in one page.
const MAX_LOG_LINES: usize = 10_000;

/// A run.
#[derive(Clone)]
pub(crate) struct Run(pub(crate) Arc<slipway_store::runs::Run>);

#[Object]
impl Run {
    async fn id(&self) -> ID {
        ID(self.0.name.storage_id())
    }

    /// The run's id in addresses and on command lines.
    async fn name(&self) -> &str {
        &self.0.name.run
    }

    /// The name that people read.
    async fn display_name(&self) -> &str {
        &self.0.display_name
    }

    async fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    async fn notes(&self) -> Option<&str> {
        self.0.notes.as_deref()
    }

    async fn tags(&self) -> &[String] {
        &self.0.tags
    }

    async fn group(&self) -> Option<&str> {
        self.0.group.as_deref()
    }

    async fn job_type(&self) -> Option<&str> {
        self.0.job_type.as_deref()
    }

    async fn commit(&self) -> Option<&str> {
        self.0.commit.as_deref()
    }

    async fn repo(&self) -> Option<&str> {
        self.0.repo.as_deref()
    }

    async fn host(&self) -> Option<&str> {
        self.0.host.as_deref()
    }

    async fn program(&self) -> Option<&str> {
        self.0.program.as_deref()
    }

    async fn sweep_name(&self) -> Option<&str> {
        self.0.sweep.as_deref()
    }

    async fn state(&self) -> &'static str {
        self.0.state.as_str()
    }

    /// Whether somebody asked the run to stop. Stays true.
    async fn stopped(&self) -> bool {
        self.0.stop_requested
    }

    /// As `stopped`.
    async fn should_stop(&self) -> bool {
        self.0.stop_requested
    }

    async fn failed(&self) -> bool {
        matches!(self.0.state, RunState::Failed | RunState::Crashed)
    }

    async fn running(&self) -> bool {
        self.0.state == RunState::Running
    }

    async fn exitcode(&self) -> Option<Int64> {
        self.0.exit_code.map(Int64)
    }

    async fn config(&self) -> JsonString {
        JsonString(self.0.config.clone())
    }

    /// The parts of the client's own configuration that are named, null if it never started.
    async fn wandb_config(&self, keys: Option<Vec<String>>) -> Option<JsonString> {
        client_config(&self.0.config, keys.as_deref()).map(JsonString)
    }

    async fn summary_metrics(&self) -> JsonString {
        JsonString(self.0.summary.clone())
    }

    async fn system_metrics(&self) -> JsonString {
        JsonString(self.0.system_metrics.clone())
    }

    async fn history_line_count(&self) -> Int64 {
        Int64(self.0.history_lines)
    }

    async fn events_line_count(&self) -> Int64 {
        Int64(self.0.event_lines)
    }

    async fn log_line_count(&self) -> Int64 {
        Int64(self.0.log_lines)
    }

    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }

    async fn heartbeat_at(&self) -> Option<DateTime> {
        self.0.heartbeat_at.map(DateTime)
    }

    async fn updated_at(&self) -> DateTime {
        DateTime(self.0.heartbeat_at.unwrap_or(self.0.created_at))
    }

    /// Seconds from start to end, or to the last heartbeat.
    async fn compute_seconds(&self) -> Int64 {
        let end = self.0.ended_at.or(self.0.heartbeat_at).unwrap_or(self.0.created_at);
        Int64((end - self.0.created_at).max(0) / 1000)
    }

    /// Whether the caller may only read.
    async fn read_only(&self, ctx: &Context<'_>) -> bool {
        access::write_run(ctx.principal(), &self.0.name).is_err()
    }

    /// The project's number, as text.
    async fn project_id(&self) -> ID {
        ID(self.0.project_id.to_string())
    }

    async fn project(&self, ctx: &Context<'_>) -> Result<Option<Project>> {
        let name = &self.0.name;
        let found = ctx.store().project(&name.entity, &name.project).await;
        Ok(found?.map(Project::new))
    }

    /// Whom the run is attributed to.
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let found = ctx.store().user(&self.0.user).await?;
        Ok(found.map(User))
    }

    /// The metrics that were logged, and the last step; null if none was.
    async fn history_keys(&self, ctx: &Context<'_>) -> Result<Option<Json>> {
        if self.0.history_lines == 0 {
            return Ok(None);
        }
        let keys = run_history::keys(ctx.store(), &self.0.name).await;
        Ok(keys?.map(Json))
    }

    /// The last lines of the history, a JSON array of JSON texts.
    async fn history_tail(&self, ctx: &Context<'_>) -> Result<JsonString> {
        self.tail(ctx, Stream::History).await
    }

    /// The last lines of system metrics, a JSON array of JSON texts.
    async fn events_tail(&self, ctx: &Context<'_>) -> Result<JsonString> {
        self.tail(ctx, Stream::Events).await
    }

    /// Rows of the history: those from `minStep` up to `maxStep`, or evenly spaced samples of all.
    async fn history(
        &self,
        ctx: &Context<'_>,
        min_step: Option<Int64>,
        max_step: Option<Int64>,
        samples: Option<i32>,
    ) -> Result<Vec<JsonString>> {
        let limit = page_size(samples, 500)?.min(MAX_SAMPLES);
        let (store, name) = (ctx.store(), &self.0.name);
        let rows = if min_step.is_none() && max_step.is_none() {
            run_history::sampled(store, name, Stream::History, limit).await
        } else {
            let min_step = min_step.map_or(0, |step| step.0);
            let max_step = max_step.map_or(i64::MAX, |step| step.0);
            run_history::between(store, name, min_step, max_step, limit).await
        };
        Ok(texts(rows?))
    }

    /// Evenly spaced samples of the system metrics.
    async fn events(&self, ctx: &Context<'_>, samples: Option<i32>) -> Result<Vec<JsonString>> {
        let limit = page_size(samples, 500)?.min(MAX_SAMPLES);
        let rows = run_history::sampled(ctx.store(), &self.0.name, Stream::Events, limit).await;
        Ok(texts(rows?))
    }

    /// For each spec (`{"keys": [...], "samples": n, "minStep": n, "maxStep": n}`) rows that have all of
    /// its keys, evenly spaced.
    async fn sampled_history(&self, ctx: &Context<'_>, specs: Vec<JsonString>) -> Result<Vec<Json>> {
        let mut answers = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            let HistorySpec { keys, steps, samples } = read_spec(&spec.read(&format!("specs[{index}]"))?)?;
            let rows = run_history::sampled_keys(ctx.store(), &self.0.name, &keys, steps, samples).await;
            let rows = rows?.into_iter().map(Value::Object);
            answers.push(Json(rows.collect()));
        }
        Ok(answers)
    }

    /// History that was moved to files, and where the rest begins. Nothing is moved here: the client
    /// learns the first step and reads everything through `history` and `sampledHistory`.
    async fn parquet_history(&self, ctx: &Context<'_>, live_keys: Vec<String>) -> Result<ParquetHistory> {
        let first = run_history::first_with(ctx.store(), &self.0.name, &live_keys).await?;
        Ok(ParquetHistory {
            parquet_urls: Vec::new(),
            live_data: first.into_iter().map(|row| Json(Value::Object(row))).collect(),
        })
    }

    /// Console lines that the client sent: from the start, after a cursor, or the `last` ones.
    async fn log_lines(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        last: Option<i32>,
        after: Option<String>,
        #[graphql(name = "useImprovedPagination")] _use_improved_pagination: Option<bool>,
    ) -> Result<LogLineConnection> {
        let (store, name) = (ctx.store(), &self.0.name);
        let (lines, more) = if let (Some(last), None) = (last, &after) {
            let limit = page_size(Some(last), 0)?.min(MAX_LOG_LINES);
            let lines = store.last_lines(name, Stream::Console, limit).await;
            (lines?, false)
        } else {
            let from = match after.as_deref().filter(|after| !after.is_empty()) {
                Some(after) => after
                    .parse::<i64>()
                    .ok()
                    .and_then(|number| number.checked_add(1))
                    .ok_or_else(|| ApiError::bad(format!("`{after}` is not a cursor of console lines")))?,
                None => 0,
            };
            let limit = page_size(first, 1_000)?.min(MAX_LOG_LINES);
            let lines = store.lines(name, Stream::Console, from, limit + 1).await;
            let mut lines = lines?;
            let more = lines.len() > limit;
            lines.truncate(limit);
            (lines, more)
        };
        let end_cursor = lines.last().map(|line| line.number.to_string());
        Ok(LogLineConnection {
            edges: lines.into_iter().map(LogLineEdge::from).collect(),
            page_info: PageInfo {
                has_next_page: more,
                end_cursor,
            },
        })
    }

    /// The queue item that launched it, if the caller may see that.
    #[graphql(visible = "super::super::additions")]
    async fn queue_item(&self, ctx: &Context<'_>) -> Result<Option<RunQueueItem>> {
        match self.0.item {
            Some(id) => RunQueueItem::find(ctx, &id.to_string()).await,
            None => Ok(None),
        }
    }

    /// The address of its page.
    #[graphql(visible = "super::super::additions")]
    async fn url(&self, ctx: &Context<'_>) -> String {
        let RunName { entity, project, run } = &self.0.name;
        let segments = [entity.as_str(), project, "runs", run].map(percent_encode);
        format!("{}/{}", ctx.caller().base_url, segments.join("/"))
    }

    /// Files that the run uploaded: those named, or those that match a pattern with `%` and `_`.
    async fn files(
        &self,
        ctx: &Context<'_>,
        names: Option<Vec<Option<String>>>,
        pattern: Option<String>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<FileConnection> {
        // Clients keep what is saved as `./a` as `a`, and may ask for it by either name.
        let names: Vec<String> = names.unwrap_or_default().into_iter().flatten().collect();
        let names: Vec<&str> = names.iter().map(|name| plain_name(name)).collect();
        pattern.as_deref().map_or(Ok(()), check_pattern)?;
        let files = ctx.store().run_files(&self.0.name).await?;
        let selected: Vec<File> = files
            .into_iter()
            .filter(|file| names.is_empty() || names.contains(&plain_name(&file.name)))
            .filter(|file| pattern.as_deref().is_none_or(|pattern| like(&file.name, pattern)))
            .map(|file| self.file(ctx, file))
            .collect();
        let total = selected.len();
        Ok(FileConnection::new(
            Slice::of(selected, first, after.as_deref())?,
            total,
        ))
    }

    async fn file_count(&self, ctx: &Context<'_>) -> Result<i32> {
        let files = ctx.store().run_files(&self.0.name).await?;
        Ok(i32::try_from(files.len()).unwrap_or(i32::MAX))
    }

    /// Artifact versions that the run logged.
    async fn output_artifacts(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<ArtifactConnection> {
        let rows = ctx.store().logged_artifacts(&self.0.name).await?;
        ArtifactConnection::page(rows, first, after.as_deref())
    }

    /// Artifact versions that the run used, as far as the caller may see their projects.
    async fn input_artifacts(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<ArtifactConnection> {
        let mut rows = ctx.store().used_artifacts(&self.0.name).await?;
        rows.retain(|artifact| {
            let collection = &artifact.collection;
            access::can_read_project(ctx.principal(), &collection.entity, &collection.project)
        });
        ArtifactConnection::page(rows, first, after.as_deref())
    }
}

impl Run {
    async fn tail(&self, ctx: &Context<'_>, stream: Stream) -> Result<JsonString> {
        let lines = ctx.store().last_lines(&self.0.name, stream, TAIL).await;
        let lines = lines?;
        Ok(JsonString(
            lines.into_iter().map(|line| line.text).collect::<Value>().to_string(),
        ))
    }

    fn file(&self, ctx: &Context<'_>, file: slipway_store::runs::RunFile) -> File {
        let links = ctx.caller().links();
        File {
            direct_url: Some(links.run_file(Method::Get, &self.0.name, &file.name)),
            upload_url: access::write_run(ctx.principal(), &self.0.name)
                .is_ok()
                .then(|| links.run_file(Method::Put, &self.0.name, &file.name)),
            name: file.name,
            size: Some(file.size),
            md5: Some(file.md5),
            updated_at: Some(file.updated_at),
            ..File::default()
        }
    }
}

/// Console lines of a listing.
#[derive(SimpleObject)]
pub(crate) struct LogLineConnection {
    edges: Vec<LogLineEdge>,
    page_info: PageInfo,
}

/// A console line in a listing.
#[derive(SimpleObject)]
pub(crate) struct LogLineEdge {
    node: LogLine,
    cursor: String,
}

/// A console line.
#[derive(SimpleObject)]
pub(crate) struct LogLine {
    number: Int64,
    timestamp: Option<String>,
    /// `error` for standard error.
    level: Option<String>,
    /// Which of several writers to the run it came from.
    label: Option<String>,
    line: String,
}

impl From<slipway_store::run_data::Line> for LogLineEdge {
    fn from(line: slipway_store::run_data::Line) -> Self {
        let read = ConsoleLine::read(&line.text);
        Self {
            cursor: line.number.to_string(),
            node: LogLine {
                number: Int64(line.number),
                timestamp: read.timestamp,
                level: read.level,
                label: read.label,
                line: read.text,
            },
        }
    }
}

/// Where a run's history is.
#[derive(SimpleObject)]
pub(crate) struct ParquetHistory {
    /// Files that hold moved rows; always empty.
    parquet_urls: Vec<String>,
    /// The first of the other rows, reduced to the keys that were asked for; empty if there is none.
    live_data: Vec<Json>,
}

fn texts(rows: Vec<run_history::Row>) -> Vec<JsonString> {
    rows.into_iter()
        .map(|row| JsonString(Value::Object(row).to_string()))
        .collect()
}

/// The parts named in `keys` of what the client keeps under `_wandb` in the configuration.
fn client_config(config: &str, keys: Option<&[String]>) -> Option<String> {
    let config: Value = serde_json::from_str(config).ok()?;
    let own = config.get("_wandb")?.get("value")?.as_object()?;
    let picked: Map<String, Value> = own
        .iter()
        .filter(|(key, _)| keys.is_none_or(|keys| keys.contains(key)))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Some(json!(picked).to_string())
}

/// What a reader of history asks for.
struct HistorySpec {
    keys: Vec<String>,
    /// Both ends included, unlike those of `history`: the client counts so.
    steps: RangeInclusive<i64>,
    samples: usize,
}

fn read_spec(spec: &Value) -> Result<HistorySpec> {
    let keys = spec
        .get("keys")
        .and_then(Value::as_array)
        .map(|keys| keys.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .ok_or_else(|| ApiError::bad("a history spec needs `keys`, a list of metric names"))?;
    let number = |name: &str, absent: i64| match spec.get(name) {
        None | Some(Value::Null) => Ok(absent),
        Some(value) => value
            .as_i64()
            .filter(|number| *number >= 0)
            .ok_or_else(|| ApiError::bad(format!("{name}: {value} is not a whole number of at least 0"))),
    };
    let samples = usize::try_from(number("samples", 500)?).unwrap_or(MAX_SAMPLES);
    Ok(HistorySpec {
        keys,
        steps: number("minStep", 0)?..=number("maxStep", i64::MAX)?,
        samples: samples.min(MAX_SAMPLES),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_own_configuration_is_picked_by_key() {
        let config = r#"{"_wandb":{"value":{"t":{"1":[1]},"m":[]}},"lr":{"value":0.1}}"#;
        let keys = ["t".to_owned()];
        for (config, keys, expected) in [
            (config, Some(&keys[..]), Some(r#"{"t":{"1":[1]}}"#)),
            (config, None, Some(r#"{"t":{"1":[1]},"m":[]}"#)),
            ("{}", Some(&keys[..]), None),
            ("not json", None, None),
        ] {
            assert_eq!(client_config(config, keys).as_deref(), expected);
        }
    }

    #[test]
    fn a_history_spec_is_read_or_refused() {
        for (spec, expected) in [
            (json!({"keys": ["_step", "loss"], "samples": 3}), Some((2, 3))),
            (json!({"keys": []}), Some((0, 500))),
            (json!({"keys": ["a"], "samples": 1_000_000_000}), Some((1, MAX_SAMPLES))),
            (json!({"keys": ["a"], "samples": -1}), None),
            (json!({"keys": ["a"], "minStep": "1"}), None),
            (json!({}), None),
            (json!(null), None),
        ] {
            let read = read_spec(&spec).ok().map(|spec| (spec.keys.len(), spec.samples));
            assert_eq!(read, expected, "{spec}");
        }
    }
}
