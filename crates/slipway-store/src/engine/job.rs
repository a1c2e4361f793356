//! A unit of work on its way to a connection and back.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

use super::Tx;
use crate::error::{Error, Result};

/// Work whose answer is held back until the commit.
pub(super) trait Job: Send {
    /// The operation's name.
    fn label(&self) -> &'static str;
    /// Does the work and keeps its outcome; `false` if it failed and must be rolled back.
    fn run(&mut self, tx: &mut dyn Tx) -> bool;
    /// Replaces the outcome.
    fn fail(&mut self, error: Error);
    /// Tells the caller.
    fn answer(self: Box<Self>);
}

/// The one kind of [`Job`]: a closure and the caller who waits.
pub(super) struct Task<T, F> {
    label: &'static str,
    work: F,
    outcome: Result<T>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Task<T, F> {
    pub(super) fn new(label: &'static str, work: F, reply: oneshot::Sender<Result<T>>) -> Self {
        Self {
            label,
            work,
            outcome: Err(Error::Unavailable("the request was not reached".to_owned())),
            reply,
        }
    }
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnMut(&mut dyn Tx) -> Result<T> + Send,
{
    fn label(&self) -> &'static str {
        self.label
    }

    fn run(&mut self, tx: &mut dyn Tx) -> bool {
        self.outcome = catch_unwind(AssertUnwindSafe(|| (self.work)(tx))).unwrap_or_else(|panic| {
            let text = panic_text(panic.as_ref());
            tracing::error!(operation = self.label, panic = text, "a store operation panicked");
            Err(Error::Internal(format!("`{}` panicked: {text}", self.label)))
        });
        self.outcome.is_ok()
    }

    fn fail(&mut self, error: Error) {
        self.outcome = Err(error);
    }

    fn answer(self: Box<Self>) {
        // The caller may have gone away; what was done is done.
        let _unheard = self.reply.send(self.outcome);
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
