//! What runs and items log: history, system metrics, console lines, and the output that our agent
//! captured. Lives apart from the control data, so that it never holds up a pop.
//!
//! A run is known here by its number alone. This module does not look into lines, and does not
//! bound their length: callers do.

use std::collections::HashMap;

use slipway_model::id::{ItemId, RunName};

use crate::engine::{Field, Lane, Records, Row, Tx, Value, params};
use crate::{Error, Result, Store};

/// The last position that a stream or an output may reach. Beyond it no client counts correctly:
/// JSON numbers lose their last digits.
const MAX_POSITION: i64 = 1 << 53;

/// How many rows one transaction deletes, so that none holds the writer for long.
const SLICE: i64 = 5_000;

/// A stream of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// `wandb-history.jsonl`.
    History = 0,
    /// `wandb-events.jsonl`: system metrics.
    Events = 1,
    /// `output.log`: console lines that the client sends.
    Console = 2,
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

/// How many lines each stream of a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) history: i64,
    pub(crate) events: i64,
    pub(crate) console: i64,
}

impl Store {
    /// Writes lines from a line number on; lines that exist are replaced. Returns how many lines
    /// the stream has afterwards. A gap before `offset` is allowed.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such run, [`Error::Invalid`] for an offset that no client
    /// reaches.
    pub async fn write_lines(&self, run: &RunName, stream: Stream, offset: i64, lines: Vec<String>) -> Result<i64> {
        check_position(offset, lines.len())?;
        let number = self.required_number(run).await?;
        let count = lines.len() as i64;
        if count == 0 {
            return self.line_count_of(number, stream).await;
        }
        let fields = [("line", Field::Int), ("text", Field::Text)];
        let records = Records::new(self.dialect(), &fields, numbered(offset, lines))?;
        let insert = format!(
            "INSERT INTO lines (run_number, stream, line, text) SELECT $1, $2, line, text FROM {} AS new \
             WHERE true ON CONFLICT (run_number, stream, line) DO UPDATE SET text = excluded.text",
            records.source(3)
        );
        // Packed here: others wait for the writer.
        let lines = records.after(params![number, stream as i64]);
        self.write(Lane::RunData, "write_lines", move |tx| {
            tx.execute(&insert, &lines)?;
            let sql = "INSERT INTO stream_ends (run_number, stream, lines) VALUES ($1, $2, $3) \
                 ON CONFLICT (run_number, stream) DO UPDATE SET lines = \
                 CASE WHEN stream_ends.lines < excluded.lines THEN excluded.lines ELSE stream_ends.lines END \
                 RETURNING lines";
            tx.query_one(sql, params![number, stream as i64, offset + count])?
                .i64(0)
        })
        .await
    }

    /// Lines from a number on.
    pub async fn lines(&self, run: &RunName, stream: Stream, from: i64, limit: usize) -> Result<Vec<Line>> {
        let sql = "SELECT line, text FROM lines WHERE run_number = $1 AND stream = $2 AND line >= $3 \
             ORDER BY line LIMIT $4";
        self.read_lines(run, stream, sql, from, limit).await
    }

    /// The last lines, oldest first.
    pub async fn last_lines(&self, run: &RunName, stream: Stream, limit: usize) -> Result<Vec<Line>> {
        let sql = "SELECT line, text FROM lines WHERE run_number = $1 AND stream = $2 AND line >= $3 \
             ORDER BY line DESC LIMIT $4";
        let mut lines = self.read_lines(run, stream, sql, 0, limit).await?;
        lines.reverse();
        Ok(lines)
    }

    async fn read_lines(
        &self,
        run: &RunName,
        stream: Stream,
        sql: &'static str,
        from: i64,
        limit: usize,
    ) -> Result<Vec<Line>> {
        let Some(number) = self.run_number(run).await? else {
            return Ok(Vec::new());
        };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(Lane::RunData, "lines", move |tx| {
            let rows = tx.query(sql, params![number, stream as i64, from, limit])?;
            rows.iter()
                .map(|row| {
                    Ok(Line {
                        number: row.i64(0)?,
                        text: row.text(1)?,
                    })
                })
                .collect()
        })
        .await
    }

