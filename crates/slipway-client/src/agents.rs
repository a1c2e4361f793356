//! What a launch agent says and asks.
//!
//! On our server an agent speaks in batches, renews its leases and reports every outcome. Against
//! an official server each call falls back to the single operation that the official agent uses;
//! what has no counterpart there is said at each method.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slipway_model::agent::AgentStatus;
use slipway_wire::Document;
use slipway_wire::agent::{Agent, Registration};
use slipway_wire::document::{additions, official};
use slipway_wire::graphql::Success;
use slipway_wire::item::{Ack, Failure, ItemResult, LeasedItem, Outcome, Report, ReturnCause};

use crate::Client;
use crate::error::{Error, Result};
use crate::transport::Repeat;

/// What to pop.
#[derive(Debug, Clone, Copy)]
pub struct PopRequest<'a> {
    /// The agent.
    pub agent_id: &'a str,
    /// The owner of the queues.
    pub entity: &'a str,
    /// The project of the queues.
    pub project: &'a str,
    /// The queues; an official server is asked in this order.
    pub queues: &'a [String],
    /// At most so many items.
    pub limit: usize,
}

/// What became of appended output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is stored; the next byte goes to this offset.
    Stored {
        /// The offset from which to go on.
        end: u64,
    },
    /// It did not continue what is stored; send again from this offset.
    Gap {
        /// The offset from which to go on.
        end: u64,
    },
}

#[derive(Deserialize)]
struct Results {
    #[serde(
        alias = "ackRunQueueItems",
        alias = "startRunQueueItems",
        alias = "markRunQueueItemsRunning",
        alias = "renewRunQueueItems",
        alias = "finishRunQueueItems"
    )]
    payload: Batch,
}

#[derive(Deserialize)]
struct Batch {
    results: Vec<ItemResult>,
}

