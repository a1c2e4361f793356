//! One step of items: the guarded batch update, the answer for those that it did not move, and the
//! single steps (end, requeue) that several operations share.

use std::collections::HashMap;

use slipway_model::Millis;
use slipway_model::id::{AgentId, ItemId, LeaseHandle, RunName};
use slipway_model::item::{Effect, Failure, ItemEvent, ItemFacts, ItemState, Refusal, transition};
use slipway_model::run::RunState;

use super::{Item, row};
use crate::engine::{Dialect, Field, Records, Row, Tx, Value, params};
use crate::events::{self, NewEvent};
use crate::{Error, Result, queues, runs};

/// The answer for one handle of a batch.
pub(super) type Answer<T> = std::result::Result<T, Refusal>;

/// An item that a batch moved, as it is now.
#[derive(Debug, Clone)]
pub(super) struct Moved {
    pub(super) id: ItemId,
    pub(super) queue: i64,
    pub(super) agent: Option<AgentId>,
    pub(super) author: String,
    pub(super) attempt: i64,
    pub(super) stop_requested: bool,
    pub(super) run: Option<RunName>,
}

impl Moved {
    /// An event about it.
    pub(super) fn event(&self, kind: &'static str, detail: String) -> NewEvent {
        NewEvent {
            entity: self.id.entity,
            kind,
            queue: Some(self.queue),
            item: Some(self.id.number),
            agent: self.agent,
            actor: String::new(),
            detail,
        }
    }
}

impl Item {
    /// An event about it.
    pub(super) fn event(&self, kind: &'static str, actor: &str, detail: String) -> NewEvent {
        NewEvent {
            entity: self.id.entity,
            kind,
            queue: Some(self.queue.number),
            item: Some(self.id.number),
            agent: self.agent,
            actor: actor.to_owned(),
            detail,
        }
    }
}

/// One batch update: what it sets, in which states, and what it needs to know beyond the handle.
pub(super) struct Batch<'a> {
    /// `SET` clause; the batch's own fields are columns of `r`.
    pub(super) set: &'a str,
    /// Further conditions on `items` and `r`.
    pub(super) guard: &'a str,
    /// Further fields of each record, after entity, number and epoch.
    pub(super) fields: &'a [(&'a str, Field)],
    /// Parameters from `$1` on.
    pub(super) params: Vec<Value>,
}

/// What a batch update answers of each item, in the order that [`Moved`] is read in.
const MOVED: &str = "items.entity_id, items.id, items.queue_id, items.agent_entity_id, items.agent_id, items.author, \
    items.attempt, items.stop_requested, items.run_entity, items.run_project, items.run_id";

/// Updates every item whose handle is current, which `holder` holds if the caller said who it is,
/// and whose state passes the guard. `extra` holds each handle's further fields. Of several handles of
/// one item at most the first moves it, as far as the guard knows the state that it leads to.
pub(super) fn update(
    tx: &mut dyn Tx,
    batch: Batch<'_>,
    holder: Option<AgentId>,
    handles: &[LeaseHandle],
    extra: impl Fn(usize) -> Vec<Value>,
) -> Result<HashMap<ItemId, Moved>> {
    if handles.is_empty() {
        return Ok(HashMap::new());
    }
    // The signs keep SQLite from going through all that the agent holds, once per handle.
    let held = holder.map_or_else(String::new, |_| {
        let first = batch.params.len() + 1;
        format!(
            " AND +items.agent_entity_id = ${first} AND +items.agent_id = ${}",
            first + 1
        )
    });
    let held_by = holder.into_iter().flat_map(|agent| [agent.entity, agent.number]);
    let shared: Vec<Value> = batch.params.into_iter().chain(held_by.map(Value::from)).collect();
    let handles = handles.iter().enumerate();
    let mut moved = HashMap::with_capacity(handles.len());
    match tx.dialect() {
        // Two prepared statements per row cost less there than one for all: taking JSON apart, the table
        // of new rows that an update from a list builds first, and the one that `RETURNING` reads from.
        Dialect::Sqlite => {
            let own = shared.len() + 1;
            let update = format!(
                "UPDATE items SET {} WHERE items.id = ${own} AND items.entity_id = ${} AND items.epoch = ${} \
                 AND {}{held}",
                with_parameters(batch.set, batch.fields, own + 3),
                own + 1,
                own + 2,
                with_parameters(batch.guard, batch.fields, own + 3),
            );
            let read = format!("SELECT {MOVED} FROM items WHERE id = $1");
            for (place, handle) in handles {
                let mut values = Vec::with_capacity(own + 2 + batch.fields.len());
                values.extend_from_slice(&shared);
                values.extend_from_slice(params![handle.item.number, handle.item.entity, handle.epoch]);
                values.extend(extra(place));
                if tx.execute(&update, &values)? == 1 {
                    let item = read_moved(&tx.query_one(&read, params![handle.item.number])?)?;
                    moved.insert(item.id, item);
                }
            }
        }
        Dialect::Postgres => {
            let mut fields = vec![("entity_id", Field::Int), ("id", Field::Int), ("epoch", Field::Int)];
            fields.extend_from_slice(batch.fields);
            let rows = handles.map(|(place, handle)| {
                let mut row = params![handle.item.entity, handle.item.number, handle.epoch].to_vec();
                row.extend(extra(place));
                row
            });
            let records = Records::new(tx.dialect(), &fields, rows)?;
            let sql = format!(
                "UPDATE items SET {} FROM {} AS r WHERE items.entity_id = r.entity_id AND items.id = r.id \
                 AND items.epoch = r.epoch AND {}{held} RETURNING {MOVED}",
                batch.set,
                records.source(shared.len() + 1),
                batch.guard
            );
            for row in tx.query(&sql, &records.after(&shared))? {
                let item = read_moved(&row)?;
                moved.insert(item.id, item);
            }
        }
    }
    Ok(moved)
}

