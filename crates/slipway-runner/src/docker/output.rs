//! Brings what a container prints into a file of the agent, from the first byte.
//!
//! The engine's log is the truth and the file a copy that can be read at any offset, also while the
//! engine is away. Beside the file stands how far it has come, counted in the engine's own entries, so
//! that an agent that was killed goes on at exactly the same byte: it reads the log again, skips as
//! many entries, and cuts the file to the length that belongs to them. An engine that threw old
//! entries away meanwhile (a log that rotates) is noticed by the first entry's time; then the times
//! decide where to go on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::AGAIN;
use super::calls::runs;
use super::engine::{Engine, Trouble};
use crate::process::directory::{self, JobDirectory};

/// The record of how far the file has come.
const POSITION: &str = "output.position";

/// Entries taken at once.
const BATCH: usize = 64;

/// How long nothing must come before the position is written.
const IDLE: Duration = Duration::from_millis(200);

/// Bytes after which the position is written in any case.
const SAVE_EVERY: u64 = 1 << 20;

/// Entries from which a log is long.
const LONG: u64 = 50_000;

/// The longest wait before an engine that did not give the log is asked again.
const LONGEST: Duration = Duration::from_secs(10);

/// How far a file has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// Bytes in the file that belong to the entries.
    length: u64,
    /// Entries read.
    entries: u64,
    /// Bytes that were not kept, because of the limit.
    #[serde(default)]
    dropped: u64,
    /// The first entry's time.
    first: String,
    /// The last entry's time.
    last: String,
}

/// What a follower tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Progress {
    /// Counts what was written.
    pub(super) revision: u64,
    /// Whether the log is being followed, so that the container runs.
    pub(super) following: bool,
    /// Whether there will be no more.
    pub(super) complete: bool,
    /// Whether the engine does not answer, so that there is more to come.
    pub(super) away: bool,
    /// Bytes that were not kept.
    pub(super) dropped: u64,
}

/// Follows one container's log.
pub(super) struct Follower {
    pub(super) engine: Arc<Engine>,
    pub(super) directory: JobDirectory,
    pub(super) container: String,
    /// A terminal's output has no entries: it is read anew from the start.
    pub(super) tty: bool,
    /// Bytes that are kept.
    pub(super) limit: u64,
    pub(super) progress: watch::Sender<Progress>,
}

impl Follower {
    /// Follows until the container has ended and all of its output is in the file.
    pub(super) async fn run(self) {
        let (mut wait, mut said) = (AGAIN, None);
        loop {
            let revision = self.progress.borrow().revision;
            let failure = match self.follow().await {
                Ok(()) => break,
                Err(failure) => failure,
            };
            if failure.is_final() {
                if !failure.is_missing() {
                    tracing::warn!(container = self.container, %failure, "there is no output to show");
                }
                break;
            }
            let message = failure.to_string();
            if said.as_ref() != Some(&message) {
                tracing::warn!(container = self.container, %failure, "output waits");
                said = Some(message);
            }
            let away = matches!(failure, Failure::Engine(Trouble::Away(_)));
            self.progress.send_modify(|progress| {
                progress.following = false;
                progress.away = away;
            });
            let moved = self.progress.borrow().revision != revision;
            wait = if moved || away { AGAIN } else { wait };
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST);
        }
        self.progress.send_modify(|progress| {
            progress.following = false;
            progress.complete = true;
        });
    }

    /// Reads until the container has ended.
    async fn follow(&self) -> Result<(), Failure> {
        self.read(true).await?;
        self.ended().await?;
        // Some engines end what they stream a moment before the last entry is written.
        if self.tty { Ok(()) } else { self.read(false).await }
    }

    /// One connection.
    async fn read(&self, follow: bool) -> Result<(), Failure> {
        let mut position = if self.tty {
            Position::default()
        } else {
            self.directory.read::<Position>(POSITION)?.unwrap_or_default()
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.directory.file(directory::OUTPUT))?;
        if file.metadata()?.len() < position.length {
            // The machine went down before the file was on disk.
            position = Position::default();
        }
        file.set_len(position.length)?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(position.length))?;
        let mut resume = Resume::new(&position);
        let options = LogsOptions {
            follow,
            stdout: true,
            stderr: true,
            timestamps: !self.tty,
            // The look back at the end of a long log skips what is known for certain.
            since: if !follow && position.entries > LONG {
                seconds(&position.last)
            } else {
                0
            },
            ..LogsOptions::default()
        };
        let docker = self.engine.docker().await?;
        let mut entries = docker.logs(&self.container, Some(options)).ready_chunks(BATCH);
        self.progress.send_modify(|progress| progress.following = follow);
        let mut saved = position.length;
        loop {
            let batch = match tokio::time::timeout(IDLE, entries.next()).await {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(_) if saved != position.length => {
                    self.save(&position)?;
                    saved = position.length;
                    continue;
                }
                Err(_) => match entries.next().await {
                    Some(batch) => batch,
                    None => break,
                },
            };
            let mut bytes = Vec::new();
            let mut broken = None;
            for entry in batch {
                match entry {
                    Ok(entry) => self.take(entry, &mut resume, &mut position, &mut bytes),
                    Err(error) => {
                        broken = Some(Trouble::from(error));
                        break;
                    }
                }
            }
            self.write(&mut file, &bytes, &mut position)?;
            if position.length - saved >= SAVE_EVERY {
                self.save(&position)?;
                saved = position.length;
            }
            if let Some(trouble) = broken {
                self.save(&position)?;
                return Err(trouble.into());
            }
        }
        Ok(self.save(&position)?)
    }

    /// The stream ends with the container, and with the engine.
    async fn ended(&self) -> Result<(), Failure> {
        let container = self.container.as_str();
        let found = self
            .engine
            .ask(|docker| async move { docker.inspect_container(container, None).await });
        if found.await?.state.is_some_and(|state| runs(&state)) {
            return Err(Failure::BrokeOff);
        }
        Ok(())
    }

    fn take(&self, entry: LogOutput, resume: &mut Resume, position: &mut Position, bytes: &mut Vec<u8>) {
        let entry = entry.into_bytes();
        let (time, text) = if self.tty { ("", entry.as_ref()) } else { split(&entry) };
        if !resume.is_new(time) {
            return;
        }
        if position.entries == 0 {
            time.clone_into(&mut position.first);
        }
        position.entries += 1;
        time.clone_into(&mut position.last);
        bytes.extend_from_slice(text);
    }

    fn write(&self, file: &mut File, bytes: &[u8], position: &mut Position) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let room = usize::try_from(self.limit.saturating_sub(position.length)).unwrap_or(usize::MAX);
        let (kept, beyond) = bytes.split_at(bytes.len().min(room));
        file.write_all(kept)?;
        position.length += kept.len() as u64;
        if !beyond.is_empty() {
            if position.dropped == 0 {
                let cut = directory::cut(self.limit);
                file.write_all(cut.as_bytes())?;
                position.length += cut.len() as u64;
            }
            position.dropped += beyond.len() as u64;
        }
        self.progress.send_modify(|progress| {
            progress.revision += 1;
            progress.dropped = position.dropped;
        });
        Ok(())
    }

    fn save(&self, position: &Position) -> io::Result<()> {
        if self.tty {
            return Ok(());
        }
        self.directory.write(POSITION, position)
    }
}

