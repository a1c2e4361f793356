//! What the agent's loop decides: `(state, event, now) → (state, actions)`.
//!
//! Pure: no clock, no randomness, no server. `now` is milliseconds of a clock that never goes back,
//! and spreads come in from outside. The service performs the actions and tells what became of them.
//!
//! Two ways lead to a new item. While the event stream is open the server says when to pop, and a
//! slow poll stands behind it for the signal that got lost; while the stream is broken, or where a
//! server has none, a quick poll takes over.

use std::collections::BTreeMap;

use slipway_model::Millis;
use slipway_model::agent::AgentStatus;

/// Poll behind an open stream: ten thousand idle agents are then some eighty requests a second.
const SAFETY_POLL: Millis = 120_000;
/// Poll of our server while the stream is broken.
const BROKEN_STREAM_POLL: Millis = 3_000;
/// Poll of a server without stream, as the official agent does it.
const OFFICIAL_POLL: Millis = 10_000;
/// The longest wait between pops that fail.
const LONGEST_POLL: Millis = 60_000;
/// A third of a lease's term: two renewals may get lost.
const RENEW: Millis = 20_000;
/// Renewal after one that failed.
const RENEW_AGAIN: Millis = 5_000;
/// How often the agent says that it is there.
const HEARTBEAT: Millis = 20_000;
/// How often it repeats its status while the open stream says that it is there.
const STREAMING_HEARTBEAT: Millis = 300_000;
/// Items taken by one pop at most; what is leased waits for its turn to be started.
const POP_LIMIT: usize = 100;

/// What the agent's user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    /// Serve.
    Serve,
    /// Take nothing new, and end when the last job has.
    Drain,
    /// End now; jobs go on and wait for a successor.
    Leave,
}

/// Why the loop ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything is done.
    Drained,
    /// Jobs still run.
    Left,
    /// Another instance has the name.
    Replaced,
}

/// What became of one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lease {
    /// It goes on.
    Held,
    /// It goes on, and somebody asked the item to stop.
    StopRequested,
    /// It is over: another agent may hold the item, or the item has ended.
    Over,
}

/// What the loop waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The last job, then the end.
    Drain,
    /// A job's end, which frees a slot.
    Slot,
    /// A higher limit, which comes with another start: it takes nothing.
    Limit,
    /// The server, which does not answer.
    Server,
    /// Items, of which the event stream will tell.
    Items,
    /// Items, for which it asks each so many milliseconds.
    Poll(Millis),
}

/// What happens to the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Time went by.
    Tick,
    /// The user's wish changed.
    Wish(Wish),
    /// The event stream is open.
    StreamOpened,
    /// The event stream broke.
    StreamBroken,
    /// The server says that there is something to pop.
    ItemsWaiting,
    /// The server says that an item is to stop.
    StopRequested(String),
    /// The server says whether to take new items.
    DrainRequested(bool),
    /// The server has taken this status.
    StatusTaken(AgentStatus),
    /// A status did not reach the server.
    StatusLost,
    /// Another instance took the agent's name.
    Replaced,
    /// A pop brought these handles; their tasks have begun.
    Popped(Vec<String>),
    /// A pop failed.
    PopFailed,
    /// These leases were renewed, or not.
    Renewed(Vec<(String, Lease)>),
    /// A renewal did not reach the server.
    RenewFailed,
    /// An item's task has ended, with everything that there was to say about it.
    Ended(String),
}

/// What the service does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Take up to so many items, and say [`Event::Popped`] or [`Event::PopFailed`].
    Pop(usize),
    /// Renew these leases, and say [`Event::Renewed`] or [`Event::RenewFailed`].
    Renew(Vec<String>),
    /// Tell an item's task to stop its workload.
    Stop(String),
    /// Tell an item's task that the item is no longer this agent's.
    Abandon(String),
    /// Tell the server this status.
    Heartbeat(AgentStatus),
    /// End the loop.
    End(Ending),
}

/// The loop's state.
#[derive(Debug)]
pub(crate) struct Core {
    /// -1 for no limit.
    max_jobs: i64,
    /// Whether the server knows our additions.
    managed: bool,
    drain_timeout: Option<Millis>,
    /// Each item, and whether it was told to stop.
    items: BTreeMap<String, bool>,
    wish: Wish,
    server_drains: bool,
    replaced: bool,
    streaming: bool,
    /// A pop is under way.
    popping: Option<usize>,
    /// A pop is due as soon as there is a slot.
    eager: bool,
    failed_pops: u32,
    renewing: bool,
    next_poll: Millis,
    next_renewal: Millis,
    next_heartbeat: Millis,
    drain_deadline: Option<Millis>,
    status: Option<AgentStatus>,
    /// What the server goes by.
    taken: Option<AgentStatus>,
}

