//! Reading what a run logged: rows by step, evenly spaced samples, and which metrics there are.
//!
//! History can be millions of lines long. Everything here reads it in pages and keeps a bounded
//! part.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};
use slipway_model::id::RunName;
use slipway_store::run_data::Stream;
use slipway_store::{Result, Store};

/// Lines per read.
const PAGE: usize = 2_000;

/// Lines at each end of the history from which [`keys`] tells the metrics.
const KEY_LINES: usize = 100;

/// One line of history or system metrics.
pub(crate) type Row = Map<String, Value>;

/// The step of a row.
#[must_use]
pub(crate) fn step(row: &Row) -> Option<i64> {
    let step = row.get("_step")?;
    #[expect(clippy::cast_possible_truncation, reason = "a step beyond the range saturates")]
    step.as_i64().or_else(|| step.as_f64().map(|step| step as i64))
}

fn parse(text: &str) -> Row {
    // Lines are checked when they come in; one that a damaged database holds is an empty row.
    serde_json::from_str(text).unwrap_or_default()
}

/// Keeps at most about `limit` of the values that it sees, evenly spaced, the last included.
#[derive(Debug)]
pub(crate) struct Sampler<T> {
    limit: usize,
    stride: usize,
    seen: usize,
    kept: Vec<T>,
    last: Option<T>,
}

impl<T> Sampler<T> {
    /// Keeps at most `limit` values, at least two.
    #[must_use]
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(2),
            stride: 1,
            seen: 0,
            kept: Vec::new(),
            last: None,
        }
    }

    /// Sees a value.
    pub(crate) fn push(&mut self, value: T) {
        if self.seen.is_multiple_of(self.stride) {
            if self.kept.len() >= 2 * self.limit {
                let mut index = 0;
                self.kept.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                self.stride *= 2;
            }
            if self.seen.is_multiple_of(self.stride) {
                self.kept.push(value);
                self.last = None;
            } else {
                self.last = Some(value);
            }
        } else {
            self.last = Some(value);
        }
        self.seen += 1;
    }

    /// The kept values, in the order seen.
    #[must_use]
    pub(crate) fn finish(mut self) -> Vec<T> {
        self.kept.extend(self.last);
        let count = self.kept.len();
        if count <= self.limit {
            return self.kept;
        }
        let mut index = 0;
        self.kept.retain(|_| {
            // Of `count` values the one at `index` stays if it begins a new one of `limit` parts.
            let part = |index: usize| index * (self.limit - 1) / (count - 1);
            let keep = index == 0 || part(index) != part(index - 1);
            index += 1;
            keep
        });
        self.kept
    }
}

/// Calls back with every row of a stream, from a line number on, until it answers `false`.
async fn scan(
    store: &Store,
    run: &RunName,
    stream: Stream,
    mut from: i64,
    mut row: impl FnMut(Row) -> bool,
) -> Result<()> {
    loop {
        let lines = store.lines(run, stream, from, PAGE).await?;
        let more = lines.len() == PAGE;
        for line in lines {
            from = line.number + 1;
            if !row(parse(&line.text)) {
                return Ok(());
            }
        }
        if !more {
            return Ok(());
        }
    }
}

/// At most `samples` rows of the whole stream, evenly spaced.
///
/// # Errors
/// If the store cannot be read.
pub(crate) async fn sampled(store: &Store, run: &RunName, stream: Stream, samples: usize) -> Result<Vec<Row>> {
    let mut sampler = Sampler::new(samples);
    scan(store, run, stream, 0, |row| {
        sampler.push(row);
        true
    })
    .await?;
    Ok(sampler.finish())
}

/// At most `samples` rows of a range of steps that have all of the keys, reduced to these, evenly
/// spaced.
///
/// # Errors
/// If the store cannot be read.
pub(crate) async fn sampled_keys(
    store: &Store,
    run: &RunName,
    keys: &[String],
    steps: RangeInclusive<i64>,
    samples: usize,
) -> Result<Vec<Row>> {
    let from = match *steps.start() {
        ..=0 => 0,
        start => first_line_of_step(store, run, start).await?,
    };
    let mut sampler = Sampler::new(samples);
    scan(store, run, Stream::History, from, |row| {
        if step(&row).is_some_and(|step| step > *steps.end()) {
            return false;
        }
        if let Some(picked) = pick(&row, keys) {
            sampler.push(picked);
        }
        true
    })
    .await?;
    Ok(sampler.finish())
}

