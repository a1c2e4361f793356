//! The launch page and the page of a queue: what runs, what waits and why.

use std::sync::Arc;

use axum::extract::State;
use maud::{Markup, html};
use slipway_model::agent::AgentStatus;
use slipway_model::item::ItemState;
use slipway_model::queue::{Prioritization, QUEUE_PROJECT, Resource, shell_word};
use slipway_model::spec::LaunchSpec;
use slipway_model::wait::{AgentLoad, WaitFacts, WaitReason, wait_reason};
use slipway_store::agents::Agent;
use slipway_store::items::{Item, ItemFilter};
use slipway_store::queues::{Queue, QueueCounts};

use super::format::{UNKNOWN, address, duration, moment};
use super::frame::{Frame, Live, Section};
use super::icons::{self, Status};
use super::visitor::{OfPage, Visitor};
use super::words::Language;
use super::{Page, PageResult};
use crate::access;
use crate::app::App;
use crate::error::ApiError;
use crate::http::extract::Path;

/// Items of each kind on a queue's page.
const ROWS: usize = 100;

/// How often these pages look again.
const REFRESH_SECONDS: u32 = 5;

/// A queue in the list.
struct QueueRow {
    queue: Queue,
    counts: QueueCounts,
    agents: Vec<AgentLoad>,
}

/// Every queue that the visitor sees.
pub(super) async fn home(State(app): State<Arc<App>>, visitor: Visitor) -> PageResult {
    let mut rows = Vec::new();
    for entity in access::readable_entities(&app.store, &visitor.principal).await? {
        let queues = app.store.queues(&entity, None).await?;
        let ids: Vec<_> = queues.iter().map(|queue| queue.id).collect();
        let counts = app.store.queue_counts(&ids).await?;
        let mut serving = app.store.agents_of_queues(&ids, visitor.now).await?;
        for (queue, counts) in queues.into_iter().zip(counts) {
            let agents = serving.remove(&queue.id).unwrap_or_default();
            let agents = agents.into_iter().map(|(_, load)| load).collect();
            rows.push(QueueRow { queue, counts, agents });
        }
    }
    let frame = Frame {
        visitor: &visitor,
        section: Section::Launch,
        title: "Launch",
        crumbs: Vec::new(),
        live: Live {
            seconds: Some(REFRESH_SECONDS),
            events: None,
        },
    };
    Ok(Page(frame.page(&home_body(&rows, &visitor))))
}

fn home_body(rows: &[QueueRow], visitor: &Visitor) -> Markup {
    let (language, now) = (visitor.language, visitor.now);
    let running: i64 = rows.iter().map(|row| row.counts.running + row.counts.starting).sum();
    let waiting: i64 = rows.iter().map(|row| row.counts.pending).sum();
    let oldest = rows.iter().filter_map(|row| row.counts.oldest_pending_at).min();
    let idle: Vec<&QueueRow> = rows
        .iter()
        .filter(|row| row.counts.pending > 0 && row.agents.is_empty() && !row.queue.paused)
        .collect();
    html! {
        div class="title" { h1 { "Launch" } }
        div class="stack" id="launch" data-live {
            @if rows.is_empty() {
                (first_steps(&visitor.principal.user.default_entity, language))
            } @else {
                section class="card numbers" aria-label="Now" {
                    div { span class="note" { (language.word("Running")) } b { (running) } }
                    div {
                        span class="note" { (language.word("Waiting")) }
                        b { (waiting) }
                        @if let Some(oldest) = oldest { span class="note" { (language.oldest(now - oldest)) } }
                    }
                    div { span class="note" { (language.word("Queues")) } b { (rows.len()) } }
                }
                @for row in idle { (no_agent_banner(&row.queue, row.counts.pending, language)) }
                section class="card" aria-labelledby="queues-title" {
                    header { h2 id="queues-title" { (language.word("Queues")) } }
                    div class="scroll" {
                        table class="list" {
                            thead {
                                tr {
                                    th { (language.word("Queue")) }
                                    th class="wide" { (language.word("Target")) }
                                    th { (language.word("State")) }
                                    th class="number" { (language.word("Running")) }
                                    th class="number" { (language.word("Waiting")) }
                                    th class="wide" { (language.word("Last success")) }
                                }
                            }
                            tbody { @for row in rows { (queue_row(row, visitor)) } }
                        }
                    }
                }
            }
        }
    }
}

