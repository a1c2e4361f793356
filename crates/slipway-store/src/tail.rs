//! Following the record as it grows: every event once, in commit order.
//!
//! On SQLite this process makes every event itself, so a follower gets them from the writer as they
//! are committed and reads the table only when it has fallen behind. On PostgreSQL other servers
//! write too: there the table is read after each hint, and now and then without one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use crate::engine::Dialect;
use crate::events::{Event, Position, Scope};
use crate::{Error, Result, Store};

/// Events per read.
const BATCH: usize = 1_000;

/// How often the table is read without a hint, where others write to it too.
const POLL: Duration = Duration::from_millis(500);

/// How soon it is read once more after a hint; then ever less often, up to [`POLL`].
const SOON: Duration = Duration::from_millis(1);

/// A follower of the record.
pub struct Tail {
    store: Store,
    feed: broadcast::Receiver<Arc<[Event]>>,
    hint: watch::Receiver<u64>,
    position: Position,
    /// How long to wait for the next hint. PostgreSQL shows an event only when every transaction that
    /// began before its own has ended, and not all of those give a hint when they do.
    patience: Duration,
    /// Whether the table holds events that were not returned yet, as far as is known.
    behind: bool,
}

impl Store {
    /// Follows the record from now on.
    ///
    /// # Errors
    /// If the store is away.
    pub async fn tail(&self) -> Result<Tail> {
        // Before the position is read, so that nothing falls between.
        let (feed, mut hint) = (self.feed(), self.subscribe());
        hint.mark_unchanged();
        Ok(Tail {
            store: self.clone(),
            feed,
            hint,
            position: self.last_position().await?,
            patience: POLL,
            behind: false,
        })
    }
}

impl Tail {
    /// Waits for events and returns those that follow the ones returned before. Cancelling loses
    /// nothing.
    ///
    /// # Errors
    /// If the store is away; calling again goes on where it was.
    pub async fn next(&mut self) -> Result<Arc<[Event]>> {
        loop {
            let events = match self.store.dialect() {
                Dialect::Sqlite if !self.behind => self.fed().await?,
                Dialect::Sqlite => self.read().await?,
                Dialect::Postgres => {
                    if !self.behind {
                        self.patience = match timeout(self.patience, self.hint.changed()).await {
                            Ok(Ok(())) => SOON,
                            Ok(Err(_)) => return Err(closed()),
                            Err(_) => (self.patience * 2).min(POLL),
                        };
                    }
                    self.hint.mark_unchanged();
                    self.read().await?
                }
            };
            if let Some(last) = events.last() {
                self.position = last.position;
                return Ok(events);
            }
        }
    }

    /// Events as the writer commits them, without those that were read from the table.
    async fn fed(&mut self) -> Result<Arc<[Event]>> {
        match self.feed.recv().await {
            Ok(events) if events.first().is_some_and(|first| first.position > self.position) => Ok(events),
            Ok(events) => Ok(events
                .iter()
                .filter(|event| event.position > self.position)
                .cloned()
                .collect()),
            Err(broadcast::error::RecvError::Lagged(_)) => {
                self.behind = true;
                Ok(Arc::default())
            }
            Err(broadcast::error::RecvError::Closed) => Err(closed()),
        }
    }

    async fn read(&mut self) -> Result<Arc<[Event]>> {
        // If the reading is cancelled or fails, there is still something to read.
        self.behind = true;
        let found = self.store.events(Scope::All, self.position, BATCH).await?;
        let Some(events) = found else {
            // So far behind that the record was cut: whoever needs what is gone sees that for itself.
            self.position = self.store.last_position().await?;
            return Ok(Arc::default());
        };
        self.behind = events.len() == BATCH;
        Ok(events.into())
    }
}

fn closed() -> Error {
    Error::Unavailable("the store is shutting down".to_owned())
}
