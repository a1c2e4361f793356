//! PostgreSQL 15 or later.

use slipway_model::Millis;
use tokio::sync::watch;

use super::Access;
use super::job::Job;
use crate::error::{Error, Result};

/// The workers.
pub(super) struct Postgres {}

impl Postgres {
    pub(super) fn open(_: &str, _: usize, _: bool, _: watch::Sender<u64>) -> Result<Self> {
        Err(Error::Unfit("PostgreSQL is not available yet".to_owned()))
    }

    pub(super) fn submit(&self, _: Access, _: Box<dyn Job>) -> Result<()> {
        Err(Error::Unfit("PostgreSQL is not available yet".to_owned()))
    }

    pub(super) fn clock_offset(&self) -> Millis {
        0
    }
}
