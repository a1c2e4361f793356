//! The tables: one row per measurement, the disk's figures above, ratios to peers below.

use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::server::Used;

/// One measurement.
pub(crate) struct Row {
    store: &'static str,
    what: String,
    figure: String,
    used: Used,
    /// For ratios and for machines.
    value: Value,
}

impl Row {
    /// A rate per second.
    pub(crate) fn rate(store: &'static str, what: &str, rate: f64, used: Used) -> Self {
        let figure = format!("{}/s", thousands(rate));
        Self {
            store,
            what: what.to_owned(),
            figure,
            used,
            value: json!({"per_s": rate}),
        }
    }

    /// Sorted times.
    pub(crate) fn times(store: &'static str, what: &str, times: &[Duration], used: Used) -> Self {
        let (p50, p99) = (millis(times, 0.5), millis(times, 0.99));
        let figure = format!("p50 {p50:.2} ms, p99 {p99:.2} ms");
        Self {
            store,
            what: what.to_owned(),
            figure,
            used,
            value: json!({"p50_ms": p50, "p99_ms": p99}),
        }
    }

    /// Sorted times of cancelling, whose budget is a 95th percentile.
    pub(crate) fn cancels(store: &'static str, what: &str, times: &[Duration], used: Used) -> Self {
        let (p50, p95) = (millis(times, 0.5), millis(times, 0.95));
        let figure = format!("p50 {p50:.2} ms, p95 {p95:.2} ms");
        Self {
            value: json!({"p50_ms": p50, "p95_ms": p95}),
            ..Self::text(store, what, figure, used)
        }
    }

    /// The median of a row of times, in milliseconds.
    pub(crate) fn p50(&self) -> f64 {
        self.value["p50_ms"].as_f64().unwrap_or(f64::NAN)
    }

    /// Anything else.
    pub(crate) fn text(store: &'static str, what: &str, figure: String, used: Used) -> Self {
        Self {
            store,
            what: what.to_owned(),
            value: json!({"text": figure}),
            figure,
            used,
        }
    }
}

/// One figure of our agent beside the official agent's.
pub(crate) struct Pair {
    /// What was measured.
    pub(crate) what: &'static str,
    /// In what.
    pub(crate) unit: &'static str,
    /// Our agent's.
    pub(crate) ours: f64,
    /// The official agent's.
    pub(crate) theirs: f64,
}

/// All measurements of a run.
pub(crate) struct Report {
    disk: Vec<Duration>,
    rows: Vec<Row>,
    peers: Vec<Value>,
    pairs: Vec<Pair>,
}

impl Report {
    /// Begins with the disk's figures.
    pub(crate) const fn new(disk: Vec<Duration>) -> Self {
        Self {
            disk,
            rows: Vec::new(),
            peers: Vec::new(),
            pairs: Vec::new(),
        }
    }

    /// Prints the disk's figures and the table's head.
    pub(crate) fn print_head(&self) {
        print(&format!(
            "disk: fdatasync of 4 KiB p50 {:.3} ms, p99 {:.3} ms\n\n| Store or agent | What | Measured | Cores: server, load |\n| --- | --- | --- | --- |",
            millis(&self.disk, 0.5),
            millis(&self.disk, 0.99)
        ));
    }

    /// Adds a row and prints it at once.
    pub(crate) fn add(&mut self, row: Row) {
        print(&format!(
            "| {} | {} | {} | {:.2}, {:.2} |",
            row.store, row.what, row.figure, row.used.server, row.used.load
        ));
        self.rows.push(row);
    }

    /// Adds what a peer printed.
    pub(crate) fn peer(&mut self, figures: Value) {
        self.peers.push(figures);
    }

    /// Adds a figure of both agents.
    pub(crate) fn pair(&mut self, pair: Pair) {
        self.pairs.push(pair);
    }

    fn print_pairs(&self) {
        if self.pairs.is_empty() {
            return;
        }
        print("\n| What | Our agent | Official agent | Official to ours |\n| --- | --- | --- | --- |");
        for Pair {
            what,
            unit,
            ours,
            theirs,
        } in &self.pairs
        {
            print(&format!(
                "| {what} | {ours:.1} {unit} | {theirs:.1} {unit} | {:.2} |",
                theirs / ours
            ));
        }
    }

    /// Prints the peers and the ratios of the SQLite rows to the better of them, and both agents' figures.
    pub(crate) fn print_ratios(&self) {
        self.print_pairs();
        if self.peers.is_empty() {
            return;
        }
        print("\n| Peer | Single inserts | In bulks | Worked | Insert → worked |\n| --- | --- | --- | --- | --- |");
        for peer in &self.peers {
            let number = |key: &str| peer[key].as_f64().unwrap_or(f64::NAN);
            print(&format!(
                "| {} | {}/s | {}/s | {}/s | p50 {:.2} ms, p99 {:.2} ms |",
                peer["peer"].as_str().unwrap_or("?"),
                thousands(number("insert_per_s")),
                thousands(number("bulk_per_s")),
                thousands(number("worked_per_s")),
                number("latency_p50_ms"),
                number("latency_p99_ms"),
            ));
        }
        print("\n| Ours on | Row | Ratio to the better peer |\n| --- | --- | --- |");
        for (what, key, peer_key) in [
            ("push answered → item at an idle agent", "p50_ms", "latency_p50_ms"),
            ("push sent → item at an idle agent", "p50_ms", "latency_p50_ms"),
            ("durable enqueue, single calls, 64 clients", "per_s", "insert_per_s"),
            ("durable enqueue, bulks of 1,000", "per_s", "bulk_per_s"),
            ("lease, start, finish in batches", "per_s", "worked_per_s"),
        ] {
            let figures = self.peers.iter().filter_map(|peer| peer[peer_key].as_f64());
            let better = if key == "p50_ms" {
                figures.reduce(f64::min)
            } else {
                figures.reduce(f64::max)
            };
            for row in self.rows.iter().filter(|row| row.what == what) {
                if let (Some(ours), Some(better)) = (row.value[key].as_f64(), better) {
                    print(&format!("| {} | {what} | {:.2} |", row.store, ours / better));
                }
            }
        }
    }

    /// Everything, for machines.
    pub(crate) fn to_json(&self) -> String {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({"store": row.store, "what": row.what, "value": row.value,
                    "server_cores": row.used.server, "load_cores": row.used.load})
            })
            .collect();
        json!({
            "fdatasync_p50_ms": millis(&self.disk, 0.5),
            "fdatasync_p99_ms": millis(&self.disk, 0.99),
            "rows": rows,
            "peers": self.peers,
        })
        .to_string()
    }
}

/// A percentile of sorted times, in milliseconds.
fn millis(sorted: &[Duration], quantile: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let index = ((sorted.len() as f64 * quantile) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Writes a line to standard output; a closed pipe is nobody's fault.
fn print(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// Writes a line to standard error.
pub(crate) fn complain(line: &str) {
    drop(writeln!(std::io::stderr(), "slipway-bench: {line}"));
}
