//! What commands print: data on standard output, everything else on standard error.

pub(crate) mod table;
pub(crate) mod time;

use std::io::{self, Write as _};

use clap::ValueEnum;
use owo_colors::OwoColorize as _;
use serde::Serialize;

use crate::exit::{Error, Result};

/// The form of a command's data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: the API's field names.
    Json,
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::failure(error.to_string()))?;
    text_line(&text)
}

/// Prints a value as JSON on one line, at once.
pub(crate) fn json_line(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|error| Error::failure(error.to_string()))?;
    raw(&format!("{text}\n"))
}

/// Prints a line of data. A reader that went away is no failure.
pub(crate) fn text_line(text: &str) -> Result<()> {
    written(writeln!(anstream::stdout(), "{text}"))
}

/// Prints text as it is, at once.
pub(crate) fn raw(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Prints text as it is on standard error, at once.
pub(crate) fn raw_aside(text: &str) -> Result<()> {
    let mut stderr = io::stderr().lock();
    let written = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    written.map_err(|error| Error::failure(format!("cannot write to standard error: {error}")))
}

/// Prints a job's output as it is, at once: on standard error where data is to be JSON. A reader that
/// went away does not end the job.
pub(crate) fn bytes(format: Format, piece: &[u8]) {
    let _ = match format {
        Format::Table => put(&mut io::stdout().lock(), piece),
        Format::Json => put(&mut io::stderr().lock(), piece),
    };
}

fn put(stream: &mut impl io::Write, piece: &[u8]) -> io::Result<()> {
    stream.write_all(piece)?;
    stream.flush()
}

fn written(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            // Whoever read has read enough, as with `| head`.
            std::process::exit(0)
        }
        other => other.map_err(|error| Error::failure(format!("cannot write to standard output: {error}"))),
    }
}

/// Says what happens, on standard error.
pub(crate) fn note(text: impl std::fmt::Display) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Warns, on standard error.
pub(crate) fn warn(text: impl std::fmt::Display) {
    let _ = writeln!(anstream::stderr(), "{} {text}", "warning:".yellow().bold());
}

/// Says why a command failed, and what to do, on standard error.
pub(crate) fn error(error: &Error, format: Format) {
    let mut stderr = anstream::stderr();
    if format == Format::Json {
        let _ = writeln!(stderr, "{}", serde_json::to_string(error).unwrap_or_default());
        return;
    }
    let _ = writeln!(stderr, "{} {error}", "error:".red().bold());
    if let Some(hint) = error.hint() {
        let _ = writeln!(stderr, "{} {hint}", "hint:".cyan().bold());
    }
}
