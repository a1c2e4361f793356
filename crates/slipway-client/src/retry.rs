//! How long to go on trying, how long to wait between attempts, and who is told that it takes long.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

use crate::error::Error;

/// The first wait is at most this long.
const FIRST: Duration = Duration::from_millis(250);

/// No wait is longer than this, unless the server asks for it.
const LONGEST: Duration = Duration::from_secs(30);

/// A server that asks for a longer wait than this is asked again after it all the same.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// How long to repeat a call that failed in passing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not at all.
    Never,
    /// Until this much time has gone by since the first attempt.
    For(Duration),
    /// Until it succeeds or fails for good.
    Forever,
}

impl Retry {
    /// Whether another attempt may begin `elapsed` after the first one began.
    pub(crate) fn permits(self, elapsed: Duration) -> bool {
        match self {
            Self::Never => false,
            Self::For(limit) => elapsed < limit,
            Self::Forever => true,
        }
    }

    /// A wait that does not outlast the patience: the last attempt comes at its end.
    pub(crate) fn cut(self, wait: Duration, elapsed: Duration) -> Duration {
        match self {
            Self::Never | Self::Forever => wait,
            Self::For(limit) => wait.min(limit.saturating_sub(elapsed)),
        }
    }
}

/// Whom to tell that a server keeps calls waiting: once for each outage.
#[derive(Clone)]
pub(crate) struct Notice {
    after: Duration,
    tell: Arc<dyn Fn(Option<&Error>) + Send + Sync>,
    told: Arc<AtomicBool>,
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notice")
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

impl Notice {
    pub(crate) fn new(after: Duration, tell: impl Fn(Option<&Error>) + Send + Sync + 'static) -> Self {
        Self {
            after,
            tell: Arc::new(tell),
            told: Arc::default(),
        }
    }
}

/// A call that may have to wait.
#[derive(Debug)]
pub(crate) struct Waiting {
    notice: Option<Notice>,
    began: Instant,
    error: Option<Error>,
    /// Whether the first attempt counts as waiting too.
    impatient: bool,
}

impl Waiting {
    /// A wait that begins with the first failure.
    pub(crate) fn after_failure(notice: Option<&Notice>) -> Self {
        Self {
            notice: notice.cloned(),
            began: Instant::now(),
            error: None,
            impatient: false,
        }
    }

    /// A wait that begins now, of a call that a server answers at once.
    pub(crate) fn from_now(notice: Option<&Notice>) -> Self {
        Self {
            impatient: true,
            ..Self::after_failure(notice)
        }
    }

    /// How long ago it began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether the call is one that a server answers at once.
    pub(crate) const fn is_impatient(&self) -> bool {
        self.impatient
    }

    /// An attempt failed in passing.
    pub(crate) fn failed(&mut self, error: &Error) {
        self.error = Some(error.clone());
    }

    /// The server answered.
    pub(crate) fn answered(&self) {
        if let Some(notice) = &self.notice {
            notice.told.store(false, Ordering::Relaxed);
        }
    }

    /// Does a part of the work, which may be an attempt or a pause, and tells meanwhile if it is time.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let Some(notice) = &self.notice else {
            return work.await;
        };
        if self.error.is_none() && !self.impatient {
            return work.await;
        }
        tokio::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep_until(self.began + notice.after) => {}
        }
        if !notice.told.swap(true, Ordering::Relaxed) {
            (notice.tell)(self.error.as_ref());
        }
        work.await
    }
}

