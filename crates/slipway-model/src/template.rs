//! Template variables: `{{name}}` in a queue's configuration, with the bounds that its owner sets.
//!
//! The wire's form is `{"name": {"schema": {"type": "integer", "minimum": 1, …}, "description": "…"}}`.
//! Variables stand in values, never in keys, and a filled-in value is not searched again.

use serde_json::{Map, Number, Value};

use crate::json::{self, child};
use crate::names::nearest;

/// The type of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VariableType {
    /// `string`.
    String,
    /// `integer`.
    Integer,
    /// `number`; people read "float".
    Number,
}

impl VariableType {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::String, Self::Integer, Self::Number];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
        }
    }

    /// The value in this type's own form, if it is of this type. An integer may be written `2.0`.
    fn accept(self, value: &Value) -> Option<Value> {
        match (self, value) {
            (Self::String, Value::String(_)) => Some(value.clone()),
            (Self::Number, Value::Number(_)) => Some(value.clone()),
            (Self::Integer, Value::Number(number)) => integral(number).map(Value::from),
            _ => None,
        }
    }
}

/// A variable and what its value may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// The name between the braces.
    pub name: String,
    /// The type.
    pub kind: VariableType,
    /// The permitted values, if listed.
    pub choices: Option<Vec<Value>>,
    /// The smallest permitted number.
    pub minimum: Option<Number>,
    /// The largest permitted number.
    pub maximum: Option<Number>,
    /// The value when a submitter gives none.
    pub default: Option<Value>,
    /// What the submitter reads.
    pub description: Option<String>,
    /// The schema as it was written.
    pub schema: Value,
}

/// Why variables cannot be stored with a queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The text is not JSON.
    #[error("template variables: {0}")]
    Json(#[from] json::JsonError),
    /// The document, or a part of it, has the wrong shape.
    #[error("template variables: `{path}` must be {expected}, not {found}")]
    Shape {
        /// Where, as a JSON pointer.
        path: String,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A name that cannot stand between braces.
    #[error(
        "template variable `{0}`: a name begins with a letter or `_` and continues with letters, digits, `_`, `-` or `.`"
    )]
    Name(String),
    /// No type.
    #[error("template variable `{0}` needs a `type`: string, integer or number")]
    TypeMissing(String),
    /// A type that does not exist.
    #[error("template variable `{variable}`: type `{given}` is not one of string, integer, number")]
    Type {
        /// The variable.
        variable: String,
        /// The word given.
        given: String,
    },
    /// A key that means nothing here.
    #[error("template variable `{variable}`: unknown key `{key}`{}", .suggestion.map(|s| format!("; did you mean `{s}`?")).unwrap_or_default())]
    UnknownKey {
        /// The variable.
        variable: String,
        /// The key.
        key: String,
        /// The nearest known key.
        suggestion: Option<&'static str>,
    },
    /// A bound, choice or default that contradicts another part of the schema.
    #[error("template variable `{variable}`: {problem}")]
    Contradiction {
        /// The variable.
        variable: String,
        /// What contradicts what.
        problem: String,
    },
    /// The configuration uses a variable that has no schema.
    #[error(
        "the configuration uses `{{{{{0}}}}}`, for which there is no template variable; add it or remove the braces"
    )]
    Undefined(String),
}

/// Why a submission's values are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The values are not a map.
    #[error("template variable values must be a map of names to values, not {0}")]
    NotAMap(&'static str),
    /// A name that the queue does not have.
    #[error("the queue has no template variable `{name}`{}", suggest(.suggestion.as_deref(), .known))]
    Unknown {
        /// The name.
        name: String,
        /// The nearest name that it has.
        suggestion: Option<String>,
        /// The names that it has.
        known: Vec<String>,
    },
    /// A variable without value and default.
    #[error("template variable `{name}` has no default: give it a value ({expected})")]
    Missing {
        /// The variable.
        name: String,
        /// What its value may be.
        expected: String,
    },
    /// A value of another type.
    #[error("template variable `{name}` takes {expected}, not {found}")]
    Type {
        /// The variable.
        name: String,
        /// What its value may be.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A value outside the bounds.
    #[error("template variable `{name}`: {given} is {relation} {bound}")]
    Bound {
        /// The variable.
        name: String,
        /// The value.
        given: String,
        /// `below the minimum` or `above the maximum`.
        relation: &'static str,
        /// The bound.
        bound: String,
    },
    /// A value that is not listed.
    #[error("template variable `{name}`: {given} is not one of {choices}")]
    Choice {
        /// The variable.
        name: String,
        /// The value.
        given: String,
        /// What is listed.
        choices: String,
    },
    /// The configuration uses a variable that the queue does not define.
    #[error(
        "the queue's configuration uses `{{{{{0}}}}}`, which the queue does not define; its owner must add the variable"
    )]
    Undefined(String),
}

