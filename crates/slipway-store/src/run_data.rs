//! What runs and items log: history, system metrics, console lines, and the output that our agent
//! captured. Lives apart from the control data, so that it never holds up a pop.

use slipway_model::id::{ItemId, RunName};

use crate::identity::unfinished;
use crate::{Result, Store};

/// A stream of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// `wandb-history.jsonl`.
    History,
    /// `wandb-events.jsonl`: system metrics.
    Events,
    /// `output.log`: console lines that the client sends.
    Console,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 0.
    pub number: i64,
    /// Its text: for [`Stream::History`] and [`Stream::Events`] a JSON object.
    pub text: String,
}

/// A piece of output that our agent captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    /// The position of its first byte in the attempt's output.
    pub offset: i64,
    /// The bytes as printed; not necessarily UTF-8.
    pub bytes: Vec<u8>,
}

impl Store {
    /// Writes lines from a line number on; lines that exist are replaced. Returns how many lines
    /// the stream has afterwards. A gap before `offset` is allowed.
    pub async fn write_lines(&self, run: &RunName, stream: Stream, offset: i64, lines: Vec<String>) -> Result<i64> {
        unfinished((run, stream), (offset, lines))
    }
    /// Lines from a number on.
    pub async fn lines(&self, run: &RunName, stream: Stream, from: i64, limit: usize) -> Result<Vec<Line>> {
        unfinished((run, stream), (from, limit))
    }
    /// The last lines.
    pub async fn last_lines(&self, run: &RunName, stream: Stream, limit: usize) -> Result<Vec<Line>> {
        unfinished((run, stream), limit)
    }
    /// How many lines a stream has.
    pub async fn line_count(&self, run: &RunName, stream: Stream) -> Result<i64> {
        unfinished(run, stream)
    }
    /// Deletes everything that a run logged.
    pub async fn delete_lines(&self, run: &RunName) -> Result<()> {
        unfinished(run, ())
    }

    /// Appends captured output of an attempt. Bytes before the known end are taken as sent again
    /// and ignored; a gap is refused. Returns the end afterwards, from which the agent goes on.
    pub async fn append_output(&self, item: ItemId, attempt: i64, offset: i64, bytes: Vec<u8>) -> Result<i64> {
        unfinished((item, attempt), (offset, bytes))
    }
    /// Captured output from a byte position on, in chunks as they came, up to about `limit` bytes.
    pub async fn output(&self, item: ItemId, attempt: i64, from: i64, limit: usize) -> Result<Vec<OutputChunk>> {
        unfinished((item, attempt), (from, limit))
    }
    /// The end of the captured output of an attempt.
    pub async fn output_end(&self, item: ItemId, attempt: i64) -> Result<i64> {
        unfinished(item, attempt)
    }
}
