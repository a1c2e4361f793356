//! Numbers, durations, sizes and points in time as people read them. Pure.

use chrono::{DateTime, SecondsFormat, Utc};
use maud::{Markup, html};
use serde_json::Value;
use slipway_model::Millis;

use super::words::Language;
use crate::uploads::percent_encode;

/// What stands where a value is unknown.
pub(crate) const UNKNOWN: &str = "–";

/// An address on this server, from the segments of its path.
#[must_use]
pub(crate) fn address(segments: &[&str]) -> String {
    segments
        .iter()
        .fold(String::new(), |path, segment| path + "/" + &percent_encode(segment))
}

/// A duration: `< 1s`, `12s`, `5m 12s`, `41m`, `2h 35m`, `3d 4h`.
#[must_use]
pub(crate) fn duration(millis: Millis) -> String {
    let seconds = millis.max(0) / 1000;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        0 => "< 1s".to_owned(),
        1..60 => format!("{seconds}s"),
        60..600 => format!("{minutes}m {:02}s", seconds % 60),
        600..3600 => format!("{minutes}m"),
        3600..172_800 => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{}d {}h", hours / 24, hours % 24),
    }
}

/// A size in bytes, in steps of 1000.
#[must_use]
pub(crate) fn bytes(size: i64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if size < 1000 {
        return format!("{} B", size.max(0));
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = size as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 9.95 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// A point in time as ISO 8601 in UTC; a time that no calendar holds becomes the epoch.
#[must_use]
pub(crate) fn iso(at: Millis) -> String {
    DateTime::<Utc>::from_timestamp_millis(at)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A point in time: relative within a day, else a date; the tooltip has UTC. The page's script
/// replaces the date by the reader's zone.
#[must_use]
pub(crate) fn moment(at: Millis, now: Millis, language: Language) -> Markup {
    let age = now - at;
    let exact = iso(at);
    let shown = if (0..86_400_000).contains(&age) {
        match language {
            Language::English if age < 1000 => "now".to_owned(),
            Language::Japanese if age < 1000 => "今".to_owned(),
            Language::English => format!("{} ago", duration(age)),
            Language::Japanese => format!("{}前", duration(age)),
        }
    } else {
        format!("{} {} UTC", &exact[..10], &exact[11..16])
    };
    html! { time datetime=(exact) title=(exact) { (shown) } }
}

/// A metric: up to six significant digits, without trailing zeros.
#[must_use]
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() { "NaN" } else { "∞" }.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor();
    if !(-4.0..9.0).contains(&magnitude) {
        return format!("{value:.4e}");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 9")]
    let digits = (5.0 - magnitude).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A JSON value in one line.
#[must_use]
pub(crate) fn value(value: &Value) -> String {
    match value {
        Value::Null => UNKNOWN.to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number_) => match number_.as_f64() {
            Some(float) if number_.is_f64() => number(float),
            _ => number_.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        for (millis, text) in [
            (-5, "< 1s"),
            (999, "< 1s"),
            (12_000, "12s"),
            (126_000, "2m 06s"),
            (41 * 60_000, "41m"),
            (155 * 60_000, "2h 35m"),
            (76 * 3_600_000, "3d 4h"),
        ] {
            assert_eq!(duration(millis), text, "{millis}");
        }
    }

    #[test]
    fn addresses_are_quoted() {
        assert_eq!(
            address(&["launch", "alice", "my queue?/#"]),
            "/launch/alice/my%20queue%3F%2F%23"
        );
    }

    #[test]
    fn sizes_are_rounded_to_what_matters() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (12_345, "12 kB"),
            (999_600, "1.0 MB"),
            (9_400_000_000, "9.4 GB"),
            (i64::MAX, "9223 PB"),
        ] {
            assert_eq!(bytes(size), text, "{size}");
        }
    }

    #[test]
    fn metrics_show_six_significant_digits() {
        for (number_, text) in [
            (0.333_333_333_3, "0.333333"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (1234.5678, "1234.57"),
            (0.000_01, "1.0000e-5"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(number_), text);
        }
        assert_eq!(value(&json!({"a": [1]})), "{\"a\":[1]}");
        assert_eq!(value(&json!(12_345_678_901_i64)), "12345678901");
    }

    #[test]
    fn moments_are_relative_within_a_day() {
        let now = 1_795_302_064_000;
        for (at, expected) in [
            (now - 90_000, ">1m 30s ago<"),
            (now, ">now<"),
            (now - 90_000_000, ">2026-11-20 22:01 UTC<"),
            (now + 60_000, ">2026-11-21 23:02 UTC<"),
            (i64::MAX, ">1970-01-01 00:00 UTC<"),
        ] {
            let shown = moment(at, now, Language::English).into_string();
            assert!(shown.contains(expected), "{shown}");
        }
    }
}