impl Core {
    /// A loop that starts at `now` with items that it took over from its predecessor.
    pub(crate) fn new(
        max_jobs: i64,
        managed: bool,
        drain_timeout: Option<Millis>,
        adopted: impl IntoIterator<Item = String>,
        now: Millis,
    ) -> Self {
        Self {
            max_jobs,
            managed,
            drain_timeout,
            items: adopted.into_iter().map(|handle| (handle, false)).collect(),
            wish: Wish::Serve,
            server_drains: false,
            replaced: false,
            streaming: false,
            popping: None,
            eager: true,
            failed_pops: 0,
            renewing: false,
            next_poll: now,
            // The successor of a killed agent may come late: its leases are renewed at once.
            next_renewal: now,
            next_heartbeat: now,
            drain_deadline: None,
            status: None,
            taken: None,
        }
    }

    /// How many items the agent holds.
    pub(crate) fn running(&self) -> usize {
        self.items.len()
    }

    /// Whether it takes nothing new.
    pub(crate) fn draining(&self) -> bool {
        self.wish != Wish::Serve || self.server_drains || self.replaced
    }

    /// Whether the event stream is open.
    pub(crate) const fn streaming(&self) -> bool {
        self.streaming
    }

    /// What it waits for.
    pub(crate) fn waiting(&self) -> Waiting {
        if self.draining() {
            Waiting::Drain
        } else if self.max_jobs == 0 {
            Waiting::Limit
        } else if self.failed_pops > 0 {
            Waiting::Server
        } else if self.free() == 0 {
            Waiting::Slot
        } else if self.managed && self.streaming {
            Waiting::Items
        } else {
            Waiting::Poll(self.poll_interval())
        }
    }

    /// When the next [`Event::Tick`] is due.
    pub(crate) fn wake_at(&self) -> Millis {
        let poll = (self.popping.is_none() && self.free() > 0).then_some(self.next_poll);
        let renewal = (self.managed && !self.renewing && !self.items.is_empty()).then_some(self.next_renewal);
        [poll, renewal, self.drain_deadline]
            .into_iter()
            .flatten()
            .fold(self.next_heartbeat, Millis::min)
    }

