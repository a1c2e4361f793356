//! Console lines: from what the client sent to what a reader sees.
//!
//! A line is stored as it came. The client writes either `[ERROR ]<iso timestamp> <text>`, or, when
//! the server announces structured console logs, a JSON object. This module reads both and never
//! fails: a line in neither form is text.

use std::borrow::Cow;

use serde::Deserialize;

/// A line, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ConsoleLine {
    /// ISO 8601, as the client wrote it.
    pub(crate) timestamp: Option<String>,
    /// `error` for standard error.
    pub(crate) level: Option<String>,
    /// Which of several writers to one run it came from.
    pub(crate) label: Option<String>,
    /// The text, escape sequences included.
    pub(crate) text: String,
}

#[derive(Deserialize)]
struct Structured {
    ts: Option<String>,
    content: String,
    level: Option<String>,
    label: Option<String>,
}

impl ConsoleLine {
    /// Reads a stored line.
    #[must_use]
    pub(crate) fn read(line: &str) -> Self {
        if line.starts_with('{')
            && let Ok(structured) = serde_json::from_str::<Structured>(line)
        {
            return Self {
                timestamp: structured.ts.filter(|timestamp| is_timestamp(timestamp)),
                level: structured.level,
                label: structured.label.filter(|label| !label.is_empty()),
                text: last_state(&structured.content).into_owned(),
            };
        }
        let (level, rest) = match line.strip_prefix("ERROR ") {
            Some(rest) => (Some("error".to_owned()), rest),
            None => (None, line),
        };
        match rest.split_once(' ') {
            Some((timestamp, text)) if is_timestamp(timestamp) => Self {
                timestamp: Some(timestamp.to_owned()),
                level,
                label: None,
                text: last_state(text).into_owned(),
            },
            _ if is_timestamp(rest) => Self {
                timestamp: Some(rest.to_owned()),
                level,
                ..Self::default()
            },
            // `ERROR` without a timestamp is the program's own word.
            _ => Self {
                text: last_state(line).into_owned(),
                ..Self::default()
            },
        }
    }

    /// Whether the line came from standard error.
    #[must_use]
    pub(crate) fn is_error(&self) -> bool {
        self.level.as_deref() == Some("error")
    }
}

/// Whether a word begins like `2026-11-21T22:48:29` and goes on with nothing but what a fraction
/// and an offset need.
fn is_timestamp(word: &str) -> bool {
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let bytes = word.as_bytes();
    (shape.len()..=40).contains(&bytes.len())
        && bytes.iter().zip(shape).all(|(byte, pattern)| match pattern {
            b'd' => byte.is_ascii_digit(),
            literal => byte == literal,
        })
        && bytes[shape.len()..]
            .iter()
            .all(|byte| byte.is_ascii_digit() || b".:+-Z".contains(byte))
}

/// What a terminal shows after carriage returns: later text over earlier.
#[must_use]
pub(crate) fn last_state(text: &str) -> Cow<'_, str> {
    if !text.contains('\r') {
        return Cow::Borrowed(text);
    }
    let mut shown: Vec<char> = Vec::new();
    for piece in text.split('\r') {
        for (column, character) in piece.chars().enumerate() {
            match shown.get_mut(column) {
                Some(cell) => *cell = character,
                None => shown.push(character),
            }
        }
    }
    Cow::Owned(shown.into_iter().collect())
}

/// Text without terminal escape sequences, for pages that show it plainly.
#[must_use]
pub(crate) fn without_escapes(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '\u{1b}' {
            out.push(character);
            continue;
        }
        match characters.next() {
            // A control sequence ends with the first byte from @ to ~.
            Some('[') => {
                for next in characters.by_ref() {
                    if ('@'..='~').contains(&next) {
                        break;
                    }
                }
            }
            // An operating system command ends with BEL or ESC \.
            Some(']') => {
                while let Some(next) = characters.next() {
                    if next == '\u{7}' || (next == '\u{1b}' && characters.next_if_eq(&'\\').is_some()) {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_both_forms_are_taken_apart() {
        let stamp = "2026-11-21T22:48:29.428531";
        for (line, timestamp, level, label, text) in [
            ("2026-11-21T22:48:29.428531 step 0", Some(stamp), None, None, "step 0"),
            (
                "ERROR 2026-11-21T22:48:29.428531 bad",
                Some(stamp),
                Some("error"),
                None,
                "bad",
            ),
            ("2026-11-21T22:48:29.428531", Some(stamp), None, None, ""),
            ("ERROR something else", None, None, None, "ERROR something else"),
            ("plain", None, None, None, "plain"),
            ("", None, None, None, ""),
            (
                r#"{"ts":"2026-11-21T22:48:29.428531","content":"x","level":"error","label":"w1"}"#,
                Some(stamp),
                Some("error"),
                Some("w1"),
                "x",
            ),
            (r#"{"content":"only"}"#, None, None, None, "only"),
            (r#"{"loss": 1}"#, None, None, None, r#"{"loss": 1}"#),
            ("{broken", None, None, None, "{broken"),
            (
                "2026-11-21T22:48:29Z<b> y",
                None,
                None,
                None,
                "2026-11-21T22:48:29Z<b> y",
            ),
        ] {
            let read = ConsoleLine::read(line);
            assert_eq!(
                (
                    read.timestamp.as_deref(),
                    read.level.as_deref(),
                    read.label.as_deref(),
                    read.text.as_str()
                ),
                (timestamp, level, label, text),
                "{line}"
            );
        }
    }

    #[test]
    fn carriage_returns_show_the_last_state() {
        for (text, shown) in [
            ("10%\r20%\r100%", "100%"),
            ("downloading\rdone", "doneloading"),
            ("crlf\r", "crlf"),
            ("none", "none"),
        ] {
            assert_eq!(last_state(text), shown, "{text:?}");
        }
    }

    #[test]
    fn escape_sequences_are_dropped() {
        for (text, plain) in [
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}x", "x"),
            ("\u{1b}]8;;http://a\u{1b}\\link", "link"),
            ("cut \u{1b}[3", "cut "),
            ("cut \u{1b}", "cut "),
        ] {
            assert_eq!(without_escapes(text), plain, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_line(text in ".*") {
            let _ = without_escapes(&ConsoleLine::read(&text).text);
        }
    }
}
