//! Who makes a request: credentials in, [`Principal`] out.
//!
//! A credential is an API key (`Basic api:<key>` or `Bearer <key>`), a page session (cookie), or the
//! run key of one attempt of a queue item. Keys and sessions are looked up by their SHA-256 and kept
//! for a second, so a revoked key ends within that second on every replica and at once on the one
//! that revokes it. Run keys are not stored: see [`run_key`]. What outlives its request keeps a
//! [`Pass`] and asks again.

mod base62;
mod cache;
mod passwords;
mod rate;
pub(crate) mod run_key;
mod secrets;

pub use passwords::hash_password;
pub(crate) use secrets::generate_session;
pub use secrets::{generate_key, key_hint, stored_key};

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use slipway_model::Millis;
use slipway_model::id::LeaseHandle;
use slipway_model::identity::{Credential, Role};
use slipway_store::Store;
use slipway_store::identity::User;
use tokio::sync::watch;

use crate::error::{ApiError, Code};
use crate::lookup::Lookup;
use crate::options::RateLimit;
use cache::Cache;
use passwords::Passwords;
use rate::Limiter;

/// The cookie of a page session.
pub(crate) const SESSION_COOKIE: &str = "slipway_session";

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The user that the credential speaks for.
    pub(crate) user: User,
    /// The key or session.
    pub(crate) key_id: i64,
    /// What kind of credential it is.
    pub(crate) credential: Credential,
    /// The entities in which the user has a role.
    pub(crate) roles: Vec<(String, Role)>,
    /// The member of its team for whom a service account acts.
    pub(crate) acts_for: Option<String>,
}

impl Principal {
    /// The user to whom what is made is attributed.
    #[must_use]
    pub(crate) fn author(&self) -> &str {
        self.acts_for.as_deref().unwrap_or(&self.user.username)
    }

    /// The entity of operations that name none.
    #[must_use]
    pub(crate) fn default_entity(&self) -> &str {
        &self.user.default_entity
    }
}

impl From<slipway_store::identity::Principal> for Principal {
    fn from(stored: slipway_store::identity::Principal) -> Self {
        Self {
            user: stored.user,
            key_id: stored.key_id,
            credential: stored.credential,
            roles: stored.roles,
            acts_for: None,
        }
    }
}

/// What a request presents, not yet checked.
#[derive(PartialEq, Eq)]
pub(crate) enum Presented {
    /// The text of an API key or run key.
    Key(String),
    /// The text of a session cookie.
    Session(String),
}

/// Resolves credentials.
pub(crate) struct Authenticator {
    signing_key: [u8; 32],
    cache: Cache,
    limiter: Option<Limiter>,
    /// Says that a key, session, role or user changed.
    changed: watch::Sender<()>,
    /// Checks passwords.
    pub(crate) passwords: Passwords,
}

/// A credential that outlives its request, such as that of an event stream. Not counted as a use.
pub(crate) struct Pass(Presented);

impl Authenticator {
    /// An authenticator that checks run keys with this signing key and, if there is a limit, counts
    /// requests per key.
    #[must_use]
    pub(crate) fn new(signing_key: [u8; 32], rate_limit: Option<RateLimit>) -> Self {
        Self {
            signing_key,
            cache: Cache::default(),
            limiter: rate_limit.map(Limiter::new),
            changed: watch::channel(()).0,
            passwords: Passwords::default(),
        }
    }

    /// The run key of a lease, for the spec that a pop hands out.
    #[must_use]
    pub(crate) fn run_key(&self, handle: LeaseHandle) -> String {
        run_key::mint(&self.signing_key, handle)
    }

    /// The lease whose run key this is, whether or not it is still valid.
    #[must_use]
    pub(crate) fn lease_of(&self, run_key: &str) -> Option<LeaseHandle> {
        run_key::verify(&self.signing_key, run_key)
    }

    /// Who makes the request.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if no valid credential is presented, `RATE_LIMITED` if it is used too often.
    pub(crate) async fn authenticate(
        &self,
        store: &Store,
        lookup: &Lookup,
        headers: &HeaderMap,
        now: Millis,
    ) -> Result<Arc<Principal>, ApiError> {
        let pass = Pass(presented(headers)?);
        let principal = self.resolve(store, lookup, &pass, now).await?;
        if let Some(limiter) = &self.limiter
            && !limiter.allow(principal.key_id, now)
        {
            return Err(ApiError::new(
                Code::RateLimited,
                "this key makes more requests than the server accepts; slow down",
            ));
        }
        match named_user(headers) {
            Some(name) => act_for(store, principal, name).await,
            None => Ok(principal),
        }
    }

    /// The credential of a request that was authenticated, for what outlives it.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if none is presented.
    pub(crate) fn pass(&self, headers: &HeaderMap) -> Result<Pass, ApiError> {
        presented(headers).map(Pass)
    }

    /// Who a credential speaks for now.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if it has ended.
    pub(crate) async fn resolve(
        &self,
        store: &Store,
        lookup: &Lookup,
        pass: &Pass,
        now: Millis,
    ) -> Result<Arc<Principal>, ApiError> {
        match &pass.0 {
            Presented::Key(key) if run_key::looks_like(key) => {
                let principal = run_key::resolve(store, lookup, &self.signing_key, key, now).await?;
                Ok(Arc::new(principal))
            }
            Presented::Key(secret) | Presented::Session(secret) => self.look_up(store, secret, now).await,
        }
    }

