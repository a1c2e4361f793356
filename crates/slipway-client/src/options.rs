//! How to reach a server.

use std::fmt;
use std::time::Duration;

/// How to reach a server, and as whom.
#[derive(Clone)]
pub struct ClientOptions {
    /// The server's address; may carry a path.
    pub base_url: String,
    /// The API key; none for calls that need none.
    pub api_key: Option<String>,
    /// On whose behalf a service account acts (`X-Wandb-Username`).
    pub username: Option<String>,
    /// What the client calls itself.
    pub user_agent: String,
    /// How long one request may take, streams excepted.
    pub timeout: Duration,
}

impl ClientOptions {
    /// Options with a timeout of 30 seconds and our name as user agent.
    pub fn new(base_url: impl Into<String>, api_key: Option<String>) -> Self {
        Self {
            base_url: base_url.into(),
            api_key,
            username: None,
            user_agent: concat!("slipway/", env!("CARGO_PKG_VERSION")).to_owned(),
            timeout: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("base_url", &self.base_url)
            .field("api_key", &self.api_key.as_ref().map(|_| "…"))
            .field("username", &self.username)
            .field("user_agent", &self.user_agent)
            .field("timeout", &self.timeout)
            .finish()
    }
}
