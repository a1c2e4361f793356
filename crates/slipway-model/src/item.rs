//! The life of a queue item: its states, what may happen in each, and what then holds.
//!
//! The transition table of this module is the authority. Where a store's SQL guards a transition
//! itself, the conformance suite checks every pair of state and event against [`transition`].

use serde::{Deserialize, Serialize};

use crate::Millis;

/// Where an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ItemState {
    /// Waits in its queue.
    Pending,
    /// Handed to an agent, which has not yet acknowledged it.
    Leased,
    /// Acknowledged: a run is named, its workload has not been seen to run.
    Claimed,
    /// The run has started.
    Running,
    /// Ended with exit code 0.
    Finished,
    /// Ended otherwise, or could not be started; the item's failure says at which stage and why.
    Failed,
    /// The run stopped sending heartbeats; undone by the next one.
    Crashed,
    /// Cancelled or stopped on request.
    Killed,
}

impl ItemState {
    /// Every state, in the order of its code.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Leased,
        Self::Claimed,
        Self::Running,
        Self::Finished,
        Self::Failed,
        Self::Crashed,
        Self::Killed,
    ];

    /// The number that stores keep.
    #[must_use]
    pub const fn code(self) -> i64 {
        self as i64
    }

    /// The state of a stored number.
    #[must_use]
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }

    /// The word on the wire, in capitals.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Leased => "LEASED",
            Self::Claimed => "CLAIMED",
            Self::Running => "RUNNING",
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
            Self::Crashed => "CRASHED",
            Self::Killed => "KILLED",
        }
    }

    /// The word that people read. `queue_active`: whether an agent serves the queue.
    #[must_use]
    pub const fn label(self, queue_active: bool) -> &'static str {
        match self {
            Self::Pending if queue_active => "Queued",
            Self::Pending => "Idle",
            Self::Leased | Self::Claimed => "Pending",
            Self::Running => "Running",
            Self::Finished => "Finished",
            Self::Failed => "Failed",
            Self::Crashed => "Crashed",
            Self::Killed => "Killed",
        }
    }

    /// Whether nothing further happens by itself. `Crashed` is undone by a heartbeat.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Crashed | Self::Killed)
    }

    /// Whether an agent holds the item.
    #[must_use]
    pub const fn is_held(self) -> bool {
        matches!(self, Self::Leased | Self::Claimed | Self::Running)
    }
}

/// Where a failure happened, as the wire spells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Failure {
    /// `agent`, `build`, `run`, or the target resource's name.
    pub stage: String,
    /// A sentence for people: what went wrong and what to do next.
    pub message: String,
    /// A stable code from which metrics and pages derive, such as `image-pull` or `lease-lost`.
    pub reason: String,
    /// Run files of the agent's own run that hold more, such as `<item>/error/error.log`.
    pub file_paths: Vec<String>,
}

/// What the state machine knows of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemFacts {
    /// Its state.
    pub state: ItemState,
    /// Goes up with every lease and every return to the queue.
    pub epoch: i64,
    /// The attempt for which a start was durably recorded by our agent, if it is the current one.
    pub start_recorded: bool,
}

/// What may happen to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemEvent {
    /// An agent takes it.
    Lease,
    /// The holder names the run. Idempotent for the same run.
    Ack,
    /// The holder records that it is about to create the workload.
    Start,
    /// The run has called `wandb.init`, or our agent saw the workload run.
    RunStarted,
    /// The workload ended with success.
    Succeed,
    /// The workload ended badly or could not be started.
    Fail,
    /// Heartbeats stopped, or neither the agent nor the run is heard after an acknowledgement.
    Crash,
    /// A heartbeat, or `wandb.init`, came after a crash was assumed.
    Revive,
    /// A user cancels it, or the stopped workload has ended.
    Kill,
    /// The lease ran out. After the acknowledgement only leases of agents that record their starts
    /// run out: of others nobody could tell whether they have started.
    Expire,
    /// The holder, or its successor, reports that this attempt has no workload.
    ReportAbsent,
    /// The workload was preempted.
    Preempt,
    /// The holder hands an item back that it has not started.
    Release,
}

