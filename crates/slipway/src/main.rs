//! The `slipway` command.
//!
//! Commands are thin: they read flags and files, call [`slipway_client`], the server or the agent,
//! and print. What they decide themselves is pure and lives in [`config`], [`job`] and
//! [`queue_document`].

mod cli;
mod commands;
mod config;
mod context;
mod exit;
mod input;
mod job;
mod output;
mod queue_document;
mod shell;
mod telemetry;

use std::process::ExitCode;

/// Serves SQLite's allocations too: a server spends much of its time in small ones, at which the C
/// libraries' own allocators are slow, that of musl above all.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Fails only if a provider was installed already, and this is the first line that runs.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match cli.run() {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            error.exit_code()
        }
    }
}
