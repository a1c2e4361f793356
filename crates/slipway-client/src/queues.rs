//! Queues and submitting to them.

use serde::Deserialize;
use serde_json::{Value, json};
use slipway_wire::document::{additions, official};
use slipway_wire::graphql::Success;
use slipway_wire::queue::{DefaultResourceConfig, Push, PushItem, Pushed, Queue, UpsertQueue, UpsertedQueue};

use crate::Client;
use crate::error::{Error, Refusal, Result};
use crate::transport::Repeat;

#[derive(Deserialize)]
struct InProject<T> {
    project: Option<T>,
}

#[derive(Deserialize)]
struct WithQueue {
    #[serde(rename = "runQueue")]
    run_queue: Option<Queue>,
}

impl Client {
    /// The queues of an entity. Without one: every queue that the caller sees, or those of its
    /// default entity where the server cannot tell all.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such entity, or the caller may not see it.
    pub async fn queues(&self, entity: Option<&str>) -> Result<Vec<Queue>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "runQueues")]
            run_queues: Vec<Queue>,
        }
        if self.has_additions().await? {
            let variables = json!({"entityName": entity});
            let answer: Answer = self.call(&additions::RUN_QUEUES, variables).await?;
            return Ok(answer.run_queues);
        }
        let entity = match entity {
            Some(entity) => entity.to_owned(),
            None => self.default_entity().await?,
        };
        self.project_queues(&entity, slipway_model::queue::QUEUE_PROJECT).await
    }

    /// The queues of a project, with id, name and access only.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such project, or the caller may not see it.
    pub async fn project_queues(&self, entity: &str, project: &str) -> Result<Vec<Queue>> {
        #[derive(Deserialize)]
        struct Queues {
            #[serde(rename = "runQueues", default)]
            run_queues: Option<Vec<Queue>>,
        }
        let variables = json!({"entity": entity, "projectName": project});
        let answer: InProject<Queues> = self.call(&official::PROJECT_RUN_QUEUES, variables).await?;
        let project = answer
            .project
            .ok_or_else(|| Error::not_found(format!("entity `{entity}` has no queues, or you may not see them")))?;
        Ok(project.run_queues.unwrap_or_default())
    }

    /// One queue with its configuration, or none.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn queue(&self, entity: &str, project: &str, name: &str) -> Result<Option<Queue>> {
        if self.has_additions().await? {
            let variables = json!({"entityName": entity, "projectName": project, "queueName": name});
            let answer: InProject<WithQueue> = self.call(&additions::RUN_QUEUE, variables).await?;
            return Ok(answer.project.and_then(|project| project.run_queue));
        }
        let found = self.project_queues(entity, project).await;
        let listed = match found {
            Ok(queues) => queues.into_iter().find(|queue| queue.name == name),
            Err(Error::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        let Some(listed) = listed else {
            return Ok(None);
        };
        let variables = json!({"entityName": entity, "projectName": project, "runQueue": name});
        let answer: InProject<OfficialMetadata> = self.call(&official::GET_RUN_QUEUE_METADATA, variables).await?;
        let Some(metadata) = answer.project.and_then(|project| project.run_queue) else {
            return Ok(None);
        };
        let mut queue = Queue {
            entity_name: Some(entity.to_owned()),
            project_name: Some(project.to_owned()),
            access: metadata.access.or(listed.access.clone()),
            prioritization_mode: metadata.prioritization_mode,
            external_links: metadata.external_links,
            default_resource_config_id: metadata.default_resource_config_id,
            ..listed
        };
        if let Some(id) = &queue.default_resource_config_id
            && let Some(stored) = self.default_resource_config(entity, id).await?
        {
            queue.config = stored.config;
            queue.resource = stored.resource;
            queue.template_variables = stored.template_variables;
        }
        Ok(Some(queue))
    }

    async fn default_resource_config(&self, entity: &str, id: &str) -> Result<Option<DefaultResourceConfig>> {
        #[derive(Deserialize)]
        struct Answer {
            entity: Option<Entity>,
        }
        #[derive(Deserialize)]
        struct Entity {
            #[serde(rename = "defaultResourceConfig")]
            config: Option<DefaultResourceConfig>,
        }
        let variables = json!({"entityName": entity, "id": id});
        let answer: Answer = self.call(&official::GET_DEFAULT_RESOURCE_CONFIG, variables).await?;
        Ok(answer.entity.and_then(|entity| entity.config))
    }

    /// Makes or changes a queue. Answers with what is doubtful in its configuration. A server without
    /// policies takes a queue whose policy is empty.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the place of what is wrong in the configuration;
    /// [`Error::Forbidden`] for callers who may not edit the entity's queues.
    pub async fn upsert_queue(&self, queue: &UpsertQueue) -> Result<UpsertedQueue> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "upsertRunQueue")]
            payload: UpsertedQueue,
        }
        // Queues live in a project that every entity has, once it is made.
        let project = json!({"input": {"entityName": queue.entity_name, "name": queue.project_name}});
        self.call::<_, Value>(&official::CREATE_PROJECT, project).await?;
        let answer: Answer = if self.has_additions().await? {
            self.call(&additions::UPSERT_RUN_QUEUE, json!({"input": queue})).await?
        } else {
            if queue.policy.as_deref().is_some_and(|policy| policy != "{}") {
                self.require_additions("keep a queue's policy").await?;
            }
            let queue = UpsertQueue {
                policy: None,
                ..queue.clone()
            };
            self.call(&official::UPSERT_RUN_QUEUE, &queue).await?
        };
        if answer.payload.success {
            return Ok(answer.payload);
        }
        let errors = answer.payload.config_schema_validation_errors.join("; ");
        Err(Error::invalid(if errors.is_empty() {
            format!(
                "the server did not store queue `{}` and gave no reason",
                queue.queue_name
            )
        } else {
            errors
        }))
    }

    /// Removes a queue with the items that wait in it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such queue; [`Error::Forbidden`] for callers who may not
    /// edit it.
    pub async fn delete_queue(&self, id: &str) -> Result<()> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "deleteRunQueues")]
            payload: Option<Success>,
        }
        // Its items are deleted first, and there may be many.
        let answer: Answer = self
            .call_at_length(&official::DELETE_RUN_QUEUE, json!({"id": id}))
            .await?;
        if answer.payload.is_some_and(|payload| payload.is_success()) {
            return Ok(());
        }
        Err(Error::not_found("the queue does not exist, or you may not delete it"))
    }

    /// Stops a queue from handing out items, or lets it go on.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such queue.
    pub async fn pause_queue(&self, id: &str, paused: bool) -> Result<Queue> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "pauseRunQueue")]
            payload: Payload,
        }
        #[derive(Deserialize)]
        struct Payload {
            queue: Queue,
        }
        self.require_additions("pause queues").await?;
        let input = json!({"input": {"queueID": id, "paused": paused}});
        let answer: Answer = self.call(&additions::PAUSE_RUN_QUEUE, input).await?;
        Ok(answer.payload.queue)
    }

    /// Puts a run spec on a queue.
    ///
    /// On our server a lost answer is made good: the push carries an idempotency key (one is made
    /// if it has none) and is repeated. An official server would store a repetition twice, so there
    /// the push is repeated only if the first one surely did not arrive.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such queue; [`Error::Invalid`] with the place of what the
    /// queue refuses.
    pub async fn push(&self, mut push: Push) -> Result<Pushed> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "pushToRunQueueByName")]
            payload: Option<Pushed>,
        }
        let queue = push.queue_name.clone();
        let answer: Answer = if self.has_additions().await? {
            push.idempotency_key.get_or_insert_with(idempotency_key);
            self.call(&additions::PUSH, json!({"input": push})).await?
        } else {
            if push.dry_run {
                self.require_additions("say what a spec would become without storing it")
                    .await?;
            }
            let document = match (push.priority, &push.template_variable_values) {
                (None, None) => official::PUSH,
                (None, Some(_)) => official::PUSH_WITH_VALUES,
                (Some(_), None) => official::PUSH_WITH_PRIORITY,
                (Some(_), Some(_)) => official::PUSH_WITH_PRIORITY_AND_VALUES,
            };
            push.idempotency_key = None;
            self.call_with(&document, push, Repeat::OnlyIfNoEffect).await?
        };
        answer.payload.ok_or_else(|| {
            Error::NotFound(Refusal {
                message: format!("there is no queue `{queue}`, or you may not submit to it"),
                hint: Some("`slipway queue list` shows the queues that you may use".to_owned()),
            })
        })
    }

    /// Puts many run specs on a queue, all or none; at most 10,000. Answers with their items in
    /// order.
    ///
    /// # Errors
    /// Those of [`Self::push`], naming the first spec that is refused.
    pub async fn push_many(
        &self,
        entity: &str,
        project: &str,
        queue: &str,
        mut items: Vec<PushItem>,
    ) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "pushRunQueueItems")]
            payload: Payload,
        }
        #[derive(Deserialize)]
        struct Payload {
            #[serde(rename = "runQueueItemIds")]
            ids: Vec<String>,
        }
        self.require_additions("take many items at once").await?;
        for item in &mut items {
            item.idempotency_key.get_or_insert_with(idempotency_key);
        }
        let input = json!({"input": {
            "entityName": entity, "projectName": project, "queueName": queue, "items": items,
        }});
        let answer: Answer = self.call(&additions::PUSH_MANY, input).await?;
        Ok(answer.payload.ids)
    }

    /// The entity of operations that name none.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the key has no default entity.
    pub async fn default_entity(&self) -> Result<String> {
        self.viewer().await?.entity.ok_or_else(|| {
            Error::Invalid(Refusal {
                message: "this API key has no default entity".to_owned(),
                hint: Some("name one with `--entity`".to_owned()),
            })
        })
    }
}

#[derive(Deserialize)]
struct OfficialMetadata {
    #[serde(rename = "runQueue")]
    run_queue: Option<Metadata>,
}

/// What the official API says of one queue; unlike elsewhere there is no name in it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    access: Option<String>,
    prioritization_mode: Option<String>,
    #[serde(default, deserialize_with = "slipway_wire::scalar::json_or_text")]
    external_links: Value,
    #[serde(rename = "defaultResourceConfigID")]
    default_resource_config_id: Option<String>,
}

/// 128 random bits.
fn idempotency_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}
