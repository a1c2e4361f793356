//! Projects.

use slipway_model::Millis;

use crate::identity::unfinished;
use crate::{Result, Store};

/// A container for runs and jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its number; the wire's `internalId` derives from it.
    pub id: i64,
    /// The owning entity's number.
    pub entity_id: i64,
    /// The owning entity's name.
    pub entity: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Millis,
}

impl Store {
    /// Finds or makes a project; tells whether it was made.
    pub async fn ensure_project(&self, entity: &str, name: &str, now: Millis) -> Result<(Project, bool)> {
        unfinished((entity, name), now)
    }
    /// Finds a project.
    pub async fn project(&self, entity: &str, name: &str) -> Result<Option<Project>> {
        unfinished(entity, name)
    }
    /// The projects of an entity, newest first.
    pub async fn projects(&self, entity: &str) -> Result<Vec<Project>> {
        unfinished(entity, ())
    }
}
