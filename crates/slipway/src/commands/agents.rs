//! `slipway agents`.

use clap::{Args, Subcommand};
use serde_json::Value;
use slipway_wire::agent::Agent;

use crate::context::{Context, EntityArgs, now};
use crate::exit::{Error, Result};
use crate::output::{table, time};

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
    context.print(&agents, |agents| {
        if agents.is_empty() {
            return format!("no agent serves a queue of {entity}; start one with `slipway launch-agent -q QUEUE`");
        }
        let rows = agents.iter().map(|agent| {
            [
                agent.name.clone(),
                state(agent),
                agent.hostname.clone().unwrap_or_default(),
                agent.max_jobs.map(jobs).unwrap_or_default(),
                agent.version.clone().unwrap_or_default(),
                agent
                    .heartbeat_at
                    .as_deref()
                    .map(|at| time::ago(at, now()))
                    .unwrap_or_default(),
            ]
        });
        table::table(["name", "state", "host", "jobs at once", "version", "heard"], rows)
    })
}

fn jobs(max: i64) -> String {
    if max < 0 {
        "no limit".to_owned()
    } else {
        max.to_string()
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
