//! Selecting the runs of a project: filters, orders, pages.
//!
//! By time of creation, runs are read in pages from the store and filtered as they come, so that the
//! first page of a large project costs a page. Any other order needs all the runs that match.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use slipway_model::Millis;
use slipway_model::filter::{Filter, Order};
use slipway_store::Store;
use slipway_store::projects::Project;
use slipway_store::runs::Run as Row;

use super::super::files::page_size;
use super::super::page::PageInfo;
use super::super::scalars::{JsonString, iso};
use super::{Run, RunConnection, RunEdge};
use crate::ApiError;

/// Runs per read from the store.
const PAGE: usize = 500;

/// The most runs in one page of an answer.
const MAX_PAGE: usize = 1_000;

/// The most runs that are sorted by anything but their creation.
const MAX_SORTED: usize = 20_000;

/// What to select, and in which order.
pub(super) struct Query {
    filter: Filter,
    order: Order,
    /// The direction, if the order is that of creation alone.
    by_creation: Option<Direction>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    OldestFirst,
    NewestFirst,
}

impl Query {
    /// Reads the arguments of a listing. Without an order the newest run comes first.
    ///
    /// # Errors
    /// If the filter or the order is not understood; the text says where.
    pub(super) fn read(filters: Option<&JsonString>, order: Option<&str>) -> Result<Self, ApiError> {
        let filter =
            Filter::parse(filters.map_or("", |filters| &filters.0)).map_err(|e| ApiError::bad(e.to_string()))?;
        let order = order.map(str::trim).filter(|order| !order.is_empty());
        let order = Order::parse(order.unwrap_or("-created_at")).map_err(|error| ApiError::bad(error.to_string()))?;
        let by_creation = match &order.keys[..] {
            [key] if matches!(key.path.as_str(), "created_at" | "createdAt") => Some(if key.descending {
                Direction::NewestFirst
            } else {
                Direction::OldestFirst
            }),
            _ => None,
        };
        Ok(Self {
            filter,
            order,
            by_creation,
        })
    }

    fn selects(&self, run: &Row) -> bool {
        self.filter.matches(&|path| field(run, path))
    }
}

/// Calls back with the runs that are selected, in order of creation; stops when it answers `false`.
async fn scan(
    store: &Store,
    project: &Project,
    query: &Query,
    mut after: Option<(Millis, String)>,
    mut found: impl FnMut(Row) -> bool,
) -> Result<(), ApiError> {
    let oldest_first = query.by_creation == Some(Direction::OldestFirst);
    loop {
        let page = store
            .runs(&project.entity, &project.name, after, oldest_first, PAGE)
            .await?;
        after = page.rows.last().map(position);
        for run in page.rows {
            if query.selects(&run) && !found(run) {
                return Ok(());
            }
        }
        if !page.more || after.is_none() {
            return Ok(());
        }
    }
}

/// A page of the selected runs.
pub(super) async fn page(
    store: &Store,
    project: &Project,
    query: &Query,
    after: Option<&str>,
    first: Option<i32>,
) -> Result<RunConnection, ApiError> {
    let limit = page_size(first, 50)?.min(MAX_PAGE);
    let after = after.filter(|after| !after.is_empty());
    let mut runs = Vec::new();
    if query.by_creation.is_some() {
        let after = after.map(read_cursor).transpose()?;
        scan(store, project, query, after, |run| {
            runs.push(run);
            runs.len() <= limit
        })
        .await?;
        let more = runs.len() > limit;
        runs.truncate(limit);
        let cursors = runs.iter().map(|run| write_cursor(&position(run))).collect();
        return Ok(connection(runs, cursors, more));
    }
    let start = match after {
        Some(after) => after
            .parse::<usize>()
            .ok()
            .and_then(|row| row.checked_add(1))
            .ok_or_else(|| bad_cursor(after))?,
        None => 0,
    };
    scan(store, project, query, None, |run| {
        runs.push(run);
        runs.len() <= MAX_SORTED
    })
    .await?;
    if runs.len() > MAX_SORTED {
        return Err(ApiError::bad(format!(
            "more than {MAX_SORTED} runs match; narrow the filter, or order by created_at"
        )));
    }
    let mut keyed: Vec<(Vec<Option<Value>>, Row)> = runs
        .into_iter()
        .map(|run| (query.order.keys.iter().map(|key| field(&run, &key.path)).collect(), run))
        .collect();
    keyed.sort_by(|a, b| query.order.compare(&a.0, &b.0));
    let more = keyed.len() > start.saturating_add(limit);
    let runs: Vec<Row> = keyed.into_iter().skip(start).take(limit).map(|(_, run)| run).collect();
    let cursors = (start..start + runs.len()).map(|row| row.to_string()).collect();
    Ok(connection(runs, cursors, more))
}

