//! Server-sent events: what an agent is told, captured output, console lines.
//!
//! A stream reconnects by itself, with jittered waits, and goes on after the last event that it
//! delivered. It ends when its subject ends, or with an error that does not pass. A connection on
//! which not even a comment arrives for [`SILENCE`] counts as broken.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{BoxStream, unfold};
use reqwest::header::ACCEPT;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::Client;
use crate::error::{Error, Result};
use crate::retry::{Backoff, Waiting};
use crate::sse::{Event, Parser};

/// Servers send a comment every 20 seconds; one may be late.
const SILENCE: Duration = Duration::from_secs(45);

/// What an agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEvent {
    /// The stream is open: polling may rest.
    Connected,
    /// The stream broke and will be opened again; poll meanwhile.
    Disconnected(Error),
    /// One of the agent's queues has something to pop.
    Items,
    /// Somebody asked an item to stop.
    Stop {
        /// The lease handle.
        handle: String,
    },
    /// The agent is to take nothing new, or that was taken back.
    Drain(bool),
    /// Another instance took the agent's name.
    Replaced,
}

/// What is told of an item's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordEvent {
    /// The stream is open, for the first time or again: look at the item, it may have changed before.
    Connected,
    /// The stream broke and will be opened again.
    Disconnected(Error),
    /// Something happened to the item: look at it.
    Changed,
}

/// Captured output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputEvent {
    /// More of it.
    Text {
        /// The byte position at which it begins.
        offset: u64,
        /// The text; bytes that are not UTF-8 are replaced.
        text: String,
    },
    /// There will be no more.
    End {
        /// The item's state, in capitals.
        state: String,
    },
}

/// Console lines of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// A new or rewritten line.
    Line {
        /// Counted from 0.
        number: i64,
        /// The text.
        text: String,
    },
    /// There will be no more.
    End {
        /// The run's state, as the server spells it.
        state: String,
    },
}

/// Where to begin, and whether to wait for more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Follow {
    /// The first byte or line.
    pub from: u64,
    /// Whether to go on until the subject ends.
    pub follow: bool,
}

#[derive(Deserialize)]
struct StopData {
    #[serde(rename = "runQueueItemId")]
    handle: String,
}

#[derive(Deserialize)]
struct DrainData {
    drain: bool,
}

#[derive(Deserialize)]
struct OutputData {
    offset: u64,
    text: String,
}

#[derive(Deserialize)]
struct LineData {
    number: i64,
    text: String,
}

#[derive(Deserialize)]
struct EndData {
    #[serde(default)]
    state: String,
}

