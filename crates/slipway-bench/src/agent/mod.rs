//! Agents: how soon one is there, what it weighs, how soon a job starts and stops with it; ours, and the
//! official one on the same server with the same work.
//!
//! The rows of `agent` need nothing but the server. Those of `docker` need an engine, and those of the
//! official agent its client: what is missing is left out, and that is said.

mod engine;
mod process;
mod queue;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rand::RngExt as _;
use serde_json::{Value, json};

use self::engine::{Engine, Starts};
use self::process::{Agent, Whose};
use self::queue::{PROJECT, Watched};
use crate::report::{Pair, Report, Row, complain};
use crate::server::{self, Database, Server, USER};

/// How long work of a few seconds may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long an agent is left alone before its idle memory is read.
const REST: Duration = Duration::from_secs(3);

/// How often the official agent looks for work.
const OFFICIAL_POLL: Duration = Duration::from_secs(10);

/// Jobs at once of an agent that runs containers.
const CONTAINERS_AT_ONCE: usize = 4;

/// The job of the processes, and its program: it writes its number to a file, and sleeps.
const JOB: &str = "bench/bench/sleeper:latest";
const PROCESS_JOB: &str = "echo $$ >\"$1.new\" && mv \"$1.new\" \"$1\" && exec sleep 900\n";

/// A job that makes a run and ends it, in the two calls that the official library makes for that.
const CONTAINER_JOB: &str = r#"
key=$(printf 'api:%s' "$WANDB_API_KEY" | base64 -w 0)
call() {
  wget -q -O /dev/null --header "Authorization: Basic $key" --header 'Content-Type: application/json' \
    --post-data "$2" "$WANDB_BASE_URL$1"
}
document='mutation UpsertBucket($name: String, $project: String, $entity: String) {'
document="$document upsertBucket(input: {name: \$name, modelName: \$project, entityName: \$entity}) { bucket { id } } }"
call /graphql '{"query": "'"$document"'", "variables": {
  "name": "'"$WANDB_RUN_ID"'", "project": "'"$WANDB_PROJECT"'", "entity": "'"$WANDB_ENTITY"'"}}' &&
call "/files/$WANDB_ENTITY/$WANDB_PROJECT/$WANDB_RUN_ID/file_stream" '{"complete": true, "exitcode": 0, "files": {}}'
"#;

/// Sizes of the rows of agents.
#[derive(Debug, Args)]
pub(crate) struct AgentArguments {
    /// Jobs that one agent has at once in the rows of its memory and of cancelling
    #[arg(long, default_value_t = 200)]
    jobs: usize,
    /// Starts of an agent
    #[arg(long, default_value_t = 20)]
    starts: usize,
    /// Containers pushed one by one, and twice as many at once; the official agent gets a sixth
    #[arg(long, default_value_t = 30)]
    containers: usize,
    /// The official client, whose agent is measured beside ours
    #[arg(long, default_value = ".cache/venv-0.31/bin/wandb")]
    official: PathBuf,
}

/// Measures agents on a server of their own, on SQLite.
pub(crate) async fn measure(
    arguments: &AgentArguments,
    binary: &Path,
    dir: &Path,
    report: &mut Report,
    wants: impl Fn(&str) -> bool,
) -> Result<()> {
    let binary = &std::fs::canonicalize(binary).with_context(|| {
        let path = binary.display();
        format!("{path} is not there; build it with `cargo build --release -p slipway`")
    })?;
    let server = server::start(binary, dir, &Database::Sqlite).await?;
    let mut bench = Bench {
        arguments,
        binary,
        server: &server,
        report,
    };
    if wants("agent") {
        bench.jobs().await?;
    }
    if wants("agent") || wants("docker") {
        bench.beside_the_official_one(wants("agent"), wants("docker")).await?;
    }
    server.stop()
}

struct Bench<'a> {
    arguments: &'a AgentArguments,
    binary: &'a Path,
    server: &'a Server,
    report: &'a mut Report,
}

/// What one agent came to. Times in milliseconds.
struct Figures {
    ready: f64,
    idle_mib: f64,
    containers: Option<Containers>,
}

struct Containers {
    started: f64,
    per_minute: f64,
}

