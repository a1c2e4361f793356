//! The projects of an entity, the runs of a project, and its jobs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Redirect;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value};
use slipway_model::Millis;
use slipway_model::queue::{QUEUE_PROJECT, shell_word};
use slipway_store::Page as Rows;
use slipway_store::artifacts::{Artifact, Collection};
use slipway_store::projects::Project;
use slipway_store::runs::Run;

use super::format::{self, UNKNOWN, address, duration, moment};
use super::frame::{Frame, Live, Section};
use super::icons::Status;
use super::visitor::{OfPage, Visitor};
use super::{Page, PageResult};
use crate::access;
use crate::app::App;
use crate::error::ApiError;
use crate::http::extract::{Path, Query};

/// Runs on a page.
const RUNS: usize = 50;

/// Summary columns of the run table.
const COLUMNS: usize = 3;

/// The projects of an entity.
pub(super) async fn entity(
    State(app): State<Arc<App>>,
    OfPage(Path(entity)): OfPage<Path<String>>,
    visitor: Visitor,
) -> PageResult {
    access::read_entity(&visitor.principal, &entity)?;
    let projects = app.store.projects(&entity).await?;
    let frame = Frame {
        visitor: &visitor,
        section: Section::Projects,
        title: &entity,
        crumbs: Vec::new(),
        live: Live::default(),
    };
    Ok(Page(frame.page(&entity_body(&entity, &projects, &visitor))))
}

