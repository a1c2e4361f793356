//! Tells connected clients what happens.
//!
//! Four kinds of listeners: agents, each with a mailbox that holds at most one word of every kind,
//! so that ten thousand idle ones cost little and a burst of pushes wakes each once; readers of the
//! record, who get every event and fall back to the store when they are slow; readers of one item's
//! output, who are told that there is more; and readers of runs' consoles, who are told what came in.
//!
//! The hub knows nothing by itself: [`Hub::publish`] gets events that were read from the store, so
//! that it is the same whether this server or another replica caused them, and everything is said
//! once. Output and console lines are told only by the server that took them; readers elsewhere look
//! at the store now and then.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use slipway_model::id::{AgentId, ItemId, LeaseHandle, QueueId, RunName};
use slipway_store::events::Event;
use tokio::sync::{Notify, broadcast, watch};

/// How many events a slow reader of the record may lag behind before it reads from the store.
const FEED: usize = 1_024;

/// How many changes of runs a slow reader of a console may lag behind before it reads from the store.
const RUN_FEED: usize = 256;

/// A run of which something came in.
#[derive(Debug, Clone)]
pub(crate) struct RunChange {
    /// The run.
    pub(crate) run: RunName,
    /// The first console line that was written, if any was; else the run's state changed.
    pub(crate) from: Option<i64>,
}

/// Words for an agent that its connection has not sent yet.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Mail {
    /// Something to pop.
    pub(crate) items: bool,
    /// Whether to drain.
    pub(crate) drain: Option<bool>,
    /// Items that somebody asked to stop.
    pub(crate) stop: Vec<LeaseHandle>,
    /// Another instance took the name.
    pub(crate) replaced: bool,
}

impl Mail {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Default)]
struct Mailbox {
    mail: Mutex<Mail>,
    arrived: Notify,
}

impl Mailbox {
    fn put(&self, write: impl FnOnce(&mut Mail)) {
        write(&mut self.mail.lock().unwrap_or_else(PoisonError::into_inner));
        self.arrived.notify_one();
    }
}

#[derive(Default)]
struct Agents {
    next: u64,
    by_agent: HashMap<AgentId, HashMap<u64, Arc<Mailbox>>>,
    by_queue: HashMap<QueueId, HashMap<u64, Arc<Mailbox>>>,
}

/// See the module.
pub(crate) struct Hub {
    agents: Arc<Mutex<Agents>>,
    feed: broadcast::Sender<Arc<Event>>,
    runs: broadcast::Sender<Arc<RunChange>>,
    /// Output and states of items.
    pub(crate) items: Topics<ItemId>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            agents: Arc::default(),
            feed: broadcast::channel(FEED).0,
            runs: broadcast::channel(RUN_FEED).0,
            items: Topics::default(),
        }
    }
}

impl Hub {
    /// Opens a mailbox for an agent and its queues. It closes when the connection is dropped.
    pub(crate) fn connect(&self, agent: AgentId, queues: &[QueueId]) -> AgentConnection {
        let mailbox = Arc::new(Mailbox::default());
        let queues: HashSet<QueueId> = queues.iter().copied().collect();
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let id = agents.next;
        agents.next += 1;
        agents
            .by_agent
            .entry(agent)
            .or_default()
            .insert(id, Arc::clone(&mailbox));
        for queue in &queues {
            agents
                .by_queue
                .entry(*queue)
                .or_default()
                .insert(id, Arc::clone(&mailbox));
        }
        AgentConnection {
            agents: Arc::clone(&self.agents),
            id,
            agent,
            queues,
            mailbox,
        }
    }

    /// How many agents are connected.
    pub(crate) fn connected_agents(&self) -> usize {
        self.agents
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .by_agent
            .len()
    }

    /// A queue may have something to pop.
    fn queue_has_items(&self, queue: QueueId) {
        let agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        for mailbox in agents.by_queue.get(&queue).into_iter().flat_map(HashMap::values) {
            mailbox.put(|mail| mail.items = true);
        }
    }

    /// Somebody asked an agent to drain, or took that back.
    pub(crate) fn drain(&self, agent: AgentId, drain: bool) {
        self.tell(agent, |mail| mail.drain = Some(drain));
    }

    /// Somebody asked an item to stop that an agent holds.
    pub(crate) fn stop(&self, agent: AgentId, handle: LeaseHandle) {
        self.tell(agent, |mail| {
            if !mail.stop.contains(&handle) {
                mail.stop.push(handle);
            }
        });
    }

    /// Another instance took an agent's name.
    fn replaced(&self, agent: AgentId) {
        self.tell(agent, |mail| mail.replaced = true);
    }

    fn tell(&self, agent: AgentId, write: impl Fn(&mut Mail)) {
        let agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        for mailbox in agents.by_agent.get(&agent).into_iter().flat_map(HashMap::values) {
            mailbox.put(&write);
        }
    }