fn queue_row(row: &QueueRow, visitor: &Visitor) -> Markup {
    let QueueRow { queue, counts, agents } = row;
    let slots: i64 = agents.iter().map(|agent| agent.max_jobs).sum();
    let limited = !agents.is_empty() && agents.iter().all(|agent| agent.max_jobs >= 0);
    html! {
        tr {
            td {
                a class="name" href=(queue_address(queue)) { (queue.name) }
                small { (queue.entity) }
            }
            td class="wide" { (target(queue)) }
            td { (queue_state(queue, !agents.is_empty(), visitor.language)) }
            td class="number" {
                (counts.running + counts.starting)
                @if limited { span class="note" { " / " (slots) } }
            }
            td class="number" {
                (counts.pending)
                @if let Some(oldest) = counts.oldest_pending_at { small { (visitor.language.oldest(visitor.now - oldest)) } }
            }
            td class="wide" {
                @match counts.last_success_at {
                    Some(at) => (moment(at, visitor.now, visitor.language)),
                    None => (UNKNOWN),
                }
            }
        }
    }
}

/// What to do on a server without queues.
fn first_steps(entity: &str, language: Language) -> Markup {
    html! {
        section class="card" aria-labelledby="first-title" {
            header { h2 id="first-title" { (language.word("First steps")) } }
            ol class="steps" {
                li { (language.word("Create a queue")) ": " code { "slipway queue create demo --resource local-container --entity " (shell_word(entity)) } }
                li { (language.word("Start an agent")) ": " code { "slipway launch-agent -q demo --entity " (shell_word(entity)) } }
                li {
                    (language.word("Launch a job")) ": "
                    code {
                        "slipway launch --queue demo --docker-image python:3.11-slim --project demo --entity "
                        (shell_word(entity))
                    }
                }
            }
        }
    }
}

fn no_agent_banner(queue: &Queue, waiting: i64, language: Language) -> Markup {
    let queue_name = queue.full_name();
    html! {
        div class="banner warning" {
            (icons::warning())
            div {
                b { (language.unserved(&queue.name, waiting)) }
                @match queue_name.agent_command() {
                    Some(command) => p { (language.word("Start one")) ": " code { (command) } },
                    None => p { (language.wait_reason(&WaitReason::NoAgent { queue: Some(queue_name) }, 0)) },
                }
            }
        }
    }
}

/// A command that puts something on a queue which its target can run.
fn launch_command(queue: &Queue) -> String {
    let resource = queue.revision.as_ref().map(|revision| revision.resource);
    let what = match resource {
        Some(Resource::LocalProcess) => "--uri . --entry-point 'python main.py'",
        _ => "--docker-image python:3.11-slim",
    };
    let project = match queue.project.as_str() {
        QUEUE_PROJECT => String::new(),
        other => format!(" --project-queue {}", shell_word(other)),
    };
    format!(
        "slipway launch --queue {}{project} {what} --project demo --entity {}",
        shell_word(&queue.name),
        shell_word(&queue.entity)
    )
}

pub(super) fn queue_address(queue: &Queue) -> String {
    address(&["launch", &queue.entity, &queue.name])
}

fn target(queue: &Queue) -> &'static str {
    queue
        .revision
        .as_ref()
        .map_or(UNKNOWN, |revision| Resource::label(revision.resource))
}

fn queue_state(queue: &Queue, active: bool, language: Language) -> Markup {
    let (class, word) = match (queue.paused, active) {
        (true, _) => ("status killed", "Paused"),
        (false, true) => ("status finished", "Active"),
        (false, false) => ("status warning", "Not active"),
    };
    html! {
        span class=(class) {
            @match (queue.paused, active) {
                (true, _) => (icons::paused()),
                (false, true) => (icons::active()),
                (false, false) => (icons::inactive()),
            }
            (language.word(word))
        }
    }
}

/// An item in a table, with what its row says.
struct ItemRow {
    item: Item,
    label: ItemLabel,
    status: Status,
    position: Option<u64>,
    reason: String,
}

/// What people call an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ItemLabel {
    /// The run's name, or what comes closest.
    pub(super) name: String,
    /// The job or image.
    pub(super) job: String,
}