/// How many runs are selected.
pub(super) async fn count(store: &Store, project: &Project, query: &Query) -> Result<i32, ApiError> {
    let mut count = 0_i32;
    scan(store, project, query, None, |_| {
        count = count.saturating_add(1);
        true
    })
    .await?;
    Ok(count)
}

fn connection(runs: Vec<Row>, cursors: Vec<String>, more: bool) -> RunConnection {
    RunConnection {
        page_info: PageInfo {
            has_next_page: more,
            end_cursor: cursors.last().cloned(),
        },
        edges: runs
            .into_iter()
            .zip(cursors)
            .map(|(run, cursor)| RunEdge {
                node: Run(Arc::new(run)),
                cursor,
            })
            .collect(),
    }
}

fn position(run: &Row) -> (Millis, String) {
    (run.created_at, run.name.run.clone())
}

fn write_cursor((at, run): &(Millis, String)) -> String {
    URL_SAFE_NO_PAD.encode(format!("{at}:{run}"))
}

fn read_cursor(text: &str) -> Result<(Millis, String), ApiError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|plain| {
            let (at, run) = plain.split_once(':')?;
            Some((at.parse().ok()?, run.to_owned()))
        })
        .ok_or_else(|| bad_cursor(text))
}

fn bad_cursor(text: &str) -> ApiError {
    let shown: String = text.chars().take(80).collect();
    ApiError::bad(format!("`{shown}` is not a cursor of this listing"))
}

/// The value of a field that filters and orders name, in either spelling.
fn field(run: &Row, path: &str) -> Option<Value> {
    let text = |text: &Option<String>| text.clone().map(Value::String);
    let (head, rest) = match path.split_once('.') {
        Some((head, rest)) => (head, Some(rest)),
        None => (path, None),
    };
    Some(match (head, rest) {
        ("name", None) => json!(run.name.run),
        ("display_name" | "displayName", None) => json!(run.display_name),
        ("state", None) => json!(run.state.as_str()),
        ("tags", None) => json!(run.tags),
        ("username" | "user", None) | ("user", Some("username")) => json!(run.user),
        ("created_at" | "createdAt", None) => json!(iso(run.created_at)),
        ("heartbeat_at" | "heartbeatAt" | "updated_at" | "updatedAt", None) => json!(iso(run.heartbeat_at?)),
        ("duration", None) => {
            json!((run.ended_at.or(run.heartbeat_at)? - run.created_at).max(0) / 1000)
        }
        ("exitcode" | "exit_code", None) => json!(run.exit_code?),
        ("sweep" | "sweep_name" | "sweepName", None) => text(&run.sweep)?,
        ("group" | "group_name", None) => text(&run.group)?,
        ("job_type" | "jobType", None) => text(&run.job_type)?,
        ("description", None) => text(&run.description)?,
        ("notes", None) => text(&run.notes)?,
        ("host", None) => text(&run.host)?,
        ("program", None) => text(&run.program)?,
        ("repo", None) => text(&run.repo)?,
        ("commit", None) => text(&run.commit)?,
        ("config", Some(key)) => config_value(&serde_json::from_str(&run.config).ok()?, key)?,
        ("summary_metrics" | "summaryMetrics" | "summary", Some(key)) => {
            nested(&serde_json::from_str(&run.summary).ok()?, key)?.clone()
        }
        ("system_metrics" | "systemMetrics", Some(key)) => {
            nested(&serde_json::from_str(&run.system_metrics).ok()?, key)?.clone()
        }
        _ => return None,
    })
}

