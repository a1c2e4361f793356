//! The parent of one job's process, which outlives the agent.
//!
//! The agent prepares a job directory, takes its lock and spawns the shim with the locked file as
//! standard input. The shim moves into a session of its own, starts the job in a process group of
//! its own, keeps what it prints, ends it on request and writes down how it ended. The lock goes
//! when the shim goes, however it goes; so whoever finds the lock free knows that nothing more will
//! be written, and no process id is ever trusted.
//!
//! A job whose directory is taken away is ended, and the shim with it: nobody would hear of either, and
//! another attempt may begin.
//!
//! The shim starts its job at most once: it writes `started` first, and refuses where that exists.
//! It talks to nobody but the directory, needs no network, and knows no queue and no run.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeWriter, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, WaitOptions};
use slipway_model::Millis;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use super::directory::{self, JobDirectory};
use super::record::{Spec, Started, StopRequest};
use crate::{Exit, ExitCause};

/// How long output may still arrive after every process of the job was killed.
const DRAIN: Duration = Duration::from_secs(2);

/// How often the shim looks whether processes that outlived the job's main process are gone.
const STRAY_CHECK: Duration = Duration::from_millis(50);

/// How often the shim looks whether its directory is still there.
const DIRECTORY_CHECK: Duration = Duration::from_secs(2);

/// Why the shim did not run its job. The agent finds the text in `shim.log`.
#[derive(Debug, thiserror::Error)]
enum ShimError {
    #[error("could not {action} `{}`: {source}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("`{}` is locked: another shim runs this job", .0.display())]
    Locked(PathBuf),
    #[error("`{}` exists: this attempt was started before and is not started twice", .0.display())]
    Started(PathBuf),
    #[error("`{}` holds no job", .0.display())]
    NoSpec(PathBuf),
    #[error("`{}` was removed or replaced while the job ran: its outcome has no place", .0.display())]
    Gone(PathBuf),
}

