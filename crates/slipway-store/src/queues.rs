//! Queues and the immutable revisions of their configuration.

use std::collections::HashSet;

use slipway_model::Millis;
use slipway_model::id::{QueueId, RevisionId};
use slipway_model::queue::{Access, ExternalLinks, Prioritization, QueueName, QueuePolicy, Resource};

use crate::engine::{Field, Lane, Records, Row, Tx, Value, params};
use crate::events::{self, NewEvent};
use crate::identity::{self, AuditEntry};
use crate::{Error, Result, Store, projects};

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

impl Queue {
    /// Where it is found.
    #[must_use]
    pub fn full_name(&self) -> QueueName {
        QueueName {
            entity: self.entity.clone(),
            project: self.project.clone(),
            name: self.name.clone(),
        }
    }
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

/// How many items one slice of a queue's deletion takes.
const SLICE: i64 = 1000;

const REVISION: &str =
    "r.entity_id, r.id, r.number, r.resource, r.config, r.template_variables, r.policy, r.created_by, r.created_at";

const QUEUE: &str = "q.entity_id, q.id, e.name, q.project, q.name, q.access, q.prioritization, q.paused, q.links, \
                     q.created_by, q.created_at";

const FROM: &str = "FROM queues AS q JOIN entities AS e ON e.id = q.entity_id \
                    LEFT JOIN revisions AS r ON r.entity_id = q.entity_id AND r.id = q.revision_id";

fn read_revision(row: &Row, first: usize) -> Result<Revision> {
    let resource = row.text(first + 3)?;
    Ok(Revision {
        id: RevisionId {
            entity: row.i64(first)?,
            number: row.i64(first + 1)?,
        },
        number: row.i64(first + 2)?,
        resource: resource
            .parse()
            .map_err(|error| Error::Internal(format!("a stored revision: {error}")))?,
        config: row.text(first + 4)?,
        template_variables: row.text(first + 5)?,
        policy: decode(&row.text(first + 6)?, "policy")?,
        created_by: row.text(first + 7)?,
        created_at: row.i64(first + 8)?,
    })
}

fn read_queue(row: &Row) -> Result<Queue> {
    const REVISION_AT: usize = 11;
    let revision = match row.opt_i64(REVISION_AT)? {
        Some(_) => Some(read_revision(row, REVISION_AT)?),
        None => None,
    };
    Ok(Queue {
        id: QueueId {
            entity: row.i64(0)?,
            number: row.i64(1)?,
        },
        entity: row.text(2)?,
        project: row.text(3)?,
        name: row.text(4)?,
        access: decode(&row.text(5)?, "access")?,
        prioritization: decode(&row.text(6)?, "prioritization")?,
        paused: row.bool(7)?,
        links: decode(&row.text(8)?, "links")?,
        created_by: row.text(9)?,
        created_at: row.i64(10)?,
        revision,
    })
}

fn encode<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Internal(format!("cannot encode: {error}")))
}

fn decode<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::Internal(format!("stored {what} of a queue: {error}")))
}

/// Finds a queue.
pub(crate) fn find(tx: &mut dyn Tx, id: QueueId) -> Result<Option<Queue>> {
    tx.query_opt(
        &format!("SELECT {QUEUE}, {REVISION} {FROM} WHERE q.entity_id = $1 AND q.id = $2"),
        params![id.entity, id.number],
    )?
    .map(|row| read_queue(&row))
    .transpose()
}

/// Finds queues; those that do not exist are left out.
pub(crate) fn find_many(tx: &mut dyn Tx, ids: &HashSet<QueueId>) -> Result<Vec<Queue>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let keys = ids.iter().map(|id| params![id.entity, id.number].to_vec());
    let keys = Records::new(tx.dialect(), &[("entity_id", Field::Int), ("id", Field::Int)], keys)?;
    let sql = format!(
        "SELECT {QUEUE}, {REVISION} FROM {} AS k CROSS JOIN queues AS q JOIN entities AS e ON e.id = q.entity_id \
         LEFT JOIN revisions AS r ON r.entity_id = q.entity_id AND r.id = q.revision_id \
         WHERE q.entity_id = k.entity_id AND q.id = k.id",
        keys.source(1)
    );
    let rows = tx.query(&sql, &keys.after(params![]))?;
    rows.iter().map(read_queue).collect()
}

