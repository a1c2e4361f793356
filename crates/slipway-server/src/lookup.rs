//! Things that never change once stored, remembered so that the hot path asks for them once: names
//! of entities and queues, revisions of queue configurations, and where the runs of items go.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use slipway_model::id::{ItemId, QueueId, RevisionId};
use slipway_model::merge::{FinalSpec, final_spec};
use slipway_model::push::{Destination, QueueRules};
use slipway_model::queue::{Prioritization, QueuePolicy, Resource};
use slipway_model::spec::LaunchSpec;
use slipway_model::template::TemplateVariables;
use slipway_store::Store;
use slipway_store::items::Item;
use slipway_store::queues::Revision;

use crate::error::ApiError;

/// How many things of a kind are remembered. When full, all are forgotten and asked for again.
const CAPACITY: usize = 4_096;

/// How many items' destinations are remembered: as many as agents hold between lease and
/// acknowledgement, which is moments.
const DESTINATIONS: usize = 16_384;

/// A revision of a queue's configuration, read.
pub(crate) struct QueueConfig {
    /// The target resource; `None` for a queue without configuration.
    pub(crate) resource: Option<Resource>,
    /// The stored configuration.
    pub(crate) config: Value,
    /// Its template variables.
    pub(crate) variables: TemplateVariables,
    /// What the owner allows submitters.
    pub(crate) policy: QueuePolicy,
}

impl QueueConfig {
    /// Of a queue without configuration.
    fn none() -> Self {
        Self {
            resource: None,
            config: Value::Null,
            variables: TemplateVariables::default(),
            policy: QueuePolicy::default(),
        }
    }

    /// Reads a stored revision.
    pub(crate) fn read(revision: &Revision) -> Result<Self, ApiError> {
        Ok(Self {
            resource: Some(revision.resource),
            config: serde_json::from_str(&revision.config).map_err(ApiError::internal)?,
            variables: TemplateVariables::parse(&revision.template_variables).map_err(ApiError::internal)?,
            policy: revision.policy.clone(),
        })
    }

    /// The rules for a push.
    pub(crate) fn rules(&self, prioritization: Prioritization) -> QueueRules<'_> {
        QueueRules {
            resource: self.resource,
            config: &self.config,
            variables: &self.variables,
            policy: &self.policy,
            prioritization,
        }
    }

    /// What an agent runs for an item that was pushed under this revision.
    ///
    /// # Errors
    /// If the stored item does not fit the revision, which only a damaged store brings about.
    pub(crate) fn final_spec(&self, item: &Item) -> Result<FinalSpec, ApiError> {
        self.leased_spec(item).map(|(spec, _)| spec)
    }

    /// As [`Self::final_spec`], and where the run goes as far as the item's own spec says.
    ///
    /// # Errors
    /// As [`Self::final_spec`].
    pub(crate) fn leased_spec(&self, item: &Item) -> Result<(FinalSpec, Destination), ApiError> {
        let spec = LaunchSpec::parse(&item.spec).map_err(ApiError::internal)?;
        let destination = Destination::of(&spec);
        let values = serde_json::from_str(&item.template_values).map_err(ApiError::internal)?;
        let resource = self.resource.map(Resource::as_str);
        let spec = final_spec(&self.config, resource, &self.variables, &values, spec).map_err(ApiError::internal)?;
        Ok((spec, destination))
    }
}

/// What a queue is called. Queues are never renamed.
pub(crate) struct QueueName {
    /// The owning entity's name.
    pub(crate) entity: String,
    /// The queue's name.
    pub(crate) name: String,
}

/// A bounded memory of immutable things.
struct Memory<K, V> {
    things: Mutex<HashMap<K, Arc<V>>>,
    capacity: usize,
}

impl<K: Eq + Hash, V> Memory<K, V> {
    fn of(capacity: usize) -> Self {
        Self {
            things: Mutex::new(HashMap::new()),
            capacity,
        }
    }

    fn get(&self, key: &K) -> Option<Arc<V>> {
        let things = self.things.lock().unwrap_or_else(PoisonError::into_inner);
        things.get(key).cloned()
    }

