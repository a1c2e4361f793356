//! The options of `docker run` as a queue's configuration writes them, and what the Engine API calls
//! them.
//!
//! One table ([`OPTIONS`]) holds every option with its spellings. Reading a configuration, suggesting
//! a name, deciding what a submitter may set and the manual's list all go through it. An option is
//! written by its long name with `-` or `_`, by its letter, or with dashes in front; a list repeats
//! it, `true` gives a flag, `false` and null leave an option out.
//!
//! The result is the body of the engine's "create container" in its own words. Nothing here talks to
//! an engine or reads a file: who calls passes in what the environment and files hold. What only
//! makes sense for a person at a terminal is accepted without effect where it does no harm, and
//! refused with the reason where it would break what the agent promises.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::json::{child, kind};
use crate::names::nearest;

mod draft;
mod network;
mod parse;
mod storage;
mod table;

use self::draft::Draft;
pub use self::table::OPTIONS;

/// The target's name in `resource_args`, for messages.
const TARGET: &str = "/resource_args/local-container";

/// Keys of the target's arguments that are no options of `docker run`.
pub const OTHER_KEYS: [&str; 2] = ["builder", "command"];

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Nothing: `true` sets it.
    Flag,
    /// One value: text or a number.
    One,
    /// Any number of values: one, or a list.
    Many,
    /// `NAME=value`, any number of times: text, a list, or a map.
    Pairs,
}

impl Shape {
    /// What a configuration may write, for the manual.
    #[must_use]
    pub const fn written(self) -> &'static str {
        match self {
            Self::Flag => "true or false",
            Self::One => "a value",
            Self::Many => "a value or a list",
            Self::Pairs => "a value, a list or a map",
        }
    }
}

/// A version of the engine's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Api {
    major: u32,
    minor: u32,
}

impl Api {
    /// A version.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Reads what an engine says, such as `1.44`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(Self::new(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl std::fmt::Display for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Something that an engine must be able to do: earlier ones ignore the option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The option, or the key of `mount` or `network`.
    pub option: &'static str,
    /// The version of the API with which it came.
    pub since: Api,
}

/// One option of `docker run`.
pub struct DockerOption {
    /// The long name, with `-`.
    pub name: &'static str,
    /// The letter, if it has one. Letters are case-sensitive.
    pub short: Option<char>,
    /// Other long names.
    pub aliases: &'static [&'static str],
    /// What it takes.
    pub shape: Shape,
    /// Whether a submitter may set it unless the queue says otherwise: it shapes the job and reaches
    /// nothing outside of it.
    pub submitter: bool,
    /// The version of the API with which it came, if engines before that would ignore it.
    pub since: Option<Api>,
    /// What it does, in a few words.
    pub help: &'static str,
    /// Puts its values into the request.
    apply: Apply,
}

/// How an option's values are put into a request; an error says what is wrong with them.
type Apply = fn(&mut Draft<'_>, &[String]) -> Done;

/// Whether values were taken.
type Done = Result<(), String>;

impl std::fmt::Debug for DockerOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerOption")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No option has this name.
    #[error(
        "`{TARGET}{path}` is no option of `docker run`{}",
        .nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
    )]
    Unknown {
        /// Where, as a JSON pointer below the target's arguments.
        path: String,
        /// The nearest name.
        nearest: Option<&'static str>,
    },
    /// A value that the option does not take.
    #[error("`{TARGET}{path}`: {problem}")]
    Value {
        /// Where, as a JSON pointer below the target's arguments.
        path: String,
        /// What is wrong and what is permitted.
        problem: String,
    },
    /// Not a map.
    #[error("`{TARGET}` must be a map of `docker run` options, not {0}")]
    NotAMap(&'static str),
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// Each time.
    Always,
    /// If the engine does not have it.
    Missing,
    /// Not at all.
    Never,
}

/// What reading options may look up.
pub struct Lookup<'a> {
    /// A variable of the agent's environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Names of variables that may be passed on although they look like secrets.
    pub allowed_env: &'a [String],
    /// The text of a file of the agent's machine, or why it cannot be read.
    pub file: &'a dyn Fn(&str) -> Result<String, String>,
}

/// One network besides the first.
#[derive(Debug, Clone, PartialEq)]
pub struct FurtherNetwork {
    /// Its name or id.
    pub name: String,
    /// The container's settings in it, as the engine calls them.
    pub endpoint: Map<String, Value>,
}

/// A container to be created, in the engine's words.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContainerRequest {
    /// The body of the request, without image, environment, entry point, command and labels.
    pub body: Map<String, Value>,
    /// The directories of the host among the body's `Binds`, as mounts: an engine makes one that is
    /// missing, where it refuses a mount.
    pub directories: Vec<Value>,
    /// The name that the configuration asks for.
    pub name: Option<String>,
    /// The platform, such as `linux/arm64`.
    pub platform: Option<String>,
    /// When to pull, if the configuration says so.
    pub pull: Option<Pull>,
    /// `NAME=value`, in order; later ones win.
    pub env: Vec<String>,
    /// The entry point for images whose job has none.
    pub entrypoint: Option<String>,
    /// The command for jobs that have none.
    pub command: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Networks that are connected after the container was created.
    pub networks: Vec<FurtherNetwork>,
    /// What the engine must be able to do.
    pub needs: Vec<Need>,
}

