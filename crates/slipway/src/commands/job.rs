//! `slipway job`.

use std::path::Path;

use bytes::Bytes;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};
use slipway_client::{ArtifactName, ArtifactUpload, Content, SourceFile, UploadOutcome};
use slipway_wire::file_stream::Chunk;
use slipway_wire::job::{self, JobFile};
use slipway_wire::run::UpsertRun;

use crate::context::{Context, EntityArgs, ProjectArgs};
use crate::exit::{Error, Result};
use crate::job::{code, names};
use crate::output::{self, table};
use crate::shell;

/// The subcommands of `slipway job`.
#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Make a job
    #[command(subcommand)]
    Create(CreateCommand),
    /// List the jobs of a project
    #[command(after_help = "Example:\n  slipway job list -p first")]
    List(ListArgs),
    /// Show what a job runs
    #[command(after_help = "Example:\n  slipway job describe team/first/train:latest")]
    Describe(DescribeArgs),
}

/// What a job is made from.
#[derive(Debug, Subcommand)]
pub(crate) enum CreateCommand {
    /// From a folder of code
    #[command(after_help = "Example:
  slipway job create code . -p first -n train -E \"python train.py\"

Lines in `.wandbignore`, in the syntax of `.gitignore`, leave files out.")]
    Code(CodeArgs),
    /// From a container image
    #[command(after_help = "Example:\n  slipway job create image registry.example.com/train:v1 -p first")]
    Image(ImageArgs),
}

/// Flags of every kind of job.
#[derive(Debug, Args)]
pub(crate) struct MakeArgs {
    #[command(flatten)]
    entity: EntityArgs,
    #[command(flatten)]
    project: ProjectArgs,
    /// The job's name [default: from its source]
    #[arg(long, short, value_name = "NAME")]
    name: Option<String>,
    /// What it does
    #[arg(long, short, value_name = "TEXT")]
    description: Option<String>,
    /// A name for this version, beside `latest`; repeatable
    #[arg(long = "alias", short, value_name = "ALIAS")]
    aliases: Vec<String>,
}

/// Flags of `slipway job create code`.
#[derive(Debug, Args)]
pub(crate) struct CodeArgs {
    /// The folder
    path: String,
    #[command(flatten)]
    make: MakeArgs,
    /// The command that runs in the folder
    #[arg(long, short = 'E', default_value = "python main.py", value_name = "COMMAND")]
    entry_point: String,
    /// The version of Python, such as 3.11 [default: from `.python-version`, `runtime.txt`, or the
    /// `python3` here]
    #[arg(long, short, value_name = "VERSION")]
    runtime: Option<String>,
    /// The folder, below the code, that an image is built from
    #[arg(long, short, value_name = "FOLDER")]
    build_context: Option<String>,
    /// The image that a built image starts from
    #[arg(long, short = 'B', value_name = "IMAGE")]
    base_image: Option<String>,
    /// A Dockerfile, below the code
    #[arg(long, short = 'D', value_name = "FILE")]
    dockerfile: Option<String>,
}

/// Flags of `slipway job create image`.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// The image
    image: String,
    #[command(flatten)]
    make: MakeArgs,
}

/// Flags of `slipway job list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    entity: EntityArgs,
    #[command(flatten)]
    project: ProjectArgs,
}

/// Flags of `slipway job describe`.
#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// The job: `entity/project/name:alias`
    job: String,
    #[command(flatten)]
    entity: EntityArgs,
    #[command(flatten)]
    project: ProjectArgs,
}

/// A job that was made.
#[derive(Debug, Serialize)]
pub(crate) struct Made {
    /// `entity/project/name:latest`.
    pub job: String,
    /// `created`, `updated` or `unchanged`.
    pub result: &'static str,
    /// The artifact's id.
    #[serde(rename = "artifactId")]
    pub artifact_id: String,
    /// The names of the version.
    pub aliases: Vec<String>,
}

