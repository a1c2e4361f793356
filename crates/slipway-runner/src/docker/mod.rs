//! The Docker target: jobs as containers of an engine, docker or podman, through its API.
//!
//! A container is named by run and attempt and labelled with its item, so that it cannot start twice
//! on one attempt and is found again by an agent that was killed. Beside the engine the agent keeps a
//! directory per container: which one it is, that its start has begun, that it was asked to stop, and a
//! copy of what it printed. A container that was removed by others is told by it from one that never
//! was, and another one that has its name since is not taken for it.
//!
//! The target never restarts a container, never removes one whose outcome was not asked to be
//! forgotten, and never touches one that lacks its labels.

mod calls;
mod credentials;
mod ending;
mod engine;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod launch;
mod output;
mod pull;
mod relay;
mod request;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerState};
use bollard::query_parameters::ListContainersOptions;
use serde::{Deserialize, Serialize};
use slipway_model::Millis;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use self::calls::{created_only, identity, inspect, labels, patiently, remove, require_api, runs};
use self::engine::{Address, Engine};
use self::output::{Follower, Progress};
use self::relay::Relays;
use crate::process::directory::{self, JobDirectory};
use crate::{Exit, ExitCause, Found, Line, Listing, Reply, Runner, RunnerError, Status, Watch, Workload, WorkloadId};

/// The name of the target in launch specs.
pub const RESOURCE: &str = "local-container";

/// Which container it is and whose. Written before it is created, and again once it has an id.
const RECORD: &str = "container";
/// Written before the start. Where it exists, a container that is gone has run.
const BEGUN: &str = "begun";
/// The outcome was acknowledged, or it is not to be started: what is left is to be removed.
const DONE: &str = "done";

/// How long a watcher waits for news before it lets its caller look by itself.
const WATCH_LIMIT: Duration = Duration::from_secs(5);

/// How long a container that is being followed counts as running without a look.
const TRUST: Duration = Duration::from_secs(10);

/// How long nothing may come of the rest of the output after a container's end.
const OUTPUT_LIMIT: Duration = Duration::from_secs(60);

/// Waits between attempts to reach an engine.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a container must stay as it was created, with the engine answering, before a start whose
/// answer was lost is asked for again. The engine starts under the container's lock: a second request
/// finds the container running, unless the first one was never heard.
const UNHEARD: Duration = Duration::from_secs(30);

/// How long what an engine says may be unreadable. Beyond that it is taken for lost, or whoever waits for
/// it would do so for ever.
const UNREADABLE: Duration = Duration::from_secs(600);

/// How the Docker target works.
#[derive(Debug, Clone)]
pub struct DockerOptions {
    /// Where the directories of containers are made. Of one agent alone; created if missing.
    pub directory: PathBuf,
    /// Names the agent on an engine that several share: other agents' containers are left alone.
    pub scope: String,
    /// The server's address, as the agent has it.
    pub server: String,
    /// Variables of the agent that jobs may be given although they look like secrets.
    pub allowed_env: Vec<String>,
    /// Bytes of output that are kept of one job.
    pub output_limit: u64,
}

/// Runs jobs as containers.
#[derive(Debug, Clone)]
pub struct DockerRunner {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: DockerOptions,
    engine: Result<Arc<Engine>, String>,
    /// The files that hold credentials of registries.
    registries: Vec<PathBuf>,
    relays: Relays,
    /// Whether the engine has told which containers there are.
    listed: AtomicBool,
    live: Mutex<HashMap<WorkloadId, Arc<Live>>>,
    /// What was asked to stop by this process; a full disk may keep that from the directory.
    stopped: Mutex<HashSet<WorkloadId>>,
    /// Since when what the engine says of a container cannot be read.
    unreadable: Mutex<HashMap<WorkloadId, Instant>>,
    /// The removals that the engine has not done yet.
    removals: TaskTracker,
}

/// What this process knows of a container.
#[derive(Debug)]
struct Live {
    progress: watch::Receiver<Progress>,
    /// When it was last seen running, and since when it ran.
    seen: Mutex<Option<(Instant, Millis)>>,
    _follower: AbortOnDropHandle<()>,
}

