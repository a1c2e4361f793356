//! `slipway launch` without a queue: a job on this machine.
//!
//! The command itself looks after the job and ends with its exit code. With `--async` it starts this
//! program once more, in a session of its own, to look after the job in its place (`slipway look-after`),
//! and returns once the job has started. The two speak through pipes: the order goes to standard input,
//! one line of [`News`] comes back. As long as the job has not started, the end of the one that waits
//! ends the other.

use std::cell::Cell;
use std::convert::Infallible;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slipway_agent::Agent;
use slipway_client::Client;
use slipway_model::agent_config::{AgentConfig, ProcessTarget, ResourceArgsPolicy};
use slipway_model::id::RunName;
use slipway_model::run::check_run_id;
use slipway_model::spec::LaunchSpec;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::job::run_name;
use super::launch_agent::{default_state_directory, new_agent};
use crate::config::files::cannot;
use crate::context::Context;
use crate::exit::{Error, Result};
use crate::output::{self, Format, table};
use crate::telemetry::{self, LogFormat};

/// How often a server is asked whether a run that was let go is to stop.
const STOP_POLL: Duration = Duration::from_secs(10);

/// The project of a spec that names none.
const DEFAULT_PROJECT: &str = "uncategorized";

/// What the one who looks after a job is to do.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    spec: Value,
    entity: String,
}

/// What becomes of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum News {
    Started,
    Failed(Error),
}

/// Runs a job here, in a container unless the spec says otherwise.
pub(crate) async fn run(mut spec: Value, entity: &str, detach: bool, context: &Context) -> Result<ExitCode> {
    // The agent would choose the run's id too late for anybody to hear of it.
    if spec.get("run_id").is_none_or(Value::is_null) {
        spec["run_id"] = json!(run_name());
    }
    let run = run_of(&spec, entity)?;
    let page = format!(
        "{}/{}/{}/runs/{}",
        context.client.base_url(),
        run.entity,
        run.project,
        run.run
    );
    if detach {
        let order = Order {
            spec,
            entity: entity.to_owned(),
        };
        return let_go(order, &run, page, context).await;
    }
    output::note(format!("run {run}\n{page}"));
    telemetry::install_around_a_job(match context.format {
        Format::Json => LogFormat::Json,
        Format::Table => LogFormat::Text,
    })?;
    let (heard, interrupts) = unbounded_channel();
    heed_signals(heard)?;
    let exit = agent(context)?
        .launch_here(
            spec,
            entity,
            || {},
            |piece| output::bytes(context.format, piece),
            interrupts,
        )
        .await
        .map_err(|error| Error::failure(error.to_string()))?;
    if context.format == Format::Json {
        output::json(&json!({"run": run.to_string(), "page": page, "exitCode": exit.code()}))?;
    }
    judge(exit.code()).map(|()| ExitCode::SUCCESS)
}

fn judge(code: Option<i32>) -> Result<()> {
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(Error::job_ended(
            Some(code.into()),
            format!("the job ended with code {code}"),
        )),
        None => Err(Error::job_ended(None, "the job ended without an exit code")),
    }
}

/// Where the run goes, as an agent reads the spec.
fn run_of(spec: &Value, entity: &str) -> Result<RunName> {
    let spec = LaunchSpec::from_value(spec.clone()).map_err(|error| Error::usage(error.to_string()))?;
    spec.run_id()
        .map_or(Ok(()), check_run_id)
        .map_err(|error| Error::usage(format!("`/run_id`: {error}")))?;
    Ok(RunName {
        entity: spec.entity().unwrap_or(entity).to_owned(),
        project: spec.run_project().unwrap_or_else(|| DEFAULT_PROJECT.to_owned()),
        run: spec.run_id().unwrap_or_default().to_owned(),
    })
}

/// Whoever starts a job here owns both the machine and the arguments.
fn agent(context: &Context) -> Result<Agent> {
    let config = AgentConfig {
        resource_args_policy: ResourceArgsPolicy::Trust,
        process: ProcessTarget {
            enabled: true,
            ..ProcessTarget::default()
        },
        ..AgentConfig::default()
    };
    new_agent(config, context.client.clone(), default_state_directory()?, false)
}

