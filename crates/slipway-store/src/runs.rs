//! Runs: the row that a run page and the client's API show. What a run logs is in
//! [`crate::run_data`].
//!
//! A run that was launched has an item, which follows it: a change of the run's state is told to
//! [`crate::items`] in the same transaction, and the reverse comes through the functions at the end
//! of this module. Neither side decides for the other.

mod rows;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use slipway_model::Millis;
use slipway_model::id::{ItemId, RunName};
use slipway_model::item::CRASH_TERM;
use slipway_model::run::RunState;

use crate::engine::{Lane, Tx, params};
use crate::items::{self, RunChange};
use crate::projects::{self, Project};
use crate::run_data::Counts;
use crate::{Error, Page, Result, Store};

use rows::Core;

/// How exactly a live run's last contact is known. Bounds the writes that heartbeats cause.
const HEARTBEAT_EVERY: Millis = 5_000;

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
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown entity, [`Error::Invalid`] for names that are not allowed.
    pub async fn upsert_run(&self, name: RunName, upsert: RunUpsert, now: Millis) -> Result<(Run, bool)> {
        check_run_id(&name.run)?;
        let now = self.clock(now);
        let work = move |tx: &mut dyn Tx| upsert_run(tx, &name, &upsert, now);
        let (mut run, inserted) = self.write(Lane::Control, "upsert_run", work).await?;
        if !inserted {
            self.fill_counts(std::slice::from_mut(&mut run)).await?;
        }
        Ok((run, inserted))
    }

    /// Finds a run.
    pub async fn run(&self, name: &RunName) -> Result<Option<Run>> {
        let name = name.clone();
        let mut run = self.read(Lane::Control, "run", move |tx| rows::find(tx, &name)).await?;
        self.fill_counts(run.as_mut_slice()).await?;
        Ok(run)
    }

    /// Finds runs, in no order; those that do not exist are left out.
    pub async fn runs_named(&self, names: Vec<RunName>) -> Result<Vec<Run>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let work = move |tx: &mut dyn Tx| rows::find_many(tx, &names);
        let mut runs = self.read(Lane::Control, "runs-named", work).await?;
        self.fill_counts(&mut runs).await?;
        Ok(runs)
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
        let (entity, project) = (entity.to_owned(), project.to_owned());
        let work = move |tx: &mut dyn Tx| match projects::find(tx, &entity, &project)? {
            Some(project) => rows::page(tx, &project, after.as_ref(), oldest_first, limit),
            None => Ok(Page {
                rows: Vec::new(),
                more: false,
            }),
        };
        let mut page = self.read(Lane::Control, "runs", work).await?;
        self.fill_counts(&mut page.rows).await?;
        Ok(page)
    }

    /// Asks a run to stop; its item, if it has not ended, too. `false` if there is no such run. A run
    /// that has ended is left as it is.
    pub async fn stop_run(&self, name: &RunName, by: &str, now: Millis) -> Result<bool> {
        let (name, by) = (name.clone(), by.to_owned());
        self.write(Lane::Control, "stop_run", move |tx| {
            let Some(core) = rows::lock(tx, &name)? else {
                return Ok(false);
            };
            if !core.state.is_terminal() {
                request_stop(tx, &name)?;
            }
            if let Some(item) = core.item {
                items::stop_with_run(tx, item, &by, now)?;
            }
            Ok(true)
        })
        .await
    }

    /// Deletes a run and what it logged; artifacts that it made stay. `false` if there is none. What
    /// is large follows by [`crate::garbage`].
    pub async fn delete_run(&self, name: &RunName) -> Result<bool> {
        let name = name.clone();
        self.write(Lane::Control, "delete_run", move |tx| {
            let Some(core) = rows::lock(tx, &name)? else {
                return Ok(false);
            };
            let key = params![core.entity_id, core.number];
            for sql in [
                "DELETE FROM run_texts WHERE entity_id = $1 AND run_id = $2",
                "DELETE FROM run_files WHERE entity_id = $1 AND run_id = $2",
                "DELETE FROM alerts WHERE entity_id = $1 AND run_id = $2",
                "DELETE FROM runs WHERE entity_id = $1 AND id = $2",
                "INSERT INTO deleted_runs (entity_id, run_id) VALUES ($1, $2)",
            ] {
                tx.execute(sql, key)?;
            }
            tx.execute("DELETE FROM artifact_uses WHERE run_number = $1", params![core.number])?;
            Ok(true)
        })
        .await
    }

    /// Numbers of deleted runs whose lines and blobs have not been removed yet, oldest first.
    pub async fn deleted_runs(&self, limit: usize) -> Result<Vec<i64>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(Lane::Control, "deleted_runs", move |tx| {
            let rows = tx.query(
                "SELECT run_id FROM deleted_runs ORDER BY run_id LIMIT $1",
                params![limit],
            )?;
            rows.iter().map(|row| row.i64(0)).collect()
        })
        .await
    }

    /// Removes the lines of a deleted run and takes it off the list. The caller has removed its blobs
    /// (`blobs::path::run_files`) before: whatever is interrupted is found on the list again.
    pub async fn forget_deleted_run(&self, number: i64) -> Result<()> {
        self.delete_lines_of(number).await?;
        self.write(Lane::Control, "forget_deleted_run", move |tx| {
            tx.execute("DELETE FROM deleted_runs WHERE run_id = $1", params![number])
                .map(drop)
        })
        .await
    }

    /// Notes that a run was heard from; a crashed one runs again. Writes at most once in five seconds
    /// unless something changed.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such run.
    pub async fn heartbeat(&self, name: &RunName, heartbeat: Heartbeat, now: Millis) -> Result<HeartbeatAck> {
        let (name, now) = (name.clone(), self.clock(now));
        if heartbeat.is_mere_contact() {
            // The common case needs no write; a reader finds out.
            let looked_up = name.clone();
            let core = self
                .read(Lane::Control, "heartbeat_read", move |tx| {
                    rows::core(tx, &looked_up, "")
                })
                .await?
                .ok_or_else(|| Error::not_found("run", &name))?;
            if core.after(&heartbeat) == core.state && !core.contact_is_due(now) {
                return Ok(core.unchanged());
            }
        }
        self.write(Lane::Control, "heartbeat", move |tx| {
            record_heartbeat(tx, &name, &heartbeat, now)
        })
        .await
    }

    /// Records a stored file.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such run.
    pub async fn put_run_file(&self, name: &RunName, file: RunFile) -> Result<()> {
        let name = name.clone();
        self.write(Lane::Control, "put_run_file", move |tx| {
            let core = require(tx, &name)?;
            let sql = "INSERT INTO run_files (entity_id, run_id, name, size, md5, updated_at) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (entity_id, run_id, name) \
                 DO UPDATE SET size = excluded.size, md5 = excluded.md5, updated_at = excluded.updated_at";
            let RunFile {
                name,
                size,
                md5,
                updated_at,
            } = &file;
            let params = params![core.entity_id, core.number, name, *size, md5, *updated_at];
            tx.execute(sql, params).map(drop)
        })
        .await
    }

    /// The files of a run, by name.
    pub async fn run_files(&self, name: &RunName) -> Result<Vec<RunFile>> {
        let name = name.clone();
        self.read(Lane::Control, "run_files", move |tx| {
            let Some(core) = rows::core(tx, &name, "")? else {
                return Ok(Vec::new());
            };
            let sql = "SELECT name, size, md5, updated_at FROM run_files WHERE entity_id = $1 AND run_id = $2 \
                 ORDER BY name";
            let rows = tx.query(sql, params![core.entity_id, core.number])?;
            rows.iter().map(rows::read_file).collect()
        })
        .await
    }

    /// Stores an alert.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such run.
    pub async fn add_alert(&self, name: &RunName, alert: Alert) -> Result<()> {
        let name = name.clone();
        self.write(Lane::Control, "add_alert", move |tx| {
            let core = require(tx, &name)?;
            let sql = "INSERT INTO alerts (entity_id, run_id, title, text, severity, at) \
                 VALUES ($1, $2, $3, $4, $5, $6)";
            let Alert {
                title,
                text,
                severity,
                at,
            } = &alert;
            tx.execute(sql, params![core.entity_id, core.number, title, text, severity, *at])
                .map(drop)
        })
        .await
    }

    /// The alerts of a run, newest first.
    pub async fn alerts(&self, name: &RunName) -> Result<Vec<Alert>> {
        let name = name.clone();
        self.read(Lane::Control, "alerts", move |tx| {
            let Some(core) = rows::core(tx, &name, "")? else {
                return Ok(Vec::new());
            };
            let sql = "SELECT title, text, severity, at FROM alerts WHERE entity_id = $1 AND run_id = $2 \
                 ORDER BY id DESC";
            let rows = tx.query(sql, params![core.entity_id, core.number])?;
            rows.iter().map(rows::read_alert).collect()
        })
        .await
    }

    /// The number of a run, by which the run-data lane knows it.
    pub(crate) async fn run_number(&self, name: &RunName) -> Result<Option<i64>> {
        let name = name.clone();
        self.read(Lane::Control, "run_number", move |tx| number(tx, &name))
            .await
    }

    /// Adds what only the run-data lane knows.
    async fn fill_counts(&self, runs: &mut [Run]) -> Result<()> {
        if runs.is_empty() {
            return Ok(());
        }
        let numbers = runs.iter().map(|run| run.number).collect();
        let counts = self.line_counts(numbers).await?;
        for run in runs {
            let Counts {
                history,
                events,
                console,
            } = counts.get(&run.number).copied().unwrap_or_default();
            run.history_lines = history;
            run.event_lines = events;
            run.log_lines = console;
        }
        Ok(())
    }
}