    /// Takes an event in. `spread` is a random number from 0 to 1, so that many agents of a server
    /// that returns do not ask at once.
    pub(crate) fn handle(&mut self, event: Event, now: Millis, spread: f64) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Tick => {}
            Event::Wish(wish) => self.wish = self.wish.max(wish),
            Event::StreamOpened => {
                self.streaming = true;
                self.eager = true;
            }
            Event::StreamBroken => {
                self.streaming = false;
                self.next_heartbeat = self.next_heartbeat.min(now + spread_out(HEARTBEAT, spread));
                self.next_poll = self.next_poll.min(now + spread_out(BROKEN_STREAM_POLL, spread));
            }
            Event::ItemsWaiting => self.eager = true,
            Event::StopRequested(handle) => self.stop(handle, &mut actions),
            Event::DrainRequested(drain) => {
                self.eager |= self.server_drains && !drain;
                self.server_drains = drain;
            }
            Event::StatusTaken(status) => {
                // A pop of before was answered as that of an agent that drains: with nothing.
                self.eager |= self.taken == Some(AgentStatus::Draining) && status != AgentStatus::Draining;
                self.taken = Some(status);
            }
            Event::StatusLost => self.next_heartbeat = self.next_heartbeat.min(now + spread_out(HEARTBEAT, spread)),
            Event::Replaced => {
                self.replaced = true;
                // The other instance cannot see workloads of this machine and will run them again.
                actions.extend(self.items.keys().cloned().map(Action::Abandon));
            }
            Event::Popped(handles) => {
                let asked = self.popping.take();
                self.failed_pops = 0;
                self.next_poll = now + spread_out(self.poll_interval(), spread);
                self.eager |= !handles.is_empty() && asked == Some(handles.len());
                self.items.extend(handles.into_iter().map(|handle| (handle, false)));
            }
            Event::PopFailed => {
                self.popping = None;
                self.failed_pops = self.failed_pops.saturating_add(1);
                let ceiling = (1_000 << self.failed_pops.min(10)).min(LONGEST_POLL);
                self.next_poll = now + spread_out(ceiling, spread);
            }
            Event::Renewed(leases) => {
                self.renewing = false;
                self.next_renewal = now + RENEW;
                for (handle, lease) in leases {
                    match lease {
                        Lease::Held => {}
                        Lease::StopRequested => self.stop(handle, &mut actions),
                        Lease::Over if self.items.contains_key(&handle) => actions.push(Action::Abandon(handle)),
                        Lease::Over => {}
                    }
                }
            }
            Event::RenewFailed => {
                self.renewing = false;
                self.next_renewal = now + spread_out(RENEW_AGAIN, spread);
            }
            Event::Ended(handle) => {
                self.items.remove(&handle);
                self.eager = true;
            }
        }
        self.proceed(now, &mut actions);
        actions
    }

    fn proceed(&mut self, now: Millis, actions: &mut Vec<Action>) {
        if let Some(ending) = self.ending(now) {
            if ending != Ending::Left {
                actions.push(Action::Heartbeat(AgentStatus::Killed));
            }
            actions.push(Action::End(ending));
            return;
        }
        if (self.eager || now >= self.next_poll) && self.popping.is_none() && self.free() > 0 {
            // While pops fail, a signal does not shorten the wait.
            if self.failed_pops == 0 || now >= self.next_poll {
                let limit = self.free().min(POP_LIMIT);
                self.popping = Some(limit);
                self.eager = false;
                actions.push(Action::Pop(limit));
            }
        }
        if self.managed && !self.renewing && !self.items.is_empty() && now >= self.next_renewal {
            self.renewing = true;
            actions.push(Action::Renew(self.items.keys().cloned().collect()));
        }
        let status = self.current_status();
        if self.status != Some(status) || now >= self.next_heartbeat {
            self.status = Some(status);
            self.next_heartbeat = now + self.heartbeat_interval();
            actions.push(Action::Heartbeat(status));
        }
    }

    fn ending(&mut self, now: Millis) -> Option<Ending> {
        if self.wish == Wish::Leave {
            return Some(Ending::Left);
        }
        if !self.draining() {
            self.drain_deadline = None;
            return None;
        }
        // A pop that is under way may still bring items, which then belong to this agent.
        if self.items.is_empty() && self.popping.is_none() {
            return Some(if self.replaced {
                Ending::Replaced
            } else {
                Ending::Drained
            });
        }
        if self.drain_deadline.is_none() {
            self.drain_deadline = self.drain_timeout.map(|timeout| now + timeout);
        }
        self.drain_deadline
            .is_some_and(|deadline| now >= deadline)
            .then_some(Ending::Left)
    }

    fn stop(&mut self, handle: String, actions: &mut Vec<Action>) {
        if let Some(told) = self.items.get_mut(&handle)
            && !std::mem::replace(told, true)
        {
            actions.push(Action::Stop(handle));
        }
    }

    fn free(&self) -> usize {
        if self.draining() {
            return 0;
        }
        match usize::try_from(self.max_jobs) {
            Ok(limit) => limit.saturating_sub(self.items.len()),
            Err(_) => POP_LIMIT,
        }
    }

    fn poll_interval(&self) -> Millis {
        match (self.managed, self.streaming) {
            (true, true) => SAFETY_POLL,
            (true, false) => BROKEN_STREAM_POLL,
            (false, _) => OFFICIAL_POLL,
        }
    }

    fn heartbeat_interval(&self) -> Millis {
        if self.managed && self.streaming {
            STREAMING_HEARTBEAT
        } else {
            HEARTBEAT
        }
    }

    fn current_status(&self) -> AgentStatus {
        if self.draining() {
            AgentStatus::Draining
        } else if self.items.is_empty() {
            AgentStatus::Polling
        } else {
            AgentStatus::Running
        }
    }
}

/// From three quarters of the interval to one and a quarter.
fn spread_out(interval: Millis, spread: f64) -> Millis {
    #[expect(clippy::cast_possible_truncation, reason = "intervals are far below 2^52 ms")]
    #[expect(clippy::cast_precision_loss, reason = "intervals are far below 2^52 ms")]
    let wait = (interval as f64 * (0.75 + spread.clamp(0.0, 1.0) / 2.0)) as Millis;
    wait
}

#[cfg(test)]
mod tests;
