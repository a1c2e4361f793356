//! Who may do what: functions over a [`Principal`], pure but for [`readable_entities`].
//!
//! Reading what one may not see is answered as if it did not exist; a refused change says why.
//!
//! A run key goes to whoever pops the item, so it shows no more than that agent's owner is meant to
//! see of the author: of what the author may read, the entity of the item's queue, the project of
//! the item's run and the project of its job. It writes its own run and that run's project's
//! artifacts, and launches nothing unless the queue's owner listed `launch` in `run_key_scopes`.

use slipway_model::id::RunName;
use slipway_model::identity::{Credential, Role};
use slipway_store::Store;

use crate::auth::Principal;
use crate::error::ApiError;

/// The scope that lets a job's run key submit.
pub(crate) const LAUNCH_SCOPE: &str = "launch";

/// The role in an entity as a whole; administrators of the installation are admins everywhere.
#[must_use]
pub(crate) fn role_in(principal: &Principal, entity: &str) -> Option<Role> {
    if let Credential::Run { queue_entity, .. } = &principal.credential
        && queue_entity != entity
    {
        return None;
    }
    role_of_user(principal, entity)
}

/// The role of the user behind a credential, whatever the credential is limited to.
fn role_of_user(principal: &Principal, entity: &str) -> Option<Role> {
    if principal.user.admin {
        return Some(Role::Admin);
    }
    principal
        .roles
        .iter()
        .find(|(name, _)| name == entity)
        .map(|(_, role)| *role)
}

/// Whether the entity, its queues, runs and artifacts may be seen.
#[must_use]
pub(crate) fn can_read_entity(principal: &Principal, entity: &str) -> bool {
    role_in(principal, entity).is_some()
}

/// The entities that a principal sees.
pub(crate) async fn readable_entities(store: &Store, principal: &Principal) -> Result<Vec<String>, ApiError> {
    let mut names: Vec<String> = if principal.user.admin {
        let entities = store.entities().await?;
        entities.into_iter().map(|entity| entity.name).collect()
    } else {
        principal.roles.iter().map(|(name, _)| name.clone()).collect()
    };
    names.retain(|name| can_read_entity(principal, name));
    Ok(names)
}

/// Whether the entity may be known to exist: of one that is seen in part, only its name.
#[must_use]
pub(crate) fn can_name_entity(principal: &Principal, entity: &str) -> bool {
    can_read_entity(principal, entity)
        || own_projects(principal).any(|(own, _)| own == entity) && role_of_user(principal, entity).is_some()
}

/// Whether the project, its runs and artifacts may be seen.
#[must_use]
pub(crate) fn can_read_project(principal: &Principal, entity: &str, project: &str) -> bool {
    can_read_entity(principal, entity)
        || own_projects(principal).any(|own| own == (entity, project)) && role_of_user(principal, entity).is_some()
}

/// The projects that a run key concerns: its run's and its job's.
fn own_projects(principal: &Principal) -> impl Iterator<Item = (&str, &str)> {
    let (run, job) = match &principal.credential {
        Credential::User => (None, None),
        Credential::Run {
            entity, project, job, ..
        } => (Some((&**entity, &**project)), job.as_ref()),
    };
    run.into_iter()
        .chain(job.map(|(entity, project)| (&**entity, &**project)))
}

/// [`can_read_entity`], with the answer that an outsider gets.
///
/// # Errors
/// `NOT_FOUND`, so that outsiders learn nothing.
pub(crate) fn read_entity(principal: &Principal, entity: &str) -> Result<(), ApiError> {
    if can_read_entity(principal, entity) {
        Ok(())
    } else {
        Err(ApiError::not_found("entity", entity))
    }
}

/// Whether items may be pushed to queues of the entity. A run key with the scope may push, to its
/// own item's queue: which queue that is, the caller checks.
///
/// # Errors
/// `NOT_FOUND` for outsiders, `FORBIDDEN` for viewers and for run keys without the scope.
pub(crate) fn submit(principal: &Principal, entity: &str) -> Result<(), ApiError> {
    if let Credential::Run { scopes, .. } = &principal.credential
        && !scopes.iter().any(|scope| scope == LAUNCH_SCOPE)
    {
        return Err(run_key_refused());
    }
    at_least(principal, entity, Role::Member, "submit to queues")
}

/// Whether items of the entity's queues may be cancelled, moved, retried and deleted.
///
/// # Errors
/// `NOT_FOUND` for outsiders, `FORBIDDEN` for viewers and for every run key.
pub(crate) fn manage_items(principal: &Principal, entity: &str) -> Result<(), ApiError> {
    no_run_key(principal)?;
    at_least(principal, entity, Role::Member, "manage items")
}

/// Whether queues of the entity may be made, changed and deleted.
///
/// # Errors
/// `NOT_FOUND` for outsiders, `FORBIDDEN` for everyone but admins, and for run keys.
pub(crate) fn edit_queues(principal: &Principal, entity: &str) -> Result<(), ApiError> {
    no_run_key(principal)?;
    at_least(principal, entity, Role::Admin, "change queues")
}

