//! From a workload to a container that was started exactly once.
//!
//! The launch waits for an engine that is away, and can be called off until the start is asked for.
//! Whatever it created is removed if it does not come to that.

use std::fs;

use bollard::query_parameters::CreateContainerOptions;
use slipway_model::docker_options::{self, Lookup};
use tokio::time::Instant;

use super::calls::{connect, created_only, inspect, patiently, remove, require_api};
use super::engine::{self, Engine, Trouble};
use super::request::{self, Container};
use super::{AGAIN, BEGUN, DONE, DockerRunner, RECORD, Record, UNHEARD, make_directory, write};
use crate::process::directory::JobDirectory;
use crate::{Line, RunnerError, Workload};

/// What creating a container came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Created {
    /// It is there and has not been started.
    New,
    /// It was there already, and has been started.
    Ran,
}

impl DockerRunner {
    /// What is asked of the engine for a workload.
    pub(super) fn container(&self, workload: &Workload) -> Result<Container, RunnerError> {
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

    pub(super) async fn launch_now(&self, workload: Workload, line: &Line) -> Result<(), RunnerError> {
        let container = self.container(&workload)?;
        let directory = self.directory(&workload.id);
        let mut record = Record {
            id: workload.id.clone(),
            labels: workload.labels.clone(),
            name: container.name.clone(),
            tty: Some(container.body.tty.unwrap_or(false)),
            container: None,
            scope: Some(self.inner.options.scope.clone()),
        };
        make_directory(directory.path()).map_err(RunnerError::io("create", directory.path()))?;
        write(&directory, RECORD, &record)?;
        match self.create_and_start(container, &mut record, &directory, line).await {
            Ok(()) => {
                self.live(&record)?;
                Ok(())
            }
            Err(error) => {
                self.discard(record).await;
                Err(error)
            }
        }
    }

    async fn create_and_start(
        &self,
        container: Container,
        record: &mut Record,
        directory: &JobDirectory,
        line: &Line,
    ) -> Result<(), RunnerError> {
        let engine = self.engine()?;
        let address = patiently(line, "ask for the engine's version", || require_api(engine, &container));
        let address = address.await?;
        let relays = &self.inner.relays;
        let connected = patiently(line, "look at a network", || {
            relays.connect(engine, container.body.clone())
        });
        let container = Container {
            body: connected.await?,
            ..container
        };
        if let Some(probe) = container.with_mounts() {
            let quiet = Line::new(drop);
            let created = patiently(line, "look for directories", || {
                self.create(engine, &probe, address.as_deref(), record, &quiet)
            });
            if let (Created::New, id) = created.await? {
                patiently(line, "remove a container", || remove(engine, &id, false)).await?;
            }
        }
        let created = patiently(line, "create a container", || {
            self.create(engine, &container, address.as_deref(), record, line)
        });
        let (state, id) = created.await?;
        record.container = Some(id.clone());
        write(directory, RECORD, record)?;
        if state == Created::Ran {
            return write(directory, BEGUN, &());
        }
        slipway_failpoint::hit("docker", "created");
        for network in &container.networks {
            patiently(line, "connect a network", || connect(engine, &id, network)).await?;
        }
        line.wanted()?;
        write(directory, BEGUN, &())?;
        self.start(engine, &id, line).await?;
        slipway_failpoint::hit("docker", "started");
        Ok(())
    }

    /// Creates the container, or takes over one of the same attempt. Answers with its id. `address`: a MAC
    /// address for an engine that looks for it in the container's own settings.
    async fn create(
        &self,
        engine: &Engine,
        container: &Container,
        address: Option<&str>,
        record: &Record,
        line: &Line,
    ) -> Result<(Created, String), RunnerError> {
        let options = CreateContainerOptions {
            name: Some(container.name.clone()),
            platform: container.platform.clone().unwrap_or_default(),
        };
        let body = container.body.clone();
        let fields = address.map(|address| ("MacAddress", address));
        let created = engine.ask(|docker| async move {
            let docker = engine::with_fields(docker, &body, fields)?;
            docker.create_container(Some(options), body).await
        });
        match created.await {
            Ok(created) => {
                for warning in created.warnings {
                    tracing::warn!(container = container.name, warning, "the engine warns");
                    line.warns("engine-warning", format!("the engine warns: {warning}"));
                }
                Ok((Created::New, created.id))
            }
            Err(trouble @ (Trouble::Away(_) | Trouble::Unreadable(_))) => {
                Err(engine.failure("create a container", trouble))
            }
            Err(trouble) if trouble.is_taken() => {
                let Some(found) = inspect(engine, &container.name).await? else {
                    // Gone meanwhile: the name is free.
                    return Err(engine.away(trouble.to_string()));
                };
                let state = if created_only(&found) {
                    Created::New
                } else {
                    Created::Ran
                };
                match found.id.clone().filter(|_| record.describes(&found)) {
                    Some(id) => Ok((state, id)),
                    None => Err(RunnerError::Refused {
                        reason: "name-taken",
                        message: format!(
                            "a container named `{}` exists already and does not belong to this job; remove it \
                             (`docker rm {0}`), or give the queue another `name`, or none",
                            container.name
                        ),
                    }),
                }
            }
            Err(Trouble::Answer { message, .. }) => Err(engine::refusal("create", &message)),
        }
    }

    /// Starts a container exactly once. A start whose answer was lost is looked after, not repeated. Once
    /// it was asked for it cannot be called off: what became of it is for [`Self::status_now`] to say.
    async fn start(&self, engine: &Engine, container: &str, line: &Line) -> Result<(), RunnerError> {
        loop {
            let started = engine.ask(|docker| async move { docker.start_container(container, None).await });
            match started.await {
                Ok(()) => return Ok(()),
                Err(Trouble::Answer { message, .. }) => return Err(engine::refusal("start", &message)),
                Err(trouble) => {
                    tracing::warn!(
                        container,
                        message = %trouble,
                        "the answer to a start was lost; looking what became of it"
                    );
                    let away = engine.failure("start a container", trouble);
                    line.waits(
                        "engine-away",
                        format!("{away}; whether the job has started is not known"),
                    );
                }
            }
            let mut unheard_since: Option<Instant> = None;
            loop {
                if line.wanted().is_err() {
                    return Ok(());
                }
                match inspect(engine, container).await {
                    Ok(Some(found)) if created_only(&found) => {
                        if unheard_since.get_or_insert_with(Instant::now).elapsed() >= UNHEARD {
                            break;
                        }
                    }
                    // What cannot be read is judged as that of a job that runs.
                    Ok(_) | Err(RunnerError::Unreadable { .. }) => return Ok(()),
                    Err(error) if error.is_away() => unheard_since = None,
                    Err(error) => return Err(error),
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Sees to it that nothing is left of a launch that was refused or called off, now or once the engine
    /// answers.
    async fn discard(&self, record: Record) {
        if let Err(error) = write(&self.directory(&record.id), DONE, &()) {
            tracing::warn!(container = record.name, %error, "only this process knows that it is to be removed");
        }
        if self.clear(&record).await.is_err() {
            self.clear_later(record);
        }
    }
}
