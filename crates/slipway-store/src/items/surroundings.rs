//! What surrounds the items of a page: their queues, who serves and who holds them, their places.
//!
//! A listing shows more of an item than its own row. Asking for that item by item costs several
//! statements a row; this costs a few for the page, however long it is, and one more for each queue
//! in it.

use std::collections::{HashMap, HashSet};

use slipway_model::Millis;
use slipway_model::id::{AgentId, ItemId, QueueId};
use slipway_model::item::ItemState;
use slipway_model::wait::AgentLoad;

use super::{Item, read};
use crate::agents::{self, Agent};
use crate::engine::{Field, Lane, Records, Tx, params};
use crate::queues::{self, Queue};
use crate::{Result, Store};

/// See the module.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Surroundings {
    /// The items' queues; one that was deleted is absent.
    pub queues: HashMap<QueueId, Queue>,
    /// The live agents of those queues and how busy they are, by name; a queue without is absent.
    pub serving: HashMap<QueueId, Vec<(Agent, AgentLoad)>>,
    /// The agents that hold the items, or held them last.
    pub holders: HashMap<AgentId, Agent>,
    /// 1 for the item of its queue that runs next; items that do not wait are absent.
    pub positions: HashMap<ItemId, u64>,
}

impl Store {
    /// Reads what surrounds items.
    pub async fn surroundings(&self, items: &[Item], now: Millis) -> Result<Surroundings> {
        let now = self.clock(now);
        let queues: HashSet<QueueId> = items.iter().map(|item| item.queue).collect();
        let holders: HashSet<AgentId> = items.iter().filter_map(|item| item.agent).collect();
        let mut waiting: HashMap<QueueId, Vec<ItemId>> = HashMap::new();
        for item in items.iter().filter(|item| item.state == ItemState::Pending) {
            waiting.entry(item.queue).or_default().push(item.id);
        }
        self.read(Lane::Control, "surroundings", move |tx| {
            let mut found = Surroundings {
                serving: agents::serving(tx, &queues, now)?,
                ..Surroundings::default()
            };
            let queues = queues::find_many(tx, &queues)?;
            found.queues.extend(queues.into_iter().map(|queue| (queue.id, queue)));
            let holders = agents::find_many(tx, &holders)?;
            found.holders.extend(holders.into_iter().map(|agent| (agent.id, agent)));
            for (queue, items) in &waiting {
                positions(tx, *queue, items, &mut found.positions)?;
            }
            Ok(found)
        })
        .await
    }
}

/// The places of waiting items of one queue.
fn positions(tx: &mut dyn Tx, queue: QueueId, items: &[ItemId], into: &mut HashMap<ItemId, u64>) -> Result<()> {
    if let [one] = items {
        // Counting those before one item reads less than numbering all.
        into.extend(read::position(tx, *one)?.map(|position| (*one, position)));
        return Ok(());
    }
    let numbers = items.iter().map(|item| params![item.number].to_vec());
    let numbers = Records::new(tx.dialect(), &[("id", Field::Int)], numbers)?;
    let rows = tx.query(
        &format!(
            "SELECT n.id, n.place FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY priority, COALESCE(place, id)) AS place \
             FROM items WHERE entity_id = $1 AND queue_id = $2 AND state = 0) AS n WHERE n.id IN {}",
            numbers.source(3)
        ),
        &numbers.after(params![queue.entity, queue.number]),
    )?;
    for row in &rows {
        let item = ItemId::new(queue.entity, row.i64(0)?);
        into.extend(u64::try_from(row.i64(1)?).ok().map(|place| (item, place)));
    }
    Ok(())
}
