//! Items as rows.

use slipway_model::id::{AgentId, ItemId, QueueId, RevisionId, RunName};
use slipway_model::item::{Failure, ItemFacts, ItemState};
use slipway_model::priority::Priority;

use super::Item;
use crate::engine::{Row, Tx, Value, params};
use crate::{Error, Result};

const COLUMNS: &str = "i.entity_id, i.id, i.queue_id, i.state, i.epoch, i.attempt, i.priority, s.spec, \
    s.template_values, i.revision_id, i.author, i.key_id, i.run_entity, i.run_project, i.run_id, i.agent_entity_id, \
    i.agent_id, i.managed, i.deadline, i.start_recorded, i.lost_since, i.stop_requested, i.failure, i.warning, \
    i.exit_code, i.preemptions, i.created_at, i.leased_at, i.started_at, i.ended_at";

const FROM: &str = "FROM items AS i JOIN item_specs AS s ON s.item_id = i.id AND s.entity_id = i.entity_id";

/// Reads the items that a clause selects; in it the item is `i` and its spec `s`.
pub(crate) fn select(tx: &mut dyn Tx, clause: &str, params: &[Value]) -> Result<Vec<Item>> {
    let rows = tx.query(&format!("SELECT {COLUMNS} {FROM} {clause}"), params)?;
    rows.iter().map(read).collect()
}

/// Finds an item.
pub(super) fn find(tx: &mut dyn Tx, id: ItemId) -> Result<Option<Item>> {
    let found = select(
        tx,
        "WHERE i.entity_id = $1 AND i.id = $2",
        params![id.entity, id.number],
    )?;
    Ok(found.into_iter().next())
}

/// Finds an item that must exist.
pub(super) fn require(tx: &mut dyn Tx, id: ItemId) -> Result<Item> {
    find(tx, id)?.ok_or_else(|| Error::not_found("item", id))
}

/// Keeps other transactions from changing an item until this one ends.
pub(super) fn lock(tx: &mut dyn Tx, id: ItemId) -> Result<()> {
    if tx.for_update().is_empty() {
        return Ok(());
    }
    let sql = format!(
        "SELECT id FROM items WHERE entity_id = $1 AND id = $2{}",
        tx.for_update()
    );
    tx.query(&sql, params![id.entity, id.number]).map(drop)
}

impl Item {
    /// What the state machine needs to know.
    #[must_use]
    pub fn facts(&self) -> ItemFacts {
        ItemFacts {
            state: self.state,
            epoch: self.epoch,
            start_recorded: self.start_recorded,
        }
    }
}

/// Reads a state.
pub(super) fn state(code: i64) -> Result<ItemState> {
    ItemState::from_code(code).ok_or_else(|| Error::Internal(format!("an item has the unknown state {code}")))
}

/// Reads a run's three columns.
pub(super) fn run(row: &Row, first: usize) -> Result<Option<RunName>> {
    Ok(
        match (row.opt_text(first)?, row.opt_text(first + 1)?, row.opt_text(first + 2)?) {
            (Some(entity), Some(project), Some(run)) => Some(RunName { entity, project, run }),
            _ => None,
        },
    )
}

/// Reads an agent's two columns.
pub(super) fn agent(row: &Row, first: usize) -> Result<Option<AgentId>> {
    Ok(match (row.opt_i64(first)?, row.opt_i64(first + 1)?) {
        (Some(entity), Some(number)) => Some(AgentId { entity, number }),
        _ => None,
    })
}

fn failure(text: Option<String>) -> Result<Option<Failure>> {
    text.map(|text| serde_json::from_str(&text).map_err(|error| Error::Internal(format!("a stored failure: {error}"))))
        .transpose()
}

fn read(row: &Row) -> Result<Item> {
    let entity = row.i64(0)?;
    let state = state(row.i64(3)?)?;
    let lost_since = row.opt_i64(20)?;
    let managed = row.bool(17)?;
    Ok(Item {
        id: ItemId {
            entity,
            number: row.i64(1)?,
        },
        queue: QueueId {
            entity,
            number: row.i64(2)?,
        },
        state,
        epoch: row.i64(4)?,
        attempt: row.i64(5)?,
        priority: Priority::from_code(row.i64(6)?).map_err(|error| Error::Internal(error.to_string()))?,
        spec: row.text(7)?,
        template_values: row.text(8)?,
        revision: row.opt_i64(9)?.map(|number| RevisionId { entity, number }),
        author: row.text(10)?,
        pushed_by_key: row.i64(11)?,
        run: run(row, 12)?,
        agent: agent(row, 15)?,
        managed,
        // Of a lost item the column says when it fails, and of one whose agent renews nothing when
        // the clock looks at it again.
        lease_expires_at: row
            .opt_i64(18)?
            .filter(|_| lost_since.is_none() && (managed || state == ItemState::Leased)),
        start_recorded: row.bool(19)?,
        lost_since,
        stop_requested: row.bool(21)?,
        failure: failure(row.opt_text(22)?)?,
        warning: failure(row.opt_text(23)?)?,
        exit_code: row.opt_i64(24)?,
        preemptions: row.i64(25)?,
        created_at: row.i64(26)?,
        leased_at: row.opt_i64(27)?,
        started_at: row.opt_i64(28)?,
        ended_at: row.opt_i64(29)?,
    })
}
