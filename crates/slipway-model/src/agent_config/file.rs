//! Reads the file into the typed configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::blocks::{Builder, BuilderKind, Environment, ProcessTarget, Registry, RegistryKind};
use super::tree::{Entry, Node, Tree};
use super::{
    ADDRESS, AgentConfig, AgentConfigError, MAX_SECONDS, Resolved, ResourceArgsPolicy, Source, Warning, keys, limit,
};
use crate::config::yaml;
use crate::json;
use crate::names::nearest;

/// Reads the file's text. An empty file says nothing.
pub(super) fn read(text: &str) -> Result<Resolved, AgentConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(error) = json::too_long(text) {
        return Err(AgentConfigError::Yaml(error.into()));
    }
    let mut reader = Reader {
        config: AgentConfig::default(),
        sources: BTreeMap::new(),
        warnings: Vec::new(),
    };
    let root: Option<Node> = match text.trim().is_empty() {
        true => None,
        false => Some(yaml::parse(text, text)?),
    };
    match root {
        None => {}
        Some(root) if root.is_null() => {}
        Some(Node {
            tree: Tree::Map(entries),
            ..
        }) => {
            for entry in &entries {
                reader.top(entry)?;
            }
        }
        Some(other) => {
            return Err(AgentConfigError::NotAMap {
                line: other.line,
                found: other.kind(),
            });
        }
    }
    Ok(Resolved {
        config: reader.config,
        sources: reader.sources,
        warnings: reader.warnings,
    })
}

struct Reader {
    config: AgentConfig,
    sources: BTreeMap<&'static str, Source>,
    warnings: Vec<Warning>,
}

impl Reader {
    fn top(&mut self, entry: &Entry) -> Result<(), AgentConfigError> {
        let Some(key) = keys::top().find(|key| *key == entry.key) else {
            return Err(unknown_key(entry));
        };
        // A key without value says nothing, as in the official agent.
        if entry.node.is_null() {
            return Ok(());
        }
        let node = &entry.node;
        match key {
            "entity" => self.config.entity = Some(text(key, node)?),
            "queues" => self.config.queues = texts(key, node)?,
            "name" => self.config.name = Some(text(key, node)?),
            "max_jobs" => self.config.max_jobs = integer(key, node)?,
            "max_schedulers" => self.config.max_schedulers = integer(key, node)?,
            "secure_mode" => self.config.secure_mode = boolean(key, node)?,
            "verbosity" => {
                let verbosity = u8::try_from(integer(key, node)?)
                    .ok()
                    .filter(|verbosity| *verbosity <= 2);
                self.config.verbosity = verbosity.ok_or_else(|| wrong(key, node, "0, 1 or 2"))?;
            }
            "stopped_run_timeout" => {
                self.config.stopped_run_timeout = Duration::from_secs_f64(seconds(key, node)?.clamp(0.0, MAX_SECONDS));
            }
            "start_timeout" => self.config.start_timeout = limit(seconds(key, node)?),
            "drain_timeout" => self.config.drain_timeout = limit(seconds(key, node)?),
            "health_address" => {
                let address = text(key, node)?.parse();
                self.config.health_address = Some(address.map_err(|_| wrong(key, node, ADDRESS))?);
            }
            "environment" => self.config.environment = self.environment(node)?,
            "registry" => self.config.registry = self.registry(node)?,
            "builder" => self.config.builder = self.builder(node)?,
            "resource_args_policy" => {
                let policies = [ResourceArgsPolicy::Restrict, ResourceArgsPolicy::Trust];
                self.config.resource_args_policy = word(key, node, &policies, |policy| policy.as_str())?;
            }
            "allowed_env" => self.config.allowed_env = texts(key, node)?,
            "process" => self.config.process = self.process(node)?,
            _ => return Err(unknown_key(entry)),
        }
        self.sources.insert(key, Source::File { line: entry.line });
        Ok(())
    }

    fn environment(&mut self, node: &Node) -> Result<Option<Environment>, AgentConfigError> {
        let block = Block::of("environment", node)?;
        if block.entries.is_empty() {
            return Ok(None);
        }
        self.unknown(&block);
        let Some(kind) = block.get("type") else {
            return Err(block.missing("environment.type", "`aws`, `gcp` or `azure`"));
        };
        let region = |key| match block.text("region")? {
            Some(region) => Ok(region),
            None => Err(block.missing(key, "the region in which the agent runs")),
        };
        Ok(Some(
            match word("environment.type", kind, &["aws", "gcp", "azure"], |word| word)? {
                "aws" => Environment::Aws {
                    region: region("environment.region")?,
                },
                "gcp" => Environment::Gcp {
                    region: region("environment.region")?,
                    project: block.text("project")?,
                },
                _ => Environment::Azure,
            },
        ))
    }

