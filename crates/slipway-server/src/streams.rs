//! Event streams below `/slipway/v1`: words for an agent, and the record.
//!
//! Nothing here polls the store for news: an idle agent costs a mailbox, a timer and a look at its key
//! per beat. A stream ends with the server, and with the credential that opened it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::str::FromStr as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::response::sse::{Event as SseEvent, Sse};
use axum::routing::get;
use futures::{Stream, stream};
use serde::Deserialize;
use serde_json::json;
use slipway_model::agent::AgentStatus;
use slipway_model::id::{AgentId, ItemRef, LeaseHandle, QueueId};
use slipway_store::events::{Event, Position, Scope};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::access;
use crate::app::App;
use crate::auth::{Pass, Principal};
use crate::error::{ApiError, Code};
use crate::graphql::scalars::iso;
use crate::http::extract::{Path, Query};
use crate::hub::{AgentConnection, Mail};

/// How often a silent stream says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Streams whose beats fall into one such span beat together: the processor wakes once for all of them, not
/// once for each. Short enough that the beats of ten thousand streams hold nobody up.
const TOGETHER: Duration = Duration::from_millis(100);

/// Events per read of the store.
const BATCH: usize = 500;

/// The routes of this module.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/slipway/v1/agents/{agent}/events", get(agent_events))
        .route("/slipway/v1/events", get(record))
}

/// The id of the last event that a reconnecting client saw.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id")?.to_str().ok().filter(|id| !id.is_empty())
}

/// When a stream that opens now beats for the first time.
fn first_beat(now: Instant) -> Instant {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let latest = now + KEEP_ALIVE;
    let beyond = latest.saturating_duration_since(*ORIGIN).as_nanos() % TOGETHER.as_nanos();
    latest - Duration::from_nanos(u64::try_from(beyond).unwrap_or(0))
}

/// What keeps a stream open: a server that goes on, and a credential that still may see it.
///
/// The credential is looked at whenever keys, roles or users change on this server, and at every
/// beat, which finds what was changed through another replica or ended by time.
pub(crate) struct Lifeline {
    app: Arc<App>,
    pass: Pass,
    may_see: Box<dyn Fn(&Principal) -> bool + Send + Sync>,
    shutdown: watch::Receiver<bool>,
    changes: watch::Receiver<()>,
    beat: Interval,
    /// The credential has to be looked at.
    unsure: bool,
    /// A beat is due.
    silent: bool,
}

/// What a stream wakes up for besides its own news.
pub(crate) enum Beat {
    /// Time to say that it is alive.
    Alive,
    /// The stream ends, and why.
    Over(&'static str),
}

impl Lifeline {
    /// A lifeline of a new stream. `may_see` says whether its reader may see what it tells.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if the request has no credential.
    pub(crate) fn new(
        app: &Arc<App>,
        headers: &HeaderMap,
        may_see: impl Fn(&Principal) -> bool + Send + Sync + 'static,
    ) -> Result<Self, ApiError> {
        let mut beat = interval_at(first_beat(Instant::now()), KEEP_ALIVE);
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Ok(Self {
            app: Arc::clone(app),
            pass: app.auth.pass(headers)?,
            may_see: Box::new(may_see),
            shutdown: app.shutdown.subscribe(),
            changes: app.auth.changes(),
            beat,
            unsure: false,
            silent: false,
        })
    }

    /// Waits for the next beat. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Beat {
        loop {
            if self.unsure {
                if !self.still_may_see().await {
                    return Beat::Over("the key has ended, or may not see this any more");
                }
                self.unsure = false;
                if std::mem::take(&mut self.silent) {
                    return Beat::Alive;
                }
            }
            tokio::select! {
                _ended = self.shutdown.wait_for(|ended| *ended) => {
                    return Beat::Over("the server is shutting down; connect again");
                }
                _changed = self.changes.changed() => self.unsure = true,
                _at = self.beat.tick() => {
                    self.unsure = true;
                    self.silent = true;
                }
            }
        }
    }

    /// Only a clear no ends a stream: a store that is away for a moment says nothing of a key.
    async fn still_may_see(&self) -> bool {
        let app = &self.app;
        match app.auth.resolve(&app.store, &app.lookup, &self.pass, app.now()).await {
            Ok(principal) => (self.may_see)(&principal),
            Err(error) => error.code != Code::Unauthenticated,
        }
    }
}

