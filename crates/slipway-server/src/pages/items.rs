//! The page of a queue item: where it stands, why, what happened, what it printed, what it runs.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Redirect;
use maud::{Markup, html};
use serde_json::Value;
use slipway_model::Millis;
use slipway_model::id::ItemRef;
use slipway_model::item::{Failure, ItemState};
use slipway_store::events::{Event, Position, Scope};
use slipway_store::items::Item;
use slipway_store::queues::Queue;

use super::format::{UNKNOWN, address, duration, iso, moment};
use super::frame::{Frame, Live, Section, sentence};
use super::icons::{self, Status};
use super::launch::{ItemLabel, find_queue, item_address, item_label, item_reason, queue_address};
use super::visitor::{OfPage, OwnForm, Visitor};
use super::words::Language;
use super::{Page, PageResult, log};
use crate::app::App;
use crate::error::ApiError;
use crate::http::extract::Path;
use crate::{access, again, output};

/// Events on the page.
const EVENTS: usize = 500;

/// Bytes of captured output on the page; the whole is a link away.
const OUTPUT: usize = 128 << 10;

/// How often the page of an item that goes on looks again, besides hearing of events.
const REFRESH_SECONDS: u32 = 10;

/// An item with everything that its page and its run's page show of it.
pub(super) struct ItemView {
    pub(super) item: Item,
    pub(super) queue: Queue,
    label: ItemLabel,
    queue_active: bool,
    position: Option<u64>,
    reason: String,
    agent: Option<String>,
    events: Vec<Event>,
    output: String,
    output_end: i64,
    output_cut: bool,
    spec: Option<Value>,
}

impl ItemView {
    /// Gathers what is known of an item.
    pub(super) async fn gather(app: &App, item: Item, queue: Queue, visitor: &Visitor) -> Result<Self, ApiError> {
        let now = visitor.now;
        let store = &app.store;
        let loads: Vec<_> = store
            .queue_agents(queue.id, now)
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
                queue.paused,
                &loads,
                agent.as_deref(),
                now,
                visitor.language,
            ),
            position,
            agent,
            events,
            output: log::readable(&piece.bytes),
            output_end: piece.end(),
            output_cut: from > 0,
            spec: final_spec(app, &item).await,
            item,
            queue,
        })
    }

    /// The failure or the reason for waiting, with what to do about it.
    pub(super) fn banner(&self, language: Language) -> Markup {
        if let Some(failure) = &self.item.failure {
            return failure_banner(failure, language);
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

/// Finds the item of an address, with its queue.
async fn find(app: &App, visitor: &Visitor, entity: &str, queue: &str, item: &str) -> Result<(Item, Queue), ApiError> {
    let missing = || ApiError::not_found("queue item", &item.chars().take(80).collect::<String>());
    let queue = find_queue(app, visitor, entity, queue).await?;
    let reference: ItemRef = item.parse().map_err(|_| missing())?;
    let item = app
        .store
        .item(reference.item)
        .await?
        .filter(|item| item.queue == queue.id);
    Ok((item.ok_or_else(missing)?, queue))
}

type ItemPath = OfPage<Path<(String, String, String)>>;

/// One item.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    OfPage(Path((entity, queue, item))): ItemPath,
    visitor: Visitor,
) -> PageResult {
    let (item, queue) = find(&app, &visitor, &entity, &queue, &item).await?;
    let view = ItemView::gather(&app, item, queue, &visitor).await?;
    let live = if view.item.state.is_terminal() {
        Live::default()
    } else {
        Live {
            seconds: Some(REFRESH_SECONDS),
            events: Some(format!("/slipway/v1/events?item={}", view.item.id)),
        }
    };
    let may_write = access::manage_items(&visitor.principal, &entity).is_ok();
    let frame = Frame {
        visitor: &visitor,
        section: Section::Launch,
        title: &view.label.name,
        crumbs: vec![
            ("/launch".to_owned(), "Launch".to_owned()),
            (address(&[&entity]), entity.clone()),
            (queue_address(&view.queue), view.queue.name.clone()),
        ],
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
    let here = item_address(&view.queue, item);
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
                @if may_write && item.state.is_terminal() {
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
            dd { a href=(queue_address(&view.queue)) { (view.queue.name) } }
            @if let Some(revision) = &view.queue.revision {
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

fn failure_banner(failure: &Failure, language: Language) -> Markup {
    html! {
        div class="banner failed" role="alert" {
            (icons::warning())
            div {
                b { (language.failed_at(&failure.stage, &failure.reason)) }
                p { (failure.message) }
                @for path in &failure.file_paths { p class="note" { "See " code { (path) } " of the agent's run." } }
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
    let (item, queue) = find(&app, &visitor, &entity, &queue, &item).await?;
    access::manage_items(&visitor.principal, &entity)?;
    app.store
        .cancel(item.id, visitor.principal.author(), visitor.now)
        .await?;
    Ok(Redirect::to(&item_address(&queue, &item)))
}

/// Submits the item again, as a new one.
pub(super) async fn retry(
    State(app): State<Arc<App>>,
    OfPage(Path((entity, queue, item))): ItemPath,
    visitor: Visitor,
    _own: OwnForm,
) -> PageResult<Redirect> {
    let (item, queue) = find(&app, &visitor, &entity, &queue, &item).await?;
    access::manage_items(&visitor.principal, &entity)?;
    let principal = &visitor.principal;
    again::may_retry(&app, principal, &item).await?;
    let again = app
        .store
        .retry(item.id, principal.author(), principal.key_id, visitor.now)
        .await?;
    Ok(Redirect::to(&item_address(&queue, &again)))
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
