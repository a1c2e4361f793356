//! What people do with items: cancel, retry, move, delete.

use slipway_model::Millis;
use slipway_model::id::{ItemId, QueueId};
use slipway_model::item::{ItemState, Refusal};
use slipway_model::priority::Priority;

use super::step::{self, End};
use super::{Item, NewItem, push, row};
use crate::engine::{Lane, Tx, params};
use crate::{Error, Result, Store, events, queues, runs};

/// Whether an item can be ended without asking anybody: no workload of it can exist, and none can
/// come to be, because a start is refused once the item has ended.
fn ends_at_once(item: &Item) -> bool {
    match item.state {
        ItemState::Pending | ItemState::Leased | ItemState::Crashed => true,
        ItemState::Claimed => item.managed && !item.start_recorded,
        ItemState::Running | ItemState::Finished | ItemState::Failed | ItemState::Killed => false,
    }
}

/// Ends an item because somebody wants it to.
fn kill(tx: &mut dyn Tx, item: &Item, by: &str, now: Millis) -> Result<()> {
    let killed = End {
        state: ItemState::Killed,
        failure: None,
        exit_code: None,
        actor: by,
    };
    step::end(tx, item, &killed, now)
}

fn cancel(tx: &mut dyn Tx, id: ItemId, by: &str, now: Millis) -> Result<Item> {
    row::lock(tx, id)?;
    let item = row::require(tx, id)?;
    if ends_at_once(&item) {
        kill(tx, &item, by, now)?;
    } else if item.state.is_held() && !item.stop_requested {
        request_stop(tx, &item, by, now)?;
    } else if item.state.is_terminal() && item.state != ItemState::Killed {
        return Err(Refusal::State(item.state).into());
    }
    row::require(tx, id)
}

/// Asks the holder of a held item, and its run, to stop.
fn request_stop(tx: &mut dyn Tx, item: &Item, by: &str, now: Millis) -> Result<()> {
    tx.execute(
        "UPDATE items SET stop_requested = 1 WHERE entity_id = $1 AND id = $2",
        params![item.id.entity, item.id.number],
    )?;
    events::append(tx, now, &[item.event("stop-requested", by, "{}".to_owned())])?;
    match &item.run {
        Some(run) => runs::request_stop(tx, run),
        None => Ok(()),
    }
}

/// Stops an item because somebody asked its run to: one that waits for its next attempt ends, one that
/// is held is asked to. Nothing if it has ended.
pub(crate) fn stop_with_run(tx: &mut dyn Tx, id: ItemId, by: &str, now: Millis) -> Result<()> {
    row::lock(tx, id)?;
    match row::find(tx, id)? {
        Some(item) if item.state == ItemState::Pending => kill(tx, &item, by, now),
        Some(item) if item.state.is_held() && !item.stop_requested => request_stop(tx, &item, by, now),
        Some(_) | None => Ok(()),
    }
}

/// A spec without the run that the earlier item ran as.
fn without_run(spec: &str) -> Result<String> {
    let mut value: serde_json::Value =
        serde_json::from_str(spec).map_err(|error| Error::Internal(format!("a stored spec is not JSON: {error}")))?;
    if let Some(map) = value.as_object_mut() {
        map.shift_remove("run_id");
    }
    Ok(value.to_string())
}

fn retry(tx: &mut dyn Tx, id: ItemId, by: &str, key_id: i64, now: Millis) -> Result<Item> {
    let item = row::require(tx, id)?;
    if !item.state.is_terminal() {
        return Err(Refusal::State(item.state).into());
    }
    let queue = queues::require(tx, item.queue)?;
    let new = NewItem {
        spec: without_run(&item.spec)?,
        template_values: item.template_values,
        priority: item.priority.within(queue.prioritization),
        revision: queue.revision.map(|revision| revision.id),
        author: by.to_owned(),
        key_id,
        idempotency_key: None,
        digest: None,
    };
    let detail = serde_json::json!({"retryOf": id.to_string()}).to_string();
    let pushed = push::push(tx, item.queue, &[new], &detail, now)?;
    let first = pushed
        .first()
        .ok_or_else(|| Error::Internal("a retry made no item".to_owned()))?;
    row::require(tx, first.id)
}

