//! `slipway launch`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};
use slipway_model::agent_config::{AgentConfig, ProcessTarget, ResourceArgsPolicy};
use slipway_model::priority::Priority;
use slipway_model::queue::QUEUE_PROJECT;
use slipway_model::template::TemplateVariables;
use slipway_wire::queue::{Push, Pushed};
use tokio::signal::unix::{SignalKind, signal};

use super::item::priority;
use super::job::{CodeJob, create_for_launch};
use super::launch_agent::{default_state_directory, new_agent};
use super::wait::{Waited, wait};
use crate::context::{Context, EntityArgs, ProjectArgs, non_empty};
use crate::exit::{Error, Result};
use crate::input;
use crate::job::spec::{self, Request};
use crate::output::{self, table};
use crate::queue_document::variables;
use crate::shell;

/// Flags of `slipway launch`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  slipway launch -j train -p first -q gpu
  slipway launch -j team/first/train:v3 -q gpu --wait -c '{\"overrides\": {\"run_config\": {\"lr\": 0.1}}}'
  slipway launch -u . -E \"python train.py\" -p first -q gpu -P high -v gpus=2
  slipway launch -d registry.example.com/train:v1 -p first -q gpu --dry-run
  slipway launch -d registry.example.com/train:v1 -p first        (here, in a container)")]
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
    /// The value of a template variable; repeatable
    #[arg(long = "set-var", short = 'v', requires = "queue", value_name = "NAME=VALUE")]
    set_var: Vec<String>,
    /// The queue; `default` without a name. Left out: the job runs on this machine, at once
    #[arg(long, short, num_args = 0..=1, default_missing_value = "default", value_name = "QUEUE")]
    queue: Option<String>,
    /// critical, high, medium or low
    #[arg(long, short = 'P', requires = "queue", value_parser = priority, value_name = "PRIORITY")]
    priority: Option<Priority>,
    /// Do not wait for a job that is started here; a queue never waits
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
}

/// The launch config that the flags name, and the entity of the run.
async fn basis(args: &LaunchArgs, context: &Context) -> Result<(Map<String, Value>, String)> {
    refuse_unsupported(args)?;
    let config = match &args.config {
        Some(config) => input::map(config, "--config")?,
        None => json!({}),
    };
    let config = config.as_object().cloned().unwrap_or_default();
    Ok((config, context.entity(&args.entity).await?))
}

/// Runs a job on this machine, in a container unless `--resource` says otherwise, and waits for it.
async fn run_here(args: LaunchArgs, context: &Context) -> Result<ExitCode> {
    if args.run_async {
        return Err(
            Error::usage("`--async` needs a queue: nothing would look after the job")
                .with_hint("name a queue with `--queue`, and see `slipway launch-agent`"),
        );
    }
    let (config, entity) = basis(&args, context).await?;
    let request = request(args.clone_flags()?, config, false, &entity, context).await?;
    let spec = spec::build(request, &entity)?;
    // Whoever starts it owns both the machine and the arguments.
    let agent_config = AgentConfig {
        resource_args_policy: ResourceArgsPolicy::Trust,
        process: ProcessTarget {
            enabled: true,
            ..ProcessTarget::default()
        },
        ..AgentConfig::default()
    };
    let agent = new_agent(agent_config, context.client.clone(), default_state_directory()?, false)?;
    // Nobody else knows of the job: it ends with whoever waits for it, however that ends.
    let heed = |kind| signal(kind).map_err(|error| Error::failure(format!("cannot listen for signals: {error}")));
    let mut interrupt = heed(SignalKind::interrupt())?;
    let mut terminate = heed(SignalKind::terminate())?;
    let mut hangup = heed(SignalKind::hangup())?;
    let interrupted = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    };
    let exit = agent
        .launch_here(spec, &entity, output::bytes, interrupted)
        .await
        .map_err(|error| Error::failure(error.to_string()))?;
    match exit.code() {
        Some(0) => Ok(ExitCode::SUCCESS),
        code => {
            let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            Err(Error::job_ended(code, format!("the job ended with code {code}")))
        }
    }
}

/// Puts a job on a queue.
pub(crate) async fn run(args: LaunchArgs, context: &Context) -> Result<ExitCode> {
    let Some(queue) = args.queue.clone() else {
        return run_here(args, context).await;
    };
    let (config, entity) = basis(&args, context).await?;
    let queue_entity = config
        .get("queue_entity")
        .and_then(Value::as_str)
        .unwrap_or(&entity)
        .to_owned();
    let values = template_values(&args, &config, context, &queue_entity, &queue).await?;
    let priority = args.priority;
    let request = request(args.clone_flags()?, config, values.is_some(), &entity, context).await?;
    let spec = spec::build(request, &entity)?;
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
        context.print(&pushed, dry_run)?;
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
    if args.run_async {
        return Err(Error::usage(
            "`--async` and `--queue` exclude each other: a queue never waits",
        ));
    }
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
    Ok(())
}

