//! The SQL of runs: narrow rows that heartbeats rewrite, and the texts beside them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use slipway_model::Millis;
use slipway_model::id::{ItemId, RunName};
use slipway_model::names;
use slipway_model::run::RunState;

use super::{Alert, Named, Run, RunFile, RunUpsert};
use crate::engine::{Conflict, Dialect, Field, Records, Row, Tx, Value, insert_all, params};
use crate::projects::{self, Project};
use crate::{Error, Page, Result};

/// What decides about a run: its narrow row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Core {
    pub(super) number: i64,
    pub(super) entity_id: i64,
    pub(super) state: RunState,
    pub(super) item: Option<ItemId>,
    pub(super) stop_requested: bool,
    pub(super) exit_code: Option<i64>,
    pub(super) heartbeat_at: Option<Millis>,
    pub(super) ended_at: Option<Millis>,
}

impl Core {
    /// Whether a run in this state is expected to be heard from.
    pub(super) fn is_alive(state: RunState) -> bool {
        matches!(state, RunState::Running | RunState::Preempting)
    }
}

const CORE: &str = "r.id, r.entity_id, r.state, r.item_entity_id, r.item_id, r.stop_requested, r.exit_code, \
     r.heartbeat_at, r.ended_at";

const FROM_NAMES: &str = "FROM entities e JOIN projects p ON p.entity_id = e.id \
     JOIN runs r ON r.entity_id = e.id AND r.project_id = p.id";

/// Finds a run's narrow row. `suffix` may lock it.
pub(super) fn core(tx: &mut dyn Tx, name: &RunName, suffix: &str) -> Result<Option<Core>> {
    let sql = format!("SELECT {CORE} {FROM_NAMES} WHERE e.name = $1 AND p.name = $2 AND r.run_id = $3{suffix}");
    let row = tx.query_opt(&sql, params![&name.entity, &name.project, &name.run])?;
    row.as_ref().map(read_core).transpose()
}

/// Finds a run's narrow row to change it.
pub(super) fn lock(tx: &mut dyn Tx, name: &RunName) -> Result<Option<Core>> {
    let suffix = match tx.for_update() {
        "" => "",
        _ => " FOR UPDATE OF r",
    };
    core(tx, name, suffix)
}

/// Makes a run in a state; `None` if there is one of that id.
pub(super) fn insert(
    tx: &mut dyn Tx,
    project: &Project,
    run_id: &str,
    user: &str,
    state: RunState,
    item: Option<ItemId>,
    now: Millis,
) -> Result<Option<Core>> {
    let mut core = Core {
        number: 0,
        entity_id: project.entity_id,
        state,
        item,
        stop_requested: false,
        exit_code: None,
        heartbeat_at: Core::is_alive(state).then_some(now),
        ended_at: state.is_terminal().then_some(now),
    };
    let sql = "INSERT INTO runs (entity_id, project_id, run_id, state, username, item_entity_id, item_id, \
         stop_requested, created_at, heartbeat_at, ended_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9, $10) \
         ON CONFLICT (entity_id, project_id, run_id) DO NOTHING RETURNING id";
    let params = params![
        project.entity_id,
        project.id,
        run_id,
        state.code(),
        user,
        item.map(|item| item.entity),
        item.map(|item| item.number),
        now,
        core.heartbeat_at,
        core.ended_at,
    ];
    let Some(row) = tx.query_opt(sql, params)? else {
        return Ok(None);
    };
    core.number = row.i64(0)?;
    Ok(Some(core))
}

/// Makes pending runs. If one of them was there already, all are returned: the caller looks whose each
/// of them is.
pub(super) fn insert_pending<'a>(
    tx: &mut dyn Tx,
    fresh: &[(&Project, &'a Named<'a>)],
    now: Millis,
) -> Result<Vec<&'a Named<'a>>> {
    let row = |(project, one): &(&Project, &Named<'_>)| {
        vec![
            Value::from(project.entity_id),
            Value::from(project.id),
            Value::from(&one.run.run),
            Value::from(RunState::Pending.code()),
            Value::from(one.author),
            Value::from(one.item.entity),
            Value::from(one.item.number),
            Value::from(false),
            Value::from(now),
        ]
    };
    let columns = [
        ("entity_id", Field::Int),
        ("project_id", Field::Int),
        ("run_id", Field::Text),
        ("state", Field::Int),
        ("username", Field::Text),
        ("item_entity_id", Field::Int),
        ("item_id", Field::Int),
        ("stop_requested", Field::Int),
        ("created_at", Field::Int),
    ];
    let made = insert_all(tx, "runs", &columns, Conflict::Keep, fresh.iter().map(row).collect())?;
    if made == fresh.len() as u64 {
        return Ok(Vec::new());
    }
    Ok(fresh.iter().map(|(_, one)| *one).collect())
}

