//! What clients change about runs.

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};
use slipway_model::id::{ItemId, ItemRef, RunName};
use slipway_model::identity::Credential;
use slipway_model::queue::check_project_name;
use slipway_model::run::RunState;
use slipway_store::blobs::Method;
use slipway_store::runs::{Alert, RunUpsert};

use super::super::Result;
use super::super::context::RequestContext as _;
use super::super::files::{File, check_file_name, plain_name};
use super::super::names::check_run_id;
use super::super::project::DEFAULT_PROJECT;
use super::super::scalars::{Duration, JsonString};
use super::Run;
use crate::{ApiError, access};

/// How many files one call may announce.
const MAX_FILES: usize = 10_000;

/// Changing runs.
#[derive(Default)]
pub(crate) struct RunMutation;

#[Object]
impl RunMutation {
    /// Makes a run or changes it. A field that is null stays as it is.
    async fn upsert_bucket(&self, ctx: &Context<'_>, input: UpsertBucketInput) -> Result<UpsertBucketPayload> {
        let name = destination(ctx, &input)?;
        check_project_name(&name.project)?;
        check_run_id(&name.run)?;
        access::write_run(ctx.principal(), &name)?;
        let config = json_object("config", input.config)?;
        let summary = json_object("summaryMetrics", input.summary_metrics)?;
        let state = input.state.as_deref().map(read_state).transpose()?;
        let item = match &config {
            Some(config) => launch_item(ctx, &name, config).await?,
            None => None,
        };
        // Only the first request of a client's process tells where it runs; later ones carry what
        // changed. A run that was reserved (by a sweep) has not started.
        let starts = input.host.is_some() && state != Some(RunState::Pending);
        let upsert = RunUpsert {
            config,
            summary,
            display_name: input.display_name.map(printable),
            notes: input.notes.map(printable),
            description: input.description.map(printable),
            group: input.group_name.map(printable),
            job_type: input.job_type.map(printable),
            host: input.host.map(printable),
            program: input.job_program.map(printable),
            repo: input.job_repo.map(|repo| without_user_info(&printable(repo))),
            commit: input.commit.map(printable),
            sweep: input.sweep.map(printable),
            tags: input.tags.map(|tags| tags.into_iter().map(printable).collect()),
            state,
            user: ctx.principal().author().to_owned(),
            item,
            starts,
        };
        let (run, inserted) = ctx.store().upsert_run(name, upsert, ctx.now()).await?;
        Ok(UpsertBucketPayload {
            bucket: Run(run.into()),
            inserted,
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Deletes a run with what it logged and uploaded, which follows in the background. Artifacts
    /// that it made stay.
    async fn delete_run(&self, ctx: &Context<'_>, input: DeleteRunInput) -> Result<DeleteRunPayload> {
        let name = RunName::from_storage_id(&input.id)?;
        access::write_run(ctx.principal(), &name)?;
        if !ctx.store().delete_run(&name).await? {
            return Err(ApiError::not_found("run", &name.to_string()));
        }
        Ok(DeleteRunPayload {
            success: true,
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Asks a run to stop.
    async fn stop_run(&self, ctx: &Context<'_>, input: StopRunInput) -> Result<StopRunPayload> {
        let name = RunName::from_storage_id(&input.id)?;
        access::write_run(ctx.principal(), &name)?;
        let author = ctx.principal().author();
        let success = ctx.store().stop_run(&name, author, ctx.now()).await?;
        Ok(StopRunPayload {
            success,
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Says where to upload files of a run.
    async fn create_run_files(&self, ctx: &Context<'_>, input: RunFilesInput) -> Result<CreateRunFilesPayload> {
        let name = input.run(ctx);
        access::write_run(ctx.principal(), &name)?;
        if input.files.len() > MAX_FILES {
            let count = input.files.len();
            return Err(ApiError::bad(format!(
                "{count} files; announce at most {MAX_FILES} at a time"
            )));
        }
        input
            .files
            .iter()
            .try_for_each(|file| check_file_name(plain_name(file)))?;
        if ctx.store().run(&name).await?.is_none() {
            return Err(ApiError::not_found("run", &name.to_string()));
        }
        let links = ctx.caller().links();
        let files = input.files.into_iter().map(|file| File {
            upload_url: Some(links.run_file(Method::Put, &name, plain_name(&file))),
            direct_url: Some(links.run_file(Method::Get, &name, plain_name(&file))),
            // As it was asked for, by which clients know it again.
            name: file,
            ..File::default()
        });
        Ok(CreateRunFilesPayload {
            run_id: ID(name.storage_id()),
            upload_headers: Vec::new(),
            files: files.collect(),
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Files are recorded when their bytes arrive, so there is nothing left to mark.
    async fn mark_run_files_uploaded(&self, ctx: &Context<'_>, input: RunFilesInput) -> Result<SuccessPayload> {
        access::write_run(ctx.principal(), &input.run(ctx))?;
        Ok(SuccessPayload {
            success: true,
            client_mutation_id: input.client_mutation_id,
        })
    }

    /// Stores an alert that a run sends.
    async fn notify_scriptable_run_alert(&self, ctx: &Context<'_>, input: RunAlertInput) -> Result<SuccessPayload> {
        let name = RunName {
            entity: input.entity_name,
            project: input.project_name,
            run: input.run_name,
        };
        access::write_run(ctx.principal(), &name)?;
        let alert = Alert {
            title: printable(input.title),
            text: printable(input.text),
            severity: input.severity.unwrap_or_default().as_str().to_owned(),
            at: ctx.now(),
        };
        ctx.store().add_alert(&name, alert).await?;
        Ok(SuccessPayload {
            success: true,
            client_mutation_id: input.client_mutation_id,
        })
    }
}

/// Which run an upsert means. A storage id names it in full; else the defaults are the caller's
/// entity (for a run key, the entity of its run) and the project `uncategorized`.
fn destination(ctx: &Context<'_>, input: &UpsertBucketInput) -> Result<RunName> {
    if let Some(id) = &input.id {
        return Ok(RunName::from_storage_id(id)?);
    }
    let default_entity = || match &ctx.principal().credential {
        Credential::Run { entity, .. } => entity.clone(),
        Credential::User => ctx.principal().default_entity().to_owned(),
    };
    Ok(RunName {
        entity: input.entity_name.clone().unwrap_or_else(default_entity),
        project: input.model_name.clone().unwrap_or_else(|| DEFAULT_PROJECT.to_owned()),
        run: input.name.clone().unwrap_or_else(generated_run_id),
    })
}

fn generated_run_id() -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..8)
        .map(|_| char::from(ALPHABET[usize::from(rand::random::<u8>()) % ALPHABET.len()]))
        .collect()
}

fn read_state(word: &str) -> Result<RunState> {
    RunState::ALL
        .into_iter()
        .find(|state| state.as_str().eq_ignore_ascii_case(word))
        .ok_or_else(|| {
            let words: Vec<&str> = RunState::ALL.iter().map(|state| state.as_str()).collect();
            let shown: String = word.chars().take(40).collect();
            ApiError::bad(format!("state {shown:?} is not one of {}", words.join(", ")))
        })
}

/// Checks that a text is a JSON object; returns it as it came.
fn json_object(field: &str, text: Option<JsonString>) -> Result<Option<String>> {
    let Some(text) = text else { return Ok(None) };
    match text.read(field)? {
        serde_json::Value::Object(_) => Ok(Some(text.0)),
        serde_json::Value::Null => Ok(None),
        _ => Err(ApiError::bad(format!("{field} is JSON, but not an object"))),
    }
}

/// The queue item that a run's configuration names as its launch trace, if this caller may tie the
/// run to it. Anything else that stands there is somebody's old value: it ties nothing.
async fn launch_item(ctx: &Context<'_>, run: &RunName, config: &str) -> Result<Option<ItemId>> {
    let Some(trace) = launch_trace(config) else {
        return Ok(None);
    };
    let Some(item) = ctx.store().item(trace.item).await? else {
        return Ok(None);
    };
    let current = trace.epoch.is_none_or(|epoch| epoch == item.epoch);
    let unclaimed = item.run.as_ref().is_none_or(|claimed| claimed == run);
    let allowed = match &ctx.principal().credential {
        Credential::Run {
            item_entity,
            item: number,
            ..
        } => ItemId::new(*item_entity, *number) == item.id,
        Credential::User => match ctx.store().entity_by_id(item.id.entity).await? {
            Some(entity) => access::submit(ctx.principal(), &entity.name).is_ok(),
            None => false,
        },
    };
    Ok((current && unclaimed && allowed).then_some(item.id))
}

fn launch_trace(config: &str) -> Option<ItemRef> {
    let config: serde_json::Value = serde_json::from_str(config).ok()?;
    let own = config.get("_wandb")?.get("value")?;
    own.get("launch_trace_id")?.as_str()?.parse().ok()
}

/// Text without the one character that databases cannot store.
fn printable(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}

/// A git remote without user name and password.
fn without_user_info(remote: &str) -> String {
    match url::Url::parse(remote) {
        Ok(mut url) if url.has_host() => {
            let cleared = url.set_username("").is_ok() && url.set_password(None).is_ok();
            if cleared { url.to_string() } else { String::new() }
        }
        // `git@host:path` is no URL and its user is no secret.
        _ => remote.to_owned(),
    }
}

/// What `upsertBucket` takes.
#[derive(InputObject)]
pub(crate) struct UpsertBucketInput {
    /// The storage id, which names entity, project and run.
    id: Option<String>,
    /// The run's id.
    name: Option<String>,
    group_name: Option<String>,
    /// The project.
    model_name: Option<String>,
    entity_name: Option<String>,
    description: Option<String>,
    display_name: Option<String>,
    notes: Option<String>,
    config: Option<JsonString>,
    commit: Option<String>,
    host: Option<String>,
    debug: Option<bool>,
    job_program: Option<String>,
    job_repo: Option<String>,
    job_type: Option<String>,
    state: Option<String>,
    sweep: Option<String>,
    tags: Option<Vec<String>>,
    summary_metrics: Option<JsonString>,
    client_mutation_id: Option<String>,
}

/// What `upsertBucket` answers.
#[derive(SimpleObject)]
pub(crate) struct UpsertBucketPayload {
    bucket: Run,
    /// Whether the run was made.
    inserted: bool,
    client_mutation_id: Option<String>,
}

/// What `deleteRun` takes.
#[derive(InputObject)]
pub(crate) struct DeleteRunInput {
    /// The storage id.
    id: ID,
    /// Artifacts outlive the run that made them, whatever is asked here.
    delete_artifacts: Option<bool>,
    client_mutation_id: Option<String>,
}

/// What `deleteRun` answers.
#[derive(SimpleObject)]
pub(crate) struct DeleteRunPayload {
    success: bool,
    client_mutation_id: Option<String>,
}

/// What `stopRun` takes.
#[derive(InputObject)]
pub(crate) struct StopRunInput {
    /// The storage id.
    id: ID,
    client_mutation_id: Option<String>,
}

/// What `stopRun` answers.
#[derive(SimpleObject)]
pub(crate) struct StopRunPayload {
    /// Whether there is such a run.
    success: bool,
    client_mutation_id: Option<String>,
}

/// Files of a run.
#[derive(InputObject)]
pub(crate) struct RunFilesInput {
    entity_name: Option<String>,
    project_name: Option<String>,
    run_name: String,
    files: Vec<String>,
    client_mutation_id: Option<String>,
}

impl RunFilesInput {
    fn run(&self, ctx: &Context<'_>) -> RunName {
        RunName {
            entity: match &self.entity_name {
                Some(entity) => entity.clone(),
                None => ctx.principal().default_entity().to_owned(),
            },
            project: self.project_name.clone().unwrap_or_else(|| DEFAULT_PROJECT.to_owned()),
            run: self.run_name.clone(),
        }
    }
}

/// What `createRunFiles` answers.
#[derive(SimpleObject)]
pub(crate) struct CreateRunFilesPayload {
    #[graphql(name = "runID")]
    run_id: ID,
    /// `Name:Value` headers for every upload.
    upload_headers: Vec<String>,
    files: Vec<File>,
    client_mutation_id: Option<String>,
}

/// Whether it was done.
#[derive(SimpleObject)]
#[graphql(name = "RunSuccessPayload")]
pub(crate) struct SuccessPayload {
    success: bool,
    client_mutation_id: Option<String>,
}

/// How serious an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Enum)]
pub(crate) enum AlertSeverity {
    /// For information.
    #[default]
    Info,
    /// Something may be wrong.
    Warn,
    /// Something is wrong.
    Error,
}

impl AlertSeverity {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// What `notifyScriptableRunAlert` takes.
#[derive(InputObject)]
pub(crate) struct RunAlertInput {
    entity_name: String,
    project_name: String,
    run_name: String,
    title: String,
    text: String,
    severity: Option<AlertSeverity>,
    /// The client itself holds back alerts that come sooner.
    wait_duration: Option<Duration>,
    client_mutation_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_are_valid() {
        assert!(check_run_id(&generated_run_id()).is_ok());
    }

    #[test]
    fn states_are_read_in_any_case() {
        assert_eq!(read_state("PENDING").ok(), Some(RunState::Pending));
        assert!(read_state("done").is_err());
    }

    #[test]
    fn remotes_lose_their_credentials() {
        for (remote, kept) in [
            (
                "https://user:token@host.example/a/b.git",
                "https://host.example/a/b.git",
            ),
            ("https://host.example/a", "https://host.example/a"),
            ("git@host.example:a/b.git", "git@host.example:a/b.git"),
            ("ssh://git@host.example/a", "ssh://host.example/a"),
            ("/srv/git/a", "/srv/git/a"),
        ] {
            assert_eq!(without_user_info(remote), kept);
        }
    }

    #[test]
    fn the_launch_trace_is_read_from_the_clients_part_of_the_configuration() {
        let item = ItemId::new(3, 9);
        let config = |trace: &str| format!(r#"{{"_wandb":{{"value":{{"launch_trace_id":"{trace}"}}}}}}"#);
        assert_eq!(
            launch_trace(&config(&item.to_string())).map(|trace| trace.item),
            Some(item)
        );
        assert_eq!(launch_trace(&config("nonsense")), None);
        assert_eq!(launch_trace("{}"), None);
    }
}
