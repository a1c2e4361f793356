//! Captured output of items: agents append it, people read it whole or follow it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::Event as SseEvent;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::stream;
use serde::Deserialize;
use serde_json::json;
use slipway_model::id::{ItemId, ItemRef, LeaseHandle};
use slipway_store::Store;
use slipway_store::items::Item;
use tokio::sync::watch;

use crate::access;
use crate::app::App;
use crate::error::{ApiError, Code};
use crate::http::extract::{Path, Query};
use crate::http::read_body;
use crate::streams::{Beat, Lifeline, alive, goodbye, last_event_id, respond};

/// The largest piece that one request appends, in bytes.
const MAX_APPEND: usize = 4 << 20;

/// Bytes per read.
const READ: usize = 256 << 10;

/// How often a follower looks for what another replica took.
const POLL: Duration = Duration::from_secs(1);

/// The routes of this module.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/slipway/v1/items/{item}/output", get(read_output).post(append_output))
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Piece {
    /// The position of its first byte.
    pub(crate) offset: i64,
    /// The bytes as printed.
    pub(crate) bytes: Vec<u8>,
}

impl Piece {
    /// The position after its last byte.
    pub(crate) fn end(&self) -> i64 {
        self.offset + i64::try_from(self.bytes.len()).unwrap_or(i64::MAX)
    }

    /// Leaves the start of a character that is cut off at the end for the next piece.
    pub(crate) fn trim_to_characters(&mut self) {
        if let Err(error) = std::str::from_utf8(&self.bytes)
            && error.error_len().is_none()
        {
            let whole = error.valid_up_to();
            if whole > 0 {
                self.bytes.truncate(whole);
            }
        }
    }
}

/// Reads output from a byte position on, up to about `limit` bytes.
///
/// # Errors
/// If the store is away.
pub(crate) async fn read(
    store: &Store,
    item: ItemId,
    attempt: i64,
    from: i64,
    limit: usize,
) -> Result<Piece, ApiError> {
    let chunks = store.output(item, attempt, from, limit).await?;
    let mut piece = Piece {
        offset: from,
        bytes: Vec::new(),
    };
    for chunk in chunks {
        // A chunk may begin before the position that was asked for.
        let skip = usize::try_from((piece.end() - chunk.offset).max(0)).unwrap_or(usize::MAX);
        piece.bytes.extend(chunk.bytes.get(skip..).unwrap_or_default());
    }
    Ok(piece)
}

/// Where an agent's piece belongs.
#[derive(Deserialize)]
struct AppendQuery {
    attempt: i64,
    offset: i64,
}

async fn append_output(
    State(app): State<Arc<App>>,
    Path(handle): Path<String>,
    Query(query): Query<AppendQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let principal = app.authenticate(&parts.headers).await?;
    let handle: LeaseHandle = handle.parse()?;
    let entity = app.lookup.entity_name(&app.store, handle.item.entity).await?;
    access::run_agent(&principal, &entity)?;
    let item = find(&app.store, handle.item).await?;
    // A stale handle may still append to its own attempt, but to none that came after it.
    if query.attempt < 1 || query.attempt > item.attempt || query.offset < 0 {
        return Err(ApiError::bad(format!(
            "attempt {} from byte {} is not an output of this item, which is at attempt {}",
            query.attempt, query.offset, item.attempt
        )));
    }
    let bytes = read_body(body, MAX_APPEND).await?;
    let known = app.store.output_end(handle.item, query.attempt).await?;
    if query.offset > known {
        let gap = json!({"end": known, "error": "bytes before this piece are missing; go on from `end`"});
        return Ok((StatusCode::CONFLICT, Json(gap)).into_response());
    }
    let end = app
        .store
        .append_output(handle.item, query.attempt, query.offset, bytes.to_vec())
        .await?;
    app.hub.items.notify(&handle.item);
    Ok(Json(json!({ "end": end })).into_response())
}

/// What to read.
#[derive(Deserialize)]
struct ReadQuery {
    attempt: Option<i64>,
    from: Option<i64>,
    follow: Option<bool>,
}

