//! Requests and answers: authentication, classification of errors, repetition.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use slipway_wire::Document;
use slipway_wire::graphql::{Request, Response};
use tokio::sync::OnceCell;

use crate::error::{Error, Refusal, Result};
use crate::options::ClientOptions;
use crate::retry::{Backoff, Notice, Retry, Waiting};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// The longest document, in bytes, that arrives at once. A longer one may take its time on a slow line.
const SMALL: usize = 64 * 1024;

/// What an attempt that begins when patience ends is given.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// The most that an error page adds to a message.
const EXCERPT: usize = 300;

/// A handle to a server; cheap to clone. Clones share connections and what is known of the server.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    username: Option<Arc<str>>,
    retry: Retry,
    notice: Option<Notice>,
}

struct Shared {
    http: reqwest::Client,
    base: Url,
    server: String,
    api_key: Option<String>,
    timeout: Duration,
    features: OnceCell<BTreeSet<String>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.shared.server)
            .field("username", &self.username)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// Whether a repetition of a call is harmless once the first attempt may have reached the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It is.
    Harmless,
    /// It is not: the call is repeated only if the first attempt surely had no effect.
    OnlyIfNoEffect,
}

impl Client {
    /// A client. Passing failures are repeated for 30 seconds; see [`Self::with_retry`].
    ///
    /// # Errors
    /// [`Error::Invalid`] if the address is not an `http` or `https` address, or the TLS
    /// configuration of this machine cannot be used.
    pub fn new(options: ClientOptions) -> Result<Self> {
        let base = parse_base(&options.base_url)?;
        let server = base.as_str().trim_end_matches('/').to_owned();
        let http = reqwest::Client::builder()
            .user_agent(options.user_agent)
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| Error::invalid(format!("cannot set up connections to {server}: {}", causes(&error))))?;
        Ok(Self {
            shared: Arc::new(Shared {
                http,
                base,
                server,
                api_key: options.api_key,
                timeout: options.timeout,
                features: OnceCell::new(),
            }),
            username: options.username.map(Arc::from),
            retry: Retry::For(Duration::from_secs(30)),
            notice: None,
        })
    }

    /// The same client with another patience.
    #[must_use]
    pub fn with_retry(&self, retry: Retry) -> Self {
        Self { retry, ..self.clone() }
    }

    /// The same client, which tells somebody once the server has kept a call waiting for so long: with
    /// the failure after which the call is tried again, or none if the first attempt has no answer yet.
    /// It tells once, until the server has answered. Transfers of files may take their time.
    #[must_use]
    pub fn on_wait(&self, after: Duration, tell: impl Fn(Option<&Error>) + Send + Sync + 'static) -> Self {
        Self {
            notice: Some(Notice::new(after, tell)),
            ..self.clone()
        }
    }

    /// The same client on behalf of a user; servers heed it only for service accounts.
    #[must_use]
    pub fn acting_for(&self, username: &str) -> Self {
        Self {
            username: Some(Arc::from(username)),
            ..self.clone()
        }
    }

    /// The server's address, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.shared.server
    }

    /// The API key, for handing on to a job.
    #[must_use]
    pub fn api_key(&self) -> Option<&str> {
        self.shared.api_key.as_deref()
    }

    pub(crate) const fn retry(&self) -> Retry {
        self.retry
    }

    pub(crate) const fn notice(&self) -> Option<&Notice> {
        self.notice.as_ref()
    }

    pub(crate) fn features_cell(&self) -> &OnceCell<BTreeSet<String>> {
        &self.shared.features
    }

    /// Sends a document and reads the whole `data` of the answer.
    pub(crate) async fn call<V, A>(&self, document: &Document, variables: V) -> Result<A>
    where
        V: Serialize,
        A: DeserializeOwned,
    {
        self.call_with(document, variables, Repeat::Harmless).await
    }

    /// As [`Self::call`], for calls that must not be repeated blindly.
    pub(crate) async fn call_with<V, A>(&self, document: &Document, variables: V, repeat: Repeat) -> Result<A>
    where
        V: Serialize,
        A: DeserializeOwned,
    {
        self.exchange(document, variables, repeat, Waiting::from_now(self.notice()))
            .await
    }

    /// As [`Self::call`], for what a server works on before it answers.
    pub(crate) async fn call_at_length<V, A>(&self, document: &Document, variables: V) -> Result<A>
    where
        V: Serialize,
        A: DeserializeOwned,
    {
        let waiting = Waiting::after_failure(self.notice());
        self.exchange(document, variables, Repeat::Harmless, waiting).await
    }

    async fn exchange<V, A>(&self, document: &Document, variables: V, repeat: Repeat, mut waiting: Waiting) -> Result<A>
    where
        V: Serialize,
        A: DeserializeOwned,
    {
        let request = serde_json::to_vec(&Request::new(document, variables))
            .map_err(|error| Error::invalid(format!("`{}` cannot be sent: {error}", document.name)))?;
        let request = bytes::Bytes::from(request);
        if request.len() > SMALL {
            waiting = Waiting::after_failure(self.notice());
        }
        let ask = || async {
            self.authorized(Method::POST, self.url("graphql", &[]))
                .timeout(self.shared.timeout)
                .header(CONTENT_TYPE, "application/json")
                .body(request.clone())
                .send()
                .await
                .map_err(|error| self.transport(&error))
        };
        let read = |response: reqwest::Response| async {
            let (status, headers) = (response.status(), response.headers().clone());
            let address = response.url().clone();
            let body = response.bytes().await.map_err(|error| self.transport(&error))?;
            if let Some(answer) = other_site(status, &headers, &body) {
                let address = without_query(address);
                return Err(Error::Elsewhere { address, answer });
            }
            self.read_graphql(document.name, status, &headers, &body)
        };
        self.repeat_while(waiting, repeat, ask, read).await
    }

    fn read_graphql<A: DeserializeOwned>(
        &self,
        operation: &str,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<A> {
        let Ok(response) = serde_json::from_slice::<Response>(body) else {
            return Err(if status.is_success() {
                self.protocol(format!("`{operation}`: not a GraphQL answer: {}", excerpt(body)))
            } else {
                self.refused(status, headers, None, excerpt(body), None)
            });
        };
        if let Some(message) = response.message() {
            let hint = response.hint().map(str::to_owned);
            return Err(self.refused(status, headers, response.code(), message, hint));
        }
        if !status.is_success() {
            return Err(self.refused(status, headers, None, excerpt(body), None));
        }
        A::deserialize(response.data.unwrap_or(Value::Null))
            .map_err(|error| self.protocol(format!("`{operation}`: {error}")))
    }

    /// Repeats an attempt as the client's patience and the kind of call allow.
    pub(crate) async fn repeat<A, F>(&self, repeat: Repeat, attempt: impl Fn() -> F) -> Result<A>
    where
        F: Future<Output = Result<A>>,
    {
        let waiting = Waiting::after_failure(self.notice());
        self.repeat_while(waiting, repeat, attempt, |done| std::future::ready(Ok(done)))
            .await
    }

    /// `begin` ends when the server answers; `finish` reads the answer, which may be long.
    async fn repeat_while<B, A, F, G>(
        &self,
        mut waiting: Waiting,
        repeat: Repeat,
        begin: impl Fn() -> F,
        finish: impl Fn(B) -> G,
    ) -> Result<A>
    where
        F: Future<Output = Result<B>>,
        G: Future<Output = Result<A>>,
    {
        let mut backoff = Backoff::default();
        loop {
            let attempted = match waiting.during(self.bounded(&waiting, begin())).await {
                Ok(begun) => finish(begun).await,
                Err(error) => Err(error),
            };
            let error = match attempted {
                Ok(answer) => {
                    waiting.answered();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let harmless = repeat == Repeat::Harmless || error.had_no_effect();
            if !(error.is_passing() && harmless && self.retry.permits(waiting.elapsed())) {
                return Err(error);
            }
            let asked = match &error {
                Error::Unavailable { retry_after, .. } => *retry_after,
                _ => None,
            };
            let wait = self.retry.cut(backoff.next(asked), waiting.elapsed());
            tracing::debug!(%error, ?wait, "trying again");
            waiting.failed(&error);
            waiting.during(tokio::time::sleep(wait)).await;
        }
    }

    /// An attempt that ends with the patience for its call, if that is one which a server answers at once: one
    /// that is silent is given up like one that is not there. What takes its time, as the rest of an answer
    /// does, has bounds of its own.
    async fn bounded<A>(&self, waiting: &Waiting, attempt: impl Future<Output = Result<A>>) -> Result<A> {
        let (Retry::For(patience), true) = (self.retry, waiting.is_impatient()) else {
            return attempt.await;
        };
        let left = patience.saturating_sub(waiting.elapsed()).max(LAST_CHANCE);
        match tokio::time::timeout(left, attempt).await {
            Ok(answer) => answer,
            Err(_) => Err(self.silent(format!("no answer in {} s", waiting.elapsed().as_secs()))),
        }
    }

    /// An address below the server's, with a query.
    pub(crate) fn url(&self, path: &str, query: &[(&str, String)]) -> Url {
        let mut url = self.shared.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// An address whose segments may hold any character.
    pub(crate) fn url_of_segments(&self, segments: &[&str], query: &[(&str, String)]) -> Url {
        let mut url = self.url("", query);
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// A request to the server itself, with credentials.
    pub(crate) fn authorized(&self, method: Method, url: Url) -> RequestBuilder {
        let mut request = self.shared.http.request(method, url).header(ACCEPT, "application/json");
        if let Some(key) = &self.shared.api_key {
            request = request.basic_auth("api", Some(key));
        }
        if let Some(username) = &self.username {
            request = request.header("X-Wandb-Username", username.as_ref());
        }
        request
    }

    /// A request to an address that authorises itself: no credentials leave for it. Addresses that
    /// name no host are below the server's.
    pub(crate) fn signed(&self, method: Method, address: &str) -> Result<RequestBuilder> {
        let url = self
            .shared
            .base
            .join(address)
            .map_err(|error| self.protocol(format!("an address for a file is malformed: {error}")))?;
        Ok(self.shared.http.request(method, url))
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.shared.timeout
    }

    /// Turns an answer that is not a success into an error.
    pub(crate) async fn check(&self, response: reqwest::Response) -> Result<reqwest::Response> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let headers = response.headers().clone();
        let body = response.bytes().await.unwrap_or_default();
        let parsed: Option<Response> = serde_json::from_slice(&body).ok();
        let message = parsed
            .as_ref()
            .and_then(Response::message)
            .unwrap_or_else(|| excerpt(&body));
        let hint = parsed.as_ref().and_then(Response::hint).map(str::to_owned);
        let code = parsed.as_ref().and_then(Response::code);
        Err(self.refused(status, &headers, code, message, hint))
    }

    /// Classifies a refusal by its code, else by its status.
    fn refused(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        code: Option<&str>,
        message: String,
        hint: Option<String>,
    ) -> Error {
        let message = if message.is_empty() {
            status.to_string()
        } else {
            message
        };
        let server = self.shared.server.clone();
        let retry_after = retry_after(headers);
        let refusal = Refusal { message, hint };
        match (code, status.as_u16()) {
            (Some("UNAUTHENTICATED"), _) | (None, 401) => Error::Unauthorized { server, refusal },
            (Some("FORBIDDEN"), _) | (None, 403) => Error::Forbidden(refusal),
            (Some("NOT_FOUND"), _) | (None, 404 | 410) => Error::NotFound(refusal),
            (Some("CONFLICT"), _) | (None, 409) => Error::Conflict(refusal),
            (Some("BAD_USER_INPUT"), _) => Error::Invalid(refusal),
            (Some("UNAVAILABLE"), _) | (_, 408 | 429 | 500 | 502..=599) => Error::Unavailable {
                server,
                message: refusal.message,
                retry_after,
            },
            (_, 501) => self.protocol(refusal.message),
            _ => Error::Invalid(refusal),
        }
    }

    pub(crate) fn transport(&self, error: &reqwest::Error) -> Error {
        if is_damaged(error) || error.is_builder() {
            return self.protocol(causes(error));
        }
        Error::Transport {
            server: self.shared.server.clone(),
            message: causes(error),
            sent: !error.is_connect(),
        }
    }

    pub(crate) fn protocol(&self, message: impl Into<String>) -> Error {
        Error::Protocol {
            server: self.shared.server.clone(),
            message: message.into(),
        }
    }

    pub(crate) fn silent(&self, message: impl Into<String>) -> Error {
        Error::Transport {
            server: self.shared.server.clone(),
            message: message.into(),
            sent: true,
        }
    }
}

/// Whether an answer came whole and yet cannot be unpacked. The HTTP client reports one that broke
/// off in the same way, although that passes.
fn is_damaged(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What came, if it is of a web site, and not the word of a server or of a gateway before it.
fn other_site(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<String> {
    if matches!(status.as_u16(), 401 | 403 | 408 | 429 | 500..) {
        return None;
    }
    let declared = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = declared
        .and_then(|kind| kind.split(';').next())
        .unwrap_or_default()
        .trim();
    if kind.eq_ignore_ascii_case("text/html") || body.trim_ascii_start().starts_with(b"<") {
        let title = title(&excerpt(body)).map(|title| format!(" titled `{title}`"));
        return Some(format!(
            "it answered {status} with a web page{}",
            title.unwrap_or_default()
        ));
    }
    // What speaks GraphQL says itself what it does not find.
    let silent = || serde_json::from_slice::<Response>(body).map_or(true, |response| response.message().is_none());
    (matches!(status.as_u16(), 404 | 405) && silent()).then(|| format!("it answered {status}"))
}

/// The title of a page.
fn title(page: &str) -> Option<&str> {
    let (_, rest) = page.split_once("<title>")?;
    let (title, _) = rest.split_once("</title>")?;
    Some(title.trim()).filter(|title| !title.is_empty())
}

/// An address as it may be shown.
fn without_query(mut url: Url) -> String {
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

fn parse_base(text: &str) -> Result<Url> {
    let mut base = Url::parse(text.trim())
        .map_err(|error| Error::invalid(format!("`{text}` is not a server address: {error}")))?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(Error::invalid(format!(
            "`{text}` is not a server address: it must begin with http:// or https:// and name a host"
        )));
    }
    base.set_query(None);
    base.set_fragment(None);
    // Credentials in an address would end up in messages; the key has its own place.
    if !base.username().is_empty() || base.password().is_some() {
        return Err(Error::invalid(
            "a server address carries no credentials: give the API key by `WANDB_API_KEY` or `slipway login`",
        ));
    }
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    Ok(base)
}

/// Seconds; servers that answer a date are asked again as if they had said nothing.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// An error with its causes, without addresses: those of files are signed.
fn causes(error: &reqwest::Error) -> String {
    let mut text = match (error.is_timeout(), error.is_connect()) {
        (true, _) => "no answer in time".to_owned(),
        (_, true) => "no connection".to_owned(),
        _ => "the connection broke".to_owned(),
    };
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.source().is_none() {
            text.push_str(": ");
            text.push_str(&cause.to_string());
        }
        source = cause.source();
    }
    text
}

fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT)]);
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(EXCERPT)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Client, Repeat, excerpt, other_site};
    use crate::error::Error;
    use crate::options::ClientOptions;
    use crate::retry::{Retry, Waiting};
    use reqwest::StatusCode;
    use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
    use serde_json::{Value, json};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;
    use tokio::time::Instant;

    fn client(base: &str) -> Client {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Client::new(ClientOptions::new(base, Some("secret-key".to_owned()))).unwrap()
    }

    /// Answers one connection with these bytes, and closes it.
    async fn answer(bytes: &'static [u8]) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            // A body that is left unread would reset the connection.
            let head = String::from_utf8(request).unwrap().to_ascii_lowercase();
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next());
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            stream.read_exact(&mut body).await.unwrap();
            stream.write_all(bytes).await.unwrap();
        });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_passes_and_a_damaged_one_does_not() {
        for (what, bytes, passing) in [
            (
                "half a body",
                &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"[..],
                true,
            ),
            (
                "half the chunks",
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
                true,
            ),
            (
                "half a gzip body",
                b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 99\r\n\r\n\x1f\x8b\x08\x00\x00",
                true,
            ),
            (
                "no gzip body",
                b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 12\r\n\r\nnot zipped!!",
                false,
            ),
        ] {
            let client = client(&answer(bytes).await);
            let response = client
                .signed(reqwest::Method::GET, "file")
                .unwrap()
                .send()
                .await
                .unwrap();
            let error = client.transport(&response.bytes().await.unwrap_err());
            assert_eq!(error.is_passing(), passing, "{what}: {error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_when_it_says_and_somebody_hears_of_it_meanwhile() {
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        let client = client("http://h").on_wait(Duration::from_secs(2), move |error| {
            assert!(matches!(error, Some(Error::Transport { .. })), "{error:?}");
            count.fetch_add(1, Ordering::Relaxed);
        });
        let patient = client.with_retry(Retry::For(Duration::from_secs(20)));
        let begin = Instant::now();
        let refuse = || async { Err::<(), _>(client.silent("nobody is there")) };
        let error = patient.repeat(Repeat::Harmless, refuse).await.unwrap_err();
        assert!(matches!(error, Error::Transport { .. }), "{error:?}");
        // The clock of such a test stands still but for the waits.
        assert_eq!(begin.elapsed().as_secs(), 20);
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_given_up_as_soon_as_an_absent_one_unless_the_call_takes_its_time() {
        let client = client("http://h").with_retry(Retry::For(Duration::from_secs(20)));
        let silent = || async {
            tokio::time::sleep(Duration::from_secs(29)).await;
            Ok::<_, Error>(())
        };
        let whole = |()| std::future::ready(Ok(()));
        let begin = Instant::now();
        let error = client
            .repeat_while(Waiting::from_now(None), Repeat::Harmless, silent, whole)
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "cannot reach http://h: no answer in 20 s");
        assert!(error.is_passing() && !error.had_no_effect());
        assert_eq!(begin.elapsed().as_secs(), 20);
        // A transfer, and one who waits for ever.
        client.repeat(Repeat::Harmless, silent).await.unwrap();
        let patient = client.with_retry(Retry::Forever);
        let waiting = Waiting::from_now(None);
        patient
            .repeat_while(waiting, Repeat::Harmless, silent, whole)
            .await
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_has_begun_may_take_longer_than_a_silent_server_is_waited_for() {
        let client = client("http://h").with_retry(Retry::For(Duration::from_secs(20)));
        let head = || async {
            tokio::time::sleep(Duration::from_secs(19)).await;
            Ok::<_, Error>(())
        };
        let rest = |()| async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            Ok(1)
        };
        let begin = Instant::now();
        let answer = client.repeat_while(Waiting::from_now(None), Repeat::Harmless, head, rest);
        assert_eq!(answer.await.unwrap(), 1);
        assert_eq!(begin.elapsed().as_secs(), 28);
    }

    #[test]
    fn addresses_keep_the_path_of_the_base() {
        for (base, path, expected) in [
            ("http://h:1", "graphql", "http://h:1/graphql"),
            ("http://h:1/", "graphql", "http://h:1/graphql"),
            ("https://h/wandb", "graphql", "https://h/wandb/graphql"),
            (
                "https://h/wandb/",
                "slipway/v1/events",
                "https://h/wandb/slipway/v1/events",
            ),
        ] {
            assert_eq!(client(base).url(path, &[]).as_str(), expected);
        }
        let url = client("http://h/x").url_of_segments(&["files", "a b", "c/d"], &[("q", "1&2".to_owned())]);
        assert_eq!(url.as_str(), "http://h/x/files/a%20b/c%2Fd?q=1%262");
    }

    #[test]
    fn addresses_that_cannot_be_a_server_are_refused_with_the_reason() {
        for base in ["", "localhost:8080", "ftp://h", "http://", "http://user:password@h"] {
            let error = Client::new(ClientOptions::new(base, None)).unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{base}: {error}");
            assert!(!error.to_string().contains("password"), "{error}");
        }
    }

    #[test]
    fn refusals_are_classified_by_code_then_by_status() {
        let client = client("http://h");
        let coded = |code: &str| json!({"errors": [{"message": "m", "extensions": {"code": code}}]});
        let plain = json!({"errors": [{"message": "m"}]});
        for (status, body, kind, passing) in [
            (401, plain.clone(), "Unauthorized", false),
            (403, plain.clone(), "Forbidden", false),
            (404, plain.clone(), "NotFound", false),
            (409, plain.clone(), "Conflict", false),
            (400, plain.clone(), "Invalid", false),
            (200, plain.clone(), "Invalid", false),
            (429, plain.clone(), "Unavailable", true),
            (500, plain.clone(), "Unavailable", true),
            (503, plain, "Unavailable", true),
            (501, json!({}), "Protocol", false),
            (200, coded("NOT_FOUND"), "NotFound", false),
            (200, coded("UNAUTHENTICATED"), "Unauthorized", false),
            (400, coded("BAD_USER_INPUT"), "Invalid", false),
            (503, coded("UNAVAILABLE"), "Unavailable", true),
            (500, coded("INTERNAL"), "Unavailable", true),
        ] {
            let bytes = body.to_string();
            let status = StatusCode::from_u16(status).unwrap();
            let error = client
                .read_graphql::<Value>("Op", status, &HeaderMap::new(), bytes.as_bytes())
                .unwrap_err();
            assert!(format!("{error:?}").starts_with(kind), "{status} {body}: {error:?}");
            assert_eq!(error.is_passing(), passing, "{error:?}");
        }
    }

    #[test]
    fn another_web_site_at_the_address_is_told_from_a_server_and_from_a_gateway() {
        let html = "text/html; charset=utf-8";
        let page = "<!DOCTYPE html>\n<html><head><title>Welcome\n to nginx</title></head></html>";
        let titled = "with a web page titled `Welcome to nginx`";
        for (status, kind, body, found) in [
            (200, html, page, Some(titled)),
            (404, html, page, Some(titled)),
            (
                405,
                html,
                "<html></html>",
                Some("405 Method Not Allowed with a web page"),
            ),
            (200, "", page, Some(titled)),
            (
                404,
                "text/plain",
                "404 page not found",
                Some("it answered 404 Not Found"),
            ),
            (
                404,
                "application/json",
                r#"{"detail": "Not Found"}"#,
                Some("it answered 404 Not Found"),
            ),
            (200, "application/json", r#"{"data": {}}"#, None),
            (404, "application/json", r#"{"errors": [{"message": "m"}]}"#, None),
            (404, "application/json", r#"{"error": "m"}"#, None),
            (200, "text/plain", "half an ans", None),
            // A gateway before a server.
            (401, html, page, None),
            (403, html, page, None),
            (429, html, page, None),
            (502, html, page, None),
            (503, html, page, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            let status = StatusCode::from_u16(status).unwrap();
            let answer = other_site(status, &headers, body.as_bytes());
            match (&answer, found) {
                (Some(text), Some(part)) => assert!(text.contains(part), "{status} {body}: {text}"),
                (answer, found) => assert_eq!(answer.is_some(), found.is_some(), "{status} {body}: {answer:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_web_page_at_the_address_is_told_with_the_address() {
        let page =
            b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>";
        let base = answer(page).await;
        let error = client(&base).viewer().await.unwrap_err();
        let text = format!("{base}/graphql is not the API of W&B or Slipway: it answered 200 OK with a web page");
        assert_eq!(error.to_string(), text);
        assert!(!error.is_passing());
    }

    #[test]
    fn a_server_may_say_when_to_come_back() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        let error = client("http://h")
            .read_graphql::<Value>("Op", StatusCode::SERVICE_UNAVAILABLE, &headers, b"<html>busy</html>")
            .unwrap_err();
        let Error::Unavailable {
            retry_after, message, ..
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
        assert_eq!(message, "<html>busy</html>");
    }

    #[test]
    fn keys_appear_in_no_debug_text() {
        let options = ClientOptions::new("http://h", Some("secret-key".to_owned()));
        assert!(!format!("{options:?}").contains("secret"));
        assert!(!format!("{:?}", client("http://h")).contains("secret"));
    }

    #[test]
    fn excerpts_are_short_and_on_one_line() {
        assert_eq!(excerpt(b"a\n  b\r\n"), "a b");
        assert!(excerpt(&[b'x'; 100_000]).len() <= 300);
        assert_eq!(excerpt(&[0xff, 0xfe]), "\u{fffd}\u{fffd}");
    }
}
