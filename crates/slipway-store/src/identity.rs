//! Users, teams, memberships, keys, sessions, audit.
//!
//! Secrets do not come here: a key or a session is known by the SHA-256 of its text, a password by
//! its Argon2id hash. Names of users and teams share one name space, and are never changed: runs and
//! queues bear them.

use slipway_model::Millis;
use slipway_model::identity::{Credential, Role};
use slipway_model::queue::check_entity_name;

use crate::engine::{Lane, Row, Tx, Value, params};
use crate::{Error, Result, Store};

/// How exactly the time of a key's last use is known. Bounds the writes that reading causes.
const LAST_USED_EVERY: Millis = 60_000;

/// What an entity's name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Personal = 0,
    Team = 1,
    /// Reserves the name of a service account, which owns nothing.
    Service = 2,
}

/// What a stored credential is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    Key = 0,
    Session = 1,
}

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
    /// Whether its keys and sessions are refused.
    pub disabled: bool,
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

/// A key to store.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The SHA-256 of its text.
    pub sha256: [u8; 32],
    /// Its first characters, to tell keys apart.
    pub hint: String,
    /// What it is for.
    pub description: String,
    /// When it ends.
    pub expires_at: Option<Millis>,
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
    /// Makes a user with its personal entity. A service account gets no entity of its own, but
    /// membership in its team.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is not allowed, [`Error::Exists`] for one that is taken (also
    /// in other case), [`Error::NotFound`] for an unknown team.
    pub async fn create_user(&self, user: NewUser, now: Millis) -> Result<User> {
        self.write(Lane::Control, "create_user", move |tx| create_user(tx, &user, now))
            .await
    }

    /// Makes a user as [`Store::create_user`] does, with its first key and an entry in the audit log:
    /// all of it or nothing. `by`: who makes it, or empty for the server itself.
    ///
    /// # Errors
    /// As [`Store::create_user`]; [`Error::Exists`] if the key is another user's.
    pub async fn create_user_with_key(&self, user: NewUser, key: NewKey, by: &str, now: Millis) -> Result<User> {
        let by = by.to_owned();
        self.write(Lane::Control, "create_user", move |tx| {
            let made = create_user(tx, &user, now)?;
            add_key(tx, &made.username, &key, now)?;
            let entry = AuditEntry {
                at: now,
                actor: by.clone(),
                action: "user.create".to_owned(),
                subject: made.username.clone(),
                detail: serde_json::json!({"admin": made.admin, "serviceOf": made.service_of}).to_string(),
            };
            audit(tx, &entry)?;
            Ok(made)
        })
        .await
    }

    /// Finds a user by name.
    pub async fn user(&self, username: &str) -> Result<Option<User>> {
        let username = username.to_owned();
        self.read(Lane::Control, "user", move |tx| user_by_name(tx, &username))
            .await
    }

    /// Every user, by name.
    pub async fn users(&self) -> Result<Vec<User>> {
        let sql = format!("{SELECT_USER} ORDER BY u.username");
        self.read(Lane::Control, "users", move |tx| {
            tx.query(&sql, &[])?.iter().map(read_user).collect()
        })
        .await
    }

    /// The password hash of a user, if it has one.
    pub async fn password_hash(&self, username: &str) -> Result<Option<String>> {
        let username = username.to_owned();
        self.read(Lane::Control, "password_hash", move |tx| {
            let row = tx.query_opt(
                "SELECT password_hash FROM users WHERE username = $1",
                params![&username],
            )?;
            row.map_or(Ok(None), |row| row.opt_text(0))
        })
        .await
    }

    /// Sets the password hash of a user and closes its page sessions.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown user.
    pub async fn set_password_hash(&self, username: &str, hash: &str) -> Result<()> {
        let (username, hash) = (username.to_owned(), hash.to_owned());
        self.write(Lane::Control, "set_password_hash", move |tx| {
            let user = require_user(tx, &username)?;
            tx.execute(
                "UPDATE users SET password_hash = $2 WHERE entity_id = $1",
                params![user.id, &hash],
            )?;
            let sql = "DELETE FROM credentials WHERE user_id = $1 AND kind = $2";
            tx.execute(sql, params![user.id, Stored::Session as i64])?;
            Ok(())
        })
        .await
    }

    /// Makes a user an administrator of the installation, or takes that back.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown user.
    pub async fn set_admin(&self, username: &str, admin: bool) -> Result<()> {
        self.set_flag(username, "UPDATE users SET admin = $2 WHERE username = $1", admin)
            .await
    }

    /// Disables a user, or enables it again. The keys and sessions of a disabled user resolve to
    /// nobody; nothing that it owns is lost.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown user.
    pub async fn set_disabled(&self, username: &str, disabled: bool) -> Result<()> {
        self.set_flag(username, "UPDATE users SET disabled = $2 WHERE username = $1", disabled)
            .await
    }

    async fn set_flag(&self, username: &str, sql: &'static str, value: bool) -> Result<()> {
        let username = username.to_owned();
        self.write(Lane::Control, "set_user_flag", move |tx| {
            match tx.execute(sql, params![&username, value])? {
                0 => Err(Error::not_found("user", &username)),
                _ => Ok(()),
            }
        })
        .await
    }

    /// Makes a team with its first admin.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is not allowed, [`Error::Exists`] for one that is taken,
    /// [`Error::NotFound`] for an unknown user.
    pub async fn create_team(&self, name: &str, admin_username: &str, now: Millis) -> Result<Entity> {
        let (name, admin_username) = (name.to_owned(), admin_username.to_owned());
        self.write(Lane::Control, "create_team", move |tx| {
            let admin = require_user(tx, &admin_username)?;
            let id = insert_entity(tx, &name, Kind::Team, now)?;
            put_member(tx, id, admin.id, Role::Admin)?;
            Ok(Entity {
                id,
                name: name.clone(),
                is_team: true,
            })
        })
        .await
    }

    /// Adds a member or changes its role; `None` removes it.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown team or user; [`Error::Invalid`] if the team would be left
    /// without an admin.
    pub async fn set_member(&self, team: &str, username: &str, role: Option<Role>) -> Result<()> {
        let (team, username) = (team.to_owned(), username.to_owned());
        self.write(Lane::Control, "set_member", move |tx| {
            set_member(tx, &team, &username, role)
        })
        .await
    }

    /// The members of a team, by name.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown team.
    pub async fn members(&self, team: &str) -> Result<Vec<(User, Role)>> {
        let team = team.to_owned();
        self.read(Lane::Control, "members", move |tx| {
            let team = require_team(tx, &team)?;
            let sql = format!(
                "SELECT {USER_COLUMNS}, m.role FROM memberships m JOIN users u ON u.entity_id = m.user_id \
                 LEFT JOIN entities t ON t.id = u.service_of WHERE m.entity_id = $1 ORDER BY u.username"
            );
            let rows = tx.query(&sql, params![team])?;
            rows.iter()
                .map(|row| Ok((read_user(row)?, read_role(row, USER_WIDTH)?)))
                .collect()
        })
        .await
    }

    /// Finds an entity by name.
    pub async fn entity(&self, name: &str) -> Result<Option<Entity>> {
        let sql = "SELECT id, name, kind FROM entities WHERE name = $1 AND kind < 2";
        self.entity_where(sql, params![name].to_vec()).await
    }

    /// Finds an entity by number.
    pub async fn entity_by_id(&self, id: i64) -> Result<Option<Entity>> {
        let sql = "SELECT id, name, kind FROM entities WHERE id = $1 AND kind < 2";
        self.entity_where(sql, params![id].to_vec()).await
    }

    async fn entity_where(&self, sql: &'static str, params: Vec<Value>) -> Result<Option<Entity>> {
        self.read(Lane::Control, "entity", move |tx| {
            tx.query_opt(sql, &params)?.as_ref().map(read_entity).transpose()
        })
        .await
    }

    /// Every entity, by name.
    pub async fn entities(&self) -> Result<Vec<Entity>> {
        self.read(Lane::Control, "entities", |tx| {
            let rows = tx.query("SELECT id, name, kind FROM entities WHERE kind < 2 ORDER BY name", &[])?;
            rows.iter().map(read_entity).collect()
        })
        .await
    }

    /// Stores a key of a user by the SHA-256 of its text. Storing a key that the user has already
    /// changes nothing and returns it.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown user, [`Error::Exists`] if the key is another user's.
    pub async fn add_key(
        &self,
        username: &str,
        sha256: [u8; 32],
        hint: &str,
        description: &str,
        expires_at: Option<Millis>,
        now: Millis,
    ) -> Result<ApiKey> {
        let username = username.to_owned();
        let key = NewKey {
            sha256,
            hint: hint.to_owned(),
            description: description.to_owned(),
            expires_at,
        };
        self.write(Lane::Control, "add_key", move |tx| add_key(tx, &username, &key, now))
            .await
    }

    /// The keys of a user, oldest first, expired ones included.
    pub async fn keys(&self, username: &str) -> Result<Vec<ApiKey>> {
        let username = username.to_owned();
        self.read(Lane::Control, "keys", move |tx| {
            let sql = format!(
                "{SELECT_KEY} WHERE kind = $2 AND user_id = (SELECT entity_id FROM users WHERE username = $1) ORDER BY id"
            );
            let rows = tx.query(&sql, params![&username, Stored::Key as i64])?;
            rows.iter().map(read_key).collect()
        })
        .await
    }

    /// Ends a key at once.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the user has no such key.
    pub async fn revoke_key(&self, username: &str, key_id: i64) -> Result<()> {
        let username = username.to_owned();
        self.write(Lane::Control, "revoke_key", move |tx| {
            let sql = "DELETE FROM credentials WHERE id = $1 AND kind = $3 \
                 AND user_id = (SELECT entity_id FROM users WHERE username = $2)";
            match tx.execute(sql, params![key_id, &username, Stored::Key as i64])? {
                0 => Err(Error::not_found("key", key_id)),
                _ => Ok(()),
            }
        })
        .await
    }

    /// Resolves a key (personal or service) or a session by the SHA-256 of its text. `None` if it
    /// is unknown, expired or revoked, or its user is disabled. Run keys are not stored: whoever
    /// verifies one takes the user from [`Store::principal`].
    pub async fn authenticate(&self, sha256: [u8; 32], now: Millis) -> Result<Option<Principal>> {
        let found = self
            .read(Lane::Control, "authenticate", move |tx| authenticate(tx, sha256, now))
            .await?;
        let Some((principal, last_used_at)) = found else {
            return Ok(None);
        };
        if last_used_at.is_none_or(|at| now - at >= LAST_USED_EVERY) {
            let key_id = principal.key_id;
            let noted = self.write(Lane::Control, "note_key_use", move |tx| {
                tx.execute(
                    "UPDATE credentials SET last_used_at = $2 WHERE id = $1",
                    params![key_id, now],
                )
            });
            // A store that takes no writes now still lets people in to look at it.
            if let Err(error) = noted.await {
                tracing::debug!(%error, "the time of a key's last use was not stored");
            }
        }
        Ok(Some(principal))
    }

    /// A user and its roles, with credential [`Credential::User`] and `key_id` 0: for a caller that
    /// has verified a credential that the store does not keep. `None` if unknown or disabled.
    pub async fn principal(&self, username: &str) -> Result<Option<Principal>> {
        let username = username.to_owned();
        self.read(Lane::Control, "principal", move |tx| {
            match user_by_name(tx, &username)?.filter(|user| !user.disabled) {
                Some(user) => principal(tx, user, 0).map(Some),
                None => Ok(None),
            }
        })
        .await
    }

    /// Opens a page session.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown user.
    pub async fn add_session(&self, username: &str, sha256: [u8; 32], expires_at: Millis, now: Millis) -> Result<()> {
        let username = username.to_owned();
        self.write(Lane::Control, "add_session", move |tx| {
            let user = require_user(tx, &username)?;
            let kind = Stored::Session as i64;
            // Sessions are many and short; those of the same user that are over go with the next.
            let prune = "DELETE FROM credentials WHERE user_id = $1 AND kind = $2 AND expires_at <= $3";
            tx.execute(prune, params![user.id, kind, now])?;
            let insert = "INSERT INTO credentials (user_id, kind, sha256, hint, description, created_at, expires_at) \
                 VALUES ($1, $2, $3, '', '', $4, $5)";
            tx.execute(insert, params![user.id, kind, sha256, now, expires_at])?;
            Ok(())
        })
        .await
    }

    /// Closes a page session; nothing happens if there is none.
    pub async fn end_session(&self, sha256: [u8; 32]) -> Result<()> {
        self.write(Lane::Control, "end_session", move |tx| {
            let sql = "DELETE FROM credentials WHERE sha256 = $1 AND kind = $2";
            tx.execute(sql, params![sha256, Stored::Session as i64]).map(drop)
        })
        .await
    }

    /// Records a change in the audit log.
    pub async fn audit(&self, entry: AuditEntry) -> Result<()> {
        self.write(Lane::Control, "audit", move |tx| audit(tx, &entry)).await
    }

    /// The newest entries of the audit log, newest first.
    pub async fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(Lane::Control, "audit_log", move |tx| {
            let sql = "SELECT at, actor, action, subject, detail FROM audit ORDER BY id DESC LIMIT $1";
            let read = |row: &Row| {
                Ok(AuditEntry {
                    at: row.i64(0)?,
                    actor: row.text(1)?,
                    action: row.text(2)?,
                    subject: row.text(3)?,
                    detail: row.text(4)?,
                })
            };
            tx.query(sql, params![limit])?.iter().map(read).collect()
        })
        .await
    }
}

