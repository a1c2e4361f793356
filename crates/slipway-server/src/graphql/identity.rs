//! Who asks, what the server offers, users and entities.

use std::sync::Arc;

use async_graphql::{ComplexObject, Context, Enum, ID, Object, SimpleObject};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::context::RequestContext as _;
use super::scalars::{DateTime, Json, JsonString};
use super::{Entity, Result};
use crate::access;

/// Features that the server announces, besides its own.
///
/// Each switches on a part of the official client that the server speaks.
pub(crate) const FEATURES: [&str; 7] = [
    "LARGE_FILENAMES",
    "CLIENT_IDS",
    "ARTIFACT_TAGS",
    "STRUCTURED_CONSOLE_LOGS",
    "USE_ARTIFACT_WITH_ENTITY_AND_PROJECT_INFORMATION",
    "PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILES",
];

/// The feature by which clients recognise the additions of `docs/api.md`.
pub(crate) const OWN_FEATURE: &str = "SLIPWAY_V1";

/// Reading of identity.
#[derive(Default)]
pub(crate) struct IdentityQuery;

#[Object]
impl IdentityQuery {
    /// The user that the credential speaks for.
    async fn viewer(&self, ctx: &Context<'_>) -> Option<User> {
        Some(User(ctx.principal().user.clone()))
    }

    /// A user's own entity or a team; null if there is none that the caller may see.
    async fn entity(&self, ctx: &Context<'_>, name: Option<String>) -> Result<Option<Entity>> {
        let name = name.unwrap_or_else(|| ctx.principal().default_entity().to_owned());
        if !access::can_name_entity(ctx.principal(), &name) {
            return Ok(None);
        }
        Ok(ctx.store().entity(&name).await?.map(Entity::new))
    }

    /// What the server offers.
    async fn server_info(&self) -> ServerInfo {
        ServerInfo
    }

    /// Organizations do not exist here.
    async fn organization(&self, #[graphql(name = "name")] _name: Option<String>) -> Option<Organization> {
        None
    }
}

/// The oldest client that this server is tested with.
const OLDEST_CLIENT: &str = "0.28.2";

/// The newest one.
const NEWEST_CLIENT: &str = "0.31.0";

/// What the server offers.
pub(crate) struct ServerInfo;

#[Object]
impl ServerInfo {
    /// Switches that clients look at.
    async fn features(&self, ctx: &Context<'_>) -> Vec<Feature> {
        let own = (!ctx.app().options.compat_official).then_some(OWN_FEATURE);
        FEATURES
            .into_iter()
            .chain(own)
            .map(|name| Feature { name, is_enabled: true })
            .collect()
    }

    /// The client versions that this server is tested with. Others are served too; clients say so where
    /// somebody asks them.
    async fn cli_version_info(&self) -> Json {
        Json(json!({"min_cli_version": OLDEST_CLIENT, "max_cli_version": NEWEST_CLIENT}))
    }

    /// Whether the server is out of date; not tracked.
    async fn latest_local_version_info(&self) -> Option<VersionInfo> {
        None
    }
}

/// A switch.
#[derive(SimpleObject)]
pub(crate) struct Feature {
    /// Its name.
    name: &'static str,
    /// Whether it is on.
    is_enabled: bool,
}

/// How the server's version compares to the newest.
#[derive(SimpleObject)]
#[graphql(name = "LatestLocalVersionInfo")]
pub(crate) struct VersionInfo {
    /// Whether a newer one exists.
    out_of_date: bool,
    /// The newest.
    latest_version_string: String,
    /// This one.
    version_on_this_instance_string: String,
}

/// An organization. None exist; the type is part of the contract.
#[derive(SimpleObject)]
#[graphql(complex)]
pub(crate) struct Organization {
    /// Its name.
    name: String,
    /// The entity that holds its registries.
    org_entity: Option<Entity>,
    /// An id of a hosting partner.
    core_weave_organization_id: Option<String>,
}

#[ComplexObject]
impl Organization {
    /// Switches of a hosting service, by which an organization is counted.
    async fn feature_flags(
        &self,
        #[graphql(name = "rampIDType")] _ramp_id_type: RampIdType,
    ) -> Vec<OrganizationFeatureFlag> {
        Vec::new()
    }
}

/// By what a hosting service switches features on.
#[derive(Enum, Debug, Clone, Copy, PartialEq, Eq)]
#[graphql(name = "RampIDType", rename_items = "PascalCase")]
enum RampIdType {
    /// The name of an organization.
    OrgName,
}

