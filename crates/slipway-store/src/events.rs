//! The record of what happened, in commit order.
//!
//! Every change of an item, agent or queue appends an event in the transaction that makes the
//! change. A position names a place in commit order and is the id of a server-sent event.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use slipway_model::Millis;
use slipway_model::id::{AgentId, ItemId, QueueId};

use crate::engine::{Conflict, Dialect, Field, Lane, Records, Row, Tx, Value, insert_all, next_numbers, params};
use crate::{Error, Result, Store, settings};

/// A place in commit order. On PostgreSQL `major` is the transaction, so that an event never
/// appears behind a position that was already read; on SQLite it is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// See the type.
    pub major: i64,
    /// The event's number.
    pub minor: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.major, self.minor)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let (major, minor) = text.split_once('-').ok_or(())?;
        Ok(Self {
            major: major.parse().map_err(|_| ())?,
            minor: minor.parse().map_err(|_| ())?,
        })
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Where it stands.
    pub position: Position,
    /// When.
    pub at: Millis,
    /// The entity's number.
    pub entity: i64,
    /// What happened: `pushed`, `leased`, `acked`, `started`, `running`, `finished`, `failed`,
    /// `crashed`, `revived`, `killed`, `requeued`, `moved`, `warning`, `warning-cleared`,
    /// `stop-requested`, `lost`, `found`, `stale-write`, `deleted`, `agent-registered`, `agent-replaced`, `agent-status`,
    /// `queue-created`, `queue-updated`, `queue-deleted`.
    pub kind: Cow<'static, str>,
    /// The queue, if it concerns one.
    pub queue: Option<QueueId>,
    /// The item, if it concerns one.
    pub item: Option<ItemId>,
    /// The agent, if it concerns one.
    pub agent: Option<AgentId>,
    /// Who caused it: a user, an agent's name, or empty for the server.
    pub actor: String,
    /// Details as JSON text, without secrets.
    pub detail: String,
}

/// Which events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Of an item: its history.
    Item(ItemId),
    /// Of a queue and its items.
    Queue(QueueId),
    /// Of an agent and the items that it holds.
    Agent(AgentId),
    /// Of an entity.
    Entity(i64),
    /// All; for the server's own dispatch.
    All,
}

/// An event to append.
#[derive(Debug, Clone)]
pub(crate) struct NewEvent {
    /// The entity's number.
    pub(crate) entity: i64,
    /// See [`Event::kind`].
    pub(crate) kind: &'static str,
    /// The queue's number, in the same entity.
    pub(crate) queue: Option<i64>,
    /// The item's number, in the same entity.
    pub(crate) item: Option<i64>,
    /// The agent.
    pub(crate) agent: Option<AgentId>,
    /// See [`Event::actor`].
    pub(crate) actor: String,
    /// JSON text.
    pub(crate) detail: String,
}

impl NewEvent {
    /// The event as SQLite keeps it.
    fn placed(&self, number: i64, at: Millis) -> Event {
        let entity = self.entity;
        Event {
            position: Position {
                major: 0,
                minor: number,
            },
            at,
            entity,
            kind: Cow::Borrowed(self.kind),
            queue: self.queue.map(|number| QueueId { entity, number }),
            item: self.item.map(|number| ItemId { entity, number }),
            agent: self.agent,
            actor: self.actor.clone(),
            detail: self.detail.clone(),
        }
    }
}

