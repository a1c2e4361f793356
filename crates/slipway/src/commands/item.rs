//! `slipway item`.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use futures::StreamExt as _;
use serde_json::{Value, json};
use slipway_client::{Follow, ItemFilter, OutputEvent};
use slipway_model::item::ItemState;
use slipway_model::priority::Priority;
use slipway_model::queue::QUEUE_PROJECT;
use slipway_wire::item::{Failure, Item};

use crate::completion;
use crate::context::{Context, EntityArgs, non_empty, now};
use crate::exit::{Error, Result};
use crate::output::{self, Format, table, time};

/// A state that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    /// The API's words.
    states: Vec<&'static str>,
    /// The word that people read, where that is narrower.
    label: Option<String>,
}

impl Wanted {
    fn matches(&self, item: &Item) -> bool {
        let labelled = |wanted: &str| label(item).eq_ignore_ascii_case(wanted);
        let state = self.states.iter().any(|state| state.eq_ignore_ascii_case(&item.state));
        state && (item.label.is_none() || self.label.as_deref().is_none_or(labelled))
    }
}

/// Reads a state: in capitals a word of the API, else one that tables show.
fn wanted(text: &str) -> std::result::Result<Wanted, String> {
    if let Some(state) = ItemState::ALL.into_iter().find(|state| state.as_str() == text) {
        return Ok(Wanted {
            states: vec![state.as_str()],
            label: None,
        });
    }
    let labels = |state: ItemState| [state.label(true), state.label(false)];
    let states: Vec<&str> = ItemState::ALL
        .into_iter()
        .filter(|state| labels(*state).iter().any(|label| label.eq_ignore_ascii_case(text)))
        .map(ItemState::as_str)
        .collect();
    if states.is_empty() {
        let known: BTreeSet<String> = ItemState::ALL
            .into_iter()
            .flat_map(labels)
            .map(str::to_ascii_lowercase)
            .collect();
        let known: Vec<String> = known.into_iter().collect();
        return Err(format!("no item is in such a state; there is {}", known.join(", ")));
    }
    Ok(Wanted {
        states,
        label: Some(text.to_owned()),
    })
}

/// The subcommands of `slipway item`.
#[derive(Debug, Subcommand)]
pub(crate) enum ItemCommand {
    /// List the items of a queue, or of every queue that you see
    #[command(after_help = "Examples:
  slipway item list
  slipway item list --queue gpu
  slipway item list -q gpu --state failed --state crashed --output json")]
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
    #[arg(long, short, value_name = "QUEUE", add = completion::queues())]
    queue: Option<String>,
    #[command(flatten)]
    entity: EntityArgs,
    /// Only items in this state: queued, idle, pending, running, finished, failed, crashed or killed; the
    /// API's words PENDING, LEASED and CLAIMED do too; repeatable
    #[arg(long = "state", short, value_name = "STATE", value_parser = wanted)]
    states: Vec<Wanted>,
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
    #[arg(add = completion::items())]
    id: String,
}

/// Flags of `slipway item show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The item's id
    #[arg(add = completion::items())]
    id: String,
    /// Also print its record
    #[arg(long)]
    events: bool,
}

/// Flags of `slipway item logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The item's id
    #[arg(add = completion::items())]
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
    #[arg(add = completion::items())]
    id: String,
    /// The new queue, of the same entity
    #[arg(long, short, value_name = "QUEUE", add = completion::queues())]
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

/// The word for an item's state. Servers without additions leave it to us, and do not tell whether an
/// agent serves the queue.
pub(crate) fn label(item: &Item) -> String {
    let known = ItemState::ALL.into_iter().find(|state| state.as_str() == item.state);
    let word = || known.map_or(item.state.as_str(), |state| state.label(true)).to_owned();
    item.label.clone().unwrap_or_else(word)
}