impl Heartbeat {
    /// Whether it says nothing but that the run lives.
    fn is_mere_contact(&self) -> bool {
        self.summary.is_none() && self.system_metrics.is_none() && self.exit_code.is_none()
    }
}

impl Core {
    /// The state after a heartbeat.
    fn after(&self, heartbeat: &Heartbeat) -> RunState {
        use RunState as S;
        if let Some(code) = heartbeat.exit_code {
            // The client's own first word on its end counts, also after an agent has ended the run.
            return match self.exit_code {
                Some(_) if self.state.is_terminal() => self.state,
                _ => S::from_exit(code, self.stop_requested),
            };
        }
        match self.state {
            S::Pending | S::Crashed | S::Running if heartbeat.preempting => S::Preempting,
            S::Pending | S::Crashed => S::Running,
            state => state,
        }
    }

    fn contact_is_due(&self, now: Millis) -> bool {
        Self::is_alive(self.state) && self.heartbeat_at.is_none_or(|at| now - at >= HEARTBEAT_EVERY)
    }

    fn unchanged(&self) -> HeartbeatAck {
        HeartbeatAck {
            stop_requested: self.stop_requested,
            changed: None,
            item: None,
        }
    }
}

/// What the item is told when its run's state goes from one to another.
fn change(from: RunState, to: RunState, exit_code: Option<i64>) -> Option<RunChange> {
    use RunState as S;
    let ended = |otherwise| RunChange::Ended {
        exit_code: exit_code.unwrap_or(otherwise),
        stopped: to == S::Killed,
    };
    match (from, to) {
        (S::Crashed, S::Running | S::Preempting) => Some(RunChange::Revived),
        (_, S::Running) => Some(RunChange::Started),
        (_, S::Crashed) => Some(RunChange::Crashed),
        (_, S::Finished) => Some(ended(0)),
        // A client may set the state without saying how its process ended.
        (_, S::Failed | S::Killed) => Some(ended(1)),
        // Whether a preempted run goes on is for the agent that holds the item to say.
        (_, S::Pending | S::Preempting | S::Preempted) => None,
    }
}

