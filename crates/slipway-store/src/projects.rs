//! Projects.

use slipway_model::Millis;
use slipway_model::queue::check_project_name;

use crate::engine::{Lane, Row, Tx, params};
use crate::identity::require_entity;
use crate::{Error, Result, Store};

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
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown entity, [`Error::Invalid`] for a name that is not allowed.
    pub async fn ensure_project(&self, entity: &str, name: &str, now: Millis) -> Result<(Project, bool)> {
        if let Some(project) = self.project(entity, name).await? {
            return Ok((project, false));
        }
        let (entity, name) = (entity.to_owned(), name.to_owned());
        self.write(Lane::Control, "ensure_project", move |tx| {
            ensure(tx, &entity, &name, now)
        })
        .await
    }

    /// Finds a project.
    pub async fn project(&self, entity: &str, name: &str) -> Result<Option<Project>> {
        let (entity, name) = (entity.to_owned(), name.to_owned());
        self.read(Lane::Control, "project", move |tx| find(tx, &entity, &name))
            .await
    }

    /// The projects of an entity, newest first.
    pub async fn projects(&self, entity: &str) -> Result<Vec<Project>> {
        let entity = entity.to_owned();
        self.read(Lane::Control, "projects", move |tx| {
            let sql = format!("{SELECT} WHERE e.name = $1 ORDER BY p.id DESC");
            tx.query(&sql, params![&entity])?.iter().map(read).collect()
        })
        .await
    }
}

const SELECT: &str = "SELECT p.id, p.entity_id, e.name, p.name, p.created_at \
     FROM entities e JOIN projects p ON p.entity_id = e.id";

/// Finds or makes a project as part of a transaction; tells whether it was made.
pub(crate) fn ensure(tx: &mut dyn Tx, entity: &str, name: &str, now: Millis) -> Result<(Project, bool)> {
    if let Some(project) = find(tx, entity, name)? {
        return Ok((project, false));
    }
    check_project_name(name).map_err(|error| Error::Invalid(error.to_string()))?;
    let entity_id = require_entity(tx, entity)?;
    let sql = "INSERT INTO projects (entity_id, name, created_at) VALUES ($1, $2, $3) \
         ON CONFLICT (entity_id, name) DO NOTHING";
    let inserted = tx.execute(sql, params![entity_id, name, now])? > 0;
    let project = find(tx, entity, name)?;
    project
        .map(|project| (project, inserted))
        .ok_or_else(|| Error::Internal(format!("project `{entity}/{name}` vanished while it was made")))
}

/// Finds a project as part of a transaction.
pub(crate) fn find(tx: &mut dyn Tx, entity: &str, name: &str) -> Result<Option<Project>> {
    let sql = format!("{SELECT} WHERE e.name = $1 AND p.name = $2");
    tx.query_opt(&sql, params![entity, name])?
        .as_ref()
        .map(read)
        .transpose()
}

fn read(row: &Row) -> Result<Project> {
    Ok(Project {
        id: row.i64(0)?,
        entity_id: row.i64(1)?,
        entity: row.text(2)?,
        name: row.text(3)?,
        created_at: row.i64(4)?,
    })
}