fn suggest(suggestion: Option<&str>, known: &[String]) -> String {
    match suggestion {
        Some(name) => format!("; did you mean `{name}`?"),
        None if known.is_empty() => "; it has none".to_owned(),
        None => format!("; it has `{}`", known.join("`, `")),
    }
}

/// The variables of a queue, in the order written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TemplateVariables {
    source: Map<String, Value>,
    variables: Vec<Variable>,
}

impl TemplateVariables {
    /// Reads the wire's JSON text. Blank text and `null` mean no variables.
    ///
    /// # Errors
    /// Names the variable and what is wrong with its schema.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        Self::from_value(json::parse(text)?)
    }

    /// Reads the wire's value.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_value(value: Value) -> Result<Self, SchemaError> {
        let source = match value {
            Value::Null => Map::new(),
            Value::Object(map) => map,
            other => return Err(shape("/", "a map of names to variables", &other)),
        };
        let variables = source
            .iter()
            .map(|(name, entry)| Variable::from_entry(name, entry))
            .collect::<Result<_, _>>()?;
        Ok(Self { source, variables })
    }

    /// The wire's value, exactly as it was read.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Object(self.source.clone())
    }

    /// The variables, in the order written.
    #[must_use]
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// The variable of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Variable> {
        self.variables.iter().find(|variable| variable.name == name)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.variables.is_empty()
    }

    /// Checks that every variable that a configuration uses is defined.
    ///
    /// # Errors
    /// [`SchemaError::Undefined`] with the first that is not.
    pub fn check_config(&self, config: &Value) -> Result<(), SchemaError> {
        match variables_in(config).into_iter().find(|name| self.get(name).is_none()) {
            Some(name) => Err(SchemaError::Undefined(name)),
            None => Ok(()),
        }
    }

    /// The variables that a configuration does not use.
    #[must_use]
    pub fn unused_in(&self, config: &Value) -> Vec<&str> {
        let used = variables_in(config);
        self.variables
            .iter()
            .map(|variable| variable.name.as_str())
            .filter(|name| !used.iter().any(|used| used == name))
            .collect()
    }

    /// Checks a submission's values and completes them with defaults. A value of `null` counts as
    /// absent. Variables that have neither value nor default are left out: [`fill`] refuses them
    /// if the configuration uses them.
    ///
    /// # Errors
    /// Names the variable and the bound.
    pub fn resolve(&self, values: &Value) -> Result<Map<String, Value>, TemplateError> {
        let empty = Map::new();
        let given = match values {
            Value::Null => &empty,
            Value::Object(map) => map,
            other => return Err(TemplateError::NotAMap(json::kind(other))),
        };
        if let Some(name) = given.keys().find(|name| self.get(name).is_none()) {
            let known: Vec<String> = self.variables.iter().map(|variable| variable.name.clone()).collect();
            return Err(TemplateError::Unknown {
                suggestion: nearest(name, known.iter().map(String::as_str)).map(str::to_owned),
                name: shorten(name),
                known,
            });
        }
        let mut resolved = Map::new();
        for variable in &self.variables {
            let value = match given.get(&variable.name) {
                Some(value) if !value.is_null() => Some(variable.check(value)?),
                _ => variable.default.clone(),
            };
            if let Some(value) = value {
                resolved.insert(variable.name.clone(), value);
            }
        }
        Ok(resolved)
    }
}

