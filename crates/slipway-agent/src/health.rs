//! What probes and scrapers see of an agent: `/healthz`, `/readyz` and `/metrics`, on an address that
//! the configuration names.
//!
//! Nothing here decides anything; the loop and the items' tasks write down what they do. There is
//! no authorisation, so nothing is shown that says more than how the agent does: names of items,
//! runs and people are left out.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use slipway_model::address::HostPort;
use slipway_wire::item::Outcome;
use tokio::net::{TcpListener, lookup_host};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::error::AgentError;

/// The loop turns at least each 20 s; without a turn for so long it hangs.
const STUCK: Duration = Duration::from_secs(120);

/// How long a server may be silent before the agent counts as not ready: it misses two heartbeats.
const SILENT: Duration = Duration::from_secs(60);

/// What an agent does, as seen from outside.
#[derive(Debug, Clone)]
pub(crate) struct Vitals(Arc<Mutex<Facts>>);

/// What is known of the agent at some moment.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Empty until the agent is registered.
    pub(crate) name: String,
    pub(crate) version: String,
    /// -1 for no limit.
    pub(crate) max_jobs: i64,
    pub(crate) jobs: usize,
    pub(crate) draining: bool,
    pub(crate) streaming: bool,
    /// The last turn of the loop; none before its first.
    pub(crate) turned: Option<Instant>,
    /// When the server last answered; none if it never did.
    pub(crate) answered: Option<Instant>,
    pub(crate) counts: Counts,
}

/// What has been counted since the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) taken: u64,
    pub(crate) finished: u64,
    pub(crate) failed: u64,
    pub(crate) killed: u64,
    pub(crate) abandoned: u64,
    pub(crate) faults: u64,
    pub(crate) failed_pops: u64,
    pub(crate) failed_renewals: u64,
}

impl Vitals {
    /// Of an agent that starts.
    pub(crate) fn new(version: &str, max_jobs: i64) -> Self {
        Self(Arc::new(Mutex::new(Facts {
            name: String::new(),
            version: version.to_owned(),
            max_jobs,
            jobs: 0,
            draining: false,
            streaming: false,
            turned: None,
            answered: None,
            counts: Counts::default(),
        })))
    }

    /// Writes something down.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.lock());
    }

    /// Counts something.
    pub(crate) fn count(&self, counter: impl FnOnce(&mut Counts) -> &mut u64) {
        *counter(&mut self.lock().counts) += 1;
    }

    /// The server answered.
    pub(crate) fn answered(&self) {
        self.lock().answered = Some(Instant::now());
    }

    /// An outcome was reported.
    pub(crate) fn ended(&self, outcome: Outcome) {
        self.count(|counts| match outcome {
            Outcome::Finished => &mut counts.finished,
            Outcome::Failed => &mut counts.failed,
            Outcome::Killed => &mut counts.killed,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        // Each change is one assignment: a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn facts(&self) -> Facts {
        self.lock().clone()
    }

    /// Answers on an address until the guard is dropped.
    pub(crate) async fn serve(&self, address: &HostPort) -> Result<AbortOnDropHandle<()>, AgentError> {
        let failed = |source| AgentError::HealthAddress {
            address: address.clone(),
            source,
        };
        let listener = TcpListener::bind(&resolve(address).await?[..]).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self.clone());
        tracing::info!("health and metrics are answered on http://{bound}");
        Ok(AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "health and metrics are no longer answered");
            }
        })))
    }
}

/// The addresses that a host means, those of IPv4 first.
pub(crate) async fn resolve(address: &HostPort) -> Result<Vec<SocketAddr>, AgentError> {
    let found = lookup_host((address.host.as_str(), address.port)).await;
    let mut found: Vec<SocketAddr> = match found {
        Ok(found) => found.collect(),
        Err(source) => {
            return Err(AgentError::HealthHost {
                host: address.host.clone(),
                source,
            });
        }
    };
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(found)
}

impl Facts {
    /// Whether the loop turns; a starting agent, which may wait long for its server, has none yet.
    fn alive(&self, now: Instant) -> Result<(), String> {
        match self.turned.map(|turned| now.duration_since(turned)) {
            Some(still) if still > STUCK => Err(format!("the loop has not turned for {} s", still.as_secs())),
            _ => Ok(()),
        }
    }

    /// Whether the agent takes items.
    fn ready(&self, now: Instant) -> Result<(), String> {
        self.alive(now)?;
        if self.turned.is_none() {
            return Err("starting: the agent is not registered yet".to_owned());
        }
        if self.draining {
            return Err("draining: the agent takes nothing new".to_owned());
        }
        match self.answered.map(|answered| now.duration_since(answered)) {
            Some(silence) if silence <= SILENT => Ok(()),
            Some(silence) => Err(format!("the server has not answered for {} s", silence.as_secs())),
            None => Err("the server has not answered yet".to_owned()),
        }
    }

