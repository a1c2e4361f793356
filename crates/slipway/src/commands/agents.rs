//! `slipway agents`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::Value;
use slipway_wire::agent::Agent;

use crate::completion;
use crate::context::{Context, EntityArgs, now};
use crate::exit::{Error, Result};
use crate::output::{Format, table, time};

/// The subcommands of `slipway agents`.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentsCommand {
    /// List the agents of an entity
    #[command(after_help = "Example:\n  slipway agents list -e team")]
    List(ListArgs),
    /// Let an agent take nothing new and end when its jobs have ended
    #[command(after_help = "Example:\n  slipway agents drain build-host")]
    Drain(NameArgs),
    /// Let a draining agent take items again
    #[command(after_help = "Example:\n  slipway agents undrain build-host")]
    Undrain(NameArgs),
}

/// Flags of `slipway agents list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    entity: EntityArgs,
    /// Also those that have not been heard from lately
    #[arg(long, short)]
    all: bool,
}

/// One agent.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The agent's name or id
    #[arg(add = completion::agents())]
    agent: String,
    #[command(flatten)]
    entity: EntityArgs,
}

/// Runs a subcommand.
pub(crate) async fn run(command: AgentsCommand, context: &Context) -> Result<()> {
    match command {
        AgentsCommand::List(args) => list(args, context).await,
        AgentsCommand::Drain(args) => drain(args, context, true).await,
        AgentsCommand::Undrain(args) => drain(args, context, false).await,
    }
}

async fn list(args: ListArgs, context: &Context) -> Result<()> {
    let entity = context.entity(&args.entity).await?;
    let mut agents = context.client.agents(&entity).await?;
    if !args.all {
        agents.retain(|agent| agent.active != Some(false));
    }
    // An agent knows its queues by their ids.
    let names: BTreeMap<String, String> = match context.format {
        Format::Table if !agents.is_empty() => {
            let queues = context.client.queues(Some(&entity)).await?;
            queues.into_iter().map(|queue| (queue.id, queue.name)).collect()
        }
        _ => BTreeMap::new(),
    };
    context.print(&agents, |agents| {
        if agents.is_empty() {
            return format!("no agent serves a queue of {entity}; start one with `slipway launch-agent --entity {entity} --queue QUEUE`");
        }
        let rows = agents.iter().map(|agent| {
            [
                agent.name.clone(),
                state(agent),
                agent.hostname.clone().unwrap_or_default(),
                queues(agent, &names),
                jobs(agent),
                agent.version.clone().unwrap_or_default(),
                agent
                    .heartbeat_at
                    .as_deref()
                    .map(|at| time::ago(at, now()))
                    .unwrap_or_default(),
            ]
        });
        table::table(["name", "state", "host", "queues", "jobs", "version", "heard"], rows)
    })
}

/// The queues by name; one that was deleted, or that the caller may not see, by its id.
fn queues(agent: &Agent, names: &BTreeMap<String, String>) -> String {
    let ids = agent
        .run_queues
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let named: Vec<&str> = ids.map(|id| names.get(id).map_or(id, String::as_str)).collect();
    named.join(", ")
}

/// How many jobs it has, and how many at most.
fn jobs(agent: &Agent) -> String {
    let held = agent.held_items.len();
    match agent.max_jobs {
        Some(max) if max < 0 => format!("{held}, no limit"),
        Some(max) => format!("{held} of {max}"),
        None => held.to_string(),
    }
}

fn state(agent: &Agent) -> String {
    let status = match (agent.active, agent.drain_requested) {
        (Some(false), _) => "Gone",
        (_, Some(true)) => "Draining",
        _ => match agent.agent_status.as_deref() {
            Some("RUNNING") => "Running",
            Some("DRAINING") => "Draining",
            Some("KILLED") => "Ended",
            _ => "Polling",
        },
    };
    status.to_owned()
}

async fn drain(args: NameArgs, context: &Context, drain: bool) -> Result<()> {
    let entity = context.entity(&args.entity).await?;
    let agents = context.client.agents(&entity).await?;
    let found = agents
        .iter()
        .find(|agent| agent.name == args.agent || agent.id == args.agent);
    let Some(agent) = found else {
        let names: Vec<&str> = agents.iter().map(|agent| agent.name.as_str()).collect();
        let error = Error::not_found(format!("there is no agent `{}` in `{entity}`", args.agent));
        return Err(match slipway_model::names::nearest(&args.agent, names) {
            Some(name) => error.with_hint(format!("did you mean `{name}`?")),
            None => error.with_hint("`slipway agents list --all` shows them"),
        });
    };
    let agent = context.client.drain_agent(&agent.id, drain).await?;
    context.print(&agent, |agent| {
        let queues = match &agent.run_queues {
            Value::Array(queues) => queues.len(),
            _ => 0,
        };
        match drain {
            true => format!("{} takes nothing new from its {queues} queues", agent.name),
            false => format!("{} takes items again", agent.name),
        }
    })
}