/// Ends runs that have not ended, or only seemed to.
pub(super) fn end(tx: &mut dyn Tx, ended: &[(&RunName, RunState)], now: Millis) -> Result<()> {
    if ended.is_empty() {
        return Ok(());
    }
    let open: Vec<String> = RunState::ALL
        .into_iter()
        .filter(|state| !state.is_terminal() || *state == RunState::Crashed)
        .map(|state| state.code().to_string())
        .collect();
    let open = open.join(", ");
    let mut projects = HashMap::new();
    let mut list = Vec::with_capacity(ended.len());
    for (run, state) in ended {
        let project = match projects.entry((run.entity.as_str(), run.project.as_str())) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(projects::find(tx, &run.entity, &run.project)?),
        };
        if let Some(project) = project {
            list.push((project.entity_id, project.id, run.run.as_str(), state.code()));
        }
    }
    match tx.dialect() {
        // A prepared statement per row costs less there than taking JSON apart.
        Dialect::Sqlite => {
            let sql = format!(
                "UPDATE runs SET state = $4, ended_at = $5 WHERE entity_id = $1 AND project_id = $2 AND run_id = $3 \
                 AND state IN ({open})"
            );
            for (entity, project, run, state) in list {
                tx.execute(&sql, params![entity, project, run, state, now])?;
            }
        }
        Dialect::Postgres => {
            let fields = [
                ("entity_id", Field::Int),
                ("project_id", Field::Int),
                ("run_id", Field::Text),
                ("state", Field::Int),
            ];
            let rows = list
                .into_iter()
                .map(|(entity, project, run, state)| params![entity, project, run, state].to_vec());
            let records = Records::new(tx.dialect(), &fields, rows)?;
            let sql = format!(
                "UPDATE runs SET state = r.state, ended_at = $1 FROM {} AS r \
                 WHERE runs.entity_id = r.entity_id AND runs.project_id = r.project_id AND runs.run_id = r.run_id \
                 AND runs.state IN ({open})",
                records.source(2)
            );
            tx.execute(&sql, &records.after(params![now]))?;
        }
    }
    Ok(())
}

/// Writes a narrow row.
pub(super) fn update(tx: &mut dyn Tx, core: &Core) -> Result<()> {
    let sql = "UPDATE runs SET state = $3, item_entity_id = $4, item_id = $5, stop_requested = $6, exit_code = $7, \
         heartbeat_at = $8, ended_at = $9 WHERE entity_id = $1 AND id = $2";
    let params = params![
        core.entity_id,
        core.number,
        core.state.code(),
        core.item.map(|item| item.entity),
        core.item.map(|item| item.number),
        core.stop_requested,
        core.exit_code,
        core.heartbeat_at,
        core.ended_at,
    ];
    tx.execute(sql, params).map(drop)
}

/// Writes the texts that an upsert gives. `fresh`: this transaction has made the run.
pub(super) fn change_texts(tx: &mut dyn Tx, core: &Core, upsert: &RunUpsert, fresh: bool) -> Result<()> {
    let tags = upsert.tags.as_ref().map(|tags| serde_json::json!(tags).to_string());
    let texts = [
        ("config", upsert.config.as_deref()),
        ("summary", upsert.summary.as_deref()),
        (
            "display_name",
            upsert.display_name.as_deref().filter(|name| !name.is_empty()),
        ),
        ("tags", tags.as_deref()),
        ("notes", upsert.notes.as_deref()),
        ("description", upsert.description.as_deref()),
        ("group_name", upsert.group.as_deref()),
        ("job_type", upsert.job_type.as_deref()),
        ("host", upsert.host.as_deref()),
        ("program", upsert.program.as_deref()),
        ("repo", upsert.repo.as_deref()),
        ("commit_hash", upsert.commit.as_deref()),
        ("sweep", upsert.sweep.as_deref()),
    ];
    write_texts(tx, core, &texts, fresh)
}

