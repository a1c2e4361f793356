//! The page of a queue item: where it stands, why, what happened, what it printed, what it runs.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Redirect;
use maud::{Markup, html};
use serde_json::Value;
use slipway_model::Millis;
use slipway_model::id::{ItemRef, RunName};
use slipway_model::item::{Failure, ItemState};
use slipway_model::queue::QUEUE_PROJECT;
use slipway_store::blobs::Method;
use slipway_store::events::{Event, Position, Scope};
use slipway_store::items::Item;
use slipway_store::queues::Queue;

use super::format::{UNKNOWN, address, duration, iso, moment};
use super::frame::{Frame, Live, Section, sentence};
use super::icons::{self, Status};
use super::launch::{ItemLabel, item_address, item_label, item_reason, queue_address};
use super::visitor::{OfPage, OwnForm, Visitor};
use super::words::Language;
use super::{Page, PageResult, log};
use crate::app::App;
use crate::error::ApiError;
use crate::http::extract::Path;
use crate::uploads::Links;
use crate::{access, again, output};

/// Events on the page.
const EVENTS: usize = 500;

/// Bytes of captured output on the page; the whole is a link away.
const OUTPUT: usize = 128 << 10;

/// How often the page of an item that goes on looks again, besides hearing of events.
const REFRESH_SECONDS: u32 = 10;

/// Where an item is: its entity, and its queue unless that was deleted.
pub(super) struct Place {
    entity: String,
    queue: Option<Queue>,
}

impl Place {
    /// Finds out where an item is; `None` if the visitor may not see it.
    pub(super) async fn of(app: &App, visitor: &Visitor, item: &Item) -> Result<Option<Self>, ApiError> {
        let entity = app.lookup.entity_name(&app.store, item.id.entity).await?;
        if !access::can_read_entity(&visitor.principal, &entity) {
            return Ok(None);
        }
        Ok(Some(Self {
            entity: entity.as_ref().clone(),
            queue: app.store.queue_by_id(item.queue).await?,
        }))
    }

    /// The address of the item's page. Of a deleted queue there is only the id.
    pub(super) fn address(&self, item: &Item) -> String {
        match &self.queue {
            Some(queue) => item_address(queue, item),
            None => {
                let (queue, item) = (item.queue.to_string(), item.id.to_string());
                address(&["launch", &self.entity, &queue, "items", &item])
            }
        }
    }
}

/// An item with everything that its page and its run's page show of it.
pub(super) struct ItemView {
    pub(super) item: Item,
    pub(super) place: Place,
    label: ItemLabel,
    queue_active: bool,
    position: Option<u64>,
    reason: String,
    agent: Option<String>,
    /// The log files of its failure, with their addresses where they were uploaded.
    logs: Vec<(String, Option<String>)>,
    events: Vec<Event>,
    output: String,
    output_end: i64,
    output_cut: bool,
    spec: Option<Value>,
}

impl ItemView {
    /// Gathers what is known of an item.
    pub(super) async fn gather(app: &App, item: Item, place: Place, visitor: &Visitor) -> Result<Self, ApiError> {
        let now = visitor.now;
        let store = &app.store;
        let loads: Vec<_> = store
            .queue_agents(item.queue, now)
            .await?
            .into_iter()
            .map(|(_, load)| load)
            .collect();
        let agent = match item.agent {
            Some(id) => store.agent(id).await?.map(|agent| agent.name),
            None => None,
        };
        let position = store.position(item.id).await?;
        let events = store
            .events(Scope::Item(item.id), Position::default(), EVENTS)
            .await?
            .unwrap_or_default();
        let output_end = store.output_end(item.id, item.attempt).await?;
        let from = (output_end - i64::try_from(OUTPUT).unwrap_or(i64::MAX)).max(0);
        let piece = output::read(store, item.id, item.attempt, from, OUTPUT).await?;
        Ok(Self {
            label: item_label(&item),
            queue_active: !loads.is_empty(),
            reason: item_reason(
                &item,
                position,
                place.queue.as_ref(),
                &loads,
                agent.as_deref(),
                now,
                visitor.language,
            ),
            position,
            logs: logs(app, visitor, &place, agent.as_deref(), &item).await?,
            agent,
            events,
            output: log::readable(&piece.bytes),
            output_end: piece.end(),
            output_cut: from > 0,
            spec: final_spec(app, &item).await,
            item,
            place,
        })
    }