async fn list(args: ListArgs, context: &Context) -> Result<()> {
    let filter = ItemFilter {
        states: args
            .states
            .iter()
            .flat_map(|wanted| wanted.states.iter().map(|state| (*state).to_owned()))
            .collect(),
        waiting: args.waiting,
        limit: args.limit,
    };
    let (place, mut items) = match &args.queue {
        Some(queue) => {
            let entity = context.entity(&args.entity).await?;
            let found = super::queue::find(context, &entity, None, queue).await?;
            let project = found.project_name.as_deref().unwrap_or(QUEUE_PROJECT);
            let items = context.client.items(&entity, project, queue, &filter).await?;
            (format!("queue {entity}/{queue} has"), items)
        }
        None => (
            "there are".to_owned(),
            items_of_all_queues(&args, &filter, context).await?,
        ),
    };
    items.retain(|item| args.states.is_empty() || args.states.iter().any(|wanted| wanted.matches(item)));
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
                item.job.clone().unwrap_or_default(),
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
                "job",
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

/// The queue of an item that is shown alone: one of a deleted queue has none any more.
fn queue_fact(item: &Item) -> Option<String> {
    let entity = item.queue_entity.as_ref()?;
    Some(queue_path(item).unwrap_or_else(|| format!("deleted; it was {entity}'s")))
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
    let value = json!({"item": item, "events": events});
    context.print(&value, |_| {
        let rows = events.iter().map(|event| {
            let detail = match &event.detail {
                Value::Null => String::new(),
                Value::Object(nothing) if nothing.is_empty() => String::new(),
                detail => detail.to_string(),
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
        ("log files", log_files(item)),
        (
            "output",
            readable(item).then(|| format!("`slipway item logs {}`", item.id)),
        ),
        ("warning", item.warning.as_ref().map(|warning| warning.message.clone())),
        ("job", item.job.clone()),
        ("queue", queue_fact(item)),
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

/// Whether there may be output or a log file to read of an item that failed.
fn readable(item: &Item) -> bool {
    let kept = |failure: &Failure| !failure.file_paths.is_empty();
    item.failure
        .as_ref()
        .is_some_and(|failure| kept(failure) || item.started_at.is_some() || item.exit_code.is_some())
}

/// The files that an agent kept of a failure, and where they are.
fn log_files(item: &Item) -> Option<String> {
    let paths = &item.failure.as_ref()?.file_paths;
    let (entity, agent) = (item.queue_entity.as_deref()?, item.agent.as_ref()?);
    let place = format!("among the files of run {entity}/{QUEUE_PROJECT}/{}", agent.name);
    Some(
        paths
            .iter()
            .map(|path| format!("{path}, {place}"))
            .collect::<Vec<_>>()
            .join("\n"),
    )
}

async fn logs(args: LogsArgs, context: &Context) -> Result<()> {
    if !context.client.has_additions().await? {
        let server = context.client.base_url();
        return Err(
            Error::usage(format!("{server} keeps no output of items: it is not a Slipway server"))
                .with_hint("`slipway run logs` prints what the run's own client sent"),
        );
    }
    let item = find(context, &args.id).await?;
    let attempt = attempt_to_read(&item, args.attempt, args.follow)?;
    if args.follow && waits(&item) {
        let why = reason(&item).map(|why| format!(": {why}"));
        output::note(format!("the item waits{}", why.unwrap_or_default()));
    }
    let follow = Follow {
        from: 0,
        follow: args.follow,
    };
    let mut events = context.client.item_output(&args.id, attempt, follow);
    let (mut printed, mut end) = (false, None);
    while let Some(event) = events.next().await {
        let (offset, text) = match event? {
            OutputEvent::Text { text, .. } if text.is_empty() => continue,
            OutputEvent::Text { offset, text } => (offset, text),
            OutputEvent::End { state } => {
                end = Some(state);
                continue;
            }
        };
        printed = true;
        match context.format {
            Format::Table => output::raw(&text)?,
            Format::Json => output::json_line(&json!({"offset": offset, "text": text}))?,
        }
    }
    if !printed && args.attempt.is_none() {
        printed = kept_logs(&args.id, context).await?;
    }
    if !printed && end.is_none() {
        output::note("nothing was printed");
    }
    match (end, context.format) {
        (Some(state), Format::Table) => output::note(format!("the item is {state}")),
        (Some(state), Format::Json) => output::json_line(&json!({"state": state}))?,
        (None, _) => {}
    }
    Ok(())
}

fn waits(item: &Item) -> bool {
    item.state == ItemState::Pending.as_str()
}

/// Which attempt's output to read; none is the current one, also before it begins.
fn attempt_to_read(item: &Item, asked: Option<i64>, follow: bool) -> Result<Option<i64>> {
    let current = item.attempt.unwrap_or(1);
    // An item that waits counts the attempt that comes.
    let begun = if waits(item) { current - 1 } else { current };
    let last = if follow { current } else { begun };
    match asked {
        Some(attempt) if !(1..=last).contains(&attempt) => Err(Error::not_found(format!(
            "there is no attempt {attempt} of item `{}`: {}",
            item.id,
            match begun {
                0 => "it has not been started yet".to_owned(),
                1 => "it was started once".to_owned(),
                times => format!("it was started {times} times"),
            }
        ))),
        None if last == 0 => {
            let why = reason(item).map(|why| format!(": {why}"));
            let text = format!(
                "item `{}` waits and has printed nothing yet{}",
                item.id,
                why.unwrap_or_default()
            );
            Err(Error::not_found(text).with_hint(format!("`slipway item logs --follow {}` waits for it", item.id)))
        }
        None if follow => Ok(None),
        None => Ok(Some(begun)),
        asked => Ok(asked),
    }
}

/// Prints the log files of a failure, and tells whether there were any. Agents of other kinds than ours
/// send no output, and keep these among the files of their own run.
async fn kept_logs(id: &str, context: &Context) -> Result<bool> {
    let Some(item) = context.client.item(id).await? else {
        return Ok(false);
    };
    let (Some(failure), Some(entity), Some(agent)) = (&item.failure, &item.queue_entity, &item.agent) else {
        return Ok(false);
    };
    for path in &failure.file_paths {
        let file = context.client.run_file(entity, QUEUE_PROJECT, &agent.name, path);
        match (file.await?, context.format) {
            (Some(text), Format::Table) => output::raw(&text)?,
            (Some(text), Format::Json) => output::json_line(&json!({"file": path, "text": text}))?,
            (None, _) => output::warn(format!("the agent `{}` has not uploaded `{path}`", agent.name)),
        }
    }
    Ok(!failure.file_paths.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Item, attempt_to_read, describe, wanted};
    use serde_json::json;

    fn item(value: serde_json::Value) -> Item {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn states_are_asked_for_by_the_words_of_tables_and_of_the_api() {
        let queued = item(json!({"id": "1", "state": "PENDING", "label": "Queued"}));
        let taken = item(json!({"id": "2", "state": "CLAIMED", "label": "Pending"}));
        let official = item(json!({"id": "3", "state": "PENDING"}));
        for (text, expected) in [
            ("queued", [true, false, true]),
            ("Queued", [true, false, true]),
            ("idle", [false, false, true]),
            ("pending", [false, true, false]),
            ("PENDING", [true, false, true]),
            ("CLAIMED", [false, true, false]),
            ("failed", [false, false, false]),
        ] {
            let wanted = wanted(text).unwrap();
            let found = [&queued, &taken, &official].map(|item| wanted.matches(item));
            assert_eq!(found, expected, "{text}");
        }
        let refused = wanted("runing").unwrap_err();
        assert!(refused.contains("killed, pending, queued, running"), "{refused}");
    }

    #[test]
    fn output_is_read_of_an_attempt_that_was_begun() {
        let item = |state: &str, attempt: i64| item(json!({"id": "abc", "state": state, "attempt": attempt}));
        for (state, attempt, asked, follow, expected) in [
            ("RUNNING", 1, None, false, Ok(Some(1))),
            ("RUNNING", 2, None, false, Ok(Some(2))),
            ("RUNNING", 2, None, true, Ok(None)),
            ("RUNNING", 2, Some(1), false, Ok(Some(1))),
            ("RUNNING", 2, Some(3), false, Err("it was started 2 times")),
            ("RUNNING", 1, Some(0), true, Err("it was started once")),
            ("PENDING", 1, None, false, Err("waits and has printed nothing yet")),
            ("PENDING", 1, None, true, Ok(None)),
            ("PENDING", 1, Some(1), false, Err("it has not been started yet")),
            ("PENDING", 1, Some(1), true, Ok(Some(1))),
            ("PENDING", 2, None, false, Ok(Some(1))),
            ("PENDING", 2, None, true, Ok(None)),
            ("FAILED", 1, Some(2), true, Err("there is no attempt 2 of item `abc`")),
        ] {
            let read = attempt_to_read(&item(state, attempt), asked, follow);
            match (read, expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read, expected, "{state} {attempt} {asked:?}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (read, _) => panic!("{state} {attempt} {asked:?} {follow}: {read:?}"),
            }
        }
    }

    #[test]
    fn a_failed_item_says_where_its_output_is() {
        let failed = item(json!({
            "id": "abc", "state": "FAILED", "startedAt": "2024-01-01T00:00:00Z", "queueName": "q",
            "queueEntity": "team", "agent": {"id": "x", "name": "box"},
            "failure": {"stage": "run", "message": "m", "reason": "exit-code", "filePaths": ["abc/error/error.log"]},
        }));
        let text = describe(&failed);
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(text.contains("output     `slipway item logs abc`"), "{text}");
        assert!(text.contains("queue      team/q"), "{text}");
        let file = "log files  abc/error/error.log, among the files of run team/model-registry/box";
        assert!(text.contains(file), "{text}");
    }

    #[test]
    fn an_item_of_a_deleted_queue_says_so() {
        let left = item(json!({"id": "abc", "state": "FINISHED", "queueEntity": "team"}));
        let text = anstream::adapter::strip_str(&describe(&left)).to_string();
        assert!(text.contains("queue  deleted; it was team's"), "{text}");
        let official = item(json!({"id": "abc", "state": "FINISHED"}));
        assert!(
            !describe(&official).contains("queue"),
            "a server that tells nothing of it"
        );
    }
}