/// The record of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    id: WorkloadId,
    labels: BTreeMap<String, String>,
    /// The container's name.
    name: String,
    /// Whether it has a terminal; unknown of one that was found and not looked at yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tty: Option<bool>,
    /// The engine's id of it, once it has one. A name may be somebody else's later.
    #[serde(default)]
    container: Option<String>,
    /// The scope that it was created under. The agent's own changes with the server's address.
    #[serde(default)]
    scope: Option<String>,
}

impl Record {
    /// What the engine finds the container by.
    fn reference(&self) -> &str {
        self.container.as_deref().unwrap_or(&self.name)
    }

    /// Whether a container is the workload's own.
    fn describes(&self, found: &ContainerInspectResponse) -> bool {
        let scope = labels(found).and_then(|labels| labels.get(request::SCOPE));
        identity(found).is_some_and(|(id, _)| id == self.id) && (self.scope.is_none() || self.scope.as_ref() == scope)
    }
}

impl DockerRunner {
    /// A runner; looks for the engine's address and connects to nothing yet.
    #[must_use]
    pub fn new(options: DockerOptions) -> Self {
        let env = |name: &str| std::env::var(name).ok();
        let read = |path: &Path| serde_json::from_str(&fs::read_to_string(path).ok()?).ok();
        let address = engine::locate(&env, &read, &Path::exists).map_err(|error| error.to_string());
        let user = rustix::process::getuid().as_raw();
        Self::at(options, address, credentials::files(&env, user))
    }

    fn at(options: DockerOptions, address: Result<Address, String>, registries: Vec<PathBuf>) -> Self {
        let relays = Relays::new(&options.server, options.directory.clone());
        Self {
            inner: Arc::new(Inner {
                options,
                relays,
                engine: address.map(|address| Arc::new(Engine::new(address))),
                registries,
                listed: AtomicBool::new(false),
                live: Mutex::new(HashMap::new()),
                stopped: Mutex::new(HashSet::new()),
                unreadable: Mutex::new(HashMap::new()),
                removals: TaskTracker::new(),
            }),
        }
    }

    fn engine(&self) -> Result<&Arc<Engine>, RunnerError> {
        self.inner.engine.as_ref().map_err(|message| RunnerError::Refused {
            reason: "no-engine",
            message: message.clone(),
        })
    }

    fn directory(&self, id: &WorkloadId) -> JobDirectory {
        JobDirectory::at(self.inner.options.directory.join(id.file_name()))
    }

    /// The workload's container. Nothing else passes for it, whatever has its name.
    async fn find(&self, engine: &Engine, record: &Record) -> Result<Option<ContainerInspectResponse>, RunnerError> {
        let found = inspect(engine, record.reference()).await?;
        Ok(found.filter(|found| record.describes(found)))
    }

    fn record(&self, id: &WorkloadId) -> Result<Option<Record>, RunnerError> {
        let directory = self.directory(id);
        directory
            .read(RECORD)
            .map_err(RunnerError::io("read", directory.file(RECORD)))
    }

    /// Follows a container's output, from now on.
    fn live(&self, record: &Record) -> Result<Arc<Live>, RunnerError> {
        let engine = Arc::clone(self.engine()?);
        let mut live = self.inner.live.lock().unwrap_or_else(PoisonError::into_inner);
        let known = live.entry(record.id.clone()).or_insert_with(|| {
            let (sender, progress) = watch::channel(Progress::default());
            let follower = Follower {
                engine,
                directory: self.directory(&record.id),
                container: record.reference().to_owned(),
                tty: record.tty.unwrap_or(false),
                limit: self.inner.options.output_limit,
                progress: sender,
            };
            Arc::new(Live {
                progress,
                seen: Mutex::new(None),
                _follower: AbortOnDropHandle::new(tokio::spawn(follower.run())),
            })
        });
        Ok(Arc::clone(known))
    }

    /// What this process knows of a container that it follows.
    fn known(&self, id: &WorkloadId) -> Option<Arc<Live>> {
        let live = self.inner.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.get(id).cloned()
    }