/// A configuration value: stored as `{"lr": {"value": 0.1}}`, named `lr.value` or `lr`.
fn config_value(config: &Value, path: &str) -> Option<Value> {
    let found = nested(config, path).or_else(|| {
        let (head, rest) = path.split_once('.')?;
        nested(config.get(head)?.get("value")?, rest)
    })?;
    Some(found.get("value").unwrap_or(found).clone())
}

/// The value at a dotted path. Names may contain dots themselves: the longest name wins.
fn nested<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if let Some(found) = value.get(path) {
        return Some(found);
    }
    path.match_indices('.')
        .rev()
        .find_map(|(dot, _)| nested(value.get(&path[..dot])?, &path[dot + 1..]))
}

#[cfg(test)]
mod tests {
    use slipway_model::id::RunName;
    use slipway_model::run::RunState;

    use super::*;

    fn run() -> Row {
        Row {
            number: 1,
            name: RunName {
                entity: "alice".to_owned(),
                project: "proj".to_owned(),
                run: "r1".to_owned(),
            },
            project_id: 1,
            display_name: "calm-sky-1".to_owned(),
            state: RunState::Finished,
            user: "alice".to_owned(),
            config: r#"{"lr":{"value":0.1},"model":{"value":{"depth":3}}}"#.to_owned(),
            summary: r#"{"loss":0.5,"val.acc":0.9,"best":{"step":7}}"#.to_owned(),
            system_metrics: "{}".to_owned(),
            tags: vec!["a".to_owned()],
            notes: None,
            description: None,
            group: None,
            job_type: Some("train".to_owned()),
            host: None,
            program: None,
            repo: None,
            commit: None,
            sweep: None,
            item: None,
            stop_requested: false,
            exit_code: Some(0),
            history_lines: 0,
            event_lines: 0,
            log_lines: 0,
            created_at: 0,
            heartbeat_at: None,
            ended_at: Some(5_000),
        }
    }

    #[test]
    fn filters_find_fields_in_either_spelling() {
        for (filter, selected) in [
            ("", true),
            (r#"{"state":"finished"}"#, true),
            (r#"{"jobType":"train"}"#, true),
            (r#"{"job_type":{"$ne":"train"}}"#, false),
            (r#"{"config.lr":0.1}"#, true),
            (r#"{"config.lr.value":{"$lt":0.2}}"#, true),
            (r#"{"config.model.depth":3}"#, true),
            (r#"{"config.absent":1}"#, false),
            (r#"{"summary_metrics.val.acc":{"$gt":0.8}}"#, true),
            (r#"{"summary_metrics.best.step":7}"#, true),
            (r#"{"$and":[{"sweep":"abc"}]}"#, false),
            (r#"{"created_at":{"$lt":"1970-01-02T00:00:00"}}"#, true),
        ] {
            let query = Query::read(Some(&JsonString(filter.to_owned())), None).unwrap();
            assert_eq!(query.selects(&run()), selected, "{filter}");
        }
    }

    #[test]
    fn what_is_no_filter_order_or_cursor_is_refused() {
        assert!(Query::read(Some(&JsonString("{".to_owned())), None).is_err());
        assert!(Query::read(None, Some("+")).is_err());
        for cursor in ["x", "", "!!", "eA"] {
            assert!(read_cursor(cursor).is_err(), "{cursor}");
        }
        let position = (5, "a:b".to_owned());
        assert_eq!(read_cursor(&write_cursor(&position)).unwrap(), position);
    }

    #[test]
    fn only_an_order_by_creation_is_read_from_the_store() {
        for (order, direction) in [
            (None, Some(Direction::NewestFirst)),
            (Some(""), Some(Direction::NewestFirst)),
            (Some("+created_at"), Some(Direction::OldestFirst)),
            (Some("-created_at"), Some(Direction::NewestFirst)),
            (Some("-summary_metrics.loss"), None),
            (Some("-created_at,+name"), None),
        ] {
            assert_eq!(Query::read(None, order).unwrap().by_creation, direction, "{order:?}");
        }
    }
}