/// Writes the texts that are given and leaves the others. A run that nobody has described yet has no
/// row of texts, so that acknowledging an item stays cheap.
pub(super) fn write_texts(tx: &mut dyn Tx, core: &Core, texts: &[(&str, Option<&str>)], fresh: bool) -> Result<()> {
    if texts.iter().all(|(_, text)| text.is_none()) {
        return Ok(());
    }
    // One statement for every combination of given texts, so that it is prepared once.
    let columns: Vec<&str> = texts.iter().map(|(column, _)| *column).collect();
    let places: Vec<String> = (3..texts.len() + 3)
        .map(|index| format!("CAST(${index} AS TEXT)"))
        .collect();
    let mut params = params![core.entity_id, core.number].to_vec();
    params.extend(texts.iter().map(|(_, text)| (*text).into()));
    let kept = columns
        .iter()
        .zip(&places)
        .map(|(column, place)| format!("{column} = COALESCE({place}, {column})"));
    let kept: Vec<String> = kept.collect();
    let update = format!(
        "UPDATE run_texts SET {} WHERE entity_id = $1 AND run_id = $2",
        kept.join(", ")
    );
    if fresh || tx.execute(&update, &params)? == 0 {
        let insert = format!(
            "INSERT INTO run_texts (entity_id, run_id, {}) VALUES ($1, $2, {})",
            columns.join(", "),
            places.join(", ")
        );
        tx.execute(&insert, &params)?;
    }
    Ok(())
}

const RUN: &str = "r.id, r.entity_id, r.state, r.item_entity_id, r.item_id, r.stop_requested, r.exit_code, \
     r.heartbeat_at, r.ended_at, e.name, p.name, r.run_id, p.id, r.username, r.created_at, \
     t.display_name, t.config, t.summary, t.system_metrics, t.tags, t.notes, t.description, t.group_name, \
     t.job_type, t.host, t.program, t.repo, t.commit_hash, t.sweep";

const WITH_TEXTS: &str = "LEFT JOIN run_texts t ON t.entity_id = r.entity_id AND t.run_id = r.id";

/// Finds a run; its line counts are 0.
pub(super) fn find(tx: &mut dyn Tx, name: &RunName) -> Result<Option<Run>> {
    let sql = format!("SELECT {RUN} {FROM_NAMES} {WITH_TEXTS} WHERE e.name = $1 AND p.name = $2 AND r.run_id = $3");
    let row = tx.query_opt(&sql, params![&name.entity, &name.project, &name.run])?;
    row.as_ref().map(read_run).transpose()
}

/// Finds runs; those that do not exist are left out. Their line counts are 0.
pub(super) fn find_many(tx: &mut dyn Tx, names: &[RunName]) -> Result<Vec<Run>> {
    let keys = names
        .iter()
        .map(|name| params![&name.entity, &name.project, &name.run].to_vec());
    let fields = [("entity", Field::Text), ("project", Field::Text), ("run", Field::Text)];
    let keys = Records::new(tx.dialect(), &fields, keys)?;
    let sql = format!(
        "SELECT {RUN} FROM {} AS k CROSS JOIN entities AS e JOIN projects AS p ON p.entity_id = e.id \
         JOIN runs AS r ON r.entity_id = e.id AND r.project_id = p.id {WITH_TEXTS} \
         WHERE e.name = k.entity AND p.name = k.project AND r.run_id = k.run",
        keys.source(1)
    );
    let rows = tx.query(&sql, &keys.after(params![]))?;
    rows.iter().map(read_run).collect()
}

/// One page of a project's runs; their line counts are 0.
pub(super) fn page(
    tx: &mut dyn Tx,
    project: &Project,
    after: Option<&(Millis, String)>,
    oldest_first: bool,
    limit: usize,
) -> Result<Page<Run>> {
    let (comparison, order) = if oldest_first { (">", "ASC") } else { ("<", "DESC") };
    let mut params = params![
        project.entity_id,
        project.id,
        i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1
    ]
    .to_vec();
    let mut cursor = String::new();
    if let Some((at, run)) = after {
        cursor = format!("AND (r.created_at, r.run_id) {comparison} ($4, $5) ");
        params.extend(params![*at, run].iter().cloned());
    }
    let sql = format!(
        "SELECT {RUN} {FROM_NAMES} {WITH_TEXTS} WHERE r.entity_id = $1 AND r.project_id = $2 {cursor}\
         ORDER BY r.created_at {order}, r.run_id {order} LIMIT $3"
    );
    let found = tx.query(&sql, &params)?;
    let rows = found.iter().take(limit).map(read_run).collect::<Result<_>>()?;
    Ok(Page {
        rows,
        more: found.len() > limit,
    })
}

