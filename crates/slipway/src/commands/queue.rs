//! `slipway queue`.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};
use slipway_model::queue::QUEUE_PROJECT;
use slipway_wire::queue::Queue;

use super::queue_options::{self, OptionsArgs};
use crate::completion;
use crate::context::{Context, EntityArgs, GlobalArgs, non_empty, now};
use crate::exit::{Error, Result};
use crate::input;
use crate::job::options;
use crate::output::{self, Format, table, time};
use crate::queue_document::{self, QueueDocument};

/// Examples, and the keys of a policy.
fn with_policy(examples: &str) -> String {
    format!(
        "{examples}

Keys of `--policy`, which replaces the queue's:
  allowed_overrides   what submitters may set besides, as JSON pointers below the resource's arguments:
                      [\"/volume\"], or [\"/env\"] on a queue with template variables
  run_key_scopes      [\"launch\"] lets a job submit to the queue that it came from
  agent_lost_timeout  milliseconds after which an item fails whose agent is gone"
    )
}

/// The subcommands of `slipway queue`.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Make a queue
    #[command(after_help = with_policy(
        "Examples:
  slipway queue create laptop --resource local-process
  slipway queue create box --resource local-container --option memory=8g --option volume=/data:/data:ro
  slipway queue create gpu -r kubernetes --config gpu.yaml --template-variables vars.json --prioritization on
  slipway queue create gpu -r local-container --link Grafana=https://grafana.example.com \\
      --policy '{\"allowed_overrides\": [\"/volume\"]}'"
    ))]
    Create(CreateArgs),
    /// List the queues that you may see
    #[command(after_help = "Example:\n  slipway queue list --output json")]
    List(ListArgs),
    /// Show one queue, its agents and its configuration
    #[command(after_help = "Example:\n  slipway queue show gpu -e team")]
    Show(NameArgs),
    /// Change a queue; what is not named stays
    #[command(after_help = with_policy(
        "Examples:
  slipway queue update gpu --config gpu.yaml
  slipway queue update gpu --policy '{\"allowed_overrides\": [\"/volume\"]}' --link Docs=https://example.com/gpu
  slipway queue update gpu --policy '{}' --no-links"
    ))]
    Update(UpdateArgs),
    /// Delete a queue with the items that wait in it
    #[command(after_help = "Example:\n  slipway queue delete gpu --yes")]
    Delete(DeleteArgs),
    /// Hand out nothing until the queue is resumed; items can still be added
    #[command(after_help = "Example:\n  slipway queue pause gpu")]
    Pause(NameArgs),
    /// Hand out items again
    #[command(after_help = "Example:\n  slipway queue resume gpu")]
    Resume(NameArgs),
    /// Make queues as documents say
    #[command(after_help = "Example:\n  slipway queue apply -f queues.yaml")]
    Apply(ApplyArgs),
    /// List the arguments that a target resource takes, and who may set them
    #[command(after_help = "Examples:
  slipway queue options
  slipway queue options local-container --submitter --output json")]
    Options(OptionsArgs),
    /// Print queues as documents that `apply` reads
    #[command(after_help = "Example:\n  slipway queue export gpu > gpu.yaml")]
    Export(ExportArgs),
}

/// One queue.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The queue's name
    #[arg(add = completion::queues())]
    name: String,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Where a queue is.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    #[command(flatten)]
    entity: EntityArgs,
    /// The queue's project [default: model-registry, else the one that has such a queue]
    #[arg(long, value_name = "PROJECT")]
    project_queue: Option<String>,
}

impl PlaceArgs {
    /// A queue there, which must exist.
    async fn find(&self, context: &Context, name: &str) -> Result<Queue> {
        let entity = context.entity(&self.entity).await?;
        find(context, &entity, non_empty(self.project_queue.as_deref()), name).await
    }
}

/// Flags of `slipway queue list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only this user's or team's
    #[arg(long, short, value_name = "ENTITY")]
    entity: Option<String>,
}

