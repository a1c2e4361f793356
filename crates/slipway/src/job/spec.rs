//! From a command line to a run spec: pure, and the same as the official client's.

use serde_json::{Map, Value, json};
use slipway_client::ArtifactName;

use crate::exit::{Error, Result};

/// What a command line asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// An existing job.
    pub job: Option<String>,
    /// An image instead of a job.
    pub docker_image: Option<String>,
    /// The run's name.
    pub name: Option<String>,
    /// The owner of the run.
    pub entity: Option<String>,
    /// The project of the run.
    pub project: Option<String>,
    /// The target resource.
    pub resource: Option<String>,
    /// Replaces the job's command.
    pub entry_point: Option<Vec<String>>,
    /// A git commit, branch or tag.
    pub git_version: Option<String>,
    /// A Dockerfile in the job's sources.
    pub dockerfile: Option<String>,
    /// Where a built image is pushed to.
    pub repository: Option<String>,
    /// The launch config.
    pub config: Map<String, Value>,
    /// Arguments of the target resource.
    pub resource_args: Option<Value>,
    /// Single arguments, below the name of their resource.
    pub options: Map<String, Value>,
    /// Whether template variables are set: then resource arguments are not sent, save single ones.
    pub has_template_values: bool,
}

/// Builds the spec. `default_entity`: the owner if neither the command line nor the config names
/// one.
pub(crate) fn build(request: Request, default_entity: &str) -> Result<Value> {
    let mut spec = request.config;
    if let Some(job) = request.job {
        spec.insert("job".to_owned(), Value::String(job));
    }
    let named = |key: &str, spec: &Map<String, Value>| spec.get(key).and_then(Value::as_str).map(str::to_owned);
    let job = named("job", &spec);
    let entity = request
        .entity
        .or_else(|| named("entity", &spec))
        .unwrap_or_else(|| default_entity.to_owned());
    let project = match request.project.or_else(|| named("project", &spec)) {
        Some(project) => project,
        None => project_of(job.as_deref())?,
    };
    if let Some(job) = job {
        let full = ArtifactName::parse(&job, Some(&entity), Some(&project))?;
        spec.insert("job".to_owned(), json!(full.to_string()));
    }
    spec.insert("entity".to_owned(), json!(entity));
    spec.insert("project".to_owned(), json!(project));
    if let Some(name) = request.name {
        spec.insert("name".to_owned(), json!(name));
    }
    if let Some(image) = request.docker_image {
        section(&mut spec, "docker")?.insert("docker_image".to_owned(), json!(image));
    } else {
        section(&mut spec, "docker")?;
    }
    if let Some(version) = request.git_version {
        section(&mut spec, "git")?.insert("version".to_owned(), json!(version));
    } else {
        section(&mut spec, "git")?;
    }
    if request.resource.is_some() || !spec.contains_key("resource") {
        spec.insert("resource".to_owned(), json!(request.resource));
    }
    overrides(&mut spec, request.entry_point, request.dockerfile)?;
    if let Some(repository) = request.repository {
        section(&mut spec, "registry")?.insert("url".to_owned(), json!(repository));
    }
    if let Some(args) = request.resource_args {
        let args = below_resource(&spec, args)?;
        spec.insert("resource_args".to_owned(), args);
    }
    if request.has_template_values {
        spec.remove("resource_args");
    }
    for (resource, options) in request.options {
        let args = section(&mut spec, "resource_args")?;
        match (args.get_mut(&resource), options) {
            (Some(Value::Object(args)), Value::Object(options)) => args.extend(options),
            (_, options) => {
                args.insert(resource, options);
            }
        }
    }
    check_source(&spec)?;
    Ok(Value::Object(spec))
}

/// A job's own project, where its name says it.
fn project_of(job: Option<&str>) -> Result<String> {
    let path = job.unwrap_or_default();
    match path.split('/').collect::<Vec<_>>()[..] {
        [_, project, _] | [project, _] => Ok(project.to_owned()),
        _ => {
            Err(Error::usage("no project is named for the run")
                .with_hint("add `--project NAME`, or set `WANDB_PROJECT`"))
        }
    }
}

fn overrides(
    spec: &mut Map<String, Value>,
    entry_point: Option<Vec<String>>,
    dockerfile: Option<String>,
) -> Result<()> {
    let overrides = section(spec, "overrides")?;
    if overrides.get("args").is_some_and(|args| !args.is_array()) {
        return Err(Error::usage(
            "`overrides.args` of the launch config is not a list of strings",
        ));
    }
    // The documents spell it both ways.
    if let Some(spelled) = overrides.remove("entrypoint") {
        overrides.entry("entry_point").or_insert(spelled);
    }
    if let Some(entry_point) = entry_point {
        overrides.insert("entry_point".to_owned(), json!(entry_point));
    }
    if let Some(dockerfile) = dockerfile {
        overrides.insert("dockerfile".to_owned(), json!(dockerfile));
    }
    Ok(())
}

/// Arguments below the name of their resource; people also write them without it.
fn below_resource(spec: &Map<String, Value>, args: Value) -> Result<Value> {
    use slipway_model::queue::Resource;
    let below = |args: &Value| {
        let keys = args
            .as_object()
            .map(|args| args.keys().cloned().collect::<Vec<_>>())
            .unwrap_or_default();
        !keys.is_empty() && keys.iter().all(|key| key.parse::<Resource>().is_ok())
    };
    if below(&args) {
        return Ok(args);
    }
    match spec.get("resource").and_then(Value::as_str) {
        Some(resource) => Ok(json!({resource: args})),
        None => Err(
            Error::usage("the resource arguments do not say for which resource they are")
                .with_hint("write {\"kubernetes\": {…}}, or add `--resource`"),
        ),
    }
}

