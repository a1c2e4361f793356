//! Brings what a workload prints to the server, from the first byte.
//!
//! The workload's own file is the truth; the server tells how far it has come. So a restart of
//! either side goes on where it stopped, and an outage delays lines without losing any.

use std::sync::Arc;
use std::time::Duration;

use slipway_client::{Appended, Client};
use slipway_runner::{Runner, WorkloadId};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::patience::persistently;

/// Bytes sent at once.
const CHUNK: usize = 64 * 1024;

/// How long small pieces are gathered.
const GATHER: Duration = Duration::from_millis(100);

/// Whose output it is.
pub(crate) struct OutputFollower {
    pub(crate) client: Client,
    pub(crate) runner: Arc<dyn Runner>,
    pub(crate) workload: WorkloadId,
    pub(crate) handle: String,
    /// Told when there may be more.
    pub(crate) news: Arc<Notify>,
    /// True once there will be no more.
    pub(crate) ended: watch::Receiver<bool>,
}

impl OutputFollower {
    /// Sends until the workload has ended and everything has been sent, or the server refuses.
    pub(crate) async fn run(mut self) {
        let Some(mut offset) = self.append(0, &[]).await else {
            return;
        };
        loop {
            let ended = *self.ended.borrow_and_update();
            let piece = match self.runner.output(&self.workload, offset, CHUNK).await {
                Ok(piece) => piece,
                Err(error) => {
                    tracing::warn!(workload = %self.workload, %error, "output cannot be read");
                    return;
                }
            };
            if piece.is_empty() {
                if ended {
                    return;
                }
                tokio::select! {
                    () = self.news.notified() => {}
                    _ = self.ended.changed() => {}
                }
                continue;
            }
            let sent_at = Instant::now();
            match self.append(offset, &piece).await {
                Some(end) => offset = end,
                None => return,
            }
            if piece.len() < CHUNK && !ended {
                tokio::select! {
                    () = tokio::time::sleep_until(sent_at + GATHER) => {}
                    _ = self.ended.changed() => {}
                }
            }
        }
    }

    /// Sends a piece and answers from where to go on; `None` if the server does not want it.
    async fn append(&self, offset: u64, piece: &[u8]) -> Option<u64> {
        let attempt = self.workload.attempt();
        let sent = persistently(&self.client, "append output", |client| async move {
            client.append_output(&self.handle, attempt, offset, piece).await
        });
        match sent.await {
            Ok(Appended::Stored { end } | Appended::Gap { end }) => Some(end),
            Err(error) => {
                tracing::warn!(workload = %self.workload, %error, "the server takes no more output of this job");
                None
            }
        }
    }
}