    /// How many lines a stream has: the number after its last line.
    pub async fn line_count(&self, run: &RunName, stream: Stream) -> Result<i64> {
        match self.run_number(run).await? {
            Some(number) => self.line_count_of(number, stream).await,
            None => Ok(0),
        }
    }

    async fn line_count_of(&self, number: i64, stream: Stream) -> Result<i64> {
        self.read(Lane::RunData, "line_count", move |tx| {
            let sql = "SELECT lines FROM stream_ends WHERE run_number = $1 AND stream = $2";
            let row = tx.query_opt(sql, params![number, stream as i64])?;
            row.map_or(Ok(0), |row| row.i64(0))
        })
        .await
    }

    /// How many lines each of these runs has. Runs without any are absent.
    pub(crate) async fn line_counts(&self, numbers: Vec<i64>) -> Result<HashMap<i64, Counts>> {
        self.read(Lane::RunData, "line_counts", move |tx| {
            let runs = numbers.iter().map(|number| params![*number].to_vec());
            let runs = Records::new(tx.dialect(), &[("number", Field::Int)], runs)?;
            let sql = format!(
                "SELECT run_number, stream, lines FROM stream_ends WHERE run_number IN {}",
                runs.source(1)
            );
            let mut counts: HashMap<i64, Counts> = HashMap::new();
            for row in tx.query(&sql, &runs.after(params![]))? {
                let (run, lines) = (counts.entry(row.i64(0)?).or_default(), row.i64(2)?);
                match row.i64(1)? {
                    stream if stream == Stream::History as i64 => run.history = lines,
                    stream if stream == Stream::Events as i64 => run.events = lines,
                    _ => run.console = lines,
                }
            }
            Ok(counts)
        })
        .await
    }

    /// Deletes everything that a run logged.
    pub async fn delete_lines(&self, run: &RunName) -> Result<()> {
        match self.run_number(run).await? {
            Some(number) => self.delete_lines_of(number).await,
            None => Ok(()),
        }
    }

    /// Deletes everything that a run logged, by the run's number, in slices.
    pub(crate) async fn delete_lines_of(&self, number: i64) -> Result<()> {
        loop {
            let deleted = self.write(Lane::RunData, "delete_lines", move |tx| {
                tx.execute("DELETE FROM stream_ends WHERE run_number = $1", params![number])?;
                let sql = "DELETE FROM lines WHERE (run_number, stream, line) IN \
                     (SELECT run_number, stream, line FROM lines WHERE run_number = $1 LIMIT $2)";
                tx.execute(sql, params![number, SLICE])
            });
            if deleted.await? < SLICE as u64 {
                return Ok(());
            }
        }
    }

    async fn required_number(&self, run: &RunName) -> Result<i64> {
        self.run_number(run).await?.ok_or_else(|| Error::not_found("run", run))
    }

    /// Appends captured output of an attempt. Bytes before the known end are taken as sent again
    /// and ignored. Returns the end afterwards, from which the agent goes on; after a gap that is
    /// less than `offset`, and nothing was stored.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an offset that no agent reaches.
    pub async fn append_output(&self, item: ItemId, attempt: i64, offset: i64, bytes: Vec<u8>) -> Result<i64> {
        check_position(offset, bytes.len())?;
        self.write(Lane::RunData, "append_output", move |tx| {
            let end = output_end(tx, item, attempt)?;
            let new = usize::try_from(end - offset).ok().and_then(|known| bytes.get(known..));
            let Some(new) = new.filter(|new| !new.is_empty()) else {
                return Ok(end);
            };
            // Another server may append the same bytes at the same time; then they are there.
            let sql = "INSERT INTO outputs (entity_id, item_id, attempt, start_at, end_at, bytes) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (entity_id, item_id, attempt, start_at) DO NOTHING";
            let new_end = end + new.len() as i64;
            match tx.execute(sql, params![item.entity, item.number, attempt, end, new_end, new])? {
                0 => output_end(tx, item, attempt),
                _ => Ok(new_end),
            }
        })
        .await
    }