fn read_moved(row: &Row) -> Result<Moved> {
    Ok(Moved {
        id: ItemId {
            entity: row.i64(0)?,
            number: row.i64(1)?,
        },
        queue: row.i64(2)?,
        agent: row::agent(row, 3)?,
        author: row.text(5)?,
        attempt: row.i64(6)?,
        stop_requested: row.bool(7)?,
        run: row::run(row, 8)?,
    })
}

/// A clause with the columns of `r` as parameters, numbered from `first` on.
fn with_parameters(clause: &str, fields: &[(&str, Field)], first: usize) -> String {
    let mut text = clause.to_owned();
    for (place, (name, _)) in fields.iter().enumerate() {
        text = text.replace(&format!("r.{name}"), &format!("${}", first + place));
    }
    text
}

/// Answers for handles in order: those that moved, and for the others what the state machine says.
/// `what` is written.
pub(super) fn answers(
    tx: &mut dyn Tx,
    holder: Option<AgentId>,
    handles: &[LeaseHandle],
    mut moved: HashMap<ItemId, Moved>,
    event: impl Fn(usize) -> ItemEvent,
    what: &str,
    now: Millis,
) -> Result<Vec<Answer<()>>> {
    handles
        .iter()
        .enumerate()
        .map(|(place, handle)| match moved.remove(&handle.item) {
            Some(_) => Ok(Ok(())),
            None => unmoved(tx, holder, *handle, &event(place), what, now),
        })
        .collect()
}

/// Why a handle's item did not move: nothing to do any more, or a refusal. A stale write is noted in
/// the item's record: somebody may look for it there.
pub(super) fn unmoved(
    tx: &mut dyn Tx,
    holder: Option<AgentId>,
    handle: LeaseHandle,
    event: &ItemEvent,
    what: &str,
    now: Millis,
) -> Result<Answer<()>> {
    let Some(known) = known(tx, handle.item)? else {
        return Ok(Err(Refusal::Stale));
    };
    match decide(known.facts, known.agent, holder, event, handle.epoch) {
        Ok(Effect::None) => Ok(Ok(())),
        Ok(_) => Err(Error::Unavailable(
            "the item changed at the same moment; send the request again".to_owned(),
        )),
        Err(refusal) => {
            if refusal == Refusal::Stale {
                note_stale(tx, handle, known.queue, what, now)?;
            }
            Ok(Err(refusal))
        }
    }
}

/// What the state machine says to a holder's event. While an item goes on, an agent that does not
/// hold it is as stale as an old epoch: its successor may have taken the item over, epoch and all.
pub(super) fn decide(
    facts: ItemFacts,
    agent: Option<AgentId>,
    holder: Option<AgentId>,
    event: &ItemEvent,
    epoch: i64,
) -> std::result::Result<Effect, Refusal> {
    let goes_on = !facts.state.is_terminal() || facts.state == ItemState::Crashed;
    if goes_on && holder.is_some() && holder != agent {
        return Err(Refusal::Stale);
    }
    transition(facts, event, Some(epoch))
}

/// What a refusal depends on.
pub(super) struct Known {
    pub(super) facts: ItemFacts,
    pub(super) agent: Option<AgentId>,
    queue: i64,
}

/// Reads that, and keeps it from changing until the transaction ends.
pub(super) fn known(tx: &mut dyn Tx, item: ItemId) -> Result<Option<Known>> {
    let sql = format!(
        "SELECT state, epoch, start_recorded, queue_id, agent_entity_id, agent_id FROM items \
         WHERE entity_id = $1 AND id = $2{}",
        tx.for_update()
    );
    tx.query_opt(&sql, params![item.entity, item.number])?
        .map(|row| {
            let facts = ItemFacts {
                state: row::state(row.i64(0)?)?,
                epoch: row.i64(1)?,
                start_recorded: row.bool(2)?,
            };
            Ok(Known {
                facts,
                agent: row::agent(&row, 4)?,
                queue: row.i64(3)?,
            })
        })
        .transpose()
}

fn note_stale(tx: &mut dyn Tx, handle: LeaseHandle, queue: i64, what: &str, now: Millis) -> Result<()> {
    let event = NewEvent {
        entity: handle.item.entity,
        kind: "stale-write",
        queue: Some(queue),
        item: Some(handle.item.number),
        agent: None,
        actor: String::new(),
        detail: serde_json::json!({"epoch": handle.epoch, "report": what}).to_string(),
    };
    events::append(tx, now, &[event])
}

