//! Who the caller is, what the server can do, and administration.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};
use slipway_wire::document::{additions, official};
use slipway_wire::graphql::Connection;
use slipway_wire::identity::{ADDITIONS, ApiKey, Feature, NewUser, Viewer};
use slipway_wire::scalar::null_as_default;

use crate::Client;
use crate::error::{Error, Refusal, Result};
use crate::transport::Repeat;

impl Client {
    /// The user that the key belongs to.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] also when the server answers that there is no user.
    pub async fn viewer(&self) -> Result<Viewer> {
        #[derive(Deserialize)]
        struct Answer {
            viewer: Option<Viewer>,
        }
        let answer: Answer = self.call(&official::VIEWER, json!({})).await?;
        answer.viewer.ok_or_else(|| Error::Unauthorized {
            server: self.base_url().to_owned(),
            refusal: Refusal {
                message: "it belongs to no user".to_owned(),
                hint: None,
            },
        })
    }

    /// The server's enabled features; asked once and kept.
    ///
    /// # Errors
    /// Those of any call. A server that does not know the question has no features.
    pub async fn features(&self) -> Result<&BTreeSet<String>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "serverInfo")]
            server_info: Option<Info>,
        }
        #[derive(Deserialize)]
        struct Info {
            #[serde(default, deserialize_with = "null_as_default")]
            features: Vec<Feature>,
        }
        self.features_cell()
            .get_or_try_init(|| async {
                let answer: Answer = match self.call(&official::SERVER_FEATURES, json!({})).await {
                    Ok(answer) => answer,
                    Err(Error::Invalid(_)) => return Ok(BTreeSet::new()),
                    Err(error) => return Err(error),
                };
                let features = answer.server_info.map(|info| info.features).unwrap_or_default();
                Ok(features
                    .into_iter()
                    .filter(|feature| feature.is_enabled)
                    .map(|feature| feature.name)
                    .collect())
            })
            .await
    }

    /// Whether the server has our additions to the API.
    ///
    /// # Errors
    /// Those of [`Self::features`].
    pub async fn has_additions(&self) -> Result<bool> {
        Ok(self.features().await?.contains(ADDITIONS))
    }

    /// Refuses what needs our additions, where the server has none.
    pub(crate) async fn require_additions(&self, what: &str) -> Result<()> {
        if self.has_additions().await? {
            return Ok(());
        }
        Err(Error::Invalid(Refusal {
            message: format!("{} cannot {what}: it is not a Slipway server", self.base_url()),
            hint: None,
        }))
    }

    /// Makes a user; answers with the generated API key, unless one was imported.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for callers who do not administer the installation, [`Error::Conflict`]
    /// if the name is taken.
    pub async fn create_user(&self, user: &NewUser) -> Result<Option<String>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "createUser")]
            payload: Payload,
        }
        #[derive(Deserialize)]
        struct Payload {
            #[serde(rename = "apiKey")]
            api_key: Option<String>,
        }
        self.require_additions("make users").await?;
        let input = json!({"input": user});
        // A repetition would be refused as a taken name and lose the key.
        let answer: Answer = self
            .call_with(&additions::CREATE_USER, input, Repeat::OnlyIfNoEffect)
            .await?;
        Ok(answer.payload.api_key)
    }

    /// Makes a team, with the caller as its admin.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the name is taken.
    pub async fn create_team(&self, name: &str) -> Result<()> {
        self.require_additions("make teams").await?;
        let input = json!({"input": {"name": name}});
        self.call_with::<_, Value>(&additions::CREATE_TEAM, input, Repeat::OnlyIfNoEffect)
            .await?;
        Ok(())
    }

    /// Adds a member to a team or changes its role (`viewer`, `member`, `admin`); none removes it.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for callers who do not administer the team.
    pub async fn set_team_member(&self, team: &str, username: &str, role: Option<&str>) -> Result<()> {
        self.require_additions("change teams").await?;
        let input = json!({"input": {"team": team, "username": username, "role": role}});
        self.call::<_, Value>(&additions::SET_TEAM_MEMBER, input).await?;
        Ok(())
    }

    /// Makes an API key; its text is answered this once. Without a username it is the caller's.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for other users' keys, unless the caller administers the installation.
    pub async fn create_api_key(
        &self,
        username: Option<&str>,
        description: Option<&str>,
        expires_at: Option<&str>,
    ) -> Result<String> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "createApiKey")]
            payload: Payload,
        }
        #[derive(Deserialize)]
        struct Payload {
            #[serde(rename = "apiKey")]
            api_key: String,
        }
        self.require_additions("make API keys").await?;
        let input = json!({"input": {"username": username, "description": description, "expiresAt": expires_at}});
        let answer: Answer = self
            .call_with(&additions::CREATE_API_KEY, input, Repeat::OnlyIfNoEffect)
            .await?;
        Ok(answer.payload.api_key)
    }

    /// Ends an API key at once.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such key.
    pub async fn revoke_api_key(&self, id: &str, username: Option<&str>) -> Result<()> {
        self.require_additions("end API keys").await?;
        let input = json!({"input": {"id": id, "username": username}});
        self.call::<_, Value>(&additions::REVOKE_API_KEY, input).await?;
        Ok(())
    }

    /// The caller's API keys.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        #[derive(Deserialize)]
        struct Answer {
            viewer: Option<Keys>,
        }
        #[derive(Deserialize)]
        struct Keys {
            #[serde(rename = "apiKeys")]
            api_keys: Option<Connection<ApiKey>>,
        }
        self.require_additions("list API keys").await?;
        let answer: Answer = self.call(&additions::API_KEYS, json!({})).await?;
        let keys = answer.viewer.and_then(|viewer| viewer.api_keys);
        Ok(keys.map(|keys| keys.into_nodes().collect()).unwrap_or_default())
    }
}