/// What makes up a queue.
#[derive(Debug, Args)]
pub(crate) struct SettingArgs {
    /// Arguments of the target resource: a JSON or YAML file, or the text itself
    #[arg(long, short, value_name = "FILE|TEXT")]
    config: Option<String>,
    /// One argument of the target resource, beside those of `--config` or in place of the queue's own;
    /// repeatable, and an option that is repeated is a list
    #[arg(long = "option", value_name = "NAME=VALUE", add = completion::container_options())]
    options: Vec<String>,
    /// Template variables by name: a JSON or YAML file, or the text itself
    #[arg(long, value_name = "FILE|TEXT")]
    template_variables: Option<String>,
    /// Whether submitters may set priorities
    #[arg(long, value_enum, value_name = "on|off")]
    prioritization: Option<Switch>,
    /// A link to show beside the queue, in place of those that it has; repeatable
    #[arg(long = "link", value_name = "LABEL=URL")]
    links: Vec<String>,
    /// What submitters may do beyond template variables: a JSON or YAML file, or the text itself
    #[arg(long, value_name = "FILE|TEXT")]
    policy: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// Flags of `slipway queue create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The queue's name
    name: String,
    #[command(flatten)]
    entity: EntityArgs,
    /// Where its jobs run: local-process, local-container, kubernetes, sagemaker or gcp-vertex
    #[arg(long, short, value_name = "RESOURCE")]
    resource: String,
    #[command(flatten)]
    settings: SettingArgs,
}

/// Flags of `slipway queue update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// The queue's name
    #[arg(add = completion::queues())]
    name: String,
    #[command(flatten)]
    place: PlaceArgs,
    /// Where its jobs run
    #[arg(long, short, value_name = "RESOURCE")]
    resource: Option<String>,
    #[command(flatten)]
    settings: SettingArgs,
    /// Remove the links
    #[arg(long, conflicts_with = "links")]
    no_links: bool,
}

/// Flags of `slipway queue delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The queue's name
    #[arg(add = completion::queues())]
    name: String,
    #[command(flatten)]
    place: PlaceArgs,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Flags of `slipway queue apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// A file of documents; `-` is standard input; repeatable
    #[arg(long = "file", short, required = true, value_name = "FILE")]
    files: Vec<String>,
    #[command(flatten)]
    entity: EntityArgs,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
}

/// Flags of `slipway queue export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The queues' names [default: all of the entity]
    #[arg(add = completion::queues())]
    names: Vec<String>,
    #[command(flatten)]
    entity: EntityArgs,
    /// The queues' project [default: model-registry, else the one that has such a queue]
    #[arg(long, value_name = "PROJECT")]
    project_queue: Option<String>,
}

/// Runs a subcommand.
pub(crate) async fn run(
    command: QueueCommand,
    connect: impl FnOnce() -> Result<Context>,
    global: &GlobalArgs,
) -> Result<()> {
    match command {
        QueueCommand::Options(args) => queue_options::run(&args, global.output),
        QueueCommand::Create(args) => create(args, &connect()?).await,
        QueueCommand::List(args) => list(args, &connect()?).await,
        QueueCommand::Show(args) => show(args, &connect()?).await,
        QueueCommand::Update(args) => update(args, &connect()?).await,
        QueueCommand::Delete(args) => delete(args, &connect()?).await,
        QueueCommand::Pause(args) => pause(args, &connect()?, true).await,
        QueueCommand::Resume(args) => pause(args, &connect()?, false).await,
        QueueCommand::Apply(args) => apply(args, &connect()?).await,
        QueueCommand::Export(args) => export(args, &connect()?).await,
    }
}

/// A queue that must exist. Without a project it is that of the usual one, or else the only one of its
/// name.
pub(crate) async fn find(context: &Context, entity: &str, project: Option<&str>, name: &str) -> Result<Queue> {
    let missing = || {
        let place = project.map_or_else(String::new, |project| format!(" in project `{project}` of"));
        let place = if place.is_empty() { " in" } else { &place };
        Error::not_found(format!(
            "there is no queue `{name}`{place} `{entity}`, or you may not see it"
        ))
        .with_hint("`slipway queue list` shows the queues that you may see")
    };
    let client = &context.client;
    if let Some(queue) = client.queue(entity, project.unwrap_or(QUEUE_PROJECT), name).await? {
        return Ok(queue);
    }
    if project.is_some() || !client.has_additions().await? {
        return Err(missing());
    }
    let elsewhere = match client.queues(Some(entity)).await {
        Ok(queues) => queues,
        Err(slipway_client::Error::NotFound(_) | slipway_client::Error::Forbidden(_)) => return Err(missing()),
        Err(error) => return Err(error.into()),
    };
    let named = elsewhere.into_iter().filter(|queue| queue.name == name);
    let projects: Vec<String> = named.filter_map(|queue| queue.project_name).collect();
    match &projects[..] {
        [] => Err(missing()),
        [project] => client.queue(entity, project, name).await?.ok_or_else(missing),
        several => Err(Error::usage(format!(
            "projects {} of `{entity}` each have a queue `{name}`",
            several.join(", ")
        ))
        .with_hint("name one with `--project-queue`")),
    }
}

