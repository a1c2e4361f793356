//! A token bucket per key.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use slipway_model::Millis;

use crate::options::RateLimit;

/// How many keys are counted. When full, full buckets are forgotten.
const CAPACITY: usize = 16_384;

struct Bucket {
    tokens: f64,
    at: Millis,
}

/// See the module.
pub(super) struct Limiter {
    limit: RateLimit,
    buckets: Mutex<HashMap<i64, Bucket>>,
}

impl Limiter {
    /// Counts from now on.
    pub(super) fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            buckets: Mutex::default(),
        }
    }

    /// Takes a token; false if there is none.
    pub(super) fn allow(&self, key: i64, now: Millis) -> bool {
        let RateLimit { per_second, burst } = self.limit;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= CAPACITY && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| refilled(bucket, per_second, burst, now) < burst);
        }
        let bucket = buckets.entry(key).or_insert(Bucket { tokens: burst, at: now });
        bucket.tokens = refilled(bucket, per_second, burst, now);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

fn refilled(bucket: &Bucket, per_second: f64, burst: f64, now: Millis) -> f64 {
    let elapsed = u32::try_from((now - bucket.at).max(0)).unwrap_or(u32::MAX);
    (bucket.tokens + f64::from(elapsed) / 1_000.0 * per_second).min(burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let limiter = Limiter::new(RateLimit {
            per_second: 2.0,
            burst: 3.0,
        });
        let allowed = |key, now| limiter.allow(key, now);
        assert_eq!(
            [allowed(1, 0), allowed(1, 0), allowed(1, 0), allowed(1, 0)],
            [true, true, true, false]
        );
        assert!(allowed(2, 0), "another key has its own bucket");
        assert!(!allowed(1, 499));
        assert!(allowed(1, 999));
        assert!(!allowed(1, 0), "a clock set back gives nothing");
    }
}