/// The number of an entity that may own things.
///
/// # Errors
/// [`Error::NotFound`] if there is none of that name.
pub(crate) fn require_entity(tx: &mut dyn Tx, name: &str) -> Result<i64> {
    find_entity(tx, name)?.ok_or_else(|| Error::not_found("entity", name))
}

/// The number of an entity that may own things, if there is one of that name.
pub(crate) fn find_entity(tx: &mut dyn Tx, name: &str) -> Result<Option<i64>> {
    let row = tx.query_opt("SELECT id FROM entities WHERE name = $1 AND kind < 2", params![name])?;
    row.map(|row| row.i64(0)).transpose()
}

const USER_COLUMNS: &str = "u.entity_id, u.username, u.name, u.email, u.admin, u.disabled, u.created_at, t.name";
const USER_WIDTH: usize = 8;
const SELECT_USER: &str = "SELECT u.entity_id, u.username, u.name, u.email, u.admin, u.disabled, u.created_at, t.name \
     FROM users u LEFT JOIN entities t ON t.id = u.service_of";
const SELECT_KEY: &str = "SELECT id, user_id, description, hint, created_at, expires_at, last_used_at FROM credentials";

fn create_user(tx: &mut dyn Tx, user: &NewUser, now: Millis) -> Result<User> {
    let team = user
        .service_of
        .as_deref()
        .map(|team| require_team(tx, team))
        .transpose()?;
    let kind = if team.is_some() { Kind::Service } else { Kind::Personal };
    let id = insert_entity(tx, &user.username, kind, now)?;
    let name = if user.name.is_empty() {
        &user.username
    } else {
        &user.name
    };
    let sql = "INSERT INTO users (entity_id, username, name, email, admin, disabled, service_of, password_hash, \
         created_at) VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $8)";
    let NewUser {
        username,
        email,
        admin,
        service_of,
        password_hash,
        ..
    } = user;
    tx.execute(
        sql,
        params![id, username, name, email, *admin, team, password_hash.as_deref(), now],
    )?;
    if let Some(team) = team {
        put_member(tx, team, id, Role::Member)?;
    }
    Ok(User {
        id,
        username: username.clone(),
        name: name.clone(),
        email: email.clone(),
        admin: *admin,
        disabled: false,
        service_of: service_of.clone(),
        default_entity: service_of.as_ref().unwrap_or(username).clone(),
        created_at: now,
    })
}

