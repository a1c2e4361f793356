//! Input that is a file or the text itself.

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;
use slipway_model::config::parse_config;

use crate::config::files::cannot;
use crate::exit::{Error, Result};

/// Reads a map from JSON or YAML text, or from a file that holds it; `-` is standard input. Text
/// begins with a brace or holds a line break; anything else names a file.
pub(crate) fn map(argument: &str, what: &str) -> Result<Value> {
    let (text, place) = if argument.trim_start().starts_with('{') || argument.contains('\n') {
        (argument.to_owned(), what.to_owned())
    } else {
        (text(argument)?, format!("`{argument}`"))
    };
    parse_config(&text).map_err(|error| {
        let hint = error.hint.clone();
        let failure = Error::usage(format!(
            "{place}: line {}, column {}: {}",
            error.line, error.column, error.message
        ));
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    })
}

/// Reads a file; `-` is standard input.
pub(crate) fn text(path: &str) -> Result<String> {
    if path == "-" {
        return stdin();
    }
    std::fs::read_to_string(path).map_err(|error| cannot("read", Path::new(path), &error))
}

/// Reads standard input to its end.
pub(crate) fn stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Error::failure(format!("cannot read standard input: {error}")))?;
    Ok(text)
}

/// Reads a secret from the first line of a file; `-` is standard input.
pub(crate) fn secret(path: &str) -> Result<String> {
    let text = text(path)?;
    match text.lines().next().map(str::trim) {
        Some(secret) if !secret.is_empty() => Ok(secret.to_owned()),
        _ => Err(Error::usage(format!(
            "`{path}` holds no secret: its first line is empty"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::{map, secret};
    use serde_json::json;

    #[test]
    fn maps_come_from_text_or_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.yaml");
        std::fs::write(&path, "a: 1\n").unwrap();
        for (argument, value) in [
            ("{\"a\": 1}", json!({"a": 1})),
            ("a: 1\nb: 2", json!({"a": 1, "b": 2})),
            (path.to_str().unwrap(), json!({"a": 1})),
        ] {
            assert_eq!(map(argument, "--config").unwrap(), value);
        }
        assert!(
            map("{\"a\": }", "--config")
                .unwrap_err()
                .to_string()
                .starts_with("--config: line 1")
        );
        assert!(map("/no/such/file", "--config").is_err());
    }

    #[test]
    fn a_secret_is_the_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, " abc \nrest\n").unwrap();
        assert_eq!(secret(path.to_str().unwrap()).unwrap(), "abc");
        std::fs::write(&path, "\n").unwrap();
        assert!(secret(path.to_str().unwrap()).is_err());
    }
}
