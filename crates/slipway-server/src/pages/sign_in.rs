//! Signing in and out, and making a key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use slipway_model::Millis;
use slipway_model::identity::Credential;
use slipway_store::identity::AuditEntry;

use super::frame::{Frame, Live, Section, document, sentence};
use super::visitor::{Fields, OfPage, OwnForm, Preference, Visitor, local_address};
use super::words::Language;
use super::{Page, PageError, PageResult, icons};
use crate::app::App;
use crate::auth::{SESSION_COOKIE, generate_key, generate_session, hash_secret, key_hint, session_cookie};
use crate::error::{ApiError, Code};
use crate::http::extract::Query;
use crate::uploads::percent_encode;

/// How long a session lasts.
const SESSION: Millis = 14 * 24 * 3_600_000;

/// Wrong passwords in a row after which a user name waits.
const FREE_FAILURES: u32 = 5;

/// How long a user name waits after too many wrong passwords.
const PAUSE: Millis = 60_000;

/// How many user names with wrong passwords are remembered.
const REMEMBERED: usize = 10_000;

/// Slows down guessing of passwords, by user name.
#[derive(Debug, Default)]
pub(crate) struct Guesses(Mutex<HashMap<String, (u32, Millis)>>);

impl Guesses {
    /// Refuses a user name that was tried too often lately.
    fn check(&self, username: &str, now: Millis) -> Result<(), ApiError> {
        let guesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match guesses.get(username) {
            Some((failures, last)) if *failures >= FREE_FAILURES && (0..PAUSE).contains(&(now - last)) => {
                Err(ApiError::new(
                    Code::RateLimited,
                    "too many wrong passwords; wait a minute, then try again",
                ))
            }
            _ => Ok(()),
        }
    }

    fn note(&self, username: &str, right: bool, now: Millis) {
        let mut guesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if right {
            guesses.remove(username);
            return;
        }
        if guesses.len() >= REMEMBERED {
            guesses.clear();
        }
        let entry = guesses.entry(username.to_owned()).or_insert((0, now));
        *entry = (entry.0.saturating_add(1), now);
    }
}

#[derive(Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

/// The sign-in page.
pub(super) async fn show(Preference(language): Preference, OfPage(Query(query)): OfPage<Query<Next>>) -> Page {
    Page(form(language, local_address(query.next.as_deref()), None))
}

/// What the form says.
#[derive(Deserialize)]
pub(crate) struct Submitted {
    #[serde(default)]
    pub(crate) username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    key: String,
    pub(crate) next: Option<String>,
}

/// Opens a session for a password or a key.
pub(super) async fn submit(
    State(app): State<Arc<App>>,
    Preference(language): Preference,
    _own: OwnForm,
    Fields(submitted): Fields<Submitted>,
) -> Result<Response, PageError> {
    let next = local_address(submitted.next.as_deref());
    let now = app.now();
    match identify(&app, &submitted, now).await {
        Ok(username) => {
            let session = generate_session();
            app.store
                .add_session(&username, hash_secret(&session), now + SESSION, now)
                .await?;
            let mut response = Redirect::to(next).into_response();
            set_cookie(&app, &mut response, &session, SESSION / 1000);
            Ok(response)
        }
        Err(error) if matches!(error.code, Code::Unauthenticated | Code::RateLimited) => {
            let status = error.code.status();
            let page = Page(form(language, next, Some(&error.message)));
            let mut response = page.into_response();
            *response.status_mut() = if status == StatusCode::UNAUTHORIZED {
                StatusCode::FORBIDDEN
            } else {
                status
            };
            Ok(response)
        }
        Err(error) => Err(error.into()),
    }
}

/// The user whom a password or key names.
async fn identify(app: &App, submitted: &Submitted, now: Millis) -> Result<String, ApiError> {
    let refuse = |message: &str| ApiError::new(Code::Unauthenticated, message);
    let key = submitted.key.trim();
    if !key.is_empty() {
        let principal = app.store.authenticate(hash_secret(key), now).await?;
        return principal
            .filter(|principal| principal.credential == Credential::User)
            .map(|principal| principal.user.username)
            .ok_or_else(|| refuse("the API key is unknown, expired or revoked"));
    }
    let username = submitted.username.trim();
    if username.is_empty() || submitted.password.is_empty() {
        return Err(refuse("enter a user name and a password, or an API key"));
    }
    app.guesses.check(username, now)?;
    let hash = app.store.password_hash(username).await?;
    let right = app.auth.passwords.check(submitted.password.clone(), hash).await?;
    app.guesses.note(username, right, now);
    if right {
        Ok(username.to_owned())
    } else {
        Err(refuse("the user name or the password is wrong"))
    }
}

/// Ends the session.
pub(super) async fn leave(
    State(app): State<Arc<App>>,
    _own: OwnForm,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    if let Some(session) = session_cookie(&headers) {
        app.store.end_session(hash_secret(session)).await?;
        app.auth.forget();
    }
    let mut response = Redirect::to("/login").into_response();
    set_cookie(&app, &mut response, "", 0);
    Ok(response)
}

