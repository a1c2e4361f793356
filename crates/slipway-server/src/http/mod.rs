//! Routes, and what holds for every request: ids, limits, compression, caught panics.

pub(crate) mod extract;
pub(crate) mod outbox;

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate as _, SizeAbove};
use tower_http::decompression::RequestDecompressionLayer;
use tracing::Instrument as _;

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::graphql::post_graphql;

/// Names a request in answers and in the log.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers below this size are not worth compressing.
const COMPRESS_ABOVE: u64 = 1_400;

/// All routes of the server.
pub(crate) fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/ready", get(ready))
        .merge(crate::file_stream::routes())
        .merge(crate::run_log::routes())
        .merge(crate::streams::routes())
        .merge(crate::output::routes())
        .merge(crate::uploads::routes())
        .route("/metrics", get(crate::metrics::get_metrics))
        .merge(crate::pages::routes())
        // The client's telemetry probe: 404 makes it go quiet.
        .route("/sdk/otel/{*path}", any(not_found))
        .route_layer(middleware::from_fn_with_state(Arc::clone(app), in_time))
        // It keeps time by itself, because its errors have another shape.
        .route("/graphql", post(post_graphql))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(
            CompressionLayer::new()
                .gzip(true)
                .compress_when(DefaultPredicate::new().and(SizeAbove::new(COMPRESS_ABOVE))),
        )
        .layer(RequestDecompressionLayer::new())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(app), hide_additions))
        .layer(middleware::from_fn(observe))
        .with_state(Arc::clone(app))
}

/// Reads a body of at most `limit` bytes (after decompression).
///
/// # Errors
/// `TOO_LARGE` with the limit, or `BAD_USER_INPUT` if the body breaks off.
pub(crate) async fn read_body(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => Err(ApiError::new(
            Code::TooLarge,
            format!("the request body is larger than the {limit} bytes that are accepted here"),
        )),
        Err(error) => Err(ApiError::bad(format!("the request body could not be read: {error}"))),
    }
}

/// The address of the other end of the connection.
#[must_use]
pub(crate) fn peer(extensions: &Extensions) -> Option<IpAddr> {
    extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(address)| address.ip())
}

/// Gives the request an id and a span.
async fn observe(mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let span = tracing::info_span!("request", id = %id, method = %request.method(), path = request.uri().path());
    let value = HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("-"));
    request.headers_mut().insert(REQUEST_ID, value.clone());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().clone();
    let started = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    crate::metrics::request(&route, &method, response.status().as_u16(), started.elapsed());
    span.in_scope(|| tracing::debug!(status = response.status().as_u16(), "answered"));
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

/// Bounds how long a request may take until its answer begins. What an answer then streams takes as
/// long as it takes, and so does an upload.
async fn in_time(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if request.method() == Method::PUT {
        return next.run(request).await;
    }
    let limit = app.options.request_timeout;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => too_slow(limit).into_response(),
    }
}

/// What a request is told that took longer than it may.
pub(crate) fn too_slow(limit: Duration) -> ApiError {
    ApiError::new(
        Code::Unavailable,
        format!("the request took longer than {} s", limit.as_secs()),
    )
}

/// With `--compat official` nothing is below `/slipway/v1` but the streams that our own pages read,
/// with their session.
async fn hide_additions(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (path, headers) = (request.uri().path(), request.headers());
    let of_a_page = request.method() == Method::GET
        && headers.contains_key(header::COOKIE)
        && !headers.contains_key(header::AUTHORIZATION)
        && !path.starts_with("/slipway/v1/agents/");
    if app.options.compat_official && path.starts_with("/slipway/") && !of_a_page {
        return not_found(request).await;
    }
    next.run(request).await
}

/// The caller's id if it is a short word, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    headers
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| {
            (1..=64).contains(&id.len())
                && id
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        })
        .map_or_else(|| format!("{:016x}", rand::random::<u64>()), str::to_owned)
}

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let detail = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("panic without a message");
    ApiError::internal(format!("a handler panicked: {detail}")).into_response()
}

/// The process answers.
async fn health() -> Json<serde_json::Value> {
    Json(json!({"status": "ok"}))
}

/// The store takes requests.
async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.store.ping().await {
        Ok(_) => Json(json!({"status": "ready"})).into_response(),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            ApiError::new(Code::Unavailable, format!("not ready: {error}")).into_response()
        }
    }
}

/// Nothing is there; but what people end with a slash is at the same address without it.
async fn not_found(request: Request) -> Response {
    if let Some(address) = without_slash(request.method(), request.uri()) {
        return Redirect::permanent(&address).into_response();
    }
    ApiError::new(Code::NotFound, format!("nothing is at {}", request.uri().path())).into_response()
}

/// The address of a page that was asked for with a slash at its end.
fn without_slash(method: &Method, uri: &Uri) -> Option<String> {
    let path = uri.path().strip_suffix('/')?;
    // Browsers take two of these for the address of another host.
    let plain = !path.is_empty() && !path.contains("//") && !path.contains('\\') && !path.ends_with('/');
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    (reads && plain).then(|| format!("{path}{query}"))
}

async fn method_not_allowed(request: Request) -> Response {
    let error = ApiError::bad(format!(
        "{} is not answered at {}",
        request.method(),
        request.uri().path()
    ));
    let mut response = error.into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::http::{Method, Uri};
    use slipway_model::queue::check_entity_name;

    #[test]
    fn a_page_with_a_slash_at_its_end_is_without_it() {
        for (address, found) in [
            ("/launch/", Some("/launch")),
            ("/ada/p/?at=1&run=a", Some("/ada/p?at=1&run=a")),
            ("/launch", None),
            ("/", None),
            ("//example.com/", None),
            ("/a//", None),
            ("/\\example.com/", None),
        ] {
            let uri: Uri = address.parse().expect("an address");
            assert_eq!(super::without_slash(&Method::GET, &uri).as_deref(), found, "{address}");
            assert_eq!(super::without_slash(&Method::POST, &uri), None, "{address}");
        }
    }

    /// The texts of the sources below a directory.
    fn sources(directory: &Path, into: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(std::fs::read_to_string(path).expect("a source"));
            }
        }
    }

    /// `/{entity}` is a page: a route beside it would hide the page of an entity of that name. A
    /// router does not tell its routes, so they are read where they are written.
    #[test]
    fn no_entity_is_named_as_a_route_begins() {
        let mut texts = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut texts);
        let call = format!(".{}(", "route");
        let mut found = 0;
        for text in &texts {
            for rest in text.split(call.as_str()).skip(1) {
                let literal = rest
                    .trim_start()
                    .strip_prefix('"')
                    .expect("an address that is written out");
                let address = literal.split('"').next().unwrap_or_default();
                let first = address.split('/').nth(1).unwrap_or_default();
                if !first.is_empty() && !first.starts_with('{') {
                    found += 1;
                    assert!(check_entity_name(first).is_err(), "`{first}` of {address}");
                }
            }
        }
        assert!(found > 20, "only {found} routes were found");
    }
}
