//! Calls that are repeated until the server answers.
//!
//! A server may be gone for hours; jobs go on meanwhile and nothing that is to be said of them is
//! dropped. The waits between attempts, with their jitter, are the client's.

use std::time::Duration;

use slipway_client::{Client, Error, Retry};
use tokio::time::{Instant, sleep};

/// After how long an outage is mentioned in the log.
const MENTION: Duration = Duration::from_secs(30);

/// For how long an answer that is none of the API's is put down to something between agent and server.
const STRANGE: Duration = Duration::from_secs(600);

/// How long to wait before whatever gave such an answer is asked again.
const STRANGE_AGAIN: Duration = Duration::from_secs(5);

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

/// As [`patiently`], of a server that is known to speak the API: an answer that is none of it is then a
/// proxy's, which shows a page of its own while the server behind it restarts, and is waited out. Of a server
/// that was never heard it means a wrong address, which is to be said at once.
pub(crate) async fn persistently<T, F>(
    client: &Client,
    action: &'static str,
    call: impl Fn(Client) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    wait_out_pages(action, || patiently(client, action, &call)).await
}

/// Whether an answer is none of the API's.
pub(crate) const fn is_strange(error: &Error) -> bool {
    matches!(error, Error::Elsewhere { .. } | Error::Protocol { .. })
}

/// Repeats an attempt that something else than the API answers, for [`STRANGE`].
async fn wait_out_pages<T, F>(action: &'static str, attempt: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut since = None;
    loop {
        let began = Instant::now();
        let answer = attempt().await;
        if began.elapsed() > MENTION {
            // The server was away in between.
            since = None;
        }
        let Err(error) = &answer else { return answer };
        if !is_strange(error) {
            return answer;
        }
        let since = *since.get_or_insert_with(|| {
            tracing::warn!(%error, action, "no answer of the API: a proxy whose server restarts? Trying again");
            Instant::now()
        });
        if since.elapsed() >= STRANGE {
            return answer;
        }
        sleep(STRANGE_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn page() -> Error {
        Error::Protocol {
            server: "http://server".to_owned(),
            message: "not a GraphQL answer: <html>".to_owned(),
        }
    }

    /// The answer to a call whose first attempts get a page, and after how many attempts.
    async fn ask(pages: u32) -> (Result<(), Error>, u32) {
        let attempts = Cell::new(0);
        let attempt = || {
            attempts.set(attempts.get() + 1);
            std::future::ready(if attempts.get() > pages { Ok(()) } else { Err(page()) })
        };
        let answer = wait_out_pages("ask", attempt).await;
        (answer, attempts.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_instead_of_an_answer_is_waited_out_for_ten_minutes() {
        assert_eq!(ask(0).await, (Ok(()), 1));
        assert_eq!(ask(100).await, (Ok(()), 101));
        assert_eq!(ask(u32::MAX).await, (Err(page()), 121));
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_after_an_outage_is_the_first_again() {
        let attempts = Cell::new(0);
        let attempt = || {
            attempts.set(attempts.get() + 1);
            let (outage, answer) = match attempts.get() {
                1 => (Duration::ZERO, Err(page())),
                2 => (STRANGE, Err(page())),
                _ => (Duration::ZERO, Ok(())),
            };
            async move {
                sleep(outage).await;
                answer
            }
        };
        assert_eq!(wait_out_pages("ask", attempt).await, Ok(()));
    }
}
