//! How to run a server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use crate::proxies::Network;

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

/// Text that is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a rate: give requests per second, such as 50, and after a colon how many may come at once, 50:500"
)]
pub struct RateLimitError(String);

impl FromStr for RateLimit {
    type Err = RateLimitError;

    /// Reads `RATE` or `RATE:BURST`; without the latter ten seconds' worth may come at once.
    fn from_str(text: &str) -> Result<Self, RateLimitError> {
        let fail = || RateLimitError(text.to_owned());
        let number = |text: &str| text.trim().parse().ok().filter(|number: &f64| number.is_finite());
        let (rate, burst) = match text.split_once(':') {
            Some((rate, burst)) => (rate, Some(burst)),
            None => (text, None),
        };
        let per_second = number(rate).filter(|rate| *rate > 0.0).ok_or_else(fail)?;
        let burst = match burst {
            // Below one no request would ever pass.
            Some(burst) => number(burst).filter(|burst| *burst >= 1.0).ok_or_else(fail)?,
            None => (10.0 * per_second).max(1.0),
        };
        Ok(Self { per_second, burst })
    }
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
    pub trusted_proxies: Vec<Network>,
    /// Send clients straight to the object store for the files of artifacts. Storage that only the
    /// server reaches is not affected.
    pub direct_blobs: bool,
    /// Offer the official API only, without any of the additions.
    pub compat_official: bool,
    /// The largest body of a GraphQL or file_stream request, in bytes, after decompression.
    pub max_body: usize,
    /// The largest file that an upload may store, in bytes.
    pub max_upload: u64,
    /// How long a request may take until its answer begins; then it is answered with 503. An upload
    /// is exempt, and so is what an answer streams: downloads, logs, events.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_and_perhaps_a_burst() {
        for (text, expected) in [
            ("50", Some((50.0, 500.0))),
            ("0.5", Some((0.5, 5.0))),
            ("0.01", Some((0.01, 1.0))),
            ("50:80", Some((50.0, 80.0))),
            ("", None),
            ("0", None),
            ("-1", None),
            ("many", None),
            ("inf", None),
            ("NaN", None),
            ("5:0", None),
            ("5:", None),
        ] {
            let parsed = text.parse::<RateLimit>().ok();
            assert_eq!(parsed.map(|limit| (limit.per_second, limit.burst)), expected, "{text}");
        }
    }
}