async fn read_output(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(query): Query<ReadQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let principal = app.authenticate(&headers).await?;
    let id = id.parse::<ItemRef>()?.item;
    let entity = app.lookup.entity_name(&app.store, id.entity).await?;
    access::read_entity(&principal, &entity)?;
    // Followed before it is read, so that nothing falls between.
    let news = app.hub.items.follow(&id);
    let item = find(&app.store, id).await?;
    if let Some(attempt) = query.attempt
        && !(1..=item.attempt).contains(&attempt)
    {
        return Err(ApiError::new(
            Code::NotFound,
            format!(
                "there is no attempt {attempt} of this item, which is at attempt {}",
                item.attempt
            ),
        ));
    }
    let attempt = query.attempt.unwrap_or(item.attempt);
    let resumed = last_event_id(&headers).and_then(|id| id.parse().ok());
    let from = resumed.or(query.from).unwrap_or(0).max(0);
    if query.follow == Some(true) {
        let lifeline = Lifeline::new(&app, &headers, move |principal| {
            access::can_read_entity(principal, &entity)
        })?;
        let follower = Follower {
            lifeline,
            app,
            item: id,
            attempt,
            from,
            news,
            ready: VecDeque::new(),
            ended: false,
        };
        return Ok(respond(stream::unfold(follower, |mut follower| async move {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        })));
    }
    let pieces = stream::try_unfold((app, from), move |(app, from)| async move {
        let piece = read(&app.store, id, attempt, from, READ).await?;
        Ok::<_, ApiError>((!piece.bytes.is_empty()).then(|| {
            let end = piece.end();
            (Bytes::from(piece.bytes), (app, end))
        }))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    // What a job prints must not be taken for a page of ours.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

async fn find(store: &Store, id: ItemId) -> Result<Item, ApiError> {
    let item = store.item(id).await?;
    item.ok_or_else(|| ApiError::not_found("queue item", &id.to_string()))
}

/// A stream of one attempt's output that ends when the attempt has.
struct Follower {
    app: Arc<App>,
    item: ItemId,
    attempt: i64,
    from: i64,
    news: watch::Receiver<u64>,
    lifeline: Lifeline,
    ready: VecDeque<SseEvent>,
    ended: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            self.news.mark_unchanged();
            match self.look().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "an output stream ended");
                    return None;
                }
            }
            tokio::select! {
                // The sender is gone only after this receiver: an error cannot happen.
                _changed = self.news.changed() => {}
                () = tokio::time::sleep(POLL) => {}
                beat = self.lifeline.next() => match beat {
                    Beat::Alive => return Some(alive()),
                    Beat::Over(why) => {
                        self.ended = true;
                        return Some(goodbye(why));
                    }
                },
            }
        }
    }

    /// Reads what is new; whether there was something.
    async fn look(&mut self) -> Result<bool, ApiError> {
        // The state first: output that was appended before the end is then read before `end`.
        let item = self.app.store.item(self.item).await?;
        let over = item
            .as_ref()
            .is_none_or(|item| item.state.is_terminal() || item.attempt > self.attempt);
        let mut piece = read(&self.app.store, self.item, self.attempt, self.from, READ).await?;
        if !over {
            piece.trim_to_characters();
        }
        if !piece.bytes.is_empty() {
            let data = json!({"offset": piece.offset, "text": String::from_utf8_lossy(&piece.bytes)});
            self.from = piece.end();
            self.ready.push_back(
                SseEvent::default()
                    .event("output")
                    .id(self.from.to_string())
                    .data(data.to_string()),
            );
            return Ok(true);
        }
        if over {
            let state = item.map(|item| item.state.as_str());
            self.ready.push_back(
                SseEvent::default()
                    .event("end")
                    .id(self.from.to_string())
                    .data(json!({ "state": state }).to_string()),
            );
            self.ended = true;
            return Ok(true);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_character_waits_for_its_rest_and_other_bytes_do_not() {
        let cases: [(&[u8], usize); 4] = [
            ("aé".as_bytes(), 3),
            (&"aé".as_bytes()[..2], 1),
            (b"a\xff", 2),
            (&"é".as_bytes()[..1], 1),
        ];
        for (bytes, kept) in cases {
            let mut piece = Piece {
                offset: 5,
                bytes: bytes.to_vec(),
            };
            piece.trim_to_characters();
            assert_eq!(piece.bytes.len(), kept, "{bytes:?}");
        }
    }
}
