//! Users, teams, memberships, keys, sessions, audit.

use slipway_model::Millis;
use slipway_model::identity::{Credential, Role};

use crate::{Result, Store};

/// A person or a service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub id: i64,
    /// The name that its personal entity and its runs bear.
    pub username: String,
    /// The name that people read.
    pub name: String,
    /// May be empty.
    pub email: String,
    /// Whether it administers the installation.
    pub admin: bool,
    /// For a service account: the team that it belongs to.
    pub service_of: Option<String>,
    /// The entity of operations that name none: its own, or the service account's team.
    pub default_entity: String,
    /// When it was made.
    pub created_at: Millis,
}

/// A new user.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Checked with [`slipway_model::queue::check_entity_name`].
    pub username: String,
    /// The name that people read; the username if empty.
    pub name: String,
    /// May be empty.
    pub email: String,
    /// Whether it administers the installation.
    pub admin: bool,
    /// Make it a service account of this team.
    pub service_of: Option<String>,
    /// Argon2id, PHC string.
    pub password_hash: Option<String>,
}

/// An owner of queues and projects: a user's own, or a team's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// Its number, which leads every key.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Whether it is a team.
    pub is_team: bool,
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its number.
    pub id: i64,
    /// The user that it speaks for.
    pub user_id: i64,
    /// What its owner calls it.
    pub description: String,
    /// The first characters, to tell keys apart.
    pub hint: String,
    /// When it was made.
    pub created_at: Millis,
    /// When it ends.
    pub expires_at: Option<Millis>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Millis>,
}

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The user.
    pub user: User,
    /// The key or session, for attribution and push absorption.
    pub key_id: i64,
    /// What kind of credential it is.
    pub credential: Credential,
    /// Entities in which the user has a role: (entity name, role). The own entity is included, as
    /// admin.
    pub roles: Vec<(String, Role)>,
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Millis,
    /// Who.
    pub actor: String,
    /// What, such as `queue.update`.
    pub action: String,
    /// On what.
    pub subject: String,
    /// Details as JSON, without secrets.
    pub detail: String,
}

impl Store {
    /// Makes a user with its personal entity.
    pub async fn create_user(&self, user: NewUser, now: Millis) -> Result<User> {
        unfinished(user, now)
    }
    /// Finds a user by name.
    pub async fn user(&self, username: &str) -> Result<Option<User>> {
        unfinished(username, ())
    }
    /// Every user.
    pub async fn users(&self) -> Result<Vec<User>> {
        unfinished((), ())
    }
    /// The password hash of a user, if it has one.
    pub async fn password_hash(&self, username: &str) -> Result<Option<String>> {
        unfinished(username, ())
    }
    /// Sets the password hash of a user.
    pub async fn set_password_hash(&self, username: &str, hash: &str) -> Result<()> {
        unfinished(username, hash)
    }
    /// Makes a team with its first admin.
    pub async fn create_team(&self, name: &str, admin_username: &str, now: Millis) -> Result<Entity> {
        unfinished(name, (admin_username, now))
    }
    /// Adds a member or changes its role; `None` removes it.
    pub async fn set_member(&self, team: &str, username: &str, role: Option<Role>) -> Result<()> {
        unfinished(team, (username, role))
    }
    /// The members of a team.
    pub async fn members(&self, team: &str) -> Result<Vec<(User, Role)>> {
        unfinished(team, ())
    }
    /// Finds an entity by name.
    pub async fn entity(&self, name: &str) -> Result<Option<Entity>> {
        unfinished(name, ())
    }
    /// Finds an entity by number.
    pub async fn entity_by_id(&self, id: i64) -> Result<Option<Entity>> {
        unfinished(id, ())
    }
    /// Every entity.
    pub async fn entities(&self) -> Result<Vec<Entity>> {
        unfinished((), ())
    }

    /// Stores a key of a user by the SHA-256 of its text.
    pub async fn add_key(
        &self,
        username: &str,
        sha256: [u8; 32],
        hint: &str,
        description: &str,
        expires_at: Option<Millis>,
        now: Millis,
    ) -> Result<ApiKey> {
        unfinished((username, sha256, hint), (description, expires_at, now))
    }
    /// The keys of a user.
    pub async fn keys(&self, username: &str) -> Result<Vec<ApiKey>> {
        unfinished(username, ())
    }
    /// Ends a key at once.
    pub async fn revoke_key(&self, username: &str, key_id: i64) -> Result<()> {
        unfinished(username, key_id)
    }
    /// Resolves a key (personal or service) or a session by the SHA-256 of its text. `None` if it
    /// is unknown, expired or revoked, or its user is disabled. Run keys are not stored: whoever
    /// verifies one takes the user from [`Store::principal`].
    pub async fn authenticate(&self, sha256: [u8; 32], now: Millis) -> Result<Option<Principal>> {
        unfinished(sha256, now)
    }
    /// A user and its roles, with credential [`Credential::User`] and `key_id` 0: for a caller that
    /// has verified a credential that the store does not keep. `None` if unknown or disabled.
    pub async fn principal(&self, username: &str) -> Result<Option<Principal>> {
        unfinished(username, ())
    }
    /// Makes a user an administrator of the installation, or takes that back.
    pub async fn set_admin(&self, username: &str, admin: bool) -> Result<()> {
        unfinished(username, admin)
    }
    /// Disables a user, or enables it again. The keys and sessions of a disabled user resolve to
    /// nobody; nothing that it owns is lost.
    pub async fn set_disabled(&self, username: &str, disabled: bool) -> Result<()> {
        unfinished(username, disabled)
    }
    /// Opens a page session.
    pub async fn add_session(&self, username: &str, sha256: [u8; 32], expires_at: Millis, now: Millis) -> Result<()> {
        unfinished((username, sha256), (expires_at, now))
    }
    /// Closes a page session.
    pub async fn end_session(&self, sha256: [u8; 32]) -> Result<()> {
        unfinished(sha256, ())
    }

    /// Records a change in the audit log.
    pub async fn audit(&self, entry: AuditEntry) -> Result<()> {
        unfinished(entry, ())
    }
    /// The newest entries of the audit log.
    pub async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        unfinished(limit, ())
    }
}

pub(crate) fn unfinished<T>(_: impl Sized, _: impl Sized) -> Result<T> {
    Err(crate::Error::Internal("not available yet".to_owned()))
}
