//! The process target: jobs as processes of the agent's machine, under the agent's user.
//!
//! Each job runs below a shim of its own ([`shim`]), which survives the agent. Agent and shim share
//! a job directory and nothing else; its layout is described in `process/directory.rs`.
//!
//! The target isolates nothing: a job can do what the agent's user can. It only keeps the agent's
//! environment from the job, save for listed names.

mod command;
pub(crate) mod directory;
mod environment;
mod record;
pub mod shim;
mod survivors;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use self::directory::JobDirectory;
pub use self::environment::INHERITED;
use self::record::{Spec, Started, StopRequest};
use crate::{Exit, Found, Line, Listing, Reply, Runner, RunnerError, Status, Watch, Workload, WorkloadId};

/// The name of the target in launch specs.
pub const RESOURCE: &str = "local-process";

/// How long a watcher waits for news before it lets its caller look by itself.
const WATCH_LIMIT: Duration = Duration::from_secs(5);

/// How long a shim that has written its job's outcome may take to go.
const GOING: Duration = Duration::from_secs(60);

/// How the process target works.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    /// Where job directories are made. Of one agent alone; created if missing.
    pub directory: PathBuf,
    /// The command that runs [`shim::run`]; the job directory is appended to it.
    pub shim: Vec<OsString>,
    /// Names of the agent's variables that jobs see; a `*` at the end stands for any rest.
    pub inherit: Vec<String>,
    /// Bytes of output that are kept of one job.
    pub output_limit: u64,
    /// How long a job may take to end when the machine shuts down and its shim is told to end.
    pub grace: Duration,
    /// How long processes that outlive a job's main process may go on before they are killed.
    pub linger: Duration,
}

impl ProcessOptions {
    /// The defaults: the listed variables, 1 GiB of output, 60 s of grace, 5 s for stragglers.
    #[must_use]
    pub fn new(directory: PathBuf, shim: Vec<OsString>) -> Self {
        Self {
            directory,
            shim,
            inherit: INHERITED.iter().map(|name| (*name).to_owned()).collect(),
            output_limit: 1 << 30,
            grace: Duration::from_secs(60),
            linger: Duration::from_secs(5),
        }
    }
}

/// Runs jobs as processes of this machine.
#[derive(Debug, Clone)]
pub struct ProcessRunner {
    options: ProcessOptions,
}

impl ProcessRunner {
    /// A runner over a directory; creates nothing yet.
    #[must_use]
    pub const fn new(options: ProcessOptions) -> Self {
        Self { options }
    }

    fn directory(&self, id: &WorkloadId) -> JobDirectory {
        JobDirectory::at(self.options.directory.join(id.file_name()))
    }

