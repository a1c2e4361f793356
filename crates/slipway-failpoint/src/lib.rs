//! Points at which a debug build can be made to die, so that tests find out what survives.
//!
//! `SLIPWAY_FAILPOINT=push.committed` aborts the process the first time it reaches that point,
//! `push.committed:3` the third time. If `SLIPWAY_FAILPOINT_FILE` is set, a file of that name is
//! created first: a test then knows that the point was reached. With `SLIPWAY_FAILPOINT_PANIC` the
//! point panics instead, which ends one task and not the process. Release builds have none of this.
//!
//! A point is `<scope>.<stage>`. Which there are is said where they are hit: by the store around each
//! commit, by the agent around each step of an item.

/// Dies here, if this is the point that the environment names.
///
/// # Panics
/// If the environment asks for a panic.
#[cfg(debug_assertions)]
pub fn hit(scope: &str, stage: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static HITS: AtomicU64 = AtomicU64::new(0);

    let armed = ARMED.get_or_init(|| std::env::var("SLIPWAY_FAILPOINT").ok().map(armed));
    let Some((point, count)) = armed else { return };
    if is_point(point, scope, stage) && HITS.fetch_add(1, Ordering::SeqCst) + 1 == *count {
        if let Some(path) = std::env::var_os("SLIPWAY_FAILPOINT_FILE") {
            // A test that waits for the file notices its absence by its own deadline.
            let _unwritten = std::fs::write(path, point);
        }
        assert!(
            std::env::var_os("SLIPWAY_FAILPOINT_PANIC").is_none(),
            "failpoint {point}"
        );
        std::process::abort();
    }
}

/// Does nothing in release builds.
#[cfg(not(debug_assertions))]
#[inline]
pub fn hit(_scope: &str, _stage: &str) {}

/// The point that a setting names, and which time it counts.
#[cfg(debug_assertions)]
fn armed(setting: String) -> (String, u64) {
    match setting.rsplit_once(':') {
        Some((point, count)) => (point.to_owned(), count.parse().unwrap_or(1)),
        None => (setting, 1),
    }
}

#[cfg(debug_assertions)]
fn is_point(point: &str, scope: &str, stage: &str) -> bool {
    point
        .strip_prefix(scope)
        .and_then(|rest| rest.strip_prefix('.'))
        .is_some_and(|rest| rest == stage)
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn a_setting_names_a_point_and_a_time() {
        for (setting, point, count) in [
            ("push.committed", "push.committed", 1),
            ("push.committed:3", "push.committed", 3),
            ("push.committed:x", "push.committed", 1),
        ] {
            assert_eq!(armed(setting.to_owned()), (point.to_owned(), count), "{setting}");
        }
    }

    #[test]
    fn a_point_is_its_scope_and_its_stage() {
        for (point, expected) in [
            ("push.committed", true),
            ("push.begun", false),
            ("push", false),
            ("pushcommitted", false),
            ("push.committed.twice", false),
        ] {
            assert_eq!(is_point(point, "push", "committed"), expected, "{point}");
        }
    }
}
