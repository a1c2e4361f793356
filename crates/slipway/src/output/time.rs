//! Points in time as people read them.

use chrono::{DateTime, Utc};

/// How long ago an ISO 8601 time was, such as `3m ago`; the text itself if it is none.
pub(crate) fn ago(text: &str, now: DateTime<Utc>) -> String {
    match parse(text) {
        Some(at) => match (now - at).num_seconds() {
            seconds if seconds < 0 => "now".to_owned(),
            seconds => format!("{} ago", span(seconds)),
        },
        None => text.to_owned(),
    }
}

/// The time between two ISO 8601 times; until now if the second is none.
pub(crate) fn duration(from: &str, to: Option<&str>, now: DateTime<Utc>) -> Option<String> {
    let end = match to {
        Some(text) => parse(text)?,
        None => now,
    };
    Some(span((end - parse(from)?).num_seconds().max(0)))
}

/// The two largest units of a number of seconds.
fn span(seconds: i64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Servers write a zone or leave it out, and mean UTC.
fn parse(text: &str) -> Option<DateTime<Utc>> {
    let zoned = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
    zoned.or_else(|_| format!("{text}Z").parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::{ago, duration};

    #[test]
    fn times_become_spans() {
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        for (text, shown) in [
            ("2026-01-01T23:59:57Z", "3s ago"),
            ("2026-01-01T23:57:55.500Z", "2m 4s ago"),
            ("2026-01-01T20:30:00", "3h 30m ago"),
            ("2025-12-30T12:00:00+00:00", "2d 12h ago"),
            ("2026-01-02T00:00:09Z", "now"),
            ("yesterday", "yesterday"),
        ] {
            assert_eq!(ago(text, now), shown, "{text}");
        }
        let span = |to| duration("2026-01-01T23:00:00Z", to, now);
        assert_eq!(span(None).as_deref(), Some("1h 0m"));
        assert_eq!(span(Some("2026-01-01T23:00:42Z")).as_deref(), Some("42s"));
        assert_eq!(duration("?", None, now), None);
    }
}