    fn prepare_parent(&self) -> Result<(), RunnerError> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.options.directory)
            .map_err(RunnerError::io("create", &self.options.directory))
    }

    fn launch_now(&self, workload: &Workload) -> Result<(), RunnerError> {
        self.prepare_parent()?;
        let directory = self.directory(&workload.id);
        let lock = match directory.create() {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return adopt(&directory, &workload.id),
            Err(error) => return Err(RunnerError::io("create", directory.path())(error)),
        };
        let prepared = self
            .prepare(&directory, workload)
            .and_then(|()| self.spawn_shim(&directory, lock));
        if prepared.is_err() {
            // Nothing runs: the shim refuses to start without its spec, and it was not spawned.
            let _ = fs::remove_dir_all(directory.path());
        }
        prepared
    }

    fn prepare(&self, directory: &JobDirectory, workload: &Workload) -> Result<(), RunnerError> {
        let work = directory.file(directory::WORK);
        match &workload.source {
            Some(source) => directory::copy_tree(source, &work).map_err(RunnerError::io("copy the code to", &work))?,
            None => fs::create_dir(&work).map_err(RunnerError::io("create", &work))?,
        }
        let work = match &workload.working_directory {
            Some(wanted) => directory::below(&work, wanted).map_err(|error| RunnerError::Refused {
                reason: "working-directory",
                message: format!("`overrides.working_dir`: {error}"),
            })?,
            None => work,
        };
        let environment = environment::compose(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
            &self.options.inherit,
            queue_environment(&workload.resource_args)?.into_iter(),
            workload
                .environment
                .iter()
                .cloned()
                .chain([survivors::mark(directory.path())]),
        );
        if let Some((name, _)) = environment
            .iter()
            .find(|(name, value)| !environment::is_name(name) || value.contains('\0'))
        {
            return Err(RunnerError::Refused {
                reason: "bad-environment",
                message: format!("the variable {name:?} has a name or a value that no process can be given"),
            });
        }
        let command = command::resolve(
            &[workload.command.as_slice(), &workload.arguments].concat(),
            &environment["PATH"],
            &work,
            command::is_program,
        )
        .map_err(|error| RunnerError::Refused {
            reason: match error {
                command::CommandError::Empty => "no-entry-point",
                command::CommandError::NotFound { .. } => "program-not-found",
            },
            message: error.to_string(),
        })?;
        let spec = Spec {
            id: workload.id.clone(),
            labels: workload.labels.clone(),
            command,
            environment,
            working_directory: work,
            output_limit: self.options.output_limit,
            grace_millis: millis(self.options.grace),
            linger_millis: millis(self.options.linger),
        };
        directory
            .write(directory::SPEC, &spec)
            .map_err(RunnerError::io("write", directory.file(directory::SPEC)))
    }

    fn spawn_shim(&self, directory: &JobDirectory, lock: File) -> Result<(), RunnerError> {
        let log_path = directory.file(directory::SHIM_LOG);
        let log = File::create(&log_path).map_err(RunnerError::io("create", &log_path))?;
        let (program, arguments) = self.options.shim.split_first().ok_or_else(|| RunnerError::Refused {
            reason: "no-shim",
            message: "the process target was given no shim command".to_owned(),
        })?;
        // The runtime reaps the child; nobody needs its status, which says less than `exit`.
        tokio::process::Command::new(program)
            .args(arguments)
            .arg(directory.path())
            .env_clear()
            .current_dir(directory.path())
            .stdin(Stdio::from(lock))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map(drop)
            .map_err(RunnerError::io("start the shim", program))
    }

    fn list_now(&self) -> Result<Vec<Found>, RunnerError> {
        let entries = match fs::read_dir(&self.options.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(RunnerError::io("list", &self.options.directory)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(RunnerError::io("list", &self.options.directory))?;
            let directory = JobDirectory::at(entry.path());
            if entry.path().extension().is_some_and(|extension| extension == TRASH) {
                let _ = fs::remove_dir_all(entry.path());
                continue;
            }
            match directory.read::<Spec>(directory::SPEC) {
                Ok(Some(spec)) => found.push(Found {
                    id: spec.id,
                    labels: spec.labels,
                }),
                // A launch was cut short before anything could run.
                Ok(None) => discard_unbegun(&directory)?,
                Err(error) => {
                    tracing::warn!(directory = %directory.path().display(), %error, "left alone: its spec cannot be read");
                }
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    fn remove_now(&self, id: &WorkloadId) -> Result<(), RunnerError> {
        let directory = self.directory(id);
        // In one step out of sight, so that a crash in between leaves no half of a job to be adopted.
        let trash = directory.path().with_extension(format!("{}.{TRASH}", id.attempt()));
        // What an earlier removal did not get done is not seen at the directory any more.
        clear(&trash)?;
        if !directory.path().exists() {
            return Ok(());
        }
        let lock_path = directory.file(directory::LOCK);
        // A shim that has written its outcome is about to go.
        let wait = if directory.has(directory::EXIT) {
            GOING
        } else {
            Duration::ZERO
        };
        let Some(_lock) = directory.claim(wait).map_err(RunnerError::io("lock", lock_path))? else {
            return Err(RunnerError::Refused {
                reason: "still-running",
                message: format!("{id} still runs; stop it before it is removed"),
            });
        };
        survivors::kill(directory.path());
        fs::rename(directory.path(), &trash).map_err(RunnerError::io("remove", directory.path()))?;
        clear(&trash)
    }

    fn stop_now(&self, id: &WorkloadId, grace: Duration) -> Result<(), RunnerError> {
        let directory = self.directory(id);
        if !directory.path().exists() || directory.has(directory::EXIT) {
            return Ok(());
        }
        let request = StopRequest {
            grace_millis: millis(grace),
        };
        let asked: Option<StopRequest> = directory.read(directory::STOP).ok().flatten();
        // The shorter grace counts; on a full disk there is room for few requests.
        if asked.is_none_or(|asked| request.grace_millis < asked.grace_millis) {
            directory
                .write(directory::STOP, &request)
                .map_err(RunnerError::io("write", directory.file(directory::STOP)))?;
        }
        // Without a reader there is no shim, or one that has yet to look at `stop`.
        if let Ok(mut control) = directory::open_pipe(&directory.file(directory::CONTROL), false) {
            let _ = control.write(&[0]);
        }
        if !directory
            .locked()
            .map_err(RunnerError::io("look at the lock of", directory.path()))?
        {
            survivors::kill(directory.path());
        }
        Ok(())
    }
}

/// Checks that a directory can be made and written to, by doing it: what a file system allows is known only
/// then. Leaves everything as it was.
///
/// # Errors
/// Names what stands in the way.
pub fn check_directory(path: &Path) -> Result<(), RunnerError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let missing: Vec<&Path> = path.ancestors().take_while(|part| !part.exists()).collect();
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    let written = made.map_err(RunnerError::io("create", path)).and_then(|()| {
        let probe = path.join(format!(".check-{}", std::process::id()));
        let written = File::create(&probe).and_then(|mut file| file.write_all(b"-"));
        let _ = fs::remove_file(&probe);
        written.map_err(RunnerError::io("write to", path))
    });
    for part in missing {
        // One that somebody uses by now is not empty.
        let _ = fs::remove_dir(part);
    }
    written
}

/// The last part of the name of a directory that is being removed.
const TRASH: &str = "removed";

/// Removes a directory and what is in it, if it is there.
fn clear(directory: &Path) -> Result<(), RunnerError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RunnerError::io("remove", directory)(error)),
        _ => Ok(()),
    }
}

