//! Threads that own database connections, and the small SQL surface that domain modules use.
//!
//! A job is a closure over [`Tx`]; it may run more than once (a PostgreSQL transaction that lost a
//! race is retried, a group of SQLite's is if one of its jobs failed half-way), so it must not
//! consume what it captures. On SQLite one writer thread per file takes the jobs that wait, runs
//! them in one transaction, commits once, then answers: group commit. Readers run on connections of
//! their own. On PostgreSQL every worker runs one job per transaction at READ COMMITTED; rows that a job reads and then changes are locked with
//! [`Tx::for_update`]. Nothing is answered, and no watcher is told, before its commit.
//!
//! SQL is written once for both: `$1` parameters (SQLite alone also takes `?`, in order), `BIGINT`, `TEXT`, `DOUBLE PRECISION` and bytes,
//! `ON CONFLICT`, `RETURNING`, explicit `CAST` where a parameter's type is not evident. Many rows
//! travel as few parameters: see [`Records`].

mod bulk;
mod inbox;
mod job;
mod migrations;
mod postgres;
mod records;
mod sqlite;
mod tls;
mod value;

use std::sync::Arc;

use slipway_failpoint as failpoint;
use slipway_model::Millis;
use tokio::sync::{broadcast, oneshot, watch};

use crate::Store;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::options::{Database, Options};

pub(crate) use bulk::{Conflict, insert_all, next_number, next_numbers};
pub(crate) use records::{Field, Records, few};
pub use value::{Row, Value};

use job::{Job, Task};

/// Which file a job touches. On PostgreSQL both are the same database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Identity, queues, items, agents, run rows, artifacts, events.
    Control,
    /// History, console lines, system metrics: large and never in the way of a pop.
    RunData,
}

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

/// An open transaction.
pub trait Tx {
    /// Which SQL is spoken.
    fn dialect(&self) -> Dialect;

    /// Runs a statement and returns all its rows. Statements are prepared once per connection.
    ///
    /// # Errors
    /// If the database refuses or is away.
    fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>>;

    /// Runs a statement and returns how many rows it changed.
    ///
    /// # Errors
    /// If the database refuses or is away.
    fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64>;

    /// Notes that this transaction appended events: watchers hear of it after the commit. SQLite's
    /// followers get the events themselves; on PostgreSQL their positions are not known yet.
    fn publish(&mut self, events: Vec<Event>);

    /// Runs a statement that yields at most one row, and returns it.
    ///
    /// # Errors
    /// If the database refuses or is away.
    fn query_opt(&mut self, sql: &str, params: &[Value]) -> Result<Option<Row>> {
        Ok(self.query(sql, params)?.into_iter().next())
    }

    /// Runs a statement that always yields a row, and returns the first.
    ///
    /// # Errors
    /// If the database refuses or is away, or yields nothing.
    fn query_one(&mut self, sql: &str, params: &[Value]) -> Result<Row> {
        self.query_opt(sql, params)?
            .ok_or_else(|| Error::Internal(format!("a statement yielded no row: {sql}")))
    }

    /// ` FOR UPDATE` on PostgreSQL, nothing on SQLite, whose writer is alone.
    fn for_update(&self) -> &'static str {
        match self.dialect() {
            Dialect::Sqlite => "",
            Dialect::Postgres => " FOR UPDATE",
        }
    }
}

/// Builds a parameter list: `params![id, name, None::<i64>]`.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$($crate::engine::Value::from($value)),*][..]
    };
}
pub(crate) use params;

/// The threads and their connections. Dropping it answers what waits, then ends the threads.
pub(crate) struct Engine {
    backend: Backend,
    news: News,
}

/// How many commits a follower of the record may lag behind before it reads the table.
const FEED: usize = 1_024;

/// What watchers hear after a commit.
#[derive(Clone)]
struct News {
    hint: watch::Sender<u64>,
    feed: broadcast::Sender<Arc<[Event]>>,
}

impl News {
    fn new() -> Self {
        Self {
            hint: watch::Sender::new(0),
            feed: broadcast::Sender::new(FEED),
        }
    }