    async fn status_now(&self, id: &WorkloadId) -> Result<Status, RunnerError> {
        let Some(mut record) = self.record(id)? else {
            return self.status_of_unknown(id).await;
        };
        let engine = self.engine()?;
        if let Some(known) = self.known(id)
            && known.progress.borrow().following
            && let Some((seen, since)) = *known.seen.lock().unwrap_or_else(PoisonError::into_inner)
            && seen.elapsed() < TRUST
        {
            return Ok(Status::Running { since });
        }
        let found = match self.find(engine, &record).await {
            Err(error @ RunnerError::Unreadable { .. }) => {
                let container = format!("the container `{}` is removed", record.name);
                return self.unreadable(id, &container, error);
            }
            other => other,
        };
        self.lock_unreadable().remove(id);
        let Some(found) = found? else {
            return Ok(self.gone(&record));
        };
        if record.container.is_none() || record.tty.is_none() {
            record.container.clone_from(&found.id);
            record.tty = Some(found.config.as_ref().and_then(|config| config.tty).unwrap_or(false));
            if let Err(error) = write(&self.directory(id), RECORD, &record) {
                // What it says can be looked up again.
                tracing::debug!(workload = %id, %error, "the record of a container could not be completed");
            }
        }
        if created_only(&found) {
            return self.withdraw(engine, &record).await;
        }
        let live = self.live(&record)?;
        let state = found.state.unwrap_or_default();
        let since = state.started_at.as_deref().and_then(millis).unwrap_or(0);
        if runs(&state) {
            *live.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), since));
            return Ok(Status::Running { since });
        }
        let mut progress = live.progress.clone();
        loop {
            let revision = progress.borrow().revision;
            let complete = tokio::time::timeout(OUTPUT_LIMIT, progress.wait_for(|progress| progress.complete));
            if complete.await.is_ok() {
                break;
            }
            if progress.borrow().revision != revision {
                continue;
            }
            if progress.borrow().away {
                // The end may hold what the outcome is about, and the engine still has it.
                return Err(engine.away("the container has ended, and the end of its output is still there".to_owned()));
            }
            tracing::warn!(workload = %id, "the container has ended, and the end of its output does not come");
            break;
        }
        let dropped = progress.borrow().dropped;
        Ok(Status::Exited(self.exit(&record, &state, since, dropped)))
    }

    fn lock_stopped(&self) -> MutexGuard<'_, HashSet<WorkloadId>> {
        self.inner.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a workload was asked to stop while it ran.
    fn was_stopped(&self, id: &WorkloadId) -> bool {
        self.lock_stopped().contains(id) || self.directory(id).has(directory::STOP)
    }

    fn lock_unreadable(&self) -> MutexGuard<'_, HashMap<WorkloadId, Instant>> {
        self.inner.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it means that a workload's state cannot be read: nothing for a while.
    fn unreadable(&self, id: &WorkloadId, container: &str, error: RunnerError) -> Result<Status, RunnerError> {
        let mut all = self.lock_unreadable();
        if all.entry(id.clone()).or_insert_with(Instant::now).elapsed() < UNREADABLE {
            return Err(error);
        }
        all.remove(id);
        Ok(Status::Lost {
            reason: "status-unreadable",
            message: format!(
                "for {} s {error}; {container}, since nobody could tell its end. Does this agent know the engine's \
                 version?",
                UNREADABLE.as_secs()
            ),
        })
    }

    /// A container that was created and not started by a process that is gone is taken back: it must
    /// not start once its item was given away.
    async fn withdraw(&self, engine: &Engine, record: &Record) -> Result<Status, RunnerError> {
        match remove(engine, record.reference(), false).await {
            Ok(()) => {
                // That it is gone does not mean that it ran.
                let begun = self.directory(&record.id).file(BEGUN);
                match fs::remove_file(&begun) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(RunnerError::io("remove", &begun)(error))
                    }
                    _ => Ok(Status::Absent),
                }
            }
            // It runs after all: the start had been on its way.
            Err(RunnerError::Refused { .. }) => Ok(Status::Starting),
            Err(error) => Err(error),
        }
    }

    /// What it means that there is no container.
    fn gone(&self, record: &Record) -> Status {
        if self.directory(&record.id).has(BEGUN) {
            Status::Lost {
                reason: "container-removed",
                message: format!(
                    "the container `{}` was removed by somebody else before its outcome could be read",
                    record.name
                ),
            }
        } else {
            Status::Absent
        }
    }

    fn exit(&self, record: &Record, state: &ContainerState, since: Millis, dropped: u64) -> Exit {
        Exit {
            cause: cause(state),
            stopped: self.was_stopped(&record.id),
            started_at: since,
            ended_at: state.finished_at.as_deref().and_then(millis).unwrap_or(since),
            output_dropped: dropped,
            memory_ran_out: state.oom_killed.unwrap_or(false),
        }
    }

    async fn list_now(&self) -> Result<Listing, RunnerError> {
        self.inner.relays.reopen().await;
        let mut found = Vec::new();
        for record in self.records()? {
            if self.directory(&record.id).has(DONE) {
                self.clear_later(record);
            } else {
                found.push(record);
            }
        }
        let complete = match self.engine() {
            Ok(engine) => match self.adopt(engine).await {
                Ok(adopted) => {
                    found.extend(adopted);
                    true
                }
                // A machine without an engine has no containers.
                Err(_) if engine.require().is_err() => true,
                Err(error) => {
                    tracing::warn!(%error, "containers are looked at when the engine answers");
                    false
                }
            },
            Err(_) => true,
        };
        let found = found.into_iter().map(|Record { id, labels, .. }| Found { id, labels });
        Ok(Listing {
            found: found.collect(),
            complete,
        })
    }

    /// Makes records of containers that have none: the agent's own directory was lost.
    async fn adopt(&self, engine: &Engine) -> Result<Vec<Record>, RunnerError> {
        let mut adopted = Vec::new();
        for record in self.labelled(engine).await? {
            let directory = self.directory(&record.id);
            if directory.has(DONE) || directory.has(RECORD) {
                continue;
            }
            make_directory(directory.path()).map_err(RunnerError::io("create", directory.path()))?;
            write(&directory, RECORD, &record)?;
            write(&directory, BEGUN, &())?;
            adopted.push(record);
        }
        self.inner.listed.store(true, Ordering::Relaxed);
        Ok(adopted)
    }

    /// The status of a workload of which nothing is recorded. It is absent once the engine was asked.
    async fn status_of_unknown(&self, id: &WorkloadId) -> Result<Status, RunnerError> {
        let engine = match self.engine() {
            Ok(engine) if !self.inner.listed.load(Ordering::Relaxed) && engine.require().is_ok() => engine,
            _ => return Ok(Status::Absent),
        };
        match self.adopt(engine).await {
            Err(error @ RunnerError::Unreadable { .. }) => {
                return self.unreadable(id, "its container, if it has one, is left alone", error);
            }
            adopted => drop(adopted?),
        }
        self.lock_unreadable().remove(id);
        match self.record(id)? {
            Some(_) => Box::pin(self.status_now(id)).await,
            None => Ok(Status::Absent),
        }
    }

    fn records(&self) -> Result<Vec<Record>, RunnerError> {
        let path = &self.inner.options.directory;
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(RunnerError::io("list", path)(error)),
        };
        let mut records = Vec::new();
        for entry in entries {
            let directory = JobDirectory::at(entry.map_err(RunnerError::io("list", path))?.path());
            if !directory.path().is_dir() {
                continue;
            }
            match directory.read::<Record>(RECORD) {
                Ok(Some(record)) => records.push(record),
                // A launch was cut short before it asked for anything.
                Ok(None) => drop(fs::remove_dir_all(directory.path())),
                Err(error) => {
                    tracing::warn!(directory = %directory.path().display(), %error, "left alone: its record cannot be read");
                }
            }
        }
        Ok(records)
    }

    /// The agent's containers, as the engine knows them.
    async fn labelled(&self, engine: &Engine) -> Result<Vec<Record>, RunnerError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([(
                "label".to_owned(),
                vec![format!("{}={}", request::SCOPE, self.inner.options.scope)],
            )])),
            ..ListContainersOptions::default()
        };
        let listed = engine.ask(|docker| async move { docker.list_containers(Some(options)).await });
        let listed = listed
            .await
            .map_err(|trouble| engine.failure("list containers", trouble))?;
        let mut records = Vec::new();
        for summary in listed {
            let name = summary.names.unwrap_or_default().into_iter().next();
            let identity = summary.labels.as_ref().and_then(request::identify);
            let (Some(name), Some(container), Some((id, labels))) = (name, summary.id, identity) else {
                continue;
            };
            records.push(Record {
                id,
                labels,
                name: name.trim_start_matches('/').to_owned(),
                tty: None,
                container: Some(container),
                scope: Some(self.inner.options.scope.clone()),
            });
        }
        Ok(records)
    }
}