    /// Captured output from a byte position on, in chunks as they came, up to about `limit` bytes
    /// (at least one chunk).
    pub async fn output(&self, item: ItemId, attempt: i64, from: i64, limit: usize) -> Result<Vec<OutputChunk>> {
        self.read(Lane::RunData, "output", move |tx| {
            let until = output_until(tx, item, attempt, from, limit)?;
            let sql = "SELECT start_at, bytes FROM outputs WHERE entity_id = $1 AND item_id = $2 AND attempt = $3 \
                 AND start_at >= COALESCE((SELECT MAX(start_at) FROM outputs WHERE entity_id = $1 AND item_id = $2 \
                 AND attempt = $3 AND start_at <= $4), 0) AND start_at < $5 AND end_at > $4 ORDER BY start_at";
            let rows = tx.query(sql, params![item.entity, item.number, attempt, from, until])?;
            rows.iter().map(|row| chunk_from(row, from)).collect()
        })
        .await
    }

    /// The end of the captured output of an attempt.
    pub async fn output_end(&self, item: ItemId, attempt: i64) -> Result<i64> {
        self.read(Lane::RunData, "output_end", move |tx| output_end(tx, item, attempt))
            .await
    }

    /// Deletes the captured output of all attempts of an item.
    pub(crate) async fn delete_output(&self, item: ItemId) -> Result<()> {
        loop {
            let deleted = self.write(Lane::RunData, "delete_output", move |tx| {
                let sql = "DELETE FROM outputs WHERE (entity_id, item_id, attempt, start_at) IN \
                     (SELECT entity_id, item_id, attempt, start_at FROM outputs \
                     WHERE entity_id = $1 AND item_id = $2 LIMIT $3)";
                tx.execute(sql, params![item.entity, item.number, SLICE])
            });
            if deleted.await? < SLICE as u64 {
                return Ok(());
            }
        }
    }
}

fn check_position(offset: i64, length: usize) -> Result<()> {
    let end = i64::try_from(length).ok().and_then(|length| offset.checked_add(length));
    match end {
        Some(end) if offset >= 0 && end <= MAX_POSITION => Ok(()),
        _ => Err(Error::Invalid(format!(
            "an offset is between 0 and {MAX_POSITION}; this one is {offset}"
        ))),
    }
}

/// Lines as [`Records`] takes them.
fn numbered(offset: i64, lines: Vec<String>) -> Vec<Vec<Value>> {
    let rows = lines.into_iter().zip(offset..).map(|(text, number)| {
        // PostgreSQL has no NUL in text.
        let text = if text.contains('\0') {
            text.replace('\0', "\u{FFFD}")
        } else {
            text
        };
        params![number, text].to_vec()
    });
    rows.collect()
}

fn output_end(tx: &mut dyn Tx, item: ItemId, attempt: i64) -> Result<i64> {
    let sql = "SELECT end_at FROM outputs WHERE entity_id = $1 AND item_id = $2 AND attempt = $3 \
         ORDER BY start_at DESC LIMIT 1";
    let row = tx.query_opt(sql, params![item.entity, item.number, attempt])?;
    row.map_or(Ok(0), |row| row.i64(0))
}

/// Where a reading of about `limit` bytes from `from` ends: before the first chunk that is not read.
fn output_until(tx: &mut dyn Tx, item: ItemId, attempt: i64, from: i64, limit: usize) -> Result<i64> {
    let enough = from.saturating_add(i64::try_from(limit).unwrap_or(i64::MAX));
    let sql = "SELECT MIN(start_at) FROM outputs WHERE entity_id = $1 AND item_id = $2 AND attempt = $3 \
         AND start_at > $4 AND start_at >= $5";
    let row = tx.query_one(sql, params![item.entity, item.number, attempt, from, enough])?;
    Ok(row.opt_i64(0)?.unwrap_or(i64::MAX))
}

fn chunk_from(row: &Row, from: i64) -> Result<OutputChunk> {
    let (start, mut bytes) = (row.i64(0)?, row.bytes(1)?);
    let skipped = usize::try_from(from - start).unwrap_or(0).min(bytes.len());
    bytes.drain(..skipped);
    Ok(OutputChunk {
        offset: start + skipped as i64,
        bytes,
    })
}