fn add_key(tx: &mut dyn Tx, username: &str, key: &NewKey, now: Millis) -> Result<ApiKey> {
    let user = require_user(tx, username)?;
    let NewKey {
        sha256,
        hint,
        description,
        expires_at,
    } = key;
    let insert = "INSERT INTO credentials (user_id, kind, sha256, hint, description, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (sha256) DO NOTHING";
    let kind = Stored::Key as i64;
    tx.execute(
        insert,
        params![user.id, kind, *sha256, hint, description, now, *expires_at],
    )?;
    let select = format!("{SELECT_KEY} WHERE sha256 = $1 AND user_id = $2 AND kind = $3");
    let row = tx.query_opt(&select, params![*sha256, user.id, kind])?;
    row.as_ref().map_or_else(|| Err(Error::exists("key", hint)), read_key)
}

/// Records a change in the audit log, in the transaction that makes it.
pub(crate) fn audit(tx: &mut dyn Tx, entry: &AuditEntry) -> Result<()> {
    let AuditEntry {
        at,
        actor,
        action,
        subject,
        detail,
    } = entry;
    let sql = "INSERT INTO audit (at, actor, action, subject, detail) VALUES ($1, $2, $3, $4, $5)";
    tx.execute(sql, params![*at, actor, action, subject, detail]).map(drop)
}