fn move_item(
    tx: &mut dyn Tx,
    id: ItemId,
    queue: Option<QueueId>,
    priority: Option<Priority>,
    by: &str,
    now: Millis,
) -> Result<Item> {
    row::lock(tx, id)?;
    let before = row::require(tx, id)?;
    if before.state != ItemState::Pending {
        return Err(Refusal::State(before.state).into());
    }
    let mut target = before.queue;
    let mut revision = before.revision;
    let mut priority = priority.unwrap_or(before.priority);
    if let Some(queue) = queue.filter(|queue| *queue != before.queue) {
        if queue.entity != id.entity {
            return Err(Error::Invalid(
                "an item moves only between queues of one entity; push it to the other queue instead".to_owned(),
            ));
        }
        if !queues::keep(tx, queue)? {
            return Err(Error::not_found("queue", queue));
        }
        let queue = queues::require(tx, queue)?;
        target = queue.id;
        revision = queue.revision.map(|revision| revision.id);
        priority = priority.within(queue.prioritization);
    }
    tx.execute(
        "UPDATE items SET queue_id = $3, revision_id = $4, priority = $5 WHERE entity_id = $1 AND id = $2",
        params![
            id.entity,
            id.number,
            target.number,
            revision.map(|revision| revision.number),
            priority.code(),
        ],
    )?;
    let after = row::require(tx, id)?;
    if (after.queue, after.priority) != (before.queue, before.priority) {
        let detail = serde_json::json!({
            "fromQueue": before.queue.to_string(),
            "fromPriority": before.priority.code(),
            "priority": after.priority.code(),
        });
        events::append(tx, now, &[after.event("moved", by, detail.to_string())])?;
    }
    Ok(after)
}

fn delete(tx: &mut dyn Tx, id: ItemId, by: &str, now: Millis) -> Result<bool> {
    row::lock(tx, id)?;
    let Some(item) = row::find(tx, id)? else {
        return Ok(false);
    };
    if item.state.is_held() {
        return Err(Refusal::State(item.state).into());
    }
    for sql in [
        "DELETE FROM items WHERE entity_id = $1 AND id = $2",
        "DELETE FROM item_specs WHERE entity_id = $1 AND item_id = $2",
        "DELETE FROM events WHERE entity_id = $1 AND item_id = $2",
        "INSERT INTO deleted_items (entity_id, item_id) VALUES ($1, $2)",
    ] {
        tx.execute(sql, params![id.entity, id.number])?;
    }
    events::append(tx, now, &[item.event("deleted", by, "{}".to_owned())])?;
    Ok(true)
}

impl Store {
    /// Cancels: at once while no workload of the item can exist; otherwise asks the holder (and the
    /// run) to stop. Returns the item afterwards.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Refused`] if the item has ended otherwise.
    pub async fn cancel(&self, item: ItemId, by: &str, now: Millis) -> Result<Item> {
        let (by, now) = (by.to_owned(), self.clock(now));
        self.write(Lane::Control, "cancel", move |tx| cancel(tx, item, &by, now))
            .await
    }

    /// Pushes an ended item again, as a new item with the same spec and the queue's revision of
    /// then; the spec's `run_id` is dropped.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the item or its queue is gone; [`Error::Refused`] if it has not ended.
    pub async fn retry(&self, item: ItemId, by: &str, key_id: i64, now: Millis) -> Result<Item> {
        let (by, now) = (by.to_owned(), self.clock(now));
        self.write(Lane::Control, "retry", move |tx| retry(tx, item, &by, key_id, now))
            .await
    }

    /// Moves a waiting item to another queue of the entity, or changes its priority.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the item or the queue is; [`Error::Refused`] if the item does not wait.
    pub async fn move_item(
        &self,
        item: ItemId,
        queue: Option<QueueId>,
        priority: Option<Priority>,
        by: &str,
        now: Millis,
    ) -> Result<Item> {
        let (by, now) = (by.to_owned(), self.clock(now));
        self.write(Lane::Control, "move-item", move |tx| {
            move_item(tx, item, queue, priority, &by, now)
        })
        .await
    }

    /// Deletes an item that waits or has ended, with its record, which then says only that it was
    /// deleted. `false` if there is none. Captured output follows by [`crate::garbage`].
    ///
    /// # Errors
    /// [`Error::Refused`] while an agent holds it.
    pub async fn delete_item(&self, item: ItemId, by: &str, now: Millis) -> Result<bool> {
        let (by, now) = (by.to_owned(), self.clock(now));
        self.write(Lane::Control, "delete-item", move |tx| delete(tx, item, &by, now))
            .await
    }

    /// Deleted items whose captured output has not been removed yet, oldest first.
    pub async fn deleted_items(&self, limit: usize) -> Result<Vec<ItemId>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(Lane::Control, "deleted-items", move |tx| {
            let sql = "SELECT entity_id, item_id FROM deleted_items ORDER BY item_id LIMIT $1";
            let rows = tx.query(sql, params![limit])?;
            rows.iter()
                .map(|row| Ok(ItemId::new(row.i64(0)?, row.i64(1)?)))
                .collect()
        })
        .await
    }

    /// Removes the captured output of a deleted item and takes it off the list. What is interrupted is
    /// found on the list again.
    pub async fn forget_deleted_item(&self, item: ItemId) -> Result<()> {
        self.delete_output(item).await?;
        self.write(Lane::Control, "forget-deleted-item", move |tx| {
            let sql = "DELETE FROM deleted_items WHERE entity_id = $1 AND item_id = $2";
            tx.execute(sql, params![item.entity, item.number]).map(drop)
        })
        .await
    }
}
