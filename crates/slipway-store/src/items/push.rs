//! Pushing: durable, in order, and once even if the request is sent twice.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use slipway_model::Millis;
use slipway_model::id::{ItemId, QueueId};
use slipway_model::item::ItemState;

use super::{NewItem, Pushed};
use crate::engine::{Conflict, Dialect, Field, Lane, Records, Row, Tx, insert_all, next_numbers, params};
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
            let fields = [("place", Field::Int), ("key_id", Field::Int), ("token", Field::Text)];
            let asked = asked
                .into_iter()
                .map(|(place, key, token)| params![place as i64, key, token].to_vec());
            let records = Records::new(tx.dialect(), &fields, asked)?;
            let sql = format!(
                "SELECT {FOUND}, r.place FROM {} AS r JOIN pushes AS p ON p.key_id = r.key_id AND p.token = r.token \
                 {ITS_ITEM} WHERE p.entity_id = $1",
                records.source(2)
            );
            tx.query(&sql, &records.after(params![queue.entity]))?
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

/// An item that no earlier push made.
struct Fresh<'a> {
    item: &'a NewItem,
    /// What is kept to recognise its push: not of the second of two items with one digest in one call,
    /// which are two items.
    token: Option<String>,
}

impl Fresh<'_> {
    /// 0 while it is in doubt whether the answer arrives.
    fn delivered(&self) -> bool {
        self.item.idempotency_key.is_some() || self.item.digest.is_none()
    }
}

/// Where the answer for one item of a push comes from.
enum Source {
    Earlier(ItemId),
    /// A fresh item, by its place among those; `true` for the one that it was made for.
    Fresh(usize, bool),
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
    let mut made: HashMap<(i64, String), usize> = HashMap::new();
    let mut fresh = Vec::with_capacity(items.len());
    let mut sources = Vec::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        if let Some(id) = known.get(&place) {
            sources.push(Source::Earlier(*id));
            continue;
        }
        let mut token = token(item);
        if let Some(text) = &token {
            match made.entry((item.key_id, text.clone())) {
                Entry::Occupied(twin) if item.idempotency_key.is_some() => {
                    sources.push(Source::Fresh(*twin.get(), false));
                    continue;
                }
                Entry::Occupied(_) => token = None,
                Entry::Vacant(vacant) => {
                    vacant.insert(fresh.len());
                }
            }
        }
        sources.push(Source::Fresh(fresh.len(), true));
        fresh.push(Fresh { item, token });
    }
    let numbers = match tx.dialect() {
        Dialect::Sqlite => insert_by_table(tx, queue, &fresh, now)?,
        Dialect::Postgres => insert_at_once(tx, queue, &fresh, now)?,
    };
    let record = fresh.iter().zip(&numbers).map(|(fresh, number)| NewEvent {
        entity: queue.entity,
        kind: "pushed",
        queue: Some(queue.number),
        item: Some(*number),
        agent: None,
        actor: fresh.item.author.clone(),
        detail: detail.to_owned(),
    });
    events::append(tx, now, &record.collect::<Vec<_>>())?;
    let answer = |source| match source {
        Source::Earlier(id) => Ok(Pushed { id, inserted: false }),
        Source::Fresh(place, inserted) => numbers
            .get(place)
            .map(|number| Pushed {
                id: ItemId::new(queue.entity, *number),
                inserted,
            })
            .ok_or_else(|| Error::Internal("too few items were inserted".to_owned())),
    };
    sources.into_iter().map(answer).collect()
}

