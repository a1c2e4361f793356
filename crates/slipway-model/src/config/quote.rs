//! Puts quotes around template variables that were written without them.
//!
//! `{{gpus}}` outside a string is no JSON, and in YAML a map with a map for its key; nobody means
//! that. The pass is lexical: it follows quotes and comments, and touches nothing else.

/// A text with quotes added, and where they were added.
pub(super) struct Quoted {
    /// The text to parse.
    pub(super) text: String,
    /// Line and character column (both from 1, in `text`) of every added character, ascending.
    added: Vec<(usize, usize)>,
}

impl Quoted {
    /// The column in the text as the user wrote it.
    pub(super) fn original_column(&self, line: usize, column: usize) -> usize {
        let shift = self
            .added
            .iter()
            .filter(|(at, col)| *at == line && *col < column)
            .count();
        column.saturating_sub(shift).max(1)
    }
}

/// Copies a text character by character, counting lines and columns.
struct Writer {
    out: Quoted,
    line: usize,
    column: usize,
}

impl Writer {
    fn new(capacity: usize) -> Self {
        Self {
            out: Quoted {
                text: String::with_capacity(capacity + 16),
                added: Vec::new(),
            },
            line: 1,
            column: 0,
        }
    }

    fn copy(&mut self, text: &str) {
        for c in text.chars() {
            self.out.text.push(c);
            if c == '\n' {
                self.line += 1;
                self.column = 0;
            } else {
                self.column += 1;
            }
        }
    }

    fn add(&mut self, c: char) {
        self.copy(c.encode_utf8(&mut [0; 4]));
        self.out.added.push((self.line, self.column));
    }

    /// Copies a piece of text as the inside of a double-quoted string.
    fn copy_quoted(&mut self, text: &str) {
        self.add('"');
        for c in text.chars() {
            if c == '"' || c == '\\' {
                self.add('\\');
            }
            self.copy(c.encode_utf8(&mut [0; 4]));
        }
        self.add('"');
    }
}

/// Quotes the bare variables of a JSON text.
pub(super) fn in_json(text: &str) -> Quoted {
    let mut writer = Writer::new(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '"' => string_length(rest),
            '{' => match crate::template::variable_at(rest) {
                Some((_, length)) => {
                    writer.copy_quoted(&rest[..length]);
                    rest = &rest[length..];
                    continue;
                }
                None => 1,
            },
            other => other.len_utf8(),
        };
        writer.copy(&rest[..length]);
        rest = &rest[length..];
    }
    writer.out
}

/// Quotes the bare variables of a YAML text.
///
/// In block style a plain value that begins with a variable is quoted to its end, so that
/// `image: {{registry}}/app` works too; in flow style the variable alone is.
pub(super) fn in_yaml(text: &str) -> Quoted {
    let mut writer = Writer::new(text.len());
    let mut flow = 0_usize;
    let mut block_scalar: Option<usize> = None;
    let mut open_quote: Option<char> = None;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches(' ').len();
        if let Some(parent) = block_scalar {
            if line.trim().is_empty() || indent > parent {
                writer.copy(line);
                continue;
            }
            block_scalar = None;
        }
        yaml_line(&mut writer, line, &mut flow, &mut open_quote);
        if flow == 0 && open_quote.is_none() && opens_block_scalar(line) {
            block_scalar = Some(key_column(line));
        }
    }
    writer.out
}

/// The column (from 0) of the key or list marker to which the value on this line belongs.
fn key_column(line: &str) -> usize {
    let mut column = line.len() - line.trim_start_matches(' ').len();
    while let Some(item) = line[column..].strip_prefix("- ") {
        let inner = item.trim_start_matches(' ');
        if inner.starts_with(['|', '>']) {
            break;
        }
        column = line.len() - inner.len();
    }
    column
}

fn yaml_line(writer: &mut Writer, line: &str, flow: &mut usize, open_quote: &mut Option<char>) {
    let mut rest = line;
    // Whether a value may begin here, and whether a space came before.
    let (mut at_start, mut after_space) = (true, true);
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        if let Some(quote) = *open_quote {
            if quote == '"' && c == '\\' {
                length += rest[1..].chars().next().map_or(0, char::len_utf8);
            } else if quote == '\'' && rest.starts_with("''") {
                length = 2;
            } else if c == quote {
                *open_quote = None;
                at_start = false;
            }
            writer.copy(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        match c {
            '#' if after_space => {
                writer.copy(rest);
                return;
            }
            '"' | '\'' if at_start => *open_quote = Some(c),
            '{' if at_start && let Some((_, variable)) = crate::template::variable_at(rest) => {
                let end = if *flow == 0 {
                    plain_end(rest, variable)
                } else {
                    variable
                };
                if rest[end..].trim_start().starts_with(':') {
                    writer.copy(&rest[..variable]);
                    rest = &rest[variable..];
                } else {
                    writer.copy_quoted(&rest[..end]);
                    rest = &rest[end..];
                }
                (at_start, after_space) = (false, false);
                continue;
            }
            '{' | '[' if at_start => *flow += 1,
            '}' | ']' if *flow > 0 => *flow -= 1,
            _ => {}
        }
        at_start = match c {
            ' ' | '\t' => at_start,
            '{' | '[' | ',' => *flow > 0,
            ':' | '-' | '?' => starts_value(rest, *flow > 0, c, at_start),
            _ => false,
        };
        after_space = c == ' ' || c == '\t';
        writer.copy(&rest[..length]);
        rest = &rest[length..];
    }
}

/// Whether a `:`, `-` or `?` is an indicator after which a value begins.
fn starts_value(rest: &str, in_flow: bool, indicator: char, at_start: bool) -> bool {
    let spaced = rest[1..].starts_with([' ', '\t', '\n', '\r']) || rest.len() == 1;
    match indicator {
        ':' => spaced || (in_flow && rest[1..].starts_with(['{', '[', '"'])),
        _ => spaced && at_start,
    }
}

/// The end of a plain scalar on one line that begins with a variable of the given length.
fn plain_end(rest: &str, variable: usize) -> usize {
    let line = rest.lines().next().unwrap_or(rest);
    let comment = line[variable..].find(" #").map_or(line.len(), |at| variable + at);
    let key = line[variable..comment].find(": ").map_or(comment, |at| variable + at);
    line[..key].trim_end().len().max(variable)
}

/// Whether a line ends with the header of a block scalar, such as `|` or `>-`.
fn opens_block_scalar(line: &str) -> bool {
    let line = line.trim_end();
    let line = line.find(" #").map_or(line, |at| line[..at].trim_end());
    let header = line.rsplit([' ', '\t']).next().unwrap_or("");
    let mut chars = header.chars();
    matches!(chars.next(), Some('|' | '>')) && chars.all(|c| matches!(c, '+' | '-' | '1'..='9')) && header.len() < 4
}

/// The length of the JSON string that `rest` begins with, to its closing quote or the text's end.
fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}