impl Runner for ProcessRunner {
    fn resource(&self) -> &'static str {
        RESOURCE
    }

    fn check(&self) -> Reply<'_, Result<(), RunnerError>> {
        Box::pin(async {
            crate::check_directory(&self.options.directory)?;
            let program = self.options.shim.first().map(PathBuf::from).unwrap_or_default();
            if command::is_program(&program) {
                Ok(())
            } else {
                Err(RunnerError::Refused {
                    reason: "no-shim",
                    message: format!("the shim `{}` cannot be executed", program.display()),
                })
            }
        })
    }

    fn launch<'a>(&'a self, workload: Workload, line: &'a Line) -> Reply<'a, Result<(), RunnerError>> {
        let runner = self.clone();
        Box::pin(async move {
            line.wanted()?;
            blocking(move || runner.launch_now(&workload)).await
        })
    }

    fn list(&self) -> Reply<'_, Result<Listing, RunnerError>> {
        let runner = self.clone();
        Box::pin(async move {
            let found = blocking(move || runner.list_now()).await?;
            let complete = true;
            Ok(Listing { found, complete })
        })
    }

    fn status<'a>(&'a self, id: &'a WorkloadId) -> Reply<'a, Result<Status, RunnerError>> {
        Box::pin(async move { status(&self.directory(id)) })
    }

    fn watch(&self, id: &WorkloadId) -> Box<dyn Watch> {
        Box::new(PipeWatch {
            directory: self.directory(id),
            pipe: None,
        })
    }

    fn stop<'a>(&'a self, id: &'a WorkloadId, grace: Duration, _line: &'a Line) -> Reply<'a, Result<(), RunnerError>> {
        Box::pin(async move { self.stop_now(id, grace) })
    }

    fn output<'a>(&'a self, id: &'a WorkloadId, offset: u64, limit: usize) -> Reply<'a, Result<Vec<u8>, RunnerError>> {
        Box::pin(async move { self.directory(id).output(offset, limit) })
    }

    fn remove<'a>(&'a self, id: &'a WorkloadId) -> Reply<'a, Result<(), RunnerError>> {
        let (runner, id) = (self.clone(), id.clone());
        Box::pin(async move { blocking(move || runner.remove_now(&id)).await })
    }
}

/// Listens on the pipe that a shim writes to.
struct PipeWatch {
    directory: JobDirectory,
    pipe: Option<pipe::Receiver>,
}

impl Watch for PipeWatch {
    fn changed(&mut self) -> Reply<'_, ()> {
        Box::pin(async {
            if self.pipe.is_none() {
                self.pipe = pipe::OpenOptions::new()
                    .open_receiver(self.directory.file(directory::EVENTS))
                    .ok();
            }
            let Some(pipe) = &mut self.pipe else {
                tokio::time::sleep(WATCH_LIMIT).await;
                return;
            };
            if !self.directory.locked().unwrap_or(true) {
                return;
            }
            let mut bytes = [0; 4096];
            // The limit covers a shim that died before it opened the pipe, which no reader is told of.
            if let Ok(Ok(0) | Err(_)) = tokio::time::timeout(WATCH_LIMIT, pipe.read(&mut bytes)).await {
                self.pipe = None;
            }
        })
    }
}

