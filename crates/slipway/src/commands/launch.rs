//! `slipway launch`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};
use slipway_model::json::child;
use slipway_model::priority::Priority;
use slipway_model::queue::{QUEUE_PROJECT, Resource};
use slipway_model::template::TemplateVariables;
use slipway_wire::queue::{Push, Pushed};

use super::item::priority;
use super::job::{CodeJob, create_for_launch, look_for_launch};
use super::launch_here;
use super::wait::{Waited, wait};
use crate::completion;
use crate::context::{Context, EntityArgs, ProjectArgs, non_empty};
use crate::exit::{Error, Result};
use crate::input;
use crate::job::options;
use crate::job::origins::{self, Given};
use crate::job::spec::{self, Request};
use crate::output::{self, table};
use crate::queue_document::variables;
use crate::shell;

/// Flags of `slipway launch`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  slipway launch -j train -p first -q gpu
  slipway launch -j team/first/train:v3 -q gpu --wait -c '{\"overrides\": {\"run_config\": {\"lr\": 0.1}}}'
  slipway launch -d registry.example.com/train:v1 -p first -q box --option memory=8g --option env=A=1
  slipway launch -u . -E \"python train.py\" -p first -q gpu -P high -v gpus=2
  slipway launch -d registry.example.com/train:v1 -p first -q gpu --dry-run
  slipway launch -d registry.example.com/train:v1 -p first        (here, in a container)
  slipway launch -j train -p first -r local-process               (here, as a process: for jobs of code)
  slipway launch -d registry.example.com/train:v1 -p first --async")]
pub(crate) struct LaunchArgs {
    /// A folder of code (or, later, a git repository) to make a job of; needs `--entry-point`
    #[arg(long, short, conflicts_with_all = ["job", "docker_image"], requires = "entry_point", value_name = "PATH")]
    uri: Option<String>,
    /// An existing job: `[entity/project/]name[:alias]`
    #[arg(long, short, value_name = "JOB")]
    job: Option<String>,
    /// A container image instead of a job
    #[arg(long, short, conflicts_with = "job", value_name = "IMAGE")]
    docker_image: Option<String>,
    /// The command, in place of the job's own
    #[arg(long, short = 'E', value_name = "COMMAND")]
    entry_point: Option<String>,
    /// A git commit, branch or tag
    #[arg(long, short, visible_alias = "git-hash", value_name = "REF")]
    git_version: Option<String>,
    /// With `--uri`: the folder below it that an image is built from
    #[arg(long, requires = "uri", value_name = "FOLDER")]
    build_context: Option<String>,
    /// With `--uri`: the name of the job that is made
    #[arg(long, short = 'J', value_name = "NAME")]
    job_name: Option<String>,
    /// The run's name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    entity: EntityArgs,
    #[command(flatten)]
    project: ProjectArgs,
    /// The target resource [default: the queue's]
    #[arg(long, short, value_name = "RESOURCE")]
    resource: Option<String>,
    /// The image that a built image starts from
    #[arg(long, short = 'B', conflicts_with = "docker_image", value_name = "IMAGE")]
    base_image: Option<String>,
    /// A Dockerfile in the job's sources
    #[arg(long, short = 'D', value_name = "FILE")]
    dockerfile: Option<String>,
    /// The launch config: a JSON or YAML file, or the text itself
    #[arg(long, short, value_name = "FILE|TEXT")]
    config: Option<String>,
    /// Arguments of the target resource: a JSON or YAML file, or the text itself
    #[arg(long, short = 'R', value_name = "FILE|TEXT")]
    resource_args: Option<String>,
    /// One argument of the target resource, beside those of `--resource-args`; repeatable, and an option
    /// that is repeated is a list
    #[arg(long = "option", value_name = "NAME=VALUE", add = completion::container_options())]
    options: Vec<String>,
    /// The value of a template variable; repeatable
    #[arg(long = "set-var", short = 'v', requires = "queue", value_name = "NAME=VALUE")]
    set_var: Vec<String>,
    /// The queue; `default` without a name. Left out: the job runs on this machine, at once
    #[arg(long, short, num_args = 0..=1, default_missing_value = "default", value_name = "QUEUE", add = completion::queues())]
    queue: Option<String>,
    /// critical, high, medium or low
    #[arg(long, short = 'P', requires = "queue", value_parser = priority, value_name = "PRIORITY")]
    priority: Option<Priority>,
    /// Return once a job without a queue has started here; a queue never waits
    #[arg(long = "async")]
    run_async: bool,
    /// Build an image now and put that on the queue
    #[arg(long, short, requires = "queue")]
    build: bool,
    /// Where a built image is pushed to; also `-rg`
    #[arg(long, value_name = "REPOSITORY")]
    repository: Option<String>,
    /// The project of the queue; also `-pq`
    #[arg(long, default_value = QUEUE_PROJECT, value_name = "PROJECT")]
    project_queue: String,
    /// Only print the final spec, and where each value comes from
    #[arg(long, requires = "queue")]
    dry_run: bool,
    /// Follow the job to its end, and end with its exit code
    #[arg(long, short = 'w', requires = "queue", conflicts_with_all = ["dry_run", "run_async"])]
    wait: bool,
    /// The ids of flags whose values are a variable's
    #[arg(skip)]
    pub by_variable: Vec<String>,
}

