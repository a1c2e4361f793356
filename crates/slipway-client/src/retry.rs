//! How long to go on trying, and how long to wait between attempts.

use std::time::Duration;

use rand::RngExt as _;

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
    use super::{Backoff, FIRST, LONGEST, Retry};
    use std::time::Duration;

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
}
