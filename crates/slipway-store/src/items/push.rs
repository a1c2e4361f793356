//! Pushing: durable, in order, and once even if the request is sent twice.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use slipway_model::Millis;
use slipway_model::id::{ItemId, QueueId};
use slipway_model::item::ItemState;

use super::{NewItem, Pushed};
use crate::engine::{Conflict, Dialect, Field, Lane, Row, Tx, insert_all, next_numbers, params};
use crate::events::{self, NewEvent};
use crate::{Error, Result, Store, queues};

/// How long an idempotency key is known.
pub const IDEMPOTENCY_TERM: Millis = 24 * 3_600_000;

/// For how long a repeated push without a key, whose answer was not delivered, returns the item
/// that it made.
pub const ABSORPTION_TERM: Millis = 120_000;

/// The longest idempotency key, in bytes.
pub const MAX_IDEMPOTENCY_KEY: usize = 255;

/// What recognises a repeated push, if anything does.
fn token(item: &NewItem) -> Option<String> {
    match (&item.idempotency_key, &item.digest) {
        (Some(key), _) => Some(format!("key:{key}")),
        (None, Some(digest)) => Some(format!("digest:{}", STANDARD_NO_PAD.encode(digest))),
        (None, None) => None,
    }
}

/// Items that earlier pushes with these tokens made, by place in the list. What is too old to count
/// is forgotten, so that the token can be used again: two pushes that do so at the same moment then
/// collide on the token, and the later one runs again.
fn known(tx: &mut dyn Tx, queue: QueueId, items: &[NewItem], now: Millis) -> Result<HashMap<usize, ItemId>> {
    let asked: Vec<(usize, i64, String)> = items
        .iter()
        .enumerate()
        .filter_map(|(place, item)| Some((place, item.key_id, token(item)?)))
        .collect();
    if asked.is_empty() {
        return Ok(HashMap::new());
    }
    let mut known = HashMap::new();
    for (place, row) in look_up(tx, queue, asked)? {
        let age = now - row.i64(1)?;
        let keyed = items.get(place).is_some_and(|item| item.idempotency_key.is_some());
        let same = if keyed {
            age < IDEMPOTENCY_TERM
        } else {
            age < ABSORPTION_TERM && !row.bool(2)?
        };
        if same {
            let item = ItemId {
                entity: queue.entity,
                number: row.i64(0)?,
            };
            known.insert(place, item);
        } else {
            tx.execute(
                "DELETE FROM pushes WHERE entity_id = $1 AND id = $2",
                params![queue.entity, row.i64(3)?],
            )?;
        }
    }
    Ok(known)
}

/// The pushes with these keys and tokens, by place: the item, when it was made, whether the answer
/// arrived, and the push's number.
fn look_up(tx: &mut dyn Tx, queue: QueueId, asked: Vec<(usize, i64, String)>) -> Result<Vec<(usize, Row)>> {
    const FOUND: &str = "p.item_id, p.at, CASE WHEN i.id IS NULL THEN CAST(1 AS BIGINT) ELSE p.delivered END, p.id";
    const ITS_ITEM: &str = "LEFT JOIN items AS i ON i.entity_id = p.entity_id AND i.id = p.item_id";
    match tx.dialect() {
        // A prepared statement per row costs less there than taking JSON apart.
        Dialect::Sqlite => {
            let sql = format!(
                "SELECT {FOUND} FROM pushes AS p {ITS_ITEM} WHERE p.entity_id = $1 AND p.key_id = $2 AND p.token = $3"
            );
            let mut found = Vec::new();
            for (place, key, token) in asked {
                if let Some(row) = tx.query_opt(&sql, params![queue.entity, key, token])? {
                    found.push((place, row));
                }
            }
            Ok(found)
        }
        Dialect::Postgres => {
            let records = tx.records(
                "$1",
                &[("place", Field::Int), ("key_id", Field::Int), ("token", Field::Text)],
            );
            let sql = format!(
                "SELECT {FOUND}, r.place FROM {records} AS r JOIN pushes AS p ON p.key_id = r.key_id AND p.token = r.token \
                 {ITS_ITEM} WHERE p.entity_id = $2"
            );
            tx.query(&sql, params![serde_json::json!(asked).to_string(), queue.entity])?
                .into_iter()
                .map(|row| Ok((usize::try_from(row.i64(4)?).unwrap_or(usize::MAX), row)))
                .collect()
        }
    }
}

fn check(items: &[NewItem]) -> Result<()> {
    for key in items.iter().filter_map(|item| item.idempotency_key.as_deref()) {
        if key.is_empty() || key.len() > MAX_IDEMPOTENCY_KEY || key.contains('\0') {
            return Err(Error::Invalid(format!(
                "an idempotency key has 1 to {MAX_IDEMPOTENCY_KEY} bytes, none of them NUL; this one has {}",
                key.len()
            )));
        }
    }
    Ok(())
}

