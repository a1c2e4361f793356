//! `POST /files/{entity}/{project}/{run}/file_stream`: what a client reports while its run goes on.
//!
//! Lines are written before the run hears of them, and a line is named by its number, so a request
//! that is sent again changes nothing. The answer is the only way by which the process of a run
//! learns that it should stop.

pub(crate) mod body;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json};
use slipway_model::id::RunName;
use slipway_store::run_data::Stream;
use slipway_store::runs::Heartbeat;

use crate::access;
use crate::app::App;
use crate::error::{ApiError, Code};
use crate::http::extract::Path;
use crate::http::read_body;
use crate::hub::RunChange;
use body::{BodyError, Chunk, Update};

/// The routes of this module.
pub(crate) fn routes() -> axum::Router<Arc<App>> {
    axum::Router::new().route("/files/{entity}/{project}/{run}/file_stream", axum::routing::post(post))
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Large { .. } => Self::new(Code::TooLarge, error.to_string()),
            BodyError::Malformed { .. } => Self::bad(error.to_string()),
        }
    }
}

async fn post(
    State(app): State<Arc<App>>,
    Path((entity, project, run)): Path<(String, String, String)>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let name = RunName { entity, project, run };
    let (parts, body) = request.into_parts();
    let now = app.now();
    let principal = app.authenticate(&parts.headers).await?;
    access::write_run(&principal, &name)?;
    let run = app.store.run(&name).await?;
    // A deleted run answers 404, which ends the client's stream at once.
    let run = run.ok_or_else(|| ApiError::not_found("run", &name.to_string()))?;
    let bytes = read_body(body, body::MAX_BODY).await?;
    // Large bodies take a while to parse; other requests of this thread should not wait for it.
    let update = if bytes.len() > 64 << 10 {
        tokio::task::spawn_blocking(move || body::parse(&bytes))
            .await
            .map_err(ApiError::internal)??
    } else {
        body::parse(&bytes)?
    };
    let heartbeat = heartbeat(&run.system_metrics, &update);
    write(&app, &name, Stream::History, update.history).await?;
    write(&app, &name, Stream::Events, update.events).await?;
    let rewritten_from = update.console.as_ref().map(|chunk| chunk.offset);
    write(&app, &name, Stream::Console, update.console).await?;
    let ack = app.store.heartbeat(&name, heartbeat, now).await?;
    if rewritten_from.is_some() || ack.changed.is_some() {
        app.hub.run_changed(RunChange {
            run: name,
            from: rewritten_from,
        });
    }
    Ok(Json(
        json!({"stopped": ack.stop_requested, "exitcode": null, "limits": {}}),
    ))
}

async fn write(app: &App, run: &RunName, stream: Stream, chunk: Option<Chunk>) -> Result<(), ApiError> {
    if let Some(Chunk { offset, lines }) = chunk.filter(|chunk| !chunk.lines.is_empty()) {
        app.store.write_lines(run, stream, offset, lines).await?;
    }
    Ok(())
}

/// What a request says of the run itself. System metrics come in parts: each keeps its last value.
fn heartbeat(known_metrics: &str, update: &Update) -> Heartbeat {
    let system_metrics = (!update.system_metrics.is_empty()).then(|| {
        let mut metrics: serde_json::Map<String, Value> = serde_json::from_str(known_metrics).unwrap_or_default();
        metrics.extend(update.system_metrics.clone());
        Value::Object(metrics).to_string()
    });
    Heartbeat {
        summary: update.summary.clone().map(|summary| Value::Object(summary).to_string()),
        system_metrics,
        exit_code: update.exit_code,
        preempting: update.preempting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_metrics_keep_the_last_value_of_each() {
        let update = body::parse(
            json!({"files": {"wandb-events.jsonl": {"content": ["{\"system.cpu\":2}"]},
                "wandb-summary.json": {"content": ["{\"loss\":1}"]}}, "complete": true, "exitcode": 1})
            .to_string()
            .as_bytes(),
        )
        .unwrap();
        let heartbeat = heartbeat("{\"system.cpu\":1,\"system.gpu\":5}", &update);
        assert_eq!(
            heartbeat.system_metrics.as_deref(),
            Some("{\"system.cpu\":2,\"system.gpu\":5}")
        );
        assert_eq!(heartbeat.summary.as_deref(), Some("{\"loss\":1}"));
        assert_eq!(heartbeat.exit_code, Some(1));
    }

    #[test]
    fn an_empty_request_changes_nothing() {
        let heartbeat = heartbeat("{\"a\":1}", &Update::default());
        assert_eq!(
            (heartbeat.summary, heartbeat.system_metrics, heartbeat.exit_code),
            (None, None, None)
        );
    }
}
