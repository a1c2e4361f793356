//! The container engine, as far as the measurements need it: a tag of an image, and news of starts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// The image whose tag the measurements run.
const IMAGE: &str = "slipway-test/busybox:1";

/// Where the tag seems to come from: a registry that refuses at once, so that an agent which asks for a
/// newer image in any case is not held up by a network.
const REPOSITORY: &str = "127.0.0.1:1/slipway-bench";

/// An engine with an image of this process.
pub(super) struct Engine {
    socket: PathBuf,
    tag: String,
}

impl Engine {
    /// The engine at `DOCKER_HOST` or at docker's usual socket.
    ///
    /// # Errors
    /// If none answers, or it lacks the image; the error says how to get both.
    pub(super) async fn find() -> Result<Self> {
        let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        let engine = Self {
            socket: host.strip_prefix("unix://").unwrap_or(&host).into(),
            tag: std::process::id().to_string(),
        };
        let path = format!("/images/{IMAGE}/tag?repo={REPOSITORY}&tag={}", engine.tag);
        match engine.call(Method::POST, &path).await {
            Ok(answer) if answer.status().is_success() => Ok(engine),
            _ => bail!(
                "no container engine with the image {IMAGE} answers at {host}; get one with: scripts/docker.sh start"
            ),
        }
    }

    /// The image that jobs run.
    pub(super) fn image(&self) -> String {
        format!("{REPOSITORY}:{}", self.tag)
    }

    /// Takes the tag away again.
    pub(super) async fn close(self) -> Result<()> {
        let answer = self.call(Method::DELETE, &format!("/images/{}", self.image())).await?;
        match answer.status() {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            status => bail!("{status} when the tag {} was removed", self.image()),
        }
    }

    /// Listens for containers of the image that start, from now on.
    pub(super) async fn starts(&self) -> Result<Starts> {
        let filters = "%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22start%22%5D%7D";
        let answer = self.call(Method::GET, &format!("/events?filters={filters}")).await?;
        if !answer.status().is_success() {
            bail!("{} for the engine's events", answer.status());
        }
        Ok(Starts {
            events: answer.into_body(),
            text: Vec::new(),
            image: self.image(),
        })
    }

    async fn call(&self, method: Method, path: &str) -> Result<Response<Incoming>> {
        let stream = connect(&self.socket).await?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "engine")
            .body(Full::new(Bytes::new()))?;
        Ok(sender.send_request(request).await?)
    }
}

async fn connect(socket: &Path) -> Result<UnixStream> {
    UnixStream::connect(socket)
        .await
        .with_context(|| format!("connecting to the container engine at {}", socket.display()))
}

/// Containers that start.
pub(super) struct Starts {
    events: Incoming,
    text: Vec<u8>,
    image: String,
}

impl Starts {
    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Result<()> {
        loop {
            while let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).context("the engine's event is no JSON")?;
                if event["Actor"]["Attributes"]["image"] == self.image.as_str() {
                    return Ok(());
                }
            }
            let frame = self.events.frame().await.context("the engine's events ended")??;
            self.text
                .extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        }
    }
}
