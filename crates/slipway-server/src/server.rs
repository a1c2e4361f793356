//! The listening server: sockets, TLS, graceful shutdown.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderValue;
use axum::http::header::HOST;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use slipway_store::Store;
use slipway_store::blobs::Blobs;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use crate::app::{App, Clock};
use crate::background;
use crate::http::outbox::{Outbox, Settling};
use crate::http::router;
use crate::metrics;
use crate::options::{ServerOptions, TlsFiles};

/// How long a connection may take to send the head of a request, the wait for the next request on
/// the same connection included. Longer than clients keep idle connections, so that they close first.
const HEAD_TIMEOUT: Duration = Duration::from_secs(150);

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken.
    #[error("{0} is in use by another program; stop it, or choose another address with --listen")]
    InUse(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A TLS file cannot be read or used.
    #[error("cannot use the TLS file {path}: {reason}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The store is not usable.
    #[error(transparent)]
    Store(#[from] slipway_store::Error),
}

/// A server that does not listen yet.
pub struct Server {
    options: ServerOptions,
    store: Store,
    blobs: Blobs,
    clock: Clock,
}

impl Server {
    /// A server over a store and blobs.
    #[must_use]
    pub fn new(options: ServerOptions, store: Store, blobs: Blobs) -> Self {
        Self {
            options,
            store,
            blobs,
            clock: Clock::system(),
        }
    }

    /// Uses another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Starts to listen. Connections wait until [`Listening::run`].
    ///
    /// # Errors
    /// If the address cannot be listened on, a TLS file cannot be used, or the store is away.
    pub async fn bind(self) -> Result<Listening, ServerError> {
        let tls = self.options.tls.as_ref().map(acceptor).transpose()?;
        let address = self.options.listen;
        let listener = TcpListener::bind(address).await.map_err(|source| {
            if source.kind() == std::io::ErrorKind::AddrInUse {
                ServerError::InUse(address)
            } else {
                ServerError::Listen { address, source }
            }
        })?;
        let address = listener
            .local_addr()
            .map_err(|source| ServerError::Listen { address, source })?;
        let signing_key = self.store.signing_key().await?;
        let app = App::new(self.options, self.store, self.blobs, signing_key, self.clock);
        if tls.is_none() && !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "serving plain HTTP on a non-loopback address: keys cross the network unencrypted; \
                 use --tls-cert and --tls-key, or put a TLS proxy in front"
            );
        }
        Ok(Listening {
            listener,
            address,
            tls,
            app,
        })
    }

    /// Listens and serves until `shutdown` resolves and requests have ended.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        self.bind().await?.run(shutdown).await;
        Ok(())
    }
}

/// A server that listens.
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    app: Arc<App>,
}

impl Listening {
    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address to print: `--public-url`, else scheme, host and port, with `localhost` for a
    /// loopback address, because the official agent adapts containers only for that word.
    #[must_use]
    pub fn url(&self) -> String {
        if let Some(url) = &self.app.options.public_url {
            return url.as_str().trim_end_matches('/').to_owned();
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        if self.address.ip().is_loopback() {
            format!("{scheme}://localhost:{}", self.address.port())
        } else {
            format!("{scheme}://{}", self.address)
        }
    }

    /// Serves until `shutdown` resolves. Then nothing new is accepted, event streams end, and
    /// requests have [`ServerOptions::drain_timeout`] to finish.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        metrics::install();
        let background = AbortOnDrop(tokio::spawn(background::run(Arc::clone(&self.app))));
        let router = router(&self.app);
        let graceful = GracefulShutdown::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let (stream, peer) = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors, or a connection that was reset at once.
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = &mut shutdown => break,
            };
            // Answers are single small writes; without this they wait for the peer's ACK.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection ended at once");
                continue;
            }
            tokio::spawn(connection(
                stream,
                peer,
                self.tls.clone(),
                router.clone(),
                graceful.watcher(),
            ));
        }
        drop(self.listener);
        tracing::info!("shutting down: waiting for requests to finish");
        self.app.shutdown.send_replace(true);
        if tokio::time::timeout(self.app.options.drain_timeout, graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("some requests did not finish in time and were cut off");
        }
        drop(background);
        self.app.deliveries.flush(&self.app.store).await;
    }
}

/// A task that ends with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves one connection to its end.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    match tls {
        None => serve(stream, peer, router, watcher).await,
        // Boxed, so that a connection without it does not carry its size.
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Box::pin(serve(stream, peer, router, watcher)).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
        },
    }
}

async fn serve<S>(stream: S, peer: SocketAddr, router: Router, watcher: hyper_util::server::graceful::Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let outbox = Outbox::default();
    let stream = Settling::new(stream, outbox.clone());
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        name_host(&mut request);
        let router = router.clone();
        let outbox = outbox.clone();
        async move {
            let response = router.oneshot(request).await.unwrap_or_else(|never| match never {});
            Ok::<_, Infallible>(outbox.track(response))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .http2()
        .timer(TokioTimer::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(%peer, %error, "a connection ended with an error");
    }
}

/// HTTP/2 names the host in the address; handlers look for it where HTTP/1.1 has it.
fn name_host(request: &mut Request<Incoming>) {
    if request.headers().contains_key(HOST) {
        return;
    }
    let authority = request.uri().authority().map(|authority| authority.as_str());
    if let Some(host) = authority.and_then(|authority| HeaderValue::from_str(authority).ok()) {
        request.headers_mut().insert(HOST, host);
    }
}

/// Reads the PEM files.
fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ServerError> {
    let fail = |path: &PathBuf, reason: String| ServerError::Tls {
        path: path.clone(),
        reason,
    };
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| fail(path, error.to_string()));
    let chain: Vec<CertificateDer<'static>> = rustls_pemfile::certs(&mut read(&files.cert)?.as_slice())
        .collect::<Result<_, _>>()
        .map_err(|error| fail(&files.cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(fail(&files.cert, "it holds no PEM certificate".to_owned()));
    }
    let key: PrivateKeyDer<'static> = rustls_pemfile::private_key(&mut read(&files.key)?.as_slice())
        .map_err(|error| fail(&files.key, error.to_string()))?
        .ok_or_else(|| fail(&files.key, "it holds no PEM private key".to_owned()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fail(&files.cert, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| fail(&files.cert, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
