//! Queues and the immutable revisions of their configuration.

use slipway_model::Millis;
use slipway_model::id::{QueueId, RevisionId};
use slipway_model::queue::{Access, ExternalLinks, Prioritization, QueuePolicy, Resource};

use crate::identity::unfinished;
use crate::{Result, Store};

/// One revision of a queue's configuration. Never changed once stored: items refer to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// Its id, the wire's `defaultResourceConfigID`.
    pub id: RevisionId,
    /// 1, 2, … within its queue; 0 while no queue uses it.
    pub number: i64,
    /// The target resource.
    pub resource: Resource,
    /// The wire's `config`: `{"resource_args": {"<resource>": {…}}}`, with template variables and
    /// macros as written. JSON text.
    pub config: String,
    /// The wire's template variables, `{"name": {"schema": {…}, "description": "…"}}`, keys in the
    /// order written. JSON text.
    pub template_variables: String,
    /// What the owner allows submitters.
    pub policy: QueuePolicy,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Millis,
}

/// What a new revision holds.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRevision {
    /// The target resource.
    pub resource: Resource,
    /// See [`Revision::config`].
    pub config: String,
    /// See [`Revision::template_variables`].
    pub template_variables: String,
    /// What the owner allows submitters; `None` keeps the previous revision's.
    pub policy: Option<QueuePolicy>,
    /// Who makes it.
    pub created_by: String,
}

/// A queue with its current revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Its id.
    pub id: QueueId,
    /// The owning entity's name.
    pub entity: String,
    /// The project in which it lives, `model-registry` unless a client says otherwise.
    pub project: String,
    /// Its name.
    pub name: String,
    /// How the official API spells who may see it.
    pub access: Access,
    /// Whether submitters may set priorities.
    pub prioritization: Prioritization,
    /// Whether it hands out nothing.
    pub paused: bool,
    /// Links for its monitor page.
    pub links: ExternalLinks,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Millis,
    /// The configuration of items pushed from now on. `None` for a queue that was made without
    /// one: submitters then name the resource.
    pub revision: Option<Revision>,
}

/// How many items a queue holds, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueCounts {
    /// Waiting.
    pub pending: i64,
    /// Leased or claimed.
    pub starting: i64,
    /// Running.
    pub running: i64,
    /// When the oldest waiting item was pushed.
    pub oldest_pending_at: Option<Millis>,
    /// When an item last finished with success.
    pub last_success_at: Option<Millis>,
}

/// A new queue.
#[derive(Debug, Clone)]
pub struct NewQueue {
    /// The owning entity's name.
    pub entity: String,
    /// The project; made if absent.
    pub project: String,
    /// Checked with [`slipway_model::queue::check_queue_name`].
    pub name: String,
    /// How the official API spells who may see it.
    pub access: Access,
    /// Whether submitters may set priorities.
    pub prioritization: Prioritization,
    /// A stored revision that no queue uses yet.
    pub revision: Option<RevisionId>,
    /// Links for its monitor page.
    pub links: ExternalLinks,
    /// Who makes it.
    pub created_by: String,
}

/// What an update changes; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct QueueUpdate {
    /// A further revision becomes the current one.
    pub revision: Option<NewRevision>,
    /// Prioritization.
    pub prioritization: Option<Prioritization>,
    /// All links.
    pub links: Option<ExternalLinks>,
    /// Pause or resume.
    pub paused: Option<bool>,
}

impl Store {
    /// Stores a configuration that no queue uses yet.
    pub async fn add_revision(&self, entity: &str, revision: NewRevision, now: Millis) -> Result<RevisionId> {
        unfinished((entity, revision), now)
    }
    /// Finds a revision.
    pub async fn revision(&self, id: RevisionId) -> Result<Option<Revision>> {
        unfinished(id, ())
    }
    /// The revisions of a queue, newest first.
    pub async fn revisions(&self, queue: QueueId) -> Result<Vec<Revision>> {
        unfinished(queue, ())
    }
    /// Makes a queue. [`crate::Error::Exists`] if the project has one of that name.
    pub async fn create_queue(&self, queue: NewQueue, now: Millis) -> Result<Queue> {
        unfinished(queue, now)
    }
    /// Changes a queue. A revision equal to the current one is not stored again.
    pub async fn update_queue(&self, id: QueueId, update: QueueUpdate, now: Millis) -> Result<Queue> {
        unfinished((id, update), now)
    }
    /// Finds a queue by name.
    pub async fn queue(&self, entity: &str, project: &str, name: &str) -> Result<Option<Queue>> {
        unfinished((entity, project), name)
    }
    /// Finds a queue by id.
    pub async fn queue_by_id(&self, id: QueueId) -> Result<Option<Queue>> {
        unfinished(id, ())
    }
    /// The queues of a project (or of all projects of the entity), by name.
    pub async fn queues(&self, entity: &str, project: Option<&str>) -> Result<Vec<Queue>> {
        unfinished(entity, project)
    }
    /// Deletes a queue with the items that wait in it; what was handed out stays and runs on.
    /// Returns how many items were deleted. `false` inside if there was no such queue.
    pub async fn delete_queue(&self, id: QueueId, now: Millis) -> Result<Option<u64>> {
        unfinished(id, now)
    }
    /// How many items each of these queues holds.
    pub async fn queue_counts(&self, ids: &[QueueId]) -> Result<Vec<QueueCounts>> {
        unfinished(ids, ())
    }
}
