//! What a starting agent does about its predecessor's work. Pure.
//!
//! Two parties know of it: the server, which items the agent of this name holds, and the target,
//! which workloads exist. Neither alone decides.

use std::collections::BTreeMap;

use slipway_model::item::ItemState;
use slipway_runner::{Listing, WorkloadId};
use slipway_wire::item::{Item, ReturnCause};

use crate::item::Stood;
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
        /// What it was labelled with, as far as that is known.
        labels: BTreeMap<String, String>,
        /// Whether somebody asked it to stop meanwhile.
        stop_requested: bool,
        /// How its item stood.
        stood: Stood,
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
pub(crate) fn plan(held: Option<&[Item]>, listing: &Listing) -> Vec<Takeover> {
    let Some(held) = held else {
        return listing
            .found
            .iter()
            .map(|workload| match workload.labels.get(HANDLE) {
                Some(handle) => Takeover::Resume {
                    handle: handle.clone(),
                    workload: workload.id.clone(),
                    labels: workload.labels.clone(),
                    stop_requested: false,
                    stood: Stood::default(),
                },
                None => Takeover::Discard(workload.id.clone()),
            })
            .collect();
    };
    let mut left: Vec<_> = listing.found.iter().collect();
    let mut decisions = Vec::new();
    for item in held {
        let Some(handle) = item.handle.clone() else {
            continue;
        };
        let workload = workload_id(&handle, item.attempt.unwrap_or(1)).ok();
        let stop_requested = item.stop_requested.unwrap_or(false);
        if let Some(at) = left.iter().position(|known| Some(&known.id) == workload.as_ref()) {
            let known = left.swap_remove(at);
            decisions.push(Takeover::Resume {
                handle,
                workload: known.id.clone(),
                labels: known.labels.clone(),
                stop_requested,
                stood: stood(item),
            });
            continue;
        }
        let started = item.state != ItemState::Leased.as_str();
        decisions.push(match workload {
            // A target that is away may have it. Whether it is absent is asked until the target answers:
            // given back now, it would run a second time beside itself.
            Some(workload) if started && !listing.complete => Takeover::Resume {
                handle,
                workload,
                labels: labels(item),
                stop_requested,
                stood: stood(item),
            },
            _ if started => Takeover::Return {
                handle,
                cause: ReturnCause::Absent,
            },
            _ => Takeover::Return {
                handle,
                cause: ReturnCause::Released,
            },
        });
    }
    decisions.extend(left.into_iter().map(|workload| Takeover::Discard(workload.id.clone())));
    decisions
}

fn stood(item: &Item) -> Stood {
    Stood {
        runs: item.state == ItemState::Running.as_str(),
        warning: item.warning.clone(),
    }
}

/// What a held item's workload was labelled with that matters here: its run.
fn labels(item: &Item) -> BTreeMap<String, String> {
    [
        ("entity", &item.run_entity),
        ("project", &item.run_project),
        ("run", &item.run_name),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use slipway_model::id::{ItemId, LeaseHandle};
    use slipway_runner::Found;

    use super::*;

    fn handle(number: i64, epoch: i64) -> String {
        let item = ItemId::new(1, number);
        LeaseHandle { item, epoch }.to_string()
    }

    fn held(number: i64, state: &str, attempt: i64) -> Item {
        let id = ItemId::new(1, number).to_string();
        serde_json::from_value(json!({
            "id": id, "state": state, "handle": handle(number, 2), "attempt": attempt, "stopRequested": number == 1,
            "runName": "r", "runEntity": "e", "runProject": "p",
            "warning": {"stage": "engine-away", "message": "away", "filePaths": null},
        }))
        .unwrap()
    }

    /// How a held item stood.
    fn stood(runs: bool) -> Stood {
        let warning = serde_json::from_value(json!({"stage": "engine-away", "message": "away"})).unwrap();
        Stood {
            runs,
            warning: Some(warning),
        }
    }

    fn found(number: i64, attempt: i64) -> Found {
        Found {
            id: workload_id(&handle(number, 1), attempt).unwrap(),
            labels: BTreeMap::from([(HANDLE.to_owned(), handle(number, 1))]),
        }
    }

    fn listing(found: impl IntoIterator<Item = Found>, complete: bool) -> Listing {
        Listing {
            found: found.into_iter().collect(),
            complete,
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
        let decisions = plan(Some(&held), &listing(found.clone(), true));
        assert_eq!(
            decisions,
            [
                Takeover::Resume {
                    handle: handle(1, 2),
                    workload: found[0].id.clone(),
                    labels: found[0].labels.clone(),
                    stop_requested: true,
                    stood: stood(true),
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
    fn a_started_item_is_not_given_back_while_a_target_cannot_say_that_it_does_not_have_it() {
        let held = [held(1, "CLAIMED", 1), held(2, "LEASED", 1), held(3, "RUNNING", 1)];
        let decisions = plan(Some(&held), &listing([found(3, 1)], false));
        let labels = [("entity", "e"), ("project", "p"), ("run", "r")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            decisions,
            [
                Takeover::Resume {
                    handle: handle(1, 2),
                    workload: found(1, 1).id,
                    labels: labels.into(),
                    stop_requested: true,
                    stood: stood(false),
                },
                Takeover::Return {
                    handle: handle(2, 2),
                    cause: ReturnCause::Released
                },
                Takeover::Resume {
                    handle: handle(3, 2),
                    workload: found(3, 1).id,
                    labels: found(3, 1).labels,
                    stop_requested: false,
                    stood: stood(true),
                },
            ]
        );
    }

    #[test]
    fn with_a_server_that_cannot_say_workloads_go_on_under_their_own_handle() {
        let mut nameless = found(2, 1);
        nameless.labels.clear();
        assert_eq!(
            plan(None, &listing([found(1, 1), nameless.clone()], true)),
            [
                Takeover::Resume {
                    handle: handle(1, 1),
                    workload: found(1, 1).id,
                    labels: found(1, 1).labels,
                    stop_requested: false,
                    stood: Stood::default(),
                },
                Takeover::Discard(nameless.id),
            ]
        );
    }
}
