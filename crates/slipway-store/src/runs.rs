//! Runs: the row that a run page and the client's API show. What a run logs is in
//! [`crate::run_data`].

use slipway_model::Millis;
use slipway_model::id::{ItemId, RunName};
use slipway_model::run::RunState;

use crate::engine::Tx;
use crate::identity::unfinished;
use crate::{Page, Result, Store};

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its number, unique in the installation. What the run logs and its files are kept under it,
    /// so that a later run of the same id starts empty.
    pub number: i64,
    /// Entity, project, id.
    pub name: RunName,
    /// The project's number.
    pub project_id: i64,
    /// Generated if the client gave none.
    pub display_name: String,
    /// The state.
    pub state: RunState,
    /// Whom it is attributed to.
    pub user: String,
    /// JSON text.
    pub config: String,
    /// JSON text.
    pub summary: String,
    /// JSON text: the last value of each system metric.
    pub system_metrics: String,
    /// In the order given.
    pub tags: Vec<String>,
    /// Free text.
    pub notes: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// The client's `group`.
    pub group: Option<String>,
    /// The client's `jobType`.
    pub job_type: Option<String>,
    /// Where it runs.
    pub host: Option<String>,
    /// The program.
    pub program: Option<String>,
    /// Git remote, without user information.
    pub repo: Option<String>,
    /// Git commit.
    pub commit: Option<String>,
    /// The sweep that it belongs to.
    pub sweep: Option<String>,
    /// The queue item that launched it.
    pub item: Option<ItemId>,
    /// Whether somebody asked it to stop. Stays true.
    pub stop_requested: bool,
    /// What the client reported at its end.
    pub exit_code: Option<i64>,
    /// Lines of history so far.
    pub history_lines: i64,
    /// Lines of system metrics so far.
    pub event_lines: i64,
    /// Lines of console output so far.
    pub log_lines: i64,
    /// When it was made.
    pub created_at: Millis,
    /// When it was last heard from.
    pub heartbeat_at: Option<Millis>,
    /// When it ended.
    pub ended_at: Option<Millis>,
}

/// The client's upsert. `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct RunUpsert {
    /// JSON text.
    pub config: Option<String>,
    /// JSON text.
    pub summary: Option<String>,
    /// The name that people read.
    pub display_name: Option<String>,
    /// See [`Run`].
    pub notes: Option<String>,
    /// See [`Run`].
    pub description: Option<String>,
    /// See [`Run`].
    pub group: Option<String>,
    /// See [`Run`].
    pub job_type: Option<String>,
    /// See [`Run`].
    pub host: Option<String>,
    /// See [`Run`].
    pub program: Option<String>,
    /// See [`Run`].
    pub repo: Option<String>,
    /// See [`Run`].
    pub commit: Option<String>,
    /// See [`Run`].
    pub sweep: Option<String>,
    /// See [`Run`].
    pub tags: Option<Vec<String>>,
    /// A state that the client sets; absent means running for a new or resumed run.
    pub state: Option<RunState>,
    /// Whom a new run is attributed to.
    pub user: String,
    /// The item that the run's configuration names as its launch trace, if the caller resolved
    /// one: the item then follows the run.
    pub item: Option<ItemId>,
    /// Whether this is the start of the client's process rather than a later change: starts the
    /// run (and its item) and clears an earlier end.
    pub starts: bool,
}

/// What one file_stream request says of the run itself.
#[derive(Debug, Clone, Default)]
pub struct Heartbeat {
    /// The newest summary, JSON text.
    pub summary: Option<String>,
    /// The newest system metrics, JSON text.
    pub system_metrics: Option<String>,
    /// The exit code, once the client is complete.
    pub exit_code: Option<i64>,
    /// The run announces that it is about to be preempted.
    pub preempting: bool,
}

/// What the client learns from a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatAck {
    /// Somebody asked the run to stop.
    pub stop_requested: bool,
    /// The state afterwards, if it changed.
    pub changed: Option<RunState>,
    /// The item that follows the run, if it changed too.
    pub item: Option<ItemId>,
}