impl Runner for DockerRunner {
    fn resource(&self) -> &'static str {
        RESOURCE
    }

    fn check(&self) -> Reply<'_, Result<(), RunnerError>> {
        Box::pin(async {
            let engine = self.engine()?;
            let answer = engine.ask(|docker| async move { docker.ping().await });
            answer
                .await
                .map(drop)
                .map_err(|trouble| engine.failure("answer", trouble))
        })
    }

    fn prepare<'a>(&'a self, workload: &'a Workload, line: &'a Line) -> Reply<'a, Result<(), RunnerError>> {
        Box::pin(async move {
            let container = self.container(workload)?;
            let engine = self.engine()?;
            engine.require()?;
            patiently(line, "ask for the engine's version", || require_api(engine, &container)).await?;
            let credentials = credentials::find(&self.inner.registries, &container.image).await;
            patiently(line, "pull an image", || {
                pull::ensure(engine, &container, credentials.clone(), line)
            })
            .await
        })
    }

    fn launch<'a>(&'a self, workload: Workload, line: &'a Line) -> Reply<'a, Result<(), RunnerError>> {
        Box::pin(self.launch_now(workload, line))
    }

    fn list(&self) -> Reply<'_, Result<Listing, RunnerError>> {
        Box::pin(self.list_now())
    }

    fn status<'a>(&'a self, id: &'a WorkloadId) -> Reply<'a, Result<Status, RunnerError>> {
        Box::pin(self.status_now(id))
    }

    fn watch(&self, id: &WorkloadId) -> Box<dyn Watch> {
        Box::new(ProgressWatch {
            runner: self.clone(),
            id: id.clone(),
            progress: None,
        })
    }

    fn stop<'a>(&'a self, id: &'a WorkloadId, grace: Duration, line: &'a Line) -> Reply<'a, Result<(), RunnerError>> {
        Box::pin(async move { self.stop_now(id, grace, line) })
    }

    fn output<'a>(&'a self, id: &'a WorkloadId, offset: u64, limit: usize) -> Reply<'a, Result<Vec<u8>, RunnerError>> {
        Box::pin(async move { self.directory(id).output(offset, limit) })
    }

    fn remove<'a>(&'a self, id: &'a WorkloadId) -> Reply<'a, Result<(), RunnerError>> {
        Box::pin(self.remove_now(id))
    }

    fn removed(&self) -> Reply<'_, ()> {
        Box::pin(async {
            // Closed it still takes tasks, and knows when there are none.
            self.inner.removals.close();
            self.inner.removals.wait().await;
        })
    }
}