/// What people call an item: the name that was chosen, the run, or the job.
pub(super) fn item_label(item: &Item) -> ItemLabel {
    let spec = LaunchSpec::parse(&item.spec).ok();
    let spec = spec.as_ref();
    let job = spec
        .and_then(|spec| spec.job().or_else(|| spec.docker_image()).or_else(|| spec.uri()))
        .unwrap_or_default()
        .to_owned();
    let name = spec
        .and_then(LaunchSpec::name)
        .or_else(|| item.run.as_ref().map(|run| run.run.as_str()))
        .map_or_else(
            || match job.rsplit('/').next() {
                Some(last) if !last.is_empty() => last.to_owned(),
                _ => item.id.to_string(),
            },
            str::to_owned,
        );
    ItemLabel { name, job }
}

/// Why an item waits, failed, or where it runs.
pub(super) fn item_reason(
    item: &Item,
    position: Option<u64>,
    queue: Option<&Queue>,
    agents: &[AgentLoad],
    holder: Option<&str>,
    now: slipway_model::Millis,
    language: Language,
) -> String {
    if let Some(failure) = &item.failure {
        return failure.message.clone();
    }
    let facts = WaitFacts {
        state: item.state,
        queue: queue.map(Queue::full_name),
        position,
        paused: queue.is_some_and(|queue| queue.paused),
        agents: agents.to_vec(),
        leased_at: item.leased_at,
        holder: holder.map(str::to_owned),
        holder_lost_since: item.lost_since,
        warning: item.warning.as_ref().map(|warning| warning.message.clone()),
    };
    match (wait_reason(&facts), holder) {
        (Some(reason), _) => language.wait_reason(&reason, now),
        (None, Some(holder)) if item.state.is_held() => language.on(holder),
        (None, Some(holder)) => holder.to_owned(),
        (None, None) => String::new(),
    }
}

struct QueueView {
    queue: Queue,
    counts: QueueCounts,
    agents: Vec<(Agent, AgentLoad)>,
    held: Vec<ItemRow>,
    waiting: Vec<ItemRow>,
    ended: Vec<ItemRow>,
}

/// Finds a queue that the visitor may see.
pub(super) async fn find_queue(app: &App, visitor: &Visitor, entity: &str, name: &str) -> Result<Queue, ApiError> {
    let missing = || ApiError::not_found("queue", name);
    if !access::can_read_entity(&visitor.principal, entity) {
        return Err(missing());
    }
    let standard = app.store.queue(entity, QUEUE_PROJECT, name).await?;
    match standard {
        Some(queue) => Ok(queue),
        // A queue may live in another project; the address does not say which.
        None => {
            let queues = app.store.queues(entity, None).await?;
            queues.into_iter().find(|queue| queue.name == name).ok_or_else(missing)
        }
    }
}

/// One queue.
pub(super) async fn queue(
    State(app): State<Arc<App>>,
    OfPage(Path((entity, name))): OfPage<Path<(String, String)>>,
    visitor: Visitor,
) -> PageResult {
    let queue = find_queue(&app, &visitor, &entity, &name).await?;
    let view = gather(&app, queue, &visitor).await?;
    let frame = Frame {
        visitor: &visitor,
        section: Section::Launch,
        title: &view.queue.name,
        crumbs: vec![
            ("/launch".to_owned(), "Launch".to_owned()),
            (address(&[&entity]), entity.clone()),
        ],
        live: Live {
            seconds: Some(REFRESH_SECONDS),
            events: None,
        },
    };
    Ok(Page(frame.page(&queue_body(&view, &visitor))))
}