    fn put(&self, key: K, value: V) -> Arc<V> {
        let value = Arc::new(value);
        let mut map = self.things.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= self.capacity {
            map.clear();
        }
        map.insert(key, Arc::clone(&value));
        value
    }
}

/// See the module.
pub(crate) struct Lookup {
    entities: Memory<i64, String>,
    queues: Memory<QueueId, QueueName>,
    revisions: Memory<RevisionId, QueueConfig>,
    destinations: Memory<ItemId, Destination>,
    without_config: Arc<QueueConfig>,
}

impl Default for Lookup {
    fn default() -> Self {
        Self {
            entities: Memory::of(CAPACITY),
            queues: Memory::of(CAPACITY),
            revisions: Memory::of(CAPACITY),
            destinations: Memory::of(DESTINATIONS),
            without_config: Arc::new(QueueConfig::none()),
        }
    }
}

impl Lookup {
    /// The name of an entity's number.
    ///
    /// # Errors
    /// `NOT_FOUND` if there is none.
    pub(crate) async fn entity_name(&self, store: &Store, id: i64) -> Result<Arc<String>, ApiError> {
        if let Some(name) = self.entities.get(&id) {
            return Ok(name);
        }
        let entity = store
            .entity_by_id(id)
            .await?
            .ok_or_else(|| ApiError::not_found("entity", &id.to_string()))?;
        Ok(self.entities.put(id, entity.name))
    }

    /// What a queue is called; `None` if it was deleted.
    ///
    /// # Errors
    /// If the store is away.
    pub(crate) async fn queue_name(&self, store: &Store, id: QueueId) -> Result<Option<Arc<QueueName>>, ApiError> {
        if let Some(name) = self.queues.get(&id) {
            return Ok(Some(name));
        }
        let queue = store.queue_by_id(id).await?;
        Ok(queue.map(|queue| {
            let name = QueueName {
                entity: queue.entity,
                name: queue.name,
            };
            self.queues.put(id, name)
        }))
    }

    /// The configuration of a revision; an empty one for `None`.
    ///
    /// # Errors
    /// `NOT_FOUND` if there is none.
    pub(crate) async fn config(&self, store: &Store, id: Option<RevisionId>) -> Result<Arc<QueueConfig>, ApiError> {
        let Some(id) = id else {
            return Ok(Arc::clone(&self.without_config));
        };
        if let Some(config) = self.revisions.get(&id) {
            return Ok(config);
        }
        let revision = store
            .revision(id)
            .await?
            .ok_or_else(|| ApiError::not_found("queue configuration", &id.to_string()))?;
        Ok(self.revisions.put(id, QueueConfig::read(&revision)?))
    }

    /// Notes where an item's run goes, for the acknowledgement that follows a lease.
    pub(crate) fn note_destination(&self, id: ItemId, destination: Destination) {
        self.destinations.put(id, destination);
    }

    /// Where the runs of items go, in the order of the ids, as far as their specs say; `None` for an
    /// item that was neither leased here lately nor exists. One statement reads those that are not
    /// remembered.
    ///
    /// # Errors
    /// If the store is away.
    pub(crate) async fn destinations(
        &self,
        store: &Store,
        ids: &[ItemId],
    ) -> Result<Vec<Option<Arc<Destination>>>, ApiError> {
        let mut found: Vec<_> = ids.iter().map(|id| self.destinations.get(id)).collect();
        let unknown: Vec<(usize, ItemId)> = (0..)
            .zip(ids.iter().copied())
            .filter(|(place, _)| found.get(*place).is_some_and(Option::is_none))
            .collect();
        let specs = store.item_specs(unknown.iter().map(|(_, id)| *id).collect()).await?;
        for ((place, _), spec) in unknown.into_iter().zip(specs) {
            if let Some(spec) = spec {
                let spec = LaunchSpec::parse(&spec).map_err(ApiError::internal)?;
                found[place] = Some(Arc::new(Destination::of(&spec)));
            }
        }
        Ok(found)
    }
}
