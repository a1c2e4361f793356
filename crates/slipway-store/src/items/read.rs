//! Reading items.

use slipway_model::id::{ItemId, QueueId};
use slipway_model::item::ItemState;
use slipway_model::spec::LaunchSpec;

use super::{Item, ItemFilter, row};
use crate::engine::{Field, Lane, Records, Tx, Value, params};
use crate::{Error, Page, Result, Store};

/// A clause and its parameters.
fn clause(filter: &ItemFilter, after: Option<i64>, limit: i64) -> (String, Vec<Value>) {
    let mut terms = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    let mut term = |column: &str, value: Value| {
        values.push(value);
        terms.push(format!("i.{column} = ${}", values.len()));
    };
    if let Some(queue) = filter.queue {
        term("entity_id", queue.entity.into());
        term("queue_id", queue.number.into());
    }
    if let Some(entity) = filter.entity {
        term("entity_id", entity.into());
    }
    if let Some(agent) = filter.agent {
        term("agent_entity_id", agent.entity.into());
        term("agent_id", agent.number.into());
    }
    if let Some(author) = &filter.author {
        term("author", author.into());
    }
    if filter.agent.is_some() {
        terms.push("i.leased_at IS NOT NULL AND i.ended_at IS NULL".to_owned());
    }
    if !filter.states.is_empty() {
        let codes: Vec<String> = filter.states.iter().map(|state| state.code().to_string()).collect();
        terms.push(format!("i.state IN ({})", codes.join(", ")));
    }
    if let Some(after) = after {
        values.push(after.into());
        terms.push(format!("i.id < ${}", values.len()));
    }
    values.push(limit.into());
    let filter = if terms.is_empty() {
        String::new()
    } else {
        format!("WHERE {} ", terms.join(" AND "))
    };
    (format!("{filter}ORDER BY i.id DESC LIMIT ${}", values.len()), values)
}

/// Cuts the row off that only tells whether more follow.
fn page(mut rows: Vec<Item>, limit: usize) -> Page<Item> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    Page { rows, more }
}

fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

pub(super) fn position(tx: &mut dyn Tx, id: ItemId) -> Result<Option<u64>> {
    let Some(row) = tx.query_opt(
        "SELECT queue_id, priority, COALESCE(place, id) FROM items WHERE entity_id = $1 AND id = $2 AND state = 0",
        params![id.entity, id.number],
    )?
    else {
        return Ok(None);
    };
    let before = tx.query_one(
        "SELECT (SELECT COUNT(*) FROM items WHERE entity_id = $1 AND queue_id = $2 AND state = 0 AND priority < $3) \
         + (SELECT COUNT(*) FROM items WHERE entity_id = $1 AND queue_id = $2 AND state = 0 AND priority = $3 \
         AND COALESCE(place, id) < $4)",
        params![id.entity, row.i64(0)?, row.i64(1)?, row.i64(2)?],
    )?;
    Ok(u64::try_from(before.i64(0)?).ok().map(|before| before + 1))
}

/// The id of the run that an item's spec names, if it names one.
pub(crate) fn named_by_spec(tx: &mut dyn Tx, id: ItemId) -> Result<Option<String>> {
    let item = row::require(tx, id)?;
    let spec = LaunchSpec::parse(&item.spec)
        .map_err(|error| Error::Internal(format!("the spec of item {id} is damaged: {error}")))?;
    Ok(spec.run_id().map(str::to_owned))
}

impl Store {
    /// Finds an item.
    pub async fn item(&self, id: ItemId) -> Result<Option<Item>> {
        self.read(Lane::Control, "item", move |tx| row::find(tx, id)).await
    }

    /// The specs of items, as they were submitted, in the order of the ids; `None` for an id without
    /// an item.
    pub async fn item_specs(&self, ids: Vec<ItemId>) -> Result<Vec<Option<String>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.read(Lane::Control, "item-specs", move |tx| {
            let places = ids
                .iter()
                .zip(0_i64..)
                .map(|(id, place)| params![place, id.entity, id.number].to_vec());
            let fields = [("place", Field::Int), ("entity_id", Field::Int), ("id", Field::Int)];
            let records = Records::new(tx.dialect(), &fields, places)?;
            let sql = format!(
                "SELECT r.place, s.spec FROM {} AS r CROSS JOIN item_specs AS s \
                 WHERE s.entity_id = r.entity_id AND s.item_id = r.id",
                records.source(1)
            );
            let mut specs = vec![None; ids.len()];
            for row in tx.query(&sql, &records.after(params![]))? {
                let place = usize::try_from(row.i64(0)?).unwrap_or(usize::MAX);
                if let Some(spec) = specs.get_mut(place) {
                    *spec = Some(row.text(1)?);
                }
            }
            Ok(specs)
        })
        .await
    }

    /// Lists items, newest first (`after`: the last number of the previous page).
    pub async fn items(&self, filter: ItemFilter, after: Option<i64>, limit: usize) -> Result<Page<Item>> {
        self.read(Lane::Control, "items", move |tx| {
            let (clause, values) = clause(&filter, after, one_more(limit));
            Ok(page(row::select(tx, &clause, &values)?, limit))
        })
        .await
    }

    /// Lists the waiting items of a queue in the order in which they will run.
    pub async fn waiting(&self, queue: QueueId, offset: usize, limit: usize) -> Result<Page<Item>> {
        self.read(Lane::Control, "waiting", move |tx| {
            let rows = row::select(
                tx,
                &format!(
                    "WHERE i.entity_id = $1 AND i.queue_id = $2 AND i.state = {} \
                     ORDER BY i.priority, COALESCE(i.place, i.id) LIMIT $3 OFFSET $4",
                    ItemState::Pending.code()
                ),
                params![
                    queue.entity,
                    queue.number,
                    one_more(limit),
                    i64::try_from(offset).unwrap_or(i64::MAX),
                ],
            )?;
            Ok(page(rows, limit))
        })
        .await
    }

    /// 1 for the item that runs next; `None` if it does not wait.
    pub async fn position(&self, item: ItemId) -> Result<Option<u64>> {
        self.read(Lane::Control, "position", move |tx| position(tx, item)).await
    }
}