fn check_source(spec: &Map<String, Value>) -> Result<()> {
    let image = spec.get("docker").and_then(|docker| docker.get("docker_image"));
    let job = spec.get("job").filter(|job| !job.is_null());
    match (job, image.filter(|image| !image.is_null())) {
        (Some(_), Some(_)) => Err(Error::usage("both a job and an image are named; choose one")),
        (None, None) => Err(Error::usage("nothing to launch is named")
            .with_hint("name a job with `--job`, an image with `--docker-image`, or code with `--uri`")),
        _ => Ok(()),
    }
}

fn section<'a>(spec: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Map<String, Value>> {
    let value = spec.entry(key).or_insert_with(|| json!({}));
    if value.is_null() {
        *value = json!({});
    }
    value
        .as_object_mut()
        .ok_or_else(|| Error::usage(format!("`{key}` of the launch config is not a map")))
}

#[cfg(test)]
mod tests {
    use super::{Request, build};
    use serde_json::{Value, json};

    fn request(change: impl FnOnce(&mut Request)) -> Request {
        let mut request = Request {
            job: Some("alice/proj/code-job:latest".to_owned()),
            ..Request::default()
        };
        change(&mut request);
        request
    }

    fn config(value: Value) -> serde_json::Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn a_command_line_becomes_the_spec_that_the_official_client_pushes() {
        let plain = json!({
            "job": "alice/proj/code-job:latest", "entity": "alice", "project": "proj",
            "docker": {}, "git": {}, "resource": null, "overrides": {},
        });
        let with = |change: Value| {
            let mut spec = plain.clone();
            for (key, value) in change.as_object().unwrap() {
                spec[key] = value.clone();
            }
            spec
        };
        let given = |overrides: Value| json!({"overrides": overrides});
        for (request, spec) in [
            (request(|_| {}), plain.clone()),
            (
                request(|r| {
                    r.name = Some("my-run".to_owned());
                    r.project = Some("other".to_owned());
                    r.resource = Some("kubernetes".to_owned());
                }),
                with(json!({"name": "my-run", "project": "other", "resource": "kubernetes"})),
            ),
            (
                request(|r| {
                    r.config = config(json!({"overrides": {"args": ["--foo", "1"], "run_config": {"lr": 0.5}}}));
                    r.entry_point = Some(vec!["python".to_owned(), "x.py".to_owned()]);
                }),
                with(given(
                    json!({"args": ["--foo", "1"], "run_config": {"lr": 0.5}, "entry_point": ["python", "x.py"]}),
                )),
            ),
            (
                request(|r| r.config = config(json!({"overrides": {"entrypoint": ["a"]}, "project": "from-config"}))),
                with(json!({"overrides": {"entry_point": ["a"]}, "project": "from-config"})),
            ),
            (
                request(|r| r.resource_args = Some(json!({"local-container": {"env": ["B=2"]}}))),
                with(json!({"resource_args": {"local-container": {"env": ["B=2"]}}})),
            ),
            (
                request(|r| {
                    r.resource_args = Some(json!({"env": ["B=2"]}));
                    r.resource = Some("local-container".to_owned());
                }),
                with(json!({"resource": "local-container", "resource_args": {"local-container": {"env": ["B=2"]}}})),
            ),
            (
                request(|r| {
                    r.config = config(json!({"resource_args": {"local-container": {"env": ["B=2"], "memory": "1g"}}}));
                    r.options = config(json!({"local-container": {"memory": "2g"}}));
                }),
                with(json!({"resource_args": {"local-container": {"env": ["B=2"], "memory": "2g"}}})),
            ),
            (
                request(|r| {
                    r.config = config(json!({"resource_args": {"kubernetes": {}}}));
                    r.has_template_values = true;
                }),
                plain.clone(),
            ),
            (
                request(|r| {
                    r.job = Some("code-job".to_owned());
                    r.project = Some("proj".to_owned());
                }),
                plain.clone(),
            ),
        ] {
            assert_eq!(build(request, "alice").unwrap(), spec);
        }
    }

    #[test]
    fn an_image_needs_no_job() {
        let image = request(|r| {
            r.job = None;
            r.docker_image = Some("python:3.11".to_owned());
            r.project = Some("p".to_owned());
        });
        let spec = build(image, "me").unwrap();
        assert_eq!(spec["docker"], json!({"docker_image": "python:3.11"}));
        assert_eq!(spec.get("job"), None);
    }

    #[test]
    fn what_cannot_be_launched_is_refused_with_the_reason() {
        for (request, reason) in [
            (request(|r| r.job = None), "no project"),
            (
                request(|r| {
                    r.job = None;
                    r.project = Some("p".to_owned());
                }),
                "nothing to launch",
            ),
            (request(|r| r.docker_image = Some("i".to_owned())), "choose one"),
            (
                request(|r| r.config = config(json!({"overrides": {"args": "x"}}))),
                "not a list",
            ),
            (request(|r| r.config = config(json!({"docker": 1}))), "not a map"),
            (
                request(|r| r.resource_args = Some(json!({"env": []}))),
                "for which resource",
            ),
        ] {
            let error = build(request, "me").unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
