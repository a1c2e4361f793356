//! The shim as a program of its own: `slipway-shim <job directory>`.
//!
//! The `slipway` binary runs the same function as `slipway shim --dir <job directory>`.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).filter(|argument| argument != "--dir");
    match (arguments.next(), arguments.next()) {
        (Some(directory), None) => slipway_runner::process::shim::run(&PathBuf::from(directory)),
        _ => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "usage: slipway-shim [--dir] <job directory>");
            ExitCode::from(2)
        }
    }
}