/// How an item ends.
pub(super) struct End<'a> {
    pub(super) state: ItemState,
    pub(super) failure: Option<&'a Failure>,
    pub(super) exit_code: Option<i64>,
    pub(super) actor: &'a str,
}

/// The record's word for an end.
pub(super) const fn kind(state: ItemState) -> &'static str {
    match state {
        ItemState::Finished => "finished",
        ItemState::Failed => "failed",
        ItemState::Crashed => "crashed",
        ItemState::Killed => "killed",
        ItemState::Pending => "requeued",
        ItemState::Leased => "leased",
        ItemState::Claimed => "acked",
        ItemState::Running => "running",
    }
}

/// The run's state when its item ended so; `None` while the item goes on.
pub(super) const fn run_state(state: ItemState) -> Option<RunState> {
    match state {
        ItemState::Finished => Some(RunState::Finished),
        ItemState::Failed => Some(RunState::Failed),
        ItemState::Killed => Some(RunState::Killed),
        ItemState::Crashed => Some(RunState::Crashed),
        ItemState::Pending | ItemState::Leased | ItemState::Claimed | ItemState::Running => None,
    }
}

/// Details of an end for the record.
pub(super) fn end_detail(failure: Option<&Failure>, exit_code: Option<i64>) -> String {
    match failure {
        Some(failure) => serde_json::json!({
            "stage": failure.stage,
            "reason": failure.reason,
            "message": failure.message,
            "exitCode": exit_code,
        }),
        None => serde_json::json!({"exitCode": exit_code}),
    }
    .to_string()
}

/// A failure as the item's row keeps it.
pub(super) fn failure_text(failure: &Failure) -> Result<String> {
    serde_json::to_string(failure).map_err(|error| Error::Internal(format!("cannot encode a failure: {error}")))
}

/// Ends an item that this transaction has locked; its run keeps what it said of itself. What was
/// wrong with an item that counted as crashed is not wrong with one that finished.
pub(super) fn end(tx: &mut dyn Tx, item: &Item, end: &End<'_>, now: Millis) -> Result<()> {
    tx.execute(
        "UPDATE items SET state = $3, deadline = NULL, lost_since = NULL, ended_at = $4, \
         failure = CASE WHEN CAST($3 AS BIGINT) = CAST($7 AS BIGINT) THEN NULL \
         ELSE COALESCE(CAST($5 AS TEXT), failure) END, exit_code = COALESCE(CAST($6 AS BIGINT), exit_code) \
         WHERE entity_id = $1 AND id = $2",
        params![
            item.id.entity,
            item.id.number,
            end.state.code(),
            now,
            end.failure.map(failure_text).transpose()?,
            end.exit_code,
            ItemState::Finished.code(),
        ],
    )?;
    let event = item.event(kind(end.state), end.actor, end_detail(end.failure, end.exit_code));
    events::append(tx, now, &[event])?;
    if let (Some(run), Some(state)) = (&item.run, run_state(end.state)) {
        runs::end_with_items(tx, &[(run, state)], now)?;
    }
    Ok(())
}

/// Puts an item that this transaction has locked back into its queue, with a new epoch: whoever held
/// it says nothing about it any more. One that somebody asked to stop ends instead, and so does one
/// whose queue was deleted meanwhile: nobody would take it from there.
pub(super) fn requeue(tx: &mut dyn Tx, item: &Item, new_attempt: bool, why: &str, now: Millis) -> Result<ItemState> {
    if item.stop_requested {
        let killed = End {
            state: ItemState::Killed,
            failure: None,
            exit_code: None,
            actor: "",
        };
        end(tx, item, &killed, now)?;
        return Ok(ItemState::Killed);
    }
    if !queues::keep(tx, item.queue)? {
        let failure = Failure {
            stage: "agent".to_owned(),
            message: format!(
                "The item came back from its agent ({why}) after its queue had been deleted; submit the job to another \
                 queue"
            ),
            reason: "queue-deleted".to_owned(),
            file_paths: Vec::new(),
        };
        let failed = End {
            state: ItemState::Failed,
            failure: Some(&failure),
            exit_code: None,
            actor: "",
        };
        end(tx, item, &failed, now)?;
        return Ok(ItemState::Failed);
    }
    tx.execute(
        "UPDATE items SET state = 0, epoch = epoch + 1, deadline = NULL, lost_since = NULL, start_recorded = 0, \
         managed = 0, failure = NULL, warning = NULL, leased_at = NULL, started_at = NULL, ended_at = NULL, attempt = attempt + $3 \
         WHERE entity_id = $1 AND id = $2",
        params![item.id.entity, item.id.number, new_attempt],
    )?;
    let attempt = item.attempt + i64::from(new_attempt);
    let detail = serde_json::json!({"why": why, "attempt": attempt}).to_string();
    events::append(tx, now, &[item.event("requeued", "", detail)])?;
    Ok(ItemState::Pending)
}