    /// Tells every watcher that there are new events.
    fn announce(&self) {
        self.hint.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Hands new events to every follower.
    fn pass_on(&self, events: Vec<Event>) {
        if !events.is_empty() && self.feed.receiver_count() > 0 {
            // The last receiver may have gone at this moment; then nobody misses them.
            let _followers = self.feed.send(events.into());
        }
    }
}

enum Backend {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

/// Whether a job changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl Engine {
    fn open(options: Options) -> Result<Self> {
        let news = News::new();
        let backend = match options.database {
            Database::Sqlite { dir } => Backend::Sqlite(sqlite::Sqlite::open(
                &dir,
                options.require_durable,
                options.sqlite_max_pages,
                news.clone(),
            )?),
            Database::Postgres { url, connections } => Backend::Postgres(postgres::Postgres::open(
                &url,
                connections,
                options.require_durable,
                news.clone(),
            )?),
        };
        Ok(Self { backend, news })
    }

    fn submit(&self, lane: Lane, access: Access, job: Box<dyn Job>) -> Result<()> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.submit(lane, access, job),
            Backend::Postgres(postgres) => postgres.submit(access, job),
        }
    }

    async fn run<T, F>(&self, lane: Lane, access: Access, label: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.submit(lane, access, Box::new(Task::new(label, work, reply)))?;
        answer
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable("the store is shutting down".to_owned())))
    }
}

impl Store {
    /// Opens the database: locks it or checks the server, verifies that it keeps what it
    /// acknowledges, and brings its schema up to date.
    ///
    /// # Errors
    /// [`Error::Unfit`] if the database must not be used as it is (in use by another server, unsafe
    /// settings, a schema newer than this program); [`Error::Unavailable`] if it cannot be reached.
    pub async fn open(options: Options) -> Result<Self> {
        let (reply, answer) = oneshot::channel();
        // Opening blocks, and the synchronous PostgreSQL client may not run on a runtime's thread.
        std::thread::Builder::new()
            .name("store-open".to_owned())
            .spawn(move || {
                // A caller that went away needs no answer; the engine then closes here.
                let _unheard = reply.send(Engine::open(options));
            })
            .map_err(|error| Error::Unavailable(format!("cannot start a thread: {error}")))?;
        let engine = answer
            .await
            .map_err(|_| Error::Internal("opening the store panicked".to_owned()))??;
        Ok(Self {
            engine: Arc::new(engine),
            turn: Arc::default(),
            pushes: Arc::default(),
            ticked: Arc::default(),
        })
    }

    /// Runs a job that changes something; returns after its commit. `label` names the operation in
    /// logs, and in failpoints as `<label>.begun` and `<label>.committed`.
    pub(crate) async fn write<T, F>(&self, lane: Lane, label: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.engine.run(lane, Access::Write, label, work).await
    }

    /// Runs a job that only reads. On SQLite it sees one snapshot; on PostgreSQL each statement
    /// sees what was committed when it began.
    pub(crate) async fn read<T, F>(&self, lane: Lane, label: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        self.engine.run(lane, Access::Read, label, work).await
    }

    /// The caller's time, corrected by how far this machine's clock is from the database's. Leases
    /// and heartbeats of several servers are then measured by one clock.
    pub(crate) fn clock(&self, now: Millis) -> Millis {
        match &self.engine.backend {
            Backend::Sqlite(_) => now,
            Backend::Postgres(postgres) => now + postgres.clock_offset(),
        }
    }

