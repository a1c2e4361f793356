//! YAML with limits, and its errors in our words.

use serde::de::DeserializeOwned;
use serde_saphyr::{DuplicateKeyPolicy, Error, MergeKeyPolicy};

use super::ConfigError;
use crate::json::MAX_DEPTH;

/// Reads one YAML document (YAML 1.2: `yes` is a string). Blank text gives `null`.
///
/// `written` is the text as the user wrote it, `text` the one to read, which may have more
/// characters on the same lines; positions in errors are those of `text`.
pub(crate) fn parse<T: DeserializeOwned>(written: &str, text: &str) -> Result<T, ConfigError> {
    check_tabs(written)?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_documents: 1,
            max_nodes: 100_000,
            max_aliases: 1_000,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Merge,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = |position: u64| usize::try_from(position).unwrap_or(1).max(1);
        let (line, column) = error
            .location()
            .map_or((1, 1), |location| (at(location.line()), at(location.column())));
        let (message, hint) = explain(&error);
        ConfigError {
            line,
            column,
            message,
            hint,
        }
    })
}

/// What is wrong, and what to do about it where that is known.
fn explain(error: &Error) -> (String, Option<String>) {
    match error {
        Error::WithSnippet { error, .. } | Error::AliasError { error, .. } => explain(error),
        Error::DuplicateMappingKey { key: Some(key), .. } => (format!("the key `{key}` occurs twice in one map"), None),
        Error::DuplicateMappingKey { key: None, .. } => ("a key occurs twice in one map".to_owned(), None),
        Error::NonFiniteFloat { value, .. } => (
            format!("`{value}` is not a finite number"),
            Some("write it as a string".to_owned()),
        ),
        Error::MultipleDocuments { .. } => one_document(),
        Error::Budget { breach, .. } => match breach {
            serde_saphyr::budget::BudgetBreach::Documents { .. } => one_document(),
            serde_saphyr::budget::BudgetBreach::Depth { .. } => (format!("nests deeper than {MAX_DEPTH} levels"), None),
            _ => ("the document grows too large; it may repeat aliases".to_owned(), None),
        },
        other => {
            let text = other.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let text = text.lines().next().unwrap_or_default();
            let end = text.find(" at line ").unwrap_or(text.len());
            let message: String = text[..end].chars().take(300).collect();
            let hint = message
                .contains("mapping values are not allowed")
                .then(|| "put quotes around a value that contains `: `, and check the indentation".to_owned());
            (message, hint)
        }
    }
}

fn one_document() -> (String, Option<String>) {
    (
        "more than one YAML document".to_owned(),
        Some("keep one, without `---` lines between".to_owned()),
    )
}

/// Tabs look like spaces and are none: YAML forbids them in indentation.
fn check_tabs(text: &str) -> Result<(), ConfigError> {
    for (index, line) in text.lines().enumerate() {
        let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
        if let Some(at) = line[..indentation].find('\t')
            && indentation < line.len()
        {
            return Err(ConfigError {
                line: index + 1,
                column: at + 1,
                message: "YAML may not be indented with tabs".to_owned(),
                hint: Some("replace each tab by two spaces".to_owned()),
            });
        }
    }
    Ok(())
}
