//! `slipway-bench`: the budgets of the queue, measured over HTTP on a real server.
//!
//! It starts the server binary that it is given, on each store, with a fresh data directory, and
//! drives it from this process on the same machine: the load's own processor time is part of every
//! row. Peers are programs of their own, run on the same PostgreSQL. Nothing here judges: it prints
//! what it saw, the disk first.

mod agent;
mod connection;
mod disk;
mod load;
mod report;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::report::{Report, Row};
use crate::server::Database;

/// Measures a Slipway server over HTTP, and its peers in the same run.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
struct Arguments {
    /// The server binary; build it with `cargo build --release -p slipway`
    #[arg(long, default_value = "target/release/slipway")]
    server: PathBuf,
    /// Where data directories are made; the disk that is measured
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// Also measure on this PostgreSQL (postgres://…), which every durability setting must protect
    #[arg(long, env = "BENCH_POSTGRES_URL")]
    postgres: Option<String>,
    /// A peer to run on the same PostgreSQL: a command that prints one JSON object
    #[arg(long = "peer")]
    peers: Vec<String>,
    /// Items pushed one by one, and again in bulks
    #[arg(long, default_value_t = 20_000)]
    items: usize,
    /// Items of the deep store, over a thousand queues
    #[arg(long, default_value_t = 1_000_000)]
    deep: usize,
    /// The same on PostgreSQL
    #[arg(long, default_value_t = 1_000_000)]
    deep_postgres: usize,
    /// Agents that work at once in the rows of work
    #[arg(long, default_value_t = 8)]
    workers: usize,
    /// Items in each of their calls; a call takes at most 1,000
    #[arg(long, default_value_t = 1_000)]
    batch: usize,
    /// Idle agents that stay connected
    #[arg(long, default_value_t = 10_000)]
    agents: usize,
    /// Write the figures as JSON here too
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    agent: agent::AgentArguments,
    /// Only these rows: latency, push, work, deep, idle, agent, docker
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

impl Arguments {
    fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == row)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    server::raise_file_limit()?;
    std::fs::create_dir_all(&arguments.dir).with_context(|| format!("making {}", arguments.dir.display()))?;
    let mut report = Report::new(disk::measure(&arguments.dir)?);
    report.print_head();

    let mut databases = vec![Database::Sqlite];
    databases.extend(arguments.postgres.clone().map(Database::Postgres));
    for database in databases {
        measure(&arguments, &database, &mut report).await?;
    }
    if arguments.wants("agent") || arguments.wants("docker") {
        let (sizes, wants) = (&arguments.agent, |row: &str| arguments.wants(row));
        agent::measure(sizes, &arguments.server, &arguments.dir, &mut report, wants).await?;
    }
    if let Some(url) = &arguments.postgres {
        for peer in &arguments.peers {
            report.peer(load::peer(peer, url, arguments.items)?);
        }
    }
    report.print_ratios();
    if let Some(path) = &arguments.json {
        std::fs::write(path, report.to_json()).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

async fn measure(arguments: &Arguments, database: &Database, report: &mut Report) -> Result<()> {
    let store = database.label();
    if arguments.wants("latency") || arguments.wants("push") || arguments.wants("work") {
        let server = server::start(&arguments.server, &arguments.dir, database).await?;
        let queue = load::Queue::create(&server, "bench").await?;
        if arguments.wants("latency") {
            let latency = load::latency(&server, &queue, 1_000).await?;
            let (answered, sent) = (&latency.answered, &latency.sent);
            report.add(Row::times(
                store,
                "push answered → item at an idle agent",
                answered,
                latency.used,
            ));
            report.add(Row::times(
                store,
                "push sent → item at an idle agent",
                sent,
                latency.used,
            ));
        }
        if arguments.wants("push") || arguments.wants("work") {
            let (rate, used) = load::push_single(&server, &queue, arguments.items, 64).await?;
            report.add(Row::rate(
                store,
                "durable enqueue, single calls, 64 clients",
                rate,
                used,
            ));
            let (rate, used) = load::push_bulk(&server, &queue, arguments.items.max(1_000) * 4, 1_000, 4).await?;
            report.add(Row::rate(store, "durable enqueue, bulks of 1,000", rate, used));
        }
        if arguments.wants("work") {
            let half = (arguments.items + arguments.items.max(1_000) * 4) / 2;
            for (steps, what) in [
                (load::Steps::Three, "lease, start, finish in batches"),
                (load::Steps::Four, "lease, acknowledge, start, finish in batches"),
            ] {
                let (batch, workers) = (arguments.batch, arguments.workers);
                let (rate, used) = load::work(&server, &queue, steps, half, batch, workers).await?;
                report.add(Row::rate(store, what, rate, used));
            }
            let (rate, used) =
                load::life_cycle(&server, &queue, arguments.items * 4, arguments.batch, arguments.workers).await?;
            report.add(Row::rate(store, "whole life cycle with its push", rate, used));
        }
        server.stop()?;
    }
    if arguments.wants("deep") {
        deep(arguments, database, report).await?;
    }
    if arguments.wants("idle") {
        let server = server::start(&arguments.server, &arguments.dir, database).await?;
        let queue = load::Queue::create(&server, "bench").await?;
        let idle = load::idle_agents(&server, &queue, arguments.agents).await?;
        report.add(Row::text(
            store,
            &format!("{} connected idle agents", arguments.agents),
            format!("{:.1} % of a core, {:.1} KiB each", idle.core_percent, idle.kib_each),
            idle.used,
        ));
        server.stop()?;
    }
    Ok(())
}

async fn deep(arguments: &Arguments, database: &Database, report: &mut Report) -> Result<()> {
    let store = database.label();
    let items = match database {
        Database::Sqlite => arguments.deep,
        Database::Postgres(_) => arguments.deep_postgres,
    };
    let mut server = server::start(&arguments.server, &arguments.dir, database).await?;
    let mut queues = Vec::new();
    for number in 0..1_000 {
        queues.push(load::Queue::create(&server, &format!("deep-{number}")).await?);
    }
    // The same agent on the same queues both times: only the depth differs.
    load::fill(&server, &queues, 10_000).await?;
    disk::settle();
    let (shallow, used) = load::pops(&server, &queues, 1_000).await?;
    report.add(Row::times(
        store,
        "pop, 10 items in each of 1,000 queues",
        &shallow,
        used,
    ));

    let (rate, used) = load::fill(&server, &queues, items).await?;
    report.add(Row::rate(
        store,
        &format!("filling {items} items over 1,000 queues"),
        rate,
        used,
    ));
    disk::settle();
    let (deep, used) = load::pops(&server, &queues, 1_000).await?;
    report.add(Row::times(
        store,
        &format!("pop, {items} items over 1,000 queues"),
        &deep,
        used,
    ));
    report.add(Row::text(
        store,
        "server memory then",
        format!("{:.0} MiB", server.resident_mib()?),
        used,
    ));
    let took = server.restart().await?;
    report.add(Row::text(
        store,
        "restart to ready then",
        format!("{:.2} s", took.as_secs_f64()),
        used,
    ));
    server.stop()
}
