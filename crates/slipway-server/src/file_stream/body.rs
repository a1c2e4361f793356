//! The body of a file_stream request: bytes in, typed update out.
//!
//! Pure. It accepts what clients are known to send and a little more (invalid UTF-8, lone
//! surrogates, bare `NaN` and `Infinity`), because refusing a request ends the client's stream for
//! good. What it cannot understand it refuses with what is wrong and where. It does not store
//! anything and knows nothing of runs.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// The longest line, in bytes.
pub(crate) const MAX_LINE: usize = 10 << 20;

/// The largest body after decompression, in bytes. A line of [`MAX_LINE`] whose bytes are all
/// written as JSON escapes fits.
pub(crate) const MAX_BODY: usize = 64 << 20;

/// Line numbers stay below this, so that sums never overflow.
const MAX_OFFSET: i64 = 1 << 40;

/// Why a body is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// Larger than [`MAX_BODY`] or a line longer than [`MAX_LINE`].
    #[error("{what} is larger than the limit of {limit} bytes; send smaller pieces")]
    Large {
        /// The body, or which line.
        what: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not JSON, or JSON of another shape.
    #[error("{place}: {problem}")]
    Malformed {
        /// Where: line and column, or a path such as `files["output.log"].offset`.
        place: String,
        /// What is wrong.
        problem: String,
    },
}

/// Lines of one stream, from a line number on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Chunk {
    /// The number of the first line.
    pub(crate) offset: i64,
    /// The lines.
    pub(crate) lines: Vec<String>,
}

/// What a request says. Everything absent is a heartbeat.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Update {
    /// `wandb-history.jsonl`: each line a JSON object.
    pub(crate) history: Option<Chunk>,
    /// `wandb-events.jsonl`: each line a JSON object.
    pub(crate) events: Option<Chunk>,
    /// `output.log`: each line as [`crate::console`] reads it.
    pub(crate) console: Option<Chunk>,
    /// `wandb-summary.json`: the latest complete document.
    pub(crate) summary: Option<Map<String, Value>>,
    /// The last value of each system metric in `events`.
    pub(crate) system_metrics: Map<String, Value>,
    /// The run is about to be preempted.
    pub(crate) preempting: bool,
    /// The exit code; present once the client is complete.
    pub(crate) exit_code: Option<i64>,
}

#[derive(Deserialize)]
struct Body {
    files: Option<BTreeMap<String, FilePart>>,
    // Files are recorded when their bytes arrive; the list is only checked for its type.
    #[serde(rename = "uploaded")]
    _uploaded: Option<Vec<String>>,
    preempting: Option<bool>,
    complete: Option<bool>,
    exitcode: Option<i64>,
}

#[derive(Deserialize)]
struct FilePart {
    offset: Option<i64>,
    content: Option<Vec<String>>,
}

/// Reads a body.
///
/// # Errors
/// If it is too large, not JSON, or of another shape.
pub(crate) fn parse(bytes: &[u8]) -> Result<Update, BodyError> {
    check_size("the body", bytes.len(), MAX_BODY)?;
    let text = String::from_utf8_lossy(bytes);
    if text.trim().is_empty() {
        return Err(BodyError::Malformed {
            place: "line 1 column 1".to_owned(),
            problem: "the body is empty; send a JSON object, `{}` for a heartbeat".to_owned(),
        });
    }
    let body: Body = serde_json::from_str(&text)
        .or_else(|first| serde_json::from_str(&replace_lone_surrogates(&text)).map_err(|_| first))
        .map_err(|error| malformed(&error))?;

    let mut update = Update {
        preempting: body.preempting.unwrap_or(false),
        // A client that is complete without saying how it ended has ended well.
        exit_code: match body.complete {
            Some(true) => Some(body.exitcode.unwrap_or(0)),
            _ => None,
        },
        ..Update::default()
    };
    for (name, part) in body.files.unwrap_or_default() {
        let lines = part.content.unwrap_or_default();
        let offset = check_offset(&name, part.offset.unwrap_or(0))?;
        for (index, line) in lines.iter().enumerate() {
            check_size(&format!("line {index} of {name}"), line.len(), MAX_LINE)?;
        }
        match name.as_str() {
            "wandb-history.jsonl" => {
                let (lines, _) = objects(&name, lines)?;
                update.history = Some(Chunk { offset, lines });
            }
            "wandb-events.jsonl" => {
                let (lines, values) = objects(&name, lines)?;
                update.system_metrics = last_metrics(values);
                update.events = Some(Chunk { offset, lines });
            }
            "output.log" => {
                let lines = lines.into_iter().map(|line| line.replace('\0', "\u{fffd}")).collect();
                update.console = Some(Chunk { offset, lines });
            }
            "wandb-summary.json" => {
                let (_, values) = objects(&name, lines)?;
                update.summary = values.into_iter().next_back();
            }
            // Other files are uploaded whole; a stream of their lines adds nothing.
            _ => {}
        }
    }
    Ok(update)
}

