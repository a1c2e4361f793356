//! `slipway queue options`: what the arguments of a target resource may be, from the model's table.

use clap::Args;
use serde_json::{Value, json};
use slipway_model::docker_options::{OPTIONS, OTHER_KEYS};
use slipway_model::queue::Resource;

use crate::exit::{Error, Result};
use crate::output::{self, Format, table};

/// Flags of `slipway queue options`.
#[derive(Debug, Args)]
pub(crate) struct OptionsArgs {
    /// The target resource
    #[arg(default_value = "local-container", value_name = "RESOURCE")]
    resource: Resource,
    /// Only what submitters may set unless the queue says otherwise
    #[arg(long)]
    submitter: bool,
}

/// One line.
struct Row {
    name: &'static str,
    short: Option<char>,
    takes: &'static str,
    submitter: bool,
    help: &'static str,
}

/// Prints the table; asks no server.
pub(crate) fn run(args: &OptionsArgs, format: Format) -> Result<()> {
    let rows: Vec<Row> = rows(args.resource)?
        .into_iter()
        .filter(|row| row.submitter || !args.submitter)
        .collect();
    match format {
        Format::Json => {
            let values = rows.iter().map(|row| {
                json!({
                    "name": row.name, "short": row.short, "takes": row.takes, "submitter": row.submitter,
                    "help": row.help,
                })
            });
            output::json(&values.collect::<Vec<Value>>())
        }
        Format::Table => {
            let rows = rows.iter().map(|row| {
                [
                    row.name.to_owned(),
                    row.short.map(|letter| format!("-{letter}")).unwrap_or_default(),
                    row.takes.to_owned(),
                    if row.submitter { "submitters too" } else { "the queue" }.to_owned(),
                    row.help.to_owned(),
                ]
            });
            output::text_line(&table::table(["option", "short", "takes", "set by", "meaning"], rows))
        }
    }
}

fn rows(resource: Resource) -> Result<Vec<Row>> {
    let row = |name, takes, help| Row {
        name,
        short: None,
        takes,
        submitter: true,
        help,
    };
    match resource {
        Resource::LocalContainer => {
            let others = OTHER_KEYS.into_iter().map(|name| match name {
                "command" => row(name, "a value or a list", "The command of jobs that have none"),
                _ => row(name, "a map", "How an image is built"),
            });
            let options = OPTIONS.iter().map(|option| Row {
                name: option.name,
                short: option.short,
                takes: option.shape.written(),
                submitter: option.submitter,
                help: option.help,
            });
            let mut rows: Vec<Row> = others.chain(options).collect();
            rows.sort_by_key(|row| row.name);
            Ok(rows)
        }
        Resource::LocalProcess => Ok(vec![row("env", "a value, a list or a map", "A variable: NAME=value")]),
        Resource::Kubernetes | Resource::Sagemaker | Resource::GcpVertex => Err(Error::usage(format!(
            "the arguments of {resource} are those of its own API, of which there is no list here"
        ))
        .with_hint("`slipway queue options local-container` lists those of containers")),
    }
}
