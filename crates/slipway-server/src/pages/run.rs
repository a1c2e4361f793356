//! The page of a run: where it stands and why, its metrics, its log, its files, what launched it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Redirect;
use maud::{Markup, html};
use serde_json::{Map, Value};
use slipway_model::Millis;
use slipway_model::id::RunName;
use slipway_model::run::RunState;
use slipway_store::blobs::Method;
use slipway_store::run_data::{Line, Stream};
use slipway_store::runs::{Alert, Run, RunFile};

use super::chart::{self, Series};
use super::format::{self, address, bytes, moment};
use super::frame::{Frame, Live, Section};
use super::icons::{self, Status};
use super::items::{ItemView, Place};
use super::projects::{run_address, run_duration};
use super::visitor::{OfPage, OwnForm, Visitor};
use super::words::Language;
use super::{Page, PageResult, log};
use crate::app::App;
use crate::error::ApiError;
use crate::http::extract::Path;
use crate::http::peer;
use crate::uploads::Links;
use crate::{access, run_history};

/// Console lines on the page; the whole log is a link away.
const LINES: usize = 500;

/// Points of a chart.
const POINTS: usize = 400;

/// Charts on the page.
const CHARTS: usize = 24;

/// How often the page of a run that goes on looks again.
const REFRESH_SECONDS: u32 = 5;

struct RunView {
    run: Run,
    series: Vec<Series>,
    lines: Vec<Line>,
    files: Vec<(RunFile, String)>,
    alerts: Vec<Alert>,
    item: Option<ItemView>,
    may_write: bool,
}

fn missing(name: &RunName) -> ApiError {
    ApiError::not_found("run", &name.to_string())
}

async fn find(app: &App, visitor: &Visitor, name: &RunName) -> Result<Run, ApiError> {
    if !access::can_read_project(&visitor.principal, &name.entity, &name.project) {
        return Err(missing(name));
    }
    app.store.run(name).await?.ok_or_else(|| missing(name))
}

type RunPath = OfPage<Path<(String, String, String)>>;

/// A part of a run's page, at the address that it has in the official app: here they are on one page.
pub(super) async fn tab(
    OfPage(Path((entity, project, run, tab))): OfPage<Path<(String, String, String, String)>>,
) -> PageResult<Redirect> {
    let part = match tab.as_str() {
        "overview" | "workspace" | "system" | "model" | "artifacts" => "",
        "logs" => "#log-title",
        "files" => "#files-title",
        _ => return Err(ApiError::not_found("page", &tab).into()),
    };
    Ok(Redirect::to(&format!(
        "{}{part}",
        address(&[&entity, &project, "runs", &run])
    )))
}

/// One run.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    OfPage(Path((entity, project, run))): RunPath,
    visitor: Visitor,
    request: axum::extract::Request,
) -> PageResult {
    let name = RunName { entity, project, run };
    let run = find(&app, &visitor, &name).await?;
    let base_url = app.base_url(request.headers(), peer(request.extensions()));
    let links = Links {
        signer: &app.signer,
        base_url: &base_url,
        now: visitor.now,
    };
    let files = app.store.run_files(&name).await?.into_iter().map(|file| {
        let link = links.run_file(Method::Get, &name, &file.name);
        (file, link)
    });
    let view = RunView {
        files: files.collect(),
        series: series(&app, &run).await?,
        lines: app.store.last_lines(&name, Stream::Console, LINES).await?,
        alerts: app.store.alerts(&name).await?,
        item: item_of(&app, &visitor, &run).await?,
        may_write: access::write_run(&visitor.principal, &name).is_ok(),
        run,
    };
    let frame = Frame {
        visitor: &visitor,
        section: Section::Projects,
        title: &view.run.display_name,
        crumbs: vec![
            (address(&[&name.entity]), name.entity.clone()),
            (address(&[&name.entity, &name.project]), name.project.clone()),
        ],
        live: Live {
            seconds: (!view.run.state.is_terminal()).then_some(REFRESH_SECONDS),
            events: None,
        },
    };
    Ok(Page(frame.page(&body(&view, visitor.now, visitor.language))))
}

/// The item that launched the run, if the visitor may see it and its queue still exists.
async fn item_of(app: &App, visitor: &Visitor, run: &Run) -> Result<Option<ItemView>, ApiError> {
    let Some(id) = run.item else { return Ok(None) };
    let Some(item) = app.store.item(id).await? else {
        return Ok(None);
    };
    match Place::of(app, visitor, &item).await? {
        Some(place) => ItemView::gather(app, item, place, visitor).await.map(Some),
        None => Ok(None),
    }
}

