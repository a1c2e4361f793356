//! `GET /slipway/v1/runs/{entity}/{project}/{run}/log`: console lines as the SDK sent them, whole or
//! as a stream that goes on while the run does.
//!
//! Within a server a follower hears at once of what came in (`hub`); a slow poll beside it finds what
//! another replica took.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use axum::response::sse::Event;
use futures::stream;
use serde::Deserialize;
use serde_json::json;
use slipway_model::id::RunName;
use slipway_store::run_data::{Line, Stream};
use slipway_store::{Result, Store};
use tokio::sync::broadcast;

use crate::access;
use crate::app::App;
use crate::auth::Principal;
use crate::console::ConsoleLine;
use crate::error::ApiError;
use crate::http::extract::{Path, Query};
use crate::hub::RunChange;
use crate::streams::{Beat, Lifeline, alive, goodbye, last_event_id, respond};

/// Lines per read.
const PAGE: usize = 1_000;

/// How often a follower looks for what another replica took.
const POLL: Duration = Duration::from_secs(2);

/// The routes of this module.
pub(crate) fn routes() -> axum::Router<Arc<App>> {
    axum::Router::new().route("/slipway/v1/runs/{entity}/{project}/{run}/log", axum::routing::get(get))
}

#[derive(Deserialize)]
struct LogQuery {
    /// The first line, from 0.
    from: Option<i64>,
    #[serde(default)]
    follow: bool,
}

async fn get(
    State(app): State<Arc<App>>,
    Path((entity, project, run)): Path<(String, String, String)>,
    Query(query): Query<LogQuery>,
    headers: HeaderMap,
) -> std::result::Result<Response, ApiError> {
    let name = RunName { entity, project, run };
    let principal = app.authenticate(&headers).await?;
    if !may_see(&principal, &name) || app.store.run(&name).await?.is_none() {
        return Err(ApiError::not_found("run", &name.to_string()));
    }
    let from = query.from.unwrap_or(0).max(0);
    if !query.follow {
        let mut response = Response::new(Body::from_stream(plain(app.store.clone(), name, from)));
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        let nosniff = HeaderValue::from_static("nosniff");
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        return Ok(response);
    }
    let resumed = last_event_id(&headers).and_then(|id| id.parse().ok());
    let run = name.clone();
    let follower = Follower {
        changes: app.hub.follow_runs(),
        lifeline: Lifeline::new(&app, &headers, move |principal| may_see(principal, &run))?,
        app,
        name,
        next: resumed.unwrap_or(from).max(0),
        last: None,
        ready: VecDeque::new(),
        ended: false,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next_event().await?;
        Some((Ok::<Event, Infallible>(event), follower))
    });
    Ok(respond(events))
}

fn may_see(principal: &Principal, run: &RunName) -> bool {
    access::can_read_project(principal, &run.entity, &run.project)
}

/// The text of all lines from a number on.
fn plain(store: Store, run: RunName, from: i64) -> impl futures::Stream<Item = Result<Bytes>> {
    stream::try_unfold(Some(from), move |from| {
        let (store, run) = (store.clone(), run.clone());
        async move {
            let Some(from) = from else { return Ok(None) };
            let lines = store.lines(&run, Stream::Console, from, PAGE).await?;
            if lines.is_empty() {
                return Ok(None);
            }
            let next = (lines.len() == PAGE).then(|| lines[lines.len() - 1].number + 1);
            let mut text = String::new();
            for line in lines {
                text.push_str(&ConsoleLine::read(&line.text).text);
                text.push('\n');
            }
            Ok(Some((Bytes::from(text), next)))
        }
    })
}

/// One reader of a run's console.
struct Follower {
    app: Arc<App>,
    name: RunName,
    changes: broadcast::Receiver<Arc<RunChange>>,
    lifeline: Lifeline,
    /// The next line to send.
    next: i64,
    /// The last line that was sent: a progress bar rewrites it.
    last: Option<Line>,
    ready: VecDeque<Event>,
    ended: bool,
}

impl Follower {
    /// The next event; `None` after the last.
    async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.read().await {
                // The reader's connection ends; it resumes by itself from the last line.
                tracing::warn!(%error, run = %self.name, "a log stream ended");
                return None;
            }
            if self.ready.is_empty()
                && let Some(event) = self.wait().await
            {
                return Some(event);
            }
        }
    }

    async fn read(&mut self) -> Result<()> {
        // The state is read first: a run that has ended then has written all its lines.
        let run = self.app.store.run(&self.name).await?;
        if let Some(last) = &self.last {
            let again = self
                .app
                .store
                .lines(&self.name, Stream::Console, last.number, 1)
                .await?;
            if again.first().is_some_and(|line| line != last) {
                self.next = self.next.min(last.number);
            }
        }
        let lines = self
            .app
            .store
            .lines(&self.name, Stream::Console, self.next, PAGE)
            .await?;
        let all = lines.len() < PAGE;
        for line in lines {
            self.next = line.number + 1;
            self.ready.push_back(line_event(&line));
            self.last = Some(line);
        }
        if all && run.as_ref().is_none_or(|run| run.state.is_terminal()) {
            let state = run.map_or("deleted", |run| run.state.as_str());
            self.ready.push_back(event("end", &json!({"state": state})));
            self.ended = true;
        }
        Ok(())
    }

    /// Waits until something of this run came in, or for [`POLL`]; or says what its reader has to
    /// hear besides.
    async fn wait(&mut self) -> Option<Event> {
        let deadline = tokio::time::Instant::now() + POLL;
        loop {
            let change = tokio::select! {
                change = tokio::time::timeout_at(deadline, self.changes.recv()) => change,
                beat = self.lifeline.next() => {
                    return Some(match beat {
                        Beat::Alive => alive(),
                        Beat::Over(why) => {
                            self.ended = true;
                            goodbye(why)
                        }
                    });
                }
            };
            match change {
                Ok(Ok(changed)) if changed.run == self.name => {
                    if let Some(from) = changed.from {
                        self.next = self.next.min(from);
                    }
                    return None;
                }
                Ok(Ok(_)) => {}
                // Changes were missed, or none came: look at the store.
                Ok(Err(broadcast::error::RecvError::Lagged(_))) | Err(_) => return None,
                Ok(Err(broadcast::error::RecvError::Closed)) => {
                    self.ended = true;
                    return None;
                }
            }
        }
    }
}

fn line_event(line: &Line) -> Event {
    let read = ConsoleLine::read(&line.text);
    let data = json!({"number": line.number, "text": read.text, "level": read.level, "timestamp": read.timestamp});
    event("line", &data).id((line.number + 1).to_string())
}

fn event(kind: &str, data: &serde_json::Value) -> Event {
    // JSON text has no line breaks, which is all that an event's data may not have.
    Event::default().event(kind).data(data.to_string())
}
