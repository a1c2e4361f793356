//! `slipway team`.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::context::Context;
use crate::exit::Result;

/// The subcommands of `slipway team`.
#[derive(Debug, Subcommand)]
pub(crate) enum TeamCommand {
    /// Make a team; you become its admin
    #[command(after_help = "Example:\n  slipway team create research")]
    Create(CreateArgs),
    /// Add a member, or change its role
    #[command(after_help = "Example:\n  slipway team add research bob --role member")]
    Add(AddArgs),
    /// Remove a member
    #[command(after_help = "Example:\n  slipway team remove research bob")]
    Remove(RemoveArgs),
}

/// Flags of `slipway team create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The team's name
    name: String,
}

/// Flags of `slipway team add`.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// The team
    team: String,
    /// The user
    username: String,
    /// What the member may do
    #[arg(long, value_enum, default_value_t, value_name = "ROLE")]
    role: Role,
}

/// Flags of `slipway team remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The team
    team: String,
    /// The user
    username: String,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Role {
    /// Reads
    Viewer,
    /// Reads, submits, runs agents
    #[default]
    Member,
    /// Also edits queues and members
    Admin,
}

/// Runs a subcommand.
pub(crate) async fn run(command: TeamCommand, context: &Context) -> Result<()> {
    match command {
        TeamCommand::Create(args) => {
            context.client.create_team(&args.name).await?;
            context.print(&json!({"name": args.name}), |_| format!("made team {}", args.name))
        }
        TeamCommand::Add(args) => {
            let role = match args.role {
                Role::Viewer => "viewer",
                Role::Member => "member",
                Role::Admin => "admin",
            };
            context
                .client
                .set_team_member(&args.team, &args.username, Some(role))
                .await?;
            let member = json!({"team": args.team, "username": args.username, "role": role});
            context.print(&member, |_| format!("{} is {role} of {}", args.username, args.team))
        }
        TeamCommand::Remove(args) => {
            context.client.set_team_member(&args.team, &args.username, None).await?;
            let member = json!({"team": args.team, "username": args.username, "role": null});
            context.print(&member, |_| format!("{} is no longer in {}", args.username, args.team))
        }
    }
}
