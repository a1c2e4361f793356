//! How large a document is, before anything walks through it.
//!
//! Pure. The parser recurses at every bracket, and validation walks into a fragment each time that it
//! is spread, so a short text could exhaust a thread's stack, which ends the process, or keep a core
//! busy for years. Both are counted here first, in time linear in the text, and then how often one field is
//! asked for. What is allowed below these bounds the schema's own limits on depth and complexity say.

use std::collections::{HashMap, HashSet};

use async_graphql::Name;
use async_graphql::parser::types::{ExecutableDocument, Selection, SelectionSet};

use super::Result;
use crate::ApiError;

/// How deep brackets of any kind may nest.
const MAX_NESTING: usize = 64;

/// How many strings without an end a text may have. Each is looked through to the end of its line.
const MAX_ENDLESS: usize = 16;

/// How many selections a document may have, fragments expanded.
const MAX_SELECTIONS: usize = 20_000;

/// How often an operation may ask again for what it asks for beside it, under other names. Complexity
/// counts fields; one that lists a thousand rows costs more than all others together.
const MAX_REPEATS: usize = 30;

/// Refuses a text that nests too deep to be parsed.
///
/// # Errors
/// `BAD_USER_INPUT`.
pub(super) fn check_text(text: &str) -> Result<()> {
    let Some(nesting) = nesting(text) else {
        return Err(ApiError::bad(format!(
            "more than {MAX_ENDLESS} strings of the document have no end"
        )));
    };
    if nesting > MAX_NESTING {
        return Err(ApiError::bad(format!(
            "the document nests brackets more than {MAX_NESTING} deep; pass large values as variables"
        )));
    }
    Ok(())
}

/// Refuses a document whose fragments, expanded, are too many to be validated.
///
/// # Errors
/// `BAD_USER_INPUT`.
pub(super) fn check_document(document: &ExecutableDocument) -> Result<()> {
    let mut sizes = Sizes {
        document,
        known: HashMap::new(),
    };
    let mut total: usize = 0;
    for (_, operation) in document.operations.iter() {
        total = total.saturating_add(sizes.of_set(&operation.node.selection_set.node, 1)?);
    }
    // Validation walks through each fragment by itself as well.
    for fragment in document.fragments.keys() {
        total = total.saturating_add(sizes.of_fragment(fragment, 1)?);
    }
    if total > MAX_SELECTIONS {
        return Err(ApiError::bad(format!(
            "the document selects more than {MAX_SELECTIONS} fields, fragments expanded; send several smaller ones"
        )));
    }
    for (_, operation) in document.operations.iter() {
        if repeats(document, &operation.node.selection_set.node) > MAX_REPEATS {
            return Err(ApiError::bad(format!(
                "the document asks more than {MAX_REPEATS} times again for a field that it asks for already, under \
                 other names; send several smaller ones"
            )));
        }
    }
    Ok(())
}

/// How often fields that have arguments or fields of their own are selected beside themselves. For
/// documents whose size was checked: fragments are expanded.
fn repeats(document: &ExecutableDocument, set: &SelectionSet) -> usize {
    let (mut seen, mut found) = (HashSet::new(), 0);
    let mut level = vec![set];
    while let Some(set) = level.pop() {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    let below = &field.selection_set.node;
                    let costs = !field.arguments.is_empty() || !below.items.is_empty();
                    found += usize::from(costs && !seen.insert(&field.name.node));
                    found += repeats(document, below);
                }
                Selection::InlineFragment(fragment) => level.push(&fragment.node.selection_set.node),
                Selection::FragmentSpread(spread) => {
                    let fragment = document.fragments.get(&spread.node.fragment_name.node);
                    level.extend(fragment.map(|fragment| &fragment.node.selection_set.node));
                }
            }
        }
    }
    found
}

/// The deepest nesting of brackets outside strings and comments. What is not well formed may count
/// for more than it is, never for less. `None`: too many strings have no end.
fn nesting(text: &str) -> Option<usize> {
    let (mut depth, mut deepest, mut endless) = (0_usize, 0, 0);
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = match byte {
            b'{' | b'[' | b'(' => {
                depth += 1;
                deepest = deepest.max(depth);
                tail
            }
            b'}' | b']' | b')' => {
                depth = depth.saturating_sub(1);
                tail
            }
            b'#' => {
                let end = tail.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                end.map_or(&[], |end| &tail[end..])
            }
            b'"' => match after_string(rest) {
                Ok(after) => after,
                Err(after) => {
                    endless += 1;
                    if endless > MAX_ENDLESS {
                        return None;
                    }
                    after
                }
            },
            _ => tail,
        };
    }
    Some(deepest)
}

/// What follows the string at the beginning of a text. One that has no end is an error, and passed
/// over by its first quotes only, since the parser may take these for an empty string and go on.
fn after_string(text: &[u8]) -> std::result::Result<&[u8], &[u8]> {
    if let Some(content) = text.strip_prefix(b"\"\"\"") {
        let mut rest = content;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix(b"\"\"\"") {
                return Ok(after);
            }
            rest = rest.strip_prefix(b"\\\"\"\"").unwrap_or(&rest[1..]);
        }
        return Err(&text[2..]);
    }
    let mut rest = &text[1..];
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Ok(after),
            [b'\\', _, after @ ..] => after,
            [] | [b'\n' | b'\r', ..] => return Err(&text[1..]),
            [_, after @ ..] => after,
        };
    }
}

/// The number of selections of each fragment, expanded; each is counted once.
struct Sizes<'a> {
    document: &'a ExecutableDocument,
    /// `None` while a fragment is being counted.
    known: HashMap<&'a Name, Option<usize>>,
}