/// What flags, launch config and settings say together, before anything is made.
struct Basis {
    config: Map<String, Value>,
    entity: String,
    project: Option<String>,
    /// Options of the target resource, below its name.
    options: Map<String, Value>,
    /// What the flags name, and where entity and project come from.
    given: Given,
}

impl Basis {
    async fn read(args: &LaunchArgs, context: &Context) -> Result<Self> {
        refuse_unsupported(args)?;
        let config = match &args.config {
            Some(config) => input::map(config, "--config")?,
            None => json!({}),
        };
        let config = config.as_object().cloned().unwrap_or_default();
        let mut given = Given::of_config(args.config.as_deref());
        args.note_flags(&mut given);
        let entity = args.named("entity", args.entity.entity.as_deref(), &config, context, &mut given);
        let entity = match entity {
            Some(entity) => entity,
            None => {
                given.note("/entity", "default: the API key's own");
                context.client.default_entity().await?
            }
        };
        let project = args.named("project", args.project.project.as_deref(), &config, context, &mut given);
        if project.is_none() {
            given.note("/project", "the job's");
        }
        Ok(Self {
            config,
            entity,
            project,
            options: Map::new(),
            given,
        })
    }

    /// Reads `--option`, for the resource that flag, launch config or queue name.
    async fn read_options(
        &mut self,
        args: &LaunchArgs,
        of_queue: impl AsyncFnOnce() -> Result<Option<String>>,
    ) -> Result<()> {
        if args.options.is_empty() {
            return Ok(());
        }
        let named = args
            .resource
            .as_deref()
            .or_else(|| self.config.get("resource")?.as_str());
        let resource = match named {
            Some(resource) => resource.to_owned(),
            None => of_queue()
                .await?
                .unwrap_or_else(|| Resource::LocalContainer.to_string()),
        };
        let resource: Resource = resource
            .parse()
            .map_err(|error: slipway_model::queue::ResourceError| Error::usage(error.to_string()))?;
        let read = options::read(resource, &args.options)?;
        for name in read.keys() {
            let pointer = child(&format!("/resource_args/{resource}"), name);
            self.given.note(&pointer, "flag --option");
        }
        self.options.insert(resource.to_string(), Value::Object(read));
        Ok(())
    }
}

