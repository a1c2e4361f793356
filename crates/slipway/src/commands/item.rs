//! `slipway item`.

use clap::{Args, Subcommand};
use futures::StreamExt as _;
use slipway_client::{Follow, ItemFilter, OutputEvent};
use slipway_model::priority::Priority;
use slipway_model::queue::QUEUE_PROJECT;
use slipway_wire::item::Item;

use crate::context::{Context, EntityArgs, non_empty, now};
use crate::exit::{Error, Result};
use crate::output::{self, table, time};

/// The subcommands of `slipway item`.
#[derive(Debug, Subcommand)]
pub(crate) enum ItemCommand {
    /// List the items of a queue, or of every queue that you see
    #[command(after_help = "Examples:
  slipway item list
  slipway item list --queue gpu
  slipway item list -q gpu --state FAILED --output json")]
    List(ListArgs),
    /// Show where an item stands, why it waits or failed, and what it runs
    #[command(after_help = "Example:\n  slipway item show ID --events")]
    Show(ShowArgs),
    /// Print what an item's job has printed
    #[command(after_help = "Example:\n  slipway item logs --follow ID")]
    Logs(LogsArgs),
    /// Cancel an item that waits, or stop its job
    #[command(after_help = "Example:\n  slipway item cancel ID")]
    Cancel(IdArgs),
    /// Submit an ended item again, as a new one
    #[command(after_help = "Example:\n  slipway item retry ID")]
    Retry(IdArgs),
    /// Move an item that waits to another queue or priority
    #[command(after_help = "Example:\n  slipway item move ID --queue cpu --priority high")]
    Move(MoveArgs),
}

/// Flags of `slipway item list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// The queue [default: every queue that you see]
    #[arg(long, short, value_name = "QUEUE")]
    queue: Option<String>,
    #[command(flatten)]
    entity: EntityArgs,
    /// Only items in this state, such as PENDING or FAILED; repeatable
    #[arg(long = "state", short, value_name = "STATE", ignore_case = true)]
    states: Vec<String>,
    /// Only items that wait, in the order in which they run
    #[arg(long)]
    waiting: bool,
    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
}

/// One item.
#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    /// The item's id
    id: String,
}

/// Flags of `slipway item show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The item's id
    id: String,
    /// Also print its record
    #[arg(long)]
    events: bool,
}

/// Flags of `slipway item logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The item's id
    id: String,
    /// Go on until the job ends
    #[arg(long, short)]
    follow: bool,
    /// Which start of the job [default: the last]
    #[arg(long, value_name = "N")]
    attempt: Option<i64>,
}

/// Flags of `slipway item move`.
#[derive(Debug, Args)]
#[group(required = true, multiple = true, id = "target", args = ["queue", "priority"])]
pub(crate) struct MoveArgs {
    /// The item's id
    id: String,
    /// The new queue, of the same entity
    #[arg(long, short, value_name = "QUEUE")]
    queue: Option<String>,
    /// The new priority: critical, high, medium or low
    #[arg(long, short = 'P', value_name = "PRIORITY", value_parser = priority)]
    priority: Option<Priority>,
}

/// Reads a priority's word.
pub(crate) fn priority(text: &str) -> std::result::Result<Priority, String> {
    text.parse()
        .map_err(|error: slipway_model::priority::PriorityError| error.to_string())
}

/// Runs a subcommand.
pub(crate) async fn run(command: ItemCommand, context: &Context) -> Result<()> {
    match command {
        ItemCommand::List(args) => list(args, context).await,
        ItemCommand::Show(args) => show(args, context).await,
        ItemCommand::Logs(args) => logs(args, context).await,
        ItemCommand::Cancel(args) => {
            let item = context.client.cancel_item(&args.id).await?;
            context.print(&item, |item| match label(item).as_str() {
                "Killed" => format!("cancelled {}", item.id),
                _ => format!("asked {} to stop", item.id),
            })
        }
        ItemCommand::Retry(args) => {
            let item = context.client.retry_item(&args.id).await?;
            context.print(&item, |item| format!("submitted again as {}", item.id))
        }
        ItemCommand::Move(args) => {
            let priority = args.priority.map(Priority::code);
            let item = context
                .client
                .move_item(&args.id, args.queue.as_deref(), priority)
                .await?;
            context.print(&item, describe)
        }
    }
}

/// An item that must exist.
pub(crate) async fn find(context: &Context, id: &str) -> Result<Item> {
    let item = context.client.item(id).await?;
    item.ok_or_else(|| Error::not_found(format!("there is no item `{id}`, or you may not see it")))
}

/// The word for an item's state.
pub(crate) fn label(item: &Item) -> String {
    item.label.clone().unwrap_or_else(|| item.state.clone())
}

async fn list(args: ListArgs, context: &Context) -> Result<()> {
    let filter = ItemFilter {
        states: args.states.iter().map(|state| state.to_ascii_uppercase()).collect(),
        waiting: args.waiting,
        limit: args.limit,
    };
    let (place, items) = match &args.queue {
        Some(queue) => {
            let entity = context.entity(&args.entity).await?;
            let items = context.client.items(&entity, QUEUE_PROJECT, queue, &filter).await?;
            (format!("queue {entity}/{queue} has"), items)
        }
        None => (
            "there are".to_owned(),
            items_of_all_queues(&args, &filter, context).await?,
        ),
    };
    context.print(&items, |items| {
        if items.is_empty() {
            return format!("{place} no such items");
        }
        let rows = items.iter().map(|item| {
            [
                item.id.clone(),
                queue_path(item).unwrap_or_default(),
                label(item),
                priority_word(item),
                item.author.clone().unwrap_or_default(),
                item.run_name.clone().unwrap_or_default(),
                item.created_at
                    .as_deref()
                    .map(|at| time::ago(at, now()))
                    .unwrap_or_default(),
                reason(item).unwrap_or_default(),
            ]
        });
        table::table(
            [
                "id",
                "queue",
                "state",
                "priority",
                "author",
                "run",
                "submitted",
                "reason",
            ],
            rows,
        )
    })
}