impl Client {
    /// Registers an agent and answers with its id. An official server ignores name and instance
    /// and makes a new agent each time.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another live agent holds the name; [`Error::Forbidden`] if the key
    /// may not run agents for the entity.
    pub async fn register_agent(&self, registration: &Registration) -> Result<String> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "createLaunchAgent")]
            payload: Payload,
        }
        #[derive(Deserialize)]
        struct Payload {
            #[serde(rename = "launchAgentId")]
            id: String,
        }
        let answer: Answer = if self.has_additions().await? {
            let input = json!({"input": registration});
            self.call(&additions::CREATE_LAUNCH_AGENT, input).await?
        } else {
            let variables = json!({
                "entity": registration.entity_name,
                "project": registration.project_name,
                "queues": registration.run_queues,
                "hostname": registration.hostname,
                "agentConfig": registration.agent_config,
                "version": registration.version,
            });
            self.call(&official::CREATE_LAUNCH_AGENT, variables).await?
        };
        Ok(answer.payload.id)
    }

    /// An agent; on our server with the items that it holds. Counts as a sign of life from the
    /// agent itself.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such agent.
    pub async fn agent(&self, id: &str) -> Result<Agent> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "launchAgent")]
            agent: Option<Agent>,
        }
        let document = if self.has_additions().await? {
            additions::LAUNCH_AGENT
        } else {
            official::LAUNCH_AGENT
        };
        let answer: Answer = self.call(&document, json!({"agentId": id})).await?;
        answer
            .agent
            .ok_or_else(|| Error::not_found(format!("there is no agent `{id}`, or you may not see it")))
    }

    /// The agents of an entity.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such entity, or the caller may not see it.
    pub async fn agents(&self, entity: &str) -> Result<Vec<Agent>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "launchAgents")]
            agents: Vec<Agent>,
        }
        self.require_additions("list agents").await?;
        let answer: Answer = self
            .call(&additions::LAUNCH_AGENTS, json!({"entityName": entity}))
            .await?;
        Ok(answer.agents)
    }

    /// Asks an agent to take nothing new, or takes that back.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such agent.
    pub async fn drain_agent(&self, id: &str, drain: bool) -> Result<Agent> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "drainLaunchAgent")]
            payload: Payload,
        }
        #[derive(Deserialize)]
        struct Payload {
            agent: Agent,
        }
        self.require_additions("drain agents").await?;
        let input = json!({"input": {"launchAgentId": id, "drain": drain}});
        let answer: Answer = self.call(&additions::DRAIN_LAUNCH_AGENT, input).await?;
        Ok(answer.payload.agent)
    }

    /// Reports an agent's status. An official server knows no `DRAINING`.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such agent.
    pub async fn update_agent(&self, id: &str, status: AgentStatus) -> Result<()> {
        let variables = json!({"agentId": id, "agentStatus": status.as_str()});
        self.call::<_, Value>(&official::UPDATE_LAUNCH_AGENT, variables).await?;
        Ok(())
    }

    /// Takes items. An answer that is lost costs nothing: its leases run out.
    ///
    /// # Errors
    /// Those of any call. On an official server the items that were taken before an error are
    /// answered, and the error only if there is none.
    pub async fn pop(&self, request: PopRequest<'_>) -> Result<Vec<LeasedItem>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "popRunQueueItems")]
            payload: Payload,
        }
        #[derive(Deserialize)]
        struct Payload {
            items: Vec<LeasedItem>,
        }
        if self.has_additions().await? {
            let input = json!({"input": {
                "launchAgentId": request.agent_id, "queueNames": request.queues, "limit": request.limit,
            }});
            let answer: Answer = self.call(&additions::POP, input).await?;
            return Ok(answer.payload.items);
        }
        let mut items = Vec::new();
        for queue in request.queues {
            while items.len() < request.limit {
                match self.pop_one(request, queue).await {
                    Ok(Some(item)) => items.push(item),
                    Ok(None) => break,
                    Err(error) if items.is_empty() => return Err(error),
                    Err(_) => return Ok(items),
                }
            }
        }
        Ok(items)
    }

    async fn pop_one(&self, request: PopRequest<'_>, queue: &str) -> Result<Option<LeasedItem>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "popFromRunQueue")]
            item: Option<LeasedItem>,
        }
        let variables = json!({
            "entity": request.entity, "project": request.project, "queueName": queue,
            "launchAgentId": request.agent_id,
        });
        let answer: Answer = self.call(&official::POP_FROM_RUN_QUEUE, variables).await?;
        Ok(answer.item.map(|item| LeasedItem {
            queue_name: queue.to_owned(),
            queue_entity: request.entity.to_owned(),
            ..item
        }))
    }

    /// Acknowledges items and names their runs. Repeating an acknowledgement is harmless on our
    /// server; an official server refuses the second one, so there it is sent once.
    ///
    /// # Errors
    /// Those of any call; what is refused for one item is in its result.
    pub async fn ack(&self, agent_id: &str, items: &[Ack]) -> Result<Vec<ItemResult>> {
        if self.has_additions().await? {
            return self.batch(&additions::ACK, agent_id, "items", items).await;
        }
        let mut results = Vec::with_capacity(items.len());
        for item in items {
            let variables = json!({"itemId": item.run_queue_item_id, "runId": item.run_name});
            let call = self.single(
                &official::ACK_RUN_QUEUE_ITEM,
                &item.run_queue_item_id,
                variables,
                Repeat::OnlyIfNoEffect,
            );
            results.push(call.await?);
        }
        Ok(results)
    }

    /// Records durably that workloads are about to be created. An official server keeps no such
    /// record: there it succeeds without a request.
    ///
    /// # Errors
    /// Those of any call; what is refused for one item is in its result.
    pub async fn start(&self, agent_id: &str, handles: &[String]) -> Result<Vec<ItemResult>> {
        self.batch_of_handles(&additions::START, agent_id, handles).await
    }

    /// Reports that workloads run. An official server learns it from the run: there it succeeds
    /// without a request.
    ///
    /// # Errors
    /// Those of any call; what is refused for one item is in its result.
    pub async fn mark_running(&self, agent_id: &str, handles: &[String]) -> Result<Vec<ItemResult>> {
        self.batch_of_handles(&additions::MARK_RUNNING, agent_id, handles).await
    }

    /// Renews leases; the results tell which items are asked to stop. An official server has no
    /// renewal: there it succeeds without a request.
    ///
    /// # Errors
    /// Those of any call; what is refused for one item is in its result.
    pub async fn renew(&self, agent_id: &str, handles: &[String]) -> Result<Vec<ItemResult>> {
        self.batch_of_handles(&additions::RENEW, agent_id, handles).await
    }

    /// Reports how workloads ended. An official server wants to hear only of failures (and takes
    /// the rest from the run): a report that has no stage succeeds there without a request.
    ///
    /// # Errors
    /// Those of any call; what is refused for one item is in its result.
    pub async fn finish(&self, agent_id: &str, reports: &[Report]) -> Result<Vec<ItemResult>> {
        if self.has_additions().await? {
            return self.batch(&additions::FINISH, agent_id, "reports", reports).await;
        }
        let mut results = Vec::with_capacity(reports.len());
        for report in reports {
            let handle = &report.run_queue_item_id;
            results.push(match (report.outcome, &report.stage) {
                (Outcome::Failed, Some(stage)) => {
                    let variables = json!({
                        "runQueueItemId": handle,
                        "message": report.message.as_deref().unwrap_or("the job failed"),
                        "stage": stage,
                        "filePaths": report.file_paths,
                    });
                    self.single(&official::FAIL_RUN_QUEUE_ITEM, handle, variables, Repeat::Harmless)
                        .await?
                }
                _ => done(handle),
            });
        }
        Ok(results)
    }

    /// Hands an item back. An official server cannot take it back: there the result says so, and an
    /// item that was not acknowledged returns when its lease runs out.
    ///
    /// # Errors
    /// Those of any call; a refusal is in the result.
    pub async fn return_item(&self, agent_id: &str, handle: &str, cause: ReturnCause) -> Result<ItemResult> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "returnRunQueueItem")]
            payload: Payload,
        }
        #[derive(Deserialize)]
        struct Payload {
            result: ItemResult,
        }
        if !self.has_additions().await? {
            return Ok(ItemResult {
                success: false,
                error: Some("this server cannot take items back".to_owned()),
                ..done(handle)
            });
        }
        let input = json!({"input": {"launchAgentId": agent_id, "runQueueItemId": handle, "cause": cause}});
        let answer: Answer = self.call(&additions::RETURN, input).await?;
        Ok(answer.payload.result)
    }

    /// Reports what an item waits for, such as a pod that cannot be scheduled.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the lease is stale.
    pub async fn warn_item(&self, handle: &str, warning: &Failure) -> Result<()> {
        let file_paths = (!warning.file_paths.is_empty()).then_some(&warning.file_paths);
        let variables = json!({
            "runQueueItemId": handle, "message": warning.message, "stage": warning.stage, "filePaths": file_paths,
        });
        let document = &official::UPDATE_RUN_QUEUE_ITEM_WARNING;
        self.call::<_, Value>(document, variables).await?;
        Ok(())
    }

    /// Appends captured output at a byte offset. Repeating it is harmless.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn append_output(&self, handle: &str, attempt: i64, offset: u64, bytes: &[u8]) -> Result<Appended> {
        #[derive(Deserialize)]
        struct Answer {
            end: u64,
        }
        let query = [("attempt", attempt.to_string()), ("offset", offset.to_string())];
        let url = self.url_of_segments(&["slipway", "v1", "items", handle, "output"], &query);
        let body = bytes::Bytes::copy_from_slice(bytes);
        self.repeat(Repeat::Harmless, || async {
            let response = self
                .authorized(Method::POST, url.clone())
                .timeout(self.timeout())
                .header(CONTENT_TYPE, "application/octet-stream")
                .body(body.clone())
                .send()
                .await
                .map_err(|error| self.transport(&error))?;
            let gap = response.status() == reqwest::StatusCode::CONFLICT;
            let response = if gap { response } else { self.check(response).await? };
            let answer: Answer = response.json().await.map_err(|error| self.transport(&error))?;
            Ok(if gap {
                Appended::Gap { end: answer.end }
            } else {
                Appended::Stored { end: answer.end }
            })
        })
        .await
    }

    async fn batch_of_handles(
        &self,
        document: &Document,
        agent_id: &str,
        handles: &[String],
    ) -> Result<Vec<ItemResult>> {
        if self.has_additions().await? {
            return self.batch(document, agent_id, "runQueueItemIds", handles).await;
        }
        Ok(handles.iter().map(|handle| done(handle)).collect())
    }

    async fn batch<T: Serialize>(
        &self,
        document: &Document,
        agent_id: &str,
        key: &str,
        values: &[T],
    ) -> Result<Vec<ItemResult>> {
        let input = json!({"input": {"launchAgentId": agent_id, key: values}});
        let answer: Results = self.call(document, input).await?;
        Ok(answer.payload.results)
    }

    /// One official call about one item: a refusal is a result, only passing errors are errors.
    async fn single(&self, document: &Document, handle: &str, variables: Value, repeat: Repeat) -> Result<ItemResult> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(alias = "ackRunQueueItem", alias = "failRunQueueItem")]
            payload: Option<Success>,
        }
        let refused = |error: String| ItemResult {
            success: false,
            error: Some(error),
            ..done(handle)
        };
        match self.call_with::<_, Answer>(document, variables, repeat).await {
            Ok(Answer { payload }) if payload.as_ref().is_some_and(Success::is_success) => Ok(done(handle)),
            Ok(_) => Ok(refused("stale".to_owned())),
            Err(Error::Invalid(refusal) | Error::NotFound(refusal) | Error::Conflict(refusal)) => {
                Ok(refused(refusal.message))
            }
            Err(error) => Err(error),
        }
    }
}

fn done(handle: &str) -> ItemResult {
    ItemResult {
        run_queue_item_id: handle.to_owned(),
        success: true,
        stop_requested: false,
        error: None,
    }
}
