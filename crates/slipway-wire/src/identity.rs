//! Who the caller is and what the server can do.

use serde::{Deserialize, Serialize};

use crate::graphql::Connection;

/// The feature under which a server announces our additions.
pub const ADDITIONS: &str = "SLIPWAY_V1";

/// The user that a key belongs to.
#[derive(Debug, Clone, Deserialize)]
pub struct Viewer {
    /// Opaque.
    pub id: String,
    /// The entity of operations that name none.
    pub entity: Option<String>,
    /// The user's name.
    pub username: Option<String>,
    /// May be empty.
    pub email: Option<String>,
    /// The user's teams.
    #[serde(default)]
    pub teams: Option<Connection<Team>>,
}

/// A team, by name.
#[derive(Debug, Clone, Deserialize)]
pub struct Team {
    /// The name.
    pub name: String,
}

/// An optional feature of a server.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Feature {
    /// The name.
    pub name: String,
    /// Whether it is on.
    pub is_enabled: bool,
}

/// A user to make.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewUser {
    /// Its name.
    pub username: String,
    /// The name that people read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where to reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whether it administers the installation.
    pub admin: bool,
    /// Makes a service account of this team.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_of: Option<String>,
    /// For signing in to pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// A key to import instead of generating one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
}

/// A key, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// Opaque.
    pub id: String,
    /// The first characters, to tell keys apart.
    #[serde(default)]
    pub name: String,
    /// What its owner calls it.
    #[serde(default)]
    pub description: Option<String>,
    /// When it was made.
    #[serde(default)]
    pub created_at: Option<String>,
    /// When it was last used.
    #[serde(default)]
    pub last_used_at: Option<String>,
    /// When it ends.
    #[serde(default)]
    pub expires_at: Option<String>,
}