/// The newest items of every queue of the entity, or of every queue that the caller sees. Those
/// that wait come queue by queue, in the order in which they run.
async fn items_of_all_queues(args: &ListArgs, filter: &ItemFilter, context: &Context) -> Result<Vec<Item>> {
    let entity = non_empty(args.entity.entity.as_deref());
    let mut items = Vec::new();
    for queue in context.client.queues(entity).await? {
        let entity = match &queue.entity_name {
            Some(entity) => entity.clone(),
            None => context.entity(&args.entity).await?,
        };
        let project = queue.project_name.as_deref().unwrap_or(QUEUE_PROJECT);
        match context.client.items(&entity, project, &queue.name, filter).await {
            Ok(found) => items.extend(found),
            // Deleted since the list was made.
            Err(slipway_client::Error::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if !filter.waiting {
        items.sort_by(|a, b| b.created_at.cmp(&a.created_at));
    }
    items.truncate(filter.limit);
    Ok(items)
}

fn queue_path(item: &Item) -> Option<String> {
    let (entity, queue) = (item.queue_entity.as_ref()?, item.queue_name.as_ref()?);
    Some(format!("{entity}/{queue}"))
}

fn priority_word(item: &Item) -> String {
    let priority = item.priority.and_then(|code| Priority::from_code(code).ok());
    priority
        .map(|priority| priority.as_str().to_owned())
        .unwrap_or_default()
}

/// Why an item waits or failed, in one line.
pub(crate) fn reason(item: &Item) -> Option<String> {
    let failure = item
        .failure
        .as_ref()
        .map(|failure| format!("{}: {}", failure.stage, failure.message));
    let waits = || item.wait_reason.as_ref().map(|reason| reason.sentence.clone());
    let text = failure.or_else(waits)?;
    Some(text.lines().next().unwrap_or_default().to_owned())
}

async fn show(args: ShowArgs, context: &Context) -> Result<()> {
    let item = find(context, &args.id).await?;
    if !args.events {
        return context.print(&item, describe);
    }
    let events = context.client.item_events(&args.id, None, 1_000).await?;
    let value = serde_json::json!({"item": item, "events": events});
    context.print(&value, |_| {
        let rows = events.iter().map(|event| {
            let detail = if event.detail.is_null() {
                String::new()
            } else {
                event.detail.to_string()
            };
            [event.at.clone(), event.kind.clone(), event.actor.clone(), detail]
        });
        format!(
            "{}\n\n{}",
            describe(&item),
            table::table(["at", "event", "by", "detail"], rows)
        )
    })
}

fn describe(item: &Item) -> String {
    let path = |parts: [&Option<String>; 3]| {
        let parts: Option<Vec<&str>> = parts.into_iter().map(Option::as_deref).collect();
        parts.map(|parts| parts.join("/"))
    };
    let ago = |at: &Option<String>| at.as_deref().map(|at| time::ago(at, now()));
    table::facts([
        ("id", Some(item.id.clone())),
        ("state", Some(label(item))),
        ("why", item.wait_reason.as_ref().map(|reason| reason.sentence.clone())),
        ("position", item.position.map(|position| position.to_string())),
        (
            "failure",
            item.failure
                .as_ref()
                .map(|failure| format!("{} ({})", failure.message, failure.stage)),
        ),
        ("warning", item.warning.as_ref().map(|warning| warning.message.clone())),
        ("queue", queue_path(item)),
        ("priority", Some(priority_word(item))),
        ("author", item.author.clone()),
        ("run", path([&item.run_entity, &item.run_project, &item.run_name])),
        ("agent", item.agent.as_ref().map(|agent| agent.name.clone())),
        (
            "attempt",
            item.attempt
                .filter(|attempt| *attempt > 1)
                .map(|attempt| attempt.to_string()),
        ),
        ("exit code", item.exit_code.map(|code| code.to_string())),
        ("submitted", ago(&item.created_at)),
        ("taken", ago(&item.leased_at)),
        ("started", ago(&item.started_at)),
        ("ended", ago(&item.ended_at)),
        (
            "ran for",
            item.started_at
                .as_deref()
                .and_then(|from| time::duration(from, item.ended_at.as_deref(), now())),
        ),
        (
            "spec",
            (!item.final_spec.is_null()).then(|| serde_json::to_string_pretty(&item.final_spec).unwrap_or_default()),
        ),
    ])
}

async fn logs(args: LogsArgs, context: &Context) -> Result<()> {
    if !context.client.has_additions().await? {
        let server = context.client.base_url();
        return Err(
            Error::usage(format!("{server} keeps no output of items: it is not a Slipway server"))
                .with_hint("`slipway run logs` prints what the run's own client sent"),
        );
    }
    let follow = Follow {
        from: 0,
        follow: args.follow,
    };
    let mut events = context.client.item_output(&args.id, args.attempt, follow);
    while let Some(event) = events.next().await {
        match event? {
            OutputEvent::Text { text, .. } => output::raw(&text)?,
            OutputEvent::End { state } => output::note(format!("the item is {state}")),
        }
    }
    Ok(())
}
