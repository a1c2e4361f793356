//! The log of long-running commands.

use std::io::IsTerminal;
use std::path::Path;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::config::files::cannot;
use crate::exit::{Error, Result};

/// What is logged unless something else is asked for.
const DEFAULT: &str = "info";

/// Flags for the log.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LogArgs {
    /// The form of the log, on standard error
    #[arg(long, value_enum, default_value_t, env = "SLIPWAY_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// What to log, such as `info` or `warn,slipway_server=debug`
    #[arg(long, default_value = DEFAULT, env = "SLIPWAY_LOG", value_name = "FILTER")]
    pub log: String,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Begins to log to standard error.
pub(crate) fn install(args: &LogArgs) -> Result<()> {
    install_to(args, None, 0)
}

/// What a command that looks after a job says besides the job's own output: what is waited for, and what
/// goes wrong.
const AROUND_A_JOB: &str = "warn,slipway_agent::here=info";

/// Begins to tell on standard error what goes on around the one job of a command.
pub(crate) fn install_around_a_job(log_format: LogFormat) -> Result<()> {
    let asked = std::env::var("SLIPWAY_LOG").ok().filter(|filter| !filter.is_empty());
    let log = asked.unwrap_or_else(|| AROUND_A_JOB.to_owned());
    install(&LogArgs { log_format, log })
}

/// Begins to log to a file, to standard output (`-`), or to standard error. `verbosity`: 2 or more
/// adds what helps to find faults.
pub(crate) fn install_to(args: &LogArgs, file: Option<&Path>, verbosity: u8) -> Result<()> {
    let text = match (verbosity, args.log.as_str()) {
        (2.., DEFAULT) => "info,slipway_agent=debug,slipway_client=debug,slipway_runner=debug",
        (_, text) => text,
    };
    let filter =
        EnvFilter::try_new(text).map_err(|error| Error::usage(format!("`{text}` is no log filter: {error}")))?;
    let (writer, ansi) = match file {
        Some(path) if path == Path::new("-") => (BoxMakeWriter::new(std::io::stdout), colored(&std::io::stdout())),
        Some(path) => {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            let file = file.map_err(|error| cannot("open", path, &error))?;
            (BoxMakeWriter::new(std::sync::Mutex::new(file)), false)
        }
        None => (BoxMakeWriter::new(std::io::stderr), colored(&std::io::stderr())),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(ansi);
    let installed = match args.log_format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Text => builder.try_init(),
    };
    installed.map_err(|error| Error::failure(format!("cannot begin to log: {error}")))
}

fn colored(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