/// Wakes when a container printed or ended.
struct ProgressWatch {
    runner: DockerRunner,
    id: WorkloadId,
    progress: Option<watch::Receiver<Progress>>,
}

impl Watch for ProgressWatch {
    fn changed(&mut self) -> Reply<'_, ()> {
        Box::pin(async {
            if self.progress.is_none() {
                self.progress = self.runner.known(&self.id).map(|live| live.progress.clone());
            }
            if let Some(progress) = &mut self.progress {
                match tokio::time::timeout(WATCH_LIMIT, progress.changed()).await {
                    Ok(Err(_)) => self.progress = None,
                    _ => return,
                }
            }
            tokio::time::sleep(WATCH_LIMIT).await;
        })
    }
}

/// How a container ended. Engines report a signal as shells do.
fn cause(state: &ContainerState) -> ExitCause {
    let code = i32::try_from(state.exit_code.unwrap_or(-1)).unwrap_or(-1);
    // Engines note a kill of any process in the container; the job may have gone on without it.
    if code == 137 && state.oom_killed.unwrap_or(false) {
        return ExitCause::OutOfMemory;
    }
    match (code, state.error.as_deref()) {
        (126..=128, Some(why)) if !why.is_empty() => ExitCause::NotStarted(why.to_owned()),
        (129..=192, _) => ExitCause::Signal(code - 128),
        _ => ExitCause::Code(code),
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // Without this a power cut could forget a container that is about to start.
    directory::sync(path.parent().unwrap_or(Path::new(".")))
}

fn write<T: Serialize>(directory: &JobDirectory, name: &str, record: &T) -> Result<(), RunnerError> {
    directory
        .write(name, record)
        .map_err(RunnerError::io("write", directory.file(name)))
}

/// The engine's way to write times.
fn millis(time: &str) -> Option<Millis> {
    Some(chrono::DateTime::parse_from_rfc3339(time).ok()?.timestamp_millis())
}

#[cfg(test)]
mod tests;
