//! Calls that are repeated until the server answers.
//!
//! A server may be gone for hours; jobs go on meanwhile and nothing that is to be said of them is
//! dropped. The waits between attempts, with their jitter, are the client's.

use std::time::Duration;

use slipway_client::{Client, Error, Retry};

/// After how long an outage is mentioned in the log.
const MENTION: Duration = Duration::from_secs(30);

/// Makes a call until it succeeds or is refused for good, and says in the log that it waits.
pub(crate) async fn patiently<T, F>(
    client: &Client,
    action: &'static str,
    call: impl Fn(Client) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let brief = client.with_retry(Retry::For(MENTION));
    match call(brief).await {
        Err(error) if error.is_passing() => {
            tracing::warn!(%error, action, "the server does not answer; trying again until it does");
        }
        other => return other,
    }
    let answer = call(client.with_retry(Retry::Forever)).await;
    if answer.is_ok() {
        tracing::info!(action, "the server answers again");
    }
    answer
}
