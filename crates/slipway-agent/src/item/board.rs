//! Shows on an item what its job waits for, so that whoever waits for the job sees why.
//!
//! A word is told once it has stood for a moment, and the next one after a pause: most waits end before
//! they concern anybody. Of several the item shows one: what is being waited for, else that the target
//! does not answer, else, once the job runs, what stays true of it. What has passed is taken down.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use slipway_client::{Client, Retry};
use slipway_runner::{News, Notice};
use slipway_wire::item::Failure;
use tokio::sync::{MutexGuard, watch};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

/// How long something must be waited for before it is told.
const SETTLE: Duration = Duration::from_secs(2);

/// The pause after a word.
const BETWEEN: Duration = Duration::from_secs(5);

/// What an official server, which keeps a warning until the next one, is told when it has passed.
const PASSED: &str = "what the job waited for has passed";

/// What there is to say of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Words {
    /// What its target waits for.
    waits: Option<Notice>,
    /// Why it cannot be looked at.
    unanswered: Option<Notice>,
    /// What stays true of it.
    lasting: Vec<Notice>,
    /// Whether it runs.
    runs: bool,
    /// Whether it has ended, so that nothing more is said.
    ended: bool,
}

impl Words {
    /// Takes a target's news.
    fn take(&mut self, news: News) {
        match news {
            News::Waits(notice) => self.waits = Some(notice),
            News::GoesOn => self.waits = None,
            News::Warns(notice) if self.lasting.contains(&notice) => {}
            News::Warns(notice) => self.lasting.push(notice),
        }
    }

    /// What an earlier process of the agent said of the job. Whether what passes has passed is known once the
    /// target answers; what stays true goes on to be shown.
    fn take_over(&mut self, notice: Notice) {
        if notice.passes() {
            self.unanswered = Some(notice);
        } else {
            self.lasting.push(notice);
        }
    }

    /// The job has ended: nothing is waited for any more.
    fn end(&mut self) {
        self.waits = None;
        self.unanswered = None;
        self.ended = true;
    }

    /// What is to stand on the item.
    fn shown(&self) -> Option<Notice> {
        let passing = self.waits.as_ref().or(self.unanswered.as_ref());
        passing.cloned().or_else(|| {
            let first = self.lasting.first().filter(|_| self.runs)?;
            let messages: Vec<&str> = self.lasting.iter().map(|notice| notice.message.as_str()).collect();
            Some(Notice {
                stage: first.stage.clone(),
                message: messages.join("\n"),
            })
        })
    }
}

/// What stands on the item; held while a word is on its way.
#[derive(Debug, Default)]
pub(crate) struct Standing(Option<Notice>);

/// The board of one item.
pub(crate) struct Board {
    client: Client,
    handle: String,
    managed: bool,
    words: watch::Sender<Words>,
    standing: Arc<tokio::sync::Mutex<Standing>>,
    teller: OnceLock<AbortOnDropHandle<()>>,
}

impl Board {
    pub(crate) fn new(client: Client, handle: String, managed: bool) -> Self {
        Self {
            client,
            handle,
            managed,
            words: watch::Sender::default(),
            standing: Arc::default(),
            teller: OnceLock::new(),
        }
    }

    /// Goes on where an earlier process of the agent was: with a job that runs, as the server knows, and with
    /// what stands on its item.
    pub(crate) async fn take_over(&self, runs: bool, warning: Option<Failure>) {
        let notice = warning.map(|warning| Notice::new(warning.stage, warning.message));
        self.standing.lock().await.0.clone_from(&notice);
        self.words.send_modify(|words| {
            words.runs = runs;
            if let Some(notice) = notice {
                words.take_over(notice);
            }
        });
    }

    /// Takes a target's news.
    pub(crate) fn take(&self, news: News) {
        self.change(|words| words.take(news));
    }

    /// Notes why the job cannot be looked at, or that it can.
    pub(crate) fn unanswered(&self, notice: Option<Notice>) {
        self.change(|words| words.unanswered = notice);
    }

    /// What is being waited for.
    pub(crate) fn latest(&self) -> Option<String> {
        self.words.borrow().waits.as_ref().map(|notice| notice.message.clone())
    }

