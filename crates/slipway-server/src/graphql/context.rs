//! What resolvers know of the request.

use std::sync::Arc;

use async_graphql::Context;
use slipway_model::Millis;
use slipway_store::Store;
use slipway_store::blobs::Method;

use crate::app::App;
use crate::auth::Principal;
use crate::deliveries::{Claim, Claims};
use crate::error::ApiError;
use crate::uploads::{Links, direct_address};

/// Who asks, and through which address.
pub(crate) struct Caller {
    /// The server.
    pub(crate) app: Arc<App>,
    /// Who makes the request.
    pub(crate) principal: Arc<Principal>,
    /// The server's address as the caller sees it, without a trailing slash.
    pub(crate) base_url: String,
    /// When the request came.
    pub(crate) now: Millis,
    /// Pushes whose answers this request's answer carries.
    pub(crate) claims: Claims,
}

impl Caller {
    /// Notes a push whose delivery is confirmed when the request's answer is written.
    pub(crate) fn deliver(&self, claim: Claim) {
        self.claims.add(claim);
    }
}

impl Caller {
    /// Builds addresses of files for this caller.
    pub(crate) fn links(&self) -> Links<'_> {
        Links {
            signer: &self.app.signer,
            base_url: &self.base_url,
            now: self.now,
        }
    }

    /// Where the bytes of an artifact's file are uploaded or downloaded: here, or at the storage.
    pub(crate) async fn blob_address(
        &self,
        method: Method,
        blob: &str,
        name: &str,
        md5: Option<&str>,
    ) -> Result<String, ApiError> {
        let direct = direct_address(&self.app, method, blob, md5).await?;
        Ok(direct.unwrap_or_else(|| self.links().blob(method, blob, name, md5)))
    }
}

/// Access to the [`Caller`] from a resolver.
pub(crate) trait RequestContext {
    /// The request's caller.
    fn caller(&self) -> &Caller;

    /// The server.
    fn app(&self) -> &Arc<App> {
        &self.caller().app
    }

    /// Durable state.
    fn store(&self) -> &Store {
        &self.caller().app.store
    }

    /// Who makes the request.
    fn principal(&self) -> &Principal {
        &self.caller().principal
    }

    /// When the request came.
    fn now(&self) -> Millis {
        self.caller().now
    }
}

impl RequestContext for Context<'_> {
    fn caller(&self) -> &Caller {
        self.data_unchecked::<Caller>()
    }
}

impl RequestContext for Caller {
    fn caller(&self) -> &Caller {
        self
    }
}
