//! `slipway key`.

use chrono::{SecondsFormat, TimeDelta, Utc};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::context::{Context, now};
use crate::exit::{Error, Result};
use crate::output::{self, table, time};

/// The subcommands of `slipway key`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an API key and print it, this once
    #[command(after_help = "Example:\n  slipway key create --description laptop --expires-in 90d > key")]
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
    /// End it after this time, such as 12h, 90d or 52w [default: it does not end]
    #[arg(long, value_name = "TIME", value_parser = term)]
    expires_in: Option<TimeDelta>,
    /// Make it for another user, as an admin
    #[arg(long, value_name = "USERNAME")]
    user: Option<String>,
}

/// Reads a number with a unit: `s`, `m`, `h`, `d` or `w`.
fn term(text: &str) -> std::result::Result<TimeDelta, String> {
    let parsed = text.char_indices().last().and_then(|(place, unit)| {
        let number: i64 = text[..place].parse().ok().filter(|number| *number > 0)?;
        match unit {
            's' => TimeDelta::try_seconds(number),
            'm' => TimeDelta::try_minutes(number),
            'h' => TimeDelta::try_hours(number),
            'd' => TimeDelta::try_days(number),
            'w' => TimeDelta::try_weeks(number),
            _ => None,
        }
    });
    parsed.ok_or_else(|| "give a number and a unit: 30m, 12h, 90d or 52w".to_owned())
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

/// When a time that begins now is over, as the API takes it.
fn end_of(term: TimeDelta) -> Result<String> {
    let end = Utc::now().checked_add_signed(term);
    let end = end.ok_or_else(|| Error::usage("`--expires-in` leads beyond the calendar"))?;
    Ok(end.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// Runs a subcommand.
pub(crate) async fn run(command: KeyCommand, context: &Context) -> Result<()> {
    match command {
        KeyCommand::Create(args) => {
            let expires_at = args.expires_in.map(end_of).transpose()?;
            let created =
                context
                    .client
                    .create_api_key(args.user.as_deref(), args.description.as_deref(), expires_at.as_deref());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        for (text, seconds) in [
            ("30s", Some(30)),
            ("5m", Some(300)),
            ("12h", Some(43_200)),
            ("90d", Some(7_776_000)),
            ("1w", Some(604_800)),
            ("", None),
            ("90", None),
            ("d", None),
            ("0d", None),
            ("-1d", None),
            ("1 y", None),
            ("9223372036854775807w", None),
        ] {
            assert_eq!(term(text).ok().map(|term| term.num_seconds()), seconds, "{text}");
        }
    }
}