/// The metrics of the history, as lines over the steps.
async fn series(app: &App, run: &Run) -> Result<Vec<Series>, ApiError> {
    if run.history_lines == 0 {
        return Ok(Vec::new());
    }
    let rows = run_history::sampled(&app.store, &run.name, Stream::History, POINTS).await?;
    Ok(series_of(&rows))
}

fn series_of(rows: &[run_history::Row]) -> Vec<Series> {
    let mut by_name: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a place on a screen")]
        let step = run_history::step(row).unwrap_or(index as i64) as f64;
        for (name, value) in run_history::numbers(row) {
            by_name.entry(name).or_default().push((step, value));
        }
    }
    by_name
        .into_iter()
        .take(CHARTS)
        .map(|(name, points)| Series { name, points })
        .collect()
}

fn body(view: &RunView, now: Millis, language: Language) -> Markup {
    let run = &view.run;
    let goes_on = !run.state.is_terminal();
    let detail = (run.state == RunState::Running).then(|| language.lasting(now - run.created_at));
    let here = run_address(run);
    let next_line = view.lines.last().map_or(0, |line| line.number + 1);
    let log_base = format!(
        "/slipway/v1/runs{}/log",
        address(&[&run.name.entity, &run.name.project, &run.name.run])
    );
    let stream = goes_on.then(|| format!("{log_base}?follow=true&from={next_line}"));
    html! {
        div class="title" id="title" data-live {
            h1 { (run.display_name) }
            (Status::of_run(run.state).badge(language, detail.as_deref()))
            div class="actions" {
                @if let Some(item) = &view.item {
                    a class="button" href=(item.place.address(&item.item)) { (language.word("Open item")) }
                }
                @if view.may_write && goes_on && !run.stop_requested {
                    form method="post" action={ (here) "/stop" } {
                        button class="button danger" type="submit" { (language.word("Stop")) }
                    }
                }
            }
        }
        div class="stack" id="banner" data-live { (banner(view, language)) }
        div class="columns" {
            div class="stack" {
                (charts(&view.series, language))
                (log::console(&view.lines, stream.as_deref(), &log_base, language))
                @if let Some(item) = view.item.as_ref().filter(|item| item.has_output()) { (item.output_card(language)) }
                @if let Some(item) = &view.item { (item.timeline(now, language)) }
            }
            div class="stack" id="facts" data-live {
                section class="card" { (facts(view, now, language)) }
                (values("Summary", "summary-title", &summary_values(&run.summary), language))
                (values("Config", "config-title", &config_values(&run.config), language))
                (files(&view.files, now, language))
            }
        }
    }
}

fn banner(view: &RunView, language: Language) -> Markup {
    let run = &view.run;
    let item_says = view
        .item
        .as_ref()
        .filter(|item| item.item.failure.is_some() || !run.state.is_terminal());
    html! {
        @if let Some(item) = item_says { (item.banner(language)) }
        @if run.state == RunState::Crashed {
            div class="banner failed" role="alert" {
                (icons::warning())
                div {
                    b { (language.word("The run stopped sending heartbeats.")) }
                    p { (language.word("Its process may have been killed, or lost its connection. If it is heard from again, it runs again.")) }
                }
            }
        }
        @if run.state == RunState::Failed && item_says.is_none_or(|item| item.item.failure.is_none()) {
            div class="banner failed" role="alert" {
                (icons::warning())
                div {
                    b { (language.run_failed(run.exit_code)) }
                    p { (language.word("The end of the log below says more.")) }
                }
            }
        }
        @if run.stop_requested && !run.state.is_terminal() {
            div class="banner warning" { (icons::warning()) div { b { (language.word("Asked to stop; the run hears of it with its next report.")) } } }
        }
        @for alert in view.alerts.iter().take(3) {
            div class="banner warning" { (icons::warning()) div { b { (alert.title) } p { (alert.text) } } }
        }
    }
}

fn charts(series: &[Series], language: Language) -> Markup {
    html! {
        section class="card" id="charts" data-live aria-labelledby="charts-title" {
            header { h2 id="charts-title" { (language.word("Charts")) } }
            @if series.is_empty() {
                div class="empty" {
                    span { (language.word("No metric was logged yet.")) }
                    code { "run.log({\"loss\": loss})" }
                }
            } @else {
                div class="charts" { @for one in series { (chart::line(one)) } }
            }
        }
    }
}