/// Exponential waits with full jitter, so that many clients of a server that returns do not arrive
/// together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait. `asked`: what the server asked for, which is the least.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let wait = self.ceiling().mul_f64(rand::rng().random_range(0.0..1.0));
        self.failures = self.failures.saturating_add(1);
        match asked {
            Some(asked) => asked.min(LONGEST_ASKED) + wait.min(FIRST),
            None => wait,
        }
    }

    /// Starts over after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    fn ceiling(self) -> Duration {
        FIRST.saturating_mul(1_u32 << self.failures.min(16)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, FIRST, LONGEST, Notice, Retry, Waiting};
    use crate::error::Error;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tokio::time::sleep;

    #[test]
    fn waits_grow_to_the_longest_and_never_beyond() {
        let mut backoff = Backoff::default();
        let mut ceilings = Vec::new();
        for _ in 0..40 {
            ceilings.push(backoff.ceiling());
            assert!(backoff.next(None) <= backoff.ceiling());
        }
        assert_eq!(ceilings[0], FIRST);
        assert_eq!(ceilings[1], FIRST * 2);
        assert_eq!(ceilings.last(), Some(&LONGEST));
        assert!(ceilings.is_sorted());
        backoff.reset();
        assert_eq!(backoff.ceiling(), FIRST);
    }

    #[test]
    fn a_wait_that_the_server_asks_for_is_the_least() {
        let mut backoff = Backoff::default();
        assert!(backoff.next(Some(Duration::from_secs(7))) >= Duration::from_secs(7));
        assert!(backoff.next(Some(Duration::from_secs(86_400))) <= Duration::from_secs(301));
    }

    #[test]
    fn attempts_end_when_the_policy_says() {
        for (retry, seconds, permitted) in [
            (Retry::Never, 0, false),
            (Retry::For(Duration::from_secs(10)), 9, true),
            (Retry::For(Duration::from_secs(10)), 10, false),
            (Retry::Forever, 1_000_000, true),
        ] {
            assert_eq!(
                retry.permits(Duration::from_secs(seconds)),
                permitted,
                "{retry:?} {seconds}"
            );
        }
    }

    #[test]
    fn no_wait_outlasts_the_patience() {
        let seconds = Duration::from_secs;
        for (retry, wait, elapsed, expected) in [
            (Retry::For(seconds(20)), 8, 15, 5),
            (Retry::For(seconds(20)), 4, 15, 4),
            (Retry::Forever, 30, 1_000, 30),
        ] {
            assert_eq!(
                retry.cut(seconds(wait), seconds(elapsed)),
                seconds(expected),
                "{retry:?}"
            );
        }
    }

    /// A notice after two seconds, and what it told.
    fn notice() -> (Notice, Arc<Mutex<Vec<Option<String>>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&told);
        let tell = move |error: Option<&Error>| kept.lock().unwrap().push(error.map(ToString::to_string));
        (Notice::new(Duration::from_secs(2), tell), told)
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_once_and_when_it_has_lasted() {
        let (notice, told) = notice();
        let failure = Error::not_found("away");
        let mut waiting = Waiting::after_failure(Some(&notice));
        waiting.during(sleep(Duration::from_secs(60))).await;
        assert_eq!(*told.lock().unwrap(), [], "a first attempt may be a long transfer");

        let mut brief = Waiting::after_failure(Some(&notice));
        brief.failed(&failure);
        brief.during(sleep(Duration::from_secs(1))).await;
        assert_eq!(*told.lock().unwrap(), [], "one second is short");
        brief.during(sleep(Duration::from_secs(2))).await;
        waiting.failed(&failure);
        waiting.during(sleep(Duration::from_secs(1))).await;
        assert_eq!(
            *told.lock().unwrap(),
            [Some("away".to_owned())],
            "it is the same outage"
        );

        waiting.answered();
        waiting.during(sleep(Duration::from_secs(1))).await;
        assert_eq!(told.lock().unwrap().len(), 2, "and this is another");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_has_no_answer_yet_is_told_too() {
        let (notice, told) = notice();
        let waiting = Waiting::from_now(Some(&notice));
        assert_eq!(waiting.during(async { 1 }).await, 1);
        assert_eq!(*told.lock().unwrap(), []);
        waiting.during(sleep(Duration::from_secs(3))).await;
        assert_eq!(*told.lock().unwrap(), [None]);
    }
}