/// Where a job stands. The lock is looked at first: once it is free, the records are final.
fn status(directory: &JobDirectory) -> Result<Status, RunnerError> {
    let locked = directory
        .locked()
        .map_err(RunnerError::io("look at the lock of", directory.path()))?;
    let exit: Option<Exit> = directory
        .read(directory::EXIT)
        .map_err(RunnerError::io("read", directory.file(directory::EXIT)))?;
    if let Some(exit) = exit {
        return Ok(Status::Exited(exit));
    }
    let started: Option<Started> = directory
        .read(directory::STARTED)
        .map_err(RunnerError::io("read", directory.file(directory::STARTED)))?;
    Ok(match (started, locked) {
        (Some(started), true) => Status::Running { since: started.at },
        (Some(started), false) if started.boot == boot_id() => Status::Lost {
            reason: "shim-killed",
            message: "the process that watched the job was killed, so its outcome is not known; \
                      it may have run out of memory"
                .to_owned(),
        },
        (Some(_), false) => Status::Lost {
            reason: "machine-restarted",
            message: "the machine restarted while the job ran".to_owned(),
        },
        (None, true) => Status::Starting,
        (None, false) if directory.has(directory::SPEC) => {
            let log = fs::read_to_string(directory.file(directory::SHIM_LOG)).unwrap_or_default();
            if !log.is_empty() {
                tracing::warn!(directory = %directory.path().display(), log = log.trim(), "a shim did not start its job");
            }
            Status::Absent
        }
        (None, false) => Status::Absent,
    })
}

/// Takes over what is there under the workload's name, if it is the same workload.
fn adopt(directory: &JobDirectory, id: &WorkloadId) -> Result<(), RunnerError> {
    let spec: Option<Spec> = directory
        .read(directory::SPEC)
        .map_err(RunnerError::io("read", directory.file(directory::SPEC)))?;
    match spec {
        Some(spec) if spec.id == *id => Ok(()),
        _ => Err(RunnerError::Conflict {
            id: id.clone(),
            path: directory.path().to_owned(),
        }),
    }
}

/// Removes a directory without a spec, unless an agent is just about to write it.
fn discard_unbegun(directory: &JobDirectory) -> Result<(), RunnerError> {
    let claimed = directory
        .claim(Duration::ZERO)
        .map_err(RunnerError::io("lock", directory.file(directory::LOCK)))?;
    if claimed.is_some() {
        fs::remove_dir_all(directory.path()).map_err(RunnerError::io("remove", directory.path()))?;
    }
    Ok(())
}

/// The variables of the target's own `env` option: a mapping, or a list of `NAME=value`.
fn queue_environment(resource_args: &serde_json::Value) -> Result<BTreeMap<String, String>, RunnerError> {
    let refuse = |what: &str| RunnerError::Refused {
        reason: "bad-option",
        message: format!("`resource_args.{RESOURCE}.env`: {what}; write `env: {{NAME: value}}`"),
    };
    let scalar = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Ok(text.clone()),
        serde_json::Value::Number(_) | serde_json::Value::Bool(_) => Ok(value.to_string()),
        _ => Err(refuse("a value is neither text nor a number")),
    };
    match resource_args.get("env") {
        None | Some(serde_json::Value::Null) => Ok(BTreeMap::new()),
        Some(serde_json::Value::Object(map)) => map
            .iter()
            .map(|(name, value)| Ok((name.clone(), scalar(value)?)))
            .collect(),
        Some(serde_json::Value::Array(list)) => list
            .iter()
            .map(|entry| {
                let (name, value) = entry
                    .as_str()
                    .and_then(|text| text.split_once('='))
                    .ok_or_else(|| refuse("an entry is not of the form `NAME=value`"))?;
                Ok((name.to_owned(), value.to_owned()))
            })
            .collect(),
        Some(_) => Err(refuse("it is neither a mapping nor a list")),
    }
}

/// Which boot of the machine this is; empty where the system does not tell.
fn boot_id() -> String {
    fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))
        .map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Runs file work that may take long where it holds nobody up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RunnerError> + Send + 'static,
) -> Result<T, RunnerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(RunnerError::Io {
            action: "finish work on",
            path: PathBuf::new(),
            source: io::Error::other(error),
        }),
    }
}
