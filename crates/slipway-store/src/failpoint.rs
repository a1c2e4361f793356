//! Points at which a debug build can be made to die, so that tests find out what survives.
//!
//! `SLIPWAY_FAILPOINT=push.committed` aborts the process the first time it reaches that point,
//! `push.committed:3` the third time. If `SLIPWAY_FAILPOINT_FILE` is set, a file of that name is
//! created first: a test then knows that the point was reached. Release builds have none of this.
//!
//! Every write has two points: `<operation>.begun` before its commit, `<operation>.committed`
//! between the commit and the answer.

/// Dies here, if this is the point that the environment names.
#[cfg(debug_assertions)]
pub fn hit(operation: &str, stage: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static HITS: AtomicU64 = AtomicU64::new(0);

    let armed = ARMED.get_or_init(|| {
        let text = std::env::var("SLIPWAY_FAILPOINT").ok()?;
        Some(match text.rsplit_once(':') {
            Some((point, count)) => (point.to_owned(), count.parse().unwrap_or(1)),
            None => (text, 1),
        })
    });
    let Some((point, count)) = armed else { return };
    let reached = point
        .strip_prefix(operation)
        .and_then(|rest| rest.strip_prefix('.'))
        .is_some_and(|rest| rest == stage);
    if reached && HITS.fetch_add(1, Ordering::SeqCst) + 1 == *count {
        if let Some(path) = std::env::var_os("SLIPWAY_FAILPOINT_FILE") {
            // A test that waits for the file notices its absence by its own deadline.
            let _unwritten = std::fs::write(path, point);
        }
        std::process::abort();
    }
}

/// Does nothing in release builds.
#[cfg(not(debug_assertions))]
#[inline]
pub fn hit(_operation: &str, _stage: &str) {}