/// Runs a subcommand.
pub(crate) async fn run(command: JobCommand, context: &Context) -> Result<()> {
    match command {
        JobCommand::Create(CreateCommand::Code(args)) => {
            let made = create_code(&args, context).await?;
            print(&made, context)
        }
        JobCommand::Create(CreateCommand::Image(args)) => {
            let made = create_image(&args, context).await?;
            print(&made, context)
        }
        JobCommand::List(args) => list(args, context).await,
        JobCommand::Describe(args) => describe(args, context).await,
    }
}

fn print(made: &Made, context: &Context) -> Result<()> {
    context.print(made, |made| {
        format!("{} {} ({})", made.result, made.job, made.aliases.join(", "))
    })
}

/// What `slipway launch --uri FOLDER` makes.
pub(crate) struct CodeJob<'a> {
    /// The folder.
    pub path: &'a str,
    /// The command.
    pub entry_point: &'a str,
    /// The owner.
    pub entity: &'a str,
    /// The project.
    pub project: &'a str,
    /// The job's name.
    pub name: Option<String>,
    /// See [`CodeArgs`].
    pub build_context: Option<String>,
    /// See [`CodeArgs`].
    pub base_image: Option<String>,
    /// See [`CodeArgs`].
    pub dockerfile: Option<String>,
}

impl CodeJob<'_> {
    /// As the flags of `slipway job create code`.
    fn into_args(self) -> CodeArgs {
        CodeArgs {
            path: self.path.to_owned(),
            make: MakeArgs {
                entity: EntityArgs {
                    entity: Some(self.entity.to_owned()),
                },
                project: ProjectArgs {
                    project: Some(self.project.to_owned()),
                },
                name: self.name,
                description: None,
                aliases: Vec::new(),
            },
            entry_point: self.entry_point.to_owned(),
            runtime: None,
            build_context: self.build_context,
            base_image: self.base_image,
            dockerfile: self.dockerfile,
        }
    }
}

/// A job that a dry run does not make.
#[derive(Debug, Serialize)]
pub(crate) struct WouldMake {
    /// `entity/project/name:latest`.
    pub job: String,
    /// How many files of code.
    pub files: usize,
}

/// Looks at what a code job for a launch would be made of; makes nothing.
pub(crate) fn look_for_launch(code_job: CodeJob<'_>) -> Result<WouldMake> {
    let place = format!("{}/{}", code_job.entity, code_job.project);
    let code = Code::read(&code_job.into_args())?;
    Ok(WouldMake {
        job: format!("{place}/{}:latest", code.name),
        files: code.files.len(),
    })
}

/// Makes a code job for a launch.
pub(crate) async fn create_for_launch(code_job: CodeJob<'_>, context: &Context) -> Result<Made> {
    create_code(&code_job.into_args(), context).await
}

/// What a code job is made of, found on this machine.
struct Code {
    name: String,
    entry_point: Vec<String>,
    files: Vec<SourceFile>,
    runtime: String,
    requirements: String,
}

impl Code {
    fn read(args: &CodeArgs) -> Result<Self> {
        let entry_point = shell::split(&args.entry_point)
            .map_err(|_| Error::usage(format!("--entry-point: `{}` has an open quote", args.entry_point)))?;
        if entry_point.is_empty() {
            return Err(Error::usage("--entry-point is empty"));
        }
        let folder = Path::new(&args.path);
        let files = code::collect(folder)?;
        if !code::requires(folder, "wandb")? {
            output::warn(
                "`requirements.txt` does not name wandb: the job must bring it by other means to log anything",
            );
        }
        let runtime = match &args.runtime {
            Some(runtime) => code::check_runtime(runtime)?,
            None => code::find_runtime(folder)?,
        };
        Ok(Self {
            name: job_name(args.make.name.as_deref(), || names::of_code(&args.path, &entry_point))?,
            entry_point,
            files,
            runtime,
            requirements: crate::config::files::read_or_empty(&folder.join("requirements.txt"))?,
        })
    }
}