/// Inserts items with numbers that were taken before; returns these.
fn insert_by_table(tx: &mut dyn Tx, queue: QueueId, fresh: &[Fresh<'_>], now: Millis) -> Result<Vec<i64>> {
    let numbers = next_numbers(tx, "items", fresh.len())?;
    let rows = fresh.iter().zip(&numbers).map(|(fresh, number)| {
        params![
            *number,
            queue.entity,
            queue.number,
            ItemState::Pending.code(),
            fresh.item.priority.code(),
            0_i64,
            1_i64,
            false,
            false,
            false,
            0_i64,
            now,
            fresh.item.revision.map(|revision| revision.number),
            fresh.item.key_id,
            &fresh.item.author,
        ]
        .to_vec()
    });
    let columns = [
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
    ];
    insert_all(tx, "items", &columns, Conflict::Fail, rows.collect())?;
    let specs = fresh.iter().zip(&numbers).map(|(fresh, number)| {
        let NewItem {
            template_values, spec, ..
        } = fresh.item;
        params![*number, queue.entity, template_values, spec].to_vec()
    });
    let columns = [
        ("item_id", Field::Int),
        ("entity_id", Field::Int),
        ("template_values", Field::Text),
        ("spec", Field::Text),
    ];
    insert_all(tx, "item_specs", &columns, Conflict::Fail, specs.collect())?;
    let tokens = fresh.iter().zip(&numbers).filter_map(|(fresh, number)| {
        let token = fresh.token.as_ref()?;
        Some(params![queue.entity, fresh.item.key_id, token, *number, now, fresh.delivered()].to_vec())
    });
    let columns = [
        ("entity_id", Field::Int),
        ("key_id", Field::Int),
        ("token", Field::Text),
        ("item_id", Field::Int),
        ("at", Field::Int),
        ("delivered", Field::Int),
    ];
    insert_all(tx, "pushes", &columns, Conflict::Fail, tokens.collect())?;
    Ok(numbers)
}

/// Inserts items with one statement, which costs one round trip and takes what they share once; returns
/// the numbers that they got, ascending in their order.
fn insert_at_once(tx: &mut dyn Tx, queue: QueueId, fresh: &[Fresh<'_>], now: Millis) -> Result<Vec<i64>> {
    if fresh.is_empty() {
        return Ok(Vec::new());
    }
    let rows = fresh.iter().map(|fresh| {
        let item = fresh.item;
        params![
            item.priority.code(),
            item.revision.map(|revision| revision.number),
            item.key_id,
            &item.author,
            &item.template_values,
            &item.spec,
            fresh.token.clone(),
            fresh.delivered(),
        ]
        .to_vec()
    });
    let fields = [
        ("priority", Field::Int),
        ("revision_id", Field::Int),
        ("key_id", Field::Int),
        ("author", Field::Text),
        ("template_values", Field::Text),
        ("spec", Field::Text),
        ("token", Field::Text),
        ("delivered", Field::Int),
    ];
    let records = Records::new(tx.dialect(), &fields, rows)?;
    let sql = format!(
        "WITH fresh AS MATERIALIZED (SELECT {NEXT_ITEM} AS id, r.* FROM {} AS r), \
         stored AS (INSERT INTO items (id, entity_id, queue_id, state, priority, epoch, attempt, managed, \
         start_recorded, stop_requested, preemptions, created_at, revision_id, key_id, author) \
         SELECT id, $1, $2, {}, priority, 0, 1, 0, 0, 0, 0, $3, revision_id, key_id, author FROM fresh), \
         specs AS (INSERT INTO item_specs (item_id, entity_id, template_values, spec) \
         SELECT id, $1, template_values, spec FROM fresh), \
         tokens AS (INSERT INTO pushes (entity_id, key_id, token, item_id, at, delivered) \
         SELECT $1, key_id, token, id, $3, delivered FROM fresh WHERE token IS NOT NULL) \
         SELECT id FROM fresh ORDER BY id",
        records.source(4),
        ItemState::Pending.code(),
    );
    let rows = tx.query(&sql, &records.after(params![queue.entity, queue.number, now]))?;
    rows.iter().map(|row| row.i64(0)).collect()
}

/// The next number of an item on PostgreSQL; its sequence is looked up once per statement.
const NEXT_ITEM: &str = "nextval((SELECT CAST(pg_get_serial_sequence('items', 'id') AS regclass)))";

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
                let keys = items.iter().map(|item| params![item.entity, item.number].to_vec());
                let keys = Records::new(tx.dialect(), &[("entity_id", Field::Int), ("id", Field::Int)], keys)?;
                let sql = format!(
                    "UPDATE pushes SET delivered = 1 FROM {} AS r \
                     WHERE pushes.entity_id = r.entity_id AND pushes.item_id = r.id AND pushes.delivered = 0",
                    keys.source(1)
                );
                tx.execute(&sql, &keys.after(params![])).map(drop)
            }
        })
        .await
    }
}
