//! `slipway shim`: what the agent starts for each job of the process target.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

/// Flags of `slipway shim`.
#[derive(Debug, Args)]
pub(crate) struct ShimArgs {
    /// The job's directory
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// Runs one job to its end.
pub(crate) fn run(args: &ShimArgs) -> ExitCode {
    slipway_runner::process::shim::run(&args.dir)
}
