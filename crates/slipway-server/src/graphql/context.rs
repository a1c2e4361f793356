//! What resolvers know of the request.

use std::sync::Arc;

use async_graphql::Context;
use slipway_model::Millis;
use slipway_store::Store;

use crate::app::App;
use crate::auth::Principal;
use crate::deliveries::{Claim, Claims};
use crate::uploads::Links;

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
