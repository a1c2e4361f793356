//! What `/metrics` shows, in Prometheus' text format.
//!
//! Counters and latencies gather in the process; queue depths and agents are read from the store
//! when they are asked for. Names of queues are shown to administrators only.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse as _, Response};
use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use slipway_store::queues::{Queue, QueueCounts};

use crate::access;
use crate::app::App;
use crate::error::ApiError;

/// Buckets of latencies, in seconds.
const BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// The recorder of the process; several servers in one process share it. `None` if the program
/// installed another one before.
fn recorder() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let builder = PrometheusBuilder::new().set_buckets(&BUCKETS).ok()?;
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            metrics::set_global_recorder(recorder).ok()?;
            Some(handle)
        })
        .as_ref()
}

/// Starts to count.
pub(crate) fn install() {
    if recorder().is_none() {
        tracing::warn!("another metrics recorder is installed: /metrics shows no counters");
    }
}

/// Folds what was recorded into its buckets; without it the process would keep every single latency
/// until somebody asks for the metrics.
pub(crate) fn fold() {
    if let Some(recorder) = recorder() {
        recorder.run_upkeep();
    }
}

/// The label of a method. Clients may make methods up, and each label is a series that stays.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// A request was answered.
pub(crate) fn request(route: &str, method: &Method, status: u16, took: Duration) {
    counter!(
        "slipway_http_requests_total",
        "route" => route.to_owned(), "method" => method_label(method), "status" => status.to_string()
    )
    .increment(1);
    histogram!("slipway_http_request_seconds", "route" => route.to_owned()).record(took.as_secs_f64());
}

/// Something was written to the record.
pub(crate) fn item_event(kind: &str) {
    counter!("slipway_events_total", "kind" => kind.to_owned()).increment(1);
}

/// How far the passing on of the record lags behind it.
pub(crate) fn event_lag(milliseconds: i64) {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a lag of 2^52 ms is no less wrong when rounded"
    )]
    gauge!("slipway_event_lag_seconds").set(milliseconds.max(0) as f64 / 1_000.0);
}

/// Answers `/metrics`.
pub(crate) async fn get_metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    match render(&app, &headers).await {
        Ok(text) => (
            [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(error) => error.into_response(),
    }
}

async fn render(app: &App, headers: &HeaderMap) -> Result<String, ApiError> {
    let named = headers.contains_key(header::AUTHORIZATION) && {
        let principal = app.authenticate(headers).await?;
        access::administer_installation(&principal).is_ok()
    };
    let asked = Instant::now();
    let mut queues = Vec::new();
    for entity in app.store.entities().await? {
        queues.extend(app.store.queues(&entity.name, None).await?);
    }
    let ids: Vec<_> = queues.iter().map(|queue| queue.id).collect();
    let counts = app.store.queue_counts(&ids).await?;
    histogram!("slipway_store_read_seconds").record(asked.elapsed().as_secs_f64());
    gauge!("slipway_connected_agents").set(u32::try_from(app.hub.connected_agents()).unwrap_or(u32::MAX));
    let mut text = recorder().map(PrometheusHandle::render).unwrap_or_default();
    text.push_str(&depths(&queues, &counts, named));
    Ok(text)
}

/// How many items queues hold: one series per queue if `named`, else sums.
fn depths(queues: &[Queue], counts: &[QueueCounts], named: bool) -> String {
    let mut text = String::from("# TYPE slipway_queue_items gauge\n");
    let mut write = |labels: &str, counts: &QueueCounts| {
        for (state, value) in [
            ("pending", counts.pending),
            ("starting", counts.starting),
            ("running", counts.running),
        ] {
            // Writing to a string cannot fail.
            let _written = writeln!(text, "slipway_queue_items{{{labels}state=\"{state}\"}} {value}");
        }
    };
    if named {
        for (queue, counts) in queues.iter().zip(counts) {
            let labels = format!(
                "entity=\"{}\",project=\"{}\",queue=\"{}\",",
                escape(&queue.entity),
                escape(&queue.project),
                escape(&queue.name)
            );
            write(&labels, counts);
        }
    } else {
        let mut sum = QueueCounts::default();
        for counts in counts {
            sum.pending += counts.pending;
            sum.starting += counts.starting;
            sum.running += counts.running;
        }
        write("", &sum);
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_name_no_queue() {
        let counts = [
            QueueCounts {
                pending: 2,
                running: 1,
                ..QueueCounts::default()
            },
            QueueCounts {
                pending: 3,
                ..QueueCounts::default()
            },
        ];
        let text = depths(&[], &counts, false);
        assert!(text.contains("slipway_queue_items{state=\"pending\"} 5\n"));
        assert!(text.contains("slipway_queue_items{state=\"running\"} 1\n"));
        assert_eq!(escape("a\"b\\c\n"), "a\\\"b\\\\c\\n");
    }
}