    /// Which SQL the database speaks.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match &self.engine.backend {
            Backend::Sqlite(_) => Dialect::Sqlite,
            Backend::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Calls back after each commit that added events, on any replica: a hint that
    /// [`Store::events`] has more. Coalesced; a slow poll belongs beside it.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.engine.news.hint.subscribe()
    }

    /// Events as this process commits them; silent on PostgreSQL.
    pub(crate) fn feed(&self) -> broadcast::Receiver<Arc<[Event]>> {
        self.engine.news.feed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(Options::sqlite(dir.path())).await.expect("a store");
        (dir, store)
    }

    #[tokio::test]
    async fn the_signing_key_is_made_once() {
        let (dir, store) = open().await;
        let key = store.signing_key().await.unwrap();
        assert_eq!(store.signing_key().await.unwrap(), key);
        drop(store);
        let store = Store::open(Options::sqlite(dir.path())).await.unwrap();
        assert_eq!(store.signing_key().await.unwrap(), key);
    }

    #[tokio::test]
    async fn a_directory_has_one_server() {
        let (dir, store) = open().await;
        let error = Store::open(Options::sqlite(dir.path())).await.err().unwrap();
        assert!(
            matches!(&error, Error::Unfit(text) if text.contains(&*dir.path().to_string_lossy())),
            "{error}"
        );
        drop(store);
        Store::open(Options::sqlite(dir.path())).await.unwrap();
    }

    #[tokio::test]
    async fn a_failed_job_leaves_no_trace_and_a_panic_is_an_error() {
        let (_dir, store) = open().await;
        let insert = |tx: &mut dyn Tx| {
            tx.execute(
                "INSERT INTO settings (name, value) VALUES ($1, $2)",
                params!["x", [1; 1]],
            )
        };
        let failed: Result<()> = store
            .write(Lane::Control, "test", move |tx| {
                insert(tx)?;
                Err(Error::Invalid("no".to_owned()))
            })
            .await;
        assert!(matches!(failed, Err(Error::Invalid(_))));
        let panicked: Result<()> = store
            .write(Lane::Control, "test", move |tx| {
                insert(tx)?;
                panic!("oops")
            })
            .await;
        assert!(matches!(panicked, Err(Error::Internal(text)) if text.contains("oops")));
        let rows = store
            .read(Lane::Control, "test", |tx| {
                tx.query("SELECT name FROM settings WHERE name = 'x'", params![])
            })
            .await
            .unwrap();
        assert!(rows.is_empty());
        assert_eq!(store.write(Lane::Control, "test", insert).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_job_that_fails_half_way_takes_nobody_of_its_group_with_it() {
        let (_dir, store) = open().await;
        // The first holds the writer until all others wait, which makes them one group.
        let (release, held) = std::sync::mpsc::channel::<()>();
        let gate = store.write(Lane::Control, "test", move |_| {
            held.recv().ok();
            Ok(())
        });
        let jobs = (0..9_i64).map(|number| {
            store.write(Lane::Control, "test", move |tx| {
                if number % 4 == 1 {
                    return Err(Error::Invalid("before".to_owned()));
                }
                let name = number.to_string();
                tx.execute(
                    "INSERT INTO settings (name, value) VALUES ($1, $2)",
                    params![name, [1; 1]],
                )?;
                match number % 4 {
                    2 => Err(Error::Invalid("half-way".to_owned())),
                    3 => panic!("half-way"),
                    _ => Ok(number),
                }
            })
        });
        let jobs = futures::future::join_all(jobs);
        let open = async move { release.send(()).expect("the writer waits") };
        let (_, answers, ()) = tokio::join!(gate, jobs, open);
        let done: Vec<i64> = answers.into_iter().filter_map(Result::ok).collect();
        assert_eq!(done, [0, 4, 8]);
        let names = store
            .read(Lane::Control, "test", |tx| {
                tx.query("SELECT name FROM settings WHERE name < 'A' ORDER BY name", params![])
            })
            .await
            .unwrap();
        let names: Vec<String> = names.iter().map(|row| row.text(0).unwrap()).collect();
        assert_eq!(names, ["0", "4", "8"]);
    }

    #[tokio::test]
    async fn records_turn_parameters_into_rows() {
        let (_dir, store) = open().await;
        let rows = store
            .read(Lane::Control, "test", |tx| {
                let rows = [params![1, "a"].to_vec(), params![2, None::<String>].to_vec()];
                let records = Records::new(tx.dialect(), &[("n", Field::Int), ("t", Field::Text)], rows)?;
                let sql = format!(
                    "SELECT n, t FROM {} AS r WHERE n > $1 ORDER BY n DESC",
                    records.source(2)
                );
                tx.query(&sql, &records.after(params![0]))
            })
            .await
            .unwrap();
        assert_eq!(rows[0].i64(0).unwrap(), 2);
        assert_eq!(rows[0].opt_text(1).unwrap(), None);
        assert_eq!(rows[1].text(1).unwrap(), "a");
    }
}
