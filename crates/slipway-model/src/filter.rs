//! Filters and orders of the public API: Mongo-style conditions over a run's fields.
//!
//! A filter only compares; what a path such as `config.lr.value` means is the caller's business,
//! which passes a lookup. Parsing has limits, so that a filter costs what its text costs.

use std::cmp::Ordering;

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use crate::json::{self, JsonError};

/// How deep conditions may nest.
pub const MAX_NESTING: usize = 16;

/// How many conditions and listed values a filter may have.
pub const MAX_TERMS: usize = 1_000;

/// How long a path or a regular expression may be, in bytes.
pub const MAX_WORD: usize = 512;

/// How many keys an order may have.
pub const MAX_ORDER_KEYS: usize = 8;

/// A filter that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The text is not JSON.
    #[error("the filter is not valid JSON: {0}")]
    Json(#[from] JsonError),
    /// A part has the wrong type.
    #[error("filter: `{at}` takes {expected}, not {found}")]
    Shape {
        /// The operator or path.
        at: String,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// An operator that does not exist.
    #[error(
        "filter: unknown operator `{0}`; there are $and, $or, $nor, $not, $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, \
         $exists, $regex"
    )]
    Operator(String),
    /// A path that is empty or too long.
    #[error("filter: a field's path has 1 to {MAX_WORD} characters")]
    Path,
    /// Not a regular expression, or a too large one.
    #[error("filter: `{pattern}` is not a usable regular expression: {problem}")]
    Regex {
        /// The expression.
        pattern: String,
        /// Why.
        problem: String,
    },
    /// More than the limits allow.
    #[error("filter: more than {MAX_NESTING} levels or {MAX_TERMS} conditions")]
    TooLarge,
    /// An order with too many keys, or an empty one.
    #[error("order: give 1 to {MAX_ORDER_KEYS} paths such as `-created_at`, separated by commas")]
    Order,
}

/// A condition over a record's fields.
#[derive(Debug, Clone)]
pub struct Filter(Condition);

#[derive(Debug, Clone)]
enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    None(Vec<Condition>),
    Field { path: String, tests: Vec<Test> },
}

#[derive(Debug, Clone)]
enum Test {
    Equal(Value),
    NotEqual(Value),
    In(Vec<Value>),
    NotIn(Vec<Value>),
    Compare(Relation, Value),
    Exists(bool),
    Matches(Regex),
    Not(Vec<Test>),
}

/// Which side of a bound a value must be on.
#[derive(Debug, Clone, Copy)]
enum Relation {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl Filter {
    /// The filter that everything passes.
    #[must_use]
    pub const fn everything() -> Self {
        Self(Condition::All(Vec::new()))
    }

    /// Reads a filter from JSON text. Blank text and `null` pass everything.
    ///
    /// # Errors
    /// Names the operator or path that is wrong.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.trim().is_empty() {
            return Ok(Self::everything());
        }
        Self::from_value(&json::parse(text)?)
    }

    /// Reads a filter from a JSON value.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_value(value: &Value) -> Result<Self, FilterError> {
        match value {
            Value::Null => Ok(Self::everything()),
            value => Parser { terms: 0 }.condition(value, "filter", 0).map(Self),
        }
    }

    /// Whether a record passes. `lookup` gives the value at a path; `None` if there is none.
    #[must_use]
    pub fn matches(&self, lookup: &dyn Fn(&str) -> Option<Value>) -> bool {
        self.0.matches(lookup)
    }

    /// The value that a path must equal for the filter to pass, if it demands one. Stores use it
    /// to look a record up instead of scanning.
    #[must_use]
    pub fn required(&self, path: &str) -> Option<&Value> {
        self.0.required(path)
    }
}

struct Parser {
    terms: usize,
}

impl Parser {
    fn count(&mut self, terms: usize, depth: usize) -> Result<(), FilterError> {
        self.terms += terms;
        if self.terms > MAX_TERMS || depth > MAX_NESTING {
            return Err(FilterError::TooLarge);
        }
        Ok(())
    }

    fn condition(&mut self, value: &Value, at: &str, depth: usize) -> Result<Condition, FilterError> {
        let Value::Object(map) = value else {
            return Err(shape(at, "a map", value));
        };
        self.count(map.len(), depth)?;
        let mut all = Vec::with_capacity(map.len());
        for (key, value) in map {
            all.push(match key.as_str() {
                "$and" => Condition::All(self.conditions(value, key, depth)?),
                "$or" => Condition::Any(self.conditions(value, key, depth)?),
                "$nor" => Condition::None(self.conditions(value, key, depth)?),
                "$not" => Condition::None(vec![self.condition(value, key, depth + 1)?]),
                _ if key.starts_with('$') => return Err(unknown(key)),
                path => self.field(path, value, depth)?,
            });
        }
        Ok(Condition::All(all))
    }