/// Nobody else knows of the job: it ends with whoever looks after it, however that ends. Passes each signal
/// on.
fn heed_signals(heard: UnboundedSender<()>) -> Result<()> {
    let heed = |kind| signal(kind).map_err(|error| Error::failure(format!("cannot listen for signals: {error}")));
    let mut interrupt = heed(SignalKind::interrupt())?;
    let mut terminate = heed(SignalKind::terminate())?;
    let mut hangup = heed(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if heard.send(()).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Starts the one who looks after the job, and waits until the job has started.
async fn let_go(order: Order, run: &RunName, page: String, context: &Context) -> Result<ExitCode> {
    let log = default_state_directory()?.join("here").join(format!("{}.log", run.run));
    let mut child = start(&log, context.client.base_url())?;
    let pid = child.id();
    let news = tokio::task::spawn_blocking(move || hand_over(&mut child, &order)).await;
    match news.ok().flatten() {
        Some(News::Started) => {}
        Some(News::Failed(error)) => {
            // It holds nothing but this error.
            let _ = fs::remove_file(&log);
            return Err(error);
        }
        None => {
            return Err(
                Error::failure("the process that was to look after the job ended at once")
                    .with_hint(format!("see `{}`", log.display())),
            );
        }
    }
    let told = json!({"run": run.to_string(), "page": page, "pid": pid, "output": log});
    context.print(&told, |_| {
        table::facts([
            ("run", Some(run.to_string())),
            ("page", Some(page)),
            ("output", Some(log.display().to_string())),
            ("stop", Some(format!("`slipway run stop {run}`, or `kill {pid}`"))),
        ])
    })?;
    Ok(ExitCode::SUCCESS)
}

fn start(log: &Path, server: &str) -> Result<Child> {
    let program = std::env::current_exe()
        .map_err(|error| Error::failure(format!("cannot find this program's own file: {error}")))?;
    let folder = log.parent().map(PathBuf::from).unwrap_or_default();
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| cannot("create", &folder, &error))?;
    let file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(log);
    let file = file.map_err(|error| cannot("open", log, &error))?;
    Command::new(program)
        .args(["look-after", "--host", server])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(file)
        .spawn()
        .map_err(|error| Error::failure(format!("cannot start the process that looks after the job: {error}")))
}

/// Gives the order and waits for the news; none if the other one ended without any.
fn hand_over(child: &mut Child, order: &Order) -> Option<News> {
    // Its end, when this process ends, tells the other one that nobody waits any more.
    let mut orders = child.stdin.take()?;
    let text = serde_json::to_string(order).ok()?;
    writeln!(orders, "{text}").ok()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

/// Looks after a job that was let go: its output goes to standard error, which is the log.
pub(crate) async fn look_after(connect: impl FnOnce() -> Result<Context>) -> Result<()> {
    // A session of its own: the terminal's end, and Ctrl-C in it, are for others. It is no leader of one yet.
    let _ = rustix::process::setsid();
    let started = Cell::new(false);
    let ended = see_through(connect, &started).await;
    match &ended {
        Ok(()) => output::note("the job ended with code 0"),
        Err(_) if started.get() => {}
        Err(error) => {
            tell(&News::Failed(error.clone()));
        }
    }
    ended
}

async fn see_through(connect: impl FnOnce() -> Result<Context>, started: &Cell<bool>) -> Result<()> {
    let mut text = String::new();
    let read = std::io::stdin().read_line(&mut text);
    read.map_err(|error| Error::failure(format!("cannot read what to do: {error}")))?;
    let order: Order =
        serde_json::from_str(&text).map_err(|error| Error::failure(format!("cannot read what to do: {error}")))?;
    let context = connect()?;
    let run = run_of(&order.spec, &order.entity)?;
    let (heard, interrupts) = unbounded_channel();
    heed_signals(heard.clone())?;
    let nobody = end_of_orders();
    let ended_by_others = async {
        tokio::select! {
            () = run_is_to_stop(&context.client, &run) => {}
            () = async {
                let _ = nobody.await;
                if started.get() {
                    std::future::pending::<()>().await;
                }
            } => {}
        }
        let _ = heard.send(());
        std::future::pending::<Infallible>().await
    };
    let agent = agent(&context)?;
    let job = agent.launch_here(
        order.spec,
        &order.entity,
        || started.set(tell(&News::Started)),
        |piece| output::bytes(Format::Json, piece),
        interrupts,
    );
    let exit = tokio::select! {
        exit = job => exit.map_err(|error| Error::failure(error.to_string()))?,
        never = ended_by_others => match never {},
    };
    judge(exit.code())
}

/// Tells the one who waits; whether that worked.
fn tell(news: &News) -> bool {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", json!(news))
        .and_then(|()| stdout.flush())
        .is_ok()
}

/// Resolves when standard input ends. A thread of its own does not hold up the end of the process.
fn end_of_orders() -> tokio::sync::oneshot::Receiver<()> {
    let (ended, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        let _ = ended.send(());
    });
    receiver
}

/// Resolves when somebody asked the run to stop. A server that cannot be reached did not.
async fn run_is_to_stop(client: &Client, run: &RunName) {
    let client = client.with_retry(slipway_client::Retry::Never);
    loop {
        tokio::time::sleep(STOP_POLL).await;
        let asked = client.run_stopped(&run.entity, &run.project, &run.run).await;
        if asked.unwrap_or_default() {
            return;
        }
    }
}
