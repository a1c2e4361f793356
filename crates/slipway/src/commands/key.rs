//! `slipway key`.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::context::{Context, now};
use crate::exit::Result;
use crate::output::{self, table, time};

/// The subcommands of `slipway key`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an API key and print it, this once
    #[command(after_help = "Example:\n  slipway key create --description laptop > key")]
    Create(CreateArgs),
    /// List your API keys, without their secrets
    #[command(after_help = "Example:\n  slipway key list")]
    List,
    /// End an API key at once
    #[command(after_help = "Example:\n  slipway key revoke ID")]
    Revoke(RevokeArgs),
}

/// Flags of `slipway key create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What it is for
    #[arg(long, short, value_name = "TEXT")]
    description: Option<String>,
    /// Make it for another user, as an admin
    #[arg(long, value_name = "USERNAME")]
    user: Option<String>,
}

/// Flags of `slipway key revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The key's id
    id: String,
    /// The user whose key it is, as an admin
    #[arg(long, value_name = "USERNAME")]
    user: Option<String>,
}

/// Runs a subcommand.
pub(crate) async fn run(command: KeyCommand, context: &Context) -> Result<()> {
    match command {
        KeyCommand::Create(args) => {
            let created = context
                .client
                .create_api_key(args.user.as_deref(), args.description.as_deref());
            let key = created.await?;
            context.print(&json!({"apiKey": key}), |_| key.clone())?;
            output::note("keep it: it is not shown again");
            Ok(())
        }
        KeyCommand::List => {
            let keys = context.client.api_keys().await?;
            context.print(&keys, |keys| {
                let ago = |at: &Option<String>| at.as_deref().map(|at| time::ago(at, now())).unwrap_or_default();
                let rows = keys.iter().map(|key| {
                    [
                        key.id.clone(),
                        key.name.clone(),
                        key.description.clone().unwrap_or_default(),
                        ago(&key.created_at),
                        ago(&key.last_used_at),
                        key.expires_at.clone().unwrap_or_else(|| "never".to_owned()),
                    ]
                });
                table::table(["id", "begins with", "description", "made", "used", "ends"], rows)
            })
        }
        KeyCommand::Revoke(args) => {
            context.client.revoke_api_key(&args.id, args.user.as_deref()).await?;
            context.print(&json!({"id": args.id, "revoked": true}), |_| {
                format!("ended key {}", args.id)
            })
        }
    }
}
