//! How a container is stopped, and how what is left of it goes.
//!
//! Both are repeated until the engine has done them: a container that runs on after a stop was
//! refused, or one that is left behind because it was busy, is nobody else's to look after.

use std::fs;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::calls::{created_only, remove, runs, stop, unpause};
use super::engine::Engine;
use super::{AGAIN, DONE, DockerRunner, Record, write};
use crate::process::directory;
use crate::{Line, RunnerError, WorkloadId};

/// The longest wait before a call that the engine refused is repeated.
const LONGEST: Duration = Duration::from_secs(30);

/// Whether there is something left to stop.
enum Stop {
    /// It has ended, or there is none.
    Over,
    /// It is there and does not run yet; a start may be on its way.
    NotYet,
}

impl DockerRunner {
    pub(super) fn stop_now(&self, id: &WorkloadId, grace: Duration, line: &Line) -> Result<(), RunnerError> {
        let Some(record) = self.record(id)? else {
            return Ok(());
        };
        let engine = Arc::clone(self.engine()?);
        let (runner, line) = (self.clone(), line.clone());
        tokio::spawn(async move { runner.stop_until_it_ends(&engine, &record, grace, &line).await });
        Ok(())
    }

    async fn stop_until_it_ends(&self, engine: &Engine, record: &Record, grace: Duration, line: &Line) {
        let (mut wait, mut said) = (AGAIN, None);
        loop {
            let error = match self.try_to_stop(engine, record, grace, line).await {
                Ok(Stop::Over) => break,
                Ok(Stop::NotYet) => {
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                Err(error) => error,
            };
            let message = error.to_string();
            if said.as_ref() != Some(&message) {
                tracing::warn!(container = record.name, %error, "could not be stopped; trying again");
                line.waits("stop", format!("the job could not be stopped yet: {message}"));
                said = Some(message);
            }
            tokio::time::sleep(wait).await;
            // An engine that is away is waited for; one that refuses is not pressed.
            wait = if error.is_away() {
                AGAIN
            } else {
                (wait * 2).min(LONGEST)
            };
        }
        if said.is_some() {
            line.goes_on();
        }
    }

    async fn try_to_stop(
        &self,
        engine: &Engine,
        record: &Record,
        grace: Duration,
        line: &Line,
    ) -> Result<Stop, RunnerError> {
        let found = match (self.find(engine, record).await, &record.container) {
            (Err(RunnerError::Unreadable { .. }), Some(container)) => {
                // Whatever its state: its id is nobody else's.
                stop(engine, container, grace).await?;
                return Ok(Stop::Over);
            }
            (found, _) => found?,
        };
        let Some(found) = found else {
            return Ok(Stop::Over);
        };
        let state = found.state.clone().unwrap_or_default();
        if created_only(&found) {
            return Ok(Stop::NotYet);
        }
        if !runs(&state) {
            return Ok(Stop::Over);
        }
        let container = found.id.as_deref().unwrap_or(&record.name);
        if state.paused.unwrap_or(false) {
            // Some engines refuse to stop it, and where they do not, it cannot heed the signal.
            unpause(engine, container).await?;
            tracing::info!(container = record.name, "unpaused, so that it can end");
            line.warns(
                "unpaused",
                "the job's container was paused; it was unpaused so that it could be stopped",
            );
        }
        // It ran when this was written: an end that comes now is taken for the stop's. The clocks of
        // agent and engine are not compared.
        let directory = self.directory(&record.id);
        self.lock_stopped().insert(record.id.clone());
        if !directory.has(directory::STOP)
            && let Err(error) = write(&directory, directory::STOP, &())
        {
            tracing::warn!(container = record.name, %error, "a later start of the agent may report its end as a failure");
        }
        stop(engine, container, grace).await?;
        Ok(Stop::Over)
    }

    pub(super) async fn remove_now(&self, id: &WorkloadId) -> Result<(), RunnerError> {
        let Some(record) = self.record(id)? else {
            return Ok(());
        };
        let engine = self.engine()?;
        if let Ok(Some(found)) = self.find(engine, &record).await
            && found.state.is_some_and(|state| runs(&state))
        {
            return Err(RunnerError::Refused {
                reason: "still-running",
                message: format!("{id} still runs; stop it before it is removed"),
            });
        }
        if let Err(error) = write(&self.directory(id), DONE, &()) {
            // The directory itself is about to go, and what fills the disk may go with it.
            tracing::warn!(container = record.name, %error, "only this process knows that it is to be removed");
        }
        self.lock_stopped().remove(id);
        {
            let mut live = self.inner.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.remove(id);
        }
        if self.clear(&record).await.is_err() {
            self.clear_later(record);
        }
        Ok(())
    }

    /// Removes what is left of a container whose outcome was acknowledged, or that is not to be started.
    pub(super) async fn clear(&self, record: &Record) -> Result<(), RunnerError> {
        let directory = self.directory(&record.id);
        // Without an address of an engine nothing was created.
        if let Ok(engine) = self.engine() {
            match (self.find(engine, record).await, &record.container) {
                (Err(RunnerError::Unreadable { .. }), Some(container)) => remove(engine, container, true).await?,
                (found, _) => {
                    if let Some(found) = found? {
                        remove(engine, found.id.as_deref().unwrap_or(&record.name), true).await?;
                    }
                }
            }
        }
        match fs::remove_dir_all(directory.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(RunnerError::io("remove", directory.path())(error))
            }
            _ => Ok(()),
        }
    }

    /// As [`Self::clear`], as soon as the engine does it.
    pub(super) fn clear_later(&self, record: Record) {
        let runner = self.clone();
        self.inner.removals.spawn(async move {
            let (mut wait, mut said) = (AGAIN, false);
            while let Err(error) = runner.clear(&record).await {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(container = record.name, %error, "not removed yet; trying again");
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST);
            }
        });
    }
}
