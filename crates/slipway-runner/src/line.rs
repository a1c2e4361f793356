//! The line between a target and whoever looks after a workload.
//!
//! A launch can take long: an image is fetched, an engine is away. Over the line the target says what
//! it waits for, and hears that the workload is not wanted any more.

use std::fmt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::RunnerError;

/// Something that people should know of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about, such as `image-pull`.
    pub stage: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// What a target tells of a workload that it prepares, launches or stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It waits, for this. A later word takes the place of an earlier one.
    Waits(Notice),
    /// It waits no longer.
    GoesOn,
    /// Something that stays true, such as an option that the target ignores.
    Warns(Notice),
}

/// The target's end of the line. Clones are the same line.
#[derive(Clone)]
pub struct Line {
    tell: Arc<dyn Fn(News) + Send + Sync>,
    withdrawn: CancellationToken,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("withdrawn", &self.withdrawn.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl Line {
    /// A line; `tell` must not block.
    #[must_use]
    pub fn new(tell: impl Fn(News) + Send + Sync + 'static) -> Self {
        Self {
            tell: Arc::new(tell),
            withdrawn: CancellationToken::new(),
        }
    }

    /// Says that the workload is not wanted any more. A launch that has not begun to start it ends with
    /// [`RunnerError::Withdrawn`]; one that has, goes on, and the workload is to be stopped.
    pub fn withdraw(&self) {
        self.withdrawn.cancel();
    }

    /// Whether the workload is wanted.
    ///
    /// # Errors
    /// [`RunnerError::Withdrawn`] if it is not.
    pub fn wanted(&self) -> Result<(), RunnerError> {
        if self.withdrawn.is_cancelled() {
            return Err(RunnerError::Withdrawn);
        }
        Ok(())
    }

    /// Waits until the workload is not wanted any more.
    pub(crate) async fn withdrawn(&self) {
        self.withdrawn.cancelled().await;
    }

    pub(crate) fn waits(&self, stage: &'static str, message: impl Into<String>) {
        let message = message.into();
        (self.tell)(News::Waits(Notice { stage, message }));
    }

    pub(crate) fn goes_on(&self) {
        (self.tell)(News::GoesOn);
    }

    pub(crate) fn warns(&self, stage: &'static str, message: impl Into<String>) {
        let message = message.into();
        (self.tell)(News::Warns(Notice { stage, message }));
    }
}
