//! A server without a socket, over a store in a temporary directory.

mod access;
mod agents;
mod ends;
mod http;
mod items;
mod places;
mod queues;
mod waits;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use slipway_store::Store;
use slipway_store::blobs::{BlobOptions, Blobs};
use slipway_store::identity::NewUser;
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::app::{App, Clock};
use crate::auth::{generate_key, hash_secret, key_hint};
use crate::deliveries::Claims;
use crate::http::router;
use crate::options::ServerOptions;

/// When tests begin.
pub(crate) const START: i64 = 1_800_000_000_000;

/// See the module.
pub(crate) struct TestServer {
    pub(crate) app: Arc<App>,
    pub(crate) clock: Arc<AtomicI64>,
    router: Router,
    _dir: TempDir,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    claims: Option<Claims>,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// The data of a GraphQL answer without errors.
    pub(crate) fn data(&self) -> Value {
        let body = self.json();
        assert!(body.get("errors").is_none(), "{body}");
        assert_eq!(self.status, StatusCode::OK);
        body["data"].clone()
    }

    /// Status, code and message of a GraphQL error.
    pub(crate) fn error(&self) -> (u16, String, String) {
        let body = self.json();
        let error = &body["errors"][0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (
            self.status.as_u16(),
            text(&error["extensions"]["code"]),
            text(&error["message"]),
        )
    }

    /// The answer reached its client.
    pub(crate) fn delivered(self) {
        for claim in self.claims.map(|claims| claims.take()).unwrap_or_default() {
            claim.delivered();
        }
    }
}

impl TestServer {
    /// A server with defaults.
    pub(crate) async fn new() -> Self {
        Self::with(ServerOptions::default()).await
    }

    /// A server with options.
    pub(crate) async fn with(options: ServerOptions) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let mut store_options = slipway_store::Options::sqlite(dir.path().join("data"));
        store_options.require_durable = false;
        let store = Store::open(store_options).await.expect("a store");
        let blobs = Blobs::open(&BlobOptions::Local {
            dir: dir.path().join("blobs"),
        })
        .expect("a directory for blobs");
        let clock = Arc::new(AtomicI64::new(START));
        let time = Arc::clone(&clock);
        let clock_of_app = Clock::new(move || time.load(Ordering::SeqCst));
        let app = App::new(options, store, blobs, [7; 32], clock_of_app);
        Self {
            router: router(&app),
            app,
            clock,
            _dir: dir,
        }
    }

    /// Makes a user with a key.
    pub(crate) async fn user(&self, name: &str) -> String {
        self.make_user(name, false, None).await
    }

    /// Makes an administrator with a key.
    pub(crate) async fn admin(&self, name: &str) -> String {
        self.make_user(name, true, None).await
    }

    /// Makes a service account with a key.
    pub(crate) async fn service(&self, name: &str, team: &str) -> String {
        self.make_user(name, false, Some(team.to_owned())).await
    }

    async fn make_user(&self, name: &str, admin: bool, service_of: Option<String>) -> String {
        let store = &self.app.store;
        let user = NewUser {
            username: name.to_owned(),
            name: String::new(),
            email: String::new(),
            admin,
            service_of,
            password_hash: None,
        };
        store.create_user(user, START).await.expect("a user");
        let key = generate_key();
        store
            .add_key(name, hash_secret(&key), &key_hint(&key), "", None, START)
            .await
            .expect("a key");
        key
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, milliseconds: i64) {
        self.clock.fetch_add(milliseconds, Ordering::SeqCst);
    }

    /// Sends a request.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let mut response = self.router.clone().oneshot(request).await.expect("an answer");
        let claims = response.extensions_mut().remove::<Claims>();
        Answer {
            status: response.status(),
            headers: response.headers().clone(),
            claims,
            body: response
                .into_body()
                .collect()
                .await
                .expect("a whole body")
                .to_bytes()
                .to_vec(),
        }
    }

    /// Sends a GraphQL request with a key.
    pub(crate) async fn graphql(&self, key: &str, query: &str, variables: Value) -> Answer {
        self.graphql_as(key, &[], query, variables).await
    }

    /// Sends a GraphQL request with a key and further headers.
    pub(crate) async fn graphql_as(
        &self,
        key: &str,
        headers: &[(&str, &str)],
        query: &str,
        variables: Value,
    ) -> Answer {
        let body = json!({"query": query, "variables": variables});
        let mut request = Request::post("/graphql")
            .header(header::AUTHORIZATION, basic(key))
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_string())).expect("a request");
        self.send(request).await
    }

    /// Runs a document of the official client: one that our own client takes from it, or one of
    /// `tests/documents`, which holds the others.
    pub(crate) async fn official(&self, key: &str, name: &str, variables: Value) -> Answer {
        let document = ["tests/documents", "../slipway-wire/graphql/official"]
            .into_iter()
            .find_map(|home| {
                let path = format!("{}/{home}/{name}.graphql", env!("CARGO_MANIFEST_DIR"));
                std::fs::read_to_string(path).ok()
            })
            .expect("a document");
        self.graphql(key, &document, variables).await
    }

    /// Makes a queue on local-process with the official documents; returns its id.
    pub(crate) async fn queue(&self, key: &str, entity: &str, name: &str) -> String {
        let made = self
            .official(
                key,
                "UpsertRunQueue",
                json!({
                    "entityName": entity, "projectName": "model-registry", "queueName": name,
                    "resourceType": "local-container", "resourceConfig": "{}",
                    "prioritizationMode": "V0",
                }),
            )
            .await;
        assert_eq!(made.data()["upsertRunQueue"]["success"], true);
        let found = self
            .official(
                key,
                "GetRunQueueMetadata",
                json!({"entityName": entity, "projectName": "model-registry", "runQueue": name}),
            )
            .await;
        let id = found.data()["project"]["runQueue"]["id"].clone();
        id.as_str().expect("the queue's id").to_owned()
    }
}

/// The header of a key.
pub(crate) fn basic(key: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("api:{key}")))
}