fn record_heartbeat(tx: &mut dyn Tx, name: &RunName, heartbeat: &Heartbeat, now: Millis) -> Result<HeartbeatAck> {
    let core = require(tx, name)?;
    let next = core.after(heartbeat);
    if next != core.state || core.contact_is_due(now) || heartbeat.exit_code.is_some() {
        let ended_at = next.is_terminal().then(|| core.ended_at.unwrap_or(now));
        let sql = "UPDATE runs SET state = $3, heartbeat_at = $4, ended_at = $5, \
             exit_code = COALESCE(exit_code, $6) WHERE entity_id = $1 AND id = $2";
        let params = params![
            core.entity_id,
            core.number,
            next.code(),
            now,
            ended_at,
            heartbeat.exit_code
        ];
        tx.execute(sql, params)?;
    }
    let texts = [
        ("summary", heartbeat.summary.as_deref()),
        ("system_metrics", heartbeat.system_metrics.as_deref()),
    ];
    rows::write_texts(tx, &core, &texts, false)?;
    if next == core.state {
        return Ok(core.unchanged());
    }
    let followed = tell_item(tx, core.item, change(core.state, next, heartbeat.exit_code), now)?;
    Ok(HeartbeatAck {
        stop_requested: core.stop_requested,
        changed: Some(next),
        item: core.item.filter(|_| followed),
    })
}

