//! Whether the answer to a push reached its client.
//!
//! The official client sends a push again, byte by byte, when its answer was lost. The store then
//! returns the item of the first push, but only if that answer was not delivered: somebody who
//! pushes the same spec twice on purpose wants two items. So a push without an idempotency key
//! claims its digest; the claim travels with the answer and is settled when the answer's last byte
//! was given to the socket, or lost with it. A second push of the same digest waits for that.
//!
//! On several replicas two identical pushes that overlap in time may be taken for one.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use slipway_model::id::ItemId;
use slipway_store::Store;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::error::{ApiError, Code};

/// The SHA-256 of a push.
pub(crate) type Digest = [u8; 32];

/// How long a push waits for an earlier identical one to be answered.
const WAIT: Duration = Duration::from_secs(10);

/// How long delivered answers gather before the store is told of them.
const GATHER: Duration = Duration::from_millis(20);

/// One digest that is being pushed, or whose delivery the store does not know yet.
struct Slot {
    /// One push at a time.
    gate: Arc<Semaphore>,
    /// Claims and waiters.
    users: usize,
    /// Delivered, not yet marked in the store.
    unmarked: Vec<ItemId>,
}

#[derive(Default)]
struct Inner {
    slots: Mutex<HashMap<Digest, Slot>>,
    /// Something was delivered.
    delivered: Notify,
}

impl Inner {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<Digest, Slot>) -> T) -> T {
        work(&mut self.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets go of a slot; forgets it when nobody needs it.
    fn release(&self, digest: &Digest) {
        self.with(|slots| {
            if let Some(slot) = slots.get_mut(digest) {
                slot.users -= 1;
                if slot.users == 0 && slot.unmarked.is_empty() {
                    slots.remove(digest);
                }
            }
        });
    }
}

/// The pushes whose answers are on their way.
#[derive(Default, Clone)]
pub(crate) struct Deliveries(Arc<Inner>);

impl Deliveries {
    /// Claims a digest: waits until no other push of it is unanswered, and tells the store of those
    /// that were delivered.
    ///
    /// # Errors
    /// `UNAVAILABLE` if an identical push stays unanswered, or the store is away.
    pub(crate) async fn claim(&self, store: &Store, digest: Digest) -> Result<Claim, ApiError> {
        let gate = self.0.with(|slots| {
            let slot = slots.entry(digest).or_insert_with(|| Slot {
                gate: Arc::new(Semaphore::new(1)),
                users: 0,
                unmarked: Vec::new(),
            });
            slot.users += 1;
            Arc::clone(&slot.gate)
        });
        // From here on the claim's drop lets go of the slot, whatever happens.
        let mut claim = Claim {
            inner: Arc::clone(&self.0),
            digest,
            item: None,
            _permit: None,
        };
        let permit = tokio::time::timeout(WAIT, gate.acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(ApiError::new(
                Code::Unavailable,
                "an identical push is still being answered; try again",
            ));
        };
        claim._permit = Some(permit);
        let unmarked = self.0.with(|slots| {
            slots
                .get_mut(&digest)
                .map(|slot| slot.unmarked.clone())
                .unwrap_or_default()
        });
        if !unmarked.is_empty() {
            store.mark_delivered(unmarked.clone()).await?;
            self.marked(&unmarked);
        }
        Ok(claim)
    }

    /// Tells the store of what was delivered, in batches, until the future is dropped.
    pub(crate) async fn run(&self, store: Store) {
        loop {
            self.0.delivered.notified().await;
            tokio::time::sleep(GATHER).await;
            self.flush(&store).await;
        }
    }

    /// Tells the store of what was delivered so far. What it cannot take now stays for later.
    pub(crate) async fn flush(&self, store: &Store) {
        let items: Vec<ItemId> = self
            .0
            .with(|slots| slots.values().flat_map(|slot| slot.unmarked.iter().copied()).collect());
        if items.is_empty() {
            return;
        }
        match store.mark_delivered(items.clone()).await {
            Ok(()) => self.marked(&items),
            Err(error) => tracing::warn!(%error, "deliveries of pushes were not recorded"),
        }
    }

    fn marked(&self, items: &[ItemId]) {
        let items: HashSet<&ItemId> = items.iter().collect();
        self.0.with(|slots| {
            slots.retain(|_, slot| {
                slot.unmarked.retain(|item| !items.contains(item));
                slot.users > 0 || !slot.unmarked.is_empty()
            });
        });
    }
}

/// The right to push a digest, and later the knowledge of whether the answer arrived.
pub(crate) struct Claim {
    inner: Arc<Inner>,
    digest: Digest,
    item: Option<ItemId>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Claim {
    /// Names the item that the push made or found.
    #[must_use]
    pub(crate) fn holding(mut self, item: ItemId) -> Self {
        self.item = Some(item);
        self
    }

    /// The answer was written. A claim that is dropped without this was not delivered.
    pub(crate) fn delivered(self) {
        let Some(item) = self.item else { return };
        self.inner.with(|slots| {
            if let Some(slot) = slots.get_mut(&self.digest) {
                slot.unmarked.push(item);
            }
        });
        self.inner.delivered.notify_one();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.inner.release(&self.digest);
    }
}

/// The claims of one answer, as its response carries them to the socket.
#[derive(Default, Clone)]
pub(crate) struct Claims(Arc<Mutex<Vec<Claim>>>);

impl Claims {
    /// Adds a claim.
    pub(crate) fn add(&self, claim: Claim) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes them all.
    pub(crate) fn take(&self) -> Vec<Claim> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