fn check_size(what: &str, size: usize, limit: usize) -> Result<(), BodyError> {
    if size > limit {
        return Err(BodyError::Large {
            what: what.to_owned(),
            limit,
        });
    }
    Ok(())
}

fn check_offset(name: &str, offset: i64) -> Result<i64, BodyError> {
    if (0..MAX_OFFSET).contains(&offset) {
        return Ok(offset);
    }
    Err(BodyError::Malformed {
        place: format!("files[{name:?}].offset"),
        problem: format!("{offset} is not a line number from 0 to {}", MAX_OFFSET - 1),
    })
}

fn malformed(error: &serde_json::Error) -> BodyError {
    let text = error.to_string();
    let place = format!("line {} column {}", error.line(), error.column());
    let problem = text.strip_suffix(&format!(" at {place}")).unwrap_or(&text).to_owned();
    BodyError::Malformed { place, problem }
}

/// Each line as a JSON object; the lines come back as valid JSON text.
fn objects(name: &str, lines: Vec<String>) -> Result<(Vec<String>, Vec<Map<String, Value>>), BodyError> {
    let mut texts = Vec::with_capacity(lines.len());
    let mut values = Vec::with_capacity(lines.len());
    for (index, line) in lines.into_iter().enumerate() {
        let (text, value) = object(line).map_err(|problem| BodyError::Malformed {
            place: format!("files[{name:?}].content[{index}]"),
            problem,
        })?;
        texts.push(text);
        values.push(value);
    }
    Ok((texts, values))
}

fn object(line: String) -> Result<(String, Map<String, Value>), String> {
    if let Ok(value) = serde_json::from_str(&line) {
        return Ok((line, value));
    }
    let quoted = replace_lone_surrogates(&quote_non_numbers(&line));
    match serde_json::from_str(&quoted) {
        Ok(value) => Ok((quoted, value)),
        Err(error) => Err(format!("not a JSON object: {error}")),
    }
}

/// The last value of each metric; names with a leading underscore are bookkeeping of the client.
fn last_metrics(lines: Vec<Map<String, Value>>) -> Map<String, Value> {
    lines
        .into_iter()
        .flatten()
        .filter(|(name, _)| !name.starts_with('_'))
        .collect()
}