    /// In Prometheus' text format.
    fn metrics(&self, now: Instant) -> String {
        let mut text = String::new();
        let mut metric = |kind: &str, name: &str, help: &str, values: &[(&str, String)]| {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "# HELP slipway_agent_{name} {help}\n# TYPE slipway_agent_{name} {kind}"
            );
            for (labels, value) in values {
                let _ = writeln!(text, "slipway_agent_{name}{labels} {value}");
            }
        };
        let counts = &self.counts;
        let info = format!(
            "{{name=\"{}\",version=\"{}\"}}",
            escape(&self.name),
            escape(&self.version)
        );
        let flag = |value: bool| u8::from(value).to_string();
        metric("gauge", "info", "The agent.", &[(&info, "1".to_owned())]);
        metric(
            "gauge",
            "jobs",
            "Items in the agent's hands.",
            &[("", self.jobs.to_string())],
        );
        let limit = self.max_jobs.to_string();
        metric("gauge", "max_jobs", "Jobs at once; -1 for no limit.", &[("", limit)]);
        let ready = flag(self.ready(now).is_ok());
        metric("gauge", "ready", "Whether the agent takes items.", &[("", ready)]);
        metric("gauge", "draining", "Whether it drains.", &[("", flag(self.draining))]);
        let streaming = flag(self.streaming);
        metric(
            "gauge",
            "streaming",
            "Whether the event stream is open.",
            &[("", streaming)],
        );
        if let Some(answered) = self.answered {
            let silence = now.duration_since(answered).as_secs_f64().to_string();
            let help = "Seconds since the server last answered.";
            metric("gauge", "server_silence_seconds", help, &[("", silence)]);
        }
        let ended = [
            ("{outcome=\"finished\"}", counts.finished.to_string()),
            ("{outcome=\"failed\"}", counts.failed.to_string()),
            ("{outcome=\"killed\"}", counts.killed.to_string()),
            ("{outcome=\"abandoned\"}", counts.abandoned.to_string()),
        ];
        metric("counter", "items_ended_total", "Items that ended here.", &ended);
        for (name, help, value) in [
            ("items_taken_total", "Items that were taken.", counts.taken),
            (
                "faults_total",
                "Items that failed by a fault of the agent.",
                counts.faults,
            ),
            (
                "failed_pops_total",
                "Requests for items that failed.",
                counts.failed_pops,
            ),
            (
                "failed_renewals_total",
                "Renewals of leases that failed.",
                counts.failed_renewals,
            ),
        ] {
            metric("counter", name, help, &[("", value.to_string())]);
        }
        text
    }
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn verdict(result: Result<(), String>) -> Response {
    match result {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()).into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn healthz(State(vitals): State<Vitals>) -> Response {
    verdict(vitals.facts().alive(Instant::now()))
}

async fn readyz(State(vitals): State<Vitals>) -> Response {
    verdict(vitals.facts().ready(Instant::now()))
}

async fn metrics(State(vitals): State<Vitals>) -> Response {
    let text = vitals.facts().metrics(Instant::now());
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_ready_when_it_takes_items_and_alive_while_its_loop_turns() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        // turned, answered, draining, now; alive, ready
        for (turned, answered, draining, now, alive, ready) in [
            (None, None, false, 1_000, "", "not registered"),
            (Some(0), None, false, 0, "", "not answered yet"),
            (Some(0), Some(0), false, 60, "", ""),
            (Some(50), Some(0), false, 61, "", "not answered for 61 s"),
            (Some(0), Some(0), true, 1, "", "draining"),
            (Some(0), Some(121), false, 121, "not turned for 121 s", "not turned"),
        ] {
            let vitals = Vitals::new("slipway@0", 1);
            vitals.note(|facts| {
                facts.turned = turned.map(at);
                facts.answered = answered.map(at);
                facts.draining = draining;
            });
            let facts = vitals.facts();
            for (found, expected) in [(facts.alive(at(now)), alive), (facts.ready(at(now)), ready)] {
                match found {
                    Ok(()) => assert_eq!(expected, "", "{facts:?}"),
                    Err(why) => assert!(!expected.is_empty() && why.contains(expected), "{why}: {facts:?}"),
                }
            }
        }
    }

    #[test]
    fn metrics_are_in_the_text_format_and_labels_are_escaped() {
        let vitals = Vitals::new("slipway@0", -1);
        vitals.note(|facts| {
            facts.name = "a\"b\\c".to_owned();
            facts.jobs = 3;
        });
        vitals.ended(Outcome::Finished);
        vitals.ended(Outcome::Killed);
        vitals.count(|counts| &mut counts.taken);
        let text = vitals.facts().metrics(Instant::now());
        for line in [
            r#"slipway_agent_info{name="a\"b\\c",version="slipway@0"} 1"#,
            "slipway_agent_jobs 3",
            "slipway_agent_max_jobs -1",
            "slipway_agent_ready 0",
            r#"slipway_agent_items_ended_total{outcome="finished"} 1"#,
            r#"slipway_agent_items_ended_total{outcome="failed"} 0"#,
            "slipway_agent_items_taken_total 1",
            "# TYPE slipway_agent_items_taken_total counter",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
    }
}