/// The comment of a silent stream.
pub(crate) fn alive() -> SseEvent {
    SseEvent::default().comment("alive")
}

/// The comment with which a stream ends.
pub(crate) fn goodbye(why: &str) -> SseEvent {
    SseEvent::default().comment(why)
}

/// Answers with a stream that proxies do not hold back.
pub(crate) fn respond<S>(events: S) -> Response
where
    S: Stream<Item = Result<SseEvent, Infallible>> + Send + 'static,
{
    ([("x-accel-buffering", "no")], Sse::new(events)).into_response()
}

async fn agent_events(
    State(app): State<Arc<App>>,
    Path(agent): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let now = app.now();
    let principal = app.authenticate(&headers).await?;
    let id: AgentId = agent.parse()?;
    let missing = || ApiError::not_found("launch agent", &agent);
    let agent = app.store.agent(id).await?.ok_or_else(missing)?;
    if !access::can_read_entity(&principal, &agent.entity) {
        return Err(missing());
    }
    access::run_agent(&principal, &agent.entity)?;
    let entity = agent.entity.clone();
    let lifeline = Lifeline::new(&app, &headers, move |principal| {
        access::run_agent(principal, &entity).is_ok()
    })?;
    // The mailbox opens before the state is read, so that nothing falls between.
    let connection = app.hub.connect(id, &agent.queues);
    let alive = app.store.touch_agent(id, None, now).await?;
    let stop = app
        .store
        .held_items(id)
        .await?
        .into_iter()
        .filter(|item| item.stop_requested)
        .map(|item| LeaseHandle {
            item: item.id,
            epoch: item.epoch,
        })
        .collect();
    let mail = Mail {
        items: true,
        // Also that it does not: it may have been taken back while no stream was open.
        drain: Some(agent.drain_requested),
        stop,
        replaced: !alive || agent.status == AgentStatus::Killed,
    };
    let mut state = AgentStream {
        lifeline,
        app,
        id,
        connection,
        ready: VecDeque::new(),
        ended: false,
    };
    state.take(mail);
    Ok(respond(stream::unfold(state, |mut state| async move {
        let event = state.next().await?;
        Some((Ok(event), state))
    })))
}

struct AgentStream {
    app: Arc<App>,
    id: AgentId,
    connection: AgentConnection,
    lifeline: Lifeline,
    ready: VecDeque<SseEvent>,
    ended: bool,
}

impl AgentStream {
    async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                mail = self.connection.receive() => self.take(mail),
                beat = self.lifeline.next() => match beat {
                    Beat::Over(why) => {
                        self.ended = true;
                        return Some(goodbye(why));
                    }
                    Beat::Alive => {
                        // An open stream is contact.
                        self.app.contacts.note(self.id);
                        return Some(alive());
                    }
                },
            }
        }
    }

    fn take(&mut self, mail: Mail) {
        if mail.replaced {
            self.ready.push_back(SseEvent::default().event("replaced").data("{}"));
            self.ended = true;
            return;
        }
        for handle in mail.stop {
            let data = json!({"runQueueItemId": handle.to_string()});
            self.ready
                .push_back(SseEvent::default().event("stop").data(data.to_string()));
        }
        if let Some(drain) = mail.drain {
            self.ready.push_back(
                SseEvent::default()
                    .event("drain")
                    .data(json!({"drain": drain}).to_string()),
            );
        }
        if mail.items {
            self.ready.push_back(SseEvent::default().event("items").data("{}"));
        }
    }
}

/// Which part of the record to follow.
#[derive(Deserialize)]
struct RecordQuery {
    entity: Option<String>,
    queue: Option<String>,
    item: Option<String>,
}

async fn record(
    State(app): State<Arc<App>>,
    Query(query): Query<RecordQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let principal = app.authenticate(&headers).await?;
    let (entity, scope) = scope(&app, &principal, query).await?;
    let lifeline = Lifeline::new(&app, &headers, move |principal| {
        access::can_read_entity(principal, &entity)
    })?;
    let feed = app.hub.follow();
    let position = match last_event_id(&headers) {
        Some(id) => Position::from_str(id)
            .map_err(|()| ApiError::bad("Last-Event-ID must be the id of an event of this stream"))?,
        None => app.store.last_position().await?,
    };
    let state = RecordStream {
        lifeline,
        app,
        scope,
        position,
        feed,
        catching_up: true,
        ready: VecDeque::new(),
        ended: false,
    };
    Ok(respond(stream::unfold(state, |mut state| async move {
        let event = state.next().await?;
        Some((Ok(event), state))
    })))
}