async fn create_code(args: &CodeArgs, context: &Context) -> Result<Made> {
    let Code {
        name,
        entry_point,
        files,
        runtime,
        requirements,
    } = Code::read(args)?;
    let maker = Maker::begin(&args.make, context).await?;
    let made = async {
        let metadata = json!({"codePath": args.path, "entrypoint": entry_point.last()});
        let given = args.make.name.is_some();
        let stem = name.strip_prefix("job-").filter(|_| !given).unwrap_or(&name);
        let collection = format!("code-{stem}");
        let description = Some("Code artifact for job");
        let sources = maker
            .upload(&collection, job::CODE_TYPE, metadata, &[], files, description)
            .await?;
        let mut file = JobFile::code(&sources.id, entry_point, &runtime);
        file.source.build_context.clone_from(&args.build_context);
        file.source.base_image.clone_from(&args.base_image);
        file.source.dockerfile.clone_from(&args.dockerfile);
        if args.build_context.is_some() || args.base_image.is_some() || args.dockerfile.is_some() {
            // The first version of the official client that reads these keys.
            "0.17.0".clone_into(&mut file.version);
        }
        maker
            .make_job(&name, &file, requirements, args.make.aliases.clone())
            .await
    };
    let made = made.await;
    maker.end_with(made).await
}

async fn create_image(args: &ImageArgs, context: &Context) -> Result<Made> {
    let (default_name, tag) = names::of_image(&args.image);
    let name = job_name(args.make.name.as_deref(), || default_name)?;
    let mut aliases = args.make.aliases.clone();
    aliases.extend(tag.filter(|tag| tag != "latest" && !args.make.aliases.contains(tag)));
    let maker = Maker::begin(&args.make, context).await?;
    let file = JobFile::image(&args.image);
    let made = maker.make_job(&name, &file, String::new(), aliases).await;
    maker.end_with(made).await
}

fn job_name(given: Option<&str>, default: impl FnOnce() -> String) -> Result<String> {
    let Some(name) = given else {
        return Ok(default());
    };
    let safe = names::safe(name);
    if name.is_empty() || safe != name {
        return Err(Error::usage(format!(
            "the name of a job holds only letters, digits, `-`, `_` and `.`: `{name}` does not"
        ))
        .with_hint(format!("did you mean `{safe}`?")));
    }
    Ok(name.to_owned())
}

/// The run in whose name artifacts are made, as the official client does it: made at the beginning
/// and deleted at the end; what it made stays.
struct Maker<'a> {
    context: &'a Context,
    entity: String,
    project: String,
    run: String,
    run_id: String,
    description: Option<String>,
}

impl<'a> Maker<'a> {
    async fn begin(args: &MakeArgs, context: &'a Context) -> Result<Self> {
        let entity = context.entity(&args.entity).await?;
        let project = context.required_project(&args.project)?;
        let upsert = UpsertRun {
            name: Some(run_name()),
            entity: Some(entity),
            project: Some(project),
            job_type: Some("cli_create_job".to_owned()),
            ..UpsertRun::default()
        };
        let run = context.client.upsert_run(&upsert).await?;
        Ok(Self {
            context,
            entity: run.project.entity.name,
            project: run.project.name,
            run: run.name,
            run_id: run.id,
            description: args.description.clone(),
        })
    }

    async fn upload(
        &self,
        collection: &str,
        kind: &str,
        metadata: Value,
        aliases: &[String],
        files: Vec<SourceFile>,
        description: Option<&str>,
    ) -> Result<slipway_client::Uploaded> {
        let upload = ArtifactUpload {
            entity: self.entity.clone(),
            project: self.project.clone(),
            run: self.run.clone(),
            collection: collection.to_owned(),
            kind: kind.to_owned(),
            description: description.map(str::to_owned),
            metadata,
            aliases: aliases.to_vec(),
            files,
        };
        Ok(self.context.client.upload_artifact(&upload).await?)
    }

