//! `slipway launch --wait`: follows an item to its end.
//!
//! Our server says when something happens to an item, and has what its job prints. An official one
//! is asked now and then, and knows only what the run's own client sent.

use std::process::ExitCode;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use slipway_client::{Client, Follow, OutputEvent, RecordEvent};
use slipway_model::id::RunName;
use slipway_wire::item::Item;

use super::item::{find, label, reason};
use super::run::{POLL, follow};
use crate::context::Context;
use crate::exit::{Error, Result};
use crate::output::{self, Format, table};

/// Why an item waits may change without an event of the item's own, such as when an agent goes.
const LOOK: Duration = Duration::from_secs(15);

/// How long output may trail the end of a job before `--wait` stops printing it.
const TRAIL: Duration = Duration::from_secs(10);

/// An item that was just submitted.
pub(crate) struct Waited {
    /// Its id.
    pub id: String,
    /// The owner of its queue.
    pub queue_entity: String,
    /// The project of its queue.
    pub queue_project: String,
    /// Its queue.
    pub queue: String,
    /// The owner of its run.
    pub run_entity: String,
    /// The project of its run.
    pub run_project: String,
}

/// Follows an item: its states on standard error, its output on standard output.
pub(crate) async fn wait(waited: &Waited, context: &Context) -> Result<ExitCode> {
    if !context.client.has_additions().await? {
        return wait_on_official(waited, context).await;
    }
    let printing = tokio::spawn(print_output(waited.id.clone(), context.client.clone(), context.format));
    let item = until_end(&waited.id, context).await?;
    // The rest of the output is on its way; a job that never ran has none.
    let _ = tokio::time::timeout(TRAIL, printing).await;
    if context.format == Format::Json {
        output::json(&item)?;
    }
    if let (Some(entity), Some(project), Some(run)) = (&item.run_entity, &item.run_project, &item.run_name) {
        say_page(context, entity, project, run);
    }
    match item.state.as_str() {
        "FINISHED" => Ok(ExitCode::SUCCESS),
        _ => {
            let reason = match &item.failure {
                Some(failure) => format!("the job failed at stage `{}`: {}", failure.stage, failure.message),
                None => format!("the job is {}", item.state),
            };
            Err(Error::job_ended(item.exit_code, reason))
        }
    }
}

fn say_page(context: &Context, entity: &str, project: &str, run: &str) {
    output::note(format!("{}/{entity}/{project}/runs/{run}", context.client.base_url()));
}

fn has_ended(state: &str) -> bool {
    matches!(state, "FINISHED" | "FAILED" | "CRASHED" | "KILLED")
}

/// Says something unless it was the last thing said.
fn say(now: String, said: &mut String) {
    if now != *said {
        output::note(table::visible(&now));
        *said = now;
    }
}

async fn until_end(id: &str, context: &Context) -> Result<Item> {
    let mut record = context.client.item_record(id);
    let mut said = String::new();
    loop {
        let item = find(context, id).await?;
        let ended = has_ended(&item.state);
        // Why it failed is said last, after its output.
        let why = reason(&item).filter(|_| !ended).map(|reason| format!(" ({reason})"));
        say(format!("{}{}", label(&item), why.unwrap_or_default()), &mut said);
        if ended {
            return Ok(item);
        }
        // Nothing hangs on the outcome: the item is looked at in either case.
        let _ = tokio::time::timeout(LOOK, changed(&mut record)).await;
    }
}

/// Returns when an item may have changed. Without a stream that is for the caller to find out.
async fn changed(record: &mut BoxStream<'static, slipway_client::Result<RecordEvent>>) {
    loop {
        match record.next().await {
            Some(Ok(RecordEvent::Connected | RecordEvent::Changed)) => return,
            Some(Ok(RecordEvent::Disconnected(_))) => {}
            Some(Err(_)) | None => std::future::pending().await,
        }
    }
}

/// Prints what a job prints. Data on standard output must stay JSON where that was asked for.
async fn print_output(id: String, client: Client, format: Format) {
    let follow = Follow { from: 0, follow: true };
    let mut events = client.item_output(&id, None, follow);
    while let Some(event) = events.next().await {
        let printed = match event {
            Ok(OutputEvent::Text { text, .. }) => print(format, &text),
            Ok(OutputEvent::End { .. }) => return,
            Err(error) => {
                output::warn(format!("its output cannot be shown: {error}"));
                return;
            }
        };
        if printed.is_err() {
            return;
        }
    }
}

fn print(format: Format, text: &str) -> Result<()> {
    match format {
        Format::Table => output::raw(text),
        Format::Json => output::raw_aside(text),
    }
}

/// The same where items are known by their state only: first until the run has begun, then the run.
async fn wait_on_official(waited: &Waited, context: &Context) -> Result<ExitCode> {
    let client = &context.client;
    let mut said = String::new();
    let run = loop {
        let item = client
            .queue_item(&waited.queue_entity, &waited.queue_project, &waited.queue, &waited.id)
            .await?
            .ok_or_else(|| Error::not_found(format!("item `{}` is no longer in its queue", waited.id)))?;
        say(label(&item), &mut said);
        if let Some(name) = &item.run_name {
            let run = RunName {
                entity: waited.run_entity.clone(),
                project: waited.run_project.clone(),
                run: name.clone(),
            };
            let state = client.run_state(&run.entity, &run.project, &run.run).await?;
            if state.is_some_and(|state| state != "pending") {
                break run;
            }
        }
        if has_ended(&item.state.to_ascii_uppercase()) {
            let reason = format!("the job is {}; its agent's own run says why", item.state);
            return Err(Error::job_ended(None, reason));
        }
        tokio::time::sleep(POLL).await;
    };
    let state = follow(&run, context, |_, line| print(context.format, &format!("{line}\n"))).await?;
    if context.format == Format::Json {
        output::json(&client.run(&run.entity, &run.project, &run.run).await?)?;
    }
    say_page(context, &run.entity, &run.project, &run.run);
    match state.as_str() {
        "finished" => Ok(ExitCode::SUCCESS),
        state => Err(Error::job_ended(None, format!("the run is {state}"))),
    }
}
