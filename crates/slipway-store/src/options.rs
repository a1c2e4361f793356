//! How to open a store.

use std::path::PathBuf;

/// Where the data lives.
#[derive(Debug, Clone)]
pub enum Database {
    /// SQLite files in a directory, which is locked against a second server.
    Sqlite {
        /// The data directory; created if absent.
        dir: PathBuf,
    },
    /// PostgreSQL 15 or later.
    Postgres {
        /// A connection URL, `postgres://user:password@host:port/database?sslmode=…`.
        url: String,
        /// How many connections.
        connections: usize,
    },
}

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the data lives.
    pub database: Database,
    /// Refuse settings that could lose an acknowledged write. Only tests that do not look at
    /// durability switch it off.
    pub require_durable: bool,
    /// The largest size of each SQLite file, in pages of 4 KiB: beyond it the store answers as it
    /// does on a full disk. `None` leaves the disk as the limit. PostgreSQL ignores it.
    pub sqlite_max_pages: Option<u32>,
}

impl Options {
    /// SQLite in a directory.
    pub fn sqlite(dir: impl Into<PathBuf>) -> Self {
        Self {
            database: Database::Sqlite { dir: dir.into() },
            require_durable: true,
            sqlite_max_pages: None,
        }
    }

    /// PostgreSQL at a URL.
    pub fn postgres(url: impl Into<String>) -> Self {
        Self {
            database: Database::Postgres {
                url: url.into(),
                connections: 16,
            },
            require_durable: true,
            sqlite_max_pages: None,
        }
    }
}