    /// Follows the record from now on.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Arc<Event>> {
        self.feed.subscribe()
    }

    /// Follows what comes in of runs from now on.
    pub(crate) fn follow_runs(&self) -> broadcast::Receiver<Arc<RunChange>> {
        self.runs.subscribe()
    }

    /// Something of a run came in.
    pub(crate) fn run_changed(&self, change: RunChange) {
        // No receiver means that nobody follows a run.
        let _receivers = self.runs.send(Arc::new(change));
    }

    /// Passes events of the record on to whom they concern. Agents hear of a queue once per call.
    pub(crate) fn publish(&self, events: &[Event]) {
        let mut queues = HashSet::new();
        for event in events {
            match &*event.kind {
                "pushed" | "requeued" | "moved" | "queue-updated" => queues.extend(event.queue),
                "agent-replaced" => {
                    if let Some(agent) = event.agent {
                        self.replaced(agent);
                    }
                }
                _ => {}
            }
            if let Some(item) = event.item {
                self.items.notify(&item);
            }
            if self.feed.receiver_count() > 0 {
                // The last one may have gone at this moment; then nobody follows the record.
                let _receivers = self.feed.send(Arc::new(event.clone()));
            }
        }
        for queue in queues {
            self.queue_has_items(queue);
        }
    }
}

/// An agent's open connection.
pub(crate) struct AgentConnection {
    agents: Arc<Mutex<Agents>>,
    id: u64,
    agent: AgentId,
    queues: HashSet<QueueId>,
    mailbox: Arc<Mailbox>,
}

impl AgentConnection {
    /// Waits for words and takes them. Cancelling loses nothing.
    pub(crate) async fn receive(&self) -> Mail {
        loop {
            let mail = std::mem::take(&mut *self.mailbox.mail.lock().unwrap_or_else(PoisonError::into_inner));
            if !mail.is_empty() {
                return mail;
            }
            self.mailbox.arrived.notified().await;
        }
    }
}

impl Drop for AgentConnection {
    fn drop(&mut self) {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        remove(&mut agents.by_agent, &self.agent, self.id);
        for queue in &self.queues {
            remove(&mut agents.by_queue, queue, self.id);
        }
    }
}

fn remove<K: Eq + Hash>(map: &mut HashMap<K, HashMap<u64, Arc<Mailbox>>>, key: &K, id: u64) {
    if let Some(boxes) = map.get_mut(key) {
        boxes.remove(&id);
        if boxes.is_empty() {
            map.remove(key);
        }
    }
}

/// Tells those who follow a thing that it changed.
pub(crate) struct Topics<K>(Mutex<HashMap<K, watch::Sender<u64>>>);

impl<K> Default for Topics<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Topics<K> {
    /// Follows a thing.
    pub(crate) fn follow(&self, key: &K) -> watch::Receiver<u64> {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        topics
            .entry(key.clone())
            .or_insert_with(|| watch::channel(0).0)
            .subscribe()
    }

    /// The thing changed.
    pub(crate) fn notify(&self, key: &K) {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(key) {
            if topic.receiver_count() == 0 {
                topics.remove(key);
            } else {
                topic.send_modify(|count| *count += 1);
            }
        }
    }

    /// Forgets things that nobody follows any more.
    pub(crate) fn sweep(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, topic| topic.receiver_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    const AGENT: AgentId = AgentId::new(1, 1);
    const QUEUE: QueueId = QueueId::new(1, 1);
    const OTHER_QUEUE: QueueId = QueueId::new(1, 2);

    #[test]
    fn a_burst_of_pushes_wakes_an_agent_once() {
        let hub = Hub::default();
        let connection = hub.connect(AGENT, &[QUEUE]);
        assert!(connection.receive().now_or_never().is_none());
        hub.queue_has_items(OTHER_QUEUE);
        assert!(connection.receive().now_or_never().is_none(), "another queue");
        hub.queue_has_items(QUEUE);
        hub.queue_has_items(QUEUE);
        let mail = connection.receive().now_or_never().expect("mail");
        assert_eq!(
            mail,
            Mail {
                items: true,
                ..Mail::default()
            }
        );
        assert!(connection.receive().now_or_never().is_none());
    }

    #[test]
    fn words_of_every_kind_gather_until_they_are_taken() {
        let hub = Hub::default();
        let connection = hub.connect(AGENT, &[QUEUE]);
        let handle = LeaseHandle {
            item: ItemId::new(1, 5),
            epoch: 1,
        };
        hub.drain(AGENT, true);
        hub.drain(AGENT, false);
        hub.stop(AGENT, handle);
        hub.stop(AGENT, handle);
        let mail = connection.receive().now_or_never().expect("mail");
        assert_eq!(mail.drain, Some(false), "the last word holds");
        assert_eq!(mail.stop, [handle]);
    }

    #[test]
    fn a_closed_connection_leaves_nothing_behind() {
        let hub = Hub::default();
        drop(hub.connect(AGENT, &[QUEUE, OTHER_QUEUE]));
        let agents = hub.agents.lock().unwrap();
        assert!(agents.by_agent.is_empty() && agents.by_queue.is_empty());
    }

    #[test]
    fn followers_of_a_topic_hear_of_changes() {
        let topics = Topics::default();
        let mut follower = topics.follow(&7);
        topics.notify(&8);
        assert!(!follower.has_changed().expect("open"));
        topics.notify(&7);
        assert!(follower.has_changed().expect("open"));
        follower.mark_unchanged();
        drop(follower);
        topics.sweep();
        assert!(topics.0.lock().unwrap().is_empty());
    }
}
