//! Tables and lists for people.

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use owo_colors::{AnsiColors, OwoColorize as _};

/// The column, or fact, whose words are coloured.
const STATE: &str = "state";

/// A table with a header and no lines.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.map(str::to_uppercase));
    for row in rows {
        let cells = header.into_iter().zip(row).map(|(name, text)| {
            let cell = Cell::new(visible(&text));
            match color(&text).filter(|_| name == STATE) {
                Some(color) => cell.fg(table_color(color)),
                None => cell,
            }
        });
        table.add_row(cells);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// Facts about one thing, a line each; those without a value are left out.
pub(crate) fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let facts: Vec<(&str, String)> = facts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)))
        .collect();
    let width = facts
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or_default();
    let lines = facts.into_iter().map(|(name, value)| {
        let space = " ".repeat(width - name.chars().count() + 2);
        let indent = " ".repeat(width + 2);
        let shown = value
            .lines()
            .map(visible)
            .collect::<Vec<_>>()
            .join(&format!("\n{indent}"));
        match color(&value).filter(|_| name == STATE) {
            Some(color) => format!("{}{space}{}", name.bold(), shown.color(color)),
            None => format!("{}{space}{shown}", name.bold()),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The colour of a state. It adds to the word and never replaces it.
fn color(state: &str) -> Option<AnsiColors> {
    Some(match state.to_ascii_lowercase().as_str() {
        "running" | "active" => AnsiColors::Blue,
        "finished" => AnsiColors::Green,
        "failed" | "crashed" => AnsiColors::Red,
        "killed" => AnsiColors::Magenta,
        "pending" | "paused" | "draining" => AnsiColors::Yellow,
        _ => return None,
    })
}

fn table_color(color: AnsiColors) -> Color {
    match color {
        AnsiColors::Blue => Color::Blue,
        AnsiColors::Green => Color::Green,
        AnsiColors::Red => Color::Red,
        AnsiColors::Magenta => Color::Magenta,
        AnsiColors::Yellow => Color::Yellow,
        _ => Color::Reset,
    }
}

/// Text without control characters: names come from other people and must not drive the terminal.
pub(crate) fn visible(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{facts, table};

    fn rows(cells: &[[&str; 2]]) -> Vec<[String; 2]> {
        cells.iter().map(|row| row.map(str::to_owned)).collect()
    }

    #[test]
    fn columns_are_aligned_and_have_no_lines() {
        let text = table(["name", "kind"], rows(&[["a", "x"], ["longer", "y"]]));
        assert_eq!(text, "NAME    KIND\na       x\nlonger  y");
        assert_eq!(table(["name", "kind"], []), "NAME  KIND");
    }

    #[test]
    fn names_cannot_drive_the_terminal() {
        let text = table(["name", "kind"], rows(&[["a\u{1b}]0;title\u{7}b", "\u{1b}[2J"]]));
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
    }

    #[test]
    fn facts_without_value_are_left_out_and_long_ones_indented() {
        let text = facts([
            ("id", Some("1".to_owned())),
            ("none", None),
            ("message", Some("a\nb".to_owned())),
            ("state", Some("Running".to_owned())),
        ]);
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "id       1\nmessage  a\n         b\nstate    Running");
    }
}