/// Appends events in the order given, and tells watchers after the commit.
pub(crate) fn append(tx: &mut dyn Tx, at: Millis, events: &[NewEvent]) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    match tx.dialect() {
        Dialect::Sqlite => {
            let numbers = next_numbers(tx, "events", events.len())?;
            let columns = [
                ("id", Field::Int),
                ("major", Field::Int),
                ("at", Field::Int),
                ("entity_id", Field::Int),
                ("queue_id", Field::Int),
                ("item_id", Field::Int),
                ("agent_entity_id", Field::Int),
                ("agent_id", Field::Int),
                ("kind", Field::Text),
                ("actor", Field::Text),
                ("detail", Field::Text),
            ];
            let row = |(event, number): (&NewEvent, &i64)| {
                vec![
                    Value::from(*number),
                    Value::from(0),
                    Value::from(at),
                    Value::from(event.entity),
                    Value::from(event.queue),
                    Value::from(event.item),
                    Value::from(event.agent.map(|agent| agent.entity)),
                    Value::from(event.agent.map(|agent| agent.number)),
                    Value::from(event.kind),
                    Value::from(&event.actor),
                    Value::from(&event.detail),
                ]
            };
            let rows = events.iter().zip(&numbers).map(row).collect();
            insert_all(tx, "events", &columns, Conflict::Fail, rows)?;
            let published = events
                .iter()
                .zip(numbers)
                .map(|(event, number)| event.placed(number, at))
                .collect();
            tx.publish(published);
        }
        Dialect::Postgres => {
            let fields = [
                ("entity_id", Field::Int),
                ("queue_id", Field::Int),
                ("item_id", Field::Int),
                ("agent_entity_id", Field::Int),
                ("agent_id", Field::Int),
                ("kind", Field::Text),
                ("actor", Field::Text),
                ("detail", Field::Text),
            ];
            let rows = events.iter().map(|event| {
                params![
                    event.entity,
                    event.queue,
                    event.item,
                    event.agent.map(|agent| agent.entity),
                    event.agent.map(|agent| agent.number),
                    event.kind,
                    &event.actor,
                    &event.detail,
                ]
                .to_vec()
            });
            let records = Records::new(tx.dialect(), &fields, rows)?;
            let sql = format!(
                "INSERT INTO events (major, at, entity_id, queue_id, item_id, agent_entity_id, agent_id, kind, actor, \
                 detail) SELECT (SELECT CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT)), $1, r.* FROM {} AS r",
                records.source(2)
            );
            tx.execute(&sql, &records.after(params![at]))?;
            tx.publish(Vec::new());
        }
    }
    Ok(())
}

/// The position up to which events were deleted.
const PRUNED: &str = "events-pruned";

/// On PostgreSQL an event counts as read only once every transaction that could still write an
/// earlier position has ended.
fn settled(tx: &dyn Tx) -> &'static str {
    match tx.dialect() {
        Dialect::Sqlite => "",
        Dialect::Postgres => " AND major < CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS BIGINT)",
    }
}

fn after_position(tx: &dyn Tx) -> &'static str {
    match tx.dialect() {
        // `major` is 0 there; naming it would keep SQLite from its row number.
        Dialect::Sqlite => "id > $2 AND $1 >= 0",
        Dialect::Postgres => "(major, id) > ($1, $2)",
    }
}

fn order(tx: &dyn Tx, direction: &str) -> String {
    match tx.dialect() {
        Dialect::Sqlite => format!("ORDER BY id {direction}"),
        Dialect::Postgres => format!("ORDER BY major {direction}, id {direction}"),
    }
}

const COLUMNS: &str = "major, id, at, entity_id, kind, queue_id, item_id, agent_entity_id, agent_id, actor, detail";

fn read(row: &Row) -> Result<Event> {
    let entity = row.i64(3)?;
    let agent = match (row.opt_i64(7)?, row.opt_i64(8)?) {
        (Some(entity), Some(number)) => Some(AgentId { entity, number }),
        _ => None,
    };
    Ok(Event {
        position: Position {
            major: row.i64(0)?,
            minor: row.i64(1)?,
        },
        at: row.i64(2)?,
        entity,
        kind: Cow::Owned(row.text(4)?),
        queue: row.opt_i64(5)?.map(|number| QueueId { entity, number }),
        item: row.opt_i64(6)?.map(|number| ItemId { entity, number }),
        agent,
        actor: row.text(9)?,
        detail: row.text(10)?,
    })
}

fn pruned(tx: &mut dyn Tx) -> Result<Position> {
    let Some(bytes) = settings::get(tx, PRUNED)? else {
        return Ok(Position::default());
    };
    std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::Internal(format!("the setting `{PRUNED}` is damaged")))
}

