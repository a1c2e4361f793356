//! `slipway run`.

use std::time::Duration;

use clap::{Args, Subcommand};
use futures::StreamExt as _;
use serde_json::{Value, json};
use slipway_client::{LogEvent, RunFilter};
use slipway_model::id::RunName;
use slipway_wire::run::Run;

use crate::context::{Context, EntityArgs, ProjectArgs, now};
use crate::exit::{Error, Result};
use crate::input;
use crate::output::{self, Format, table, time};

/// How often a server without event streams is asked.
pub(crate) const POLL: Duration = Duration::from_secs(2);

/// The subcommands of `slipway run`.
#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// List the runs of a project, newest first
    #[command(after_help = "Examples:
  slipway run list -p first
  slipway run list -p first --state running --output json")]
    List(ListArgs),
    /// Show a run with its configuration and the last values that it logged
    #[command(after_help = "Example:\n  slipway run show team/first/abc123")]
    Show(PathArgs),
    /// Print a run's console lines
    #[command(after_help = "Example:\n  slipway run logs --follow team/first/abc123")]
    Logs(LogsArgs),
    /// Ask a run to stop
    #[command(after_help = "Example:\n  slipway run stop team/first/abc123")]
    Stop(PathArgs),
}

/// Flags of `slipway run list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    entity: EntityArgs,
    #[command(flatten)]
    project: ProjectArgs,
    /// Only runs in this state, such as running or failed
    #[arg(long, short, value_name = "STATE")]
    state: Option<String>,
    /// Only runs that match, as the public API filters: JSON text or a file
    #[arg(long, conflicts_with = "state", value_name = "FILE|TEXT")]
    filters: Option<String>,
    /// The order, such as `-created_at` or `summary_metrics.loss`
    #[arg(
        long,
        default_value = "-created_at",
        allow_hyphen_values = true,
        value_name = "ORDER"
    )]
    order: String,
    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
}

/// One run.
#[derive(Debug, Args)]
pub(crate) struct PathArgs {
    /// The run: `entity/project/run`, `project/run`, or `run` with `--project`
    #[arg(value_name = "RUN")]
    path: String,
    #[command(flatten)]
    entity: EntityArgs,
    #[command(flatten)]
    project: ProjectArgs,
}

/// Flags of `slipway run logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    run: PathArgs,
    /// Go on until the run ends
    #[arg(long, short)]
    follow: bool,
}

/// Runs a subcommand.
pub(crate) async fn run(command: RunCommand, context: &Context) -> Result<()> {
    match command {
        RunCommand::List(args) => list(args, context).await,
        RunCommand::Show(args) => {
            let name = name(&args, context).await?;
            let run = find(&name, context).await?;
            context.print(&run, |run| describe(run, &name, context))
        }
        RunCommand::Logs(args) => logs(args, context).await,
        RunCommand::Stop(args) => {
            let name = name(&args, context).await?;
            let run = find(&name, context).await?;
            let ended = run.state.as_deref().is_some_and(|state| !goes_on(state));
            if !ended {
                context.client.stop_run(&run.id).await?;
            }
            let stopped = json!({"id": run.id, "name": run.name, "state": run.state, "stopRequested": !ended});
            context.print(&stopped, |_| {
                if ended {
                    format!(
                        "{name} has ended already: it is {}",
                        run.state.as_deref().unwrap_or_default()
                    )
                } else {
                    format!("asked {name} to stop")
                }
            })
        }
    }
}

async fn name(args: &PathArgs, context: &Context) -> Result<RunName> {
    let parts: Vec<&str> = args.path.trim_matches('/').split('/').collect();
    let (entity, project, run) = match parts[..] {
        [entity, project, "runs", run] | [entity, project, run] => (entity.to_owned(), project.to_owned(), run),
        [project, run] => (context.entity(&args.entity).await?, project.to_owned(), run),
        [run] if !run.is_empty() => (
            context.entity(&args.entity).await?,
            context.required_project(&args.project)?,
            run,
        ),
        _ => {
            return Err(Error::usage(format!(
                "`{}` is not of the form entity/project/run",
                args.path
            )));
        }
    };
    Ok(RunName {
        entity,
        project,
        run: run.to_owned(),
    })
}

async fn find(name: &RunName, context: &Context) -> Result<Run> {
    let run = context.client.run(&name.entity, &name.project, &name.run).await?;
    run.ok_or_else(|| Error::not_found(format!("there is no run `{name}`, or you may not see it")))
}

