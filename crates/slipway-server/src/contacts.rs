//! Agents that were heard from and had no news, gathered so that the store hears of them all in one write.
//!
//! Ten thousand idle agents would otherwise make hundreds of commits a second. What is gathered when the
//! server dies is lost: the store gives every agent a full term after nobody could be heard.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use slipway_model::Millis;
use slipway_model::agent::AgentStatus;
use slipway_model::id::AgentId;
use slipway_store::agents::Heard;
use slipway_store::{Result, Store};

/// Agents that were heard from since they were last written down.
#[derive(Default)]
pub(crate) struct Contacts(Mutex<HashSet<AgentId>>);

impl Contacts {
    /// Notes what an agent says, if anything. `false` if it is unknown, has ended or was replaced. Only
    /// another status is on the disk when this answers.
    ///
    /// # Errors
    /// If the store is away.
    pub(crate) async fn hear(
        &self,
        store: &Store,
        agent: AgentId,
        status: Option<AgentStatus>,
        now: Millis,
    ) -> Result<bool> {
        match store.hear_agent(agent, status, now).await? {
            Heard::Refused => Ok(false),
            Heard::Nothing => Ok(true),
            Heard::Contact => {
                self.note(agent);
                Ok(true)
            }
            Heard::Status(_) => store.touch_agent(agent, status, now).await,
        }
    }

    /// Notes that an agent's stream is open.
    pub(crate) fn note(&self, agent: AgentId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(agent);
    }

    /// Tells the store. Those that it could not take are forgotten: their streams speak again soon.
    pub(crate) async fn write_down(&self, store: &Store, now: Millis) {
        let agents = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if agents.is_empty() {
            return;
        }
        if let Err(error) = store.touch_agents(agents.into_iter().collect(), now).await {
            tracing::debug!(%error, "contacts of agents were not noted");
        }
    }
}
