//! What a shell offers for values: names from the server, options from the model's table.
//!
//! A shell asks whenever a key is pressed. Nothing here waits for long, and what cannot be found out is
//! not offered; no error is ever printed.

use std::ffi::OsStr;
use std::time::Duration;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use slipway_client::ItemFilter;
use slipway_model::docker_options::{self, Shape};
use slipway_model::queue::QUEUE_PROJECT;

use crate::config::connection::ConnectionArgs;
use crate::context::{Context, EntityArgs, GlobalArgs};
use crate::exit::Result;

/// The variable by which a shell asks.
pub(crate) const VARIABLE: &str = "SLIPWAY_COMPLETE";

/// How long a server may take.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Items that are offered of one queue.
const ITEMS: usize = 50;

/// Names of queues.
pub(crate) fn queues() -> ArgValueCompleter {
    offer(async |context| {
        let queues = context.client.queues(None).await?;
        Ok(queues.into_iter().map(|queue| (queue.name, queue.resource)).collect())
    })
}

/// Ids of items, the newest of each queue.
pub(crate) fn items() -> ArgValueCompleter {
    offer(async |context| {
        let filter = ItemFilter {
            limit: ITEMS,
            ..ItemFilter::default()
        };
        let mut found = Vec::new();
        for queue in context.client.queues(None).await? {
            let entity = queue.entity_name.unwrap_or_default();
            let project = queue.project_name.as_deref().unwrap_or(QUEUE_PROJECT);
            let items = context.client.items(&entity, project, &queue.name, &filter).await?;
            found.extend(items.into_iter().map(|item| {
                let help = format!("{} in {entity}/{}", item.label.unwrap_or(item.state), queue.name);
                (item.id, Some(help))
            }));
        }
        Ok(found)
    })
}

/// Names of the agents of the usual entity.
pub(crate) fn agents() -> ArgValueCompleter {
    offer(async |context| {
        let entity = context.entity(&EntityArgs::default()).await?;
        let agents = context.client.agents(&entity).await?;
        Ok(agents.into_iter().map(|agent| (agent.name, agent.hostname)).collect())
    })
}

/// Options of a container, each with the `=` that its value follows.
pub(crate) fn container_options() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let options = docker_options::OPTIONS.iter().map(|option| {
            let text = match option.shape {
                Shape::Flag => format!("{}=true", option.name),
                Shape::One | Shape::Many | Shape::Pairs => format!("{}=", option.name),
            };
            (text, Some(option.help.to_owned()))
        });
        candidates(options, current)
    })
}

fn offer<F>(ask: F) -> ArgValueCompleter
where
    F: AsyncFn(Context) -> Result<Vec<(String, Option<String>)>> + Send + Sync + 'static,
{
    ArgValueCompleter::new(move |current: &OsStr| {
        let answer = || {
            let connection = ConnectionArgs {
                host: std::env::var("WANDB_BASE_URL").ok(),
            };
            let context = Context::new(&connection, &GlobalArgs::default()).ok()?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .ok()?;
            let asked = runtime.block_on(async { tokio::time::timeout(PATIENCE, ask(context)).await });
            asked.ok()?.ok()
        };
        candidates(answer().unwrap_or_default().into_iter(), current)
    })
}

fn candidates(values: impl Iterator<Item = (String, Option<String>)>, current: &OsStr) -> Vec<CompletionCandidate> {
    let begun = current.to_string_lossy();
    values
        .filter(|(value, _)| value.starts_with(&*begun))
        .map(|(value, help)| CompletionCandidate::new(value).help(help.map(Into::into)))
        .collect()
}
