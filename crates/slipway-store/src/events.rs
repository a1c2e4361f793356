//! The record of what happened, in commit order.
//!
//! Every change of an item, agent, queue or run appends an event in the transaction that makes
//! the change. A position names a place in commit order and is the id of a server-sent event.

use std::fmt;
use std::str::FromStr;

use slipway_model::Millis;
use slipway_model::id::{AgentId, ItemId, QueueId};

use crate::identity::unfinished;
use crate::{Result, Store};

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
    /// `crashed`, `revived`, `killed`, `requeued`, `moved`, `warning`, `stop-requested`, `lost`,
    /// `stale-write`, `agent-registered`, `agent-status`, `queue-created`, `queue-updated`,
    /// `queue-deleted`.
    pub kind: String,
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

impl Store {
    /// Events after a position, oldest first. `None` inside if the position is too old to resume.
    pub async fn events(&self, scope: Scope, after: Position, limit: usize) -> Result<Option<Vec<Event>>> {
        unfinished(scope, (after, limit))
    }
    /// The newest position.
    pub async fn last_position(&self) -> Result<Position> {
        unfinished((), ())
    }
    /// Deletes events older than a time, in slices; those of items that have not ended stay.
    /// Returns how many.
    pub async fn prune_events(&self, before: Millis, limit: usize) -> Result<u64> {
        unfinished(before, limit)
    }
}
