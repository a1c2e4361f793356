//! The agent's failpoints: see `slipway-failpoint`.

/// Between an accepted acknowledgement and anything else.
pub(crate) const ACKED: &str = "acked";
/// Between the recorded start and the workload.
pub(crate) const START_RECORDED: &str = "start-recorded";
/// Right after the workload was created.
pub(crate) const WORKLOAD_CREATED: &str = "workload-created";
/// Between the workload's end and the report.
pub(crate) const FINISHED_BEFORE_REPORT: &str = "finished-before-report";
/// Between the accepted report and the removal of the workload.
pub(crate) const REPORTED: &str = "reported";

/// Dies here, if `agent.<stage>` is the point that the environment names.
pub(crate) fn hit(stage: &str) {
    slipway_failpoint::hit("agent", stage);
}