fn is_git(uri: &str) -> bool {
    uri.starts_with("git@") || uri.starts_with("https://") || uri.starts_with("http://") || uri.starts_with("ssh://")
}

/// What remains of the flags when the queue is known.
struct Flags {
    args: Request,
    uri: Option<String>,
    command: Option<String>,
    job_name: Option<String>,
    build_context: Option<String>,
    base_image: Option<String>,
    project: ProjectArgs,
    entity: EntityArgs,
}

impl LaunchArgs {
    fn clone_flags(&self) -> Result<Flags> {
        let entry_point = match non_empty(self.entry_point.as_deref()) {
            Some(command) => Some(
                shell::split(command)
                    .map_err(|_| Error::usage(format!("--entry-point: `{command}` has an open quote")))?,
            ),
            None => None,
        };
        let resource_args = self
            .resource_args
            .as_deref()
            .map(|args| input::map(args, "--resource-args"));
        Ok(Flags {
            args: Request {
                job: self.job.clone(),
                docker_image: self.docker_image.clone(),
                name: self.name.clone(),
                entity: non_empty(self.entity.entity.as_deref()).map(str::to_owned),
                project: None,
                resource: self.resource.clone(),
                entry_point,
                git_version: self.git_version.clone(),
                dockerfile: self.dockerfile.clone(),
                repository: self.repository.clone(),
                config: Map::new(),
                resource_args: resource_args.transpose()?,
                has_template_values: false,
            },
            uri: self.uri.clone(),
            command: self.entry_point.clone(),
            job_name: self.job_name.clone(),
            build_context: self.build_context.clone(),
            base_image: self.base_image.clone(),
            project: self.project.clone(),
            entity: self.entity.clone(),
        })
    }
}

/// Makes the job that `--uri` asks for, and completes the request.
async fn request(
    flags: Flags,
    config: Map<String, Value>,
    has_template_values: bool,
    entity: &str,
    context: &Context,
) -> Result<Request> {
    let mut request = Request {
        project: context.project(&flags.project),
        config,
        has_template_values,
        ..flags.args
    };
    if let Some(uri) = &flags.uri {
        let project = context.required_project(&flags.project)?;
        let made = CodeJob {
            path: uri,
            entry_point: flags.command.as_deref().unwrap_or_default(),
            entity: &flags.entity,
            project: &project,
            name: flags.job_name,
            build_context: flags.build_context,
            base_image: flags.base_image,
            dockerfile: request.dockerfile.take(),
        };
        let made = create_for_launch(made, context).await?;
        output::note(format!("{} {}", made.result, made.job));
        request.job = Some(made.job);
        // The job has it already.
        request.entry_point = None;
    } else if flags.base_image.is_some() || flags.job_name.is_some() {
        return Err(Error::usage("`--base-image` and `--job-name` belong to `--uri`"));
    }
    request.entity.get_or_insert_with(|| entity.to_owned());
    Ok(request)
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

fn dry_run(pushed: &Pushed) -> String {
    let spec = serde_json::to_string_pretty(&pushed.run_spec).unwrap_or_default();
    let resource = pushed
        .run_spec
        .get("resource")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let args = pushed.run_spec.get("resource_args").and_then(|args| args.get(resource));
    let origins = pushed.origins.as_object().into_iter().flatten();
    let rows: Vec<[String; 3]> = origins
        .map(|(pointer, origin)| {
            let value = args.and_then(|args| args.pointer(pointer)).map(Value::to_string);
            let origin = origin.as_str().unwrap_or_default().to_owned();
            [pointer.clone(), value.unwrap_or_default(), origin]
        })
        .collect();
    if rows.is_empty() {
        return spec;
    }
    format!(
        "{spec}\n\n{}",
        table::table(["resource argument", "value", "from"], rows)
    )
}

#[cfg(test)]
mod tests {
    use super::{dry_run, is_git, typed};
    use serde_json::json;
    use slipway_model::template::TemplateVariables;
    use slipway_wire::queue::Pushed;

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
    fn a_dry_run_says_where_values_come_from() {
        let pushed = Pushed {
            run_queue_item_id: None,
            run_spec: json!({"resource": "local-process", "resource_args": {"local-process": {"env": ["A=1"]}}}),
            origins: json!({"/env/0": "submitter"}),
        };
        let text = dry_run(&pushed);
        let last: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(last, ["/env/0", "\"A=1\"", "submitter"], "{text}");
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
