//! The Docker target: jobs as containers of an engine, docker or podman, through its API.
//!
//! A container is named by run and attempt and labelled with its item, so that it cannot start twice
//! on one attempt and is found again by an agent that was killed. Beside the engine the agent keeps a
//! directory per container: what it is called, that its start has begun, that it is to stop, and a copy
//! of what it printed. A container that was removed by others is told by it from one that never was.
//!
//! The target never restarts a container, never removes one whose outcome was not asked to be
//! forgotten, and never touches one that lacks its labels.

mod calls;
mod credentials;
mod engine;
mod output;
mod pull;
mod relay;
mod request;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::models::{ContainerInspectResponse, ContainerState};
use bollard::query_parameters::{CreateContainerOptions, ListContainersOptions, StopContainerOptions};
use serde::{Deserialize, Serialize};
use slipway_model::Millis;
use slipway_model::docker_options::{self, Lookup};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use self::calls::{connect, created_only, identity, inspect, labels, patiently, remove, stop};
use self::engine::{Engine, Trouble};
use self::output::{Follower, Progress};
use self::relay::Relays;
use self::request::Container;
use crate::process::directory::{self, JobDirectory};
use crate::{Exit, ExitCause, Found, Reply, Runner, RunnerError, Status, Watch, Workload, WorkloadId};

/// The name of the target in launch specs.
pub const RESOURCE: &str = "local-container";

/// What the container is called and whose it is. Written before it is created.
const RECORD: &str = "container";
/// Written before the start. Where it exists, a container that is gone has run.
const BEGUN: &str = "begun";
/// The outcome was acknowledged; what is left is to be removed.
const DONE: &str = "done";

/// How long a watcher waits for news before it lets its caller look by itself.
const WATCH_LIMIT: Duration = Duration::from_secs(5);

/// How long a container that is being followed counts as running without a look.
const TRUST: Duration = Duration::from_secs(10);

/// How long the end of the output may take after a container's end.
const OUTPUT_LIMIT: Duration = Duration::from_secs(60);

/// Waits between attempts to reach an engine.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a container must stay as it was created, with the engine answering, before a start whose
/// answer was lost is asked for again. The engine starts under the container's lock: a second request
/// finds the container running, unless the first one was never heard.
const UNHEARD: Duration = Duration::from_secs(30);

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
    config: Option<PathBuf>,
    relays: Relays,
    live: Mutex<HashMap<WorkloadId, Arc<Live>>>,
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
    /// Whether it has a terminal.
    #[serde(default)]
    tty: bool,
}

/// When a container was asked to stop.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StopRequest {
    at: Millis,
}

