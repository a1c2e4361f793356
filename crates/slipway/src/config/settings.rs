//! The settings file of the official client: an INI file with one section, `default`.

use std::collections::BTreeMap;

const SECTION: &str = "default";

/// The settings in a file's text, keys in lower case.
pub(crate) fn read(text: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut in_section = false;
    for line in text.lines() {
        if let Some(name) = section(line) {
            in_section = name == SECTION;
        } else if in_section && let Some((key, value)) = entry(line) {
            settings.insert(key, value.to_owned());
        }
    }
    settings
}

/// The text with a setting set, or removed if the value is none. Everything else stays.
pub(crate) fn with(text: &str, key: &str, value: Option<&str>) -> String {
    let line = value.map(|value| format!("{key} = {value}\n"));
    let mut written = String::with_capacity(text.len() + 64);
    let mut in_section = false;
    let mut placed = false;
    for old in text.split_inclusive('\n') {
        if let Some(name) = section(old) {
            if in_section && !placed {
                place(&mut written, line.as_deref());
                placed = true;
            }
            in_section = name == SECTION;
        } else if in_section && entry(old).is_some_and(|(found, _)| found == key) {
            if !placed {
                written.push_str(line.as_deref().unwrap_or_default());
                placed = true;
            }
            continue;
        }
        written.push_str(old);
    }
    if !placed && let Some(line) = line {
        if !written.is_empty() && !written.ends_with('\n') {
            written.push('\n');
        }
        if in_section {
            place(&mut written, Some(&line));
        } else {
            written.push_str(&format!("[{SECTION}]\n{line}\n"));
        }
    }
    written
}

/// Adds a line at the end of a section, before the blank lines that close it.
fn place(written: &mut String, line: Option<&str>) {
    let Some(line) = line else { return };
    let body = written.trim_end_matches(['\n', '\r', ' ']).len();
    let blank = written.split_off(body);
    written.push('\n');
    written.push_str(line);
    written.push_str(blank.strip_prefix('\n').unwrap_or(&blank));
}

fn section(line: &str) -> Option<&str> {
    line.trim().strip_prefix('[')?.strip_suffix(']')
}

fn entry(line: &str) -> Option<(String, &str)> {
    // A line that begins with a space continues the value before it.
    if line.starts_with([' ', '\t', '#', ';']) {
        return None;
    }
    let (key, value) = line.split_once(['=', ':'])?;
    Some((key.trim().to_lowercase(), value.trim()))
}

#[cfg(test)]
mod tests {
    use super::{read, with};

    #[test]
    fn settings_are_read_from_the_default_section() {
        let settings =
            read("[other]\na = 0\n[default]\n# x\nbase_url = http://h:1\nENTITY: team\n; c = d\n\n[z]\nb = 1\n");
        let pairs: Vec<(&str, &str)> = settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("base_url", "http://h:1"), ("entity", "team")]);
        assert!(read("").is_empty());
        assert!(read("base_url = no section").is_empty());
    }

    #[test]
    fn a_setting_is_set_and_removed_in_place() {
        for (before, value, after) in [
            ("", Some("u"), "[default]\nbase_url = u\n\n"),
            (
                "[default]\nmode = x\n\n",
                Some("u"),
                "[default]\nmode = x\nbase_url = u\n\n",
            ),
            (
                "# mine\n[default]\nbase_url = old\nmode = x\n",
                Some("u"),
                "# mine\n[default]\nbase_url = u\nmode = x\n",
            ),
            (
                "[default]\nmode = x\n[z]\nbase_url = theirs\n",
                Some("u"),
                "[default]\nmode = x\nbase_url = u\n[z]\nbase_url = theirs\n",
            ),
            ("[default]\nbase_url = old\n\n", None, "[default]\n\n"),
            ("[default]\n", None, "[default]\n"),
            ("[z]\na = b", Some("u"), "[z]\na = b\n[default]\nbase_url = u\n\n"),
        ] {
            let written = with(before, "base_url", value);
            assert_eq!(written, after, "{before:?}");
            assert_eq!(read(&written).get("base_url").map(String::as_str), value);
        }
    }
}