fn insert_entity(tx: &mut dyn Tx, name: &str, kind: Kind, now: Millis) -> Result<i64> {
    check_entity_name(name).map_err(|error| Error::Invalid(error.to_string()))?;
    let sql = "INSERT INTO entities (name, kind, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING id";
    let row = tx.query_opt(sql, params![name, kind as i64, now])?;
    row.map_or_else(|| Err(Error::exists("user or team", name)), |row| row.i64(0))
}

fn set_member(tx: &mut dyn Tx, team: &str, username: &str, role: Option<Role>) -> Result<()> {
    let team_id = require_team(tx, team)?;
    let user = require_user(tx, username)?;
    // Locked together, so that two admins cannot remove each other at the same time.
    let admins = format!(
        "SELECT user_id FROM memberships WHERE entity_id = $1 AND role = $2{}",
        tx.for_update()
    );
    let admins = tx.query(&admins, params![team_id, Role::Admin.as_str()])?;
    let only_admin = match &admins[..] {
        [row] => row.i64(0)? == user.id,
        _ => false,
    };
    if only_admin && role != Some(Role::Admin) {
        return Err(Error::Invalid(format!(
            "`{username}` is the only admin of team `{team}`; make somebody else an admin first"
        )));
    }
    if let Some(role) = role {
        return put_member(tx, team_id, user.id, role);
    }
    let sql = "DELETE FROM memberships WHERE entity_id = $1 AND user_id = $2";
    tx.execute(sql, params![team_id, user.id]).map(drop)
}