/// The option of a name in any spelling.
#[must_use]
pub fn find(name: &str) -> Option<&'static DockerOption> {
    let bare = name.trim_start_matches('-');
    let mut letters = bare.chars();
    if let (Some(letter), None) = (letters.next(), letters.next()) {
        return OPTIONS.iter().find(|option| option.short == Some(letter));
    }
    let long = bare.replace('_', "-").to_ascii_lowercase();
    OPTIONS
        .iter()
        .find(|option| option.name == long || option.aliases.contains(&long.as_str()))
}

/// The option whose name is nearest to a wrong one.
#[must_use]
pub fn suggest(name: &str) -> Option<&'static str> {
    let known = OPTIONS
        .iter()
        .flat_map(|option| std::iter::once(option.name).chain(option.aliases.iter().copied()));
    nearest(name.trim_start_matches('-'), known.chain(OTHER_KEYS))
}

/// Checks that every key is an option, without looking at values.
///
/// # Errors
/// Names the first key that is none, with the nearest option.
pub fn check_names(args: &Value) -> Result<(), OptionError> {
    let Some(map) = map(args)? else { return Ok(()) };
    match map
        .keys()
        .find(|key| find(key).is_none() && !OTHER_KEYS.contains(&key.as_str()))
    {
        Some(key) => Err(OptionError::Unknown {
            path: child("", key),
            nearest: suggest(key),
        }),
        None => Ok(()),
    }
}

/// Options whose values an agent's environment and files decide about.
const OF_THE_AGENT: [&str; 4] = ["env", "env-file", "label-file", "security-opt"];

/// Checks the values of options as far as they can be judged without an agent. What a submitter or an
/// agent fills in (`{{name}}`, `${name}`) is left to it, and so is a key that is no option.
///
/// # Errors
/// Names the first option whose value is wrong.
pub fn check_values(args: &Value) -> Result<(), OptionError> {
    let Value::Object(map) = args else { return Ok(()) };
    let is_final = |key: &str, value: &Value| {
        let text = value.to_string();
        let known = find(key).map_or(key == "command", |option| !OF_THE_AGENT.contains(&option.name));
        known && !text.contains("{{") && !text.contains("${")
    };
    let known = map.iter().filter(|(key, value)| is_final(key, value));
    let known = known.map(|(key, value)| (key.clone(), value.clone())).collect();
    let lookup = Lookup {
        env: &|_| None,
        allowed_env: &[],
        file: &|path| Err(format!("`{path}` is the agent's")),
    };
    request(&Value::Object(known), &lookup).map(drop)
}

/// Reads a target's arguments.
///
/// # Errors
/// Names the first option that does not exist or whose value is wrong.
pub fn request(args: &Value, lookup: &Lookup<'_>) -> Result<ContainerRequest, OptionError> {
    check_names(args)?;
    let Some(map) = map(args)? else {
        return Ok(ContainerRequest::default());
    };
    let mut draft = Draft::new(lookup);
    for (key, value) in map {
        let path = child("", key);
        let wrong = |problem: String| OptionError::Value {
            path: path.clone(),
            problem,
        };
        match (find(key), key.as_str()) {
            (Some(option), _) => {
                let values = values(option.shape, value).map_err(wrong)?;
                if !values.is_empty() {
                    (option.apply)(&mut draft, &values).map_err(wrong)?;
                    draft.need(option.name, option.since);
                }
            }
            (None, "command") => draft.request.command = parse::command(value).map_err(wrong)?,
            (None, _) => {}
        }
    }
    draft.finish().map_err(|(option, problem)| OptionError::Value {
        path: child("", option),
        problem,
    })
}

fn map(args: &Value) -> Result<Option<&Map<String, Value>>, OptionError> {
    match args {
        Value::Null => Ok(None),
        Value::Object(map) => Ok(Some(map)),
        other => Err(OptionError::NotAMap(kind(other))),
    }
}

/// The values of an option as text; none if it is left out.
fn values(shape: Shape, value: &Value) -> Result<Vec<String>, String> {
    let wrong = || {
        let found = kind(value);
        Err(format!("it takes {}, not {found}", shape.written()))
    };
    let word = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match (shape, value) {
        (_, Value::Null | Value::Bool(false)) => Ok(Vec::new()),
        (Shape::Flag, Value::Bool(true)) => Ok(vec!["true".to_owned()]),
        (Shape::Flag, Value::String(text)) => match text.to_ascii_lowercase().as_str() {
            "" | "true" | "1" => Ok(vec!["true".to_owned()]),
            "false" | "0" => Ok(Vec::new()),
            _ => wrong(),
        },
        (Shape::Flag, _) => wrong(),
        (_, Value::String(_) | Value::Number(_)) => Ok(word(value).into_iter().collect()),
        (Shape::One, Value::Array(items)) => match items.as_slice() {
            [] => Ok(Vec::new()),
            [one] => word(one).map_or_else(wrong, |text| Ok(vec![text])),
            _ => Err(format!("it takes one value, not a list of {}", items.len())),
        },
        (Shape::Many | Shape::Pairs, Value::Array(items)) => items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                word(item).ok_or_else(|| format!("entry {index} is {}; it must be text or a number", kind(item)))
            })
            .collect(),
        (Shape::Pairs, Value::Object(map)) => map
            .iter()
            .map(|(name, value)| match value {
                Value::Null => Ok(name.clone()),
                Value::Bool(flag) => Ok(format!("{name}={flag}")),
                _ => word(value)
                    .map(|text| format!("{name}={text}"))
                    .ok_or_else(|| format!("`{name}` is {}; it must be text or a number", kind(value))),
            })
            .collect(),
        _ => wrong(),
    }
}

#[cfg(test)]
mod tests;