fn entity_body(entity: &str, projects: &[Project], visitor: &Visitor) -> Markup {
    let (language, now) = (visitor.language, visitor.now);
    html! {
        div class="title" { h1 { (entity) } }
        section class="card" aria-labelledby="projects-title" {
            header { h2 id="projects-title" { (language.word("Projects")) } }
            @if projects.is_empty() {
                div class="empty" {
                    span { (language.word("No project yet. The first run makes one.")) }
                    code { "wandb.init(entity=\"" (entity) "\", project=\"demo\")" }
                }
            } @else {
                div class="scroll" {
                    table class="list" {
                        thead { tr { th { (language.word("Project")) } th { (language.word("Created")) } th {} } }
                        tbody {
                            @for project in projects {
                                tr {
                                    td { a class="name" href=(address(&[entity, &project.name])) { (project.name) } }
                                    td { (moment(project.created_at, now, language)) }
                                    td class="number" {
                                        a href=(address(&[entity, &project.name, "jobs"])) { (language.word("Jobs")) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Finds a project that the visitor may see.
async fn find(app: &App, visitor: &Visitor, entity: &str, project: &str) -> Result<Project, ApiError> {
    let missing = || ApiError::not_found("project", &format!("{entity}/{project}"));
    if !access::can_read_project(&visitor.principal, entity, project) {
        return Err(missing());
    }
    app.store.project(entity, project).await?.ok_or_else(missing)
}

#[derive(Deserialize)]
pub(super) struct After {
    at: Option<Millis>,
    run: Option<String>,
}

/// The runs of a project, newest first.
pub(super) async fn project(
    State(app): State<Arc<App>>,
    OfPage(Path((entity, name))): OfPage<Path<(String, String)>>,
    OfPage(Query(after)): OfPage<Query<After>>,
    visitor: Visitor,
) -> PageResult {
    let project = find(&app, &visitor, &entity, &name).await?;
    let first_page = after.at.is_none();
    let runs = app
        .store
        .runs(&entity, &name, after.at.zip(after.run), false, RUNS)
        .await?;
    let going_on = first_page && runs.rows.iter().any(|run| !run.state.is_terminal());
    let frame = Frame {
        visitor: &visitor,
        section: Section::Projects,
        title: &name,
        crumbs: vec![(address(&[&entity]), entity.clone())],
        live: Live {
            seconds: going_on.then_some(5),
            events: None,
        },
    };
    Ok(Page(frame.page(&project_body(&project, &runs, &visitor))))
}

/// The address by which the official client names a project.
pub(super) async fn workspace(OfPage(Path((entity, name))): OfPage<Path<(String, String)>>) -> Redirect {
    Redirect::to(&address(&[&entity, &name]))
}

fn project_body(project: &Project, runs: &Rows<Run>, visitor: &Visitor) -> Markup {
    let (language, now) = (visitor.language, visitor.now);
    let summaries: Vec<Map<String, Value>> = runs
        .rows
        .iter()
        .map(|run| serde_json::from_str(&run.summary).unwrap_or_default())
        .collect();
    let columns = common_metrics(&summaries);
    html! {
        div class="title" {
            h1 { (project.name) }
            div class="actions" {
                a class="button" href=(address(&[&project.entity, &project.name, "jobs"])) { (language.word("Jobs")) }
            }
        }
        section class="card" id="runs" data-live aria-labelledby="runs-title" {
            header { h2 id="runs-title" { (language.word("Runs")) } }
            @if runs.rows.is_empty() {
                p class="empty" { (language.word("No run yet.")) }
            } @else {
                div class="scroll" {
                    table class="list" {
                        thead {
                            tr {
                                th { (language.word("State")) }
                                th { (language.word("Name")) }
                                @for column in &columns { th class="number" { (column) } }
                                th class="wide" { (language.word("User")) }
                                th class="wide" { (language.word("Created")) }
                                th class="number" { (language.word("Duration")) }
                            }
                        }
                        tbody {
                            @for (run, summary) in runs.rows.iter().zip(&summaries) {
                                tr {
                                    td { (Status::of_run(run.state).badge(language, None)) }
                                    td {
                                        a class="name" href=(run_address(run)) { (run.display_name) }
                                        small { (run.name.run) @if let Some(kind) = &run.job_type { " · " (kind) } }
                                    }
                                    @for column in &columns {
                                        td class="number" { (summary.get(column).map_or_else(|| UNKNOWN.to_owned(), format::value)) }
                                    }
                                    td class="wide" { (run.user) }
                                    td class="wide" { (moment(run.created_at, now, language)) }
                                    td class="number" { (run_duration(run, now)) }
                                }
                            }
                        }
                    }
                }
                @if let (true, Some(last)) = (runs.more, runs.rows.last()) {
                    p class="more" {
                        a href={ "?at=" (last.created_at) "&run=" (crate::uploads::percent_encode(&last.name.run)) } { (language.word("Older runs")) }
                    }
                }
            }
        }
    }
}

/// The metrics that most of the summaries have.
fn common_metrics(summaries: &[Map<String, Value>]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (key, _) in summaries
        .iter()
        .flatten()
        .filter(|(key, value)| !key.starts_with('_') && value.is_number())
    {
        *counts.entry(key).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    // The order of equals is that of their names.
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    counts
        .into_iter()
        .take(COLUMNS)
        .map(|(key, _)| key.to_owned())
        .collect()
}

/// Where a run's page is.
pub(super) fn run_address(run: &Run) -> String {
    address(&[&run.name.entity, &run.name.project, "runs", &run.name.run])
}

/// How long a run took, or takes until now.
pub(super) fn run_duration(run: &Run, now: Millis) -> String {
    let end = match run.ended_at {
        Some(ended) => ended,
        None if run.state.is_terminal() => run.heartbeat_at.unwrap_or(run.created_at),
        None => now,
    };
    duration(end - run.created_at)
}

/// The jobs of a project.
pub(super) async fn jobs(
    State(app): State<Arc<App>>,
    OfPage(Path((entity, name))): OfPage<Path<(String, String)>>,
    visitor: Visitor,
) -> PageResult {
    let project = find(&app, &visitor, &entity, &name).await?;
    let queue = queue_name(&app, &entity).await?;
    let mut jobs = Vec::new();
    for collection in app.store.collections(&entity, &name, Some("job")).await? {
        let versions = app.store.versions(collection.id).await?;
        jobs.push((collection, versions));
    }
    let frame = Frame {
        visitor: &visitor,
        section: Section::Projects,
        title: visitor.language.word("Jobs"),
        crumbs: vec![
            (address(&[&entity]), entity.clone()),
            (address(&[&entity, &name]), name.clone()),
        ],
        live: Live::default(),
    };
    Ok(Page(frame.page(&jobs_body(&project, &jobs, &queue, &visitor))))
}

/// A queue that the entity has; the usual name if it has none yet.
async fn queue_name(app: &App, entity: &str) -> Result<String, ApiError> {
    let queues = app.store.queues(entity, Some(QUEUE_PROJECT)).await?;
    let first = queues.into_iter().next();
    Ok(first.map_or_else(|| "default".to_owned(), |queue| queue.name))
}

fn jobs_body(project: &Project, jobs: &[(Collection, Vec<Artifact>)], queue: &str, visitor: &Visitor) -> Markup {
    let language = visitor.language;
    html! {
        div class="title" { h1 { (language.word("Jobs")) } }
        section class="card" aria-label=(language.word("Jobs")) {
            @if jobs.is_empty() {
                div class="empty" {
                    span { (language.word("No job yet.")) }
                    code {
                        "wandb job create -p " (shell_word(&project.name)) " -e " (shell_word(&project.entity))
                        " -n my-job code ."
                    }
                }
            } @else {
                div class="scroll" {
                    table class="list" {
                        thead {
                            tr {
                                th { (language.word("Job")) }
                                th class="number" { (language.word("Versions")) }
                                th class="wide" { (language.word("Updated")) }
                                th class="wide" { "Launch" }
                            }
                        }
                        tbody { @for (collection, versions) in jobs { (job_row(project, collection, versions, queue, visitor)) } }
                    }
                }
            }
        }
    }
}

fn job_row(
    project: &Project,
    collection: &Collection,
    versions: &[Artifact],
    queue: &str,
    visitor: &Visitor,
) -> Markup {
    let newest = versions.first();
    let aliases = newest.map(|version| version.aliases.join(", ")).unwrap_or_default();
    let job = format!("{}/{}/{}:latest", project.entity, project.name, collection.name);
    html! {
        tr {
            td class="name" { (collection.name) small { (aliases) } }
            td class="number" { (versions.len()) }
            td class="wide" {
                (moment(newest.map_or(collection.created_at, |version| version.updated_at), visitor.now, visitor.language))
            }
            td class="wide" {
                code {
                    "slipway launch -j " (shell_word(&job)) " -q " (shell_word(queue))
                    " -e " (shell_word(&project.entity)) " -p " (shell_word(&project.name))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_shows_the_most_common_numbers() {
        let summary = |value: Value| value.as_object().cloned().unwrap();
        let found = common_metrics(&[
            summary(json!({"_step": 1, "loss": 1, "acc": 1, "name": "x"})),
            summary(json!({"loss": 2, "z": 1, "y": 1})),
            summary(json!({"loss": 2, "z": 1})),
        ]);
        assert_eq!(found, ["loss", "z", "acc"]);
    }
}