/// Puts a job on a queue, or runs it here.
pub(crate) async fn run(args: LaunchArgs, context: &Context) -> Result<ExitCode> {
    let mut basis = Basis::read(&args, context).await?;
    let Some(queue) = args.queue.clone() else {
        basis.read_options(&args, async || Ok(None)).await?;
        let (request, _) = request(&args, &basis, false, context).await?;
        let spec = spec::build(request, &basis.entity)?;
        return launch_here::run(spec, &basis.entity, args.run_async, context).await;
    };
    if args.run_async {
        output::warn("`--async` changes nothing with `--queue`: a queue never waits");
    }
    let queue_entity = basis
        .config
        .get("queue_entity")
        .and_then(Value::as_str)
        .unwrap_or(&basis.entity)
        .to_owned();
    let of_queue = async || {
        let found = context.client.queue(&queue_entity, &args.project_queue, &queue).await?;
        Ok(found.and_then(|queue| queue.resource))
    };
    basis.read_options(&args, of_queue).await?;
    let values = template_values(&args, &basis.config, context, &queue_entity, &queue).await?;
    let priority = args.priority;
    let (request, would_make) = request(&args, &basis, values.is_some(), context).await?;
    let spec = spec::build(request, &basis.entity)?;
    let push = Push {
        entity_name: queue_entity.clone(),
        project_name: args.project_queue.clone(),
        queue_name: queue.clone(),
        run_spec: spec.to_string(),
        priority: priority.map(Priority::code),
        template_variable_values: values.map(|values| Value::Object(values).to_string()),
        idempotency_key: None,
        dry_run: args.dry_run,
    };
    let pushed = context.client.push(push).await?;
    if args.dry_run {
        let sources = origins::of(&pushed, &spec, &basis.config, &basis.given);
        let mut value = json!(pushed);
        value["sources"] = json!(sources);
        if let Some(would_make) = would_make {
            value["wouldMake"] = would_make;
        }
        context.print(&value, |_| dry_run(&pushed, &sources))?;
        return Ok(ExitCode::SUCCESS);
    }
    let id = pushed.run_queue_item_id.clone().unwrap_or_default();
    let page = format!("{}/launch/{queue_entity}/{queue}/items/{id}", context.client.base_url());
    if args.wait {
        output::note(format!("item {id}\n{page}"));
        let text = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let waited = Waited {
            id,
            queue_entity,
            queue_project: args.project_queue,
            queue,
            run_entity: text("entity"),
            run_project: text("project"),
        };
        return wait(&waited, context).await;
    }
    context.print(&pushed, |_| {
        table::facts([
            ("item", Some(id.clone())),
            ("queue", Some(format!("{queue_entity}/{queue}"))),
            ("page", Some(page)),
        ])
    })?;
    Ok(ExitCode::SUCCESS)
}

fn refuse_unsupported(args: &LaunchArgs) -> Result<()> {
    if args.build {
        return Err(
            Error::usage("building an image before submitting is not possible in this version")
                .with_hint("leave `--build` out: the agent builds what it needs"),
        );
    }
    if args.uri.as_deref().is_some_and(is_git) {
        return Err(
            Error::usage("making a job of a git repository is not possible in this version")
                .with_hint("clone the repository and name its folder with `--uri`"),
        );
    }
    if args.uri.is_none() && (args.base_image.is_some() || args.job_name.is_some()) {
        return Err(Error::usage("`--base-image` and `--job-name` belong to `--uri`"));
    }
    Ok(())
}

fn is_git(uri: &str) -> bool {
    uri.starts_with("git@") || uri.starts_with("https://") || uri.starts_with("http://") || uri.starts_with("ssh://")
}

