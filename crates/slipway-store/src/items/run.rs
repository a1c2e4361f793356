//! An item follows its run: what the run's client reports moves the item in the same transaction.
//!
//! While our agent holds the item its own report decides; then only the run's start is noted.

use slipway_model::Millis;
use slipway_model::id::ItemId;
use slipway_model::item::{CRASH_TERM, Effect, Failure, ItemEvent, ItemState, transition};

use super::row;
use super::step::{self, End};
use crate::Result;
use crate::engine::{Tx, params};
use crate::events;

/// What happened to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunChange {
    /// The client's process began, or began again.
    Started,
    /// The client reported its end; `stopped`: after somebody had asked it to stop.
    Ended {
        /// The exit code.
        exit_code: i64,
        /// Whether somebody had asked the run to stop.
        stopped: bool,
    },
    /// Heartbeats stopped.
    Crashed,
    /// A heartbeat came after a crash was assumed.
    Revived,
}

fn event_of(change: RunChange, state: ItemState) -> ItemEvent {
    match change {
        // The first word of a run whose agent was lost before it.
        RunChange::Started if state == ItemState::Crashed => ItemEvent::Revive,
        RunChange::Started => ItemEvent::RunStarted,
        RunChange::Ended { exit_code: 0, .. } => ItemEvent::Succeed,
        RunChange::Ended { stopped: true, .. } => ItemEvent::Kill,
        RunChange::Ended { stopped: false, .. } => ItemEvent::Fail,
        RunChange::Crashed => ItemEvent::Crash,
        RunChange::Revived => ItemEvent::Revive,
    }
}

/// A failure that the run itself shows.
fn failure(reason: &str, message: String) -> Failure {
    Failure {
        stage: "run".to_owned(),
        message,
        reason: reason.to_owned(),
        file_paths: Vec::new(),
    }
}

/// Lets an item follow its run; `true` if the item changed. An unknown item, and a change that its
/// state does not allow, change nothing: the run goes on without it.
pub(crate) fn run_changed(tx: &mut dyn Tx, item: ItemId, change: RunChange, now: Millis) -> Result<bool> {
    row::lock(tx, item)?;
    let Some(item) = row::find(tx, item)? else {
        return Ok(false);
    };
    if item.managed && item.state.is_held() && change != RunChange::Started {
        return Ok(false);
    }
    let Ok(Effect::To(state)) = transition(item.facts(), &event_of(change, item.state), None) else {
        return Ok(false);
    };
    match state {
        ItemState::Running => {
            tx.execute(
                "UPDATE items SET state = 3, started_at = COALESCE(started_at, CAST($3 AS BIGINT)), ended_at = NULL, \
                 failure = NULL, warning = NULL, deadline = CASE WHEN managed = 1 THEN deadline END \
                 WHERE entity_id = $1 AND id = $2",
                params![item.id.entity, item.id.number, now],
            )?;
            let kind = if item.state == ItemState::Crashed {
                "revived"
            } else {
                "running"
            };
            let detail = serde_json::json!({"attempt": item.attempt}).to_string();
            events::append(tx, now, &[item.event(kind, "", detail)])?;
        }
        ItemState::Finished | ItemState::Failed | ItemState::Crashed | ItemState::Killed => {
            let exit_code = match change {
                RunChange::Ended { exit_code, .. } => Some(exit_code),
                RunChange::Started | RunChange::Crashed | RunChange::Revived => None,
            };
            let failure = match (state, exit_code) {
                (ItemState::Failed, Some(code)) => Some(failure(
                    "exit-code",
                    format!("The run ended with exit code {code}; its log says why"),
                )),
                (ItemState::Crashed, _) => Some(failure(
                    "run-silent",
                    format!(
                        "The run has sent no heartbeat for {} s; if it sends one again, the item goes on, else see \
                         what became of its process and retry it",
                        CRASH_TERM / 1000
                    ),
                )),
                _ => None,
            };
            let end = End {
                state,
                failure: failure.as_ref(),
                exit_code,
                actor: "",
            };
            step::end(tx, &item, &end, now)?;
        }
        ItemState::Pending | ItemState::Leased | ItemState::Claimed => return Ok(false),
    }
    Ok(true)
}