fn put_member(tx: &mut dyn Tx, team: i64, user: i64, role: Role) -> Result<()> {
    let sql = "INSERT INTO memberships (entity_id, user_id, role) VALUES ($1, $2, $3) \
         ON CONFLICT (entity_id, user_id) DO UPDATE SET role = excluded.role";
    tx.execute(sql, params![team, user, role.as_str()]).map(drop)
}

fn require_team(tx: &mut dyn Tx, name: &str) -> Result<i64> {
    let sql = "SELECT id FROM entities WHERE name = $1 AND kind = $2";
    let row = tx.query_opt(sql, params![name, Kind::Team as i64])?;
    row.map_or_else(|| Err(Error::not_found("team", name)), |row| row.i64(0))
}

fn require_user(tx: &mut dyn Tx, username: &str) -> Result<User> {
    user_by_name(tx, username)?.ok_or_else(|| Error::not_found("user", username))
}

fn user_by_name(tx: &mut dyn Tx, username: &str) -> Result<Option<User>> {
    let sql = format!("{SELECT_USER} WHERE u.username = $1");
    tx.query_opt(&sql, params![username])?
        .as_ref()
        .map(read_user)
        .transpose()
}

/// The principal and when its credential was last used.
fn authenticate(tx: &mut dyn Tx, sha256: [u8; 32], now: Millis) -> Result<Option<(Principal, Option<Millis>)>> {
    let sql = format!(
        "SELECT {USER_COLUMNS}, c.id, c.last_used_at FROM credentials c JOIN users u ON u.entity_id = c.user_id \
         LEFT JOIN entities t ON t.id = u.service_of \
         WHERE c.sha256 = $1 AND u.disabled = 0 AND (c.expires_at IS NULL OR c.expires_at > $2)"
    );
    let Some(row) = tx.query_opt(&sql, params![sha256, now])? else {
        return Ok(None);
    };
    let principal = principal(tx, read_user(&row)?, row.i64(USER_WIDTH)?)?;
    Ok(Some((principal, row.opt_i64(USER_WIDTH + 1)?)))
}

