//! How to run a server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

/// PEM files for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, the server's own certificate first.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A token bucket per key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// Requests per second that are sustained.
    pub per_second: f64,
    /// Requests that may come at once after a pause.
    pub burst: f64,
}

/// How to run a server. [`ServerOptions::default`] serves plain HTTP on the loopback address.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The address under which clients reach the server. Without one, URLs follow the `Host` of the
    /// request that asks for them.
    pub public_url: Option<Url>,
    /// Serve HTTPS (HTTP/1.1 and HTTP/2).
    pub tls: Option<TlsFiles>,
    /// Peers whose `X-Forwarded-Host` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Send clients straight to the object store for the files of artifacts. Storage that only the
    /// server reaches is not affected.
    pub direct_blobs: bool,
    /// Offer the official API only, without any of the additions.
    pub compat_official: bool,
    /// The largest body of a GraphQL or file_stream request, in bytes, after decompression.
    pub max_body: usize,
    /// The largest file that an upload may store, in bytes.
    pub max_upload: u64,
    /// How long a request may take before it is answered with 503. Uploads, downloads and event
    /// streams are exempt.
    pub request_timeout: Duration,
    /// How long requests may go on after shutdown was asked for.
    pub drain_timeout: Duration,
    /// Requests per key. `None` sets no limit, which is the default: an installation on one machine
    /// or behind its own proxy needs none.
    pub rate_limit: Option<RateLimit>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            public_url: None,
            tls: None,
            trusted_proxies: Vec::new(),
            direct_blobs: false,
            compat_official: false,
            max_body: 64 << 20,
            max_upload: 64 << 30,
            request_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(20),
            rate_limit: None,
        }
    }
}