    fn conditions(&mut self, value: &Value, at: &str, depth: usize) -> Result<Vec<Condition>, FilterError> {
        let Value::Array(items) = value else {
            return Err(shape(at, "a list of conditions", value));
        };
        self.count(items.len(), depth)?;
        items.iter().map(|item| self.condition(item, at, depth + 1)).collect()
    }

    fn field(&mut self, path: &str, value: &Value, depth: usize) -> Result<Condition, FilterError> {
        if path.is_empty() || path.len() > MAX_WORD {
            return Err(FilterError::Path);
        }
        let tests = match value {
            Value::Object(map) if map.keys().any(|key| key.starts_with('$')) => self.tests(map, depth + 1)?,
            value => vec![Test::Equal(value.clone())],
        };
        Ok(Condition::Field {
            path: path.to_owned(),
            tests,
        })
    }

    fn tests(&mut self, map: &Map<String, Value>, depth: usize) -> Result<Vec<Test>, FilterError> {
        self.count(map.len(), depth)?;
        let mut tests = Vec::with_capacity(map.len());
        for (operator, value) in map {
            tests.push(match operator.as_str() {
                "$eq" => Test::Equal(value.clone()),
                "$ne" => Test::NotEqual(value.clone()),
                "$in" => Test::In(self.list(operator, value, depth)?),
                "$nin" => Test::NotIn(self.list(operator, value, depth)?),
                "$gt" => Test::Compare(Relation::Above, value.clone()),
                "$gte" => Test::Compare(Relation::AtLeast, value.clone()),
                "$lt" => Test::Compare(Relation::Below, value.clone()),
                "$lte" => Test::Compare(Relation::AtMost, value.clone()),
                "$exists" => match value {
                    Value::Bool(wanted) => Test::Exists(*wanted),
                    other => return Err(shape(operator, "true or false", other)),
                },
                "$regex" => Test::Matches(pattern(value, map.get("$options"))?),
                "$options" if map.contains_key("$regex") => continue,
                "$not" => match value {
                    Value::Object(inner) => Test::Not(self.tests(inner, depth + 1)?),
                    other => return Err(shape(operator, "a map of operators", other)),
                },
                _ => return Err(unknown(operator)),
            });
        }
        Ok(tests)
    }

    fn list(&mut self, operator: &str, value: &Value, depth: usize) -> Result<Vec<Value>, FilterError> {
        let Value::Array(items) = value else {
            return Err(shape(operator, "a list", value));
        };
        self.count(items.len(), depth)?;
        Ok(items.clone())
    }
}

impl Condition {
    fn matches(&self, lookup: &dyn Fn(&str) -> Option<Value>) -> bool {
        match self {
            Self::All(items) => items.iter().all(|item| item.matches(lookup)),
            Self::Any(items) => items.iter().any(|item| item.matches(lookup)),
            Self::None(items) => !items.iter().any(|item| item.matches(lookup)),
            Self::Field { path, tests } => {
                let value = lookup(path);
                tests.iter().all(|test| test.passes(value.as_ref()))
            }
        }
    }

    fn required(&self, wanted: &str) -> Option<&Value> {
        match self {
            Self::All(items) => items.iter().find_map(|item| item.required(wanted)),
            Self::Any(items) => match &items[..] {
                [only] => only.required(wanted),
                _ => None,
            },
            Self::None(_) => None,
            Self::Field { path, tests } if path == wanted => tests.iter().find_map(|test| match test {
                Test::Equal(value) => Some(value),
                Test::In(values) if values.len() == 1 => values.first(),
                _ => None,
            }),
            Self::Field { .. } => None,
        }
    }
}

impl Test {
    fn passes(&self, value: Option<&Value>) -> bool {
        match self {
            Self::Equal(wanted) => is(value, wanted),
            Self::NotEqual(wanted) => !is(value, wanted),
            Self::In(listed) => listed.iter().any(|wanted| is(value, wanted)),
            Self::NotIn(listed) => !listed.iter().any(|wanted| is(value, wanted)),
            Self::Exists(wanted) => value.is_some() == *wanted,
            Self::Not(tests) => !tests.iter().all(|test| test.passes(value)),
            Self::Compare(relation, bound) => any(value, |value| {
                order(value, bound).is_some_and(|ordering| match relation {
                    Relation::Above => ordering.is_gt(),
                    Relation::AtLeast => ordering.is_ge(),
                    Relation::Below => ordering.is_lt(),
                    Relation::AtMost => ordering.is_le(),
                })
            }),
            Self::Matches(regex) => any(value, |value| value.as_str().is_some_and(|text| regex.is_match(text))),
        }
    }
}

