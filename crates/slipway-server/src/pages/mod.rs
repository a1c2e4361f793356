//! Server-rendered pages at the addresses that clients print.
//!
//! Every page works without script; a small script adds local times, live logs and live regions. A
//! page shows what the visitor may see through [`crate::access`] and decides nothing itself. All text
//! from outside is escaped by the templates, and the content security policy allows neither inline
//! script nor inline style.

mod chart;
mod format;
mod frame;
mod icons;
mod items;
mod launch;
pub(crate) mod log;
mod phrases;
mod projects;
mod run;
pub(crate) mod sign_in;
pub(crate) mod visitor;
pub(crate) mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::Markup;
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::error::ApiError;
pub(crate) use sign_in::Guesses;
use words::Language;

const STYLE: &str = include_str!("../../assets/app.css");
const SCRIPT: &str = include_str!("../../assets/app.js");

/// The routes of the pages.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(|| async { Redirect::to("/launch") }))
        .route("/assets/app.css", get(style))
        .route("/assets/app.js", get(script))
        .route("/favicon.ico", get(favicon))
        .route("/login", get(sign_in::show).post(sign_in::submit))
        .route("/logout", post(sign_in::leave))
        .route("/authorize", get(sign_in::authorize).post(sign_in::make_key))
        .route("/launch", get(launch::home))
        .route("/launch/{entity}/{queue}", get(launch::queue))
        .route("/launch/{entity}/{queue}/items/{item}", get(items::show))
        .route("/launch/{entity}/{queue}/items/{item}/cancel", post(items::cancel))
        .route("/launch/{entity}/{queue}/items/{item}/retry", post(items::retry))
        .route("/{entity}", get(projects::entity))
        .route("/{entity}/{project}", get(projects::project))
        .route("/{entity}/{project}/jobs", get(projects::jobs))
        .route("/{entity}/{project}/workspace", get(projects::workspace))
        .route("/{entity}/{project}/runs/{run}", get(run::show))
        .route("/{entity}/{project}/runs/{run}/{tab}", get(run::tab))
        .route("/{entity}/{project}/runs/{run}/stop", post(run::stop))
}

/// A finished page.
#[derive(Debug)]
struct Page(Markup);

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let mut response = self.0.into_string().into_response();
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
                 form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            ),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "same-origin"),
            (header::CACHE_CONTROL, "no-store"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// An error as a page.
#[derive(Debug)]
struct PageError(ApiError);

impl<E: Into<ApiError>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let status = self.0.code.status();
        let retry_after = self.0.code.retry_after();
        let mut response = Page(frame::error(&self.0, Language::English)).into_response();
        *response.status_mut() = status;
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

type PageResult<T = Page> = Result<T, PageError>;

async fn style(request: Request) -> Response {
    asset(request.headers(), STYLE, "text/css; charset=utf-8")
}

async fn script(request: Request) -> Response {
    asset(request.headers(), SCRIPT, "text/javascript; charset=utf-8")
}

/// Browsers ask for it unprompted.
async fn favicon() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// A part of the program that browsers keep and ask about.
fn asset(headers: &HeaderMap, content: &'static str, kind: &'static str) -> Response {
    let digest = Sha256::digest(content);
    let etag = format!(
        "\"{}\"",
        digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    );
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let mut response = if known.is_some_and(|known| known.trim_start_matches("W/") == etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        content.into_response()
    };
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(etag) = HeaderValue::try_from(etag) {
        out.insert(header::ETAG, etag);
    }
    response
}

#[cfg(test)]
mod tests;
