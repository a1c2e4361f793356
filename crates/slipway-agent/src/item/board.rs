//! Shows on an item what its target waits for, so that whoever waits for the job sees why.
//!
//! A word is told once it has stood for a moment, and the next one after a pause: most waits end before
//! they concern anybody. A word that does not reach the server is not repeated; the next one may.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use slipway_client::{Client, Retry};
use slipway_runner::{News, Notice};
use slipway_wire::item::Failure;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

/// How long something must be waited for before it is told.
const SETTLE: Duration = Duration::from_secs(2);

/// The pause after a word.
const BETWEEN: Duration = Duration::from_secs(5);

/// The board of one item.
pub(crate) struct Board {
    client: Client,
    handle: String,
    latest: watch::Sender<Option<Notice>>,
    /// What stays true; `None` once it was told with the start.
    lasting: Mutex<Option<Vec<Notice>>>,
    /// Held while a word is on its way.
    turn: Arc<tokio::sync::Mutex<()>>,
    teller: OnceLock<AbortOnDropHandle<()>>,
}

impl Board {
    pub(crate) fn new(client: Client, handle: String) -> Self {
        Self {
            client,
            handle,
            latest: watch::Sender::new(None),
            lasting: Mutex::new(Some(Vec::new())),
            turn: Arc::default(),
            teller: OnceLock::new(),
        }
    }

    /// Takes a target's news.
    pub(crate) fn take(&self, news: News) {
        match news {
            News::Waits(notice) => self.show(notice),
            News::GoesOn => drop(self.latest.send_replace(None)),
            News::Warns(notice) => {
                let mut lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
                match lasting.as_mut() {
                    Some(list) => list.push(notice),
                    None => {
                        drop(lasting);
                        self.show(notice);
                    }
                }
            }
        }
    }

    /// What is being waited for.
    pub(crate) fn latest(&self) -> Option<String> {
        self.latest.borrow().as_ref().map(|notice| notice.message.clone())
    }

    /// Takes what stands there down, and lets nothing new reach the server while the answer is held: a
    /// server forgets with the start of a job what it waited for.
    pub(crate) async fn quiet(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.latest.send_replace(None);
        self.turn.lock().await
    }

    /// Shows what stays true, now that the job runs.
    pub(crate) fn show_lasting(&self) {
        let list = self.lasting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let list = list.unwrap_or_default();
        if let Some(first) = list.first() {
            let messages: Vec<&str> = list.iter().map(|notice| notice.message.as_str()).collect();
            self.show(Notice {
                stage: first.stage,
                message: messages.join("\n"),
            });
        }
    }

    fn show(&self, notice: Notice) {
        self.teller.get_or_init(|| {
            let (client, handle) = (self.client.with_retry(Retry::Never), self.handle.clone());
            let (latest, turn) = (self.latest.subscribe(), Arc::clone(&self.turn));
            AbortOnDropHandle::new(tokio::spawn(tell(client, handle, latest, turn)))
        });
        self.latest.send_replace(Some(notice));
    }
}

async fn tell(
    client: Client,
    handle: String,
    mut latest: watch::Receiver<Option<Notice>>,
    turn: Arc<tokio::sync::Mutex<()>>,
) {
    while latest.changed().await.is_ok() {
        sleep(SETTLE).await;
        {
            let _turn = turn.lock().await;
            let Some(notice) = latest.borrow_and_update().clone() else {
                continue;
            };
            let warning = Failure {
                stage: notice.stage.to_owned(),
                message: notice.message,
                reason: None,
                file_paths: Vec::new(),
            };
            if let Err(error) = client.warn_item(&handle, &warning).await {
                tracing::debug!(item = handle, %error, "what the job waits for was not told");
            }
        }
        sleep(BETWEEN).await;
    }
}