    fn registry(&mut self, node: &Node) -> Result<Option<Registry>, AgentConfigError> {
        let block = Block::of("registry", node)?;
        if block.entries.is_empty() {
            return Ok(None);
        }
        self.unknown(&block);
        let kind = block
            .get("type")
            .map(|node| word("registry.type", node, &RegistryKind::ALL, |kind| kind.as_str()))
            .transpose()?;
        Ok(Some(Registry {
            kind,
            uri: match block.text("uri")? {
                Some(uri) => Some(uri),
                None => block.text("url")?,
            },
            repository: block.text("repository")?,
            image_name: block.text("image-name")?,
        }))
    }

    fn builder(&mut self, node: &Node) -> Result<Builder, AgentConfigError> {
        let kind = |node| word("builder.type", node, &BuilderKind::ALL, |kind| kind.as_str());
        // `builder: docker` means its type.
        if let Tree::Scalar(Value::String(_)) = node.tree {
            return Ok(Builder {
                kind: Some(kind(node)?),
                ..Builder::default()
            });
        }
        let block = Block::of("builder", node)?;
        self.unknown(&block);
        let builder = Builder {
            kind: block.get("type").map(kind).transpose()?,
            destination: match block.text("destination")? {
                Some(destination) => Some(destination),
                None => block.text("uri")?,
            },
            platform: block
                .get("platform")
                .map(|node| word("builder.platform", node, &["linux/amd64", "linux/arm64"], |word| word))
                .transpose()?
                .map(str::to_owned),
            build_context_store: block.text("build-context-store")?,
            build_job_name: block.text("build-job-name")?,
            secret_name: block.text("secret-name")?,
            secret_key: block.text("secret-key")?,
            kaniko_image: block.text("kaniko-image")?,
            kaniko_config: match block.get("kaniko-config") {
                None => None,
                Some(node) if matches!(node.tree, Tree::Map(_)) => Some(node.to_value()),
                Some(node) => return Err(wrong("builder.kaniko-config", node, "a map")),
            },
        };
        if let (Some(store), Some(node)) = (&builder.build_context_store, block.get("build-context-store"))
            && !is_context_store(store)
        {
            return Err(wrong(
                "builder.build-context-store",
                node,
                "s3://BUCKET/PATH, gs://BUCKET/PATH or https://ACCOUNT.blob.core.windows.net/CONTAINER",
            ));
        }
        Ok(builder)
    }

    fn process(&mut self, node: &Node) -> Result<ProcessTarget, AgentConfigError> {
        let block = Block::of("process", node)?;
        self.unknown(&block);
        let process = ProcessTarget {
            enabled: block
                .get("enabled")
                .map(|node| boolean("process.enabled", node))
                .transpose()?
                .unwrap_or(false),
            env: block
                .get("env")
                .map(|node| texts("process.env", node))
                .transpose()?
                .unwrap_or_default(),
            work_dir: block.text("work_dir")?,
        };
        if let Some(line) = block.line_of("enabled") {
            self.sources.insert("process.enabled", Source::File { line });
        }
        Ok(process)
    }

    /// Warns of keys of a block that have no effect.
    fn unknown(&mut self, block: &Block<'_>) {
        for entry in block.entries {
            if !keys::within(block.name).any(|key| same_key(key, &entry.key)) {
                let key: String = entry.key.chars().take(80).collect();
                let suggestion = nearest(&entry.key, keys::within(block.name))
                    .map(|name| format!("; did you mean `{name}`?"))
                    .unwrap_or_default();
                self.warnings.push(Warning {
                    line: entry.line,
                    message: format!("unknown key `{key}` in `{}` has no effect{suggestion}", block.name),
                });
            }
        }
    }
}

fn unknown_key(entry: &Entry) -> AgentConfigError {
    AgentConfigError::UnknownKey {
        key: entry.key.chars().take(80).collect(),
        line: entry.line,
        suggestion: nearest(&entry.key, keys::top()),
    }
}

/// A map at a key of the top level.
struct Block<'a> {
    name: &'static str,
    line: usize,
    entries: &'a [Entry],
}