/// Keeps a queue from being deleted until this transaction ends, and lets others do the same; `false`
/// if there is none.
pub(crate) fn keep(tx: &mut dyn Tx, id: QueueId) -> Result<bool> {
    let share = if tx.for_update().is_empty() {
        ""
    } else {
        " FOR KEY SHARE"
    };
    let sql = format!("SELECT id FROM queues WHERE entity_id = $1 AND id = $2{share}");
    Ok(tx.query_opt(&sql, params![id.entity, id.number])?.is_some())
}

/// Finds a queue that must exist.
pub(crate) fn require(tx: &mut dyn Tx, id: QueueId) -> Result<Queue> {
    find(tx, id)?.ok_or_else(|| Error::not_found("queue", id))
}

fn insert_revision(
    tx: &mut dyn Tx,
    entity: i64,
    queue: Option<(i64, i64)>,
    new: &NewRevision,
    policy: &QueuePolicy,
    now: Millis,
) -> Result<RevisionId> {
    let row = tx.query_one(
        "INSERT INTO revisions (entity_id, queue_id, number, resource, config, template_variables, policy, \
         created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id",
        params![
            entity,
            queue.map(|(queue, _)| queue),
            queue.map_or(0, |(_, number)| number),
            new.resource.as_str(),
            &new.config,
            &new.template_variables,
            encode(policy)?,
            &new.created_by,
            now,
        ],
    )?;
    Ok(RevisionId {
        entity,
        number: row.i64(0)?,
    })
}

/// Makes a stored revision a queue's first.
fn adopt_revision(tx: &mut dyn Tx, queue: QueueId, revision: RevisionId) -> Result<()> {
    let adopted = tx.execute(
        "UPDATE revisions SET queue_id = $1, number = 1 WHERE entity_id = $2 AND id = $3 AND queue_id IS NULL",
        params![queue.number, revision.entity, revision.number],
    )?;
    if adopted == 1 && revision.entity == queue.entity {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "the configuration `{revision}` is not a free one of this entity: store it anew and name that"
    )))
}