    /// The failure or the reason for waiting, with what to do about it.
    pub(super) fn banner(&self, language: Language) -> Markup {
        if let Some(failure) = &self.item.failure {
            return failure_banner(failure, &self.logs, language);
        }
        html! {
            @if let Some(warning) = &self.item.warning {
                div class="banner warning" {
                    (icons::warning())
                    div { b { "Warning from " (warning.stage) } p { (warning.message) } }
                }
            } @else if !self.item.state.is_terminal() && self.item.state != ItemState::Running && !self.reason.is_empty() {
                div class="banner waiting" { div { b { (sentence(&self.reason)) } } }
            }
            @if self.item.stop_requested && !self.item.state.is_terminal() {
                div class="banner warning" { (icons::warning()) div { b { (language.word("Asked to stop; waiting for the job to end.")) } } }
            }
        }
    }

    /// What happened, from submission on.
    pub(super) fn timeline(&self, now: Millis, language: Language) -> Markup {
        html! {
            section class="card" aria-labelledby="timeline-title" id="timeline" data-live {
                header {
                    h2 id="timeline-title" { (language.word("Timeline")) }
                    @if self.item.attempt > 1 {
                        span class="note" { (language.word("Attempt")) " " (self.item.attempt) }
                    }
                }
                div class="body" { (bands(&self.item, now, language)) }
                ol class="timeline" {
                    @for (index, event) in self.events.iter().enumerate() {
                        @let before = index.checked_sub(1).and_then(|index| self.events.get(index));
                        li {
                            b { (event_words(&event.kind, language)) }
                            span class="after" title=(iso(event.at)) {
                                @match before {
                                    Some(before) => (after(event.at - before.at)),
                                    None => { (moment(event.at, now, language)) }
                                }
                            }
                            span class="detail" { (event_detail(event, language)) }
                        }
                    }
                }
            }
        }
    }

    /// What the agent captured, followed while the item goes on.
    pub(super) fn output_card(&self, language: Language) -> Markup {
        let base = format!(
            "/slipway/v1/items/{}/output?attempt={}",
            self.item.id, self.item.attempt
        );
        let goes_on = !self.item.state.is_terminal();
        let stream = goes_on.then(|| format!("{base}&from={}&follow=true", self.output_end));
        log::output(
            &self.output,
            self.output_end,
            self.output_cut,
            stream.as_deref(),
            &format!("{base}&from=0&follow=false"),
            language,
        )
    }

    /// Whether there is output, or may still come.
    pub(super) fn has_output(&self) -> bool {
        self.output_end > 0
    }
}

/// What an agent runs for the item; `None` if the stored item does not fit its queue any more.
async fn final_spec(app: &App, item: &Item) -> Option<Value> {
    let config = app.lookup.config(&app.store, item.revision).await.ok()?;
    config.final_spec(item).ok().map(|spec| spec.spec)
}

/// The log files of an item's failure. An agent of another kind than ours keeps them among the files of
/// its own run, and uploads them after its report.
async fn logs(
    app: &App,
    visitor: &Visitor,
    place: &Place,
    agent: Option<&str>,
    item: &Item,
) -> Result<Vec<(String, Option<String>)>, ApiError> {
    let paths = item.failure.iter().flat_map(|failure| &failure.file_paths);
    let (Some(agent), Some(_)) = (agent, paths.clone().next()) else {
        return Ok(paths.map(|path| (path.clone(), None)).collect());
    };
    let run = RunName {
        entity: place.entity.clone(),
        project: QUEUE_PROJECT.to_owned(),
        run: agent.to_owned(),
    };
    let files = if access::can_read_project(&visitor.principal, &run.entity, &run.project) {
        app.store.run_files(&run).await?
    } else {
        Vec::new()
    };
    let links = Links {
        signer: &app.signer,
        base_url: "",
        now: visitor.now,
    };
    let link = |path: &String| {
        let known = files.iter().any(|file| file.name == *path);
        known.then(|| links.run_file(Method::Get, &run, path))
    };
    Ok(paths.map(|path| (path.clone(), link(path))).collect())
}

