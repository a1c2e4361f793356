//! Console lines and captured output as pages show them.

use maud::{Markup, html};
use slipway_store::run_data::Line;

use super::words::Language;
use crate::console::{ConsoleLine, last_state, without_escapes};

/// A card with the console lines that the client sent. `stream`: where more come from, if the run
/// goes on.
pub(crate) fn console(lines: &[Line], stream: Option<&str>, whole: &str, language: Language) -> Markup {
    html! {
        section class="card" aria-labelledby="log-title" {
            header {
                h2 id="log-title" { (language.word("Log")) }
                @if stream.is_some() { (follow(language)) }
                span class="note" { a href=(whole) { (language.word("Whole log")) } }
            }
            @if lines.is_empty() && stream.is_none() {
                p class="empty" { (language.word("The run printed nothing.")) }
            } @else {
                div class="log" data-stream=[stream] data-empty=(language.word("Waiting for the first line.")) tabindex="0" role="log" aria-label=(language.word("Log")) {
                    @for line in lines {
                        @let read = ConsoleLine::read(&line.text);
                        div data-line=(line.number) class=[read.is_error().then_some("err")] title=[read.timestamp.as_deref()] {
                            span { (line.number + 1) }
                            span { (without_escapes(&read.text)) }
                        }
                    }
                }
            }
        }
    }
}

/// A card with output that the agent captured. `end`: the position after its last byte.
pub(crate) fn output(text: &str, end: i64, cut: bool, stream: Option<&str>, whole: &str, language: Language) -> Markup {
    html! {
        section class="card" aria-labelledby="output-title" {
            header {
                h2 id="output-title" { (language.word("Output")) }
                @if stream.is_some() { (follow(language)) }
                span class="note" {
                    @if cut { (language.word("The end of it. ")) }
                    a href=(whole) { (language.word("Whole output")) }
                }
            }
            @if text.is_empty() && stream.is_none() {
                p class="empty" { (language.word("No output was captured.")) }
            } @else {
                pre class="output" data-stream=[stream] data-end=(end) data-empty=(language.word("Waiting for the first line.")) tabindex="0" role="log"
                    aria-label=(language.word("Output")) { (text) }
            }
        }
    }
}

/// Captured bytes as text: without escape sequences, carriage returns applied line by line.
pub(crate) fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| last_state(&without_escapes(line)).into_owned())
        .collect();
    lines.join("\n")
}

fn follow(language: Language) -> Markup {
    html! {
        label class="follow" { input type="checkbox" checked; (language.word("Follow")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_bytes_become_readable_text() {
        for (bytes, text) in [
            (&b"a\r\nb"[..], "a\nb"),
            (b"10%\r100%\ndone\n", "100%\ndone\n"),
            (b"\x1b[31mred\x1b[0m \xff", "red \u{fffd}"),
        ] {
            assert_eq!(readable(bytes), text);
        }
    }

    #[test]
    fn what_a_job_prints_is_never_markup() {
        let line = Line {
            number: 0,
            text: "2026-11-21T22:48:29 <script>alert(1)</script>".to_owned(),
        };
        let log = console(&[line], Some("/x?a=1&b=\"2"), "/w", Language::English).into_string();
        let out = output("</pre><script>", 1, false, None, "/w", Language::English).into_string();
        assert!(!log.contains("<script>") && !out.contains("<script>"), "{log}{out}");
        assert!(log.contains("b=&quot;2"), "{log}");
    }
}
