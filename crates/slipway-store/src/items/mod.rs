//! Queue items: push, lease, acknowledge, start, finish; and what users do with them.
//!
//! The hot path. Every write by a holder is guarded by the epoch of its lease, and every change
//! appends its event in the same transaction. Batches travel as few parameters ([`Records`]),
//! so that an operation costs the same few statements for one item and for a thousand.
//!
//! Which event is possible in which state is decided by [`slipway_model::item::transition`]. Where
//! a batch statement guards a transition itself, the conformance suite checks it against that
//! function.
//!
//! [`Records`]: crate::engine::Records

pub(crate) mod clock;
mod holder;
mod people;
mod push;
mod push_line;
mod read;
pub(crate) mod row;
mod run;
mod step;
mod surroundings;
mod tick;

use slipway_model::Millis;
use slipway_model::id::{AgentId, ItemId, LeaseHandle, QueueId, RevisionId, RunName};
use slipway_model::item::{Failure, ItemState, Refusal};
use slipway_model::priority::Priority;

pub use holder::MAX_LEASE;
pub(crate) use people::stop_with_run;
pub use push::{ABSORPTION_TERM, IDEMPOTENCY_TERM, MAX_IDEMPOTENCY_KEY};
pub(crate) use push_line::PushLine;
pub(crate) use read::named_by_spec;
pub(crate) use run::{RunChange, run_changed};
pub use surroundings::Surroundings;

/// An item as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its id.
    pub id: ItemId,
    /// The queue that it was pushed to, or moved to.
    pub queue: QueueId,
    /// The state.
    pub state: ItemState,
    /// Goes up with every lease and every return to the queue.
    pub epoch: i64,
    /// The attempt: 1, and one more for each requeue after a start.
    pub attempt: i64,
    /// The priority.
    pub priority: Priority,
    /// The submitter's part of the launch spec, JSON text, without secrets.
    pub spec: String,
    /// The submitter's template values, JSON text; `{}` if none.
    pub template_values: String,
    /// The queue's configuration at push.
    pub revision: Option<RevisionId>,
    /// Whom the run is attributed to.
    pub author: String,
    /// The key that pushed it.
    pub pushed_by_key: i64,
    /// The run that an acknowledgement named; kept by later attempts.
    pub run: Option<RunName>,
    /// The agent that holds it, or held it last.
    pub agent: Option<AgentId>,
    /// Whether our agent holds it and reports its outcome itself.
    pub managed: bool,
    /// When the lease ends, while held.
    pub lease_expires_at: Option<Millis>,
    /// Whether a start was recorded for the current attempt.
    pub start_recorded: bool,
    /// Since when the holder has not been heard from.
    pub lost_since: Option<Millis>,
    /// Whether somebody asked it to stop.
    pub stop_requested: bool,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// The last warning.
    pub warning: Option<Failure>,
    /// The exit code that our agent reported.
    pub exit_code: Option<i64>,
    /// How often it was preempted.
    pub preemptions: i64,
    /// When it was pushed.
    pub created_at: Millis,
    /// When it was leased; `None` while it waits.
    pub leased_at: Option<Millis>,
    /// When its workload or run started.
    pub started_at: Option<Millis>,
    /// When it ended.
    pub ended_at: Option<Millis>,
}

/// A new item. All items of one push call go to one queue.
#[derive(Debug, Clone)]
pub struct NewItem {
    /// The submitter's part of the launch spec, JSON text.
    pub spec: String,
    /// Template values, JSON text.
    pub template_values: String,
    /// Priority.
    pub priority: Priority,
    /// The queue's current revision, as the caller resolved it.
    pub revision: Option<RevisionId>,
    /// Whom the run is attributed to.
    pub author: String,
    /// The key that pushes.
    pub key_id: i64,
    /// Kept 24 hours: a push with a known key returns the item that it made.
    pub idempotency_key: Option<String>,
    /// For pushes without such a key: SHA-256 of the request. A push by the same key with the same
    /// digest within 120 s, whose answer was not delivered, returns that item.
    pub digest: Option<[u8; 32]>,
}

/// What a push did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// The item.
    pub id: ItemId,
    /// False if an earlier push had made it.
    pub inserted: bool,
}

/// An item that was just leased.
#[derive(Debug, Clone, PartialEq)]
pub struct Leased {
    /// Item and epoch.
    pub handle: LeaseHandle,
    /// The item, as leased.
    pub item: Item,
}

/// What an acknowledgement led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acked {
    /// The item is the caller's.
    Yes,
    /// The handle is stale, or the item is acknowledged with another run.
    No(Refusal),
    /// The run exists, and is neither this item's nor named by its spec. The lease goes on.
    RunTaken,
}

/// How a workload ended, as our agent saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Finished,
    /// It ended otherwise, or could not be started.
    Failed(Failure),
    /// It ended because it was asked to.
    Killed,
}

/// One report of an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Item and epoch.
    pub handle: LeaseHandle,
    /// How it ended.
    pub outcome: Outcome,
    /// The exit code, if there was one.
    pub exit_code: Option<i64>,
}

/// Why a holder gives an item back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnCause {
    /// It was never started.
    Released,
    /// A start was recorded, but there is no workload of that attempt.
    Absent,
    /// The workload was preempted. More than five times fails the item.
    Preempted,
}

/// Which items a listing holds.
#[derive(Debug, Clone, Default)]
pub struct ItemFilter {
    /// Of this queue.
    pub queue: Option<QueueId>,
    /// Of this entity (number).
    pub entity: Option<i64>,
    /// In one of these states; all if empty.
    pub states: Vec<ItemState>,
    /// Held by this agent.
    pub agent: Option<AgentId>,
    /// Of this author.
    pub author: Option<String>,
}

/// What one turn of [`Store::tick`] changed. The server publishes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Items whose lease ended and which wait again.
    pub requeued: Vec<(ItemId, QueueId)>,
    /// Items whose agent is lost from now on.
    pub lost: Vec<ItemId>,
    /// Items that failed because their agent stayed lost, or their queue was gone.
    pub failed: Vec<ItemId>,
    /// Acknowledged items that count as crashed, because neither their agent nor their run is heard.
    pub unheard: Vec<ItemId>,
    /// Runs that count as crashed from now on.
    pub crashed: Vec<RunName>,
    /// How much time passed in which no server could have been heard; every term was extended.
    pub deaf_for: Millis,
}
