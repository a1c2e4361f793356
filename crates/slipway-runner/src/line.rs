//! The line between a target and whoever looks after a workload.
//!
//! A launch can take long: an image is fetched, an engine is away. Over the line the target says what
//! it waits for, and hears that the workload is not wanted any more.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::RunnerError;

/// The stages of what passes: of what is waited for, and of a target that does not answer.
const PASSING: [&str; 4] = ["engine-away", "image-pull", "status", "stop"];

/// Something that people should know of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about, such as `image-pull`.
    pub stage: Cow<'static, str>,
    /// A sentence for people.
    pub message: String,
}

impl Notice {
    /// A notice.
    #[must_use]
    pub fn new(stage: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            stage: stage.into(),
            message: message.into(),
        }
    }

    /// Whether it stops being true by itself, so that whoever reads it later must look again. One that an
    /// earlier process left is known by its stage alone.
    #[must_use]
    pub fn passes(&self) -> bool {
        PASSING.contains(&self.stage.as_ref())
    }
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
        let notice = Notice::new(stage, message);
        debug_assert!(notice.passes(), "{stage} is not known to pass");
        (self.tell)(News::Waits(notice));
    }

    pub(crate) fn goes_on(&self) {
        (self.tell)(News::GoesOn);
    }

    pub(crate) fn warns(&self, stage: &'static str, message: impl Into<String>) {
        let notice = Notice::new(stage, message);
        debug_assert!(!notice.passes(), "{stage} is known to pass");
        (self.tell)(News::Warns(notice));
    }
}