/// A switch of a hosting service.
#[derive(SimpleObject)]
struct OrganizationFeatureFlag {
    /// Its name.
    ramp_key: String,
    /// Whether it is on.
    is_enabled: bool,
}

/// A person or a service account.
pub(crate) struct User(pub(crate) slipway_store::identity::User);

#[Object]
impl User {
    async fn id(&self) -> ID {
        user_id(self.0.id)
    }

    /// The name that people read.
    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn username(&self) -> &str {
        &self.0.username
    }

    async fn email(&self) -> &str {
        &self.0.email
    }

    /// Whether the user administers the installation.
    async fn admin(&self) -> bool {
        self.0.admin
    }

    /// The entity of operations that name none.
    async fn entity(&self) -> &str {
        &self.0.default_entity
    }

    async fn flags(&self) -> JsonString {
        JsonString("{}".to_owned())
    }

    async fn deleted_at(&self) -> Option<DateTime> {
        None
    }

    /// Keys without their secrets; only one's own are shown, and none to a job.
    async fn api_keys(&self, ctx: &Context<'_>) -> Result<ApiKeyConnection> {
        let own = ctx.principal().user.id == self.0.id && access::own_keys(ctx.principal()).is_ok();
        let keys = if own {
            ctx.store().keys(&self.0.username).await?
        } else {
            Vec::new()
        };
        Ok(ApiKeyConnection {
            edges: keys
                .into_iter()
                .map(|key| ApiKeyEdge {
                    node: ApiKey {
                        id: key_id(key.id),
                        name: key.hint,
                        description: key.description,
                        created_at: DateTime(key.created_at),
                        last_used_at: key.last_used_at.map(DateTime),
                        expires_at: key.expires_at.map(DateTime),
                    },
                })
                .collect(),
        })
    }

    /// Teams in which the user has a role; only one's own are shown.
    async fn teams(&self, ctx: &Context<'_>) -> TeamConnection {
        let principal = ctx.principal();
        let own = principal.user.id == self.0.id;
        let names = principal
            .roles
            .iter()
            .filter(|(name, _)| own && *name != self.0.username && access::can_read_entity(principal, name));
        TeamConnection {
            edges: names
                .map(|(name, _)| TeamEdge {
                    node: Team { name: name.clone() },
                })
                .collect(),
        }
    }
}

/// The wire's id of a user.
pub(crate) fn user_id(number: i64) -> ID {
    ID(STANDARD.encode(format!("User:{number}")))
}

/// The wire's id of an API key.
pub(super) fn key_id(number: i64) -> ID {
    ID(STANDARD.encode(format!("ApiKey:{number}")))
}

/// Reads what [`key_id`] wrote.
pub(super) fn read_key_id(id: &str) -> Option<i64> {
    let plain = String::from_utf8(STANDARD.decode(id).ok()?).ok()?;
    plain.strip_prefix("ApiKey:")?.parse().ok()
}

/// Keys.
#[derive(SimpleObject)]
pub(crate) struct ApiKeyConnection {
    edges: Vec<ApiKeyEdge>,
}

/// A key in a listing.
#[derive(SimpleObject)]
pub(crate) struct ApiKeyEdge {
    node: ApiKey,
}

/// A key without its secret.
#[derive(SimpleObject)]
pub(crate) struct ApiKey {
    id: ID,
    /// The first characters, to tell keys apart.
    name: String,
    /// What its owner calls it.
    description: String,
    #[graphql(visible = "super::additions")]
    created_at: DateTime,
    /// To the minute.
    #[graphql(visible = "super::additions")]
    last_used_at: Option<DateTime>,
    #[graphql(visible = "super::additions")]
    expires_at: Option<DateTime>,
}

/// Teams.
#[derive(SimpleObject)]
pub(crate) struct TeamConnection {
    edges: Vec<TeamEdge>,
}

/// A team in a listing.
#[derive(SimpleObject)]
pub(crate) struct TeamEdge {
    node: Team,
}

/// A team.
#[derive(SimpleObject)]
pub(crate) struct Team {
    name: String,
}

/// An entity itself; see [`Entity`].
pub(crate) struct EntityCore(pub(crate) Arc<slipway_store::identity::Entity>);

#[Object]
impl EntityCore {
    async fn id(&self) -> ID {
        ID(STANDARD.encode(format!("Entity:{}", self.0.id)))
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn is_team(&self) -> bool {
        self.0.is_team
    }

    /// Organizations do not exist here.
    async fn organization(&self) -> Option<Organization> {
        None
    }

    /// Digests of artifacts are MD5.
    #[graphql(name = "xxhashDigestsEnabled")]
    async fn xxhash_digests_enabled(&self) -> bool {
        false
    }
}