/// Whether a value equals the wanted one, or is a list that contains it. Absent equals null.
fn is(value: Option<&Value>, wanted: &Value) -> bool {
    value.map_or(wanted.is_null(), |value| {
        same(value, wanted) || any_item(value, |item| same(item, wanted))
    })
}

fn any(value: Option<&Value>, test: impl Fn(&Value) -> bool) -> bool {
    value.is_some_and(|value| test(value) || any_item(value, test))
}

fn any_item(value: &Value, test: impl Fn(&Value) -> bool) -> bool {
    value.as_array().is_some_and(|items| items.iter().any(test))
}

/// Equality in which `1` is `1.0`.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => order(a, b).is_some_and(Ordering::is_eq),
        _ => a == b,
    }
}

/// The order of two values of one type; `None` across types.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i128(), b.as_i128()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn pattern(value: &Value, options: Option<&Value>) -> Result<Regex, FilterError> {
    let Value::String(pattern) = value else {
        return Err(shape("$regex", "a string", value));
    };
    let fault = |problem: String| FilterError::Regex {
        pattern: pattern.chars().take(80).collect(),
        problem,
    };
    if pattern.len() > MAX_WORD {
        return Err(fault(format!("it is longer than {MAX_WORD} bytes")));
    }
    let options = match options {
        None | Some(Value::Null) => "",
        Some(Value::String(options)) => options,
        Some(other) => return Err(shape("$options", "a string", other)),
    };
    if let Some(option) = options.chars().find(|option| !"imsx".contains(*option)) {
        return Err(fault(format!("there is no option `{option}`")));
    }
    RegexBuilder::new(pattern)
        .case_insensitive(options.contains('i'))
        .multi_line(options.contains('m'))
        .dot_matches_new_line(options.contains('s'))
        .ignore_whitespace(options.contains('x'))
        .size_limit(256 << 10)
        .dfa_size_limit(256 << 10)
        .nest_limit(32)
        .build()
        .map_err(|error| {
            let text = error.to_string();
            fault(text.lines().last().unwrap_or_default().trim().to_owned())
        })
}

fn shape(at: &str, expected: &'static str, found: &Value) -> FilterError {
    FilterError::Shape {
        at: at.chars().take(80).collect(),
        expected,
        found: json::kind(found),
    }
}

fn unknown(operator: &str) -> FilterError {
    FilterError::Operator(operator.chars().take(80).collect())
}

/// An order of records: paths, each ascending or descending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The keys, most significant first.
    pub keys: Vec<OrderKey>,
}

/// One key of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderKey {
    /// The path, such as `summary_metrics.loss`.
    pub path: String,
    /// Whether the largest comes first.
    pub descending: bool,
}

impl Order {
    /// Reads `+created_at`, `-summary_metrics.loss` or several of them, separated by commas.
    ///
    /// # Errors
    /// If there are no or too many keys, or a path is empty or too long.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let keys: Vec<OrderKey> = text
            .split(',')
            .take(MAX_ORDER_KEYS + 1)
            .map(|key| {
                let key = key.trim();
                let path = key.strip_prefix(['+', '-']).unwrap_or(key);
                if path.is_empty() || path.len() > MAX_WORD {
                    return Err(FilterError::Order);
                }
                Ok(OrderKey {
                    path: path.to_owned(),
                    descending: key.starts_with('-'),
                })
            })
            .collect::<Result<_, _>>()?;
        if keys.len() > MAX_ORDER_KEYS {
            return Err(FilterError::Order);
        }
        Ok(Self { keys })
    }

    /// Compares two records by the values of the keys, which the caller has looked up in the order
    /// of [`Self::keys`]. Records without a value come last in either direction.
    #[must_use]
    pub fn compare(&self, a: &[Option<Value>], b: &[Option<Value>]) -> Ordering {
        for (index, key) in self.keys.iter().enumerate() {
            let ordering = match (present(a, index), present(b, index)) {
                (None, None) => Ordering::Equal,
                (None, Some(_)) => return Ordering::Greater,
                (Some(_), None) => return Ordering::Less,
                (Some(a), Some(b)) if key.descending => total(b, a),
                (Some(a), Some(b)) => total(a, b),
            };
            if ordering.is_ne() {
                return ordering;
            }
        }
        Ordering::Equal
    }
}

/// The value at an index, if there is one that is not null.
fn present(values: &[Option<Value>], index: usize) -> Option<&Value> {
    values.get(index)?.as_ref().filter(|value| !value.is_null())
}

/// A total order: by type first, then by value.
fn total(a: &Value, b: &Value) -> Ordering {
    const fn rank(value: &Value) -> u8 {
        match value {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Number(_) => 2,
            Value::String(_) => 3,
            Value::Array(_) => 4,
            Value::Object(_) => 5,
        }
    }
    order(a, b).unwrap_or_else(|| rank(a).cmp(&rank(b)))
}

#[cfg(test)]
mod tests;