    /// Drops what the start waited for, and lets nothing new reach the server while the answer is held: a
    /// server forgets with the start of a job what it waited for.
    pub(crate) async fn quiet(&self) -> MutexGuard<'_, Standing> {
        self.change(|words| words.waits = None);
        self.standing.lock().await
    }

    /// Shows what stays true, now that the job runs. With the start of a job a server of ours forgets what was
    /// told before, once.
    pub(crate) fn runs(&self, standing: &mut Standing, told: bool) {
        if told && self.managed && !self.words.borrow().runs {
            standing.0 = None;
        }
        self.change(|words| words.runs = true);
    }

    /// Takes down what has passed with the job, and says nothing more; returns once nothing is on its way.
    pub(crate) async fn close(&self) {
        self.change(Words::end);
        let mut standing = self.standing.lock().await;
        let shown = self.words.borrow().shown();
        if standing.0.is_some() && standing.0 != shown {
            self.teller().say(&mut standing, shown).await;
        }
    }

    fn teller(&self) -> Teller {
        Teller {
            client: self.client.with_retry(Retry::Never),
            handle: self.handle.clone(),
            managed: self.managed,
            standing: Arc::clone(&self.standing),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Words)) {
        let changed = self.words.send_if_modified(|words| {
            let before = words.clone();
            change(words);
            *words != before
        });
        if changed {
            self.teller.get_or_init(|| {
                let mut words = self.words.subscribe();
                words.mark_changed();
                AbortOnDropHandle::new(tokio::spawn(self.teller().run(words)))
            });
        }
    }
}

/// Brings to the server what is to stand on the item.
struct Teller {
    client: Client,
    handle: String,
    managed: bool,
    standing: Arc<tokio::sync::Mutex<Standing>>,
}

impl Teller {
    async fn run(self, mut words: watch::Receiver<Words>) {
        while words.changed().await.is_ok() {
            sleep(SETTLE).await;
            while self.tell(&mut words).await {
                sleep(BETWEEN).await;
            }
        }
    }

    /// Whether there was something to tell, so that it is looked again after a pause whether it stands.
    async fn tell(&self, words: &mut watch::Receiver<Words>) -> bool {
        let mut standing = self.standing.lock().await;
        let (shown, ended) = {
            let words = words.borrow_and_update();
            (words.shown(), words.ended)
        };
        if ended || shown == standing.0 {
            return false;
        }
        self.say(&mut standing, shown).await;
        true
    }

    async fn say(&self, standing: &mut Standing, shown: Option<Notice>) {
        match self.client.warn_item(&self.handle, &self.warning(shown.as_ref())).await {
            Ok(()) => standing.0 = shown,
            Err(error) => {
                tracing::debug!(item = self.handle, %error, "what the job waits for was not told");
                if !error.is_passing() {
                    // The next word may be taken.
                    standing.0 = shown;
                }
            }
        }
    }

    fn warning(&self, shown: Option<&Notice>) -> Failure {
        let (stage, message) = match shown {
            Some(notice) => (notice.stage.as_ref(), notice.message.as_str()),
            None if self.managed => ("agent", ""),
            None => ("agent", PASSED),
        };
        Failure {
            stage: stage.to_owned(),
            message: message.to_owned(),
            reason: None,
            file_paths: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(message: &str) -> Notice {
        Notice::new("stage", message)
    }

    #[test]
    fn an_item_shows_what_is_waited_for_before_what_stays_true() {
        let mut words = Words::default();
        let mut shows = |change: &dyn Fn(&mut Words), expected: Option<&str>| {
            change(&mut words);
            let shown = words.shown().map(|notice| notice.message);
            assert_eq!(shown.as_deref(), expected, "{words:?}");
        };
        // A server forgets with the start of a job what it was told before.
        shows(&|words| words.take(News::Warns(notice("no swap limit"))), None);
        shows(&|words| words.take(News::Waits(notice("a pull"))), Some("a pull"));
        shows(&|words| words.take(News::GoesOn), None);
        shows(&|words| words.runs = true, Some("no swap limit"));
        let lasting = "no swap limit\nit was paused";
        shows(&|words| words.take(News::Warns(notice("it was paused"))), Some(lasting));
        shows(&|words| words.unanswered = Some(notice("away")), Some("away"));
        shows(&|words| words.take(News::Waits(notice("a stop"))), Some("a stop"));
        shows(&|words| words.take(News::GoesOn), Some("away"));
        shows(&|words| words.unanswered = None, Some(lasting));
        shows(&|words| words.unanswered = Some(notice("away")), Some("away"));
        shows(&Words::end, Some(lasting));
    }

    #[test]
    fn what_a_predecessor_said_stands_until_the_target_answers_or_for_good() {
        for (stage, stays) in [
            ("engine-away", false),
            ("image-pull", false),
            ("status", false),
            ("stop", false),
            ("unpaused", true),
            ("engine-warning", true),
        ] {
            let said = Notice::new(stage, "said");
            let mut words = Words {
                runs: true,
                ..Words::default()
            };
            words.take_over(said.clone());
            assert_eq!(words.shown(), Some(said.clone()));
            words.unanswered = None;
            assert_eq!(words.shown(), stays.then_some(said));
        }
    }

    #[test]
    fn a_word_that_is_repeated_changes_nothing() {
        let mut words = Words::default();
        for news in [
            News::Waits(notice("a stop")),
            News::Warns(notice("it was paused")),
            News::GoesOn,
        ] {
            words.take(news.clone());
            let once = words.clone();
            words.take(news);
            assert_eq!(words, once);
        }
    }
}
