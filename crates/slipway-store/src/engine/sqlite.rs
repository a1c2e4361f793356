//! SQLite: two files in a locked directory; each with one thread that writes, several that read, and one
//! that carries the log over into the file.
//!
//! The writer commits in groups. It takes the job that waits longest, runs whatever else waits in
//! the same transaction, commits once and answers all: one `fdatasync` then serves hundreds of
//! requests. It never waits for a group to fill. A job that fails half-way is undone alone.

use std::fs::{self, File, OpenOptions};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::inbox::Inbox;
use super::job::Job;
use super::{Access, Dialect, Lane, News, Row, Tx, Value, failpoint, migrations};
use crate::error::{Error, Result};
use crate::events::Event;
use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode, ToSql};

/// Reader threads per file.
const READERS: usize = 3;

/// A group ends after this many jobs, statements or bytes, whichever is first.
const GROUP_JOBS: usize = 1024;
const GROUP_STATEMENTS: usize = 20_000;
const GROUP_BYTES: usize = 8 << 20;

/// A group takes more jobs for as long as its commit is going to take, judged by the one before, within
/// these bounds. Its first job waits for its last, and whoever is answered at one moment comes back at
/// one moment, while the writer has nothing to do: on a fast disk small groups keep it busy, on a slow
/// one large groups pay.
const GROUP_TIME: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(15);

/// After how many pages of the log it is carried over into the file, by a thread of its own, while the
/// writer goes on: on a slow disk that takes as long as hundreds of commits.
const CARRY_OVER: i32 = 4_000;

/// At how many pages of the log the writer carries over what is left, which is little. Only a log that is
/// carried over to its end starts anew, and while the writer goes on the other thread never sees the end. As
/// large as what `journal_size_limit` keeps.
const LONGEST_LOG: i32 = 16_000;

/// At how many pages of the log that is told: a reader that does not end keeps it, or the disk.
const FAR_TOO_LONG: i32 = 4 * LONGEST_LOG;

/// Prepared statements kept per connection.
const STATEMENTS: usize = 512;

/// The two files and their threads.
pub(super) struct Sqlite {
    control: FileThreads,
    run_data: FileThreads,
    /// Held until the last thread has closed its connection.
    _lock: File,
}

impl Sqlite {
    pub(super) fn open(dir: &Path, require_durable: bool, max_pages: Option<u32>, news: News) -> Result<Self> {
        make_dir(dir)?;
        let lock = lock_dir(dir)?;
        let open = |name: &str, lane| FileThreads::open(dir.join(name), lane, require_durable, max_pages, &news);
        let control = open("control.db", Lane::Control)?;
        let run_data = open("run-data.db", Lane::RunData)?;
        // The files' names are durable only once the directory is.
        sync_dir(dir)?;
        Ok(Self {
            control,
            run_data,
            _lock: lock,
        })
    }

    pub(super) fn submit(&self, lane: Lane, access: Access, job: Box<dyn Job>) -> Result<()> {
        let threads = match lane {
            Lane::Control => &self.control,
            Lane::RunData => &self.run_data,
        };
        match access {
            Access::Read => threads.reads.put(access, job),
            Access::Write => threads.writes.put(access, job),
        }
    }
}

fn make_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| at(dir, "cannot create the data directory", &error))?;
    match dir.canonicalize().ok().as_deref().and_then(Path::parent) {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(|error| at(dir, "cannot make the directory durable", &error))
}

fn lock_dir(dir: &Path) -> Result<File> {
    use rustix::fs::{FlockOperation, flock};

    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| at(&path, "cannot open the lock file", &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Unfit(format!(
            "the data directory `{}` is in use by another server: stop that server, or choose another directory",
            dir.display()
        ))),
        Err(error) => Err(at(&path, "cannot lock the data directory", &error.into())),
    }
}

fn at(path: &Path, what: &str, error: &std::io::Error) -> Error {
    Error::Unfit(format!("{what} `{}`: {error}", path.display()))
}

/// One file.
struct FileThreads {
    writes: Arc<Inbox>,
    reads: Arc<Inbox>,
    threads: Vec<JoinHandle<()>>,
    /// Held until all connections are closed: to close it takes the locks away that SQLite has on the file in
    /// this process.
    file: Arc<File>,
}

