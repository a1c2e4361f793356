//! Macros: `${name}` in resource arguments, expanded by the agent when it takes an item.
//!
//! Six names are built in and always win; any other name is looked up in the agent's environment.
//! Names that carry secrets are refused, whether they are set or not, so that a submitter can
//! neither read the agent's credentials nor learn which it has.

use serde_json::Value;

use crate::json::child;

/// The values of the built-in macros for one item. A macro without value stays as written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MacroContext {
    /// `${project_name}`: the run's project.
    pub project_name: String,
    /// `${entity_name}`: the owner of that project.
    pub entity_name: String,
    /// `${run_id}`: the run's id.
    pub run_id: String,
    /// `${run_name}`: the run's display name.
    pub run_name: Option<String>,
    /// `${image_uri}`: the image.
    pub image_uri: Option<String>,
    /// `${author}`: whom the run is attributed to.
    pub author: Option<String>,
}

impl MacroContext {
    /// Whether a name is built in, and its value.
    fn get(&self, name: &str) -> Option<Option<&str>> {
        Some(match name {
            "project_name" => Some(&self.project_name),
            "entity_name" => Some(&self.entity_name),
            "run_id" => Some(&self.run_id),
            "run_name" => self.run_name.as_deref(),
            "image_uri" => self.image_uri.as_deref(),
            "author" => self.author.as_deref(),
            _ => return None,
        })
    }
}

/// A macro that would hand out a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`${{{name}}}` in resource_args{path} is refused: its name looks like that of a secret in the agent's environment. \
     If jobs may read it, list `{name}` under `allowed_env` in the agent's configuration; to let the job's own shell \
     expand it, write `${name}`"
)]
pub struct MacroError {
    /// The name.
    pub name: String,
    /// Where, as a JSON pointer below the resource's arguments.
    pub path: String,
}

/// Expands the macros in every string value. Keys and numbers stay as they are, and so do names
/// that are neither built in nor set; an expanded value is not searched again.
///
/// `env` looks a name up in the agent's environment; `allow` lists names that may be read although
/// they look like secrets.
///
/// # Errors
/// Names the macro and where it stands.
pub fn expand(
    args: &Value,
    context: &MacroContext,
    env: &dyn Fn(&str) -> Option<String>,
    allow: &[String],
) -> Result<Value, MacroError> {
    let lookup = |name: &str, path: &str| match context.get(name) {
        Some(value) => Ok(value.map(str::to_owned)),
        None if is_secret_name(name) && !allow.iter().any(|allowed| allowed == name) => Err(MacroError {
            name: name.to_owned(),
            path: path.to_owned(),
        }),
        None => Ok(env(name)),
    };
    expand_value(args, "", &lookup)
}

/// Gives the text of a macro: its name, and where it stands. `None` leaves the text as it is.
type Lookup<'a> = dyn Fn(&str, &str) -> Result<Option<String>, MacroError> + 'a;

fn expand_value(value: &Value, path: &str, lookup: &Lookup<'_>) -> Result<Value, MacroError> {
    Ok(match value {
        Value::String(text) => Value::String(expand_text(text, path, lookup)?),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| expand_value(item, &format!("{path}/{index}"), lookup))
            .collect::<Result<_, _>>()?,
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, item)| Ok((key.clone(), expand_value(item, &child(path, key), lookup)?)))
                .collect::<Result<_, _>>()?,
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

fn expand_text(text: &str, path: &str, lookup: &Lookup<'_>) -> Result<String, MacroError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let name_and_rest = &rest[at + 2..];
        let length = name_and_rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(name_and_rest.len());
        let name = &name_and_rest[..length];
        if name.is_empty() || !name_and_rest[length..].starts_with('}') {
            expanded.push_str(&rest[..at + 2]);
            rest = name_and_rest;
            continue;
        }
        let whole = at + 2 + length + 1;
        match lookup(name, path)? {
            Some(value) => {
                expanded.push_str(&rest[..at]);
                expanded.push_str(&value);
            }
            None => expanded.push_str(&rest[..whole]),
        }
        rest = &rest[whole..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Whether an environment variable's name says that its value is a secret.
///
/// Words are what `_` separates, so that `TOKENIZERS_PARALLELISM` is harmless and `HF_TOKEN` is not.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    const ANYWHERE: [&str; 6] = ["SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "APIKEY", "CREDENTIAL"];
    const WORDS: [&str; 6] = ["TOKEN", "PASS", "PAT", "DSN", "AUTH", "SSHPASS"];
    const PAIRS: [[&str; 2]; 5] = [
        ["API", "KEY"],
        ["ACCESS", "KEY"],
        ["PRIVATE", "KEY"],
        ["CONNECTION", "STRING"],
        ["DATABASE", "URL"],
    ];
    let name = name.to_ascii_uppercase();
    let words: Vec<&str> = name.split('_').filter(|word| !word.is_empty()).collect();
    ANYWHERE.iter().any(|part| name.contains(part))
        || words.iter().any(|word| WORDS.contains(word))
        || words.windows(2).any(|pair| PAIRS.iter().any(|known| pair == known))
        || words
            .last()
            .is_some_and(|word| matches!(*word, "KEY" | "KEYS") || word.ends_with("TOKEN"))
        || (words.last() == Some(&"PWD") && words.len() > 1)
        || matches!(name.as_str(), "PGPASSFILE" | "NETRC" | "KUBECONFIG" | "SSH_AUTH_SOCK")
}

#[cfg(test)]
mod tests;