impl Bench<'_> {
    /// Memory and cancelling with many jobs, which are processes that sleep.
    async fn jobs(&mut self) -> Result<()> {
        let (count, ours) = (self.arguments.jobs, Whose::Ours);
        let label = ours.label();
        let mut queue = Watched::create(self.server, "jobs", "local-process", &json!({})).await?;
        let (mut agent, _) = Agent::start(ours, self.binary, self.server, &mut queue, count).await?;
        let pids = tempfile::Builder::new().prefix("pids-").tempdir()?;
        self.make_job()?;
        let meter = self.server.meter()?;
        let mut items = Vec::with_capacity(count);
        for number in 0..count {
            let path = pids.path().join(number.to_string());
            let job = json!({"job": JOB, "overrides": {"args": [path]}});
            items.push((queue.push(&job).await?, path));
        }
        let running = |counts: queue::Counts| counts.running == count as u64;
        queue.wait("every job to run", PATIENCE, running).await?;
        let what = format!("{count} jobs pushed one by one → all running");
        let took = format!("{:.1} s", meter.elapsed().as_secs_f64());
        self.report.add(Row::text(label, &what, took, meter.used()?));

        let meter = self.server.meter()?;
        tokio::time::sleep(REST).await;
        agent.require_running()?;
        let used = meter.used()?;
        let memory = format!("{:.1} MiB", agent.resident_mib()?);
        self.report
            .add(Row::text(label, &format!("memory with {count} jobs"), memory, used));
        let (shims, resident, share) = agent.shims()?;
        let memory = format!(
            "{shims} shims: {:.1} MiB each, of which {:.2} MiB its own share",
            resident / 1024.0,
            share / 1024.0
        );
        self.report
            .add(Row::text(label, "memory of the jobs' shims", memory, used));

        let meter = self.server.meter()?;
        let mut times = Vec::with_capacity(count);
        for (item, path) in &items {
            times.push(cancel(&mut queue, item, path).await?);
        }
        times.sort_unstable();
        self.report
            .add(Row::cancels(label, "cancel → the job is gone", &times, meter.used()?));
        queue.wait_empty(PATIENCE).await?;
        agent.stop().await
    }

    /// Makes the job that the processes run.
    fn make_job(&self) -> Result<()> {
        let home = tempfile::Builder::new().prefix("job-").tempdir()?;
        let code = home.path().join("code");
        std::fs::create_dir(&code)?;
        std::fs::write(code.join("job.sh"), PROCESS_JOB)?;
        let made = Command::new(self.binary)
            .args([
                "job",
                "create",
                "code",
                "--entity",
                USER,
                "--project",
                PROJECT,
                "--name",
                "sleeper",
            ])
            .args(["--entry-point", "sh job.sh", "--runtime", "3.11"])
            .arg(&code)
            .env_clear()
            .env("HOME", home.path())
            .env("WANDB_BASE_URL", format!("http://{}", self.server.address()))
            .env("WANDB_API_KEY", self.server.key())
            .output()
            .context("running `slipway job create`")?;
        if !made.status.success() {
            bail!("the job could not be made: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(())
    }

    /// Ours and the official agent, one after the other, with the same work.
    async fn beside_the_official_one(&mut self, starts: bool, containers: bool) -> Result<()> {
        let engine = match containers.then(Engine::find) {
            Some(found) => found
                .await
                .inspect_err(|error| complain(&format!("leaving the rows of containers out: {error:#}")))
                .ok(),
            None => None,
        };
        if engine.is_none() && !starts {
            return Ok(());
        }
        let measured = self.both(engine.as_ref()).await;
        if let Some(engine) = engine {
            engine.close().await?;
        }
        measured
    }

    async fn both(&mut self, engine: Option<&Engine>) -> Result<()> {
        let binary = self.binary.to_owned();
        let ours = self.figures(Whose::Ours, &binary, engine).await?;
        let Some(official) = process::official(&self.arguments.official) else {
            complain(&format!(
                "leaving the official agent out: there is no {}; get it with: scripts/venv.sh 0.31",
                self.arguments.official.display()
            ));
            return Ok(());
        };
        let theirs = self.figures(Whose::Official, &official, engine).await?;
        self.compare(&ours, &theirs);
        Ok(())
    }

    fn compare(&mut self, ours: &Figures, theirs: &Figures) {
        let mut pair = |what, unit, ours, theirs| {
            self.report.pair(Pair {
                what,
                unit,
                ours,
                theirs,
            })
        };
        pair("start → its queue is active", "ms", ours.ready, theirs.ready);
        pair("idle memory", "MiB", ours.idle_mib, theirs.idle_mib);
        if let (Some(ours), Some(theirs)) = (&ours.containers, &theirs.containers) {
            pair(
                "push answered → container started, p50",
                "ms",
                ours.started,
                theirs.started,
            );
            pair("containers a minute", "/min", ours.per_minute, theirs.per_minute);
        }
    }

    async fn figures(&mut self, whose: Whose, binary: &Path, engine: Option<&Engine>) -> Result<Figures> {
        let label = whose.label();
        let starts = self.size(whose, self.arguments.starts);
        let mut times = Vec::with_capacity(starts);
        let meter = self.server.meter()?;
        for number in 0..starts {
            // Each has a queue of its own: that of an agent which has ended may count as active for a while.
            let mut queue = self.queue(&format!("{label} start {number}")).await?;
            let (agent, took) = Agent::start(whose, binary, self.server, &mut queue, CONTAINERS_AT_ONCE).await?;
            times.push(took);
            agent.stop().await?;
        }
        times.sort_unstable();
        let row = Row::times(label, "start → its queue is active", &times, meter.used()?);
        let ready = row.p50();
        self.report.add(row);

        let mut queue = self.queue(label).await?;
        let (mut agent, _) = Agent::start(whose, binary, self.server, &mut queue, CONTAINERS_AT_ONCE).await?;
        let meter = self.server.meter()?;
        tokio::time::sleep(REST).await;
        agent.require_running()?;
        let idle_mib = agent.resident_mib()?;
        let row = Row::text(label, "idle memory", format!("{idle_mib:.1} MiB"), meter.used()?);
        self.report.add(row);
        let containers = match engine {
            Some(engine) => Some(self.containers(whose, engine, &mut queue).await?),
            None => None,
        };
        agent.stop().await?;
        Ok(Figures {
            ready,
            idle_mib,
            containers,
        })
    }

    async fn queue(&self, name: &str) -> Result<Watched> {
        let name = name.replace(' ', "-");
        Watched::create(self.server, &name, "local-container", &json!({})).await
    }

    /// The official agent waits for seconds where ours waits for milliseconds.
    fn size(&self, whose: Whose, size: usize) -> usize {
        match whose {
            Whose::Ours => size,
            Whose::Official => size.div_ceil(6),
        }
    }

    async fn containers(&mut self, whose: Whose, engine: &Engine, queue: &mut Watched) -> Result<Containers> {
        let label = whose.label();
        let count = self.size(whose, self.arguments.containers);
        let mut starts = engine.starts().await?;
        let mut times = Vec::with_capacity(count);
        let meter = self.server.meter()?;
        for number in 0..count {
            if whose == Whose::Official {
                // Otherwise each push would come right after a look for work.
                let wait = rand::rng().random_range(0.0..1.0);
                tokio::time::sleep(OFFICIAL_POLL.mul_f64(wait)).await;
            }
            queue.push(&container(engine, number)).await?;
            let pushed = Instant::now();
            next(&mut starts).await?;
            times.push(pushed.elapsed());
            queue.wait_empty(PATIENCE).await?;
        }
        times.sort_unstable();
        let row = Row::times(label, "push answered → container started", &times, meter.used()?);
        let started = row.p50();
        self.report.add(row);

        let count = 2 * count;
        let meter = self.server.meter()?;
        for number in 0..count {
            queue.push(&container(engine, 1_000_000 + number)).await?;
        }
        for _ in 0..count {
            next(&mut starts).await?;
        }
        queue.wait_empty(PATIENCE).await?;
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let per_minute = count as f64 * 60.0 / meter.elapsed().as_secs_f64();
        let what = format!("containers a minute, {CONTAINERS_AT_ONCE} at once");
        let row = Row::text(label, &what, format!("{per_minute:.0}/min"), meter.used()?);
        self.report.add(row);
        Ok(Containers { started, per_minute })
    }
}

/// A job as a container. Each says something of its own: a push that is sent twice is taken for one.
fn container(engine: &Engine, number: usize) -> Value {
    json!({"name": format!("container {number}"), "docker": {"docker_image": engine.image()},
        "overrides": {"args": ["sh", "-c", CONTAINER_JOB]}})
}

async fn next(starts: &mut Starts) -> Result<()> {
    let limit = format!("no container started within {} s", PATIENCE.as_secs());
    tokio::time::timeout(PATIENCE, starts.next()).await.context(limit)?
}

/// Cancels an item; how long its process lived on from then. The process has written its number to a file.
async fn cancel(queue: &mut Watched, item: &str, path: &Path) -> Result<Duration> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let pid = text.trim().parse().context("a process's number")?;
    let began = Instant::now();
    queue.cancel(item).await?;
    while process::lives(pid) {
        if began.elapsed() > PATIENCE {
            bail!("the process {pid} of a cancelled item lives on");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(began.elapsed())
}