impl FileThreads {
    fn open(path: PathBuf, lane: Lane, require_durable: bool, max_pages: Option<u32>, news: &News) -> Result<Self> {
        let mut connection = connect(&path, require_durable)?;
        let place = format!("the database `{}`", path.display());
        migrations::migrate(&mut connection, lane, Dialect::Sqlite, &place)?;
        if let Some(pages) = max_pages {
            command(&connection, &format!("PRAGMA max_page_count = {pages}"))?;
        }
        let readers = (0..READERS)
            .map(|_| connect_reader(&path, require_durable))
            .collect::<Result<Vec<_>>>()?;

        let mut file = Self {
            writes: Arc::default(),
            reads: Arc::default(),
            threads: Vec::with_capacity(2 + READERS),
            file: Arc::new(File::open(&path).map_err(|error| at(&path, "cannot open", &error))?),
        };
        let (asked, requests) = sync_channel(1);
        carry_over_in_time(&mut connection, asked)
            .map_err(|error| Error::Unfit(format!("cannot watch the log of {place}: {error}")))?;
        let carrier = connect(&path, require_durable)?;
        let (inbox, news) = (Arc::clone(&file.writes), news.clone());
        let writer = Writer {
            connection,
            news,
            patience: *GROUP_TIME.start(),
        };
        file.spawn("store-write", move || writer.run(&inbox))?;
        for connection in readers {
            let inbox = Arc::clone(&file.reads);
            file.spawn("store-read", move || read_all(&connection, &inbox))?;
        }
        let database = Arc::clone(&file.file);
        file.spawn("store-carry", move || carry_over(&carrier, &database, &requests))?;
        Ok(file)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map_err(|error| Error::Unavailable(format!("cannot start a thread: {error}")))?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for FileThreads {
    fn drop(&mut self) {
        self.writes.close();
        self.reads.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a store thread panicked");
            }
        }
    }
}

fn connect(path: &Path, require_durable: bool) -> Result<Connection> {
    let unfit = |error: rusqlite::Error| Error::Unfit(format!("cannot open `{}`: {error}", path.display()));
    let connection = Connection::open(path).map_err(unfit)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection
        .execute_batch(
            "PRAGMA busy_timeout = 5000;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;
             PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -16384;
             PRAGMA journal_size_limit = 67108864;
             PRAGMA wal_autocheckpoint = 0;",
        )
        .map_err(unfit)?;
    // Otherwise a statement is prepared anew whenever a parameter changes that a plan could depend on,
    // for many several times what running it costs.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(unfit)?;
    if require_durable {
        check_durable(&connection, path)?;
    }
    Ok(connection)
}

fn connect_reader(path: &Path, require_durable: bool) -> Result<Connection> {
    let connection = connect(path, require_durable)?;
    connection
        .execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -16384;")
        .map_err(|error| Error::Unfit(format!("cannot open `{}` for reading: {error}", path.display())))?;
    Ok(connection)
}

/// Has the log of a writer carried over: by whoever receives the requests, and once it is long by the writer.
/// What cannot be carried over now, because the disk is full or somebody reads, stays in the log, which is
/// as durable as the file.
fn carry_over_in_time(writer: &mut Connection, asked: SyncSender<()>) -> rusqlite::Result<()> {
    let (mut next, mut told) = (CARRY_OVER, FAR_TOO_LONG);
    writer.wal_hook(Some(move |log: &mut Wal, pages| {
        if pages < next - CARRY_OVER {
            (next, told) = (CARRY_OVER, FAR_TOO_LONG);
        }
        if pages >= LONGEST_LOG {
            // Otherwise again with the next commit.
            let carried = log.checkpoint();
            if pages >= told {
                told = told.saturating_mul(2);
                let error = carried.err().map(|error| error.to_string());
                tracing::warn!(
                    pages,
                    error,
                    "the database's log grows: it cannot be carried over to its end"
                );
            }
        } else if pages >= next {
            next = pages + CARRY_OVER;
            let _asked_already = asked.try_send(());
        }
        Ok(())
    }))
}

/// Carries a log over into its file whenever asked, until the writer is gone. SQLite makes the file durable
/// only with the end of the log; to do so here leaves little of that to the writer.
fn carry_over(connection: &Connection, file: &File, requests: &Receiver<()>) {
    while requests.recv().is_ok() {
        if let Err(error) = command(connection, "PRAGMA wal_checkpoint(PASSIVE)") {
            tracing::debug!(%error, "the log was not carried over");
        }
        if let Err(error) = file.sync_data() {
            tracing::debug!(%error, "the file was not made durable ahead of the log's end");
        }
    }
}

