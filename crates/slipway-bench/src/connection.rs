//! One HTTP/1.1 connection that is kept open, with as little of its own cost as can be.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use slipway_wire::Document;
use tokio::net::TcpStream;

use crate::server::Server;

/// A connection with its credentials.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    authorization: String,
}

impl Connection {
    /// Connects to the server.
    pub(crate) async fn open(server: &Server) -> Result<Self> {
        let stream = TcpStream::connect(server.address())
            .await
            .context("connecting to the server")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self {
            sender,
            host: server.address(),
            authorization: server.authorization(),
        })
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>> {
        Ok(Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .header("authorization", &self.authorization)
            .header("content-type", "application/json")
            .body(Full::new(body))?)
    }

    /// Sends a prepared GraphQL body; returns of the answer's `data` what `T` has a place for.
    pub(crate) async fn post<T: DeserializeOwned>(&mut self, body: Bytes) -> Result<T> {
        let request = self.request(Method::POST, "/graphql", body)?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let text = response.into_body().collect().await?.to_bytes();
        let told = || format!("{status}: {}", String::from_utf8_lossy(&text[..text.len().min(400)]));
        let answer: Answer<T> = serde_json::from_slice(&text).with_context(told)?;
        match answer.data {
            Some(data) if status.is_success() && answer.errors.is_none() => Ok(data),
            _ => bail!(told()),
        }
    }

    /// Sends a document with its variables.
    pub(crate) async fn call<T: DeserializeOwned>(
        &mut self,
        document: &Document,
        variables: &impl Serialize,
    ) -> Result<T> {
        self.post(body(document, variables)?).await
    }

    /// Sends a GET and returns the answer with its body still to come.
    pub(crate) async fn open_stream(&mut self, path: &str) -> Result<Response<Incoming>> {
        let request = self.request(Method::GET, path, Bytes::new())?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        if !response.status().is_success() {
            bail!("{} for {path}", response.status());
        }
        Ok(response)
    }
}

/// A GraphQL answer.
#[derive(Deserialize)]
struct Answer<T> {
    data: Option<T>,
    errors: Option<IgnoredAny>,
}

/// The body of a GraphQL request.
pub(crate) fn body(document: &Document, variables: &impl Serialize) -> Result<Bytes> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a, V> {
        operation_name: &'a str,
        query: &'a str,
        variables: &'a V,
    }
    let body = Body {
        operation_name: document.name,
        query: document.text,
        variables,
    };
    Ok(Bytes::from(serde_json::to_vec(&body)?))
}