impl Client {
    /// What the server tells an agent, until the receiver is dropped or an error does not pass.
    /// Cancelling `next` loses nothing.
    #[must_use]
    pub fn agent_events(&self, agent_id: &str) -> BoxStream<'static, Result<AgentEvent>> {
        let url = self.url_of_segments(&["slipway", "v1", "agents", agent_id, "events"], &[]);
        let subscription = Subscription::new(self.clone(), url, None);
        subscription
            .into_stream()
            .filter_map(async |signal| match signal {
                Ok(Signal::Open) => Some(Ok(AgentEvent::Connected)),
                Ok(Signal::Lost(error)) => Some(Ok(AgentEvent::Disconnected(error))),
                Ok(Signal::Event(event)) => read_agent_event(&event).transpose(),
                Err(error) => Some(Err(error)),
            })
            .boxed()
    }

    /// Tells when something happens to an item, until the receiver is dropped or an error does not
    /// pass. Cancelling `next` loses nothing.
    #[must_use]
    pub fn item_record(&self, id: &str) -> BoxStream<'static, Result<RecordEvent>> {
        let url = self.url_of_segments(&["slipway", "v1", "events"], &[("item", id.to_owned())]);
        let subscription = Subscription::new(self.clone(), url, None);
        subscription
            .into_stream()
            .map(|signal| {
                signal.map(|signal| match signal {
                    Signal::Open => RecordEvent::Connected,
                    Signal::Lost(error) => RecordEvent::Disconnected(error),
                    // What happened is in the item; a later server may name it in other words.
                    Signal::Event(_) => RecordEvent::Changed,
                })
            })
            .boxed()
    }

    /// The captured output of an item's attempt (the last one if none is named).
    #[must_use]
    pub fn item_output(
        &self,
        id: &str,
        attempt: Option<i64>,
        follow: Follow,
    ) -> BoxStream<'static, Result<OutputEvent>> {
        let mut query = vec![("from", follow.from.to_string()), ("follow", follow.follow.to_string())];
        query.extend(attempt.map(|attempt| ("attempt", attempt.to_string())));
        let url = self.url_of_segments(&["slipway", "v1", "items", id, "output"], &query);
        if !follow.follow {
            return self.plain_output(url, follow.from);
        }
        let subscription = Subscription::new(self.clone(), url, None);
        until_end(subscription, |event| {
            Ok(match event.name.as_str() {
                "output" => {
                    let OutputData { offset, text } = data(event)?;
                    Some((OutputEvent::Text { offset, text }, false))
                }
                "end" => Some((
                    OutputEvent::End {
                        state: data::<EndData>(event)?.state,
                    },
                    true,
                )),
                _ => None,
            })
        })
    }

    /// The console lines of a run.
    #[must_use]
    pub fn run_log(&self, entity: &str, project: &str, run: &str, from: u64) -> BoxStream<'static, Result<LogEvent>> {
        let query = [("from", from.to_string()), ("follow", "true".to_owned())];
        let url = self.url_of_segments(&["slipway", "v1", "runs", entity, project, run, "log"], &query);
        let subscription = Subscription::new(self.clone(), url, None);
        until_end(subscription, |event| {
            Ok(match event.name.as_str() {
                "line" => {
                    let LineData { number, text } = data(event)?;
                    Some((LogEvent::Line { number, text }, false))
                }
                "end" => Some((
                    LogEvent::End {
                        state: data::<EndData>(event)?.state,
                    },
                    true,
                )),
                _ => None,
            })
        })
    }

    /// Output so far, as one plain answer.
    fn plain_output(&self, url: Url, from: u64) -> BoxStream<'static, Result<OutputEvent>> {
        let client = self.clone();
        futures::stream::once(async move {
            let bytes = client
                .repeat(crate::transport::Repeat::Harmless, || async {
                    let response = client
                        .authorized(Method::GET, url.clone())
                        .timeout(client.timeout())
                        .header(ACCEPT, "text/plain")
                        .send()
                        .await
                        .map_err(|error| client.transport(&error))?;
                    let response = client.check(response).await?;
                    response.bytes().await.map_err(|error| client.transport(&error))
                })
                .await?;
            Ok(OutputEvent::Text {
                offset: from,
                text: String::from_utf8_lossy(&bytes).into_owned(),
            })
        })
        .boxed()
    }
}

fn read_agent_event(event: &Event) -> Result<Option<AgentEvent>> {
    Ok(match event.name.as_str() {
        "items" => Some(AgentEvent::Items),
        "stop" => Some(AgentEvent::Stop {
            handle: data::<StopData>(event)?.handle,
        }),
        "drain" => Some(AgentEvent::Drain(data::<DrainData>(event)?.drain)),
        "replaced" => Some(AgentEvent::Replaced),
        // A later server may say more.
        _ => None,
    })
}

fn data<T: DeserializeOwned>(event: &Event) -> Result<T> {
    serde_json::from_str(&event.data).map_err(|error| Error::Protocol {
        server: "the server".to_owned(),
        message: format!("event `{}`: {error}", event.name),
    })
}

/// Reads one event: nothing for those of no interest, else its value and whether it is the last.
type Reader<T> = fn(&Event) -> Result<Option<(T, bool)>>;

/// Reads events until one says that it is the last.
fn until_end<T: Send + 'static>(subscription: Subscription, read: Reader<T>) -> BoxStream<'static, Result<T>> {
    unfold(Some(subscription), move |state| async move {
        let mut subscription = state?;
        loop {
            let event = match subscription.next().await? {
                Ok(Signal::Event(event)) => event,
                Ok(Signal::Open | Signal::Lost(_)) => continue,
                Err(error) => return Some((Err(error), None)),
            };
            match read(&event) {
                Ok(Some((value, last))) => return Some((Ok(value), (!last).then_some(subscription))),
                Ok(None) => {}
                Err(error) => return Some((Err(error), None)),
            }
        }
    })
    .boxed()
}

/// What a subscription yields.
enum Signal {
    Open,
    Lost(Error),
    Event(Event),
}

/// One subscription over however many connections.
struct Subscription {
    client: Client,
    url: Url,
    last_id: Option<String>,
    connection: Option<Connection>,
    ready: std::collections::VecDeque<Event>,
    backoff: Backoff,
    /// Since the connection failed.
    waiting: Option<Waiting>,
    wait: Option<Instant>,
    ended: bool,
}

struct Connection {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    parser: Parser,
}

