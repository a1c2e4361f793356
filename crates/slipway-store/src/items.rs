//! Queue items: push, lease, acknowledge, start, finish; and what users do with them.
//!
//! The hot path. Every write by a holder is guarded by the epoch of its lease.

use slipway_model::Millis;
use slipway_model::id::{AgentId, ItemId, LeaseHandle, QueueId, RevisionId, RunName};
use slipway_model::item::{Failure, ItemState, Refusal};
use slipway_model::priority::Priority;

use crate::identity::unfinished;
use crate::{Page, Result, Store};

/// An item as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Its id.
    pub id: ItemId,
    /// The queue that it was pushed to, or moved to.
    pub queue: QueueId,
    /// The state.
    pub state: ItemState,
    /// The number of leases so far.
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
    /// When it was last leased.
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
    /// With this run.
    pub run: Option<RunName>,
}

/// What one turn of [`Store::tick`] changed. The server publishes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Items whose lease ended and which wait again.
    pub requeued: Vec<(ItemId, QueueId)>,
    /// Items whose agent is lost from now on.
    pub lost: Vec<ItemId>,
    /// Items that failed because their agent stayed lost.
    pub failed: Vec<ItemId>,
    /// Runs that count as crashed from now on.
    pub crashed: Vec<RunName>,
    /// How much time passed in which no server could have been heard; every term was extended.
    pub deaf_for: Millis,
}

impl Store {
    /// Appends items to a queue, in order, all or none.
    pub async fn push(&self, queue: QueueId, items: Vec<NewItem>, now: Millis) -> Result<Vec<Pushed>> {
        unfinished((queue, items), now)
    }
    /// Notes that the answers of these pushes reached their clients.
    pub async fn mark_delivered(&self, items: Vec<ItemId>) -> Result<()> {
        unfinished(items, ())
    }
    /// Leases up to `limit` items from these queues, taking them in turn; each queue in order of
    /// priority, then submission. Nothing from paused queues or for draining agents. `managed`: the
    /// agent renews leases and reports starts and outcomes (ours); others only acknowledge.
    pub async fn lease(
        &self,
        agent: Option<AgentId>,
        queues: Vec<QueueId>,
        limit: usize,
        managed: bool,
        now: Millis,
    ) -> Result<Vec<Leased>> {
        unfinished((agent, queues), (limit, managed, now))
    }
    /// Names the run of each item; idempotent per handle and run. Makes the run, pending, if it
    /// does not exist, attributed to the item's author.
    pub async fn ack(&self, acks: Vec<(LeaseHandle, RunName)>, now: Millis) -> Result<Vec<Acked>> {
        unfinished(acks, now)
    }
    /// Records, before the workload is created, that each item's attempt starts. Idempotent per
    /// handle.
    pub async fn start(&self, handles: Vec<LeaseHandle>, now: Millis) -> Result<Vec<std::result::Result<(), Refusal>>> {
        unfinished(handles, now)
    }
    /// Notes that the workload runs (our agent) and moves the item to running.
    pub async fn running(
        &self,
        handles: Vec<LeaseHandle>,
        now: Millis,
    ) -> Result<Vec<std::result::Result<(), Refusal>>> {
        unfinished(handles, now)
    }
    /// Extends the leases of an agent that was heard from; returns, per handle, whether it still
    /// holds the item and whether somebody asked it to stop.
    pub async fn renew(
        &self,
        agent: AgentId,
        handles: Vec<LeaseHandle>,
        now: Millis,
    ) -> Result<Vec<std::result::Result<bool, Refusal>>> {
        unfinished((agent, handles), now)
    }
    /// Ends items by the report of the agent that holds them, and their runs, unless the run
    /// reported its own end.
    pub async fn finish(&self, reports: Vec<Report>, now: Millis) -> Result<Vec<std::result::Result<(), Refusal>>> {
        unfinished(reports, now)
    }
    /// Gives an item back.
    pub async fn hand_back(
        &self,
        handle: LeaseHandle,
        cause: ReturnCause,
        now: Millis,
    ) -> Result<std::result::Result<(), Refusal>> {
        unfinished((handle, cause), now)
    }
    /// Fails an item by the report of any agent. A stale handle changes nothing but the item's
    /// record, and answers `Ok(Err(Stale))`.
    pub async fn fail(
        &self,
        handle: LeaseHandle,
        failure: Failure,
        now: Millis,
    ) -> Result<std::result::Result<(), Refusal>> {
        unfinished((handle, failure), now)
    }
    /// Attaches a warning.
    pub async fn warn(
        &self,
        handle: LeaseHandle,
        warning: Failure,
        now: Millis,
    ) -> Result<std::result::Result<(), Refusal>> {
        unfinished((handle, warning), now)
    }

    /// Cancels: at once while it waits; otherwise asks the holder (and the run) to stop. Returns
    /// the item afterwards.
    pub async fn cancel(&self, item: ItemId, by: &str, now: Millis) -> Result<Item> {
        unfinished((item, by), now)
    }
    /// Pushes an ended item again, as a new item with the same spec and the queue's revision of
    /// then; the spec's `run_id` is dropped.
    pub async fn retry(&self, item: ItemId, by: &str, key_id: i64, now: Millis) -> Result<Item> {
        unfinished((item, by), (key_id, now))
    }
    /// Moves a waiting item to another queue of the entity, or changes its priority.
    pub async fn move_item(
        &self,
        item: ItemId,
        queue: Option<QueueId>,
        priority: Option<Priority>,
        by: &str,
        now: Millis,
    ) -> Result<Item> {
        unfinished((item, queue), (priority, by, now))
    }
    /// Deletes an item that waits or has ended. `false` if there is none; refused while held.
    pub async fn delete_item(&self, item: ItemId) -> Result<bool> {
        unfinished(item, ())
    }

    /// Finds an item.
    pub async fn item(&self, id: ItemId) -> Result<Option<Item>> {
        unfinished(id, ())
    }
    /// Lists items, newest first (`after`: the last id of the previous page).
    pub async fn items(&self, filter: ItemFilter, after: Option<i64>, limit: usize) -> Result<Page<Item>> {
        unfinished((filter, after), limit)
    }
    /// Lists the waiting items of a queue in the order in which they will run.
    pub async fn waiting(&self, queue: QueueId, offset: usize, limit: usize) -> Result<Page<Item>> {
        unfinished(queue, (offset, limit))
    }
    /// 1 for the item that runs next; `None` if it does not wait.
    pub async fn position(&self, item: ItemId) -> Result<Option<u64>> {
        unfinished(item, ())
    }

    /// Ends leases whose term is over, marks agents lost and runs crashed, fails what stayed lost.
    /// Only time in which a server ran counts: after a gap between two turns (a stopped server, a
    /// suspended machine, a clock that jumped) every term starts anew. Called about once a second
    /// by every server; on PostgreSQL the database's clock rules and one server at a time works.
    pub async fn tick(&self, now: Millis) -> Result<Ticked> {
        unfinished(now, ())
    }
}
