//! A queue as the measurements of agents use it: pushed to, looked at, cancelled on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use slipway_wire::document::{additions, official};

use crate::connection::Connection;
use crate::server::{Server, USER};

/// The project in which queues live.
const QUEUE_PROJECT: &str = "model-registry";

/// The project of the jobs and their runs.
pub(super) const PROJECT: &str = "bench";

/// What people see of a queue.
const LOOK: &str = "query Look($queue: String!) { project(entityName: \"bench\", name: \"model-registry\") { \
                    runQueue(name: $queue) { active counts { pending starting running } } } }";

/// A queue with a connection of its own.
pub(super) struct Watched {
    name: String,
    resource: &'static str,
    connection: Connection,
}

/// How many items a queue has that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) pending: u64,
    pub(super) starting: u64,
    pub(super) running: u64,
}

impl Watched {
    /// Makes a queue of a target.
    pub(super) async fn create(server: &Server, name: &str, resource: &'static str, options: &Value) -> Result<Self> {
        let mut connection = Connection::open(server).await?;
        let config = json!({"resource_args": {resource: options}}).to_string();
        connection
            .call::<IgnoredAny>(
                &official::UPSERT_RUN_QUEUE,
                &json!({"entityName": USER, "projectName": QUEUE_PROJECT, "queueName": name,
                    "resourceType": resource, "resourceConfig": config}),
            )
            .await?;
        Ok(Self {
            name: name.to_owned(),
            resource,
            connection,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Pushes a job; gives back the item's id.
    pub(super) async fn push(&mut self, job: &Value) -> Result<String> {
        let mut spec = json!({"entity": USER, "project": PROJECT, "resource": self.resource, "author": USER});
        if let (Some(spec), Some(job)) = (spec.as_object_mut(), job.as_object()) {
            spec.extend(job.clone());
        }
        let variables = json!({"entityName": USER, "projectName": QUEUE_PROJECT, "queueName": self.name,
            "runSpec": spec.to_string()});
        let data: Value = self.connection.call(&official::PUSH, &variables).await?;
        let id = &data["pushToRunQueueByName"]["runQueueItemId"];
        Ok(id.as_str().context("a push without an item")?.to_owned())
    }

    /// Asks for an item's end.
    pub(super) async fn cancel(&mut self, item: &str) -> Result<()> {
        let input = json!({"input": {"runQueueItemId": item}});
        let _cancelled: IgnoredAny = self.connection.call(&additions::CANCEL, &input).await?;
        Ok(())
    }

    async fn look(&mut self) -> Result<Value> {
        let body = json!({"query": LOOK, "variables": {"queue": self.name}}).to_string();
        let mut data: Value = self.connection.post(Bytes::from(body)).await?;
        Ok(data["project"]["runQueue"].take())
    }

    /// Whether an agent serves it.
    pub(super) async fn is_active(&mut self) -> Result<bool> {
        Ok(self.look().await?["active"] == true)
    }

    /// What has not ended.
    pub(super) async fn counts(&mut self) -> Result<Counts> {
        let facts = self.look().await?;
        let count = |name: &str| facts["counts"][name].as_u64().context("a queue without counts");
        Ok(Counts {
            pending: count("pending")?,
            starting: count("starting")?,
            running: count("running")?,
        })
    }

    /// Waits until its counts are as wanted.
    pub(super) async fn wait(&mut self, what: &str, limit: Duration, wanted: impl Fn(Counts) -> bool) -> Result<()> {
        let began = Instant::now();
        loop {
            let counts = self.counts().await?;
            if wanted(counts) {
                return Ok(());
            }
            if began.elapsed() > limit {
                bail!(
                    "waited {} s for {what} on queue {}: {counts:?}",
                    limit.as_secs(),
                    self.name
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until every item has ended.
    pub(super) async fn wait_empty(&mut self, limit: Duration) -> Result<()> {
        let ended = |counts: Counts| counts.pending + counts.starting + counts.running == 0;
        self.wait("every item to end", limit, ended).await
    }
}