fn failed(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ShimError {
    let path = path.into();
    move |source| ShimError::Io { action, path, source }
}

/// Runs the job of `directory` to its end. The body of `slipway shim --dir <directory>`.
///
/// Succeeds when the outcome is on disk, whatever it is. Writes what keeps it from that to standard
/// error.
#[must_use]
pub fn run(directory: &Path) -> ExitCode {
    // A shim that is started by hand from a shell leads its group already; it stays in its session.
    let _ = rustix::process::setsid();
    match supervise(&JobDirectory::at(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "slipway shim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn supervise(directory: &JobDirectory) -> Result<(), ShimError> {
    let lock = lock(directory)?;
    let spec_path = directory.file(directory::SPEC);
    let spec: Spec = directory
        .read(directory::SPEC)
        .map_err(failed("read", &spec_path))?
        .ok_or_else(|| ShimError::NoSpec(directory.path().to_owned()))?;
    if directory.has(directory::STARTED) {
        return Err(ShimError::Started(directory.file(directory::STARTED)));
    }
    // Processes that the job leaves behind become children of the shim, so that it can end them.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| failed("adopt orphans of", directory.path())(error.into()))?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed("make a runtime for", directory.path()))?
        .block_on(run_job(directory, &lock, spec))
}

/// The lock that the agent handed over as standard input, or else the directory's own.
fn lock(directory: &JobDirectory) -> Result<OwnedFd, ShimError> {
    let path = directory.file(directory::LOCK);
    let inherited = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .ok()
        .filter(|fd| is_at(fd, &path).unwrap_or(false));
    let fd = match inherited {
        Some(fd) => fd,
        None => OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed("open", &path))?
            .into(),
    };
    flock(&fd, FlockOperation::NonBlockingLockExclusive).map_err(|_| ShimError::Locked(path))?;
    Ok(fd)
}

/// Whether the file at `path` is the open one.
fn is_at(open: &OwnedFd, path: &Path) -> io::Result<bool> {
    let (open, named) = (rustix::fs::fstat(open)?, path.metadata()?);
    Ok((open.st_dev, open.st_ino) == (named.dev(), named.ino()))
}

/// Whether the directory is no longer the one whose lock the shim holds. What cannot be looked at counts
/// as there: trouble with a disk passes.
fn gone(directory: &JobDirectory, lock: &OwnedFd) -> bool {
    match is_at(lock, &directory.file(directory::LOCK)) {
        Ok(same) => !same,
        Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    }
}

async fn run_job(directory: &JobDirectory, lock: &OwnedFd, spec: Spec) -> Result<(), ShimError> {
    let control = directory.file(directory::CONTROL);
    let mut control = pipe::OpenOptions::new()
        .read_write(true)
        .open_receiver(&control)
        .map_err(failed("open", &control))?;
    let events = directory.file(directory::EVENTS);
    let events = directory::open_pipe(&events, true).map_err(failed("open", &events))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("watch signals for", directory.path()))?;
    // Registered and never read: a closed terminal or Ctrl-C is not meant for jobs.
    let _interrupt = signal(SignalKind::interrupt()).map_err(failed("watch signals for", directory.path()))?;
    let _hangup = signal(SignalKind::hangup()).map_err(failed("watch signals for", directory.path()))?;

    let started_at = now();
    let started = Started {
        at: started_at,
        boot: super::boot_id(),
    };
    directory
        .write(directory::STARTED, &started)
        .map_err(failed("write", directory.file(directory::STARTED)))?;
    let mut sink = Sink::open(directory, spec.output_limit)?;
    let mut end = Exit {
        cause: ExitCause::Code(0),
        stopped: false,
        started_at,
        ended_at: started_at,
        output_dropped: 0,
        memory_ran_out: false,
    };

    match spawn(&spec) {
        Err(error) => {
            let program = spec.command.first().map_or("", String::as_str);
            end.cause = ExitCause::NotStarted(format!("could not execute `{program}`: {error}"));
        }
        Ok((mut child, mut output)) => {
            notify(&events);
            let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
            let mut job = Job {
                directory,
                group,
                kill_at: None,
            };
            if directory.has(directory::STOP) {
                job.stop(requested_grace(directory, &spec));
            }
            let mut buffer = vec![0; 64 * 1024];
            let mut open = true;
            let mut nudge = [0; 64];
            let mut look = tokio::time::interval(DIRECTORY_CHECK);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let status = loop {
                tokio::select! {
                    biased;
                    read = output.read(&mut buffer), if open => match read {
                        Ok(0) | Err(_) => open = false,
                        Ok(count) => {
                            sink.write(&buffer[..count]);
                            notify(&events);
                        }
                    },
                    status = child.wait() => break status,
                    _ = control.read(&mut nudge) => {
                        if directory.has(directory::STOP) {
                            job.stop(requested_grace(directory, &spec));
                        }
                    }
                    _ = terminate.recv() => job.stop(Duration::from_millis(spec.grace_millis)),
                    () = until(job.kill_at) => job.kill(),
                    _ = look.tick() => if gone(directory, lock) {
                        job.stop(Duration::from_millis(spec.linger_millis));
                    },
                }
            };
            end.cause = cause(status);
            end.stopped = job.stopping();
            let linger = Instant::now() + Duration::from_millis(spec.linger_millis);
            job.kill_at = Some(job.kill_at.map_or(linger, |at| at.min(linger)));
            job.end_strays(&mut output, open, &mut sink, &mut buffer).await;
        }
    }

    sink.finish();
    end.output_dropped = sink.dropped;
    end.ended_at = now();
    // A full disk must not lose an outcome: as long as it cannot be written, the job counts as running.
    while let Err(error) = directory.write(directory::EXIT, &end) {
        if gone(directory, lock) {
            return Err(ShimError::Gone(directory.path().to_owned()));
        }
        let _ = writeln!(io::stderr(), "slipway shim: could not write the outcome: {error}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    notify(&events);
    Ok(())
}

/// Starts the job with both outputs on one pipe, so that its lines keep their order.
fn spawn(spec: &Spec) -> io::Result<(Child, pipe::Receiver)> {
    let (reader, writer) = io::pipe()?;
    let reader = pipe::Receiver::from_owned_fd(reader.into())?;
    let errors: PipeWriter = writer.try_clone()?;
    let (program, arguments) = spec
        .command
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"))?;
    let child = tokio::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&spec.environment)
        .current_dir(&spec.working_directory)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(errors)
        .process_group(0)
        .spawn()?;
    Ok((child, reader))
}

/// The processes of the job.
struct Job<'a> {
    directory: &'a JobDirectory,
    /// The process group that the job's main process leads; `None` once it is known to be empty.
    group: Option<Pid>,
    /// When what is left gets killed, once that is decided.
    kill_at: Option<Instant>,
}

impl Job<'_> {
    /// Asks the whole group to end. A repeated request may shorten the grace, never lengthen it.
    fn stop(&mut self, grace: Duration) {
        let at = Instant::now() + grace;
        if self.kill_at.is_none() {
            self.signal(Signal::TERM);
        }
        self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn stopping(&self) -> bool {
        self.kill_at.is_some() || self.directory.has(directory::STOP)
    }

    /// Ends what still runs, also what left the group.
    fn kill(&mut self) {
        self.signal(Signal::KILL);
        for child in children() {
            if Some(child) != self.group {
                let _ = rustix::process::kill_process(child, Signal::KILL);
            }
        }
        // Killed processes may have had children of their own, which are adopted only then.
        self.kill_at = Some(Instant::now() + STRAY_CHECK);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    /// After the main process ended: keeps output until every process of the job is gone, and sees
    /// to it that they go.
    async fn end_strays(&mut self, output: &mut pipe::Receiver, mut open: bool, sink: &mut Sink, buffer: &mut [u8]) {
        let give_up = self.kill_at.map(|at| at + DRAIN);
        loop {
            while rustix::process::wait(WaitOptions::NOHANG).is_ok_and(|reaped| reaped.is_some()) {}
            let gone = self
                .group
                .is_none_or(|group| rustix::process::test_kill_process_group(group).is_err());
            if gone {
                // From here on the number could name somebody else's group.
                self.group = None;
            }
            if (gone && !open && children().is_empty()) || give_up.is_some_and(|at| Instant::now() >= at) {
                return;
            }
            tokio::select! {
                biased;
                read = output.read(buffer), if open => match read {
                    Ok(0) | Err(_) => open = false,
                    Ok(count) => sink.write(&buffer[..count]),
                },
                () = until(self.kill_at) => self.kill(),
                () = tokio::time::sleep(STRAY_CHECK) => {}
            }
        }
    }
}

/// The direct children of this process, its own and adopted ones.
fn children() -> Vec<Pid> {
    let me = std::process::id().to_string();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let id: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // `pid (name) state parent …`; the name may hold spaces and parentheses.
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            (fields.nth(1)? == me).then(|| Pid::from_raw(id)).flatten()
        })
        .collect()
}