async fn gather(app: &App, queue: Queue, visitor: &Visitor) -> Result<QueueView, ApiError> {
    let now = visitor.now;
    let store = &app.store;
    let agents = store.queue_agents(queue.id, now).await?;
    let loads: Vec<AgentLoad> = agents.iter().map(|(_, load)| load.clone()).collect();
    let counts = store
        .queue_counts(&[queue.id])
        .await?
        .into_iter()
        .next()
        .unwrap_or_default();
    let of_states = |states: Vec<ItemState>| ItemFilter {
        queue: Some(queue.id),
        states,
        ..ItemFilter::default()
    };
    let (held, ended): (Vec<_>, Vec<_>) = ItemState::ALL
        .into_iter()
        .filter(|state| *state != ItemState::Pending)
        .partition(|state| state.is_held());
    let held = store.items(of_states(held), None, ROWS).await?.rows;
    let ended = store.items(of_states(ended), None, ROWS).await?.rows;
    let waiting = store.waiting(queue.id, 0, ROWS).await?.rows;

    let taken: Vec<Item> = held.iter().chain(&ended).cloned().collect();
    let holders = store.surroundings(&taken, now).await?.holders;
    let row = |item: Item, position: Option<u64>| ItemRow {
        label: item_label(&item),
        status: Status::of_item(item.state, !loads.is_empty()),
        reason: item_reason(
            &item,
            position,
            Some(&queue),
            &loads,
            item.agent
                .and_then(|id| holders.get(&id))
                .map(|agent| agent.name.as_str()),
            now,
            visitor.language,
        ),
        position,
        item,
    };
    Ok(QueueView {
        held: held.into_iter().map(|item| row(item, None)).collect(),
        waiting: (1..)
            .zip(waiting)
            .map(|(position, item)| row(item, Some(position)))
            .collect(),
        ended: ended.into_iter().map(|item| row(item, None)).collect(),
        counts,
        agents,
        queue,
    })
}

fn queue_body(view: &QueueView, visitor: &Visitor) -> Markup {
    let QueueView {
        queue, counts, agents, ..
    } = view;
    let language = visitor.language;
    let running: i64 = agents.iter().map(|(_, load)| load.running).sum();
    let slots: i64 = agents.iter().map(|(_, load)| load.max_jobs.max(0)).sum();
    let rows: Vec<&ItemRow> = view.held.iter().chain(&view.waiting).chain(&view.ended).collect();
    html! {
        div class="title" id="title" data-live {
            h1 { (queue.name) }
            (queue_state(queue, !agents.is_empty(), language))
            span class="note" {
                (target(queue))
                @if queue.prioritization == Prioritization::V0 { " · " (language.word("prioritized")) }
            }
        }
        div class="stack" id="queue" data-live {
            @if agents.is_empty() && !queue.paused { (no_agent_banner(queue, counts.pending, language)) }
            @if !queue.links.is_empty() {
                nav class="note" aria-label=(language.word("Links")) {
                    @for (label, link) in &queue.links {
                        a href=(link) target="_blank" rel="noopener noreferrer" { (label) } " "
                    }
                }
            }
            section class="card numbers" aria-label="Now" {
                div {
                    span class="note" { (language.word("Running")) }
                    b { (counts.running + counts.starting) }
                    @if slots > 0 { span class="note" { (language.slots(running, slots)) } }
                }
                div {
                    span class="note" { (language.word("Waiting")) }
                    b { (counts.pending) }
                    @if let Some(oldest) = counts.oldest_pending_at {
                        span class="note" { (language.oldest(visitor.now - oldest)) }
                    }
                }
                div { span class="note" { (language.word("Agents")) } b { (agents.len()) } }
            }
            (items_card(queue, &rows, counts, visitor))
            @if !agents.is_empty() { (agents_card(agents, visitor)) }
            @if let Some(revision) = &queue.revision {
                details class="card" {
                    summary { (language.word("Config")) span class="note" { (language.revision(revision.number, &revision.created_by)) } }
                    pre class="spec" { (pretty(&revision.config)) }
                    @if revision.template_variables != "{}" {
                        pre class="spec" { (pretty(&revision.template_variables)) }
                    }
                }
            }
        }
    }
}

/// JSON text with line breaks; other text as it is.
pub(super) fn pretty(text: &str) -> String {
    serde_json::from_str::<serde_json::Value>(text)
        .ok()
        .and_then(|value| serde_json::to_string_pretty(&value).ok())
        .unwrap_or_else(|| text.to_owned())
}