impl<'a> Sizes<'a> {
    fn of_fragment(&mut self, name: &'a Name, depth: usize) -> Result<usize> {
        match self.known.get(name) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => {
                return Err(ApiError::bad(format!(
                    "Cannot spread fragment \"{name}\" within itself."
                )));
            }
            None => {}
        }
        // Validation says so when there is no such fragment.
        let Some(fragment) = self.document.fragments.get(name) else {
            return Ok(0);
        };
        self.known.insert(name, None);
        let size = self.of_set(&fragment.node.selection_set.node, depth)?;
        self.known.insert(name, Some(size));
        Ok(size)
    }

    fn of_set(&mut self, set: &'a SelectionSet, depth: usize) -> Result<usize> {
        if depth > MAX_NESTING {
            return Err(ApiError::bad(format!(
                "the document nests selections more than {MAX_NESTING} deep, fragments expanded"
            )));
        }
        let mut total: usize = 0;
        for selection in &set.items {
            let inner = match &selection.node {
                Selection::Field(field) => self.of_set(&field.node.selection_set.node, depth + 1)?,
                Selection::InlineFragment(fragment) => self.of_set(&fragment.node.selection_set.node, depth + 1)?,
                Selection::FragmentSpread(spread) => self.of_fragment(&spread.node.fragment_name.node, depth + 1)?,
            };
            total = total.saturating_add(inner).saturating_add(1);
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_outside_strings_and_comments() {
        for (text, expected) in [
            ("", 0),
            ("{ a }", 1),
            ("{ a(b: [{c: 1}]) { d } }", 4),
            ("{ a } { b }", 1),
            ("}}} {", 1),
            ("{ a(b: \"{{{{\") }", 2),
            (r#"{ a(b: "\"{{{{") }"#, 2),
            (r#"{ a(b: """ "{{ \""" {{ """) { c } }"#, 2),
            ("{ # {{{{\n a { b } }", 2),
            ("{ # {{{{\r a { b } }", 2),
            ("# {{{{", 0),
            // Strings without an end hide nothing.
            ("{ a(b: \"{{{", 5),
            ("\"\"\" {{{", 3),
            ("[\"\"\"\" [[[", 4),
            ("\"{{\n\"", 2),
            ("\"{{\\", 2),
        ] {
            assert_eq!(nesting(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn strings_without_an_end_are_looked_through_a_few_times_only() {
        let text = format!("\"{}", "\\\"".repeat(100_000));
        assert_eq!(nesting(&text), None);
        assert!(check_text(&text).unwrap_err().message.contains("have no end"));
    }

    #[test]
    fn what_would_exhaust_the_stack_is_refused() {
        for text in [
            "{ a ".repeat(50_000),
            format!("{{ a(b: {}) }}", "[".repeat(50_000)),
            format!("query($a: {}) {{ a }}", "[".repeat(50_000)),
            format!("{{ a(b: [\"\"\"\" {}", "[".repeat(50_000)),
        ] {
            let error = check_text(&text).unwrap_err();
            assert!(error.message.contains("64 deep"), "{}", error.message);
        }
        let allowed = format!("{}x{}", "{ a ".repeat(MAX_NESTING), "}".repeat(MAX_NESTING));
        assert!(check_text(&allowed).is_ok());
    }

    /// Fragments of which each spreads the next one twice.
    fn doubling(levels: usize) -> String {
        let mut text = "{ viewer { ...f0 } }".to_owned();
        for level in 0..levels {
            let next = level + 1;
            text.push_str(&format!(" fragment f{level} on User {{ ...f{next} ...f{next} }}"));
        }
        format!("{text} fragment f{levels} on User {{ id }}")
    }

    /// A field under so many names.
    fn aliases(count: usize, field: &str) -> String {
        let fields: Vec<String> = (0..count).map(|number| format!("a{number}: {field}")).collect();
        format!("{{ {} }}", fields.join(" "))
    }

    #[test]
    fn what_would_keep_validation_busy_is_refused() {
        let check = |text: &str| check_document(&async_graphql::parser::parse_query(text).expect("a document"));
        for (text, refusal) in [
            (doubling(5), None),
            (doubling(30), Some("selects more than")),
            (doubling(10_000), Some("64 deep")),
            ("{ a { ...f } } fragment f on A { b }".to_owned(), None),
            ("{ a { ...missing } }".to_owned(), None),
            (
                "{ a { ...f } } fragment f on A { ...g } fragment g on A { ...f }".to_owned(),
                Some("within itself"),
            ),
            (format!("{{ {} }}", "a ".repeat(MAX_SELECTIONS)), None),
            (aliases(MAX_REPEATS + 1, "rows(first: 1000) { id }"), None),
            (aliases(100, "rows(first: 1000) { id }"), Some("times again")),
            (aliases(100, "rows { id }"), Some("times again")),
            (aliases(100, "text(first: 1000)"), Some("times again")),
            (aliases(100, "text"), None),
            (format!("{{ b {} }}", aliases(100, "rows { id }")), Some("times again")),
            (
                format!("{{ ...f ...f }} fragment f on A {}", aliases(20, "rows { id }")),
                Some("times again"),
            ),
            (
                format!("{{ {} }}", "a ".repeat(MAX_SELECTIONS + 1)),
                Some("selects more than"),
            ),
        ] {
            let short: String = text.chars().take(60).collect();
            match (check(&text), refusal) {
                (Ok(()), None) => {}
                (Err(error), Some(part)) => assert!(error.message.contains(part), "{short}: {}", error.message),
                (answer, _) => panic!("{short}: {answer:?}"),
            }
        }
    }
}
