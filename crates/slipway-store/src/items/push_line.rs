//! Pushes that wait share a transaction on PostgreSQL, where one by itself costs six round trips and a
//! commit. The first to come is served at once; who comes meanwhile forms the next group. SQLite needs
//! none of this: its writer groups whatever waits.
//!
//! A group stands or falls together; when it falls by something that one of its pushes brought along,
//! each is tried alone, so that nobody suffers for another's.

use std::sync::{Mutex, MutexGuard, PoisonError};

use slipway_model::Millis;
use slipway_model::id::QueueId;
use tokio::sync::oneshot;

use super::push::push;
use super::{NewItem, Pushed};
use crate::engine::Lane;
use crate::{Error, Result, Store};

/// How many items a group takes at most.
const GROUP_ITEMS: usize = 2_000;

/// From how many items on a push goes by itself, beside others: its round trips weigh little then, and
/// groups come one after the other.
const LARGE: usize = 100;

/// The pushes that wait, and whether somebody serves them.
#[derive(Default)]
pub(crate) struct PushLine(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    served: bool,
}

/// A push and the caller who waits for its answer.
struct Waiting {
    push: One,
    answer: oneshot::Sender<Result<Vec<Pushed>>>,
}

/// What one call pushes.
#[derive(Clone)]
struct One {
    queue: QueueId,
    items: Vec<NewItem>,
    now: Millis,
}

impl PushLine {
    /// Lines a push up; `true` if nobody serves the line yet, which the caller then has to do.
    fn join(&self, waiting: Waiting) -> bool {
        let mut state = self.lock();
        state.waiting.push(waiting);
        !std::mem::replace(&mut state.served, true)
    }

    /// The next group; `None` once nobody waits, and then nobody serves any more.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut state = self.lock();
        let mut items = 0;
        let room = state.waiting.iter().take_while(|waiting| {
            items += waiting.push.items.len();
            items <= GROUP_ITEMS
        });
        let count = room.count().max(1).min(state.waiting.len());
        state.served = count > 0;
        (count > 0).then(|| state.waiting.drain(..count).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that runs under this lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Pushes together with whoever waits at the same time.
    pub(super) async fn push_in_line(&self, queue: QueueId, items: Vec<NewItem>, now: Millis) -> Result<Vec<Pushed>> {
        let push = One { queue, items, now };
        if push.items.len() >= LARGE {
            let mut alone = self.push_together(vec![push]).await?;
            return Ok(alone.pop().unwrap_or_default());
        }
        let (answer, answered) = oneshot::channel();
        if self.pushes.join(Waiting { push, answer }) {
            // Not in the caller's own time: it may go away while others wait.
            let store = self.clone();
            tokio::spawn(async move {
                while let Some(group) = store.pushes.next() {
                    store.push_group(group).await;
                }
            });
        }
        answered
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable("the store is shutting down".to_owned())))
    }

    async fn push_group(&self, group: Vec<Waiting>) {
        let (pushes, answers): (Vec<One>, Vec<_>) =
            group.into_iter().map(|waiting| (waiting.push, waiting.answer)).unzip();
        let results = match self.push_together(pushes.clone()).await {
            Ok(results) => results.into_iter().map(Ok).collect(),
            // Whether it was committed may be unknown: nothing is tried again.
            Err(Error::Unavailable(text)) => pushes.iter().map(|_| Err(Error::Unavailable(text.clone()))).collect(),
            Err(error) if pushes.len() == 1 => vec![Err(error)],
            Err(_) => {
                let mut results = Vec::with_capacity(pushes.len());
                for push in pushes {
                    let alone = self.push_together(vec![push]).await;
                    results.push(alone.map(|mut results| results.pop().unwrap_or_default()));
                }
                results
            }
        };
        for (answer, result) in answers.into_iter().zip(results) {
            // The caller may have gone away; what was done is done.
            let _unheard = answer.send(result);
        }
    }

    /// Pushes in one transaction, all or none, those into one queue with one set of statements; answers
    /// in order.
    async fn push_together(&self, pushes: Vec<One>) -> Result<Vec<Vec<Pushed>>> {
        let mut queues: Vec<(QueueId, Vec<usize>)> = Vec::new();
        for (place, push) in pushes.iter().enumerate() {
            match queues.iter_mut().find(|(queue, _)| *queue == push.queue) {
                Some((_, places)) => places.push(place),
                None => queues.push((push.queue, vec![place])),
            }
        }
        let now = pushes.iter().map(|push| push.now).max().unwrap_or_default();
        let lengths: Vec<usize> = pushes.iter().map(|push| push.items.len()).collect();
        let mut pushes: Vec<Vec<NewItem>> = pushes.into_iter().map(|push| push.items).collect();
        let queues: Vec<(QueueId, Vec<usize>, Vec<NewItem>)> = queues
            .into_iter()
            .map(|(queue, places)| {
                let items = places.iter().flat_map(|place| std::mem::take(&mut pushes[*place]));
                let items = items.collect();
                (queue, places, items)
            })
            .collect();
        self.write(Lane::Control, "push", move |tx| {
            let mut results = vec![Vec::new(); lengths.len()];
            for (queue, places, items) in &queues {
                let mut pushed = push(tx, *queue, items, "{}", now)?.into_iter();
                for place in places {
                    results[*place] = pushed.by_ref().take(lengths[*place]).collect();
                }
            }
            Ok(results)
        })
        .await
    }
}
