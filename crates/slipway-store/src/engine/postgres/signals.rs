//! News between servers: `NOTIFY` after commits that added events, `LISTEN` for those of others,
//! and the difference of the clocks. The connection that listens also looks after statistics.
//!
//! A notification is a hint: it is sent outside the transaction that it is about, many commits
//! share one, and a slow poll stands behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postgres::fallible_iterator::FallibleIterator as _;
use slipway_model::Millis;

use super::super::News;
use super::connect::{Server, Session};
use super::statistics;
use super::tx::explain;
use crate::error::{Error, Result};

/// How long the listener waits before it looks without having been told to.
const POLL: Duration = Duration::from_millis(500);

/// How often the clocks are compared.
const CLOCK_INTERVAL: Duration = Duration::from_secs(10);

/// How often it is asked which tables have grown.
const GROWTH_INTERVAL: Duration = Duration::from_secs(1);

/// How long a statement of the listener may wait for a lock: while it does nobody is told anything.
const PATIENCE: &str = "SET lock_timeout = '100ms'";

/// Differences below this are the noise of asking.
const CLOCK_NOISE: Millis = 100;

/// The threads that tell and listen.
pub(super) struct Signals {
    notifier: Notifier,
    offset: Arc<AtomicI64>,
    closed: Arc<AtomicBool>,
}

/// Tells other servers that there are new events.
#[derive(Clone)]
pub(super) struct Notifier(SyncSender<()>);

impl Notifier {
    /// Asks for a notification; one that is already asked for serves too.
    pub(super) fn notify(&self) {
        // A full channel means that one is on its way; a closed one that the store is.
        let _asked = self.0.try_send(());
    }
}

impl Signals {
    pub(super) fn start(server: &Arc<Server>, session: &mut Session, news: News) -> Result<Self> {
        let channel: String = session
            .client
            .query_one("SELECT 'slipway_' || md5(current_schema())", &[])
            .and_then(|row| row.try_get(0))
            .map_err(|error| explain(&error, "current_schema").0)?;
        let offset = Arc::new(AtomicI64::new(measure_offset(session)?));
        let closed = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = sync_channel(1);

        let (tell_server, tell_channel) = (Arc::clone(server), channel.clone());
        spawn("store-notify", move || tell(&tell_server, &tell_channel, &receiver))?;
        let listener = Listener {
            server: Arc::clone(server),
            channel,
            news,
            offset: Arc::clone(&offset),
            closed: Arc::clone(&closed),
        };
        spawn("store-listen", move || listener.run())?;
        Ok(Self {
            notifier: Notifier(sender),
            offset,
            closed,
        })
    }

    pub(super) fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    pub(super) fn clock_offset(&self) -> Millis {
        self.offset.load(Ordering::Relaxed)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // The listener sees it at its next poll; the notifier ends with the last sender.
        self.closed.store(true, Ordering::Release);
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map(drop)
        .map_err(|error| Error::Unavailable(format!("cannot start a thread: {error}")))
}

/// Sends one notification per request; requests that come meanwhile share the next.
fn tell(server: &Server, channel: &str, requests: &Receiver<()>) {
    let mut session: Option<Session> = None;
    while requests.recv().is_ok() {
        let connected = match session.take().filter(|session| !session.is_closed()) {
            Some(session) => Ok(session),
            None => server.connect(),
        };
        // Without a connection nobody is told; the others' poll finds the events.
        if let Ok(mut connected) = connected
            && connected
                .client
                .execute("SELECT pg_notify($1, '')", &[&channel])
                .is_ok()
        {
            session = Some(connected);
        }
    }
}

struct Listener {
    server: Arc<Server>,
    channel: String,
    news: News,
    offset: Arc<AtomicI64>,
    closed: Arc<AtomicBool>,
}

impl Listener {
    fn run(&self) {
        let mut failures = 0;
        while !self.closed.load(Ordering::Acquire) {
            match self.server.connect().and_then(|session| self.listen(session)) {
                Ok(()) => return,
                Err(error) => {
                    failures += 1;
                    tracing::debug!(%error, "not listening for events of other servers");
                    std::thread::sleep(super::pause(failures, POLL * 2));
                    self.news.announce();
                }
            }
        }
    }

    /// Listens until the store closes or the connection breaks.
    fn listen(&self, mut session: Session) -> Result<()> {
        let unavailable = |error: postgres::Error| explain(&error, "LISTEN").0;
        session
            .client
            .batch_execute(&format!("{PATIENCE}; LISTEN {}", self.channel))
            .map_err(unavailable)?;
        let (mut compared, mut looked) = (Instant::now(), Instant::now());
        while !self.closed.load(Ordering::Acquire) {
            let told = session
                .client
                .notifications()
                .timeout_iter(POLL)
                .next()
                .map_err(unavailable)?;
            if told.is_some() {
                self.news.announce();
            }
            if compared.elapsed() >= CLOCK_INTERVAL {
                self.offset.store(measure_offset(&mut session)?, Ordering::Relaxed);
                compared = Instant::now();
            }
            if looked.elapsed() >= GROWTH_INTERVAL {
                if let Err(error) = statistics::refresh(&mut session) {
                    tracing::debug!(%error, "the statistics of the database stay as they are");
                }
                looked = Instant::now();
            }
        }
        Ok(())
    }
}

/// How far the database's clock is ahead of this machine's, in milliseconds.
fn measure_offset(session: &mut Session) -> Result<Millis> {
    let before = local_clock();
    let theirs: Millis = session
        .client
        .query_one(
            "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
            &[],
        )
        .and_then(|row| row.try_get(0))
        .map_err(|error| explain(&error, "clock_timestamp").0)?;
    let after = local_clock();
    let offset = theirs - before.midpoint(after);
    let noise = CLOCK_NOISE + (after - before).max(0);
    Ok(if offset.abs() <= noise { 0 } else { offset })
}

fn local_clock() -> Millis {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(elapsed.as_millis()).unwrap_or(Millis::MAX)
}
