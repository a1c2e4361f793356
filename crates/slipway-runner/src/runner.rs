//! What every target resource does.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::{Found, Line, RunnerError, Status, Workload, WorkloadId};

/// The answer of a runner, later.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a target has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The workloads that are known.
    pub found: Vec<Found>,
    /// Whether there are no others. A target that is away may have some; their status is an error until
    /// it answers.
    pub complete: bool,
}

/// A target resource.
///
/// All methods may be called again after a failure, and by a later process than the one that
/// launched the workload.
pub trait Runner: Send + Sync {
    /// The name of the target, as `resource` in a launch spec spells it.
    fn resource(&self) -> &'static str;

    /// Checks, without running anything, that workloads could run.
    fn check(&self) -> Reply<'_, Result<(), RunnerError>>;

    /// Fetches what a launch will need, such as an image, and starts nothing. May take long, may be
    /// given up at any point, and waits for a target that is away.
    fn prepare<'a>(&'a self, workload: &'a Workload, line: &'a Line) -> Reply<'a, Result<(), RunnerError>> {
        let _ = (workload, line);
        Box::pin(async { Ok(()) })
    }

    /// Starts a workload, unless its id was launched before: then what is there is adopted. Waits for a
    /// target that is away, and is called off by the line, not by dropping it: what was begun must be
    /// seen to its end.
    fn launch<'a>(&'a self, workload: Workload, line: &'a Line) -> Reply<'a, Result<(), RunnerError>>;

    /// Every workload that was launched and not removed, whatever its status.
    fn list(&self) -> Reply<'_, Result<Listing, RunnerError>>;

    /// Where a workload stands.
    fn status<'a>(&'a self, id: &'a WorkloadId) -> Reply<'a, Result<Status, RunnerError>>;

    /// Tells when a status or the output may have changed.
    fn watch(&self, id: &WorkloadId) -> Box<dyn Watch>;

    /// Asks a workload to end, and makes it end after `grace`. Returns once this process will see to it,
    /// which is before the workload has ended; a later process has to ask again. What stands in the way
    /// is told by the line. Does nothing if it has ended.
    fn stop<'a>(&'a self, id: &'a WorkloadId, grace: Duration, line: &'a Line) -> Reply<'a, Result<(), RunnerError>>;

    /// Up to `limit` bytes of what the workload printed, from byte `offset`. Empty at the end.
    fn output<'a>(&'a self, id: &'a WorkloadId, offset: u64, limit: usize) -> Reply<'a, Result<Vec<u8>, RunnerError>>;

    /// Forgets a workload that has ended; its outcome must have been acknowledged. Refuses while it
    /// runs; does nothing if there is none. What the target does not remove at once it removes later.
    fn remove<'a>(&'a self, id: &'a WorkloadId) -> Reply<'a, Result<(), RunnerError>>;

    /// Waits until nothing is left of what this process was to remove. May take for ever, with a target that
    /// is away; a later process removes it too.
    fn removed(&self) -> Reply<'_, ()> {
        Box::pin(async {})
    }
}

/// Waits for news of one workload.
pub trait Watch: Send {
    /// Returns when something may have changed since the last call, and after a few seconds in any
    /// case. Dropping the future loses nothing.
    fn changed(&mut self) -> Reply<'_, ()>;
}