/// Finds the item of an address. Where its queue was deleted, the address may name any.
async fn find(app: &App, visitor: &Visitor, entity: &str, queue: &str, item: &str) -> Result<(Item, Place), ApiError> {
    let missing = || ApiError::not_found("queue item", &item.chars().take(80).collect::<String>());
    let reference: ItemRef = item.parse().map_err(|_| missing())?;
    let item = app.store.item(reference.item).await?.ok_or_else(missing)?;
    let place = Place::of(app, visitor, &item).await?.ok_or_else(missing)?;
    let named = place.queue.as_ref().is_none_or(|known| known.name == queue);
    if place.entity != entity || !named {
        return Err(missing());
    }
    Ok((item, place))
}

type ItemPath = OfPage<Path<(String, String, String)>>;

/// One item.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    OfPage(Path((entity, queue, item))): ItemPath,
    visitor: Visitor,
) -> PageResult {
    let (item, place) = find(&app, &visitor, &entity, &queue, &item).await?;
    let view = ItemView::gather(&app, item, place, &visitor).await?;
    let live = if view.item.state.is_terminal() {
        Live::default()
    } else {
        Live {
            seconds: Some(REFRESH_SECONDS),
            events: Some(format!("/slipway/v1/events?item={}", view.item.id)),
        }
    };
    let may_write = access::manage_items(&visitor.principal, &entity).is_ok();
    let mut crumbs = vec![
        ("/launch".to_owned(), "Launch".to_owned()),
        (address(&[&entity]), entity.clone()),
    ];
    crumbs.extend(
        view.place
            .queue
            .iter()
            .map(|queue| (queue_address(queue), queue.name.clone())),
    );
    let frame = Frame {
        visitor: &visitor,
        section: Section::Launch,
        title: &view.label.name,
        crumbs,
        live,
    };
    Ok(Page(frame.page(&body(&view, may_write, visitor.now, visitor.language))))
}

fn body(view: &ItemView, may_write: bool, now: Millis, language: Language) -> Markup {
    let item = &view.item;
    let status = Status::of_item(item.state, view.queue_active);
    let detail = match (item.state, item.started_at) {
        (ItemState::Running, Some(started)) => Some(language.lasting(now - started)),
        _ => None,
    };
    let here = view.place.address(item);
    html! {
        div class="title" id="title" data-live {
            h1 { (view.label.name) }
            (status.badge(language, detail.as_deref()))
            div class="actions" {
                @if let Some(run) = &item.run {
                    a class="button" href=(address(&[&run.entity, &run.project, "runs", &run.run])) { (language.word("Open run")) }
                }
                @if may_write && !item.state.is_terminal() && !item.stop_requested {
                    form method="post" action={ (here) "/cancel" } {
                        button class="button danger" type="submit" {
                            (language.word(if item.state == ItemState::Pending { "Cancel" } else { "Stop" }))
                        }
                    }
                }
                @if may_write && item.state.is_terminal() && view.place.queue.is_some() {
                    form method="post" action={ (here) "/retry" } {
                        button class="button" type="submit" { (language.word("Retry")) }
                    }
                }
            }
        }
        div class="stack" id="banner" data-live { (view.banner(language)) }
        div class="columns" {
            div class="stack" {
                (view.timeline(now, language))
                (view.output_card(language))
                @if let Some(spec) = &view.spec {
                    details class="card" {
                        summary { (language.word("Final spec")) }
                        pre class="spec" { (serde_json::to_string_pretty(spec).unwrap_or_default()) }
                    }
                }
            }
            section class="card" id="facts" data-live { (facts(view, now, language)) }
        }
    }
}

