//! `slipway launch-agent`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use slipway_agent::{Agent, AgentError, AgentOptions, CheckReport, End};
use slipway_client::{Client, ClientOptions, Retry};
use slipway_model::address::HostPort;
use slipway_model::agent_config::{AgentConfig, Flags, Resolved, Source, resolve};
use tokio_util::task::AbortOnDropHandle;

use super::server::Signals;
use crate::completion;
use crate::config::connection::{Configuration, ConnectionArgs};
use crate::context::{GlobalArgs, non_empty};
use crate::exit::{Error, Result};
use crate::input;
use crate::output::{self, Format, table};
use crate::telemetry::{self, LogArgs};

/// What to do without a key.
const KEY_HINT: &str = "run `slipway login`, or set `WANDB_API_KEY`";

/// Flags of `slipway launch-agent`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  slipway launch-agent -q gpu -q cpu -j 4
  slipway launch-agent --config launch-config.yaml --check

SIGTERM or Ctrl-C drains: the agent takes nothing new and ends when its jobs have ended. A second
signal ends it at once; its jobs go on, and the next agent of the same name takes them over.")]
pub(crate) struct LaunchAgentArgs {
    /// A queue to serve; repeatable [default: those of the configuration file]
    #[arg(long = "queue", short, value_name = "QUEUE", add = completion::queues())]
    queues: Vec<String>,
    /// The owner of the queues [default: the API key's]
    #[arg(long, short, value_name = "ENTITY")]
    entity: Option<String>,
    /// How many jobs run at once; -1 for no limit
    #[arg(long, short = 'j', allow_negative_numbers = true, value_name = "N")]
    max_jobs: Option<i64>,
    /// The configuration file, or a folder that holds `launch-config.yaml`
    /// [default: ~/.config/wandb/launch-config.yaml]
    #[arg(long, short, env = "SLIPWAY_AGENT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Log to this file; `-` is standard output [default: standard error]
    #[arg(long, short, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Say more; repeatable
    #[arg(long, short, action = clap::ArgAction::Count)]
    verbose: u8,
    /// The agent's name, by which a later start continues its work [default: kept from the first start]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Answer `/healthz`, `/readyz` and `/metrics` at this address, such as 127.0.0.1:8087
    #[arg(long, value_name = "HOST:PORT")]
    health_address: Option<HostPort>,
    /// Where the agent keeps its name, its jobs and their code [default: ~/.local/state/slipway/agent]
    #[arg(long, env = "SLIPWAY_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Take the name even from an agent that is alive, and jobs that it left for another server address
    #[arg(long)]
    take_over: bool,
    /// Only look whether everything is there that the agent needs
    #[arg(long)]
    check: bool,
    /// Not supported any more, as in the official client
    #[arg(long, short, hide = true, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs an agent until it is drained.
pub(crate) async fn run(args: LaunchAgentArgs, connection: &ConnectionArgs, global: &GlobalArgs) -> Result<()> {
    if args.url.is_some() {
        return Err(Error::usage("`--url` is not supported any more").with_hint("name queues with `--queue`"));
    }
    let configuration = Configuration::load()?;
    let (place, resolved) = agent_config(&args, &configuration)?;
    telemetry::install_to(&args.log, args.log_file.as_deref(), resolved.config.verbosity)?;
    for warning in &resolved.warnings {
        output::warn(format!("{place}: {warning}"));
    }
    let base_url = configuration.base_url(connection)?;
    let told = told(&place, &resolved);
    let mut report = CheckReport::default();
    report.add("config", Ok(told.clone()));
    let Some(key) = configuration.api_key(&base_url)? else {
        if args.check {
            let missing = format!("no API key for {base_url}; {KEY_HINT}");
            report.add("server", Err(missing));
            return print(&report, global.output);
        }
        let missing = Error::new(crate::exit::Exit::Refused, format!("no API key for {base_url}"));
        return Err(missing.with_hint(KEY_HINT));
    };
    let state_directory = match args.state_dir {
        Some(dir) => dir,
        None => default_state_directory()?,
    };
    let agent = new_agent(resolved.config, client(base_url, key)?, state_directory, args.take_over)?;
    if args.check {
        report.checks.extend(agent.check().await.checks);
        return print(&report, global.output);
    }
    output::note(format!("configured by {told}"));
    serve(agent, &Signals::watch()?).await
}

/// Where the configuration comes from: the file, and what is stronger than it.
fn told(place: &str, resolved: &Resolved) -> String {
    let stronger = resolved.sources.iter().filter_map(|(key, source)| match source {
        Source::Environment(_) | Source::Flag(_) => Some(format!("{key} by {source}")),
        Source::Default | Source::File { .. } => None,
    });
    std::iter::once(place.to_owned())
        .chain(stronger)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Prints what was found of what an agent needs.
fn print(report: &CheckReport, format: Format) -> Result<()> {
    let text = |result: &std::result::Result<String, String>| match result {
        Ok(text) | Err(text) => text.clone(),
    };
    match format {
        Format::Json => {
            let checks = report.checks.iter();
            let values = checks
                .map(|check| json!({"check": check.name, "ok": check.result.is_ok(), "found": text(&check.result)}));
            output::json(&values.collect::<Vec<_>>())?;
        }
        Format::Table => {
            let rows = report.checks.iter().map(|check| {
                let verdict = if check.result.is_ok() { "ok" } else { "wrong" };
                [check.name.clone(), verdict.to_owned(), text(&check.result)]
            });
            output::text_line(&table::table(["check", "result", "found"], rows))?;
        }
    }
    if report.passed() {
        return Ok(());
    }
    Err(Error::failure("the agent cannot serve its queues as it is configured"))
}

/// A client that waits for its server as long as it takes.
pub(crate) fn client(base_url: String, key: String) -> Result<Client> {
    Ok(Client::new(ClientOptions::new(base_url, Some(key)))?.with_retry(Retry::Forever))
}

/// An agent of this program.
pub(crate) fn new_agent(
    config: AgentConfig,
    client: Client,
    state_directory: PathBuf,
    take_over: bool,
) -> Result<Agent> {
    let program = std::env::current_exe()
        .map_err(|error| Error::failure(format!("cannot find this program's own file: {error}")))?;
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let options = AgentOptions {
        config,
        state_directory,
        hostname,
        version: concat!("slipway@", env!("CARGO_PKG_VERSION")).to_owned(),
        take_over,
        shim: vec![
            program.into_os_string(),
            OsString::from("shim"),
            OsString::from("--dir"),
        ],
    };
    Ok(Agent::new(options, client))
}

/// Runs an agent; the first signal drains it, the second one ends it.
pub(crate) async fn serve(agent: Agent, signals: &Signals) -> Result<()> {
    attend(agent, signals).await.map_err(agent_error)
}

/// As [`serve`], for those whom it concerns why an agent ended.
pub(crate) async fn attend(agent: Agent, signals: &Signals) -> std::result::Result<(), AgentError> {
    let handle = agent.handle();
    let (first, second) = (signals.first.clone(), signals.second.clone());
    // An agent that has ended is not told of a signal any more.
    let _told = AbortOnDropHandle::new(tokio::spawn(async move {
        first.cancelled().await;
        output::note("draining: taking nothing new; a second signal ends at once and leaves jobs running");
        handle.drain();
        second.cancelled().await;
        handle.leave();
    }));
    match agent.run().await? {
        End::Drained => output::note("every job has ended"),
        End::Left { jobs: 0 } => {}
        End::Left { jobs } => output::note(format!(
            "left {jobs} jobs running; the next agent of this name looks after them"
        )),
    }
    Ok(())
}

pub(crate) fn agent_error(error: AgentError) -> Error {
    match error {
        AgentError::Server { action, source } => Error::from(source).context(action),
        AgentError::MissingQueues { .. } => Error::not_found(error.to_string()),
        other => Error::failure(other.to_string()),
    }
}

/// The configuration, and where it comes from, for people.
fn agent_config(args: &LaunchAgentArgs, configuration: &Configuration) -> Result<(String, Resolved)> {
    let (text, place) = match &args.config {
        Some(path) => {
            let path = if path.is_dir() {
                path.join("launch-config.yaml")
            } else {
                path.clone()
            };
            (Some(input::text(&path.to_string_lossy())?), path)
        }
        None => {
            let path = configuration.files.agent_config.clone();
            let text = crate::config::files::read_or_empty(&path)?;
            ((!text.is_empty()).then_some(text), path)
        }
    };
    let place = match &text {
        Some(_) => format!("`{}`", place.display()),
        None => format!("no file (`{}` is absent or empty)", place.display()),
    };
    let flags = Flags {
        entity: non_empty(args.entity.as_deref()).map(str::to_owned),
        queues: args.queues.clone(),
        name: args.name.clone(),
        max_jobs: args.max_jobs,
        verbosity: args.verbose,
        health_address: args.health_address.clone(),
    };
    let variable = |name: &str| std::env::var(name).ok();
    let resolved =
        resolve(text.as_deref(), &variable, &flags).map_err(|error| Error::usage(format!("{place}: {error}")))?;
    Ok((place, resolved))
}

pub(crate) fn default_state_directory() -> Result<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let base = variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    base.map(|base| base.join(Path::new("slipway/agent"))).ok_or_else(|| {
        Error::usage("neither `HOME` nor `XDG_STATE_HOME` is set").with_hint("name a directory with `--state-dir`")
    })
}