impl DockerRunner {
    /// A runner; looks for the engine's address and connects to nothing yet.
    #[must_use]
    pub fn new(options: DockerOptions) -> Self {
        let env = |name: &str| std::env::var(name).ok();
        let read = |path: &Path| serde_json::from_str(&fs::read_to_string(path).ok()?).ok();
        let engine = engine::locate(&env, &read, &Path::exists)
            .map(|address| Arc::new(Engine::new(address)))
            .map_err(|error| error.to_string());
        let relays = Relays::new(&options.server, options.directory.clone());
        Self {
            inner: Arc::new(Inner {
                options,
                relays,
                engine,
                config: engine::config_directory(&env),
                live: Mutex::new(HashMap::new()),
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

    /// What is asked of the engine for a workload.
    fn container(&self, workload: &Workload) -> Result<Container, RunnerError> {
        let lookup = Lookup {
            env: &|name| std::env::var(name).ok(),
            allowed_env: &self.inner.options.allowed_env,
            file: &|path| fs::read_to_string(path).map_err(|error| format!("`{path}` cannot be read: {error}")),
        };
        let asked = docker_options::request(&workload.resource_args, &lookup).map_err(|error| {
            let reason = match error {
                docker_options::OptionError::Unknown { .. } => "unknown-option",
                _ => "bad-option",
            };
            RunnerError::Refused {
                reason,
                message: error.to_string(),
            }
        })?;
        request::compose(workload, asked, &self.inner.options.scope)
    }

    async fn launch_now(&self, workload: Workload) -> Result<(), RunnerError> {
        let mut container = self.container(&workload)?;
        let directory = self.directory(&workload.id);
        let record = Record {
            id: workload.id.clone(),
            labels: workload.labels.clone(),
            name: container.name.clone(),
            tty: container.body.tty.unwrap_or(false),
        };
        make_directory(directory.path()).map_err(RunnerError::io("create", directory.path()))?;
        write(&directory, RECORD, &record)?;
        match self.create_and_start(&mut container, &record, &directory).await {
            Ok(()) => {
                self.live(&record)?;
                Ok(())
            }
            Err(error) => {
                // Refusals leave nothing behind; while the engine is away there is no other outcome.
                let _ = fs::remove_dir_all(directory.path());
                Err(error)
            }
        }
    }

    async fn create_and_start(
        &self,
        container: &mut Container,
        record: &Record,
        directory: &JobDirectory,
    ) -> Result<(), RunnerError> {
        let engine = self.engine()?;
        let relays = &self.inner.relays;
        let mut body = std::mem::take(&mut container.body);
        while let Err(error) = relays.connect(engine, &mut body).await {
            if !error.is_away() {
                return Err(error);
            }
            tokio::time::sleep(AGAIN).await;
        }
        container.body = body;
        let container = &*container;
        let state = patiently("create a container", || self.create(engine, container, record)).await?;
        if state == Created::Ran {
            return write(directory, BEGUN, &());
        }
        slipway_failpoint::hit("docker", "created");
        let begun = async {
            for network in &container.networks {
                patiently("connect a network", || connect(engine, &record.name, network)).await?;
            }
            write(directory, BEGUN, &())?;
            self.start(engine, &record.name).await
        };
        if let Err(error) = begun.await {
            let _ = patiently("remove a container", || remove(engine, &record.name, true)).await;
            return Err(error);
        }
        slipway_failpoint::hit("docker", "started");
        Ok(())
    }

    /// Creates the container, or takes over one of the same attempt.
    async fn create(&self, engine: &Engine, container: &Container, record: &Record) -> Result<Created, RunnerError> {
        let options = CreateContainerOptions {
            name: Some(container.name.clone()),
            platform: container.platform.clone().unwrap_or_default(),
        };
        let created = match engine.docker().await {
            Ok(docker) => docker
                .create_container(Some(options), container.body.clone())
                .await
                .map_err(Trouble::from),
            Err(trouble) => Err(trouble),
        };
        match created {
            Ok(created) => {
                for warning in created.warnings {
                    tracing::warn!(container = container.name, warning, "the engine warns");
                }
                Ok(Created::New)
            }
            Err(Trouble::Away(message)) => Err(engine.away(message)),
            Err(Trouble::Answer { status: 409, message }) => {
                let Some(found) = inspect(engine, &container.name).await? else {
                    // Gone meanwhile: the name is free.
                    return Err(engine.away(message));
                };
                if identity(&found).is_some_and(|(id, _)| id == record.id) && self.is_ours(&found) {
                    return Ok(match created_only(&found) {
                        true => Created::New,
                        false => Created::Ran,
                    });
                }
                Err(RunnerError::Refused {
                    reason: "name-taken",
                    message: format!(
                        "a container named `{}` exists already and does not belong to this job; remove it (`docker rm \
                         {0}`), or give the queue another `name`, or none",
                        container.name
                    ),
                })
            }
            Err(Trouble::Answer { message, .. }) => Err(engine::refusal("create", &message)),
        }
    }

    /// Starts a container exactly once. A start whose answer was lost is looked after, not repeated.
    async fn start(&self, engine: &Engine, name: &str) -> Result<(), RunnerError> {
        loop {
            let started = match engine.docker().await {
                Ok(docker) => docker.start_container(name, None).await.map_err(Trouble::from),
                Err(trouble) => Err(trouble),
            };
            match started {
                Ok(()) => return Ok(()),
                Err(Trouble::Answer { message, .. }) => return Err(engine::refusal("start", &message)),
                Err(Trouble::Away(message)) => {
                    tracing::warn!(
                        container = name,
                        message,
                        "the answer to a start was lost; looking what became of it"
                    );
                }
            }
            let mut unheard_since: Option<Instant> = None;
            loop {
                match inspect(engine, name).await {
                    Ok(Some(found)) if created_only(&found) => {
                        if unheard_since.get_or_insert_with(Instant::now).elapsed() >= UNHEARD {
                            break;
                        }
                    }
                    Ok(_) => return Ok(()),
                    Err(error) if error.is_away() => unheard_since = None,
                    Err(error) => return Err(error),
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    fn is_ours(&self, found: &ContainerInspectResponse) -> bool {
        labels(found).is_some_and(|labels| labels.get(request::SCOPE) == Some(&self.inner.options.scope))
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
                container: record.name.clone(),
                tty: record.tty,
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

    async fn status_now(&self, id: &WorkloadId) -> Result<Status, RunnerError> {
        let Some(record) = self.record(id)? else {
            return Ok(Status::Absent);
        };
        let engine = self.engine()?;
        let known = {
            let live = self.inner.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.get(id).cloned()
        };
        if let Some(known) = known
            && known.progress.borrow().following
            && let Some((seen, since)) = *known.seen.lock().unwrap_or_else(PoisonError::into_inner)
            && seen.elapsed() < TRUST
        {
            return Ok(Status::Running { since });
        }
        let Some(found) = inspect(engine, &record.name).await?.filter(|found| self.is_ours(found)) else {
            return Ok(self.gone(&record));
        };
        if created_only(&found) {
            return self.withdraw(engine, &record).await;
        }
        let live = self.live(&record)?;
        let state = found.state.unwrap_or_default();
        let since = state.started_at.as_deref().and_then(millis).unwrap_or(0);
        if state.running.unwrap_or(false) {
            *live.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), since));
            return Ok(Status::Running { since });
        }
        let mut progress = live.progress.clone();
        let complete = tokio::time::timeout(OUTPUT_LIMIT, progress.wait_for(|progress| progress.complete));
        if complete.await.is_err() {
            tracing::warn!(workload = %id, "the container has ended, and the end of its output does not come");
        }
        let dropped = progress.borrow().dropped;
        Ok(Status::Exited(self.exit(&record, &state, since, dropped)?))
    }

    /// A container that was created and not started by a process that is gone is taken back: it must
    /// not start once its item was given away.
    async fn withdraw(&self, engine: &Engine, record: &Record) -> Result<Status, RunnerError> {
        match remove(engine, &record.name, false).await {
            Ok(()) => Ok(Status::Absent),
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

    fn exit(&self, record: &Record, state: &ContainerState, since: Millis, dropped: u64) -> Result<Exit, RunnerError> {
        let directory = self.directory(&record.id);
        let stop: Option<StopRequest> = directory
            .read(directory::STOP)
            .map_err(RunnerError::io("read", directory.file(directory::STOP)))?;
        let ended_at = state.finished_at.as_deref().and_then(millis).unwrap_or(since);
        Ok(Exit {
            cause: cause(state),
            stopped: stop.is_some_and(|stop| stop.at <= ended_at),
            started_at: since,
            ended_at,
            output_dropped: dropped,
        })
    }

    async fn list_now(&self) -> Result<Vec<Found>, RunnerError> {
        let mut found: BTreeMap<WorkloadId, BTreeMap<String, String>> = BTreeMap::new();
        self.inner.relays.reopen().await;
        for record in self.records()? {
            let directory = self.directory(&record.id);
            if directory.has(DONE) {
                self.clear_later(record);
            } else {
                found.insert(record.id, record.labels);
            }
        }
        let Ok(engine) = self.engine() else {
            return Ok(found.into_iter().map(|(id, labels)| Found { id, labels }).collect());
        };
        match self.labelled(engine).await {
            Ok(containers) => {
                for record in containers {
                    if self.directory(&record.id).has(DONE) || found.contains_key(&record.id) {
                        continue;
                    }
                    // The agent's own directory was lost.
                    let directory = self.directory(&record.id);
                    make_directory(directory.path()).map_err(RunnerError::io("create", directory.path()))?;
                    write(&directory, RECORD, &record)?;
                    write(&directory, BEGUN, &())?;
                    found.insert(record.id, record.labels);
                }
            }
            Err(error) if !found.is_empty() => {
                tracing::warn!(%error, "containers are looked at when the engine answers");
            }
            Err(error) => tracing::debug!(%error, "no engine, and no container is known"),
        }
        Ok(found.into_iter().map(|(id, labels)| Found { id, labels }).collect())
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
        let listed = match engine.docker().await {
            Ok(docker) => docker.list_containers(Some(options)).await.map_err(Trouble::from),
            Err(trouble) => Err(trouble),
        };
        let mut records = Vec::new();
        for summary in listed.map_err(|trouble| engine.failure("list containers", trouble))? {
            let name = summary.names.unwrap_or_default().into_iter().next();
            let identity = summary.labels.as_ref().and_then(request::identify);
            let (Some(name), Some((id, labels))) = (name, identity) else {
                continue;
            };
            let name = name.trim_start_matches('/').to_owned();
            let tty = inspect(engine, &name)
                .await?
                .and_then(|found| found.config?.tty)
                .unwrap_or(false);
            records.push(Record { id, labels, name, tty });
        }
        Ok(records)
    }

    fn stop_now(&self, id: &WorkloadId, grace: Duration) -> Result<(), RunnerError> {
        let Some(record) = self.record(id)? else {
            return Ok(());
        };
        let directory = self.directory(id);
        if !directory.has(directory::STOP) {
            write(&directory, directory::STOP, &StopRequest { at: now() })?;
        }
        let engine = Arc::clone(self.engine()?);
        // The engine itself counts the grace, so that it ends even if this process does.
        let options = StopContainerOptions {
            t: Some(i32::try_from(grace.as_secs()).unwrap_or(i32::MAX)),
            ..StopContainerOptions::default()
        };
        tokio::spawn(async move {
            let stop = || stop(&engine, &record.name, options.clone());
            if let Err(error) = patiently("stop a container", stop).await {
                tracing::warn!(container = record.name, %error, "the engine did not stop a container");
            }
        });
        Ok(())
    }

    async fn remove_now(&self, id: &WorkloadId) -> Result<(), RunnerError> {
        let Some(record) = self.record(id)? else {
            return Ok(());
        };
        let engine = self.engine()?;
        if let Some(found) = inspect(engine, &record.name).await.ok().flatten()
            && self.is_ours(&found)
            && found.state.and_then(|state| state.running).unwrap_or(false)
        {
            return Err(RunnerError::Refused {
                reason: "still-running",
                message: format!("{id} still runs; stop it before it is removed"),
            });
        }
        write(&self.directory(id), DONE, &())?;
        {
            let mut live = self.inner.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.remove(id);
        }
        match self.clear(&record).await {
            Err(error) if error.is_away() => {
                self.clear_later(record);
                Ok(())
            }
            other => other,
        }
    }

    /// Removes what is left of a container whose outcome was acknowledged.
    async fn clear(&self, record: &Record) -> Result<(), RunnerError> {
        let engine = self.engine()?;
        if let Some(found) = inspect(engine, &record.name).await?
            && self.is_ours(&found)
            && identity(&found).is_some_and(|(id, _)| id == record.id)
        {
            remove(engine, &record.name, true).await?;
        }
        let directory = self.directory(&record.id);
        fs::remove_dir_all(directory.path()).map_err(RunnerError::io("remove", directory.path()))
    }

    /// As [`Self::clear`], once the engine answers.
    fn clear_later(&self, record: Record) {
        let runner = self.clone();
        tokio::spawn(async move {
            while let Err(error) = runner.clear(&record).await {
                if !error.is_away() {
                    tracing::warn!(container = record.name, %error, "could not be removed");
                    return;
                }
                tokio::time::sleep(AGAIN * 5).await;
            }
        });
    }
}

impl Runner for DockerRunner {
    fn resource(&self) -> &'static str {
        RESOURCE
    }

    fn check(&self) -> Reply<'_, Result<(), RunnerError>> {
        Box::pin(async {
            let engine = self.engine()?;
            match engine.docker().await {
                Ok(docker) => docker.ping().await.map(drop).map_err(Trouble::from),
                Err(trouble) => Err(trouble),
            }
            .map_err(|trouble| engine.failure("answer", trouble))
        })
    }

    fn prepare<'a>(&'a self, workload: &'a Workload) -> Reply<'a, Result<(), RunnerError>> {
        Box::pin(async move {
            let container = self.container(workload)?;
            let engine = self.engine()?;
            engine.require()?;
            let credentials = credentials::find(self.inner.config.as_deref(), &container.image).await;
            patiently("pull an image", || {
                pull::ensure(engine, &container, credentials.clone())
            })
            .await
        })
    }

    fn launch(&self, workload: Workload) -> Reply<'_, Result<(), RunnerError>> {
        Box::pin(self.launch_now(workload))
    }

    fn list(&self) -> Reply<'_, Result<Vec<Found>, RunnerError>> {
        Box::pin(self.list_now())
    }

    fn status<'a>(&'a self, id: &'a WorkloadId) -> Reply<'a, Result<Status, RunnerError>> {
        Box::pin(self.status_now(id))
    }

    fn watch(&self, id: &WorkloadId) -> Box<dyn Watch> {
        let record = self.record(id).ok().flatten();
        let live = record.and_then(|record| self.live(&record).ok());
        Box::new(ProgressWatch {
            progress: live.map(|live| live.progress.clone()),
        })
    }

    fn stop<'a>(&'a self, id: &'a WorkloadId, grace: Duration) -> Reply<'a, Result<(), RunnerError>> {
        Box::pin(async move { self.stop_now(id, grace) })
    }

    fn output<'a>(&'a self, id: &'a WorkloadId, offset: u64, limit: usize) -> Reply<'a, Result<Vec<u8>, RunnerError>> {
        Box::pin(async move { self.directory(id).output(offset, limit) })
    }

    fn remove<'a>(&'a self, id: &'a WorkloadId) -> Reply<'a, Result<(), RunnerError>> {
        Box::pin(self.remove_now(id))
    }
}

/// Wakes when a container printed or ended.
struct ProgressWatch {
    progress: Option<watch::Receiver<Progress>>,
}

impl Watch for ProgressWatch {
    fn changed(&mut self) -> Reply<'_, ()> {
        Box::pin(async {
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

/// What creating a container came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Created {
    /// It is there and has not been started.
    New,
    /// It was there already, and has been started.
    Ran,
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

fn now() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |elapsed| {
        Millis::try_from(elapsed.as_millis()).unwrap_or(Millis::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_code_a_signal_or_a_lack_of_memory() {
        let state = |code: i64, oom: bool, error: &str| ContainerState {
            exit_code: Some(code),
            oom_killed: Some(oom),
            error: Some(error.to_owned()),
            ..ContainerState::default()
        };
        for (state, expected) in [
            (state(0, false, ""), ExitCause::Code(0)),
            (state(3, false, ""), ExitCause::Code(3)),
            (state(127, false, ""), ExitCause::Code(127)),
            (state(137, false, ""), ExitCause::Signal(9)),
            (state(143, false, ""), ExitCause::Signal(15)),
            (state(137, true, ""), ExitCause::OutOfMemory),
            (state(0, true, ""), ExitCause::Code(0)),
            (state(1, true, ""), ExitCause::Code(1)),
            (state(255, false, ""), ExitCause::Code(255)),
            (
                state(127, false, "no program"),
                ExitCause::NotStarted("no program".to_owned()),
            ),
        ] {
            assert_eq!(cause(&state), expected);
        }
    }
}
