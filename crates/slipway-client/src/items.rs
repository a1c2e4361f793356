//! Queue items, as submitters and operators see them.

use serde::Deserialize;
use serde_json::json;
use slipway_model::item::ItemState;
use slipway_wire::Document;
use slipway_wire::document::{additions, official};
use slipway_wire::graphql::{Connection, Success};
use slipway_wire::item::{Item, ItemEvent};

use crate::Client;
use crate::error::{Error, Result};
use crate::transport::Repeat;

/// Items asked for at once.
const PAGE: usize = 200;

/// Which items of a queue to list.
#[derive(Debug, Clone, Default)]
pub struct ItemFilter {
    /// Only these states, in capitals; all if empty.
    pub states: Vec<String>,
    /// Only items that wait, in the order in which they run.
    pub waiting: bool,
    /// At most so many.
    pub limit: usize,
}

impl ItemFilter {
    /// Whether an item in this state is wanted, for servers that do not filter.
    fn admits(&self, state: &str) -> bool {
        let waits = state.eq_ignore_ascii_case(ItemState::Pending.as_str());
        let named = self.states.iter().any(|wanted| wanted.eq_ignore_ascii_case(state));
        (self.states.is_empty() || named) && (waits || !self.waiting)
    }
}

#[derive(Deserialize)]
struct InProject<T> {
    project: Option<InQueue<T>>,
}

#[derive(Deserialize)]
struct InQueue<T> {
    #[serde(rename = "runQueue")]
    run_queue: Option<T>,
}

impl Client {
    /// One item, or none if it does not exist or the caller may not see it.
    ///
    /// # Errors
    /// Those of any call; the official API finds items only through their queue.
    pub async fn item(&self, id: &str) -> Result<Option<Item>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "runQueueItem")]
            item: Option<Item>,
        }
        self.require_additions("find an item by its id alone").await?;
        let answer: Answer = self.call(&additions::ITEM, json!({"id": id})).await?;
        Ok(answer.item)
    }

    /// One item of a queue, or none.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn queue_item(&self, entity: &str, project: &str, queue: &str, id: &str) -> Result<Option<Item>> {
        #[derive(Deserialize)]
        struct Queue {
            #[serde(rename = "runQueueItem")]
            item: Option<Item>,
        }
        if self.has_additions().await? {
            return self.item(id).await;
        }
        let variables = json!({"entityName": entity, "projectName": project, "runQueue": queue, "itemId": id});
        let answer: InProject<Queue> = self.call(&official::GET_RUN_QUEUE_ITEM, variables).await?;
        let queue = answer.project.and_then(|project| project.run_queue);
        Ok(queue.and_then(|queue| queue.item))
    }

    /// Items of a queue, newest first unless the filter asks for those that wait. An official
    /// server tells id, state and run of as many as it gives at once, in its own order.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such queue.
    pub async fn items(&self, entity: &str, project: &str, queue: &str, filter: &ItemFilter) -> Result<Vec<Item>> {
        #[derive(Deserialize)]
        struct Items {
            #[serde(alias = "runQueueItems")]
            items: Connection<Item>,
        }
        let missing = || {
            Error::not_found(format!(
                "there is no queue `{queue}` in `{entity}`, or you may not see it"
            ))
        };
        if !self.has_additions().await? {
            let variables = json!({"entityName": entity, "projectName": project, "runQueue": queue});
            let answer: InProject<Items> = self.call(&official::GET_RUN_QUEUE_ITEMS, variables).await?;
            let found = answer
                .project
                .and_then(|project| project.run_queue)
                .ok_or_else(missing)?;
            let wanted = found.items.into_nodes().filter(|item| filter.admits(&item.state));
            let named = wanted.take(filter.limit).map(|item| Item {
                queue_name: Some(queue.to_owned()),
                queue_entity: Some(entity.to_owned()),
                ..item
            });
            return Ok(named.collect());
        }
        let mut items = Vec::new();
        let mut after: Option<String> = None;
        while items.len() < filter.limit {
            let states = (!filter.states.is_empty()).then_some(&filter.states);
            let variables = json!({
                "entityName": entity, "projectName": project, "queueName": queue,
                "state": states, "waiting": filter.waiting,
                "first": PAGE.min(filter.limit - items.len()), "after": after,
            });
            let answer: InProject<Items> = self.call(&additions::ITEMS, variables).await?;
            let found = answer
                .project
                .and_then(|project| project.run_queue)
                .ok_or_else(missing)?;
            let page = found.items.page_info.clone();
            items.extend(found.items.into_nodes());
            if !page.has_next_page || page.end_cursor.is_none() || page.end_cursor == after {
                break;
            }
            after = page.end_cursor;
        }
        Ok(items)
    }

    /// Cancels an item that waits, or asks a running one to stop.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it has ended.
    pub async fn cancel_item(&self, id: &str) -> Result<Item> {
        self.require_additions("cancel items").await?;
        self.change(&additions::CANCEL, json!({"runQueueItemId": id}), Repeat::Harmless)
            .await
    }

    /// Submits an ended item's spec again, as a new item.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it has not ended.
    pub async fn retry_item(&self, id: &str) -> Result<Item> {
        self.require_additions("submit items again").await?;
        self.change(&additions::RETRY, json!({"runQueueItemId": id}), Repeat::OnlyIfNoEffect)
            .await
    }

    /// Moves an item that waits to another queue, another priority, or both.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it no longer waits.
    pub async fn move_item(&self, id: &str, queue: Option<&str>, priority: Option<i64>) -> Result<Item> {
        self.require_additions("move items").await?;
        let input = json!({"runQueueItemId": id, "queueName": queue, "priority": priority});
        // A second move could go on to another queue of the same name.
        let repeat = match queue {
            Some(_) => Repeat::OnlyIfNoEffect,
            None => Repeat::Harmless,
        };
        self.change(&additions::MOVE, input, repeat).await
    }

    async fn change(&self, document: &Document, input: serde_json::Value, repeat: Repeat) -> Result<Item> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(
                alias = "cancelRunQueueItem",
                alias = "retryRunQueueItem",
                alias = "moveRunQueueItem"
            )]
            payload: Payload,
        }
        #[derive(Deserialize)]
        struct Payload {
            item: Item,
        }
        let answer: Answer = self.call_with(document, json!({"input": input}), repeat).await?;
        Ok(answer.payload.item)
    }

    /// Removes an item that waits.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it does not wait in that queue.
    pub async fn delete_item(&self, queue_id: &str, id: &str) -> Result<()> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "deleteFromRunQueue")]
            payload: Option<Success>,
        }
        let variables = json!({"queueID": queue_id, "runQueueItemId": id});
        let answer: Answer = self.call(&official::DELETE_FROM_RUN_QUEUE, variables).await?;
        if answer.payload.is_some_and(|payload| payload.is_success()) {
            return Ok(());
        }
        Err(Error::not_found("the item does not wait in that queue"))
    }

    /// A page of an item's record, oldest first. `after`: the position of the last one known.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such item.
    pub async fn item_events(&self, id: &str, after: Option<&str>, limit: usize) -> Result<Vec<ItemEvent>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "runQueueItem")]
            item: Option<Events>,
        }
        #[derive(Deserialize)]
        struct Events {
            events: Vec<ItemEvent>,
        }
        self.require_additions("tell an item's record").await?;
        let variables = json!({"id": id, "after": after, "first": limit});
        let answer: Answer = self.call(&additions::ITEM_EVENTS, variables).await?;
        let item = answer
            .item
            .ok_or_else(|| Error::not_found(format!("there is no item `{id}`, or you may not see it")))?;
        Ok(item.events)
    }
}