async fn create(args: CreateArgs, context: &Context) -> Result<()> {
    let entity = context.entity(&args.entity).await?;
    if context
        .client
        .queue(&entity, QUEUE_PROJECT, &args.name)
        .await?
        .is_some()
    {
        return Err(Error::new(
            crate::exit::Exit::Refused,
            format!("queue `{}` exists already in `{entity}`", args.name),
        )
        .with_hint("change it with `slipway queue update`"));
    }
    let document = QueueDocument {
        entity: Some(entity.clone()),
        ..QueueDocument::new(&args.name, &args.resource)
    };
    store(with_settings(document, args.settings)?, &entity, context).await
}

async fn update(args: UpdateArgs, context: &Context) -> Result<()> {
    let queue = args.place.find(context, &args.name).await?;
    let mut document = QueueDocument::of(&queue);
    if let Some(resource) = args.resource {
        document.resource = resource;
    }
    if args.no_links {
        document.external_links.clear();
    }
    let entity = owner(&queue, &args.place, context).await?;
    store(with_settings(document, args.settings)?, &entity, context).await
}

/// The entity of a queue; servers without additions do not tell it.
async fn owner(queue: &Queue, place: &PlaceArgs, context: &Context) -> Result<String> {
    match &queue.entity_name {
        Some(entity) => Ok(entity.clone()),
        None => context.entity(&place.entity).await,
    }
}

fn with_settings(mut document: QueueDocument, settings: SettingArgs) -> Result<QueueDocument> {
    if let Some(config) = settings.config {
        let config = input::map(&config, "--config")?;
        let stored = slipway_model::config::stored_config(document.resource()?, config);
        document.config = slipway_model::config::resource_args(&stored, document.resource()?.as_str())
            .cloned()
            .unwrap_or(Value::Null);
    }
    if !settings.options.is_empty() {
        let options = options::read(document.resource()?, &settings.options)?;
        document.config = match document.config {
            Value::Object(mut config) => {
                config.extend(options);
                Value::Object(config)
            }
            _ => Value::Object(options),
        };
    }
    if let Some(variables) = settings.template_variables {
        document.template_variables = input::map(&variables, "--template-variables")?;
    }
    if let Some(switch) = settings.prioritization {
        document.prioritization = switch == Switch::On;
    }
    if !settings.links.is_empty() {
        document.external_links = settings
            .links
            .iter()
            .map(|link| pair(link, "--link"))
            .collect::<Result<_>>()?;
    }
    if let Some(policy) = settings.policy {
        document.policy = input::map(&policy, "--policy")?;
    }
    Ok(document)
}

/// Reads `name=value`.
pub(crate) fn pair(text: &str, flag: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err(Error::usage(format!("{flag}: `{text}` is not of the form NAME=VALUE"))),
    }
}

async fn store(document: QueueDocument, entity: &str, context: &Context) -> Result<()> {
    let upserted = context.client.upsert_queue(&document.upsert(entity)?).await?;
    for doubt in &upserted.config_schema_validation_errors {
        output::warn(doubt);
    }
    let entity = document.entity.as_deref().unwrap_or(entity);
    let project = document.project.as_deref().unwrap_or(QUEUE_PROJECT);
    let queue = find(context, entity, Some(project), &document.name).await?;
    context.print(&queue, |queue| describe(queue, context))
}

async fn list(args: ListArgs, context: &Context) -> Result<()> {
    let queues = context.client.queues(args.entity.as_deref()).await?;
    context.print(&queues, |queues| {
        if queues.is_empty() {
            return "There is no queue that you may see; make one with `slipway queue create`".to_owned();
        }
        let count = |count: Option<i64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let rows = queues.iter().map(|queue| {
            let counts = queue.counts.as_ref();
            [
                queue.name.clone(),
                queue.entity_name.clone().unwrap_or_default(),
                queue.resource.clone().unwrap_or_default(),
                state(queue),
                count(counts.map(|counts| counts.pending)),
                count(counts.map(|counts| counts.starting + counts.running)),
                counts
                    .and_then(|counts| counts.oldest_pending_at.as_deref())
                    .map(|at| time::ago(at, now()))
                    .unwrap_or_default(),
            ]
        });
        table::table(
            ["name", "entity", "resource", "state", "waiting", "running", "oldest"],
            rows,
        )
    })
}