/// The first row that has all of the keys, reduced to these.
///
/// # Errors
/// If the store cannot be read.
pub(crate) async fn first_with(store: &Store, run: &RunName, keys: &[String]) -> Result<Option<Row>> {
    let mut first = None;
    scan(store, run, Stream::History, 0, |row| {
        first = pick(&row, keys);
        first.is_none()
    })
    .await?;
    Ok(first)
}

/// A row reduced to the keys, if it has all of them.
fn pick(row: &Row, keys: &[String]) -> Option<Row> {
    let picked: Option<Row> = keys
        .iter()
        .map(|key| at(row, key, DEPTH).map(|value| (key.clone(), value.clone())))
        .collect();
    picked.filter(|picked| !picked.is_empty())
}

/// The value of a metric: a key of the row, or the names of nested ones joined with dots.
fn at<'a>(row: &'a Row, key: &str, depth: usize) -> Option<&'a Value> {
    row.get(key).or_else(|| {
        let depth = depth.checked_sub(1)?;
        let mut dots = key.match_indices('.').take(DOTS);
        dots.find_map(|(dot, _)| at(nested(row.get(&key[..dot])?)?, &key[dot + 1..], depth))
    })
}

/// How deep metrics lie in a row at most.
const DEPTH: usize = 4;

/// How many dots the name of what holds a nested metric has at most; keys of rows may have some of their own.
const DOTS: usize = 16;

/// A value that holds further metrics; media are described by what looks like one.
fn nested(value: &Value) -> Option<&Row> {
    value.as_object().filter(|row| !row.contains_key("_type"))
}

/// The rows from one step up to, not including, another, at most `limit`.
///
/// # Errors
/// If the store cannot be read.
pub(crate) async fn between(
    store: &Store,
    run: &RunName,
    min_step: i64,
    max_step: i64,
    limit: usize,
) -> Result<Vec<Row>> {
    let from = first_line_of_step(store, run, min_step).await?;
    let mut rows = Vec::new();
    scan(store, run, Stream::History, from, |row| {
        match step(&row) {
            Some(step) if step >= max_step => return false,
            Some(step) if step < min_step => return true,
            _ => rows.push(row),
        }
        rows.len() < limit
    })
    .await?;
    Ok(rows)
}