impl Variable {
    fn from_entry(name: &str, entry: &Value) -> Result<Self, SchemaError> {
        if !is_name(name) {
            return Err(SchemaError::Name(shorten(name)));
        }
        let path = child("", name);
        let Value::Object(entry) = entry else {
            return Err(shape(&path, "a map with `schema`", entry));
        };
        check_keys(name, entry, &["schema", "description"])?;
        let schema = match entry.get("schema") {
            Some(Value::Object(schema)) => schema,
            other => {
                return Err(shape(
                    &child(&path, "schema"),
                    "a map with `type`",
                    other.unwrap_or(&Value::Null),
                ));
            }
        };
        check_keys(name, schema, &["type", "enum", "minimum", "maximum", "default"])?;
        let description = match entry.get("description") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => return Err(shape(&child(&path, "description"), "a string", other)),
        };
        let kind = match schema.get("type") {
            None | Some(Value::Null) => return Err(SchemaError::TypeMissing(name.to_owned())),
            Some(Value::String(word)) => VariableType::ALL
                .into_iter()
                .find(|kind| kind.as_str() == word)
                .ok_or_else(|| SchemaError::Type {
                    variable: name.to_owned(),
                    given: shorten(word),
                })?,
            Some(other) => return Err(shape(&child(&path, "schema/type"), "a string", other)),
        };
        let mut variable = Self {
            name: name.to_owned(),
            kind,
            choices: None,
            minimum: None,
            maximum: None,
            default: None,
            description,
            schema: Value::Object(schema.clone()),
        };
        variable.read_bounds(schema)?;
        Ok(variable)
    }

    /// Reads bounds, choices and default in that order, each checked against those before it.
    fn read_bounds(&mut self, schema: &Map<String, Value>) -> Result<(), SchemaError> {
        let present = |key: &str| schema.get(key).filter(|value| !value.is_null());
        let fault = |variable: &Self, problem: String| SchemaError::Contradiction {
            variable: variable.name.clone(),
            problem,
        };
        for key in ["minimum", "maximum"] {
            let Some(value) = present(key) else { continue };
            if self.kind == VariableType::String {
                return Err(fault(
                    self,
                    format!("`{key}` is for numbers; list a string's values with `enum`"),
                ));
            }
            let Some(Value::Number(bound)) = self.kind.accept(value) else {
                return Err(fault(
                    self,
                    format!("`{key}` must be of type {}, not {}", self.kind.as_str(), show(value)),
                ));
            };
            match key {
                "minimum" => self.minimum = Some(bound),
                _ => self.maximum = Some(bound),
            }
        }
        if let (Some(minimum), Some(maximum)) = (&self.minimum, &self.maximum)
            && compare(minimum, maximum).is_gt()
        {
            return Err(fault(self, format!("minimum {minimum} is above maximum {maximum}")));
        }
        if let Some(listed) = present("enum") {
            let Value::Array(listed) = listed else {
                return Err(fault(
                    self,
                    format!("`enum` must be a list, not {}", json::kind(listed)),
                ));
            };
            if listed.is_empty() {
                return Err(fault(self, "`enum` is empty: no value would be permitted".to_owned()));
            }
            let choices = listed
                .iter()
                .map(|choice| self.check(choice))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| fault(self, format!("`enum` contradicts the schema: {error}")))?;
            self.choices = Some(choices);
        }
        if let Some(default) = present("default") {
            let default = self
                .check(default)
                .map_err(|error| fault(self, format!("`default` contradicts the schema: {error}")))?;
            self.default = Some(default);
        }
        Ok(())
    }

    /// Checks one value and puts it into the type's own form.
    ///
    /// # Errors
    /// Names the variable and the bound.
    pub fn check(&self, value: &Value) -> Result<Value, TemplateError> {
        let Some(value) = self.kind.accept(value) else {
            return Err(TemplateError::Type {
                name: self.name.clone(),
                expected: self.expected(),
                found: show(value),
            });
        };
        if let Value::Number(number) = &value {
            let bound = |relation, bound: &Number| TemplateError::Bound {
                name: self.name.clone(),
                given: number.to_string(),
                relation,
                bound: bound.to_string(),
            };
            if let Some(minimum) = self.minimum.as_ref().filter(|minimum| compare(number, minimum).is_lt()) {
                return Err(bound("below the minimum", minimum));
            }
            if let Some(maximum) = self.maximum.as_ref().filter(|maximum| compare(number, maximum).is_gt()) {
                return Err(bound("above the maximum", maximum));
            }
        }
        if let Some(choices) = &self.choices
            && !choices.iter().any(|choice| equal(choice, &value))
        {
            return Err(TemplateError::Choice {
                name: self.name.clone(),
                given: show(&value),
                choices: list(choices),
            });
        }
        Ok(value)
    }

    /// What a value may be, such as `integer from 1 to 4`.
    #[must_use]
    pub fn expected(&self) -> String {
        if let Some(choices) = &self.choices {
            return format!("one of {}", list(choices));
        }
        let kind = self.kind.as_str();
        match (&self.minimum, &self.maximum) {
            (Some(minimum), Some(maximum)) => format!("{kind} from {minimum} to {maximum}"),
            (Some(minimum), None) => format!("{kind} from {minimum}"),
            (None, Some(maximum)) => format!("{kind} up to {maximum}"),
            (None, None) => kind.to_owned(),
        }
    }

    /// Reads what a person typed for this variable, such as the value of `--set-var gpus=2`.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn parse_text(&self, text: &str) -> Result<Value, TemplateError> {
        let value = match self.kind {
            VariableType::String => Value::from(text),
            VariableType::Integer | VariableType::Number => {
                serde_json::from_str::<Number>(text.trim()).map_or_else(|_| Value::from(text), Value::Number)
            }
        };
        self.check(&value)
    }
}