/// Reads back what SQLite made of the settings: it ignores a setting that it cannot honour, such
/// as WAL on a file system without shared memory.
fn check_durable(connection: &Connection, path: &Path) -> Result<()> {
    for (pragma, wanted) in [("journal_mode", "wal"), ("synchronous", "2"), ("foreign_keys", "1")] {
        let found = connection
            .query_row(&format!("PRAGMA {pragma}"), [], |row| {
                Ok(match row.get_ref(0)? {
                    ValueRef::Integer(number) => number.to_string(),
                    ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    _ => String::new(),
                })
            })
            .map_err(|error| Error::Unfit(format!("cannot read `{pragma}` of `{}`: {error}", path.display())))?;
        if found != wanted {
            return Err(Error::Unfit(format!(
                "SQLite runs `{}` with {pragma} = {found} instead of {wanted}, so acknowledged writes could be lost: \
                 put the data directory on a local file system",
                path.display()
            )));
        }
    }
    Ok(())
}

/// The one connection that writes a file.
struct Writer {
    connection: Connection,
    news: News,
    /// For how long a group takes more jobs.
    patience: Duration,
}

impl Writer {
    fn run(mut self, inbox: &Inbox) {
        while let Some((_, first)) = inbox.wait() {
            self.group(first, inbox);
        }
    }

    /// Runs one job and those that wait behind it in one transaction, commits, and answers.
    fn group(&mut self, first: Box<dyn Job>, inbox: &Inbox) {
        let end = Instant::now() + self.patience;
        let mut group = Group::default();
        if let Err(error) = self.command("BEGIN IMMEDIATE") {
            let mut first = first;
            first.fail(error);
            first.answer();
            return;
        }
        let mut next = Some(first);
        while let Some(mut job) = next {
            let left = self.run_job(job.as_mut(), &mut group);
            group.jobs.push(job);
            next = match left {
                Left::Nothing if !group.is_full(end) => inbox.take(),
                Left::Nothing => None,
                Left::Changes => match self.run_apart(group.jobs) {
                    Ok(again) => {
                        group = again;
                        None
                    }
                    Err((again, error)) => return self.abandon(again, &error),
                },
            };
        }
        for job in &group.jobs {
            failpoint::hit(job.label(), "begun");
        }
        let committing = Instant::now();
        if let Err(error) = self.command("COMMIT") {
            return self.abandon(group, &error);
        }
        self.patience = committing.elapsed().clamp(*GROUP_TIME.start(), *GROUP_TIME.end());
        for job in &group.jobs {
            failpoint::hit(job.label(), "committed");
        }
        if group.published {
            self.news.announce();
            self.news.pass_on(group.events);
        }
        for job in group.jobs {
            job.answer();
        }
    }

    /// Runs a job in the group's transaction.
    fn run_job(&self, job: &mut dyn Job, group: &mut Group) -> Left {
        let before = self.connection.total_changes();
        let mut tx = SqliteTx::new(&self.connection);
        let done = job.run(&mut tx);
        if self.connection.is_autocommit() {
            // SQLite has undone what the group did so far.
            return Left::Changes;
        }
        if done {
            group.take(tx);
            return Left::Nothing;
        }
        // Nearly every job that fails does so before it changes anything: nobody else needs to know.
        if self.connection.total_changes() == before {
            Left::Nothing
        } else {
            Left::Changes
        }
    }

    /// Starts a group over with each job in a savepoint, because one of them failed half-way: what it
    /// did is undone alone then. That costs every job two statements and copies of the pages that it
    /// changes, which is why it is not done at once. An error means that SQLite has ended the whole
    /// transaction, as it does when the disk is full.
    fn run_apart(&self, jobs: Vec<Box<dyn Job>>) -> std::result::Result<Group, (Group, Error)> {
        let mut group = Group {
            jobs,
            ..Group::default()
        };
        let mut jobs = std::mem::take(&mut group.jobs);
        let done = self.restart().and_then(|()| {
            jobs.iter_mut()
                .try_for_each(|job| self.savepoint(job.as_mut(), &mut group))
        });
        group.jobs = jobs;
        match done {
            Ok(()) => Ok(group),
            Err(error) => Err((group, error)),
        }
    }

    fn restart(&self) -> Result<()> {
        if !self.connection.is_autocommit() {
            self.command("ROLLBACK")?;
        }
        self.command("BEGIN IMMEDIATE")
    }

