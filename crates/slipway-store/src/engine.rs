//! Threads that own database connections, and the small SQL surface that domain modules use.
//!
//! A job is a closure over [`Tx`]; it may run more than once (a PostgreSQL transaction that lost a
//! race is retried), so it must not consume what it captures. On SQLite one writer thread per file
//! takes the jobs that wait, runs each in its own savepoint, commits once, then answers: group
//! commit. Readers run on connections of their own. On PostgreSQL every worker runs one job per
//! transaction at READ COMMITTED; rows that a job reads and then changes are locked with
//! [`Tx::for_update`].
//!
//! SQL is written once for both: `$1` parameters, `BIGINT`, `TEXT`, `DOUBLE PRECISION` and bytes,
//! `ON CONFLICT`, `RETURNING`, explicit `CAST` where a parameter's type is not evident.

use crate::error::Result;

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

/// A parameter or a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// BIGINT; booleans are 0 and 1.
    Int(i64),
    /// DOUBLE PRECISION.
    Real(f64),
    /// TEXT.
    Text(String),
    /// BYTEA or BLOB.
    Bytes(Vec<u8>),
}

/// One row of an answer, by column position.
#[derive(Debug, Clone)]
pub struct Row(pub Vec<Value>);

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

    /// ` FOR UPDATE` on PostgreSQL, nothing on SQLite, whose writer is alone.
    fn for_update(&self) -> &'static str {
        match self.dialect() {
            Dialect::Sqlite => "",
            Dialect::Postgres => " FOR UPDATE",
        }
    }
}

/// The threads and their connections.
pub struct Engine {}