fn state(queue: &Queue) -> String {
    match (queue.paused, queue.active) {
        (Some(true), _) => "Paused",
        (_, Some(true)) => "Active",
        (_, Some(false)) => "Not active",
        (_, None) => "",
    }
    .to_owned()
}

async fn show(args: NameArgs, context: &Context) -> Result<()> {
    let queue = args.place.find(context, &args.name).await?;
    context.print(&queue, |queue| describe(queue, context))
}

fn describe(queue: &Queue, context: &Context) -> String {
    let counts = queue.counts.clone().unwrap_or_default();
    let document = QueueDocument::of(queue);
    let agents: Vec<String> = queue
        .agents
        .iter()
        .map(|agent| {
            format!(
                "{} on {}",
                agent.name,
                agent.hostname.as_deref().unwrap_or("an unknown host")
            )
        })
        .collect();
    let known = queue.counts.is_some();
    let entity = document.entity.clone().unwrap_or_default();
    let pretty = |value: &Value| {
        let given = !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty());
        given.then(|| serde_json::to_string_pretty(value).unwrap_or_default())
    };
    table::facts([
        ("name", Some(queue.name.clone())),
        ("entity", Some(entity.clone())),
        ("project", document.project.clone()),
        ("resource", queue.resource.clone()),
        ("state", Some(state(queue))),
        (
            "prioritization",
            Some(if document.prioritization { "on" } else { "off" }.to_owned()),
        ),
        ("waiting", known.then(|| counts.pending.to_string())),
        ("starting", known.then(|| counts.starting.to_string())),
        ("running", known.then(|| counts.running.to_string())),
        (
            "oldest waits since",
            counts.oldest_pending_at.map(|at| time::ago(&at, now())),
        ),
        ("last success", counts.last_success_at.map(|at| time::ago(&at, now()))),
        ("agents", Some(agents.join("\n"))),
        (
            "links",
            Some(
                document
                    .external_links
                    .iter()
                    .map(|(label, url)| format!("{label}: {url}"))
                    .collect::<Vec<_>>()
                    .join("\n"),
            ),
        ),
        ("config", pretty(&document.config)),
        ("template variables", pretty(&document.template_variables)),
        ("policy", pretty(&document.policy)),
        (
            "page",
            Some(format!("{}/launch/{entity}/{}", context.client.base_url(), queue.name)),
        ),
    ])
}

async fn delete(args: DeleteArgs, context: &Context) -> Result<()> {
    let queue = args.place.find(context, &args.name).await?;
    let entity = owner(&queue, &args.place, context).await?;
    let waiting = queue.counts.as_ref().map_or(0, |counts| counts.pending);
    if !args.yes {
        confirm(&format!(
            "Delete queue `{entity}/{}` and the {waiting} items that wait in it?",
            args.name
        ))?;
    }
    context.client.delete_queue(&queue.id).await?;
    let deleted = json!({"id": queue.id, "name": queue.name, "entityName": entity, "deleted": true});
    context.print(&deleted, |_| format!("deleted {entity}/{}", queue.name))
}

/// Asks in the terminal; without one the answer is no.
fn confirm(question: &str) -> Result<()> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(
            Error::usage("this needs a confirmation, and there is no terminal to ask in").with_hint("add `--yes`"),
        );
    }
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "{question} [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    match (read, answer.trim().to_ascii_lowercase().as_str()) {
        (Ok(_), "y" | "yes") => Ok(()),
        _ => Err(Error::failure("not confirmed; nothing was changed")),
    }
}

async fn pause(args: NameArgs, context: &Context, paused: bool) -> Result<()> {
    let queue = args.place.find(context, &args.name).await?;
    let entity = owner(&queue, &args.place, context).await?;
    let queue = context.client.pause_queue(&queue.id, paused).await?;
    let done = if paused { "paused" } else { "resumed" };
    context.print(&queue, |queue| format!("{done} {entity}/{}", queue.name))
}