/// Appends items to a queue within a transaction.
pub(super) fn push(
    tx: &mut dyn Tx,
    queue: QueueId,
    items: &[NewItem],
    detail: &str,
    now: Millis,
) -> Result<Vec<Pushed>> {
    if !queues::keep(tx, queue)? {
        return Err(Error::not_found("queue", queue));
    }

    let known = known(tx, queue, items, now)?;
    let mut numbers = next_numbers(tx, "items", items.len() - known.len())?.into_iter();
    let mut made: HashMap<(i64, String), ItemId> = HashMap::new();
    let mut pushed = Vec::with_capacity(items.len());
    let (mut rows, mut specs, mut tokens, mut record) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (place, item) in items.iter().enumerate() {
        let token = token(item).map(|token| (item.key_id, token));
        let twin = token.as_ref().filter(|_| item.idempotency_key.is_some());
        let earlier = known.get(&place).or_else(|| made.get(twin?)).copied();
        if let Some(id) = earlier {
            pushed.push(Pushed { id, inserted: false });
            continue;
        }
        let number = numbers
            .next()
            .ok_or_else(|| Error::Internal("too few item numbers were reserved".to_owned()))?;
        let id = ItemId {
            entity: queue.entity,
            number,
        };
        let may_repeat = item.idempotency_key.is_none() && item.digest.is_some();
        rows.push(
            params![
                number,
                queue.entity,
                queue.number,
                ItemState::Pending.code(),
                item.priority.code(),
                0_i64,
                1_i64,
                false,
                false,
                false,
                0_i64,
                now,
                item.revision.map(|revision| revision.number),
                item.key_id,
                &item.author,
            ]
            .to_vec(),
        );
        specs.push(params![number, queue.entity, &item.template_values, &item.spec].to_vec());
        record.push(NewEvent {
            entity: queue.entity,
            kind: "pushed",
            queue: Some(queue.number),
            item: Some(number),
            agent: None,
            actor: item.author.clone(),
            detail: detail.to_owned(),
        });
        if let Some(token) = token {
            let row = params![queue.entity, item.key_id, &token.1, number, now, !may_repeat].to_vec();
            // Two items with one digest in one call are two items; the token names the first.
            if made.insert(token, id).is_none() {
                tokens.push(row);
            }
        }
        pushed.push(Pushed { id, inserted: true });
    }
    insert_all(
        tx,
        "items",
        &[
            ("id", Field::Int),
            ("entity_id", Field::Int),
            ("queue_id", Field::Int),
            ("state", Field::Int),
            ("priority", Field::Int),
            ("epoch", Field::Int),
            ("attempt", Field::Int),
            ("managed", Field::Int),
            ("start_recorded", Field::Int),
            ("stop_requested", Field::Int),
            ("preemptions", Field::Int),
            ("created_at", Field::Int),
            ("revision_id", Field::Int),
            ("key_id", Field::Int),
            ("author", Field::Text),
        ],
        Conflict::Fail,
        rows,
    )?;
    insert_all(
        tx,
        "item_specs",
        &[
            ("item_id", Field::Int),
            ("entity_id", Field::Int),
            ("template_values", Field::Text),
            ("spec", Field::Text),
        ],
        Conflict::Fail,
        specs,
    )?;
    insert_all(
        tx,
        "pushes",
        &[
            ("entity_id", Field::Int),
            ("key_id", Field::Int),
            ("token", Field::Text),
            ("item_id", Field::Int),
            ("at", Field::Int),
            ("delivered", Field::Int),
        ],
        Conflict::Fail,
        tokens,
    )?;
    events::append(tx, now, &record)?;
    Ok(pushed)
}

impl Store {
    /// Appends items to a queue, in order, all or none.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such queue; [`Error::Invalid`] for an idempotency key
    /// that is empty or too long.
    pub async fn push(&self, queue: QueueId, items: Vec<NewItem>, now: Millis) -> Result<Vec<Pushed>> {
        check(&items)?;
        let now = self.clock(now);
        match self.dialect() {
            Dialect::Sqlite => {
                self.write(Lane::Control, "push", move |tx| push(tx, queue, &items, "{}", now))
                    .await
            }
            Dialect::Postgres => self.push_in_line(queue, items, now).await,
        }
    }

    /// Notes that the answers of these pushes reached their clients. Only a push that carried a
    /// digest is in doubt until then.
    pub async fn mark_delivered(&self, items: Vec<ItemId>) -> Result<()> {
        self.write(Lane::Control, "mark-delivered", move |tx| match tx.dialect() {
            Dialect::Sqlite => items.iter().try_for_each(|item| {
                tx.execute(
                    "UPDATE pushes SET delivered = 1 WHERE entity_id = $1 AND item_id = $2 AND delivered = 0",
                    params![item.entity, item.number],
                )
                .map(drop)
            }),
            Dialect::Postgres => {
                let records = tx.records("$1", &[("entity_id", Field::Int), ("id", Field::Int)]);
                let sql = format!(
                    "UPDATE pushes SET delivered = 1 FROM {records} AS r \
                         WHERE pushes.entity_id = r.entity_id AND pushes.item_id = r.id AND pushes.delivered = 0"
                );
                let list: Vec<[i64; 2]> = items.iter().map(|item| [item.entity, item.number]).collect();
                tx.execute(&sql, params![serde_json::json!(list).to_string()]).map(drop)
            }
        })
        .await
    }
}