impl<'a> Block<'a> {
    fn of(name: &'static str, node: &'a Node) -> Result<Self, AgentConfigError> {
        match &node.tree {
            Tree::Map(entries) => Ok(Self {
                name,
                line: node.line,
                entries,
            }),
            _ => Err(wrong(name, node, "a map")),
        }
    }

    fn entry(&self, key: &str) -> Option<&'a Entry> {
        let mut entries = self.entries.iter();
        entries.find(|entry| same_key(key, &entry.key) && !entry.node.is_null())
    }

    fn get(&self, key: &str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    fn line_of(&self, key: &str) -> Option<usize> {
        self.entry(key).map(|entry| entry.line)
    }

    fn text(&self, key: &str) -> Result<Option<String>, AgentConfigError> {
        let path = || format!("{}.{key}", self.name);
        self.get(key).map(|node| text(&path(), node)).transpose()
    }

    const fn missing(&self, key: &'static str, hint: &'static str) -> AgentConfigError {
        AgentConfigError::Missing {
            key,
            line: self.line,
            hint,
        }
    }
}

/// Whether two spellings mean one key: `build-job-name` and `build_job_name`.
fn same_key(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .all(|(a, b)| a == b || (matches!(a, b'-' | b'_') && matches!(b, b'-' | b'_')))
}

fn is_context_store(store: &str) -> bool {
    let bucket = |prefix| {
        store
            .strip_prefix(prefix)
            .is_some_and(|rest: &str| !rest.starts_with('/') && !rest.is_empty())
    };
    let azure = || {
        let (host, container) = store.strip_prefix("https://")?.split_once('/')?;
        let account = host.strip_suffix(".blob.core.windows.net")?;
        (!account.is_empty() && !container.is_empty()).then_some(())
    };
    bucket("s3://") || bucket("gs://") || azure().is_some()
}

fn wrong(key: &str, node: &Node, expected: &str) -> AgentConfigError {
    let found = match &node.tree {
        Tree::Scalar(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => {
            format!(
                "`{}`",
                value.to_string().trim_matches('"').chars().take(60).collect::<String>()
            )
        }
        _ => node.kind().to_owned(),
    };
    AgentConfigError::Type {
        key: key.to_owned(),
        line: node.line,
        expected: expected.to_owned(),
        found,
    }
}

fn text(key: &str, node: &Node) -> Result<String, AgentConfigError> {
    match &node.tree {
        Tree::Scalar(Value::String(text)) if !text.trim().is_empty() => Ok(text.clone()),
        // An unquoted number is a fine name.
        Tree::Scalar(Value::Number(number)) => Ok(number.to_string()),
        _ => Err(wrong(key, node, "a string")),
    }
}

fn texts(key: &str, node: &Node) -> Result<Vec<String>, AgentConfigError> {
    match &node.tree {
        Tree::List(items) => items.iter().map(|item| text(key, item)).collect(),
        _ => Err(wrong(key, node, "a list of strings")),
    }
}

fn boolean(key: &str, node: &Node) -> Result<bool, AgentConfigError> {
    match &node.tree {
        Tree::Scalar(Value::Bool(value)) => Ok(*value),
        _ => Err(wrong(key, node, "true or false")),
    }
}

/// A whole number, with or without quotes.
fn integer(key: &str, node: &Node) -> Result<i64, AgentConfigError> {
    let value = match &node.tree {
        Tree::Scalar(Value::Number(number)) => number.as_i64(),
        Tree::Scalar(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    value.ok_or_else(|| wrong(key, node, "a whole number"))
}

fn seconds(key: &str, node: &Node) -> Result<f64, AgentConfigError> {
    let value = match &node.tree {
        Tree::Scalar(Value::Number(number)) => number.as_f64(),
        Tree::Scalar(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    value
        .filter(|seconds: &f64| seconds.is_finite())
        .ok_or_else(|| wrong(key, node, "a number of seconds"))
}

/// One of a closed set of words.
fn word<T: Copy>(key: &str, node: &Node, known: &[T], name: impl Fn(T) -> &'static str) -> Result<T, AgentConfigError> {
    let given = match &node.tree {
        Tree::Scalar(Value::String(text)) => text.as_str(),
        _ => "",
    };
    known.iter().copied().find(|item| name(*item) == given).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|item| name(*item)).collect();
        wrong(key, node, &format!("one of {}", names.join(", ")))
    })
}