/// The first line whose step is at least `min_step`: steps never decrease, so halving finds it.
async fn first_line_of_step(store: &Store, run: &RunName, min_step: i64) -> Result<i64> {
    let (mut low, mut high) = (0, store.line_count(run, Stream::History).await?);
    while low < high {
        let middle = low + (high - low) / 2;
        let line = store.lines(run, Stream::History, middle, 1).await?.into_iter().next();
        match line.map(|line| (line.number, step(&parse(&line.text)))) {
            Some((number, Some(step))) if step < min_step => low = number + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The wire's `historyKeys`: the metrics, told from both ends of the history, and the last step.
/// `None` if nothing was logged.
///
/// # Errors
/// If the store cannot be read.
pub(crate) async fn keys(store: &Store, run: &RunName) -> Result<Option<Value>> {
    let mut lines = store.lines(run, Stream::History, 0, KEY_LINES).await?;
    if lines.is_empty() {
        return Ok(None);
    }
    let first_tail_line = lines.last().map_or(0, |line| line.number + 1);
    let tail = store.last_lines(run, Stream::History, KEY_LINES).await?;
    lines.extend(tail.into_iter().filter(|line| line.number >= first_tail_line));
    let rows: Vec<Row> = lines.iter().map(|line| parse(&line.text)).collect();
    Ok(Some(describe(&rows)))
}

/// How often a metric had a value of each type, and its last one.
type Metrics<'a> = BTreeMap<String, (BTreeMap<&'static str, i64>, &'a Value)>;

fn describe(rows: &[Row]) -> Value {
    fn count<'a>(metrics: &mut Metrics<'a>, prefix: &str, row: &'a Row, depth: usize) {
        for (key, value) in row {
            let key = format!("{prefix}{key}");
            let holds = depth > 0 && key.matches('.').count() < DOTS;
            if let Some(row) = nested(value).filter(|_| holds) {
                count(metrics, &format!("{key}."), row, depth - 1);
            }
            let entry = metrics.entry(key).or_insert_with(|| (BTreeMap::new(), value));
            *entry.0.entry(type_name(value)).or_default() += 1;
            entry.1 = value;
        }
    }
    let mut metrics = Metrics::new();
    for row in rows {
        count(&mut metrics, "", row, DEPTH);
    }
    let last_step = rows.iter().filter_map(step).max().unwrap_or(-1);
    let keys: Map<String, Value> = metrics
        .into_iter()
        .map(|(key, (types, last))| {
            let counts: Vec<Value> = types
                .into_iter()
                .map(|(name, count)| json!({"type": name, "count": count}))
                .collect();
            let described = json!({"typeCounts": counts, "monotonic": false, "previousValue": last});
            (key, described)
        })
        .collect();
    json!({"step": last_step, "lastStep": last_step, "keys": keys, "sets": []})
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

/// Numbers of a row by name, nested objects joined with dots; bookkeeping of the client (names with
/// a leading underscore) and media left out.
#[must_use]
pub(crate) fn numbers(row: &Row) -> Vec<(String, f64)> {
    fn walk(prefix: &str, row: &Row, depth: usize, found: &mut Vec<(String, f64)>) {
        if row.contains_key("_type") {
            return;
        }
        for (key, value) in row.iter().filter(|(key, _)| !key.starts_with('_')) {
            let name = if prefix.is_empty() {
                key.clone()
            } else {
                format!("{prefix}.{key}")
            };
            match value {
                Value::Object(nested) if depth > 0 => walk(&name, nested, depth - 1, found),
                Value::Number(number) => found.extend(number.as_f64().map(|number| (name, number))),
                Value::String(text) if ["NaN", "Infinity", "-Infinity"].contains(&text.as_str()) => {
                    found.push((name, f64::NAN));
                }
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk("", row, DEPTH, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(value: Value) -> Row {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn metrics_are_described_by_type_and_last_value() {
        let described = describe(&[
            row(json!({"_step": 0, "loss": 1.0})),
            row(json!({"_step": 7, "loss": "NaN", "table": {"_type": "table"}, "train": {"acc": {"top1": 0.5}}})),
        ]);
        assert_eq!(described["lastStep"], 7);
        assert_eq!(described["keys"]["train.acc.top1"]["previousValue"], 0.5);
        assert_eq!(described["keys"]["table._type"], Value::Null);
        assert_eq!(
            described["keys"]["loss"],
            json!({"typeCounts": [{"type": "number", "count": 1}, {"type": "string", "count": 1}],
                "monotonic": false, "previousValue": "NaN"})
        );
    }

    #[test]
    fn numbers_are_flattened_and_media_left_out() {
        let found = numbers(&row(json!({
            "_step": 1, "loss": 2, "train": {"acc": 0.5, "_x": 1}, "img": {"_type": "image-file", "width": 3},
            "name": "x", "bad": "NaN"
        })));
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["loss", "train.acc", "bad"]);
    }

    #[test]
    fn a_row_is_reduced_to_metrics_by_their_names_in_the_keys() {
        let logged = row(
            json!({"a": 1, "train": {"acc": {"top1": 0.5}}, "b.c": 2, "img": {"_type": "image-file"},
            "o.f.m.a.n.y.dots": {"in": 3}}),
        );
        for (keys, picked) in [
            (&["a", "train.acc.top1"][..], json!({"a": 1, "train.acc.top1": 0.5})),
            (&["b.c"], json!({"b.c": 2})),
            (&["train.acc"], json!({"train.acc": {"top1": 0.5}})),
            (&["a", "train.loss"], Value::Null),
            (&["img._type"], Value::Null),
            (&["o.f.m.a.n.y.dots.in"], json!({"o.f.m.a.n.y.dots.in": 3})),
        ] {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            assert_eq!(
                pick(&logged, &keys).map_or(Value::Null, Value::Object),
                picked,
                "{keys:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn samples_are_bounded_ordered_and_keep_both_ends(count in 0..5_000_usize, limit in 2..300_usize) {
            let mut sampler = Sampler::new(limit);
            (0..count).for_each(|value| sampler.push(value));
            let kept = sampler.finish();
            prop_assert!(kept.len() <= limit, "{} of {limit}", kept.len());
            prop_assert!(kept.len() >= count.min(limit.div_ceil(2)), "{} of {count}", kept.len());
            prop_assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!(kept.first().copied(), (count > 0).then_some(0));
            prop_assert_eq!(kept.last().copied(), count.checked_sub(1));
        }
    }
}