fn upsert_run(tx: &mut dyn Tx, name: &RunName, upsert: &RunUpsert, now: Millis) -> Result<(Run, bool)> {
    let (project, _) = projects::ensure(tx, &name.entity, &name.project, now)?;
    let state = upsert.state.unwrap_or(RunState::Running);
    let (core, inserted) = match rows::lock(tx, name)? {
        Some(core) => (core, false),
        None => match rows::insert(tx, &project, &name.run, &upsert.user, state, upsert.item, now)? {
            Some(core) => (core, true),
            // Another transaction was quicker.
            None => (require(tx, name)?, false),
        },
    };
    rows::change_texts(tx, &core, upsert, inserted)?;
    if inserted {
        tell_item(tx, core.item, change(RunState::Pending, core.state, None), now)?;
    } else {
        change_state(tx, &core, upsert, now)?;
    }
    let run = rows::find(tx, name)?.ok_or_else(|| Error::Internal(format!("run `{name}` vanished")))?;
    Ok((run, inserted))
}

/// What an upsert does to a run that exists, its texts aside.
fn change_state(tx: &mut dyn Tx, core: &Core, upsert: &RunUpsert, now: Millis) -> Result<()> {
    let next = match upsert.state {
        Some(state) => state,
        None if upsert.starts => RunState::Running,
        None => core.state,
    };
    let item = upsert.item.or(core.item);
    if !upsert.starts && next == core.state && item == core.item {
        return Ok(());
    }
    // A resumed run has not been asked to stop; one that never started may have been.
    let resumed = upsert.starts && core.state.is_terminal();
    let changed = Core {
        state: next,
        item,
        stop_requested: core.stop_requested && !resumed,
        exit_code: core.exit_code.filter(|_| next.is_terminal()),
        heartbeat_at: if Core::is_alive(next) {
            Some(now)
        } else {
            core.heartbeat_at
        },
        ended_at: next.is_terminal().then(|| core.ended_at.unwrap_or(now)),
        ..core.clone()
    };
    rows::update(tx, &changed)?;
    if upsert.starts || next != core.state {
        tell_item(tx, item, change(core.state, next, None), now)?;
    }
    Ok(())
}

fn check_run_id(id: &str) -> Result<()> {
    slipway_model::run::check_run_id(id).map_err(|error| Error::Invalid(error.to_string()))
}

/// The number of a run.
pub(crate) fn number(tx: &mut dyn Tx, name: &RunName) -> Result<Option<i64>> {
    Ok(rows::core(tx, name, "")?.map(|core| core.number))
}

