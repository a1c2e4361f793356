//! What a starting agent does about its predecessor's work. Pure.
//!
//! Two parties know of it: the server, which items the agent of this name holds, and the target,
//! which workloads exist. Neither alone decides.

use slipway_model::item::ItemState;
use slipway_runner::{Found, WorkloadId};
use slipway_wire::item::{Item, ReturnCause};

use crate::item::plan::workload_id;

/// The label under which a workload carries its lease handle.
pub(crate) const HANDLE: &str = "handle";

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Takeover {
    /// Go on with a workload.
    Resume {
        /// The lease.
        handle: String,
        /// The workload.
        workload: WorkloadId,
        /// Whether somebody asked it to stop meanwhile.
        stop_requested: bool,
    },
    /// Nothing runs: give the item back.
    Return {
        /// The lease.
        handle: String,
        /// Why.
        cause: ReturnCause,
    },
    /// A workload of an item that is not this agent's: end and remove it.
    Discard(WorkloadId),
}

/// Matches what the server says (`None` if it cannot say) with what was found.
pub(crate) fn plan(held: Option<&[Item]>, found: &[Found]) -> Vec<Takeover> {
    let Some(held) = held else {
        return found
            .iter()
            .map(|workload| match workload.labels.get(HANDLE) {
                Some(handle) => Takeover::Resume {
                    handle: handle.clone(),
                    workload: workload.id.clone(),
                    stop_requested: false,
                },
                None => Takeover::Discard(workload.id.clone()),
            })
            .collect();
    };
    let mut left: Vec<&WorkloadId> = found.iter().map(|workload| &workload.id).collect();
    let mut decisions = Vec::new();
    for item in held {
        let Some(handle) = item.handle.clone() else {
            continue;
        };
        let workload = workload_id(&handle, item.attempt.unwrap_or(1)).ok();
        if let Some(at) = left.iter().position(|known| Some(*known) == workload.as_ref()) {
            decisions.push(Takeover::Resume {
                handle,
                workload: left.swap_remove(at).clone(),
                stop_requested: item.stop_requested.unwrap_or(false),
            });
            continue;
        }
        let cause = if item.state == ItemState::Leased.as_str() {
            ReturnCause::Released
        } else {
            ReturnCause::Absent
        };
        decisions.push(Takeover::Return { handle, cause });
    }
    decisions.extend(left.into_iter().cloned().map(Takeover::Discard));
    decisions
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use slipway_model::id::{ItemId, LeaseHandle};

    use super::*;

    fn handle(number: i64, epoch: i64) -> String {
        let item = ItemId::new(1, number);
        LeaseHandle { item, epoch }.to_string()
    }

    fn held(number: i64, state: &str, attempt: i64) -> Item {
        let id = ItemId::new(1, number).to_string();
        serde_json::from_value(json!({
            "id": id, "state": state, "handle": handle(number, 2), "attempt": attempt, "stopRequested": number == 1,
        }))
        .unwrap()
    }

    fn found(number: i64, attempt: i64) -> Found {
        Found {
            id: workload_id(&handle(number, 1), attempt).unwrap(),
            labels: BTreeMap::from([(HANDLE.to_owned(), handle(number, 1))]),
        }
    }

    #[test]
    fn held_items_are_matched_with_workloads_by_item_and_attempt() {
        let held = [
            held(1, "RUNNING", 1),
            held(2, "LEASED", 1),
            held(3, "CLAIMED", 1),
            held(4, "RUNNING", 2),
        ];
        let found = [found(1, 1), found(4, 1), found(5, 1)];
        let decisions = plan(Some(&held), &found);
        assert_eq!(
            decisions,
            [
                Takeover::Resume {
                    handle: handle(1, 2),
                    workload: found[0].id.clone(),
                    stop_requested: true
                },
                Takeover::Return {
                    handle: handle(2, 2),
                    cause: ReturnCause::Released
                },
                Takeover::Return {
                    handle: handle(3, 2),
                    cause: ReturnCause::Absent
                },
                Takeover::Return {
                    handle: handle(4, 2),
                    cause: ReturnCause::Absent
                },
                Takeover::Discard(found[2].id.clone()),
                Takeover::Discard(found[1].id.clone()),
            ]
        );
    }

    #[test]
    fn with_a_server_that_cannot_say_workloads_go_on_under_their_own_handle() {
        let mut nameless = found(2, 1);
        nameless.labels.clear();
        assert_eq!(
            plan(None, &[found(1, 1), nameless.clone()]),
            [
                Takeover::Resume {
                    handle: handle(1, 1),
                    workload: found(1, 1).id,
                    stop_requested: false
                },
                Takeover::Discard(nameless.id),
            ]
        );
    }
}