impl LaunchArgs {
    /// Notes which values of a spec the flags set.
    fn note_flags(&self, given: &mut Given) {
        let in_job = self.uri.is_some();
        for (pointer, flag, set) in [
            ("/job", "--job", self.job.is_some()),
            ("/job", "--uri", in_job),
            ("/docker/docker_image", "--docker-image", self.docker_image.is_some()),
            ("/name", "--name", self.name.is_some()),
            ("/git/version", "--git-version", self.git_version.is_some()),
            ("/resource", "--resource", self.resource.is_some()),
            (
                "/overrides/entry_point",
                "--entry-point",
                self.entry_point.is_some() && !in_job,
            ),
            (
                "/overrides/dockerfile",
                "--dockerfile",
                self.dockerfile.is_some() && !in_job,
            ),
            ("/registry/url", "--repository", self.repository.is_some()),
            ("/resource_args", "--resource-args", self.resource_args.is_some()),
        ] {
            if set {
                given.note(pointer, &format!("flag {flag}"));
            }
        }
    }

    /// A name of the run's place: of flag or variable, launch config or settings, the first that is set.
    fn named(
        &self,
        key: &str,
        flag: Option<&str>,
        config: &Map<String, Value>,
        context: &Context,
        given: &mut Given,
    ) -> Option<String> {
        let pointer = format!("/{key}");
        if let Some(name) = non_empty(flag) {
            let by_variable = self.by_variable.iter().any(|id| id == key);
            given.note(
                &pointer,
                &if by_variable {
                    format!("variable WANDB_{}", key.to_uppercase())
                } else {
                    format!("flag --{key}")
                },
            );
            return Some(name.to_owned());
        }
        if let Some(name) = non_empty(config.get(key).and_then(Value::as_str)) {
            return Some(name.to_owned());
        }
        let name = context.setting(key)?;
        given.note(&pointer, "the settings file");
        Some(name.to_owned())
    }

    /// The entry point's words.
    fn words(&self) -> Result<Option<Vec<String>>> {
        let Some(command) = non_empty(self.entry_point.as_deref()) else {
            return Ok(None);
        };
        shell::split(command)
            .map(Some)
            .map_err(|_| Error::usage(format!("--entry-point: `{command}` has an open quote")))
    }
}

/// The request, with the job that `--uri` asks for made. A dry run only says what would be made.
async fn request(
    args: &LaunchArgs,
    basis: &Basis,
    has_template_values: bool,
    context: &Context,
) -> Result<(Request, Option<Value>)> {
    let resource_args = args.resource_args.as_deref();
    let mut request = Request {
        job: args.job.clone(),
        docker_image: args.docker_image.clone(),
        name: args.name.clone(),
        entity: Some(basis.entity.clone()),
        project: basis.project.clone(),
        resource: args.resource.clone(),
        entry_point: args.words()?,
        git_version: args.git_version.clone(),
        dockerfile: args.dockerfile.clone(),
        repository: args.repository.clone(),
        config: basis.config.clone(),
        resource_args: resource_args
            .map(|text| input::map(text, "--resource-args"))
            .transpose()?,
        options: basis.options.clone(),
        has_template_values,
    };
    let Some(uri) = &args.uri else {
        return Ok((request, None));
    };
    let project = context.required_project(&ProjectArgs {
        project: basis.project.clone(),
    })?;
    let code = CodeJob {
        path: uri,
        entry_point: args.entry_point.as_deref().unwrap_or_default(),
        entity: &basis.entity,
        project: &project,
        name: args.job_name.clone(),
        build_context: args.build_context.clone(),
        base_image: args.base_image.clone(),
        dockerfile: request.dockerfile.take(),
    };
    // The job has it already.
    request.entry_point = None;
    if args.dry_run {
        let would = look_for_launch(code)?;
        output::note(format!("would make job {} of {} files", would.job, would.files));
        request.job = Some(would.job.clone());
        return Ok((request, Some(json!(would))));
    }
    let made = create_for_launch(code, context).await?;
    output::note(format!("{} {}", made.result, made.job));
    request.job = Some(made.job);
    Ok((request, None))
}