/// Runs that count as running and were last heard from before a time, longest silent first.
pub(super) fn silent(tx: &mut dyn Tx, before: Millis, limit: usize) -> Result<Vec<(RunName, Core)>> {
    let lock = match tx.for_update() {
        "" => "",
        // A run whose heartbeat is being written is not silent.
        _ => " FOR UPDATE OF r SKIP LOCKED",
    };
    let sql = format!(
        "SELECT {CORE}, e.name, p.name, r.run_id FROM runs r JOIN entities e ON e.id = r.entity_id \
         JOIN projects p ON p.entity_id = r.entity_id AND p.id = r.project_id \
         WHERE r.state IN (1, 6) AND r.heartbeat_at < $1 ORDER BY r.heartbeat_at LIMIT $2{lock}"
    );
    let rows = tx.query(&sql, params![before, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    rows.iter()
        .map(|row| Ok((read_name(row, 9)?, read_core(row)?)))
        .collect()
}

fn read_core(row: &Row) -> Result<Core> {
    Ok(Core {
        number: row.i64(0)?,
        entity_id: row.i64(1)?,
        state: RunState::from_code(row.i64(2)?)
            .ok_or_else(|| Error::Internal("a run has an unknown state".to_owned()))?,
        item: match (row.opt_i64(3)?, row.opt_i64(4)?) {
            (Some(entity), Some(number)) => Some(ItemId::new(entity, number)),
            _ => None,
        },
        stop_requested: row.bool(5)?,
        exit_code: row.opt_i64(6)?,
        heartbeat_at: row.opt_i64(7)?,
        ended_at: row.opt_i64(8)?,
    })
}

fn read_name(row: &Row, first: usize) -> Result<RunName> {
    Ok(RunName {
        entity: row.text(first)?,
        project: row.text(first + 1)?,
        run: row.text(first + 2)?,
    })
}

fn read_run(row: &Row) -> Result<Run> {
    let core = read_core(row)?;
    let document = |column| Ok::<_, Error>(row.opt_text(column)?.unwrap_or_else(|| "{}".to_owned()));
    let display_name = row.opt_text(15)?.unwrap_or_else(|| generated_name(core.number));
    let tags = row
        .opt_text(19)?
        .map_or(Ok(Vec::new()), |tags| serde_json::from_str(&tags));
    Ok(Run {
        number: core.number,
        name: read_name(row, 9)?,
        project_id: row.i64(12)?,
        display_name,
        state: core.state,
        user: row.text(13)?,
        config: document(16)?,
        summary: document(17)?,
        system_metrics: document(18)?,
        tags: tags.map_err(|error| Error::Internal(format!("the tags of a run are damaged: {error}")))?,
        notes: row.opt_text(20)?,
        description: row.opt_text(21)?,
        group: row.opt_text(22)?,
        job_type: row.opt_text(23)?,
        host: row.opt_text(24)?,
        program: row.opt_text(25)?,
        repo: row.opt_text(26)?,
        commit: row.opt_text(27)?,
        sweep: row.opt_text(28)?,
        item: core.item,
        stop_requested: core.stop_requested,
        exit_code: core.exit_code,
        history_lines: 0,
        event_lines: 0,
        log_lines: 0,
        created_at: row.i64(14)?,
        heartbeat_at: core.heartbeat_at,
        ended_at: core.ended_at,
    })
}

/// The name of a run that was given none: the same whenever it is read.
fn generated_name(number: i64) -> String {
    let number = number.unsigned_abs();
    // Spreads neighbouring numbers over the words.
    names::display_name(number.wrapping_mul(0x9E37_79B9_7F4A_7C15), number)
}

pub(super) fn read_file(row: &Row) -> Result<RunFile> {
    Ok(RunFile {
        name: row.text(0)?,
        size: row.i64(1)?,
        md5: row.text(2)?,
        updated_at: row.i64(3)?,
    })
}

pub(super) fn read_alert(row: &Row) -> Result<Alert> {
    Ok(Alert {
        title: row.text(0)?,
        text: row.text(1)?,
        severity: row.text(2)?,
        at: row.i64(3)?,
    })
}