/// The names of the variables that a value uses, each once, in order of appearance.
#[must_use]
pub fn variables_in(value: &Value) -> Vec<String> {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::String(text) => {
                for piece in pieces(text) {
                    if let Piece::Variable(name) = piece
                        && !found.iter().any(|known| known == name)
                    {
                        found.push(name.to_owned());
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            Value::Object(map) => map.values().for_each(|item| walk(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut found = Vec::new();
    walk(value, &mut found);
    found
}

/// Fills a configuration with a submission's values.
///
/// A string that is a variable and nothing else becomes the value with its type; a variable within
/// a longer string is replaced by the value's text.
///
/// # Errors
/// Names the variable and what is wrong with its value.
pub fn fill(config: &Value, variables: &TemplateVariables, values: &Value) -> Result<Value, TemplateError> {
    let resolved = variables.resolve(values)?;
    let lookup = |name: &str| match (resolved.get(name), variables.get(name)) {
        (Some(value), _) => Ok(value),
        (None, Some(variable)) => Err(TemplateError::Missing {
            name: name.to_owned(),
            expected: variable.expected(),
        }),
        (None, None) => Err(TemplateError::Undefined(name.to_owned())),
    };
    fill_with(config, &lookup)
}

fn fill_with<'a>(
    value: &Value,
    lookup: &impl Fn(&str) -> Result<&'a Value, TemplateError>,
) -> Result<Value, TemplateError> {
    Ok(match value {
        Value::String(text) => {
            let pieces = pieces(text);
            if let [Piece::Variable(name)] = pieces[..] {
                return lookup(name).cloned();
            }
            let mut filled = String::with_capacity(text.len());
            for piece in pieces {
                match piece {
                    Piece::Text(text) => filled.push_str(text),
                    Piece::Variable(name) => match lookup(name)? {
                        Value::String(value) => filled.push_str(value),
                        other => filled.push_str(&other.to_string()),
                    },
                }
            }
            Value::String(filled)
        }
        Value::Array(items) => items
            .iter()
            .map(|item| fill_with(item, lookup))
            .collect::<Result<_, _>>()?,
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, item)| Ok((key.clone(), fill_with(item, lookup)?)))
                .collect::<Result<_, _>>()?,
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

/// A part of a string.
enum Piece<'a> {
    Text(&'a str),
    Variable(&'a str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find("{{") {
        at += found;
        match variable_at(&text[at..]) {
            Some((name, length)) => {
                if start < at {
                    pieces.push(Piece::Text(&text[start..at]));
                }
                pieces.push(Piece::Variable(name));
                at += length;
                start = at;
            }
            None => at += 1,
        }
    }
    if start < text.len() {
        pieces.push(Piece::Text(&text[start..]));
    }
    pieces
}

/// The variable that a text begins with: its name and the length of `{{ name }}`.
pub(crate) fn variable_at(text: &str) -> Option<(&str, usize)> {
    let inside = text.strip_prefix("{{")?;
    // A name is short: without this bound, text full of braces would be searched over and over.
    let end = inside
        .char_indices()
        .take(MAX_NAME + 16)
        .find_map(|(at, _)| inside[at..].starts_with("}}").then_some(at))?;
    let name = inside[..end].trim_matches([' ', '\t']);
    is_name(name).then_some((name, end + 4))
}

/// The longest name, in characters.
const MAX_NAME: usize = 128;

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

fn check_keys(variable: &str, map: &Map<String, Value>, known: &[&'static str]) -> Result<(), SchemaError> {
    match map.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(SchemaError::UnknownKey {
            variable: variable.to_owned(),
            key: shorten(key),
            suggestion: nearest(key, known.iter().copied()),
        }),
        None => Ok(()),
    }
}

fn shape(path: &str, expected: &'static str, found: &Value) -> SchemaError {
    SchemaError::Shape {
        path: path.to_owned(),
        expected,
        found: json::kind(found),
    }
}

/// The integer that a number is, if it is one that fits.
fn integral(number: &Number) -> Option<Number> {
    if number.is_i64() || number.is_u64() {
        return Some(number.clone());
    }
    let float = number.as_f64()?;
    // Beyond 2^53 a float no longer says which integer was meant.
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    (float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0).then(|| Number::from(float as i64))
}

/// Orders two numbers, exactly where both are integers.
fn compare(a: &Number, b: &Number) -> std::cmp::Ordering {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)),
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b).is_eq(),
        _ => a == b,
    }
}

fn list(values: &[Value]) -> String {
    values.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn show(value: &Value) -> String {
    shorten(&value.to_string())
}

/// Keeps an error message short whatever the input.
fn shorten(text: &str) -> String {
    const LIMIT: usize = 80;
    match text.char_indices().nth(LIMIT) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