/// Whether an agent may serve queues of the entity.
///
/// # Errors
/// `NOT_FOUND` for outsiders, `FORBIDDEN` for viewers and run keys.
pub(crate) fn run_agent(principal: &Principal, entity: &str) -> Result<(), ApiError> {
    no_run_key(principal)?;
    at_least(principal, entity, Role::Member, "run agents")
}

/// Whether members, keys and settings of the entity may be changed.
///
/// # Errors
/// `NOT_FOUND` for outsiders, `FORBIDDEN` for everyone but admins, and for run keys.
pub(crate) fn administer(principal: &Principal, entity: &str) -> Result<(), ApiError> {
    no_run_key(principal)?;
    at_least(principal, entity, Role::Admin, "administer this entity")
}

/// Whether users, teams and anybody's keys may be changed.
///
/// # Errors
/// `FORBIDDEN` for everyone but administrators of the installation.
pub(crate) fn administer_installation(principal: &Principal) -> Result<(), ApiError> {
    no_run_key(principal)?;
    if principal.user.admin {
        Ok(())
    } else {
        Err(ApiError::forbidden(
            "only an administrator of the installation may do this",
        ))
    }
}

/// Whether one's own keys may be changed: not by a job.
///
/// # Errors
/// `FORBIDDEN` for run keys.
pub(crate) fn own_keys(principal: &Principal) -> Result<(), ApiError> {
    no_run_key(principal)
}

/// Whether the principal counts as the owner of the entity's queues, whose `resource_args` pass
/// where a submitter's are checked.
#[must_use]
pub(crate) fn owns_queues(principal: &Principal, entity: &str) -> bool {
    principal.credential == Credential::User && role_in(principal, entity) == Some(Role::Admin)
}

/// Whether the run may be made, changed, stopped and deleted.
///
/// # Errors
/// `NOT_FOUND` for outsiders, `FORBIDDEN` for viewers and for the run key of another run.
pub(crate) fn write_run(principal: &Principal, name: &RunName) -> Result<(), ApiError> {
    if let Credential::Run {
        entity, project, run, ..
    } = &principal.credential
    {
        let own = *entity == name.entity && *project == name.project && *run == name.run;
        return if own {
            Ok(())
        } else {
            Err(ApiError::forbidden(format!(
                "this run key writes run {entity}/{project}/{run} only, not {name}"
            )))
        };
    }
    at_least(principal, &name.entity, Role::Member, "write runs")
}

/// Whether an item may be pushed whose run goes there. A run key that may launch stays within its
/// own run's project.
///
/// # Errors
/// `NOT_FOUND` for outsiders, `FORBIDDEN` for viewers and for run keys of another project.
pub(crate) fn launch_run(principal: &Principal, destination: &RunName) -> Result<(), ApiError> {
    if let Credential::Run { entity, project, .. } = &principal.credential {
        return if *entity == destination.entity && *project == destination.project {
            Ok(())
        } else {
            Err(ApiError::forbidden(format!(
                "this run key launches runs of {entity}/{project} only, not of {}/{}",
                destination.entity, destination.project
            )))
        };
    }
    at_least(principal, &destination.entity, Role::Member, "launch runs")
}

/// Whether artifacts of the project may be made and changed.
///
/// # Errors
/// `NOT_FOUND` for outsiders, `FORBIDDEN` for viewers and for run keys of another project.
pub(crate) fn write_artifacts(principal: &Principal, entity: &str, project: &str) -> Result<(), ApiError> {
    if let Credential::Run {
        entity: own_entity,
        project: own_project,
        ..
    } = &principal.credential
    {
        return if own_entity == entity && own_project == project {
            Ok(())
        } else {
            Err(ApiError::forbidden(format!(
                "this run key writes artifacts of {own_entity}/{own_project} only, not of {entity}/{project}"
            )))
        };
    }
    at_least(principal, entity, Role::Member, "write artifacts")
}

/// Whether projects of the entity may be made. A run key may, for its own run's project.
///
/// # Errors
/// `NOT_FOUND` for outsiders, `FORBIDDEN` for viewers and for run keys of another project.
pub(crate) fn make_project(principal: &Principal, entity: &str, project: &str) -> Result<(), ApiError> {
    write_artifacts(principal, entity, project)
}

fn no_run_key(principal: &Principal) -> Result<(), ApiError> {
    match principal.credential {
        Credential::User => Ok(()),
        Credential::Run { .. } => Err(run_key_refused()),
    }
}

fn run_key_refused() -> ApiError {
    ApiError::forbidden("a job's run key may not operate queues or agents")
        .with_hint("the queue's owner may allow launching by `run_key_scopes: [\"launch\"]` in the queue's policy")
}

fn at_least(principal: &Principal, entity: &str, needed: Role, what: &str) -> Result<(), ApiError> {
    match role_in(principal, entity) {
        Some(role) if role >= needed => Ok(()),
        Some(role) => Err(ApiError::forbidden(format!(
            "the role {} in `{entity}` may not {what}; it takes the role {}",
            role.as_str(),
            needed.as_str()
        ))),
        None => Err(ApiError::not_found("entity", entity)),
    }
}

#[cfg(test)]
mod tests;
