//! Files in and out: `PUT` and `GET /storage/…`, and the addresses of [`by_digest`].
//!
//! Addresses authorise themselves, see [`links`]. Bytes are streamed between the socket and the blob
//! storage and never held as a whole. What a run uploads is never executed on this origin.
//!
//! With [`ServerOptions::direct_blobs`] the files of artifacts do not pass here: clients get
//! addresses of the storage itself, and a commit looks there for what it has not heard of. Manifests
//! and files of runs always pass here, because the server reads or records them.
//!
//! [`ServerOptions::direct_blobs`]: crate::options::ServerOptions::direct_blobs

pub(crate) mod by_digest;
pub(crate) mod content;
pub(crate) mod links;

pub(crate) use content::{content_type, percent_encode};
pub(crate) use links::Links;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use slipway_model::id::RunName;
use slipway_store::blobs::{BlobError, BlobInfo, ByteRange, Expect, Method, SignatureError, path as blob_path};
use slipway_store::runs::RunFile;

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::http::extract::{Path, Query};
use links::{LIFETIME, LinkQuery, run_path};

/// How long what is named by its content may be kept.
const IMMUTABLE: &str = "private, max-age=86400, immutable";

/// Questions to the storage that one commit has under way at a time.
const QUESTIONS: usize = 16;

/// The routes of this module.
pub(crate) fn routes() -> axum::Router<Arc<App>> {
    axum::Router::new()
        .route(
            "/storage/runs/{entity}/{project}/{run}",
            get(get_run_file).put(put_run_file),
        )
        .route("/storage/blobs/{*path}", get(get_blob).put(put_blob))
        .merge(by_digest::routes())
}

impl From<BlobError> for ApiError {
    fn from(error: BlobError) -> Self {
        let code = match &error {
            BlobError::NotFound(_) | BlobError::Path(_) => Code::NotFound,
            BlobError::TooLarge { .. } => Code::TooLarge,
            BlobError::Md5 { .. } | BlobError::Body(_) | BlobError::Range { .. } => Code::BadUserInput,
            BlobError::Unavailable(detail) => {
                tracing::error!(%detail, "the blob storage does not answer");
                return Self::new(Code::Unavailable, "the file storage cannot take the request now");
            }
            _ => return Self::internal(error),
        };
        Self::new(code, error.to_string())
    }
}

impl From<SignatureError> for ApiError {
    fn from(error: SignatureError) -> Self {
        Self::forbidden(error.to_string())
    }
}

type RunPath = Path<(String, String, String)>;

fn run_name(Path((entity, project, run)): RunPath) -> RunName {
    RunName { entity, project, run }
}

async fn put_run_file(
    State(app): State<Arc<App>>,
    path: RunPath,
    Query(query): Query<LinkQuery>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let name = run_name(path);
    query.verify(&app.signer, Method::Put, &run_path(&name), app.now())?;
    let run = app.store.run(&name).await?;
    let run = run.ok_or_else(|| ApiError::not_found("run", &name.to_string()))?;
    let blob = blob_path::run_file(run.number, &query.name);
    let stored = receive(&app, &blob, None, request).await?;
    let file = RunFile {
        name: query.name,
        size: stored.size.try_into().unwrap_or(i64::MAX),
        md5: STANDARD.encode(stored.md5),
        updated_at: app.now(),
    };
    app.store.put_run_file(&name, file).await?;
    Ok(StatusCode::OK)
}

async fn put_blob(
    State(app): State<Arc<App>>,
    Path(blob): Path<String>,
    Query(query): Query<LinkQuery>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    query.verify(&app.signer, Method::Put, &format!("blobs/{blob}"), app.now())?;
    // The path is derived from the digest, so other bytes must never get there.
    let md5 = query
        .md5
        .as_deref()
        .ok_or_else(|| ApiError::forbidden("this address has no digest; ask the server for a new one"))?;
    let stored = receive(&app, &blob, Some(read_md5(md5)?), request).await?;
    let size = stored.size.try_into().unwrap_or(i64::MAX);
    app.store.blob_stored(&blob, size).await?;
    Ok(StatusCode::OK)
}

/// The address of the storage itself for a blob, where clients are sent there.
pub(crate) async fn direct_address(
    app: &App,
    method: Method,
    blob: &str,
    md5: Option<&str>,
) -> Result<Option<String>, ApiError> {
    if !app.options.direct_blobs {
        return Ok(None);
    }
    let term = Duration::from_millis(LIFETIME.unsigned_abs());
    let address = app.blobs.direct_address(method, blob, md5, term).await?;
    Ok(address.map(String::from))
}