impl ItemEvent {
    /// Every event, in the order of an item's life.
    pub const ALL: [Self; 13] = [
        Self::Lease,
        Self::Ack,
        Self::Start,
        Self::RunStarted,
        Self::Succeed,
        Self::Fail,
        Self::Crash,
        Self::Revive,
        Self::Kill,
        Self::Expire,
        Self::Release,
        Self::ReportAbsent,
        Self::Preempt,
    ];
}

/// What a permitted event leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing changes: the event had happened already.
    None,
    /// The state changes.
    To(ItemState),
    /// Back to the queue with a new epoch: the lease ends, and with it what its holder may say.
    /// `new_attempt`: the next start is another attempt.
    Requeue {
        /// Whether the attempt counter goes up.
        new_attempt: bool,
    },
}

/// Why an event is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The handle carries an older epoch, or the agent was replaced: another agent, or nobody, holds
    /// the item now.
    #[error("the lease has ended: another agent may hold the item")]
    Stale,
    /// The event does not happen in this state.
    #[error("not possible while the item is {}", .0.as_str())]
    State(ItemState),
}

/// The next step of an item, for a caller who holds `epoch` (or none, for the server and users).
///
/// # Errors
/// [`Refusal::Stale`] if the epoch is not the item's; [`Refusal::State`] if the event does not
/// happen in the item's state. Neither changes anything.
pub fn transition(facts: ItemFacts, event: &ItemEvent, epoch: Option<i64>) -> Result<Effect, Refusal> {
    use Effect::{None as Same, Requeue, To};
    use ItemEvent as E;
    use ItemState as S;
    if epoch.is_some_and(|epoch| epoch != facts.epoch) {
        return Err(Refusal::Stale);
    }
    let refuse = Err(Refusal::State(facts.state));
    match (facts.state, event) {
        (S::Pending, E::Lease) => Ok(To(S::Leased)),
        (S::Leased, E::Ack) => Ok(To(S::Claimed)),
        (S::Claimed | S::Running, E::Ack) => Ok(Same),
        (S::Claimed, E::Start) => Ok(Same),
        (S::Claimed, E::RunStarted) => Ok(To(S::Running)),
        (S::Running, E::RunStarted) => Ok(Same),
        (S::Claimed | S::Running | S::Crashed, E::Succeed) => Ok(To(S::Finished)),
        (S::Leased | S::Claimed | S::Running | S::Crashed, E::Fail) => Ok(To(S::Failed)),
        (S::Claimed | S::Running, E::Crash) => Ok(To(S::Crashed)),
        (S::Crashed, E::Revive) => Ok(To(S::Running)),
        (S::Pending | S::Leased | S::Claimed | S::Running | S::Crashed, E::Kill) => Ok(To(S::Killed)),
        (S::Leased, E::Expire | E::Release) => Ok(Requeue { new_attempt: false }),
        (S::Claimed, E::Expire | E::Release) if !facts.start_recorded => Ok(Requeue { new_attempt: false }),
        (S::Claimed | S::Running, E::Expire) => Ok(Same),
        (S::Claimed | S::Running | S::Crashed, E::ReportAbsent) => Ok(Requeue { new_attempt: true }),
        (S::Claimed | S::Running | S::Crashed, E::Preempt) => Ok(Requeue { new_attempt: true }),
        (S::Finished, E::Succeed) | (S::Failed, E::Fail) | (S::Killed, E::Kill) | (S::Crashed, E::Crash) => Ok(Same),
        _ => refuse,
    }
}

/// How long an agent may hold an item without renewing or acknowledging it.
pub const LEASE_TERM: Millis = 60_000;

/// After how long without a heartbeat a run counts as crashed.
pub const CRASH_TERM: Millis = 300_000;

/// After how long an item whose agent is lost fails, unless the queue says otherwise.
pub const AGENT_LOST_TIMEOUT: Millis = 24 * 3_600_000;

/// How long an agent counts as active after its last contact.
pub const AGENT_TERM: Millis = 60_000;

/// How often one item may be preempted and queued again.
pub const MAX_PREEMPTIONS: i64 = 5;

#[cfg(test)]
mod tests;