fn principal(tx: &mut dyn Tx, user: User, key_id: i64) -> Result<Principal> {
    let sql = "SELECT e.name, m.role FROM memberships m JOIN entities e ON e.id = m.entity_id \
         WHERE m.user_id = $1 ORDER BY e.name";
    let own = user
        .service_of
        .is_none()
        .then(|| Ok((user.username.clone(), Role::Admin)));
    let rows = tx.query(sql, params![user.id])?;
    let teams = rows.iter().map(|row| Ok((row.text(0)?, read_role(row, 1)?)));
    let roles = own.into_iter().chain(teams).collect::<Result<_>>()?;
    Ok(Principal {
        user,
        key_id,
        credential: Credential::User,
        roles,
    })
}

fn read_user(row: &Row) -> Result<User> {
    let username = row.text(1)?;
    let service_of = row.opt_text(7)?;
    Ok(User {
        id: row.i64(0)?,
        name: row.text(2)?,
        email: row.text(3)?,
        admin: row.bool(4)?,
        disabled: row.bool(5)?,
        created_at: row.i64(6)?,
        default_entity: service_of.as_ref().unwrap_or(&username).clone(),
        service_of,
        username,
    })
}

fn read_entity(row: &Row) -> Result<Entity> {
    Ok(Entity {
        id: row.i64(0)?,
        name: row.text(1)?,
        is_team: row.i64(2)? == Kind::Team as i64,
    })
}

fn read_role(row: &Row, column: usize) -> Result<Role> {
    let word = row.text(column)?;
    Role::parse(&word).ok_or_else(|| Error::Internal(format!("unknown role `{word}` in the database")))
}

fn read_key(row: &Row) -> Result<ApiKey> {
    Ok(ApiKey {
        id: row.i64(0)?,
        user_id: row.i64(1)?,
        description: row.text(2)?,
        hint: row.text(3)?,
        created_at: row.i64(4)?,
        expires_at: row.opt_i64(5)?,
        last_used_at: row.opt_i64(6)?,
    })
}