    /// Runs a job in a savepoint and undoes what it did if it fails.
    fn savepoint(&self, job: &mut dyn Job, group: &mut Group) -> Result<()> {
        self.command("SAVEPOINT job")?;
        let mut tx = SqliteTx::new(&self.connection);
        if job.run(&mut tx) {
            group.take(tx);
        } else if self.connection.is_autocommit() {
            return Err(Error::Unavailable(
                "SQLite gave the transaction up; the disk may be full".to_owned(),
            ));
        } else {
            self.command("ROLLBACK TO job")?;
        }
        self.command("RELEASE job")
    }

    /// Nothing of a group is on disk: everybody in it may try again.
    fn abandon(&self, group: Group, error: &Error) {
        tracing::warn!(jobs = group.jobs.len(), %error, "a group of writes was not committed");
        if !self.connection.is_autocommit() {
            // The transaction's changes are in no way visible; a failure here ends with the next BEGIN's.
            let _ended = self.command("ROLLBACK");
        }
        let text = match error {
            Error::Unavailable(text) => text.clone(),
            other => other.to_string(),
        };
        for mut job in group.jobs {
            job.fail(Error::Unavailable(text.clone()));
            job.answer();
        }
    }

    fn command(&self, sql: &str) -> Result<()> {
        command(&self.connection, sql)
    }
}

#[derive(Default)]
struct Group {
    jobs: Vec<Box<dyn Job>>,
    statements: usize,
    bytes: usize,
    published: bool,
    events: Vec<Event>,
}

/// What a job that failed left in the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    Changes,
}

impl Group {
    /// Takes over what a job did.
    fn take(&mut self, mut tx: SqliteTx<'_>) {
        self.published |= tx.published;
        self.events.append(&mut tx.events);
        self.statements += tx.statements;
        self.bytes += tx.bytes;
    }

    fn is_full(&self, end: Instant) -> bool {
        self.jobs.len() >= GROUP_JOBS
            || self.statements >= GROUP_STATEMENTS
            || self.bytes >= GROUP_BYTES
            || Instant::now() >= end
    }
}

fn read_all(connection: &Connection, inbox: &Inbox) {
    while let Some((_, mut job)) = inbox.wait() {
        match command(connection, "BEGIN") {
            Ok(()) => {
                job.run(&mut SqliteTx::new(connection));
                // A read leaves nothing to keep; ending it lets the next one see newer data.
                if !connection.is_autocommit()
                    && let Err(error) = command(connection, "ROLLBACK")
                {
                    tracing::warn!(%error, "a read transaction did not end");
                }
            }
            Err(error) => job.fail(error),
        }
        job.answer();
    }
}

fn command(connection: &Connection, sql: &str) -> Result<()> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query([])?.next().map(drop))
        .map_err(|error| explain(&error, sql))
}

/// One job's view of the connection.
struct SqliteTx<'connection> {
    connection: &'connection Connection,
    published: bool,
    events: Vec<Event>,
    statements: usize,
    bytes: usize,
}

impl<'connection> SqliteTx<'connection> {
    fn new(connection: &'connection Connection) -> Self {
        Self {
            connection,
            published: false,
            events: Vec::new(),
            statements: 0,
            bytes: 0,
        }
    }

    fn prepare(&mut self, sql: &str, params: &[Value]) -> Result<CachedStatement<'connection>> {
        let mut statement = self
            .connection
            .prepare_cached(sql)
            .map_err(|error| explain(&error, sql))?;
        // SQLite numbers named parameters by first appearance, not by their digits.
        let mut bound = 0;
        for index in 1..=statement.parameter_count() {
            let number = match statement.parameter_name(index) {
                None => Some(index),
                Some(name) => name.strip_prefix('$').and_then(|digits| digits.parse().ok()),
            };
            let value = number
                .and_then(|number: usize| params.get(number.checked_sub(1)?))
                .ok_or_else(|| Error::Internal(format!("parameter {index} has no value in: {sql}")))?;
            statement
                .raw_bind_parameter(index, value)
                .map_err(|error| explain(&error, sql))?;
            bound += 1;
            self.bytes += value.size();
        }
        if bound != params.len() {
            return Err(Error::Internal(format!(
                "{} values for {bound} parameters in: {sql}",
                params.len()
            )));
        }
        self.statements += 1;
        Ok(statement)
    }
}

