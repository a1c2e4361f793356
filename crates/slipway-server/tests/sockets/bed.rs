//! A listening server over a store in a temporary directory, and clients that speak to it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use slipway_server::auth::{generate_key, hash_secret, key_hint};
use slipway_server::{Server, ServerOptions};
use slipway_store::Store;
use slipway_store::blobs::{BlobOptions, Blobs};
use slipway_store::identity::NewUser;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long any wait of these tests may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Fails a test that waits too long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(DEADLINE, future).await;
    waited.unwrap_or_else(|_| panic!("{what} took longer than {DEADLINE:?}"))
}

/// The milliseconds of the machine's clock, by which these servers go.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_millis()).unwrap()
}

/// A server that listens.
pub(crate) struct Bed {
    pub(crate) address: SocketAddr,
    pub(crate) store: Store,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    _folder: TempDir,
}

impl Bed {
    pub(crate) async fn start() -> Self {
        Self::with(ServerOptions::default()).await
    }

    pub(crate) async fn with(options: ServerOptions) -> Self {
        let folder = TempDir::new().unwrap();
        let mut durable = slipway_store::Options::sqlite(folder.path().join("data"));
        durable.require_durable = false;
        let store = Store::open(durable).await.unwrap();
        let dir = folder.path().join("blobs");
        let blobs = Blobs::open(&BlobOptions::Local { dir }).unwrap();
        let options = ServerOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            ..options
        };
        let listening = Server::new(options, store.clone(), blobs).bind().await.unwrap();
        let address = listening.address();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(listening.run(async {
            let _either_way = stopped.await;
        }));
        Self {
            address,
            store,
            stop: Some(stop),
            server,
            _folder: folder,
        }
    }

    /// Asks the server to end.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until the server has ended.
    pub(crate) async fn ended(&mut self) {
        soon("the server's end", &mut self.server).await.unwrap();
    }

    /// Makes a user with a key.
    pub(crate) async fn user(&self, name: &str) -> String {
        let user = NewUser {
            username: name.to_owned(),
            name: String::new(),
            email: String::new(),
            admin: false,
            service_of: None,
            password_hash: None,
        };
        self.store.create_user(user, now()).await.unwrap();
        self.key(name, None).await
    }

    /// Makes a key of a user.
    pub(crate) async fn key(&self, name: &str, expires_at: Option<i64>) -> String {
        let key = generate_key();
        let (hash, hint) = (hash_secret(&key), key_hint(&key));
        self.store
            .add_key(name, hash, &hint, "", expires_at, now())
            .await
            .unwrap();
        key
    }

    /// A connection over HTTP/1.1.
    pub(crate) async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let task = tokio::spawn(async move {
            // A server that ends a connection is what some tests are about.
            let _how_it_ended = connection.await;
        });
        Connection { sender, task }
    }

    /// Sends one request over HTTP/2.
    pub(crate) async fn send_by_http2(&self, request: Request<Full<Bytes>>) -> (u16, Vec<u8>) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let task = tokio::spawn(async move {
            let _how_it_ended = connection.await;
        });
        let answer = soon("an answer", sender.send_request(request)).await.unwrap();
        let answer = read(answer).await;
        task.abort();
        answer
    }

    /// A connection over HTTP/2 that lets no byte of an answer's body through.
    pub(crate) async fn connect_without_window(&self) -> (http2::SendRequest<Full<Bytes>>, JoinHandle<()>) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(0);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        let task = tokio::spawn(async move {
            let _how_it_ended = connection.await;
        });
        (sender, task)
    }

    /// Sends one request over a connection of its own.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> (u16, Vec<u8>) {
        let mut connection = self.connect().await;
        read(connection.send(request).await).await
    }

    /// Sends a GraphQL request over a connection of its own.
    pub(crate) async fn graphql(&self, key: &str, query: &str, variables: Value) -> (u16, Value) {
        let (status, body) = self.send(graphql(key, query, &variables)).await;
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&body)));
        (status, body)
    }

    /// The data of a GraphQL request that succeeds.
    pub(crate) async fn data(&self, key: &str, query: &str, variables: Value) -> Value {
        let (status, body) = self.graphql(key, query, variables).await;
        assert_eq!((status, body.get("errors")), (200, None), "{body}");
        body["data"].clone()
    }

    /// Makes a queue in a user's own entity; returns its id.
    pub(crate) async fn queue(&self, key: &str, entity: &str, name: &str) -> String {
        let made = self
            .data(
                key,
                "mutation($e: String!, $n: String!) { upsertRunQueue(input: {entityName: $e, projectName: \
                 \"model-registry\", queueName: $n, resourceType: \"local-container\", resourceConfig: \"{}\"}) \
                 { queue { id } } }",
                json!({"e": entity, "n": name}),
            )
            .await;
        made["upsertRunQueue"]["queue"]["id"].as_str().unwrap().to_owned()
    }

    /// Registers an agent of ours for a queue.
    pub(crate) async fn agent(&self, key: &str, entity: &str, queue: &str) -> String {
        let made = self
            .data(
                key,
                "mutation($e: String!, $q: [ID!]!) { createLaunchAgent(input: {entityName: $e, runQueues: $q, \
                 hostname: \"h\", name: \"a\", instance: \"i\", managed: true}) { launchAgentId } }",
                json!({"e": entity, "q": [queue]}),
            )
            .await;
        made["createLaunchAgent"]["launchAgentId"].as_str().unwrap().to_owned()
    }

    /// The ids of a queue's items, oldest first.
    pub(crate) async fn items(&self, key: &str) -> Vec<String> {
        let listed = "{ runQueues { items(first: 100) { edges { node { id } } } } }";
        let data = self.data(key, listed, json!({})).await;
        let edges = data["runQueues"][0]["items"]["edges"].as_array().unwrap().clone();
        edges
            .iter()
            .map(|edge| edge["node"]["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Opens an event stream.
    pub(crate) async fn events(&self, key: &str, path: &str, last_event_id: Option<&str>) -> Events {
        let mut request = Request::get(path)
            .header(HOST, "localhost")
            .header(AUTHORIZATION, basic(key));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let mut connection = self.connect().await;
        let response = connection.send(request.body(Full::default()).unwrap()).await;
        assert_eq!(response.status(), 200);
        Events {
            body: response.into_body(),
            text: String::new(),
            _connection: connection,
        }
    }
}

/// The header of a key.
pub(crate) fn basic(key: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("api:{key}")))
}