/// Puts quotes around bare `NaN`, `Infinity` and `-Infinity`, which clients write although JSON
/// has no such numbers.
fn quote_non_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        if in_string {
            let taken = if c == '\\' {
                rest.chars().take(2).map(char::len_utf8).sum()
            } else {
                c.len_utf8()
            };
            in_string = c != '"';
            out.push_str(&rest[..taken]);
            rest = &rest[taken..];
            continue;
        }
        if let Some(word) = ["NaN", "Infinity", "-Infinity"]
            .into_iter()
            .find(|word| rest.starts_with(word))
        {
            out.push('"');
            out.push_str(word);
            out.push('"');
            rest = &rest[word.len()..];
            continue;
        }
        in_string = c == '"';
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// Replaces `\uD800`–`\uDFFF` escapes that form no pair by `\ufffd`: they carry bytes of the
/// workload's output that were not UTF-8.
fn replace_lone_surrogates(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match escaped_unit(rest) {
            Some(0xD800..=0xDBFF) if matches!(rest.get(6..).and_then(escaped_unit), Some(0xDC00..=0xDFFF)) => 12,
            Some(0xD800..=0xDFFF) => {
                out.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            Some(_) => 6,
            None => rest.chars().take(2).map(char::len_utf8).sum(),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out.push_str(rest);
    out
}

/// The code unit of a `\uXXXX` escape at the start of a text.
fn escaped_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse_json(value: &Value) -> Result<Update, BodyError> {
        parse(value.to_string().as_bytes())
    }

    #[test]
    fn an_empty_object_is_a_heartbeat() {
        assert_eq!(parse(b"{}"), Ok(Update::default()));
    }

    #[test]
    fn a_final_request_carries_data_and_the_exit_code() {
        let update = parse_json(&json!({
            "files": {
                "wandb-history.jsonl": {"offset": 3, "content": ["{\"_step\":3,\"loss\":1.5e+00}"]},
                "wandb-summary.json": {"offset": 0, "content": ["{\"loss\":1}", "{\"loss\":2}"]},
                "wandb-events.jsonl": {"offset": 0, "content": [
                    "{\"_wandb\":true,\"system.cpu\":1,\"system.gpu\":5}", "{\"system.cpu\":2}"]},
                "output.log": {"offset": 7, "content": ["a\u{0}b", "ERROR x"]},
                "diff.patch": {"offset": 0, "content": ["ignored"]},
            },
            "uploaded": ["config.yaml"], "preempting": true, "complete": true, "exitcode": 255,
        }))
        .unwrap();
        assert_eq!(
            update.history,
            Some(Chunk {
                offset: 3,
                lines: vec!["{\"_step\":3,\"loss\":1.5e+00}".to_owned()]
            })
        );
        assert_eq!(update.console.unwrap().lines, ["a\u{fffd}b", "ERROR x"]);
        assert_eq!(Value::Object(update.summary.unwrap()), json!({"loss": 2}));
        assert_eq!(
            Value::Object(update.system_metrics),
            json!({"system.cpu": 2, "system.gpu": 5})
        );
        assert_eq!((update.preempting, update.exit_code), (true, Some(255)));
    }

    #[test]
    fn an_exit_code_counts_only_with_complete() {
        for (body, expected) in [
            (json!({"complete": true, "exitcode": 3}), Some(3)),
            (json!({"complete": true}), Some(0)),
            (json!({"complete": false, "exitcode": 3}), None),
            (json!({"exitcode": 3}), None),
        ] {
            assert_eq!(parse_json(&body).unwrap().exit_code, expected, "{body}");
        }
    }

    #[test]
    fn numbers_that_json_lacks_become_words() {
        let update = parse_json(&json!({"files": {"wandb-history.jsonl": {"content": [
            r#"{"a":NaN,"b":[Infinity,-Infinity],"say \" NaN":"NaN, -Infinity"}"#]}}}))
        .unwrap();
        assert_eq!(
            update.history.unwrap().lines,
            [r#"{"a":"NaN","b":["Infinity","-Infinity"],"say \" NaN":"NaN, -Infinity"}"#]
        );
    }

    #[test]
    fn binary_output_survives_as_replacement_characters() {
        for (body, expected) in [
            (
                &b"{\"files\":{\"output.log\":{\"content\":[\"a\xff\xfeb\"]}}}"[..],
                "a\u{fffd}\u{fffd}b",
            ),
            (
                br#"{"files":{"output.log":{"content":["x\udce9\\ud800y\ud83d\ude00"]}}}"#,
                "x\u{fffd}\\ud800y\u{1f600}",
            ),
            (
                br#"{"files":{"output.log":{"content":["\ud800\ud800\udc00"]}}}"#,
                "\u{fffd}\u{10000}",
            ),
        ] {
            assert_eq!(parse(body).unwrap().console.unwrap().lines, [expected]);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place() {
        for (body, place) in [
            ("", "line 1 column 1"),
            ("{\"files\": {", "line 1 column 11"),
            (
                "{\"files\": {\"output.log\": {\"offset\": 0, \"content\": [\"half",
                "line 1 column 56",
            ),
            ("[]", "line 1 column 2"),
            ("nonsense", "line 1 column 2"),
            ("{\"complete\": \"yes\"}", "line 1 column 18"),
            (
                "{\"files\": {\"output.log\": {\"offset\": -1}}}",
                "files[\"output.log\"].offset",
            ),
            (
                "{\"files\": {\"output.log\": {\"offset\": 9223372036854775807}}}",
                "files[\"output.log\"].offset",
            ),
            (
                "{\"files\": {\"wandb-history.jsonl\": {\"content\": [\"{}\", \"[1]\"]}}}",
                "files[\"wandb-history.jsonl\"].content[1]",
            ),
            (
                "{\"files\": {\"wandb-summary.json\": {\"content\": [\"{\"]}}}",
                "files[\"wandb-summary.json\"].content[0]",
            ),
        ] {
            match parse(body.as_bytes()) {
                Err(BodyError::Malformed { place: found, .. }) => assert_eq!(found, place, "{body}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_line_may_have_ten_mebibytes_and_no_more() {
        let body = |length: usize| {
            format!(
                "{{\"files\":{{\"output.log\":{{\"content\":[\"{}\"]}}}}}}",
                "x".repeat(length)
            )
            .into_bytes()
        };
        assert!(parse(&body(MAX_LINE)).is_ok());
        assert_eq!(
            parse(&body(MAX_LINE + 1)),
            Err(BodyError::Large {
                what: "line 0 of output.log".to_owned(),
                limit: MAX_LINE
            })
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn arbitrary_lines_never_panic(line in ".*", escape in "(\\\\u[0-9a-fA-F]{0,5}|\\\\|\"|NaN|-Inf){0,6}") {
            let _ = parse_json(&json!({"files": {
                "wandb-history.jsonl": {"content": [line.clone() + &escape]},
                "output.log": {"content": [line]}}}));
            let _ = parse(format!("{{\"files\":{{\"output.log\":{{\"content\":[\"{line}{escape}\"]}}}}}}").as_bytes());
        }

        #[test]
        fn console_lines_arrive_as_sent(lines in proptest::collection::vec("[^\u{0}]*", 0..5), offset in 0..1_000_000_i64) {
            let update = parse_json(&json!({"files": {"output.log": {"offset": offset, "content": lines}}})).unwrap();
            prop_assert_eq!(update.console, Some(Chunk { offset, lines }));
        }
    }
}