async fn list(args: ListArgs, context: &Context) -> Result<()> {
    let entity = context.entity(&args.entity).await?;
    let project = context.required_project(&args.project)?;
    let filter = RunFilter {
        filters: match (&args.filters, &args.state) {
            (Some(filters), _) => input::map(filters, "--filters")?,
            (None, Some(state)) => json!({"state": state.to_ascii_lowercase()}),
            (None, None) => Value::Null,
        },
        order: Some(args.order),
        limit: args.limit,
    };
    let runs = context.client.runs(&entity, &project, &filter).await?;
    context.print(&runs, |runs| {
        if runs.is_empty() {
            return format!("project {entity}/{project} has no such runs");
        }
        let rows = runs.iter().map(|run| {
            [
                run.name.clone(),
                run.display_name.clone().unwrap_or_default(),
                state(run),
                run.user
                    .as_ref()
                    .and_then(|user| user.username.clone())
                    .unwrap_or_default(),
                run.created_at
                    .as_deref()
                    .map(|at| time::ago(at, now()))
                    .unwrap_or_default(),
            ]
        });
        table::table(["id", "name", "state", "user", "created"], rows)
    })
}

fn state(run: &Run) -> String {
    let state = run.state.clone().unwrap_or_default();
    let mut chars = state.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn describe(run: &Run, name: &RunName, context: &Context) -> String {
    let page = format!(
        "{}/{}/{}/runs/{}",
        context.client.base_url(),
        name.entity,
        name.project,
        name.run
    );
    let facts = table::facts([
        ("run", Some(name.to_string())),
        ("name", run.display_name.clone()),
        ("state", Some(state(run))),
        ("user", run.user.as_ref().and_then(|user| user.username.clone())),
        ("created", run.created_at.as_deref().map(|at| time::ago(at, now()))),
        (
            "last heard from",
            run.heartbeat_at.as_deref().map(|at| time::ago(at, now())),
        ),
        ("job type", run.job_type.clone()),
        ("group", run.group.clone()),
        ("sweep", run.sweep_name.clone()),
        ("tags", Some(run.tags.join(", "))),
        ("notes", run.notes.clone()),
        ("queue item", run.queue_item.as_ref().map(|item| item.id.clone())),
        ("page", Some(run.url.clone().unwrap_or(page))),
    ]);
    let config = values(&run.config, |value| value.get("value").unwrap_or(value).clone());
    let summary = values(&run.summary_metrics, Clone::clone);
    let section =
        |title: &'static str, rows: Vec<[String; 2]>| (!rows.is_empty()).then(|| table::table([title, "value"], rows));
    let sections = [Some(facts), section("config", config), section("summary", summary)];
    sections.into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}

/// The entries of a map that are the user's own: keys of the client begin with `_`.
fn values(map: &Value, read: impl Fn(&Value) -> Value) -> Vec<[String; 2]> {
    let entries = map.as_object().into_iter().flatten();
    let own = entries.filter(|(key, _)| !key.starts_with('_'));
    own.map(|(key, value)| {
        let shown = match read(value) {
            Value::String(text) => text,
            other => other.to_string(),
        };
        [key.clone(), shown]
    })
    .collect()
}

async fn logs(args: LogsArgs, context: &Context) -> Result<()> {
    let name = name(&args.run, context).await?;
    let print = |number: i64, line: &str| match context.format {
        Format::Table => output::raw(&format!("{line}\n")),
        Format::Json => output::json_line(&json!({"number": number, "line": line})),
    };
    if !args.follow {
        let lines = context.client.log_lines(&name.entity, &name.project, &name.run).await?;
        return lines.iter().try_for_each(|line| print(line.number, &line.line));
    }
    let state = follow(&name, context, print).await?;
    match context.format {
        Format::Table => output::note(format!("the run is {state}")),
        Format::Json => output::json_line(&json!({"state": state}))?,
    }
    Ok(())
}

/// Hands on a run's console lines with their numbers as they come, until the run has ended; its last
/// state.
pub(crate) async fn follow(
    name: &RunName,
    context: &Context,
    print: impl Fn(i64, &str) -> Result<()>,
) -> Result<String> {
    let client = &context.client;
    if client.has_additions().await? {
        let mut events = client.run_log(&name.entity, &name.project, &name.run, 0);
        while let Some(event) = events.next().await {
            match event? {
                LogEvent::Line { number, text } => print(number, &text)?,
                LogEvent::End { state } => return Ok(state),
            }
        }
        return Ok("gone".to_owned());
    }
    let mut printed = 0;
    loop {
        // The state first: lines that came before the end are then among those that follow.
        let state = client.run_state(&name.entity, &name.project, &name.run).await?;
        let state = state.unwrap_or_else(|| "gone".to_owned());
        let lines = client.log_lines(&name.entity, &name.project, &name.run).await?;
        for line in lines.iter().skip(printed) {
            print(line.number, &line.line)?;
        }
        printed = printed.max(lines.len());
        if !goes_on(&state) {
            return Ok(state);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether a run in this state may still print something, or be stopped.
fn goes_on(state: &str) -> bool {
    ["pending", "running", "preempting"].contains(&state)
}