fn facts(view: &RunView, now: Millis, language: Language) -> Markup {
    let run = &view.run;
    let optional = [
        ("Job type", &run.job_type),
        ("Group", &run.group),
        ("Sweep", &run.sweep),
        ("Host", &run.host),
        ("Program", &run.program),
        ("Repository", &run.repo),
        ("Commit", &run.commit),
        ("Notes", &run.notes),
    ];
    html! {
        dl class="facts" {
            dt { "Run" } dd class="mono" { (run.name.run) }
            dt { (language.word("User")) } dd { (run.user) }
            dt { (language.word("Created")) } dd { (moment(run.created_at, now, language)) }
            @if let Some(at) = run.ended_at { dt { (language.word("Ended")) } dd { (moment(at, now, language)) } }
            dt { (language.word("Duration")) } dd { (run_duration(run, now)) }
            @if let Some(code) = run.exit_code { dt { (language.word("Exit code")) } dd { (code) } }
            @if !run.tags.is_empty() { dt { "Tags" } dd { (run.tags.join(", ")) } }
            @for (label, value) in optional {
                @if let Some(value) = value { dt { (language.word(label)) } dd { (value) } }
            }
        }
    }
}

/// What the client tells of itself stands under names with a leading underscore.
fn shown(values: Map<String, Value>) -> Vec<(String, Value)> {
    values.into_iter().filter(|(key, _)| !key.starts_with('_')).collect()
}

fn summary_values(text: &str) -> Vec<(String, Value)> {
    shown(serde_json::from_str(text).unwrap_or_default())
}

/// Configuration values are wrapped: `{"lr": {"value": 0.1}}`.
fn config_values(text: &str) -> Vec<(String, Value)> {
    let values = shown(serde_json::from_str(text).unwrap_or_default());
    values
        .into_iter()
        .map(|(key, value)| {
            let inner = value.get("value").cloned();
            (key, inner.unwrap_or(value))
        })
        .collect()
}

fn values(title: &'static str, id: &str, rows: &[(String, Value)], language: Language) -> Markup {
    html! {
        @if !rows.is_empty() {
            section class="card" aria-labelledby=(id) {
                header { h2 id=(id) { (language.word(title)) } }
                table class="values" {
                    tbody {
                        @for (key, value) in rows { tr { th scope="row" { (key) } td { (format::value(value)) } } }
                    }
                }
            }
        }
    }
}

fn files(files: &[(RunFile, String)], now: Millis, language: Language) -> Markup {
    html! {
        @if !files.is_empty() {
            section class="card" aria-labelledby="files-title" {
                header { h2 id="files-title" { (language.word("Files")) } span class="note" { (files.len()) } }
                table class="values" {
                    tbody {
                        @for (file, link) in files {
                            tr {
                                td { a href=(link) { (file.name) } small { (moment(file.updated_at, now, language)) } }
                                td class="number" { (bytes(file.size)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Asks the run to stop.
pub(super) async fn stop(
    State(app): State<Arc<App>>,
    OfPage(Path((entity, project, run))): RunPath,
    visitor: Visitor,
    _own: OwnForm,
) -> PageResult<Redirect> {
    let name = RunName { entity, project, run };
    let run = find(&app, &visitor, &name).await?;
    access::write_run(&visitor.principal, &name)?;
    app.store
        .stop_run(&name, visitor.principal.author(), visitor.now)
        .await?;
    Ok(Redirect::to(&run_address(&run)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn config_values_are_unwrapped_and_the_clients_own_left_out() {
        let values = config_values(r#"{"_wandb":{"value":{}},"lr":{"value":0.1},"odd":3,"null":{"value":null}}"#);
        assert_eq!(
            values,
            [
                ("lr".to_owned(), json!(0.1)),
                ("odd".to_owned(), json!(3)),
                ("null".to_owned(), json!(null))
            ]
        );
        assert!(config_values("not json").is_empty());
    }

    #[test]
    fn each_metric_is_a_line_over_the_steps() {
        let row = |value: Value| value.as_object().cloned().unwrap();
        let series = series_of(&[
            row(json!({"_step": 0, "loss": 2})),
            row(json!({"_step": 5, "loss": 1, "acc": "NaN"})),
        ]);
        assert_eq!(series.len(), 2);
        assert_eq!(series[1].points, [(0.0, 2.0), (5.0, 1.0)]);
        assert!(series[0].points[0].1.is_nan());
    }
}