    async fn make_job(
        &self,
        name: &str,
        file: &JobFile,
        requirements: String,
        mut aliases: Vec<String>,
    ) -> Result<Made> {
        let text = serde_json::to_string(file).map_err(|error| Error::failure(error.to_string()))?;
        let source = |name: &str, text: String| SourceFile {
            name: name.to_owned(),
            content: Content::Bytes(Bytes::from(text)),
        };
        let files = vec![source(job::REQUIREMENTS, requirements), source(job::FILE, text)];
        let metadata = json!({"_partial": true});
        let uploaded = self.upload(name, job::TYPE, metadata, &aliases, files, self.description.as_deref());
        let uploaded = uploaded.await?;
        aliases.push("latest".to_owned());
        Ok(Made {
            job: format!("{}/{}/{name}:latest", self.entity, self.project),
            result: match uploaded.outcome {
                UploadOutcome::Created => "created",
                UploadOutcome::Updated => "updated",
                UploadOutcome::Unchanged => "unchanged",
            },
            artifact_id: uploaded.id,
            aliases,
        })
    }

    /// Ends and deletes the run, however the work went.
    async fn end_with<T>(&self, made: Result<T>) -> Result<T> {
        let ended = self.end(made.is_ok()).await;
        let made = made?;
        ended?;
        Ok(made)
    }

    async fn end(&self, successful: bool) -> Result<()> {
        let client = &self.context.client;
        let last = Chunk {
            complete: Some(true),
            exitcode: Some(i64::from(!successful)),
            ..Chunk::default()
        };
        client
            .file_stream(&self.entity, &self.project, &self.run, &last)
            .await?;
        Ok(client.delete_run(&self.run_id).await?)
    }
}

/// Eight characters of base36, as the official client names runs.
pub(crate) fn run_name() -> String {
    use rand::RngExt as _;
    const ALPHABET: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut rng = rand::rng();
    (0..8)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect()
}

async fn list(args: ListArgs, context: &Context) -> Result<()> {
    let entity = context.entity(&args.entity).await?;
    let project = context.required_project(&args.project)?;
    let jobs = context.client.jobs(&entity, &project).await?;
    context.print(&jobs, |jobs| {
        if jobs.is_empty() {
            return format!("project {entity}/{project} has no jobs");
        }
        let rows = jobs.iter().map(|job| {
            let aliases: Vec<&str> = job.aliases.iter().map(String::as_str).collect();
            [job.name.clone(), job.versions.to_string(), aliases.join(", ")]
        });
        table::table(["name", "versions", "aliases"], rows)
    })
}

async fn describe(args: DescribeArgs, context: &Context) -> Result<()> {
    let entity = context.entity(&args.entity).await?;
    let project = context.project(&args.project);
    let name = ArtifactName::parse(&args.job, Some(&entity), project.as_deref())?;
    let found = context.client.artifact(&name).await?;
    let membership = found.ok_or_else(|| {
        Error::not_found(format!("there is no job `{name}`, or you may not see it"))
            .with_hint("`slipway job list` shows those of a project")
    })?;
    let artifact = &membership.artifact;
    if artifact.artifact_type.name != job::TYPE {
        return Err(Error::usage(format!(
            "`{name}` is no job but of type {}",
            artifact.artifact_type.name
        )));
    }
    let file = context.client.job_file(artifact).await?;
    let version = membership.version_index.map(|index| format!("v{index}"));
    let aliases: Vec<&str> = membership.aliases.iter().map(|alias| alias.alias.as_str()).collect();
    let value = json!({
        "job": name.to_string(), "artifactId": artifact.id, "version": version, "aliases": aliases,
        "description": artifact.description, "createdAt": artifact.created_at, "definition": file,
    });
    context.print(&value, |_| {
        let source = &file.source;
        table::facts([
            ("job", Some(name.to_string())),
            ("version", version.clone()),
            ("aliases", Some(aliases.join(", "))),
            ("description", artifact.description.clone()),
            ("made from", Some(format!("{:?}", file.source_type).to_lowercase())),
            ("image", source.image.clone()),
            ("repository", source.git.as_ref().map(|git| git.remote.clone())),
            ("commit", source.git.as_ref().and_then(|git| git.commit.clone())),
            ("entry point", source.entrypoint.as_ref().map(|words| words.join(" "))),
            ("python", file.runtime.clone()),
            ("base image", source.base_image.clone()),
            ("dockerfile", source.dockerfile.clone()),
            ("build context", source.build_context.clone()),
        ])
    })
}
