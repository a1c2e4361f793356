//! The netrc file: where API keys are kept, one entry per server.
//!
//! Other entries, macros and comments belong to other programs and are left as they are.

use std::fmt::Write as _;

/// The key for a server in the text of a netrc file, or in its default entry.
///
/// `machine`: host and port as the server's address spells them.
pub(crate) fn find(text: &str, machine: &str) -> Option<String> {
    let mut default = None;
    let mut found = None;
    let mut entry: Option<Entry> = None;
    let mut tokens = tokens(text).into_iter();
    while let Some(token) = tokens.next() {
        match token.as_str() {
            "machine" => {
                entry = tokens
                    .next()
                    .map(|name| if name == machine { Entry::Wanted } else { Entry::Other })
            }
            "default" => entry = Some(Entry::Default),
            "login" | "user" | "account" => {
                tokens.next();
            }
            "password" => {
                let password = tokens.next();
                match entry {
                    Some(Entry::Wanted) => found = password,
                    Some(Entry::Default) => default = password,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    found.or(default).filter(|key| !key.is_empty())
}

enum Entry {
    Wanted,
    Default,
    Other,
}

/// The text with one entry for a server, in place of those that it had.
pub(crate) fn with_entry(text: &str, machine: &str, key: &str) -> String {
    let mut kept = without_entry(text, machine);
    if !kept.is_empty() && !kept.ends_with('\n') {
        kept.push('\n');
    }
    let _ = write!(
        kept,
        "machine {}\n  login user\n  password {}\n",
        quote(machine),
        quote(key)
    );
    kept
}

fn without_entry(text: &str, machine: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut dropping = false;
    let mut in_macro = false;
    for line in text.split_inclusive('\n') {
        let words = words(line);
        if in_macro {
            // A macro's body ends at an empty line, and may hold any word.
            in_macro = !words.is_empty();
        } else {
            match words.first().map(String::as_str) {
                Some("machine") => dropping = words.get(1).is_some_and(|name| name == machine),
                Some("default") => dropping = false,
                Some("macdef") => (dropping, in_macro) = (false, true),
                // A comment between entries is nobody's, so it stays.
                Some(word) if word.starts_with('#') => {
                    kept.push_str(line);
                    continue;
                }
                _ => {}
            }
        }
        if !dropping {
            kept.push_str(line);
        }
    }
    kept
}

/// All words outside comments and macros.
fn tokens(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_macro = false;
    for line in text.lines() {
        let words = words(line);
        if in_macro {
            in_macro = !words.is_empty();
            continue;
        }
        for word in words {
            if word.starts_with('#') && found.last().is_none_or(|last| last != "password") {
                break;
            }
            if word == "macdef" {
                in_macro = true;
                break;
            }
            found.push(word);
        }
    }
    found
}

/// The words of a line, with quotes and backslashes as a shell reads them.
fn words(line: &str) -> Vec<String> {
    crate::shell::split(line).unwrap_or_else(|_| line.split_whitespace().map(str::to_owned).collect())
}

fn quote(word: &str) -> String {
    crate::shell::quote(word)
}

#[cfg(test)]
mod tests {
    use super::{find, with_entry};

    const FILE: &str = "# mine\nmachine example.com login me password \"a b\"\n\nmachine localhost:8080\n  login user\n  password old\n# kept\nmachine other\n  login user\n  password theirs\n";

    #[test]
    fn keys_are_found_by_host_and_port() {
        for (machine, key) in [
            ("localhost:8080", Some("old")),
            ("example.com", Some("a b")),
            ("other", Some("theirs")),
            ("localhost", None),
            ("localhost:80", None),
        ] {
            assert_eq!(find(FILE, machine).as_deref(), key, "{machine}");
        }
        assert_eq!(find("default login x password any", "whatever").as_deref(), Some("any"));
        assert_eq!(
            find("machine a password p\ndefault password d", "a").as_deref(),
            Some("p")
        );
        assert_eq!(
            find("macdef init\nmachine a password no\n\nmachine a password yes", "a").as_deref(),
            Some("yes")
        );
        assert_eq!(find("machine a login b password", "a"), None);
        assert_eq!(
            find("machine a password \"unterminated", "a").as_deref(),
            Some("\"unterminated")
        );
    }

    #[test]
    fn writing_replaces_one_entry_and_keeps_the_rest() {
        let written = with_entry(FILE, "localhost:8080", "new");
        assert_eq!(
            written,
            "# mine\nmachine example.com login me password \"a b\"\n\n# kept\nmachine other\n  login user\n  password theirs\nmachine localhost:8080\n  login user\n  password new\n"
        );
        assert_eq!(find(&written, "localhost:8080").as_deref(), Some("new"));
        assert_eq!(find(&written, "other").as_deref(), Some("theirs"));
    }

    #[test]
    fn writing_begins_and_ends_with_whole_lines() {
        assert_eq!(with_entry("", "h", "k"), "machine h\n  login user\n  password k\n");
        let appended = with_entry("machine a password b", "h", "k");
        assert_eq!(
            appended,
            "machine a password b\nmachine h\n  login user\n  password k\n"
        );
    }

    #[test]
    fn odd_values_are_quoted_so_that_they_cannot_make_entries() {
        let written = with_entry("", "h", "k machine evil password x");
        assert_eq!(find(&written, "h").as_deref(), Some("k machine evil password x"));
        assert_eq!(find(&written, "evil"), None);
    }
}
