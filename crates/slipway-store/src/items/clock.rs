//! Since when a server has been listening.
//!
//! Leases, heartbeats and crash detection count only time in which a server could have been heard.
//! Every turn of the tick leaves the time here. A gap between two turns, or a step back, begins a
//! new listening period: nothing runs out until a full term after it.

use serde::{Deserialize, Serialize};
use slipway_model::Millis;

use crate::engine::Tx;
use crate::{Error, Result, settings};

/// Two turns further apart than this had a gap between them. A turn comes about once a second.
pub(super) const GAP: Millis = 10_000;

const SETTING: &str = "tick";

/// What the tick remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listening {
    /// When a turn was last recorded.
    pub(super) last_turn: Millis,
    /// Since when there was no gap.
    pub(super) since: Millis,
}

pub(super) fn load(tx: &mut dyn Tx) -> Result<Option<Listening>> {
    settings::get(tx, SETTING)?
        .map(|bytes| {
            serde_json::from_slice(&bytes)
                .map_err(|error| Error::Internal(format!("the setting `{SETTING}` is damaged: {error}")))
        })
        .transpose()
}

pub(super) fn save(tx: &mut dyn Tx, listening: Listening) -> Result<()> {
    let bytes = serde_json::to_vec(&listening).map_err(|error| Error::Internal(error.to_string()))?;
    settings::put(tx, SETTING, bytes)
}

/// Since when a server has been listening without a gap; 0 before the first turn of the tick.
pub(crate) fn heard_since(tx: &mut dyn Tx) -> Result<Millis> {
    Ok(load(tx)?.map_or(0, |listening| listening.since))
}
