//! Who looks at a page, in which language, and from where a form was sent.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Form, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::de::DeserializeOwned;
use slipway_model::Millis;

use super::PageError;
use super::words::Language;
use crate::app::App;
use crate::auth::Principal;
use crate::error::{ApiError, Code};
use crate::http::peer;
use crate::uploads::percent_encode;

/// A visitor who has signed in. Others are sent to the sign-in page and come back.
pub(super) struct Visitor {
    /// Who it is.
    pub(super) principal: Arc<Principal>,
    /// The language of the page.
    pub(super) language: Language,
    /// When the request came.
    pub(super) now: Millis,
}

impl FromRequestParts<Arc<App>> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let now = app.now();
        match app.authenticate(&parts.headers).await {
            Ok(principal) => Ok(Self {
                principal,
                language: language(&parts.headers),
                now,
            }),
            Err(error) if error.code == Code::Unauthenticated => {
                let here = parts.uri.path_and_query().map_or("/launch", |here| here.as_str());
                Err(Redirect::to(&format!("/login?next={}", percent_encode(here))).into_response())
            }
            Err(error) => Err(PageError(error).into_response()),
        }
    }
}

/// The language that a browser prefers.
pub(super) fn language(headers: &HeaderMap) -> Language {
    Language::preferred(
        headers
            .get(header::ACCEPT_LANGUAGE)
            .and_then(|value| value.to_str().ok()),
    )
}

/// A part of a request for a page, whose refusal is a page.
pub(super) struct OfPage<E>(pub(super) E);

impl<S: Send + Sync, E: FromRequestParts<S, Rejection = ApiError>> FromRequestParts<S> for OfPage<E> {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, PageError> {
        Ok(Self(E::from_request_parts(parts, state).await?))
    }
}

/// The fields of a form.
pub(super) struct Fields<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Fields<T> {
    type Rejection = PageError;

    async fn from_request(request: Request, state: &S) -> Result<Self, PageError> {
        match Form::from_request(request, state).await {
            Ok(Form(fields)) => Ok(Self(fields)),
            Err(rejection) => {
                let code = match rejection.status() {
                    StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
                    _ => Code::BadUserInput,
                };
                Err(PageError(ApiError::new(
                    code,
                    format!("the form: {}", rejection.body_text()),
                )))
            }
        }
    }
}

/// Proof that a form was sent from one of our own pages: another site cannot use a visitor's session.
pub(super) struct OwnForm;

impl FromRequestParts<Arc<App>> for OwnForm {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let text = |name: header::HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let site = text(header::HeaderName::from_static("sec-fetch-site"));
        let origin = text(header::ORIGIN);
        let own = app.base_url(&parts.headers, peer(&parts.extensions));
        if is_own(site, origin, &own) {
            Ok(Self)
        } else {
            let error = ApiError::forbidden("this form was sent from another site")
                .with_hint("open the page here and send the form from it");
            Err(PageError(error).into_response())
        }
    }
}

/// Browsers say where a form comes from by `Sec-Fetch-Site` or, older ones, by `Origin`. What says
/// neither is no browser and carries no session by accident.
fn is_own(site: Option<&str>, origin: Option<&str>, own: &str) -> bool {
    match (site, origin) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin == own,
        (None, None) => true,
    }
}

/// Where to go after signing in: an address on this server, or the launch page.
pub(crate) fn local_address(next: Option<&str>) -> &str {
    match next {
        Some(next)
            if next.starts_with('/') && !next[1..].starts_with(['/', '\\']) && !next.chars().any(char::is_control) =>
        {
            next
        }
        _ => "/launch",
    }
}

/// The language alone, for pages that need no visitor.
pub(super) struct Preference(pub(super) Language);

impl FromRequestParts<Arc<App>> for Preference {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Infallible> {
        Ok(Self(language(&parts.headers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_other_sites_are_told_apart() {
        let own = "http://localhost:8080";
        for (site, origin, expected) in [
            (Some("same-origin"), None, true),
            (Some("cross-site"), Some(own), false),
            (Some("same-site"), None, false),
            (None, Some(own), true),
            (None, Some("http://localhost:9090"), false),
            (None, Some("null"), false),
            (None, None, true),
        ] {
            assert_eq!(is_own(site, origin, own), expected, "{site:?} {origin:?}");
        }
    }

    #[test]
    fn signing_in_never_leads_away() {
        for (next, address) in [
            (Some("/alice/proj/runs/r1?tab=x"), "/alice/proj/runs/r1?tab=x"),
            (Some("//evil.example"), "/launch"),
            (Some("/\\evil.example"), "/launch"),
            (Some("https://evil.example"), "/launch"),
            (Some("/a\r\nSet-Cookie: x"), "/launch"),
            (Some("/"), "/"),
            (None, "/launch"),
        ] {
            assert_eq!(local_address(next), address);
        }
    }
}