/// The values of template variables, typed as the queue says. They come from `--set-var`, else from
/// `template_variables` of the launch config.
async fn template_values(
    args: &LaunchArgs,
    config: &Map<String, Value>,
    context: &Context,
    entity: &str,
    queue: &str,
) -> Result<Option<Map<String, Value>>> {
    let mut values = match config.get("template_variables") {
        Some(Value::Object(values)) => values.clone(),
        None | Some(Value::Null) => Map::new(),
        Some(_) => return Err(Error::usage("`template_variables` of the launch config is not a map")),
    };
    if !args.set_var.is_empty() {
        let found = context.client.queue(entity, &args.project_queue, queue).await?;
        let found = found.ok_or_else(|| {
            Error::not_found(format!(
                "there is no queue `{queue}` in `{entity}`, or you may not see it"
            ))
            .with_hint("`slipway queue list` shows the queues that you may see")
        })?;
        let known = TemplateVariables::from_value(variables(&found.template_variables))
            .map_err(|error| Error::failure(format!("the template variables of queue `{queue}`: {error}")))?;
        for text in &args.set_var {
            let (name, value) = super::queue::pair(text, "--set-var")?;
            values.insert(name.clone(), typed(&known, &name, &value, queue)?);
        }
    }
    Ok((!values.is_empty()).then_some(values))
}

fn typed(known: &TemplateVariables, name: &str, text: &str, queue: &str) -> Result<Value> {
    let Some(variable) = known.get(name) else {
        let names: Vec<&str> = known
            .variables()
            .iter()
            .map(|variable| variable.name.as_str())
            .collect();
        let error = Error::usage(format!("queue `{queue}` has no template variable `{name}`"));
        return Err(match slipway_model::names::nearest(name, names.iter().copied()) {
            Some(near) => error.with_hint(format!("did you mean `{near}`?")),
            None if names.is_empty() => error.with_hint("it has none; set values with `--resource-args`"),
            None => error.with_hint(format!("it has: {}", names.join(", "))),
        });
    };
    variable
        .parse_text(text)
        .map_err(|error| Error::usage(format!("--set-var {name}: {error}")))
}

fn dry_run(pushed: &Pushed, sources: &origins::Sources) -> String {
    let spec = serde_json::to_string_pretty(&pushed.run_spec).unwrap_or_default();
    let rows = sources.iter().map(|(pointer, source)| {
        let value = pushed.run_spec.pointer(pointer).map(Value::to_string);
        [pointer.clone(), value.unwrap_or_default(), source.clone()]
    });
    format!("{spec}\n\n{}", table::table(["at", "value", "from"], rows))
}

#[cfg(test)]
mod tests {
    use super::{is_git, typed};
    use serde_json::json;
    use slipway_model::template::TemplateVariables;

    #[test]
    fn values_of_template_variables_are_typed_as_the_queue_says() {
        let known = json!({
            "gpus": {"schema": {"type": "integer", "maximum": 4}},
            "kind": {"schema": {"type": "string", "enum": ["a", "b"]}},
        });
        let known = TemplateVariables::from_value(known).unwrap();
        assert_eq!(typed(&known, "gpus", "2", "q").unwrap(), json!(2));
        assert_eq!(typed(&known, "kind", "a", "q").unwrap(), json!("a"));
        for (name, text) in [
            ("gpus", "5"),
            ("gpus", "many"),
            ("kind", "c"),
            ("gpu", "1"),
            ("other", "1"),
        ] {
            assert!(typed(&known, name, text, "q").is_err(), "{name}={text}");
        }
        assert_eq!(
            typed(&known, "gpu", "1", "q").unwrap_err().hint(),
            Some("did you mean `gpus`?")
        );
    }

    #[test]
    fn repositories_are_told_from_folders() {
        for (uri, git) in [
            ("https://h/r.git", true),
            ("git@h:r", true),
            (".", false),
            ("src/code", false),
        ] {
            assert_eq!(is_git(uri), git, "{uri}");
        }
    }
}