/// Where the client sends people for a key.
pub(super) async fn authorize(visitor: Visitor) -> Page {
    let language = visitor.language;
    Page(key_page(
        &visitor,
        &html! {
            p { (language.word("A key lets the command line and your jobs act as you. It is shown once.")) }
            form class="stack" method="post" action="/authorize" {
                div {
                    label for="description" { (language.word("Name")) }
                    input id="description" name="description" maxlength="80" placeholder="laptop" autocomplete="off";
                }
                button class="button primary" type="submit" { (language.word("Make a key")) }
            }
        },
    ))
}

#[derive(Deserialize)]
pub(super) struct KeyRequest {
    #[serde(default)]
    description: String,
}

/// Makes a key and shows it, once.
pub(super) async fn make_key(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    _own: OwnForm,
    Fields(request): Fields<KeyRequest>,
) -> PageResult {
    if visitor.principal.credential != Credential::User {
        return Err(ApiError::forbidden("a job's run key may not make keys").into());
    }
    let key = generate_key();
    let username = &visitor.principal.user.username;
    let description: String = request
        .description
        .chars()
        .filter(|c| !c.is_control())
        .take(80)
        .collect();
    let made = app
        .store
        .add_key(
            username,
            hash_secret(&key),
            &key_hint(&key),
            &description,
            None,
            visitor.now,
        )
        .await?;
    let detail = serde_json::json!({"key": made.id, "description": description}).to_string();
    let entry = AuditEntry {
        at: visitor.now,
        actor: username.clone(),
        action: "key.create".to_owned(),
        subject: username.clone(),
        detail,
    };
    app.store.audit(entry).await?;
    let language = visitor.language;
    Ok(Page(key_page(
        &visitor,
        &html! {
            p { (language.word("Copy the key now: it is not shown again.")) }
            div class="secret" {
                code id="key" { (key) }
                button class="button" type="button" hidden data-copy="key" data-done=(language.word("Copied")) { (language.word("Copy")) }
            }
            p class="note" { (language.word("Paste it where wandb login or slipway login asks for it.")) }
            a class="button primary" href="/launch" { (language.word("I have stored it")) }
        },
    )))
}

fn key_page(visitor: &Visitor, content: &Markup) -> Markup {
    let frame = Frame {
        visitor,
        section: Section::Keys,
        title: "API key",
        crumbs: Vec::new(),
        live: Live::default(),
    };
    frame.page(&html! {
        div class="title" { h1 { (visitor.language.word("API key")) } }
        section class="card narrow" { div class="body stack" { (content) } }
    })
}

/// The page with the form. `next`: where it leads.
pub(crate) fn form(language: Language, next: &str, problem: Option<&str>) -> Markup {
    let action = format!("/login?next={}", percent_encode(next));
    let body = html! {
        div class="gate" {
            main class="card" {
                span class="home" { (icons::mark()) "Slipway" }
                h1 { (language.word("Sign in")) }
                @if let Some(problem) = problem {
                    div class="banner failed" role="alert" { (icons::warning()) div { (sentence(problem)) } }
                }
                form method="post" action=(action) {
                    input type="hidden" name="next" value=(next);
                    div {
                        label for="username" { (language.word("User name")) }
                        input id="username" name="username" autocomplete="username" autocapitalize="none" autofocus;
                    }
                    div {
                        label for="password" { (language.word("Password")) }
                        input id="password" name="password" type="password" autocomplete="current-password";
                    }
                    button class="button primary" type="submit" { (language.word("Sign in")) }
                }
                hr;
                form method="post" action=(action) {
                    input type="hidden" name="next" value=(next);
                    div {
                        label for="key" { (language.word("Or an API key")) }
                        input id="key" name="key" type="password" autocomplete="off" spellcheck="false";
                    }
                    button class="button" type="submit" { (language.word("Sign in with the key")) }
                }
            }
        }
    };
    document(language.word("Sign in"), language, &body)
}

/// Sets or, with an age of 0, clears the session cookie.
fn set_cookie(app: &App, response: &mut Response, session: &str, max_age: i64) {
    let secure = app.options.tls.is_some()
        || app
            .options
            .public_url
            .as_ref()
            .is_some_and(|url| url.scheme() == "https");
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!("{SESSION_COOKIE}={session}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age}{secure}");
    if let Ok(value) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_is_slowed_down_and_a_right_password_ends_it() {
        let guesses = Guesses::default();
        for _ in 0..FREE_FAILURES {
            assert!(guesses.check("alice", 1_000).is_ok());
            guesses.note("alice", false, 1_000);
        }
        assert!(guesses.check("alice", 1_000).is_err());
        assert!(guesses.check("bob", 1_000).is_ok());
        assert!(guesses.check("alice", 1_000 + PAUSE).is_ok());
        guesses.note("alice", true, 1_000 + PAUSE);
        assert!(guesses.check("alice", 1_000).is_ok());
    }

    #[test]
    fn the_sign_in_form_escapes_where_it_leads() {
        let page = form(Language::English, "/a\"><script>", Some("<b>")).into_string();
        assert!(!page.contains("<script>") && !page.contains("<b>"), "{page}");
    }
}