/// A GraphQL request.
pub(crate) fn graphql(key: &str, query: &str, variables: &Value) -> Request<Full<Bytes>> {
    post(
        key,
        "/graphql",
        json!({"query": query, "variables": variables}).to_string(),
    )
}

/// A `POST` with a key.
pub(crate) fn post(key: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path)
        .header(HOST, "localhost")
        .header(AUTHORIZATION, basic(key))
        .body(Full::new(body.into()))
        .unwrap()
}

/// A `GET` with a key.
pub(crate) fn get(key: &str, path: &str) -> Request<Full<Bytes>> {
    Request::get(path)
        .header(HOST, "localhost")
        .header(AUTHORIZATION, basic(key))
        .body(Full::default())
        .unwrap()
}

/// Status and body of an answer.
pub(crate) async fn read(response: Response<Incoming>) -> (u16, Vec<u8>) {
    let status = response.status().as_u16();
    let body = soon("an answer's body", response.into_body().collect()).await.unwrap();
    (status, body.to_bytes().to_vec())
}

/// A client's connection.
pub(crate) struct Connection {
    sender: http1::SendRequest<BoxBody<Bytes, Infallible>>,
    task: JoinHandle<()>,
}

impl Connection {
    pub(crate) async fn send<B>(&mut self, request: Request<B>) -> Response<Incoming>
    where
        B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
    {
        let sent = self.sender.send_request(request.map(BoxBody::new));
        soon("an answer", sent).await.unwrap()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An event of a stream; a comment has only its text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) data: String,
    pub(crate) comment: String,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// An open event stream.
pub(crate) struct Events {
    body: Incoming,
    text: String,
    _connection: Connection,
}

impl Events {
    /// The next event or comment; `None` when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let mut event = Event::default();
                for line in block.lines() {
                    let (field, value) = line.split_once(':').unwrap_or((line, ""));
                    let value = value.strip_prefix(' ').unwrap_or(value);
                    match field {
                        "" => value.clone_into(&mut event.comment),
                        "event" => value.clone_into(&mut event.kind),
                        "id" => value.clone_into(&mut event.id),
                        "data" => event.data.push_str(value),
                        other => panic!("no field of an event: {other}"),
                    }
                }
                self.text = rest.to_owned();
                return Some(event);
            }
            let frame = soon("the next event", self.body.frame()).await?;
            // A connection that is cut ends a stream as well.
            let data = frame.ok()?.into_data().unwrap_or_default();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// The next event of a kind; what comes before it is passed over.
    pub(crate) async fn expect(&mut self, kind: &str) -> Event {
        loop {
            let event = self
                .next()
                .await
                .unwrap_or_else(|| panic!("the stream ended before `{kind}`"));
            if event.kind == kind {
                return event;
            }
        }
    }
}