impl Tx for SqliteTx<'_> {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>> {
        let mut statement = self.prepare(sql, params)?;
        let columns = statement.column_count();
        let mut rows = statement.raw_query();
        let mut answer = Vec::new();
        while let Some(row) = rows.next().map_err(|error| explain(&error, sql))? {
            let values = (0..columns)
                .map(|column| row.get_ref(column).map(Value::from))
                .collect::<rusqlite::Result<Vec<_>>>()
                .map_err(|error| explain(&error, sql))?;
            answer.push(Row(values));
        }
        Ok(answer)
    }

    fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64> {
        let mut statement = self.prepare(sql, params)?;
        let changed = statement.raw_execute().map_err(|error| explain(&error, sql))?;
        Ok(changed as u64)
    }

    fn publish(&mut self, mut events: Vec<Event>) {
        self.published = true;
        self.events.append(&mut events);
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Bytes(value) => ValueRef::Blob(value),
            Self::Ints(_) | Self::Texts(_) => {
                return Err(rusqlite::Error::ToSqlConversionFailure(
                    "a list is no value of SQLite".into(),
                ));
            }
        }))
    }
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(value) => Self::Int(value),
            ValueRef::Real(value) => Self::Real(value),
            ValueRef::Text(value) => Self::Text(String::from_utf8_lossy(value).into_owned()),
            ValueRef::Blob(value) => Self::Bytes(value.to_vec()),
        }
    }
}

/// Sorts SQLite's errors into those that pass and those that are defects.
fn explain(error: &rusqlite::Error, sql: &str) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Unavailable("the disk is full".to_owned()),
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::OutOfMemory
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked,
        ) => Error::Unavailable(error.to_string()),
        _ => Error::Internal(format!("{error} in: {sql}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: i32 = 1_000;

    fn writer(path: &Path) -> (Connection, Receiver<()>) {
        let mut writer = connect(path, true).expect("a connection");
        let (asked, requests) = sync_channel(1);
        carry_over_in_time(&mut writer, asked).expect("a hook");
        writer.execute_batch("CREATE TABLE t (x BLOB)").expect("a table");
        (writer, requests)
    }

    /// Writes so many pages in one commit.
    fn write_each(writer: &Connection) {
        writer
            .execute("INSERT INTO t VALUES (zeroblob(4096 * ?1))", [EACH])
            .expect("a row");
    }

    fn pages(path: &Path) -> i32 {
        let bytes = fs::metadata(path).expect("a file").len();
        i32::try_from(bytes / 4_096).expect("pages")
    }

    #[test]
    fn a_log_that_nobody_else_carries_over_stays_bounded() {
        for (who, reads) in [("nobody", false), ("somebody, for a while", true)] {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("control.db");
            let (writer, _requests) = writer(&path);
            let reader = connect(&path, true).expect("a connection");
            if reads {
                command(&reader, "BEGIN").expect("a transaction");
                command(&reader, "SELECT count(*) FROM t").expect("a snapshot");
            }
            for _ in 0..20 {
                write_each(&writer);
            }
            if reads {
                assert!(pages(&dir.path().join("control.db-wal")) > LONGEST_LOG + EACH);
                command(&reader, "ROLLBACK").expect("an end");
                // One that carries it over, and one that begins it anew.
                write_each(&writer);
                write_each(&writer);
            }
            let log = pages(&dir.path().join("control.db-wal"));
            assert!(log <= LONGEST_LOG + 2 * EACH, "{who} reads: {log} pages");
        }
    }

    #[test]
    fn a_log_is_carried_over_while_it_is_short_and_by_nobody_once_its_writer_is_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("control.db");
        let (writer, requests) = writer(&path);
        let carrier = connect(&path, true).expect("a connection");
        let file = File::open(&path).expect("a file");
        // Whoever closes last carries over as well.
        let _last = connect(&path, true).expect("a connection");
        let carrying = std::thread::spawn(move || carry_over(&carrier, &file, &requests));
        for _ in 0..(CARRY_OVER / EACH + 1) {
            write_each(&writer);
        }
        drop(writer);
        carrying.join().expect("a thread that ends");
        assert!(pages(&path) >= CARRY_OVER, "{} pages", pages(&path));
    }

    #[test]
    fn a_file_that_could_lose_writes_is_refused_by_the_settings_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("control.db");
        let connection = connect(&path, true).expect("a connection");
        for (change, told) in [
            ("PRAGMA synchronous = NORMAL", "synchronous = 1 instead of 2"),
            (
                "PRAGMA synchronous = FULL; PRAGMA journal_mode = DELETE",
                "journal_mode = delete instead of wal",
            ),
        ] {
            connection.execute_batch(change).expect("a change");
            let error = check_durable(&connection, &path).expect_err(change).to_string();
            assert!(error.contains(told) && error.contains("control.db"), "{error}");
        }
    }
}