impl Store {
    /// Events after a position, oldest first. `None` inside if the position is too old to resume.
    /// An item's own history is never too old.
    pub async fn events(&self, scope: Scope, after: Position, limit: usize) -> Result<Option<Vec<Event>>> {
        self.read(Lane::Control, "events", move |tx| {
            if !matches!(scope, Scope::Item(_)) && after < pruned(tx)? {
                return Ok(None);
            }
            let mut values = vec![
                Value::from(after.major),
                Value::from(after.minor),
                Value::from(i64::try_from(limit).unwrap_or(i64::MAX)),
            ];
            let narrow = match scope {
                Scope::All => "",
                Scope::Entity(entity) => {
                    values.push(Value::from(entity));
                    " AND entity_id = $4"
                }
                Scope::Item(id) => {
                    values.extend([Value::from(id.entity), Value::from(id.number)]);
                    " AND entity_id = $4 AND item_id = $5"
                }
                Scope::Queue(id) => {
                    values.extend([Value::from(id.entity), Value::from(id.number)]);
                    " AND entity_id = $4 AND queue_id = $5"
                }
                Scope::Agent(id) => {
                    values.extend([Value::from(id.entity), Value::from(id.number)]);
                    " AND agent_entity_id = $4 AND agent_id = $5"
                }
            };
            let sql = format!(
                "SELECT {COLUMNS} FROM events WHERE {}{narrow}{} {} LIMIT $3",
                after_position(tx),
                settled(tx),
                order(tx, "ASC")
            );
            let rows = tx.query(&sql, &values)?;
            rows.iter().map(read).collect::<Result<Vec<_>>>().map(Some)
        })
        .await
    }

    /// The newest position.
    pub async fn last_position(&self) -> Result<Position> {
        self.read(Lane::Control, "last-position", |tx| {
            let sql = format!(
                "SELECT major, id FROM events WHERE id > 0{} {} LIMIT 1",
                settled(tx),
                order(tx, "DESC")
            );
            match tx.query_opt(&sql, params![])? {
                Some(row) => Ok(Position {
                    major: row.i64(0)?,
                    minor: row.i64(1)?,
                }),
                None => pruned(tx),
            }
        })
        .await
    }

    /// Deletes events older than a time, in slices; those of items that have not ended stay.
    /// Returns how many: fewer than `limit` means that there are no more.
    pub async fn prune_events(&self, before: Millis, limit: usize) -> Result<u64> {
        self.write(Lane::Control, "prune-events", move |tx| {
            // Positions grow with time, so the first young event ends the search.
            let ascending = order(tx, "ASC");
            let young = tx.query_opt(
                &format!("SELECT major, id FROM events WHERE at >= $1 {ascending} LIMIT 1"),
                params![before],
            )?;
            let (major, minor) = match young {
                Some(row) => (row.i64(0)?, row.i64(1)?),
                None => (i64::MAX, i64::MAX),
            };
            let older = match tx.dialect() {
                Dialect::Sqlite => "e.id < $2 AND $1 >= 0",
                Dialect::Postgres => "(e.major, e.id) < ($1, $2)",
            };
            let ascending = ascending.replace("major", "e.major").replace(" id", " e.id");
            let rows = tx.query(
                &format!(
                    "SELECT e.major, e.id FROM events AS e \
                     LEFT JOIN items AS i ON i.entity_id = e.entity_id AND i.id = e.item_id \
                     WHERE {older} AND (i.id IS NULL OR i.state > 3) {ascending} LIMIT $3"
                ),
                params![major, minor, i64::try_from(limit).unwrap_or(i64::MAX)],
            )?;
            let Some(last) = rows.last() else { return Ok(0) };
            let end = Position {
                major: last.i64(0)?,
                minor: last.i64(1)?,
            };
            let ids = rows.iter().map(|row| row.i64(1)).collect::<Result<Vec<_>>>()?;
            let ids = ids.into_iter().map(|id| params![id].to_vec());
            let ids = Records::new(tx.dialect(), &[("number", Field::Int)], ids)?;
            let sql = format!("DELETE FROM events WHERE id IN {}", ids.source(1));
            let deleted = tx.execute(&sql, &ids.after(params![]))?;
            settings::put(tx, PRUNED, end.to_string().into_bytes())?;
            Ok(deleted)
        })
        .await
    }
}