/// A file that a run uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFile {
    /// Its path within the run.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Base64 of its MD5.
    pub md5: String,
    /// When it was stored.
    pub updated_at: Millis,
}

/// An alert that a run sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Its title.
    pub title: String,
    /// Its text.
    pub text: String,
    /// `INFO`, `WARN` or `ERROR`.
    pub severity: String,
    /// When it came.
    pub at: Millis,
}

impl Store {
    /// Makes or changes a run; tells whether it was made. The project is made if absent. A deleted
    /// run's id may be used again.
    pub async fn upsert_run(&self, name: RunName, upsert: RunUpsert, now: Millis) -> Result<(Run, bool)> {
        unfinished((name, upsert), now)
    }
    /// Finds a run.
    pub async fn run(&self, name: &RunName) -> Result<Option<Run>> {
        unfinished(name, ())
    }
    /// The runs of a project, newest first unless `oldest_first`; `after`: (created_at, run id) of
    /// the last row of the previous page.
    pub async fn runs(
        &self,
        entity: &str,
        project: &str,
        after: Option<(Millis, String)>,
        oldest_first: bool,
        limit: usize,
    ) -> Result<Page<Run>> {
        unfinished((entity, project, after), (oldest_first, limit))
    }
    /// Asks a run to stop; its item, if held, too. `false` if there is no such run.
    pub async fn stop_run(&self, name: &RunName, by: &str, now: Millis) -> Result<bool> {
        unfinished((name, by), now)
    }
    /// Deletes a run and what it logged; artifacts that it made stay. `false` if there is none.
    pub async fn delete_run(&self, name: &RunName) -> Result<bool> {
        unfinished(name, ())
    }
    /// Notes that a run was heard from; a crashed one runs again. [`crate::Error::NotFound`] if
    /// there is no such run. Writes at most once in five seconds unless something changed.
    pub async fn heartbeat(&self, name: &RunName, heartbeat: Heartbeat, now: Millis) -> Result<HeartbeatAck> {
        unfinished((name, heartbeat), now)
    }
    /// Records a stored file.
    pub async fn put_run_file(&self, name: &RunName, file: RunFile) -> Result<()> {
        unfinished(name, file)
    }
    /// The files of a run, by name.
    pub async fn run_files(&self, name: &RunName) -> Result<Vec<RunFile>> {
        unfinished(name, ())
    }
    /// Stores an alert.
    pub async fn add_alert(&self, name: &RunName, alert: Alert) -> Result<()> {
        unfinished(name, alert)
    }
    /// The alerts of a run, newest first.
    pub async fn alerts(&self, name: &RunName) -> Result<Vec<Alert>> {
        unfinished(name, ())
    }
}

/// Makes the run of an acknowledged item, pending, if it does not exist, and ties it to the item.
/// Part of the transaction that records the acknowledgement.
pub(crate) fn ensure_pending(tx: &mut dyn Tx, name: &RunName, author: &str, item: ItemId, now: Millis) -> Result<()> {
    let _ = tx;
    unfinished((name, author), (item, now))
}

/// Ends a run whose item ended, unless the run reported its own end. Part of the transaction that
/// ends the item.
pub(crate) fn end_with_item(tx: &mut dyn Tx, name: &RunName, state: RunState, now: Millis) -> Result<()> {
    let _ = tx;
    unfinished((name, state), now)
}

/// Marks runs crashed that were not heard from since `CRASH_TERM`, at most `limit`, and tells their
/// items. Part of the store's clock.
pub(crate) fn mark_crashed(tx: &mut dyn Tx, now: Millis, limit: usize) -> Result<Vec<RunName>> {
    let _ = tx;
    unfinished(now, limit)
}

/// Gives every run that counts as running a full term again: after time in which no server could
/// have been heard.
pub(crate) fn extend_terms(tx: &mut dyn Tx, now: Millis) -> Result<()> {
    let _ = tx;
    unfinished(now, ())
}

/// Asks a run to stop, because somebody cancelled its item.
pub(crate) fn request_stop(tx: &mut dyn Tx, name: &RunName) -> Result<()> {
    let _ = tx;
    unfinished(name, ())
}
