//! The `slipway` command.
//!
//! Commands are thin: they read flags and files, call [`slipway_client`], the server or the agent,
//! and print. What they decide themselves is pure and lives in [`config`], [`job`] and
//! [`queue_document`].

mod cli;
mod commands;
mod completion;
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

use output::Format;

/// Serves SQLite's allocations too: a server spends much of its time in small ones, at which the C
/// libraries' own allocators are slow, that of musl above all. Its heap is on pages of the usual size:
/// an agent that waits would keep megabytes of huge ones for a few kilobytes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Fails only if a provider was installed already, and this is the first line that runs.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    clap_complete::CompleteEnv::with_factory(cli::command)
        .var(completion::VARIABLE)
        .complete();
    let arguments: Vec<_> = std::env::args_os().collect();
    let format = cli::format_of(&arguments);
    let ended = match cli::parse(arguments) {
        Ok(cli) => cli.run(),
        Err(error) if format == Format::Json && error.use_stderr() => Err(cli::wrong_usage(&error)),
        Err(error) => error.exit(),
    };
    ended.unwrap_or_else(|error| {
        output::error(&error, format);
        error.exit_code()
    })
}