fn items_card(queue: &Queue, rows: &[&ItemRow], counts: &QueueCounts, visitor: &Visitor) -> Markup {
    let (language, now) = (visitor.language, visitor.now);
    let shown_waiting = rows.iter().filter(|row| row.position.is_some()).count();
    let hidden = counts.pending - i64::try_from(shown_waiting).unwrap_or(i64::MAX);
    html! {
        section class="card" aria-labelledby="runs-title" {
            header { h2 id="runs-title" { (language.word("Runs")) } }
            @if rows.is_empty() {
                div class="empty" {
                    span { (language.word("Nothing was launched here yet.")) }
                    code { (launch_command(queue)) }
                }
            } @else {
                div class="scroll" {
                    table class="list cards" {
                        thead {
                            tr {
                                th { (language.word("State")) }
                                th class="number" { "#" }
                                th { (language.word("Job")) }
                                th { (language.word("Reason")) }
                                th class="wide" { (language.word("Priority")) }
                                th class="wide" { (language.word("Author")) }
                                th class="wide" { (language.word("Submitted")) }
                                th class="number wide" { (language.word("Waited")) }
                                th class="number wide" { (language.word("Duration")) }
                            }
                        }
                        tbody {
                            @for row in rows {
                                @let item = &row.item;
                                tr {
                                    td { (row.status.badge(language, None)) }
                                    td class="number position" { @if let Some(position) = row.position { (position) } }
                                    td class="job" {
                                        a class="name" href=(item_address(queue, item)) { (row.label.name) }
                                        @if row.label.job != row.label.name { small { (row.label.job) } }
                                    }
                                    td class="reason" { (first_lines(&row.reason)) }
                                    td class="wide" { (language.word(item.priority.as_str())) }
                                    td class="wide" { (item.author) }
                                    td class="wide" { (moment(item.created_at, now, language)) }
                                    td class="number wide" { (waited(item, now)) }
                                    td class="number wide" { (ran(item, now)) }
                                }
                            }
                        }
                    }
                }
                @if hidden > 0 { p class="more note" { (language.more_waiting(hidden)) } }
            }
        }
    }
}

pub(super) fn item_address(queue: &Queue, item: &Item) -> String {
    address(&["launch", &queue.entity, &queue.name, "items", &item.id.to_string()])
}

/// The beginning of a long reason: two lines of a table.
fn first_lines(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    if line.chars().count() > 160 {
        line.chars().take(159).chain(['…']).collect()
    } else {
        line.to_owned()
    }
}

/// How long an item waited until it was taken, or waits until now.
fn waited(item: &Item, now: slipway_model::Millis) -> String {
    let until = match item.state {
        ItemState::Pending => now,
        _ => item.leased_at.or(item.ended_at).unwrap_or(now),
    };
    duration(until - item.created_at)
}

/// How long a workload ran, or runs until now.
fn ran(item: &Item, now: slipway_model::Millis) -> String {
    match item.started_at {
        Some(started) if item.state != ItemState::Pending => duration(item.ended_at.unwrap_or(now) - started),
        _ => UNKNOWN.to_owned(),
    }
}

fn agent_status(agent: &Agent, load: &AgentLoad, language: Language) -> &'static str {
    language.word(match agent.status {
        AgentStatus::Polling | AgentStatus::Running if load.draining => "draining",
        AgentStatus::Draining => "draining",
        AgentStatus::Polling => "polling",
        AgentStatus::Running => "running",
        AgentStatus::Killed => "Ended",
    })
}

fn agents_card(agents: &[(Agent, AgentLoad)], visitor: &Visitor) -> Markup {
    let language = visitor.language;
    html! {
        section class="card" aria-labelledby="agents-title" {
            header { h2 id="agents-title" { (language.word("Agents")) } }
            div class="scroll" {
                table class="list" {
                    thead {
                        tr {
                            th { (language.word("Agent")) }
                            th { (language.word("State")) }
                            th class="number" { (language.word("Load")) }
                            th class="wide" { (language.word("Host")) }
                            th class="wide" { (language.word("Version")) }
                            th { (language.word("Last contact")) }
                        }
                    }
                    tbody {
                        @for (agent, load) in agents {
                            tr {
                                td class="name" { (agent.name) }
                                td { (agent_status(agent, load, language)) }
                                td class="number" {
                                    (load.running) " / "
                                    @if load.max_jobs < 0 { "∞" } @else { (load.max_jobs) }
                                }
                                td class="wide" { (agent.hostname) }
                                td class="wide" { (agent.version) }
                                td { (moment(agent.heartbeat_at, visitor.now, language)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