fn require(tx: &mut dyn Tx, name: &RunName) -> Result<Core> {
    rows::lock(tx, name)?.ok_or_else(|| Error::not_found("run", name))
}

/// Tells the item, if there is one, what became of its run; `true` if it followed.
fn tell_item(tx: &mut dyn Tx, item: Option<ItemId>, change: Option<RunChange>, now: Millis) -> Result<bool> {
    match (item, change) {
        (Some(item), Some(change)) => items::run_changed(tx, item, change, now),
        _ => Ok(false),
    }
}

/// An acknowledged item and the run that it names.
pub(crate) struct Named<'a> {
    pub(crate) run: &'a RunName,
    pub(crate) author: &'a str,
    pub(crate) item: ItemId,
}

impl<'a> Named<'a> {
    /// The names of the run's entity and project.
    fn project(&self) -> (&'a str, &'a str) {
        (&self.run.entity, &self.run.project)
    }
}

/// Makes the runs of acknowledged items, pending, where they do not exist, and ties each to its item.
/// Part of the transaction that records the acknowledgement.
///
/// A run that exists is an item's if an earlier attempt made it, or if the item's spec names it,
/// which the pusher had to be allowed. Returns the items that named somebody else's run: an agent
/// may not lead an item, and the run key that comes with it, to a run of its choice.
pub(crate) fn ensure_pending(tx: &mut dyn Tx, named: &[Named<'_>], now: Millis) -> Result<Vec<ItemId>> {
    let mut projects: HashMap<(&str, &str), Project> = HashMap::new();
    for one in named {
        check_run_id(&one.run.run)?;
        if let Entry::Vacant(place) = projects.entry(one.project()) {
            place.insert(projects::ensure(tx, &one.run.entity, &one.run.project, now)?.0);
        }
    }
    let fresh: Vec<(&Project, &Named<'_>)> = named
        .iter()
        .filter_map(|one| Some((projects.get(&one.project())?, one)))
        .collect();
    let mut taken = Vec::new();
    for one in rows::insert_pending(tx, &fresh, now)? {
        let core = require(tx, one.run)?;
        if core.item == Some(one.item) {
            continue;
        }
        if items::named_by_spec(tx, one.item)?.as_deref() != Some(one.run.run.as_str()) {
            taken.push(one.item);
            continue;
        }
        let tied = Core {
            item: Some(one.item),
            ..core
        };
        rows::update(tx, &tied)?;
    }
    Ok(taken)
}

/// Ends runs whose items ended, unless a run reported its own end. Part of the transaction that ends
/// the items.
pub(crate) fn end_with_items(tx: &mut dyn Tx, ended: &[(&RunName, RunState)], now: Millis) -> Result<()> {
    rows::end(tx, ended, now)
}

/// Asks a run to stop, because somebody cancelled its item.
pub(crate) fn request_stop(tx: &mut dyn Tx, name: &RunName) -> Result<()> {
    match rows::lock(tx, name)? {
        Some(core) if !core.stop_requested => rows::update(
            tx,
            &Core {
                stop_requested: true,
                ..core
            },
        ),
        _ => Ok(()),
    }
}

/// Marks runs crashed that were not heard from since [`CRASH_TERM`], at most `limit`, and tells their
/// items. Part of the store's clock, which calls it only when servers have listened for a whole term.
pub(crate) fn mark_crashed(tx: &mut dyn Tx, now: Millis, limit: usize) -> Result<Vec<RunName>> {
    let mut crashed = Vec::new();
    for (name, core) in rows::silent(tx, now - CRASH_TERM, limit)? {
        let ended_at = Some(core.heartbeat_at.unwrap_or(now));
        let next = Core {
            state: RunState::Crashed,
            ended_at,
            ..core
        };
        rows::update(tx, &next)?;
        tell_item(tx, next.item, Some(RunChange::Crashed), now)?;
        crashed.push(name);
    }
    Ok(crashed)
}
