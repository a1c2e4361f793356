//! Where each value of a final spec comes from. Pure.
//!
//! The server tells the origins of the target resource's arguments; of everything else only the command
//! line knows which flag, file or default it is from.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use slipway_model::json::{child, is_below};
use slipway_wire::queue::Pushed;

/// JSON pointers of the final spec's leaves, each with where it comes from.
pub(crate) type Sources = BTreeMap<String, String>;

/// What a command line names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    /// Pointers, each with what set the values below it.
    noted: Vec<(String, String)>,
    /// What the launch config is, for people.
    config: String,
}

impl Given {
    /// Nothing but a launch config, given as `--config` has it.
    pub(crate) fn of_config(argument: Option<&str>) -> Self {
        let inline = argument.is_none_or(|text| text.trim_start().starts_with('{') || text.contains('\n'));
        let config = match argument {
            Some(file) if !inline => format!("config file {file}"),
            _ => "flag --config".to_owned(),
        };
        Self {
            noted: Vec::new(),
            config,
        }
    }

    /// Notes what set the values below a pointer.
    pub(crate) fn note(&mut self, pointer: &str, source: &str) {
        self.noted.push((pointer.to_owned(), source.to_owned()));
    }

    fn of(&self, pointer: &str) -> Option<&str> {
        let noted = self.noted.iter().filter(|(root, _)| is_below(pointer, root));
        // What is noted of the value itself goes before what is noted of all.
        let nearest = noted.max_by_key(|(root, _)| root.len())?;
        Some(&nearest.1)
    }
}

/// The source of each leaf of a final spec. `submitted`: what was pushed; `config`: the launch config.
pub(crate) fn of(pushed: &Pushed, submitted: &Value, config: &Map<String, Value>, given: &Given) -> Sources {
    let resource = pushed
        .run_spec
        .get("resource")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let args = child("/resource_args", resource);
    let mut sources = Sources::new();
    leaves(&pushed.run_spec, "", &mut |pointer| {
        let by_submitter = || {
            let from_config = in_config(config, pointer).then_some(given.config.as_str());
            let source = given.of(pointer).or(from_config);
            source.map_or_else(|| unnamed(pointer, submitted).to_owned(), str::to_owned)
        };
        let told = pointer
            .strip_prefix(&args)
            .and_then(|below| pushed.origins.get(below)?.as_str());
        let source = match told {
            None | Some("submitter") => by_submitter(),
            Some("template") => "template variable".to_owned(),
            Some(origin) => origin.to_owned(),
        };
        sources.insert(pointer.to_owned(), source);
    });
    sources
}

/// Of what neither a flag nor the launch config names.
fn unnamed(pointer: &str, submitted: &Value) -> &'static str {
    match pointer {
        "/author" => "the API key",
        "/resource" => "queue",
        _ if submitted.pointer(pointer).is_some() => "default",
        _ => "server",
    }
}

fn in_config(config: &Map<String, Value>, pointer: &str) -> bool {
    let pointer = pointer.trim_start_matches('/');
    let mut parts = pointer
        .split('/')
        .map(|part| part.replace("~1", "/").replace("~0", "~"));
    let Some(mut value) = parts.next().and_then(|key| config.get(&key)) else {
        return false;
    };
    for part in parts {
        // The documents spell it both ways.
        let other = (part == "entry_point").then_some("entrypoint");
        let below = value.get(&part).or_else(|| value.get(other?));
        match below {
            Some(below) => value = below,
            None => return false,
        }
    }
    true
}

/// Names every scalar, list and empty map that is not the null of something left out.
fn leaves(value: &Value, pointer: &str, found: &mut impl FnMut(&str)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                leaves(value, &child(pointer, key), found);
            }
        }
        Value::Null => {}
        _ => found(pointer),
    }
}

#[cfg(test)]
mod tests {
    use super::{Given, of};
    use serde_json::{Value, json};
    use slipway_wire::queue::Pushed;

    #[test]
    fn every_value_has_its_source() {
        let config = json!({
            "name": "from-config", "overrides": {"entrypoint": ["a"], "run_config": {"lr": 0.1}},
            "resource_args": {"local-container": {"shm-size": "1g"}},
        });
        let submitted = json!({
            "job": "e/p/j:latest", "entity": "e", "project": "p", "docker": {}, "git": {}, "resource": null,
            "name": "from-config", "overrides": {"entry_point": ["a"], "run_config": {"lr": 0.1}},
            "resource_args": {"local-container": {"shm-size": "1g"}},
        });
        let mut run_spec = submitted.clone();
        run_spec["resource"] = json!("local-container");
        run_spec["author"] = json!("me");
        run_spec["resource_args"]["local-container"] =
            json!({"memory": "2g", "network": "host", "shm-size": "1g", "rm": true});
        let pushed = Pushed {
            run_queue_item_id: None,
            run_spec,
            origins: json!({"/memory": "template", "/network": "queue", "/shm-size": "submitter", "/rm": "default"}),
        };
        let mut given = Given::of_config(Some("config.json"));
        given.note("/job", "flag --job");
        given.note("/entity", "variable WANDB_ENTITY");
        given.note("/project", "flag --project");
        let config: &serde_json::Map<String, Value> = config.as_object().unwrap();
        let sources = of(&pushed, &submitted, config, &given);
        let found: Vec<(&str, &str)> = sources.iter().map(|(at, from)| (at.as_str(), from.as_str())).collect();
        assert_eq!(
            found,
            [
                ("/author", "the API key"),
                ("/entity", "variable WANDB_ENTITY"),
                ("/job", "flag --job"),
                ("/name", "config file config.json"),
                ("/overrides/entry_point", "config file config.json"),
                ("/overrides/run_config/lr", "config file config.json"),
                ("/project", "flag --project"),
                ("/resource", "queue"),
                ("/resource_args/local-container/memory", "template variable"),
                ("/resource_args/local-container/network", "queue"),
                ("/resource_args/local-container/rm", "default"),
                ("/resource_args/local-container/shm-size", "config file config.json"),
            ]
        );
        given.note("/resource_args", "flag --resource-args");
        let sources = of(&pushed, &submitted, config, &given);
        assert_eq!(
            sources["/resource_args/local-container/shm-size"],
            "flag --resource-args"
        );
        assert_eq!(sources["/resource_args/local-container/memory"], "template variable");
    }

    #[test]
    fn a_launch_config_is_a_file_or_a_flag() {
        for (argument, source) in [("{\"name\": \"x\"}", "flag --config"), ("c.yaml", "config file c.yaml")] {
            assert_eq!(Given::of_config(Some(argument)).config, source);
        }
    }
}
