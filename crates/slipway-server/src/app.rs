//! What every handler shares.

use std::fmt;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use slipway_model::Millis;
use slipway_store::Store;
use slipway_store::blobs::{Blobs, Signer};
use tokio::sync::watch;

use crate::auth::{Authenticator, Principal};
use crate::contacts::Contacts;
use crate::deliveries::Deliveries;
use crate::error::ApiError;
use crate::graphql::ApiSchema;
use crate::hub::Hub;
use crate::lookup::Lookup;
use crate::options::ServerOptions;
use crate::pages::Guesses;
use crate::references::References;

/// Tells the time. Tests set their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Millis + Send + Sync>);

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(|| chrono::Utc::now().timestamp_millis()))
    }

    /// A clock that asks a function.
    pub fn new(now: impl Fn() -> Millis + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Millis {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// What every handler shares. One per server, behind an [`Arc`].
pub(crate) struct App {
    /// How the server was started.
    pub(crate) options: ServerOptions,
    /// Durable state.
    pub(crate) store: Store,
    /// Where bytes are kept.
    pub(crate) blobs: Blobs,
    /// Signs the addresses of files. Its key is the same on every replica.
    pub(crate) signer: Signer,
    /// Tells the time.
    pub(crate) clock: Clock,
    /// Resolves credentials.
    pub(crate) auth: Authenticator,
    /// Things that never change, remembered.
    pub(crate) lookup: Lookup,
    /// What the artifact that was asked about last has elsewhere.
    pub(crate) references: References,
    /// Whether answers to pushes reach their clients.
    pub(crate) deliveries: Deliveries,
    /// Agents whose streams are open.
    pub(crate) contacts: Contacts,
    /// Tells connected clients what happens.
    pub(crate) hub: Hub,
    /// The GraphQL schema.
    pub(crate) schema: ApiSchema,
    /// True once the server is asked to end: event streams end then.
    pub(crate) shutdown: watch::Sender<bool>,
    /// Slows down guessing of passwords.
    pub(crate) guesses: Guesses,
}

impl App {
    /// Puts the parts together.
    #[must_use]
    pub(crate) fn new(
        options: ServerOptions,
        store: Store,
        blobs: Blobs,
        signing_key: [u8; 32],
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            auth: Authenticator::new(signing_key, options.rate_limit),
            lookup: Lookup::default(),
            references: References::default(),
            deliveries: Deliveries::default(),
            contacts: Contacts::default(),
            hub: Hub::default(),
            schema: crate::graphql::schema(options.compat_official),
            options,
            store,
            blobs,
            guesses: Guesses::default(),
            signer: Signer::new(&signing_key),
            shutdown: watch::channel(false).0,
            clock,
        })
    }

    /// The time now.
    #[must_use]
    pub(crate) fn now(&self) -> Millis {
        self.clock.now()
    }

    /// Who makes a request.
    ///
    /// # Errors
    /// As [`Authenticator::authenticate`].
    pub(crate) async fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<Principal>, ApiError> {
        self.auth
            .authenticate(&self.store, &self.lookup, headers, self.now())
            .await
    }

    /// The address of this server as the caller of a request sees it, without a trailing slash:
    /// `--public-url`, else what a trusted proxy forwards, else scheme and `Host` of the request.
    #[must_use]
    pub(crate) fn base_url(&self, headers: &HeaderMap, peer: Option<std::net::IpAddr>) -> String {
        if let Some(url) = &self.options.public_url {
            return url.as_str().trim_end_matches('/').to_owned();
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let proxies = &self.options.trusted_proxies;
        let trusted = peer.is_some_and(|peer| proxies.iter().any(|network| network.contains(peer)));
        let forwarded = |name| if trusted { text(name) } else { None };
        let own_scheme = if self.options.tls.is_some() { "https" } else { "http" };
        let scheme = forwarded("x-forwarded-proto")
            .filter(|scheme| matches!(*scheme, "http" | "https"))
            .unwrap_or(own_scheme);
        let host = forwarded("x-forwarded-host").or_else(|| text(header::HOST.as_str()));
        match host.filter(|host| is_authority(host)) {
            Some(host) => format!("{scheme}://{host}"),
            None => format!("{scheme}://{}", self.options.listen),
        }
    }
}

/// Whether a `Host` header may be copied into a URL.
fn is_authority(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 255
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']'))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    use crate::options::ServerOptions;
    use crate::testing::TestServer;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[tokio::test]
    async fn addresses_follow_the_request_and_what_a_trusted_proxy_says_of_it() {
        let server = TestServer::with(ServerOptions {
            trusted_proxies: vec!["10.0.0.0/8".parse().expect("a network")],
            ..ServerOptions::default()
        })
        .await;
        let proxy = Some("::ffff:10.1.1.1".parse().expect("an address"));
        let stranger = Some("192.0.2.1".parse().expect("an address"));
        const HOST: (&str, &str) = ("host", "inside:8080");
        const OUTSIDE: (&str, &str) = ("x-forwarded-host", "slipway.example");
        for (pairs, peer, expected) in [
            (&[HOST][..], stranger, "http://inside:8080"),
            (
                &[HOST, OUTSIDE, ("x-forwarded-proto", "https")],
                proxy,
                "https://slipway.example",
            ),
            (
                &[HOST, OUTSIDE, ("x-forwarded-proto", "https")],
                stranger,
                "http://inside:8080",
            ),
            (
                &[HOST, OUTSIDE, ("x-forwarded-proto", "https")],
                None,
                "http://inside:8080",
            ),
            (
                &[HOST, ("x-forwarded-proto", "javascript")],
                proxy,
                "http://inside:8080",
            ),
            (&[HOST, ("x-forwarded-host", "a/b")], proxy, "http://127.0.0.1:8080"),
            (&[], proxy, "http://127.0.0.1:8080"),
        ] {
            assert_eq!(
                server.app.base_url(&headers(pairs), peer),
                expected,
                "{pairs:?} {peer:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_public_url_beats_what_requests_say() {
        let server = TestServer::with(ServerOptions {
            public_url: Some("https://slipway.example/launch/".parse().expect("an address")),
            ..ServerOptions::default()
        })
        .await;
        let told = headers(&[("host", "inside:8080"), ("x-forwarded-host", "other.example")]);
        assert_eq!(server.app.base_url(&told, None), "https://slipway.example/launch");
    }
}
