//! Target resources on which a job runs; the process target.