/// What the caller asked for, and the entity that owns it, if the caller may see that.
async fn scope(app: &App, principal: &Principal, query: RecordQuery) -> Result<(String, Scope), ApiError> {
    let owned = match (query.item, query.queue) {
        (Some(text), _) => {
            let item = text.parse::<ItemRef>()?.item;
            Some((item.entity, Scope::Item(item)))
        }
        (None, Some(text)) => {
            let queue: QueueId = text.parse()?;
            Some((queue.entity, Scope::Queue(queue)))
        }
        (None, None) => None,
    };
    if let Some((number, scope)) = owned {
        let entity = app.lookup.entity_name(&app.store, number).await?;
        access::read_entity(principal, &entity)?;
        return Ok((entity.as_ref().clone(), scope));
    }
    let name = query.entity.unwrap_or_else(|| principal.default_entity().to_owned());
    access::read_entity(principal, &name)?;
    let entity = app.store.entity(&name).await?;
    let entity = entity.ok_or_else(|| ApiError::not_found("entity", &name))?;
    Ok((name, Scope::Entity(entity.id)))
}

struct RecordStream {
    app: Arc<App>,
    scope: Scope,
    /// Everything up to here was sent, or does not concern the reader.
    position: Position,
    feed: broadcast::Receiver<Arc<Event>>,
    /// Read from the store before listening to the feed.
    catching_up: bool,
    lifeline: Lifeline,
    ready: VecDeque<SseEvent>,
    ended: bool,
}

impl RecordStream {
    async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            if self.catching_up {
                self.catch_up().await;
                continue;
            }
            tokio::select! {
                event = self.feed.recv() => match event {
                    Ok(event) => self.take(&event),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.catching_up = true,
                    Err(broadcast::error::RecvError::Closed) => self.ended = true,
                },
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

    async fn catch_up(&mut self) {
        match self.app.store.events(self.scope, self.position, BATCH).await {
            Ok(Some(events)) => {
                self.catching_up = events.len() == BATCH;
                for event in &events {
                    self.take(event);
                }
            }
            Ok(None) => {
                // The reader has to load what it shows anew and goes on from here.
                match self.app.store.last_position().await {
                    Ok(position) => {
                        self.position = position;
                        self.ready
                            .push_back(SseEvent::default().event("reset").id(position.to_string()).data("{}"));
                    }
                    Err(error) => self.give_up(&error),
                }
            }
            Err(error) => self.give_up(&error),
        }
    }

    /// Ends the stream: the client connects again and resumes.
    fn give_up(&mut self, error: &slipway_store::Error) {
        tracing::warn!(%error, "an event stream ended");
        self.ended = true;
    }

    fn take(&mut self, event: &Event) {
        if event.position <= self.position {
            return;
        }
        self.position = event.position;
        if concerns(self.scope, event) {
            self.ready.push_back(show(event));
        }
    }
}

/// Whether an event belongs to a scope.
fn concerns(scope: Scope, event: &Event) -> bool {
    match scope {
        Scope::Item(item) => event.item == Some(item),
        Scope::Queue(queue) => event.queue == Some(queue),
        Scope::Agent(agent) => event.agent == Some(agent),
        Scope::Entity(entity) => event.entity == entity,
        Scope::All => true,
    }
}

fn show(event: &Event) -> SseEvent {
    let detail: serde_json::Value = serde_json::from_str(&event.detail).unwrap_or_default();
    let data = json!({
        "position": event.position.to_string(),
        "at": iso(event.at),
        "kind": event.kind,
        "queue": event.queue.map(|id| id.to_string()),
        "item": event.item.map(|id| id.to_string()),
        "agent": event.agent.map(|id| id.to_string()),
        "actor": event.actor,
        "detail": detail,
    });
    SseEvent::default()
        .event("event")
        .id(event.position.to_string())
        .data(data.to_string())
}

#[cfg(test)]
mod tests;