    /// Forgets what is cached, after a key, session, role or user changed, and lets streams look
    /// whether they may go on.
    pub(crate) fn forget(&self) {
        self.cache.clear();
        self.changed.send_replace(());
    }

    /// Hears of [`Authenticator::forget`] from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    async fn look_up(&self, store: &Store, secret: &str, now: Millis) -> Result<Arc<Principal>, ApiError> {
        let hash = hash_secret(secret);
        if let Some(principal) = self.cache.get(&hash, now) {
            return Ok(principal);
        }
        let stored = store.authenticate(hash, now).await?.ok_or_else(|| {
            ApiError::new(Code::Unauthenticated, "the API key is unknown, expired or revoked")
                .with_hint("make one at /authorize")
        })?;
        let principal = Arc::new(Principal::from(stored));
        self.cache.put(hash, Arc::clone(&principal), now);
        Ok(principal)
    }
}

/// SHA-256 of a key's or session's text, under which the store knows it.
#[must_use]
pub fn hash_secret(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// The credential that a request presents.
///
/// # Errors
/// `UNAUTHENTICATED` if there is none, or it has another form.
pub(crate) fn presented(headers: &HeaderMap) -> Result<Presented, ApiError> {
    let refuse = |message: &str| Err(ApiError::new(Code::Unauthenticated, message));
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let Ok(value) = value.to_str() else {
            return refuse("the Authorization header is not text");
        };
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Presented::Key(rest.trim().to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return refuse("the Authorization header must be `Basic` (user `api`, the key as password) or `Bearer`");
        }
        let pair = STANDARD
            .decode(rest.trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        return match pair.as_deref().and_then(|pair| pair.split_once(':')) {
            Some((_, key)) if !key.is_empty() => Ok(Presented::Key(key.to_owned())),
            _ => refuse("the Authorization header is not `Basic` base64 of `api:<key>`"),
        };
    }
    match session_cookie(headers) {
        // Browsers send cookies with what other sites make them request.
        Some(_) if is_cross_site(headers) => refuse("a request from another site may not use the page session"),
        Some(session) => Ok(Presented::Session(session.to_owned())),
        None => Err(ApiError::new(Code::Unauthenticated, "an API key is needed")
            .with_hint("make one at /authorize, then log in")),
    }
}

/// The value of the session cookie, if the request has one.
#[must_use]
pub(crate) fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, value)| *name == SESSION_COOKIE && !value.is_empty())
        .map(|(_, value)| value)
}

/// Whether a browser says that another site caused the request.
fn is_cross_site(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_some_and(|site| site != "same-origin" && site != "none")
}

/// The user that the request wants its work attributed to.
fn named_user(headers: &HeaderMap) -> Option<&str> {
    headers
        .get("x-wandb-username")
        .and_then(|value| value.to_str().ok())
        .filter(|name| !name.is_empty())
}

/// Honours a named user for service accounts, if it is a member of their team. Otherwise the header
/// means nothing: every client sends one.
async fn act_for(store: &Store, principal: Arc<Principal>, name: &str) -> Result<Arc<Principal>, ApiError> {
    let Some(team) = &principal.user.service_of else {
        return Ok(principal);
    };
    if principal.credential != Credential::User || name == principal.user.username {
        return Ok(principal);
    }
    let members = store.members(team).await?;
    if !members.iter().any(|(user, _)| user.username == name) {
        return Ok(principal);
    }
    let mut named = Principal::clone(&principal);
    named.acts_for = Some(name.to_owned());
    Ok(Arc::new(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().expect("a header value"));
        }
        map
    }

    #[test]
    fn keys_and_sessions_are_read_from_headers() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let cases: [(&str, Vec<(&'static str, String)>, Option<Presented>); 10] = [
            (
                "basic",
                vec![("authorization", basic("api:secret"))],
                Some(Presented::Key("secret".into())),
            ),
            (
                "a key with a colon",
                vec![("authorization", basic("api:a:b"))],
                Some(Presented::Key("a:b".into())),
            ),
            (
                "bearer",
                vec![("authorization", "bearer tok".into())],
                Some(Presented::Key("tok".into())),
            ),
            (
                "cookie",
                vec![("cookie", "a=b; slipway_session=s1".into())],
                Some(Presented::Session("s1".into())),
            ),
            (
                "a key wins over a cookie",
                vec![
                    ("cookie", "slipway_session=s1".into()),
                    ("authorization", "Bearer tok".into()),
                ],
                Some(Presented::Key("tok".into())),
            ),
            (
                "a cookie that another site makes the browser send",
                vec![
                    ("cookie", "slipway_session=s1".into()),
                    ("sec-fetch-site", "cross-site".into()),
                ],
                None,
            ),
            ("nothing", vec![], None),
            ("empty key", vec![("authorization", basic("api:"))], None),
            ("not base64", vec![("authorization", "Basic %%%".into())], None),
            ("another scheme", vec![("authorization", "Digest x".into())], None),
        ];
        for (name, pairs, expected) in cases {
            let pairs: Vec<(&'static str, &str)> = pairs.iter().map(|(k, v)| (*k, v.as_str())).collect();
            let result = presented(&headers(&pairs)).ok();
            assert!(result == expected, "{name}");
        }
    }
}