/// What became of a document.
#[derive(Debug, Serialize)]
struct Applied {
    name: String,
    #[serde(rename = "entityName")]
    entity: String,
    result: &'static str,
}

async fn apply(args: ApplyArgs, context: &Context) -> Result<()> {
    let entity = context.entity(&args.entity).await?;
    let mut documents = Vec::new();
    // All documents are read before the first one takes effect.
    for file in &args.files {
        documents.extend(queue_document::read(&input::text(file)?, file)?);
    }
    let mut applied = Vec::new();
    for document in &documents {
        match apply_one(document, &entity, args.dry_run, context).await {
            Ok(result) => applied.push(result),
            Err(error) => {
                let changed = applied.iter().filter(|queue| queue.result != UNCHANGED).count();
                if args.dry_run || changed == 0 {
                    return Err(error);
                }
                // What has taken effect is told as it would have been without the refusal.
                tell_applied(&applied, &args, context)?;
                let left = documents.len() - applied.len() - 1;
                return Err(error.after(&format!(
                    "the {changed} made or changed before it stay so; {left} after it were not tried"
                )));
            }
        }
    }
    tell_applied(&applied, &args, context)
}

/// What is said of a queue that is as its document says already.
const UNCHANGED: &str = "unchanged";

async fn apply_one(document: &QueueDocument, entity: &str, dry_run: bool, context: &Context) -> Result<Applied> {
    let input = document.upsert(entity)?;
    let place = format!("{}/{}", input.entity_name, input.queue_name);
    let refused = |error: slipway_client::Error| Error::from(error).context(&place);
    let old = context
        .client
        .queue(&input.entity_name, &input.project_name, &input.queue_name)
        .await
        .map_err(refused)?;
    let result = match &old {
        None => "created",
        Some(old) if queue_document::same(&QueueDocument::of(old).upsert(entity)?, &input) => UNCHANGED,
        Some(_) => "updated",
    };
    if !dry_run && result != UNCHANGED {
        let upserted = context.client.upsert_queue(&input).await.map_err(refused)?;
        for doubt in &upserted.config_schema_validation_errors {
            output::warn(format!("{place}: {doubt}"));
        }
    }
    Ok(Applied {
        name: input.queue_name,
        entity: input.entity_name,
        result,
    })
}

fn tell_applied(applied: &Vec<Applied>, args: &ApplyArgs, context: &Context) -> Result<()> {
    context.print(applied, |applied| {
        let would = if args.dry_run { "would be " } else { "" };
        let lines = applied
            .iter()
            .map(|queue| format!("{}/{}  {would}{}", queue.entity, queue.name, queue.result));
        lines.collect::<Vec<_>>().join("\n")
    })
}

async fn export(args: ExportArgs, context: &Context) -> Result<()> {
    let entity = context.entity(&args.entity).await?;
    let project = non_empty(args.project_queue.as_deref());
    let mut documents = Vec::new();
    if args.names.is_empty() {
        for listed in context.client.queues(Some(&entity)).await? {
            let of = listed.project_name.as_deref().unwrap_or(QUEUE_PROJECT);
            if project.is_none_or(|project| project == of) {
                let queue = find(context, &entity, Some(of), &listed.name).await?;
                documents.push(QueueDocument::of(&queue));
            }
        }
    }
    for name in &args.names {
        documents.push(QueueDocument::of(&find(context, &entity, project, name).await?));
    }
    match context.format {
        Format::Json => output::json(&documents),
        Format::Table => output::raw(&queue_document::write(&documents)?),
    }
}

#[cfg(test)]
mod tests {
    use super::with_policy;
    use slipway_model::queue::QueuePolicy;

    #[test]
    fn the_help_names_every_key_of_a_policy_and_no_other() {
        let policy = serde_json::to_value(QueuePolicy::default()).unwrap();
        let mut keys: Vec<&str> = policy.as_object().unwrap().keys().map(String::as_str).collect();
        let help = with_policy("");
        let mut named: Vec<&str> = help
            .lines()
            .filter_map(|line| line.strip_prefix("  ")?.split_once("  "))
            .map(|(key, _)| key)
            .filter(|key| !key.is_empty())
            .collect();
        keys.sort_unstable();
        named.sort_unstable();
        assert_eq!(named, keys, "{help}");
    }
}
