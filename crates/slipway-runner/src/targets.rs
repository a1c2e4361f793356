//! Several targets as one.
//!
//! A workload goes to the target that its spec names; what is asked of one later goes to the target
//! that launched or found it. A target that cannot be asked keeps what is known of its workloads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::{Line, Listing, Reply, Runner, RunnerError, Status, Watch, Workload, WorkloadId};

/// The targets of an agent.
pub struct Targets {
    targets: Vec<Arc<dyn Runner>>,
    homes: Mutex<HashMap<WorkloadId, usize>>,
}

impl std::fmt::Debug for Targets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.targets.iter().map(|target| target.resource()))
            .finish()
    }
}

impl Targets {
    /// Joins targets, of which there is one at least. The first one is asked where nothing is known.
    #[must_use]
    pub fn new(first: Arc<dyn Runner>, others: impl IntoIterator<Item = Arc<dyn Runner>>) -> Self {
        Self {
            targets: std::iter::once(first).chain(others).collect(),
            homes: Mutex::new(HashMap::new()),
        }
    }

    /// Each target.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Runner>> {
        self.targets.iter()
    }

    fn home(&self, id: &WorkloadId) -> Option<&dyn Runner> {
        let homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.get(id).map(|index| self.targets[*index].as_ref())
    }

    fn of(&self, id: &WorkloadId) -> &dyn Runner {
        self.home(id).unwrap_or(self.targets[0].as_ref())
    }

    /// The status of a workload that no target was known to have. It is absent only if every target says
    /// so.
    async fn search(&self, id: &WorkloadId) -> Result<Status, RunnerError> {
        for (index, target) in self.targets.iter().enumerate() {
            let status = target.status(id).await?;
            if status != Status::Absent {
                self.settle(id, index);
                return Ok(status);
            }
        }
        Ok(Status::Absent)
    }

    fn settle(&self, id: &WorkloadId, target: usize) {
        let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.insert(id.clone(), target);
    }

    fn named(&self, workload: &Workload) -> Result<usize, RunnerError> {
        let found = self
            .targets
            .iter()
            .position(|target| target.resource() == workload.resource);
        found.ok_or_else(|| RunnerError::Refused {
            reason: "target-unavailable",
            message: format!("this agent has no target `{}`", workload.resource),
        })
    }
}

impl Runner for Targets {
    fn resource(&self) -> &'static str {
        self.targets[0].resource()
    }

    fn check(&self) -> Reply<'_, Result<(), RunnerError>> {
        Box::pin(async {
            for target in &self.targets {
                target.check().await?;
            }
            Ok(())
        })
    }

    fn prepare<'a>(&'a self, workload: &'a Workload, line: &'a Line) -> Reply<'a, Result<(), RunnerError>> {
        Box::pin(async move { self.targets[self.named(workload)?].prepare(workload, line).await })
    }

    fn launch<'a>(&'a self, workload: Workload, line: &'a Line) -> Reply<'a, Result<(), RunnerError>> {
        Box::pin(async move {
            let target = self.named(&workload)?;
            self.settle(&workload.id, target);
            self.targets[target].launch(workload, line).await
        })
    }

    fn list(&self) -> Reply<'_, Result<Listing, RunnerError>> {
        Box::pin(async move {
            let (mut all, mut complete) = (Vec::new(), true);
            for (index, target) in self.targets.iter().enumerate() {
                let listing = target.list().await?;
                complete &= listing.complete;
                for one in &listing.found {
                    self.settle(&one.id, index);
                }
                all.extend(listing.found);
            }
            Ok(Listing { found: all, complete })
        })
    }

    fn status<'a>(&'a self, id: &'a WorkloadId) -> Reply<'a, Result<Status, RunnerError>> {
        match self.home(id) {
            Some(target) => target.status(id),
            None => Box::pin(self.search(id)),
        }
    }

    fn watch(&self, id: &WorkloadId) -> Box<dyn Watch> {
        self.of(id).watch(id)
    }

    fn stop<'a>(&'a self, id: &'a WorkloadId, grace: Duration, line: &'a Line) -> Reply<'a, Result<(), RunnerError>> {
        Box::pin(async move {
            if self.home(id).is_none() {
                // A target that is away may have it; then this is to be asked again.
                self.search(id).await?;
            }
            self.of(id).stop(id, grace, line).await
        })
    }

    fn output<'a>(&'a self, id: &'a WorkloadId, offset: u64, limit: usize) -> Reply<'a, Result<Vec<u8>, RunnerError>> {
        self.of(id).output(id, offset, limit)
    }

    fn remove<'a>(&'a self, id: &'a WorkloadId) -> Reply<'a, Result<(), RunnerError>> {
        Box::pin(async move {
            self.of(id).remove(id).await?;
            let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
            homes.remove(id);
            Ok(())
        })
    }

    fn removed(&self) -> Reply<'_, ()> {
        Box::pin(async {
            for target in &self.targets {
                target.removed().await;
            }
        })
    }
}