fn facts(view: &ItemView, now: Millis, language: Language) -> Markup {
    let item = &view.item;
    html! {
        dl class="facts" {
            dt { (language.word("Queue")) }
            dd {
                @match &view.place.queue {
                    Some(queue) => { a href=(queue_address(queue)) { (queue.name) } }
                    None => (language.word("deleted")),
                }
            }
            @if let Some(revision) = view.place.queue.as_ref().and_then(|queue| queue.revision.as_ref()) {
                dt { (language.word("Target")) } dd { (revision.resource.label()) }
            }
            @if let Some(agent) = &view.agent { dt { (language.word("Agent")) } dd { (agent) } }
            @if !view.label.job.is_empty() { dt { (language.word("Job")) } dd { (view.label.job) } }
            dt { (language.word("Author")) } dd { (item.author) }
            dt { (language.word("Priority")) } dd { (language.word(item.priority.as_str())) }
            @if let Some(position) = view.position { dt { (language.word("Position")) } dd { (position) } }
            dt { (language.word("Submitted")) } dd { (moment(item.created_at, now, language)) }
            @if let Some(at) = item.started_at { dt { (language.word("Started")) } dd { (moment(at, now, language)) } }
            @if let Some(at) = item.ended_at { dt { (language.word("Ended")) } dd { (moment(at, now, language)) } }
            @if let Some(code) = item.exit_code { dt { (language.word("Exit code")) } dd { (code) } }
            dt { (language.word("Item")) } dd class="mono" { (item.id) }
        }
    }
}

fn failure_banner(failure: &Failure, logs: &[(String, Option<String>)], language: Language) -> Markup {
    html! {
        div class="banner failed" role="alert" {
            (icons::warning())
            div {
                b { (language.failed_at(&failure.stage, &failure.reason)) }
                p { (failure.message) }
                @for (path, link) in logs {
                    p class="note" {
                        (language.word("Log file")) ": "
                        @match link {
                            Some(link) => { a href=(link) { (path) } }
                            None => { code { (path) } " (" (language.word("not uploaded")) ")" }
                        }
                    }
                }
            }
        }
    }
}

/// How long the item waited, started and ran, as parts of one bar.
fn bands(item: &Item, now: Millis, language: Language) -> Markup {
    let end = item.ended_at.unwrap_or(now);
    // Of an item that waits again, the times are those of an attempt that is over.
    let taken = item.leased_at.filter(|_| item.state != ItemState::Pending);
    let started = item.started_at.filter(|_| taken.is_some());
    let waiting = taken.unwrap_or(end) - item.created_at;
    let starting = taken.map(|taken| started.unwrap_or(end) - taken);
    let running = started.map(|started| end - started);
    let parts: Vec<(&str, &'static str, Millis)> = [
        Some(("band-waiting", "Waiting", waiting)),
        starting.map(|millis| ("band-starting", "Starting", millis)),
        running.map(|millis| ("band-running", "Running", millis)),
    ]
    .into_iter()
    .flatten()
    .map(|(class, word, millis)| (class, word, millis.max(0)))
    .collect();
    let mut x = 0.0;
    let rects: Vec<(&str, f64, f64)> = widths(&parts.iter().map(|part| part.2).collect::<Vec<_>>())
        .into_iter()
        .zip(&parts)
        .map(|(width, part)| {
            let rect = (part.0, x, width);
            x += width;
            rect
        })
        .collect();
    html! {
        svg class="bands" viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
            @for (class, x, width) in rects {
                rect class=(class) x=(format!("{x:.1}")) y="0" width=(format!("{:.1}", (width - 4.0).max(1.0))) height="10" {}
            }
        }
        div class="legend" {
            @for (class, word, millis) in &parts {
                span {
                    svg class="swatch" viewBox="0 0 10 10" aria-hidden="true" { rect class=(class) width="10" height="10" rx="2" {} }
                    (language.word(word)) " " b { (duration(*millis)) }
                }
            }
        }
    }
}

