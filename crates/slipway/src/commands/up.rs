//! `slipway up`: a server and an agent in one process.

use clap::Args;
use slipway_agent::AgentError;
use slipway_model::agent_config::AgentConfig;
use slipway_model::queue::QUEUE_PROJECT;
use slipway_store::Store;
use slipway_store::identity::User;
use tokio_util::sync::CancellationToken;

use super::launch_agent::{agent_error, attend, client, new_agent};
use super::server::{ListenArgs, Signals, StoreArgs, local_key, open};
use crate::exit::{Error, Result};
use crate::output;
use crate::queue_document::QueueDocument;
use crate::telemetry::{self, LogArgs};

/// The queue that is made if there is none of this name.
const QUEUE: &str = "default";

/// Flags of `slipway up`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  slipway up
  slipway up --data-dir ~/slipway --listen 127.0.0.1:9000 --max-jobs 4

Makes a queue `default` whose jobs run as processes of this user: whoever may submit to it runs code
on this machine. Your own login stays as it is. Ctrl-C drains: the agent takes nothing new, the server
ends with the last job; a second Ctrl-C ends both and leaves jobs running.")]
pub(crate) struct UpArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    listen: ListenArgs,
    /// How many jobs run at once; -1 for no limit
    #[arg(
        long,
        short = 'j',
        default_value_t = 1,
        allow_negative_numbers = true,
        value_name = "N"
    )]
    max_jobs: i64,
    #[command(flatten)]
    log: LogArgs,
}

/// How the agent of this process ended.
enum AgentEnd {
    /// It was drained.
    Drained,
    /// Another agent has its name, says this.
    Replaced(String),
}

/// Runs both until a signal ends them. An agent that others end takes only itself away, whether they drain
/// it or register another one under its name: the server is theirs too, and the one that took the name
/// speaks to this very server.
pub(crate) async fn run(args: UpArgs) -> Result<()> {
    telemetry::install(&args.log)?;
    let signals = Signals::watch()?;
    let (store, listening) = open(&args.store, &args.listen).await?;
    let url = listening.url();
    let owner = first_admin(&store).await?;
    let key = local_key(
        &store,
        &args.store.data_dir.join("agent-key"),
        &owner,
        "agent of `slipway up`",
    )
    .await?;
    let stop = CancellationToken::new();
    let server = tokio::spawn(listening.run(stop.clone().cancelled_owned()));
    let served = with_agent(&args, &url, &owner, key, &signals).await;
    if let (Ok(end), false) = (&served, signals.first.is_cancelled()) {
        match end {
            AgentEnd::Drained => output::note(format!(
                "the agent was drained and has ended; {url} goes on serving, and the next start of `slipway up` takes \
                 jobs again"
            )),
            AgentEnd::Replaced(told) => output::warn(format!(
                "{told}. {url} goes on serving, and `slipway up` runs no jobs any more: start the other agent with a \
                 `--name` of its own, then `slipway up` again, which takes its name back"
            )),
        }
        signals.first.cancelled().await;
    }
    stop.cancel();
    server
        .await
        .map_err(|error| Error::failure(format!("the server ended badly: {error}")))?;
    served.map(drop)
}

async fn with_agent(args: &UpArgs, url: &str, owner: &str, key: String, signals: &Signals) -> Result<AgentEnd> {
    let client = client(url.to_owned(), key)?;
    if client.queue(owner, QUEUE_PROJECT, QUEUE).await?.is_none() {
        let document = QueueDocument::new(QUEUE, "local-process");
        client.upsert_queue(&document.upsert(owner)?).await?;
    }
    let mut config = AgentConfig {
        entity: Some(owner.to_owned()),
        queues: vec![QUEUE.to_owned()],
        name: Some("up".to_owned()),
        max_jobs: args.max_jobs,
        ..AgentConfig::default()
    };
    config.process.enabled = true;
    // The name is this installation's own, whatever address its server has this time.
    let take_over = true;
    let agent = new_agent(config, client, args.store.data_dir.join("agent"), take_over)?;
    output::note(format!(
        "serving {url}, and jobs of queue `{owner}/{QUEUE}` on this machine"
    ));
    match attend(agent, signals).await {
        Ok(()) => Ok(AgentEnd::Drained),
        Err(error @ AgentError::Replaced { .. }) => Ok(AgentEnd::Replaced(error.to_string())),
        Err(error) => Err(agent_error(error)),
    }
}

/// The admin who has been there longest: those who come later do not change whose agent it is.
async fn first_admin(store: &Store) -> Result<String> {
    let users = store.users().await?;
    // A service account owns no queue.
    let serves = |user: &User| user.admin && !user.disabled && user.service_of.is_none();
    let admins = users.into_iter().filter(serves);
    admins
        .min_by_key(|user| (user.created_at, user.id))
        .map(|user| user.username)
        .ok_or_else(|| {
            Error::failure("no user administers this installation")
                .with_hint("make one with `slipway user create NAME --admin`")
        })
}