fn requested_grace(directory: &JobDirectory, spec: &Spec) -> Duration {
    let request: Option<StopRequest> = directory.read(directory::STOP).ok().flatten();
    Duration::from_millis(request.map_or(spec.grace_millis, |request| request.grace_millis))
}

fn cause(status: io::Result<ExitStatus>) -> ExitCause {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => ExitCause::Code(code),
            (None, Some(signal)) => ExitCause::Signal(signal),
            (None, None) => ExitCause::NotStarted(format!("ended with the unknown status {status}")),
        },
        Err(error) => ExitCause::NotStarted(format!("could not be waited for: {error}")),
    }
}

/// What is kept of the output.
struct Sink {
    file: File,
    left: u64,
    limit: u64,
    dropped: u64,
}

impl Sink {
    fn open(directory: &JobDirectory, limit: u64) -> Result<Self, ShimError> {
        let path = directory.file(directory::OUTPUT);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("create", &path))?;
        Ok(Self {
            file,
            left: limit,
            limit,
            dropped: 0,
        })
    }

    /// Keeps up to the limit, and counts the rest. A write that fails, on a full disk, costs these
    /// bytes and not the job.
    fn write(&mut self, bytes: &[u8]) {
        let fitting = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let (kept, beyond) = bytes.split_at(fitting);
        if !kept.is_empty() {
            if self.file.write_all(kept).is_err() {
                self.dropped += kept.len() as u64;
            }
            self.left -= kept.len() as u64;
        }
        if !beyond.is_empty() {
            if self.dropped == 0 {
                let _ = self.file.write_all(directory::cut(self.limit).as_bytes());
            }
            self.dropped += beyond.len() as u64;
        }
    }

    fn finish(&mut self) {
        let _ = self.file.sync_all();
    }
}

/// Wakes the agent, if one listens. A full pipe means that it has been woken already.
fn notify(mut events: &File) {
    let _ = events.write(&[0]);
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

fn now() -> Millis {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX))
}