/// Widths of 1000 in all, in proportion, but none below 160: a short part must stay visible.
fn widths(parts: &[Millis]) -> Vec<f64> {
    const LEAST: f64 = 160.0;
    #[expect(clippy::cast_precision_loss, reason = "widths on a screen")]
    let sum = parts.iter().sum::<Millis>().max(1) as f64;
    #[expect(clippy::cast_precision_loss, reason = "widths on a screen")]
    let free = 1000.0 - LEAST * parts.len() as f64;
    #[expect(clippy::cast_precision_loss, reason = "widths on a screen")]
    let share = |part: Millis| LEAST + free * (part as f64 / sum);
    parts.iter().map(|part| share(*part)).collect()
}

/// The time since the event before.
fn after(millis: Millis) -> String {
    if millis < 1000 {
        duration(millis)
    } else {
        format!("+{}", duration(millis))
    }
}

fn event_words(kind: &str, language: Language) -> String {
    let known = match kind {
        "pushed" => "Submitted",
        "leased" => "Taken",
        "acked" => "Acknowledged",
        "started" => "Start recorded",
        "running" => "Running",
        "finished" => "Finished",
        "failed" => "Failed",
        "killed" => "Killed",
        "crashed" => "Crashed",
        "revived" => "Heard from again",
        "requeued" => "Back in the queue",
        "moved" => "Moved",
        "warning" => "Warning",
        "warning-cleared" => "Warning no longer applies",
        "found" => "Agent heard from again",
        "stop-requested" => "Asked to stop",
        "lost" => "Agent lost",
        "stale-write" => "Late report ignored",
        other => return sentence(&other.replace('-', " ")).trim_end_matches('.').to_owned(),
    };
    language.word(known).to_owned()
}

/// Who, and what an event says of itself.
fn event_detail(event: &Event, language: Language) -> String {
    let mut parts = Vec::new();
    if !event.actor.is_empty() {
        parts.push(language.by(&event.actor));
    }
    if let Ok(Value::Object(detail)) = serde_json::from_str::<Value>(&event.detail) {
        parts.extend(
            detail
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| format!("{}: {}", key.replace('_', " "), super::format::value(value))),
        );
    }
    if parts.is_empty() {
        UNKNOWN.to_owned()
    } else {
        parts.join(" · ")
    }
}

/// Cancels or stops the item.
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    OfPage(Path((entity, queue, item))): ItemPath,
    visitor: Visitor,
    _own: OwnForm,
) -> PageResult<Redirect> {
    let (item, place) = find(&app, &visitor, &entity, &queue, &item).await?;
    access::manage_items(&visitor.principal, &entity)?;
    app.store
        .cancel(item.id, visitor.principal.author(), visitor.now)
        .await?;
    Ok(Redirect::to(&place.address(&item)))
}

/// Submits the item again, as a new one.
pub(super) async fn retry(
    State(app): State<Arc<App>>,
    OfPage(Path((entity, queue, item))): ItemPath,
    visitor: Visitor,
    _own: OwnForm,
) -> PageResult<Redirect> {
    let (item, place) = find(&app, &visitor, &entity, &queue, &item).await?;
    access::manage_items(&visitor.principal, &entity)?;
    let principal = &visitor.principal;
    again::may_retry(&app, principal, &item).await?;
    let again = app
        .store
        .retry(item.id, principal.author(), principal.key_id, visitor.now)
        .await?;
    Ok(Redirect::to(&place.address(&again)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_bar_stays_visible() {
        for parts in [&[0][..], &[0, 0, 0], &[5, 0, 1_000_000], &[1, 2]] {
            let widths = widths(parts);
            assert!(widths.iter().all(|width| *width >= 160.0), "{parts:?}");
            assert!(widths.iter().sum::<f64>() <= 1000.001, "{parts:?}");
        }
    }

    #[test]
    fn events_read_as_sentences() {
        for (kind, words) in [
            ("pushed", "Submitted"),
            ("running", "Running"),
            ("stale-write", "Late report ignored"),
            ("warning", "Warning"),
            ("warning-cleared", "Warning no longer applies"),
            ("found", "Agent heard from again"),
            ("moved", "Moved"),
            ("x-y", "X y"),
        ] {
            assert_eq!(event_words(kind, Language::English), words);
            assert_eq!(
                event_words(kind, Language::Japanese).is_ascii(),
                kind == "x-y",
                "{kind}"
            );
        }
    }
}