impl Subscription {
    fn new(client: Client, url: Url, last_id: Option<String>) -> Self {
        Self {
            client,
            url,
            last_id,
            connection: None,
            ready: std::collections::VecDeque::new(),
            backoff: Backoff::default(),
            waiting: None,
            wait: None,
            ended: false,
        }
    }

    fn into_stream(self) -> BoxStream<'static, Result<Signal>> {
        unfold(self, |mut subscription| async move {
            let signal = subscription.next().await?;
            Some((signal, subscription))
        })
        .boxed()
    }

    /// The next signal; `None` after an error that does not pass.
    async fn next(&mut self) -> Option<Result<Signal>> {
        if self.ended {
            return None;
        }
        if let Some(event) = self.ready.pop_front() {
            self.last_id.clone_from(&event.id);
            return Some(Ok(Signal::Event(event)));
        }
        if let Some(until) = self.wait {
            during(self.waiting.as_ref(), tokio::time::sleep_until(until)).await;
            self.wait = None;
        }
        let outcome = match self.connection.as_mut() {
            None => {
                let opening = Connection::open(&self.client, &self.url, self.last_id.as_deref());
                let opened = during(self.waiting.as_ref(), opening).await;
                opened.map(|connection| {
                    self.connection = Some(connection);
                    Signal::Open
                })
            }
            Some(connection) => match connection.read(&self.client).await {
                Ok(events) => {
                    self.backoff.reset();
                    if let Some(waiting) = self.waiting.take() {
                        waiting.answered();
                    }
                    self.ready.extend(events);
                    return Box::pin(self.next()).await;
                }
                Err(error) => Err(error),
            },
        };
        Some(outcome.or_else(|error| self.lost(error)))
    }

    fn lost(&mut self, error: Error) -> Result<Signal> {
        self.connection = None;
        let client = &self.client;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Waiting::after_failure(client.notice()));
        if !error.is_passing() || !client.retry().permits(waiting.elapsed()) {
            self.ended = true;
            return Err(error);
        }
        waiting.failed(&error);
        let asked = match &error {
            Error::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        };
        let wait = client.retry().cut(self.backoff.next(asked), waiting.elapsed());
        self.wait = Some(Instant::now() + wait);
        Ok(Signal::Lost(error))
    }
}

/// Does a part of the work, as a wait for the server if there is one.
async fn during<T>(waiting: Option<&Waiting>, work: impl Future<Output = T>) -> T {
    match waiting {
        Some(waiting) => waiting.during(work).await,
        None => work.await,
    }
}

impl Connection {
    async fn open(client: &Client, url: &Url, last_id: Option<&str>) -> Result<Self> {
        let mut request = client
            .authorized(Method::GET, url.clone())
            .header(ACCEPT, "text/event-stream");
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = tokio::time::timeout(client.timeout(), request.send())
            .await
            .map_err(|_| client.silent("no answer in time"))?
            .map_err(|error| client.transport(&error))?;
        let response = client.check(response).await?;
        Ok(Self {
            body: response.bytes_stream().boxed(),
            parser: Parser::default(),
        })
    }

    async fn read(&mut self, client: &Client) -> Result<Vec<Event>> {
        let chunk = tokio::time::timeout(SILENCE, self.body.next())
            .await
            .map_err(|_| client.silent(format!("nothing heard for {} s", SILENCE.as_secs())))?;
        match chunk {
            Some(Ok(bytes)) => self
                .parser
                .feed(&bytes)
                .map_err(|_| client.protocol("an event is larger than 16 MiB")),
            Some(Err(error)) => Err(client.transport(&error)),
            None => Err(client.silent("the server closed the event stream")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AgentEvent, read_agent_event};
    use crate::sse::Event;

    #[test]
    fn agent_events_are_read_and_unknown_ones_ignored() {
        let event = |name: &str, data: &str| Event {
            name: name.to_owned(),
            data: data.to_owned(),
            id: None,
        };
        for (sent, read) in [
            (event("items", ""), Some(AgentEvent::Items)),
            (
                event("stop", r#"{"runQueueItemId":"h"}"#),
                Some(AgentEvent::Stop { handle: "h".to_owned() }),
            ),
            (event("drain", r#"{"drain":true}"#), Some(AgentEvent::Drain(true))),
            (event("replaced", "{}"), Some(AgentEvent::Replaced)),
            (event("later", "?"), None),
        ] {
            assert_eq!(read_agent_event(&sent).unwrap(), read);
        }
        assert!(read_agent_event(&event("stop", "{}")).is_err());
    }
}