/// Why following broke off.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the engine does not give it: {0}")]
    Engine(Trouble),
    #[error("the engine broke it off, and the container runs")]
    BrokeOff,
    #[error("it cannot be kept: {0}")]
    File(io::Error),
}

impl Failure {
    fn is_missing(&self) -> bool {
        matches!(self, Self::Engine(trouble) if trouble.status() == 404)
    }

    /// Whether asking again would bring the same answer. Engines fail now and then, and refuse what they
    /// cannot do: a driver of logs that nobody can read.
    fn is_final(&self) -> bool {
        match self {
            Self::Engine(Trouble::Answer { status, message }) => {
                let driver = ["logging driver", "log driver"]
                    .iter()
                    .any(|words| message.contains(words));
                driver || (400..500).contains(status) || *status == 501
            }
            _ => false,
        }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Engine(trouble)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

/// Which entries of a log that is read from its start are new. Pure.
#[derive(Debug)]
enum Resume {
    /// Everything is.
    Fresh,
    /// The first entry decides.
    Undecided(Position),
    /// So many entries are known.
    Skip(u64),
    /// Old entries are gone: what is not later than this is known.
    After(String),
}

impl Resume {
    fn new(position: &Position) -> Self {
        if position.entries == 0 {
            Self::Fresh
        } else {
            Self::Undecided(position.clone())
        }
    }

    fn is_new(&mut self, time: &str) -> bool {
        if let Self::Undecided(position) = self {
            *self = if position.first == time {
                Self::Skip(position.entries)
            } else {
                Self::After(std::mem::take(&mut position.last))
            };
        }
        match self {
            Self::Skip(0) => {
                *self = Self::Fresh;
                true
            }
            Self::Skip(left) => {
                *left -= 1;
                false
            }
            Self::After(last) => {
                let new = time > last.as_str();
                if new {
                    *self = Self::Fresh;
                }
                new
            }
            Self::Fresh | Self::Undecided(_) => true,
        }
    }
}

/// The second before an entry, as the engine counts; 0 if its time cannot be read.
fn seconds(time: &str) -> i32 {
    chrono::DateTime::parse_from_rfc3339(time)
        .ok()
        .and_then(|time| i32::try_from(time.timestamp() - 1).ok())
        .unwrap_or(0)
}

/// An entry's time, as the engine writes it, and its text.
fn split(entry: &[u8]) -> (&str, &[u8]) {
    let time = entry
        .iter()
        .take(40)
        .position(|byte| *byte == b' ')
        .and_then(|at| Some((std::str::from_utf8(&entry[..at]).ok()?, &entry[at + 1..])));
    match time {
        Some((time, text)) if time.len() >= 20 && time.as_bytes()[4] == b'-' => (time, text),
        _ => ("", entry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(position: &Position, log: &[&str]) -> Vec<String> {
        let mut resume = Resume::new(position);
        log.iter()
            .filter(|time| resume.is_new(time))
            .map(|time| (*time).to_owned())
            .collect()
    }

    #[test]
    fn a_log_is_read_on_where_it_was_left() {
        let at = |entries: u64, first: &str, last: &str| Position {
            entries,
            first: first.to_owned(),
            last: last.to_owned(),
            ..Position::default()
        };
        let log = ["t1", "t2", "t2", "t3"];
        assert_eq!(read(&Position::default(), &log), log);
        assert_eq!(read(&at(2, "t1", "t2"), &log), ["t2", "t3"]);
        assert_eq!(read(&at(4, "t1", "t3"), &log), Vec::<String>::new());
        // The oldest entries were thrown away.
        assert_eq!(read(&at(3, "t0", "t1"), &log), ["t2", "t2", "t3"]);
    }

    #[test]
    fn an_entry_is_its_time_and_any_bytes() {
        assert_eq!(
            split(b"2026-01-02T03:04:05.123456789Z hello \xff\n"),
            ("2026-01-02T03:04:05.123456789Z", &b"hello \xff\n"[..])
        );
        assert_eq!(split(b"no time here"), ("", &b"no time here"[..]));
        assert_eq!(split(b""), ("", &b""[..]));
    }
}
