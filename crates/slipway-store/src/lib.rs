//! Durable state: identity, queues, items, agents, runs, artifacts, events and blobs.
//!
//! [`Store`] speaks in domain words. Each domain module is written once, as synchronous functions
//! over [`engine::Tx`]; the engine runs them on threads that own a connection: SQLite with one
//! writer per file and several readers, PostgreSQL with a pool of workers. What a method returned
//! is on disk.
//!
//! The store knows nothing of HTTP, GraphQL or the wire's wording, and makes no decision about
//! who may do what: callers check permissions, the store checks states, leases and names.

pub mod agents;
pub mod artifacts;
pub mod blobs;
pub mod engine;
pub mod error;
pub mod events;
pub mod garbage;
pub mod identity;
pub mod items;
pub mod options;
pub mod projects;
pub mod queues;
pub mod run_data;
pub mod runs;
mod settings;
pub mod tail;

pub use error::{Error, Result};
pub use options::{Database, Options};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// A handle to the database; cheap to clone.
#[derive(Clone)]
pub struct Store {
    engine: Arc<engine::Engine>,
    /// Which queue the next lease looks at first.
    turn: Arc<AtomicUsize>,
    /// Pushes that wait for a transaction, on PostgreSQL.
    pushes: Arc<items::PushLine>,
    /// Whether the tick has had a turn since the store was opened.
    ticked: Arc<AtomicBool>,
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Whether more follow the last row.
    pub more: bool,
}
