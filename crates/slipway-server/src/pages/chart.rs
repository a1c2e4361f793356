//! Small line charts as SVG, drawn on the server: no script, no inline style.

use maud::{Markup, html};

use super::format;

/// A metric over the run's steps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    /// The metric's name.
    pub(crate) name: String,
    /// Step and value, by step. Values that are no finite numbers end a line and start another.
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 120.0;
/// Room around the lines, so that strokes at the edges are not cut.
const INSET: f64 = 4.0;

/// Draws a series with its last value.
#[must_use]
pub(crate) fn line(series: &Series) -> Markup {
    let finite: Vec<(f64, f64)> = series.points.iter().copied().filter(is_finite).collect();
    let (Some(&(_, last)), Some(x), Some(y)) = (
        finite.last(),
        bounds(finite.iter().map(|point| point.0)),
        bounds(finite.iter().map(|point| point.1)),
    ) else {
        return html! {
            figure class="chart" {
                figcaption { span class="name" { (series.name) } span class="note" { "no numbers yet" } }
            }
        };
    };
    let place = |&(step, value): &(f64, f64)| {
        (
            INSET + scale(step, x) * (WIDTH - 2.0 * INSET),
            HEIGHT - INSET - scale(value, y) * (HEIGHT - 2.0 * INSET),
        )
    };
    let label = format!(
        "{}: last {}, from {} to {} over steps {} to {}",
        series.name,
        format::number(last),
        format::number(y.0),
        format::number(y.1),
        format::number(x.0),
        format::number(x.1)
    );
    html! {
        figure class="chart" {
            figcaption { span class="name" { (series.name) } span class="last" { (format::number(last)) } }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(label) {
                @for part in series.points.split(|point| !is_finite(point)).filter(|part| !part.is_empty()) {
                    @if let [only] = part {
                        @let (cx, cy) = place(only);
                        circle cx=(format!("{cx:.1}")) cy=(format!("{cy:.1}")) r="2.5" {}
                    } @else {
                        polyline points=(path(part.iter().map(place))) {}
                    }
                }
            }
            div class="range" aria-hidden="true" {
                span { (format::number(y.0)) " – " (format::number(y.1)) }
                span { "step " (format::number(x.1)) }
            }
        }
    }
}

fn is_finite(point: &(f64, f64)) -> bool {
    point.0.is_finite() && point.1.is_finite()
}

fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |bounds, value| match bounds {
        None => Some((value, value)),
        Some((low, high)) => Some((value.min(low), value.max(high))),
    })
}

/// Where a value lies between the bounds, 0 to 1; a flat line lies in the middle. Halves, because
/// the distance between two finite numbers may be infinite.
fn scale(value: f64, (low, high): (f64, f64)) -> f64 {
    let span = high / 2.0 - low / 2.0;
    if span > 0.0 {
        (value / 2.0 - low / 2.0) / span
    } else {
        0.5
    }
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    points
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(points: &[(f64, f64)]) -> String {
        line(&Series {
            name: "<loss>".to_owned(),
            points: points.to_vec(),
        })
        .into_string()
    }

    #[test]
    fn a_line_spans_the_box_and_escapes_its_name() {
        let svg = draw(&[(0.0, 1.0), (1.0, 0.5), (2.0, 0.0)]);
        assert!(svg.contains(r#"points="4.0,4.0 160.0,60.0 316.0,116.0""#), "{svg}");
        assert!(svg.contains("&lt;loss&gt;") && !svg.contains("<loss>"), "{svg}");
    }

    #[test]
    fn gaps_stay_gaps_and_lone_points_are_dots() {
        let svg = draw(&[(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN), (3.0, 3.0)]);
        assert_eq!(
            (svg.matches("<polyline").count(), svg.matches("<circle").count()),
            (1, 1),
            "{svg}"
        );
    }

    #[test]
    fn extreme_values_never_leave_the_box() {
        for points in [
            &[][..],
            &[(0.0, f64::NAN)],
            &[(0.0, 5.0)],
            &[(1.0, 5.0), (1.0, 5.0)],
            &[(0.0, f64::MIN), (1.0, f64::MAX)],
            &[(f64::MIN, 0.0), (f64::MAX, 1e-300)],
        ] {
            let svg = draw(points);
            assert!(!svg.contains("NaN,") && !svg.contains("inf"), "{svg}");
        }
    }
}
