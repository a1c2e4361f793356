//! Single arguments of a target resource, as `--option NAME=VALUE` gives them. Pure.

use serde_json::{Map, Value, json};
use slipway_model::docker_options::{find, suggest};
use slipway_model::queue::Resource;

use crate::exit::{Error, Result};

/// Reads options into arguments of a resource. One that is repeated becomes a list.
pub(crate) fn read(resource: Resource, options: &[String]) -> Result<Map<String, Value>> {
    let mut args: Map<String, Value> = Map::new();
    for option in options {
        let Some((name, text)) = option.split_once('=').filter(|(name, _)| !name.trim().is_empty()) else {
            return Err(Error::usage(format!(
                "--option: `{option}` is not of the form NAME=VALUE"
            )));
        };
        let name = name_of(resource, name.trim())?;
        let value = value_of(resource, text);
        match args.get_mut(&name) {
            None => {
                args.insert(name, value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = json!([first.take(), value]),
        }
    }
    Ok(args)
}

fn name_of(resource: Resource, name: &str) -> Result<String> {
    if resource != Resource::LocalContainer || name == "command" {
        return Ok(name.to_owned());
    }
    let Some(option) = find(name) else {
        let error = Error::usage(format!("--option: `{name}` is no option of `docker run`"));
        return Err(match suggest(name) {
            Some(near) => error.with_hint(format!("did you mean `{near}`?")),
            None => error.with_hint("`slipway queue options` lists them"),
        });
    };
    Ok(option.name.to_owned())
}

/// Options of a container are text; elsewhere a number or a truth value is one.
fn value_of(resource: Resource, text: &str) -> Value {
    let scalar: Option<Value> = serde_json::from_str(text).ok();
    scalar
        .filter(|value| resource != Resource::LocalContainer && (value.is_number() || value.is_boolean()))
        .unwrap_or_else(|| json!(text))
}

#[cfg(test)]
mod tests {
    use super::read;
    use serde_json::json;
    use slipway_model::queue::Resource;

    #[test]
    fn options_become_arguments_of_the_resource() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (resource, options, expected) in [
            (
                Resource::LocalContainer,
                "memory=2g -e=A=1 env=B=2 e=C=3 cpus=1.50 rm=true command=serve",
                json!({"memory": "2g", "env": ["A=1", "B=2", "C=3"], "cpus": "1.50", "rm": "true", "command": "serve"}),
            ),
            (
                Resource::Kubernetes,
                "backoffLimit=3 suspend=true kind=Job name=007",
                json!({"backoffLimit": 3, "suspend": true, "kind": "Job", "name": "007"}),
            ),
        ] {
            let read = read(resource, &words(options)).unwrap();
            assert_eq!(json!(read), expected, "{options}");
        }
        for (option, text, hint) in [
            ("memroy=1g", "`memroy` is no option", Some("did you mean `memory`?")),
            ("memory", "not of the form", None),
            ("=1", "not of the form", None),
        ] {
            let error = read(Resource::LocalContainer, &words(option)).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
            assert_eq!(error.hint(), hint);
        }
    }
}
