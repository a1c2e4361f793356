//! Administration: users, teams, keys.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use slipway_model::identity::{Role, check_imported_key};
use slipway_model::queue::check_entity_name;
use slipway_store::identity::{AuditEntry, NewUser};

use super::context::RequestContext as _;
use super::identity::{User, read_key_id};
use super::scalars::DateTime;
use super::{Entity, Result};
use crate::auth::{generate_key, hash_secret, key_hint, stored_key};
use crate::{ApiError, access};

/// Administration.
#[derive(Default)]
pub(crate) struct AdminMutation;

#[Object]
impl AdminMutation {
    /// Makes a user or a service account with a key.
    #[graphql(visible = "super::additions")]
    async fn create_user(&self, ctx: &Context<'_>, input: CreateUserInput) -> Result<CreateUserPayload> {
        match &input.service_of {
            Some(team) => access::administer(ctx.principal(), team)?,
            None => access::administer_installation(ctx.principal())?,
        }
        if input.admin == Some(true) {
            access::administer_installation(ctx.principal())?;
        }
        check_entity_name(&input.username)?;
        if let Some(key) = &input.api_key {
            check_imported_key(key).map_err(|error| ApiError::bad(error.to_string()))?;
        }
        let password_hash = match input.password {
            Some(password) => Some(ctx.app().auth.passwords.hash(password).await?),
            None => None,
        };
        let imported = input.api_key.is_some();
        let key = input.api_key.unwrap_or_else(generate_key);
        let user = NewUser {
            username: input.username,
            name: input.name.unwrap_or_default(),
            email: input.email.unwrap_or_default(),
            admin: input.admin.unwrap_or(false),
            service_of: input.service_of,
            password_hash,
        };
        let (by, now) = (ctx.principal().author(), ctx.now());
        let made = ctx
            .store()
            .create_user_with_key(user, stored_key(&key, "first key"), by, now);
        let user = made.await?;
        Ok(CreateUserPayload {
            user: User(user),
            api_key: (!imported).then_some(key),
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Makes a team; the caller becomes its admin.
    #[graphql(visible = "super::additions")]
    async fn create_team(&self, ctx: &Context<'_>, input: CreateTeamInput) -> Result<CreateTeamPayload> {
        access::administer_installation(ctx.principal())?;
        check_entity_name(&input.name)?;
        let team = ctx
            .store()
            .create_team(&input.name, &ctx.principal().user.username, ctx.now())
            .await?;
        ctx.app().auth.forget();
        audit(ctx, "team.create", &input.name).await?;
        Ok(CreateTeamPayload {
            entity: Entity::new(team),
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Adds a member to a team, changes its role, or removes it.
    #[graphql(visible = "super::additions")]
    async fn set_team_member(&self, ctx: &Context<'_>, input: SetTeamMemberInput) -> Result<SetTeamMemberPayload> {
        access::administer(ctx.principal(), &input.team)?;
        let role = input
            .role
            .as_deref()
            .map(|word| {
                Role::parse(word)
                    .ok_or_else(|| ApiError::bad(format!("`{word}` is not a role; these are: viewer, member, admin")))
            })
            .transpose()?;
        ctx.store().set_member(&input.team, &input.username, role).await?;
        ctx.app().auth.forget();
        audit(ctx, "team.member", &format!("{}/{}", input.team, input.username)).await?;
        Ok(SetTeamMemberPayload {
            success: true,
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Makes a key, one's own or, for administrators, somebody's. It is shown once.
    #[graphql(visible = "super::additions")]
    async fn create_api_key(&self, ctx: &Context<'_>, input: CreateApiKeyInput) -> Result<CreateApiKeyPayload> {
        let username = owner(ctx, input.username)?;
        if input.expires_at.as_ref().is_some_and(|time| time.0 <= ctx.now()) {
            return Err(ApiError::bad("`expiresAt` is a time to come"));
        }
        let key = generate_key();
        let stored = ctx
            .store()
            .add_key(
                &username,
                hash_secret(&key),
                &key_hint(&key),
                &input.description.unwrap_or_default(),
                input.expires_at.map(|time| time.0),
                ctx.now(),
            )
            .await?;
        audit(ctx, "key.create", &username).await?;
        Ok(CreateApiKeyPayload {
            id: super::identity::key_id(stored.id),
            api_key: key,
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Ends a key at once.
    #[graphql(visible = "super::additions")]
    async fn revoke_api_key(&self, ctx: &Context<'_>, input: RevokeApiKeyInput) -> Result<RevokeApiKeyPayload> {
        let username = owner(ctx, input.username)?;
        let id = read_key_id(&input.id).ok_or_else(|| ApiError::not_found("API key", &input.id))?;
        ctx.store().revoke_key(&username, id).await?;
        ctx.app().auth.forget();
        audit(ctx, "key.revoke", &username).await?;
        Ok(RevokeApiKeyPayload {
            success: true,
            client_mutation_id: input.client_mutation_id,
        })
    }
}

/// Whose keys the caller may change: one's own, or anybody's for administrators.
fn owner(ctx: &Context<'_>, username: Option<String>) -> Result<String> {
    let own = &ctx.principal().user.username;
    match username {
        Some(name) if name != *own => {
            access::administer_installation(ctx.principal())?;
            Ok(name)
        }
        _ => {
            access::own_keys(ctx.principal())?;
            Ok(own.clone())
        }
    }
}

async fn audit(ctx: &Context<'_>, action: &str, subject: &str) -> Result<()> {
    let entry = AuditEntry {
        at: ctx.now(),
        actor: ctx.principal().author().to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail: "{}".to_owned(),
    };
    Ok(ctx.store().audit(entry).await?)
}

/// What `createUser` takes.
#[derive(InputObject)]
struct CreateUserInput {
    username: String,
    name: Option<String>,
    email: Option<String>,
    /// Whether it administers the installation.
    admin: Option<bool>,
    /// Make it a service account of this team.
    service_of: Option<String>,
    password: Option<String>,
    /// A key to import; without one a key is made.
    api_key: Option<String>,
    client_mutation_id: Option<String>,
}

/// What `createUser` answers.
#[derive(SimpleObject)]
struct CreateUserPayload {
    user: User,
    /// The key that was made; shown once. Null if one was imported.
    api_key: Option<String>,
    client_mutation_id: Option<String>,
}

/// What `createTeam` takes.
#[derive(InputObject)]
struct CreateTeamInput {
    name: String,
    client_mutation_id: Option<String>,
}

/// What `createTeam` answers.
#[derive(SimpleObject)]
struct CreateTeamPayload {
    entity: Entity,
    client_mutation_id: Option<String>,
}

/// What `setTeamMember` takes.
#[derive(InputObject)]
struct SetTeamMemberInput {
    team: String,
    username: String,
    /// viewer, member or admin; null removes.
    role: Option<String>,
    client_mutation_id: Option<String>,
}

/// What `setTeamMember` answers.
#[derive(SimpleObject)]
struct SetTeamMemberPayload {
    success: bool,
    client_mutation_id: Option<String>,
}

/// What `createApiKey` takes.
#[derive(InputObject)]
struct CreateApiKeyInput {
    /// Whose; one's own if absent.
    username: Option<String>,
    description: Option<String>,
    expires_at: Option<DateTime>,
    client_mutation_id: Option<String>,
}

/// What `createApiKey` answers.
#[derive(SimpleObject)]
struct CreateApiKeyPayload {
    id: ID,
    /// Shown once.
    api_key: String,
    client_mutation_id: Option<String>,
}

/// What `revokeApiKey` takes.
#[derive(InputObject)]
struct RevokeApiKeyInput {
    id: ID,
    /// Whose; one's own if absent.
    username: Option<String>,
    client_mutation_id: Option<String>,
}

/// What `revokeApiKey` answers.
#[derive(SimpleObject)]
struct RevokeApiKeyPayload {
    success: bool,
    client_mutation_id: Option<String>,
}