/// Records those of the blobs that are stored though nobody said so: an upload straight to the
/// storage does not pass here. What is not there is left to the commit to name.
pub(crate) async fn note_direct_uploads(app: &Arc<App>, blobs: Vec<String>) -> Result<(), ApiError> {
    let unknown = app.store.unknown_blobs(blobs).await?;
    let notes = unknown.into_iter().map(|blob| note_if_stored(Arc::clone(app), blob));
    stream::iter(notes).buffer_unordered(QUESTIONS).try_collect().await
}

async fn note_if_stored(app: Arc<App>, blob: String) -> Result<(), ApiError> {
    match app.blobs.head(&blob).await {
        Ok(info) => {
            let size = info.size.try_into().unwrap_or(i64::MAX);
            Ok(app.store.blob_stored(&blob, size).await?)
        }
        Err(BlobError::NotFound(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Streams the body of an upload into a blob. `md5`: what the address demands.
async fn receive(
    app: &App,
    blob: &str,
    md5: Option<[u8; 16]>,
    request: Request,
) -> Result<slipway_store::blobs::StoredBlob, ApiError> {
    let limit = app.options.max_upload;
    let announced =
        header_text(request.headers(), &header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        // Refused before a byte is read; the limit is checked again while they arrive.
        return Err(BlobError::TooLarge { limit }.into());
    }
    let sent = header_text(request.headers(), &header::HeaderName::from_static("content-md5"))
        .map(read_md5)
        .transpose()?;
    if let (Some(md5), Some(sent)) = (md5, sent)
        && md5 != sent
    {
        return Err(ApiError::bad(
            "Content-MD5 is not the digest that this address was made for",
        ));
    }
    let expect = Expect {
        limit,
        md5: md5.or(sent),
    };
    Ok(app
        .blobs
        .put(blob, request.into_body().into_data_stream(), expect)
        .await?)
}

fn read_md5(text: &str) -> Result<[u8; 16], ApiError> {
    STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| ApiError::bad("Content-MD5 is not the base64 form of an MD5 digest"))
}

async fn get_run_file(
    State(app): State<Arc<App>>,
    path: RunPath,
    Query(query): Query<LinkQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let name = run_name(path);
    query.verify(&app.signer, Method::Get, &run_path(&name), app.now())?;
    let run = app.store.run(&name).await?;
    let run = run.ok_or_else(|| ApiError::not_found("run", &name.to_string()))?;
    let blob = blob_path::run_file(run.number, &query.name);
    send(&app, &blob, &query.name, "no-cache", &headers).await
}

async fn get_blob(
    State(app): State<Arc<App>>,
    Path(blob): Path<String>,
    Query(query): Query<LinkQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    query.verify(&app.signer, Method::Get, &format!("blobs/{blob}"), app.now())?;
    send(&app, &blob, &query.name, IMMUTABLE, &headers).await
}

/// Streams a blob, or the part of it that a `Range` header asks for.
async fn send(app: &App, blob: &str, name: &str, caching: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let wanted = header_text(headers, &header::RANGE).and_then(content::range);
    let read = match app.blobs.get(blob, wanted.unwrap_or(ByteRange::Full)).await {
        Ok(read) => read,
        Err(BlobError::Range { size }) => {
            let mut response = ApiError::bad(format!("the file has {size} bytes")).into_response();
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            response
                .headers_mut()
                .insert(header::CONTENT_RANGE, text(format!("bytes */{size}")));
            return Ok(response);
        }
        Err(BlobError::NotFound(_)) => return Err(ApiError::not_found("file", name)),
        Err(error) => return Err(error.into()),
    };
    let etag = etag(&read.info);
    let known = header_text(headers, &header::IF_NONE_MATCH);
    if known.is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == etag)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, text(etag))]).into_response());
    }
    let (kind, inline) = content_type(name);
    let size = read.info.size;
    let length = read.range.end - read.range.start;
    let mut response = Response::new(Body::from_stream(read.stream));
    if wanted.is_some() && length < size {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {}-{}/{size}", read.range.start, read.range.end.saturating_sub(1));
        response.headers_mut().insert(header::CONTENT_RANGE, text(range));
    }
    let out = response.headers_mut();
    out.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    out.insert(header::CONTENT_DISPOSITION, text(content::disposition(name, inline)));
    out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    out.insert(header::ETAG, text(etag));
    out.insert(header::CACHE_CONTROL, text(caching.to_owned()));
    out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    out.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox"),
    );
    Ok(response)
}

fn etag(info: &BlobInfo) -> String {
    match &info.etag {
        Some(etag) => format!("\"{}\"", etag.trim_matches('"')),
        None => format!("\"{}-{}\"", info.modified_at, info.size),
    }
}

fn header_text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A header value; what a header cannot carry becomes empty.
fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}
