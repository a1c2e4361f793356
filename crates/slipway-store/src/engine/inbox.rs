//! The bounded line in which jobs wait for a thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Access;
use super::job::Job;
use crate::error::{Error, Result};

/// How many jobs may wait. Beyond that the store is too busy, and says so at once rather than
/// after the caller's patience has ended.
const CAPACITY: usize = 32_768;

/// Many senders, many receivers, first in first out.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    arrival: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(Access, Box<dyn Job>)>,
    closed: bool,
}

impl Inbox {
    /// Lines a job up.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if too many wait already, or the store is closing.
    pub(super) fn put(&self, access: Access, job: Box<dyn Job>) -> Result<()> {
        let mut state = self.lock();
        if state.closed {
            return Err(Error::Unavailable("the store is shutting down".to_owned()));
        }
        if state.jobs.len() >= CAPACITY {
            return Err(Error::Unavailable(format!("{CAPACITY} requests wait already")));
        }
        state.jobs.push_back((access, job));
        drop(state);
        self.arrival.notify_one();
        Ok(())
    }

    /// Waits for a job; `None` once the inbox is closed and empty.
    pub(super) fn wait(&self) -> Option<(Access, Box<dyn Job>)> {
        let mut state = self
            .arrival
            .wait_while(self.lock(), |state| state.jobs.is_empty() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        state.jobs.pop_front()
    }

    /// A job that waits already.
    pub(super) fn take(&self) -> Option<Box<dyn Job>> {
        self.lock().jobs.pop_front().map(|(_, job)| job)
    }

    /// Lets receivers finish what waits, and refuses more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrival.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that runs under this lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
