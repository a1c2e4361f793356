//! Several targets as one.
//!
//! A workload goes to the target that its spec names; what is asked of one later goes to the target
//! that launched or found it. A target that cannot be asked keeps what is known of its workloads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::{Found, Reply, Runner, RunnerError, Status, Watch, Workload, WorkloadId};

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

    fn of(&self, id: &WorkloadId) -> &dyn Runner {
        let homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        self.targets[homes.get(id).copied().unwrap_or(0)].as_ref()
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

    fn prepare<'a>(&'a self, workload: &'a Workload) -> Reply<'a, Result<(), RunnerError>> {
        Box::pin(async move { self.targets[self.named(workload)?].prepare(workload).await })
    }

    fn launch(&self, workload: Workload) -> Reply<'_, Result<(), RunnerError>> {
        Box::pin(async move {
            let target = self.named(&workload)?;
            self.settle(&workload.id, target);
            self.targets[target].launch(workload).await
        })
    }

    fn list(&self) -> Reply<'_, Result<Vec<Found>, RunnerError>> {
        Box::pin(async move {
            let mut all = Vec::new();
            for (index, target) in self.targets.iter().enumerate() {
                let found = target.list().await?;
                for one in &found {
                    self.settle(&one.id, index);
                }
                all.extend(found);
            }
            Ok(all)
        })
    }

    fn status<'a>(&'a self, id: &'a WorkloadId) -> Reply<'a, Result<Status, RunnerError>> {
        self.of(id).status(id)
    }

    fn watch(&self, id: &WorkloadId) -> Box<dyn Watch> {
        self.of(id).watch(id)
    }

    fn stop<'a>(&'a self, id: &'a WorkloadId, grace: Duration) -> Reply<'a, Result<(), RunnerError>> {
        self.of(id).stop(id, grace)
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
}
