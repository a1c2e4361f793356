//! Points at which a debug build can be made to die, so that tests find out what survives.
//!
//! The same variables as the server's: `SLIPWAY_FAILPOINT` names the point, with `:n` the n-th time
//! it is reached; `SLIPWAY_FAILPOINT_FILE` is created first. With `SLIPWAY_FAILPOINT_PANIC` the point
//! panics instead, which ends one item's task and not the process. Release builds have none of this.

/// Between an accepted acknowledgement and anything else.
pub(crate) const ACKED: &str = "agent.acked";
/// Between the recorded start and the workload.
pub(crate) const START_RECORDED: &str = "agent.start-recorded";
/// Right after the workload was created.
pub(crate) const WORKLOAD_CREATED: &str = "agent.workload-created";
/// Between the workload's end and the report.
pub(crate) const FINISHED_BEFORE_REPORT: &str = "agent.finished-before-report";
/// Between the accepted report and the removal of the workload.
pub(crate) const REPORTED: &str = "agent.reported";

/// Dies here, if this is the point that the environment names.
#[cfg(debug_assertions)]
pub(crate) fn hit(point: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static HITS: AtomicU64 = AtomicU64::new(0);

    let armed = ARMED.get_or_init(|| {
        let text = std::env::var("SLIPWAY_FAILPOINT").ok()?;
        Some(match text.rsplit_once(':') {
            Some((name, count)) => (name.to_owned(), count.parse().unwrap_or(1)),
            None => (text, 1),
        })
    });
    let Some((name, count)) = armed else { return };
    if name == point && HITS.fetch_add(1, Ordering::SeqCst) + 1 == *count {
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
pub(crate) fn hit(_point: &str) {}
