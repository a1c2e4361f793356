//! PostgreSQL 15 or later: workers that own a connection each and run one job per transaction.
//!
//! A job that lost a race (serialization, deadlock, a unique key) or its connection before the
//! commit runs again, a bounded number of times. While the database is away jobs are answered
//! [`Error::Unavailable`] at once; a worker tries to connect again with a growing pause.

mod connect;
mod signals;
mod statistics;
mod tx;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use slipway_model::Millis;

use super::inbox::Inbox;
use super::job::Job;
use super::{Access, News, failpoint};
use crate::error::{Error, Result};
use connect::{Server, Session};
use signals::Signals;

/// How often a job runs before it gives up.
const ATTEMPTS: u32 = 10;

/// The longest pause between attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The workers.
pub(super) struct Postgres {
    jobs: Arc<Inbox>,
    signals: Signals,
    workers: Vec<JoinHandle<()>>,
}

impl Postgres {
    pub(super) fn open(url: &str, connections: usize, require_durable: bool, news: News) -> Result<Self> {
        let server = Arc::new(Server::parse(url, require_durable)?);
        let mut first = server.connect()?;
        first.migrate(&server)?;
        let signals = Signals::start(&server, &mut first, news.clone())?;
        let mut postgres = Self {
            jobs: Arc::default(),
            signals,
            workers: Vec::with_capacity(connections.max(1)),
        };
        let mut session = Some(first);
        for _ in 0..connections.max(1) {
            let worker = Worker {
                server: Arc::clone(&server),
                session: session.take(),
                failures: 0,
                retry_at: Instant::now(),
                notify: postgres.signals.notifier(),
                news: news.clone(),
            };
            let inbox = Arc::clone(&postgres.jobs);
            let thread = std::thread::Builder::new()
                .name("store-worker".to_owned())
                .spawn(move || worker.run(&inbox))
                .map_err(|error| Error::Unavailable(format!("cannot start a thread: {error}")))?;
            postgres.workers.push(thread);
        }
        Ok(postgres)
    }

    pub(super) fn submit(&self, access: Access, job: Box<dyn Job>) -> Result<()> {
        self.jobs.put(access, job)
    }

    /// How far the database's clock is ahead of this machine's.
    pub(super) fn clock_offset(&self) -> Millis {
        self.signals.clock_offset()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.jobs.close();
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("a store thread panicked");
            }
        }
    }
}

/// How one attempt at a job ended.
enum Attempt {
    /// The job has its outcome.
    Done,
    /// Nothing was committed, and the next attempt may succeed.
    Again,
    /// The connection is lost; `true` if nothing can have been committed.
    Lost(bool),
}

struct Worker {
    server: Arc<Server>,
    session: Option<Session>,
    failures: u32,
    retry_at: Instant,
    notify: signals::Notifier,
    news: News,
}

impl Worker {
    fn run(mut self, inbox: &Inbox) {
        while let Some((access, mut job)) = inbox.wait() {
            self.work(access, job.as_mut());
            job.answer();
        }
    }

    fn work(&mut self, access: Access, job: &mut dyn Job) {
        for attempt in 1..=ATTEMPTS {
            let session = match self.session() {
                Ok(session) => session,
                Err(error) => return job.fail(error),
            };
            let attempted = match access {
                Access::Read => session.read(job),
                Access::Write => session.write(job),
            };
            match attempted {
                Attempt::Done => {
                    if access == Access::Write && session.take_published() {
                        self.news.announce();
                        self.notify.notify();
                    }
                    if access == Access::Write {
                        failpoint::hit(job.label(), "committed");
                    }
                    return;
                }
                Attempt::Again => {
                    tracing::debug!(
                        operation = job.label(),
                        attempt,
                        "a transaction lost a race and runs again"
                    );
                    std::thread::sleep(pause(attempt, Duration::from_millis(50)));
                }
                Attempt::Lost(uncommitted) => {
                    self.session = None;
                    if !uncommitted {
                        return;
                    }
                }
            }
        }
    }

    /// The connection, made again if it is gone.
    fn session(&mut self) -> Result<&mut Session> {
        if self.session.as_ref().is_some_and(Session::is_closed) {
            self.session = None;
        }
        if self.session.is_none() {
            if Instant::now() < self.retry_at {
                return Err(Error::Unavailable(format!("{} is away", self.server.place())));
            }
            match self.server.connect() {
                Ok(session) => {
                    self.failures = 0;
                    self.session = Some(session);
                }
                Err(error) => {
                    self.failures = self.failures.saturating_add(1);
                    self.retry_at = Instant::now() + pause(self.failures, LONGEST_PAUSE);
                    tracing::warn!(%error, "cannot connect to the database");
                    // Settings that became unsafe are as passing, for a caller, as an absent database.
                    return Err(Error::Unavailable(error.to_string()));
                }
            }
        }
        self.session
            .as_mut()
            .ok_or_else(|| Error::Internal("a connection is missing".to_owned()))
    }
}

/// A pause that doubles from a few milliseconds, with jitter so that rivals do not meet again.
fn pause(attempt: u32, longest: Duration) -> Duration {
    use rand::RngExt as _;

    let ceiling = Duration::from_millis(2 << attempt.min(16)).min(longest);
    ceiling.mul_f64(rand::rng().random_range(0.5..1.0))
}