/// Notes a change in the queue's record and in the audit log.
fn note(
    tx: &mut dyn Tx,
    queue: &Queue,
    (kind, action): (&'static str, &str),
    actor: &str,
    detail: &serde_json::Value,
    now: Millis,
) -> Result<()> {
    let event = NewEvent {
        entity: queue.id.entity,
        kind,
        queue: Some(queue.id.number),
        item: None,
        agent: None,
        actor: actor.to_owned(),
        detail: serde_json::json!({"name": queue.name, "paused": queue.paused}).to_string(),
    };
    events::append(tx, now, &[event])?;
    let entry = AuditEntry {
        at: now,
        actor: actor.to_owned(),
        action: action.to_owned(),
        subject: format!("{}/{}/{}", queue.entity, queue.project, queue.name),
        detail: detail.to_string(),
    };
    identity::audit(tx, &entry)
}

/// What the audit log says of an update: the action, and the fields that changed as they are now.
fn difference(before: &Queue, after: &Queue) -> (&'static str, serde_json::Value) {
    let mut changed = serde_json::Map::new();
    if after.prioritization != before.prioritization {
        changed.insert("prioritization".to_owned(), serde_json::json!(after.prioritization));
    }
    if after.links != before.links {
        changed.insert("links".to_owned(), serde_json::json!(after.links));
    }
    if let Some(revision) = after.revision.as_ref().filter(|_| after.revision != before.revision) {
        changed.insert("revision".to_owned(), revision.number.into());
        if before.revision.as_ref().map(|revision| &revision.policy) != Some(&revision.policy) {
            changed.insert("policy".to_owned(), serde_json::json!(revision.policy));
        }
    }
    let action = match (changed.is_empty(), after.paused) {
        (false, _) => "queue.update",
        (true, true) => "queue.pause",
        (true, false) => "queue.resume",
    };
    if after.paused != before.paused {
        changed.insert("paused".to_owned(), after.paused.into());
    }
    (action, changed.into())
}

impl Store {
    /// Stores a configuration that no queue uses yet.
    pub async fn add_revision(&self, entity: &str, revision: NewRevision, now: Millis) -> Result<RevisionId> {
        let entity = entity.to_owned();
        self.write(Lane::Control, "add-revision", move |tx| {
            let entity = identity::require_entity(tx, &entity)?;
            let policy = revision.policy.clone().unwrap_or_default();
            insert_revision(tx, entity, None, &revision, &policy, now)
        })
        .await
    }

    /// Finds a revision.
    pub async fn revision(&self, id: RevisionId) -> Result<Option<Revision>> {
        self.read(Lane::Control, "revision", move |tx| {
            tx.query_opt(
                &format!("SELECT {REVISION} FROM revisions AS r WHERE r.entity_id = $1 AND r.id = $2"),
                params![id.entity, id.number],
            )?
            .map(|row| read_revision(&row, 0))
            .transpose()
        })
        .await
    }

    /// The revisions of a queue, newest first.
    pub async fn revisions(&self, queue: QueueId) -> Result<Vec<Revision>> {
        self.read(Lane::Control, "revisions", move |tx| {
            let rows = tx.query(
                &format!(
                    "SELECT {REVISION} FROM revisions AS r WHERE r.entity_id = $1 AND r.queue_id = $2 \
                     ORDER BY r.number DESC"
                ),
                params![queue.entity, queue.number],
            )?;
            rows.iter().map(|row| read_revision(row, 0)).collect()
        })
        .await
    }

    /// Makes a queue.
    ///
    /// # Errors
    /// [`Error::Exists`] if the project has one of that name; [`Error::Invalid`] for a name that
    /// breaks a rule or a revision that another queue uses.
    pub async fn create_queue(&self, queue: NewQueue, now: Millis) -> Result<Queue> {
        self.write(Lane::Control, "create-queue", move |tx| {
            slipway_model::queue::check_queue_name(&queue.name).map_err(|error| Error::Invalid(error.to_string()))?;
            let (project, _) = projects::ensure(tx, &queue.entity, &queue.project, now)?;
            let made = tx.query_opt(
                "INSERT INTO queues (entity_id, project, name, access, prioritization, paused, links, revision_id, \
                 created_by, created_at) VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $8, $9) \
                 ON CONFLICT (entity_id, project, name) DO NOTHING RETURNING id",
                params![
                    project.entity_id,
                    &project.name,
                    &queue.name,
                    encode(&queue.access)?,
                    encode(&queue.prioritization)?,
                    encode(&queue.links)?,
                    queue.revision.map(|revision| revision.number),
                    &queue.created_by,
                    now,
                ],
            )?;
            let Some(row) = made else {
                return Err(Error::exists("queue", &queue.name));
            };
            let id = QueueId {
                entity: project.entity_id,
                number: row.i64(0)?,
            };
            if let Some(revision) = queue.revision {
                adopt_revision(tx, id, revision)?;
            }
            let made = require(tx, id)?;
            let detail = serde_json::json!({"revision": made.revision.as_ref().map(|revision| revision.number)});
            let words = ("queue-created", "queue.create");
            note(tx, &made, words, &queue.created_by, &detail, now)?;
            Ok(made)
        })
        .await
    }

    /// Changes a queue. A revision equal to the current one is not stored again.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such queue.
    pub async fn update_queue(&self, id: QueueId, update: QueueUpdate, by: &str, now: Millis) -> Result<Queue> {
        let by = by.to_owned();
        self.write(Lane::Control, "update-queue", move |tx| {
            let lock = format!(
                "SELECT id FROM queues WHERE entity_id = $1 AND id = $2{}",
                tx.for_update()
            );
            tx.query(&lock, params![id.entity, id.number])?;
            let before = require(tx, id)?;
            let mut revision = before.revision.as_ref().map(|revision| revision.id);
            if let Some(new) = &update.revision {
                let current = before.revision.as_ref();
                let inherited = || current.map(|current| current.policy.clone()).unwrap_or_default();
                let policy = new.policy.clone().unwrap_or_else(inherited);
                let same = current.is_some_and(|current| {
                    current.resource == new.resource
                        && current.config == new.config
                        && current.template_variables == new.template_variables
                        && current.policy == policy
                });
                if !same {
                    let number = current.map_or(0, |current| current.number) + 1;
                    revision = Some(insert_revision(
                        tx,
                        id.entity,
                        Some((id.number, number)),
                        new,
                        &policy,
                        now,
                    )?);
                }
            }
            tx.execute(
                "UPDATE queues SET revision_id = $3, prioritization = $4, links = $5, paused = $6 \
                 WHERE entity_id = $1 AND id = $2",
                params![
                    id.entity,
                    id.number,
                    revision.map(|revision| revision.number),
                    encode(&update.prioritization.unwrap_or(before.prioritization))?,
                    encode(update.links.as_ref().unwrap_or(&before.links))?,
                    update.paused.unwrap_or(before.paused),
                ],
            )?;
            let after = require(tx, id)?;
            if after != before {
                let (action, detail) = difference(&before, &after);
                note(tx, &after, ("queue-updated", action), &by, &detail, now)?;
            }
            Ok(after)
        })
        .await
    }

    /// Finds a queue by name.
    pub async fn queue(&self, entity: &str, project: &str, name: &str) -> Result<Option<Queue>> {
        let names = [entity.to_owned(), project.to_owned(), name.to_owned()];
        self.read(Lane::Control, "queue", move |tx| {
            let [entity, project, name] = &names;
            tx.query_opt(
                &format!("SELECT {QUEUE}, {REVISION} {FROM} WHERE e.name = $1 AND q.project = $2 AND q.name = $3"),
                params![entity, project, name],
            )?
            .map(|row| read_queue(&row))
            .transpose()
        })
        .await
    }

    /// Finds a queue by id.
    pub async fn queue_by_id(&self, id: QueueId) -> Result<Option<Queue>> {
        self.read(Lane::Control, "queue-by-id", move |tx| find(tx, id)).await
    }

    /// The queues of a project (or of all projects of the entity), by name.
    pub async fn queues(&self, entity: &str, project: Option<&str>) -> Result<Vec<Queue>> {
        let (entity, project) = (entity.to_owned(), project.map(str::to_owned));
        self.read(Lane::Control, "queues", move |tx| {
            let rows = match &project {
                Some(project) => tx.query(
                    &format!(
                        "SELECT {QUEUE}, {REVISION} {FROM} WHERE e.name = $1 AND q.project = $2 ORDER BY q.name, q.id"
                    ),
                    params![&entity, project],
                )?,
                None => tx.query(
                    &format!("SELECT {QUEUE}, {REVISION} {FROM} WHERE e.name = $1 ORDER BY q.name, q.id"),
                    params![&entity],
                )?,
            };
            rows.iter().map(read_queue).collect()
        })
        .await
    }

    /// Deletes a queue with the items that wait in it; what was handed out stays and runs on.
    /// Returns how many items were deleted, `None` if there was no such queue.
    ///
    /// Goes in slices, so that a long queue does not hold up others; it hands nothing out from the
    /// first slice on and is gone with the last. If it stops half-way the queue is paused, and the
    /// same call finishes the work. Captured output follows by [`crate::garbage`].
    pub async fn delete_queue(&self, id: QueueId, by: &str, now: Millis) -> Result<Option<u64>> {
        let mut total = 0;
        loop {
            let by = by.to_owned();
            let slice = self
                .write(Lane::Control, "delete-queue", move |tx| delete_slice(tx, id, &by, now))
                .await?;
            match slice {
                None if total == 0 => return Ok(None),
                None => return Ok(Some(total)),
                Some((deleted, done)) => {
                    total += deleted;
                    if done {
                        return Ok(Some(total));
                    }
                }
            }
        }
    }

    /// How many items each of these queues holds, in the order given.
    pub async fn queue_counts(&self, ids: &[QueueId]) -> Result<Vec<QueueCounts>> {
        let ids = ids.to_vec();
        self.read(Lane::Control, "queue-counts", move |tx| {
            ids.iter().map(|id| counts(tx, *id)).collect()
        })
        .await
    }
}

/// Deletes some waiting items, and the queue with the last of them. `None` if there is no queue.
fn delete_slice(tx: &mut dyn Tx, id: QueueId, by: &str, now: Millis) -> Result<Option<(u64, bool)>> {
    let lock = format!(
        "SELECT id FROM queues WHERE entity_id = $1 AND id = $2{}",
        tx.for_update()
    );
    tx.query(&lock, params![id.entity, id.number])?;
    let Some(queue) = find(tx, id)? else { return Ok(None) };
    tx.execute(
        "UPDATE queues SET paused = 1 WHERE entity_id = $1 AND id = $2 AND paused = 0",
        params![id.entity, id.number],
    )?;
    let select = format!(
        "SELECT id FROM items WHERE entity_id = $1 AND queue_id = $2 AND state = 0 LIMIT $3{}",
        tx.for_update()
    );
    let rows = tx.query(&select, params![id.entity, id.number, SLICE])?;
    let numbers = rows.iter().map(|row| row.i64(0)).collect::<Result<Vec<_>>>()?;
    let list = numbers.iter().map(|number| params![*number].to_vec());
    let list = Records::new(tx.dialect(), &[("n", Field::Int)], list)?;
    let among = list.source(2);
    let params = list.after(params![id.entity]);
    // What was never handed out has printed nothing.
    let listed = format!(
        "INSERT INTO deleted_items (entity_id, item_id) SELECT entity_id, id FROM items \
         WHERE entity_id = $1 AND id IN {among} AND epoch > 0"
    );
    tx.execute(&listed, &params)?;
    for (table, column) in [("items", "id"), ("item_specs", "item_id")] {
        let sql = format!("DELETE FROM {table} WHERE entity_id = $1 AND {column} IN {among}");
        tx.execute(&sql, &params)?;
    }
    let deleted = numbers.iter().map(|number| NewEvent {
        entity: id.entity,
        kind: "deleted",
        queue: Some(id.number),
        item: Some(*number),
        agent: None,
        actor: by.to_owned(),
        detail: "{}".to_owned(),
    });
    events::append(tx, now, &deleted.collect::<Vec<_>>())?;
    let done = i64::try_from(numbers.len()).is_ok_and(|deleted| deleted < SLICE);
    if done {
        tx.execute(
            "DELETE FROM agent_queues WHERE queue_entity_id = $1 AND queue_id = $2",
            params![id.entity, id.number],
        )?;
        tx.execute(
            "DELETE FROM queues WHERE entity_id = $1 AND id = $2",
            params![id.entity, id.number],
        )?;
        let words = ("queue-deleted", "queue.delete");
        note(tx, &queue, words, by, &serde_json::json!({}), now)?;
    }
    Ok(Some((numbers.len() as u64, done)))
}

fn counts(tx: &mut dyn Tx, id: QueueId) -> Result<QueueCounts> {
    let key = [Value::from(id.entity), Value::from(id.number)];
    // Naming the priority leads both engines to the index of waiting items.
    let pending = tx.query_one(
        "SELECT COUNT(*) FROM items WHERE entity_id = $1 AND queue_id = $2 AND state = 0 AND priority >= 0",
        &key,
    )?;
    // The first of each priority by index, instead of the least of all waiting items.
    let mut oldest_pending_at = None;
    for priority in slipway_model::priority::Priority::ALL {
        let first = tx.query_opt(
            "SELECT created_at FROM items WHERE entity_id = $1 AND queue_id = $2 AND state = 0 AND priority = $3 \
             ORDER BY id LIMIT 1",
            params![id.entity, id.number, priority.code()],
        )?;
        if let Some(row) = first {
            let at = row.i64(0)?;
            oldest_pending_at = Some(oldest_pending_at.map_or(at, |oldest: Millis| oldest.min(at)));
        }
    }
    let held = tx.query_one(
        "SELECT COUNT(*), COUNT(CASE WHEN state = 3 THEN 1 END) FROM items \
         WHERE entity_id = $1 AND queue_id = $2 AND leased_at IS NOT NULL AND ended_at IS NULL",
        &key,
    )?;
    let last = tx.query_opt(
        "SELECT ended_at FROM items WHERE entity_id = $1 AND queue_id = $2 AND state = 4 ORDER BY ended_at DESC LIMIT 1",
        &key,
    )?;
    Ok(QueueCounts {
        pending: pending.i64(0)?,
        starting: held.i64(0)? - held.i64(1)?,
        running: held.i64(1)?,
        oldest_pending_at,
        last_success_at: last.map(|row| row.opt_i64(0)).transpose()?.flatten(),
    })
}
