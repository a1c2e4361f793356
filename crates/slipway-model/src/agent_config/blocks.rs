//! The blocks of the agent's configuration: environment, registry, builder, process target.

use serde_json::{Map, Value, json};

/// The cloud in which an agent acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Environment {
    /// Amazon Web Services.
    Aws {
        /// The region in which the agent runs.
        region: String,
    },
    /// Google Cloud.
    Gcp {
        /// The region.
        region: String,
        /// The project; `None` to take the credentials' own.
        project: Option<String>,
    },
    /// Microsoft Azure.
    Azure,
}

impl Environment {
    /// The word under `type`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Aws { .. } => "aws",
            Self::Gcp { .. } => "gcp",
            Self::Azure => "azure",
        }
    }

    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Aws { region } => json!({"type": "aws", "region": region}),
            Self::Gcp { region, project } => json!({"type": "gcp", "region": region, "project": project}),
            Self::Azure => json!({"type": "azure"}),
        }
    }
}

/// A kind of registry that needs credentials of a cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RegistryKind {
    /// Amazon Elastic Container Registry.
    Ecr,
    /// Google Artifact Registry.
    Gcr,
    /// Azure Container Registry.
    Acr,
}

impl RegistryKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Ecr, Self::Gcr, Self::Acr];

    /// The word under `type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ecr => "ecr",
            Self::Gcr => "gcr",
            Self::Acr => "acr",
        }
    }
}

/// The registry that images are pushed to when the builder names no destination.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registry {
    /// The kind; `None` to tell it from the address.
    pub kind: Option<RegistryKind>,
    /// The address, as written.
    pub uri: Option<String>,
    /// The repository, where it is written apart from the address.
    pub repository: Option<String>,
    /// The image's name in the repository, likewise.
    pub image_name: Option<String>,
}

impl Registry {
    pub(super) fn to_value(&self) -> Value {
        compact([
            ("type", json!(self.kind.map(RegistryKind::as_str))),
            ("uri", json!(self.uri)),
            ("repository", json!(self.repository)),
            ("image-name", json!(self.image_name)),
        ])
    }
}

/// How images are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BuilderKind {
    /// By a Docker engine.
    Docker,
    /// By Kaniko in Kubernetes.
    Kaniko,
    /// By BuildKit.
    Buildkit,
    /// Not at all.
    Noop,
}

impl BuilderKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Docker, Self::Kaniko, Self::Buildkit, Self::Noop];

    /// The word under `type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Kaniko => "kaniko",
            Self::Buildkit => "buildkit",
            Self::Noop => "noop",
        }
    }
}

/// The builder's settings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Builder {
    /// The kind; `None` for Docker where an engine answers, else none.
    pub kind: Option<BuilderKind>,
    /// The repository to push to, as written.
    pub destination: Option<String>,
    /// The platform to build for: `linux/amd64` or `linux/arm64`.
    pub platform: Option<String>,
    /// Where Kaniko reads the build context: `s3://…`, `gs://…` or an Azure blob address.
    pub build_context_store: Option<String>,
    /// The name, or its beginning, of a build's job in Kubernetes.
    pub build_job_name: Option<String>,
    /// A Kubernetes secret that holds credentials of the registry.
    pub secret_name: Option<String>,
    /// The key in that secret.
    pub secret_key: Option<String>,
    /// The image that runs Kaniko.
    pub kaniko_image: Option<String>,
    /// What is merged into the build's Kubernetes job.
    pub kaniko_config: Option<Value>,
}

impl Builder {
    pub(super) fn to_value(&self) -> Value {
        compact([
            ("type", json!(self.kind.map(BuilderKind::as_str))),
            ("destination", json!(self.destination)),
            ("platform", json!(self.platform)),
            ("build-context-store", json!(self.build_context_store)),
            ("build-job-name", json!(self.build_job_name)),
            ("secret-name", json!(self.secret_name)),
            ("secret-key", json!(self.secret_key)),
            ("kaniko-image", json!(self.kaniko_image)),
            ("kaniko-config", json!(self.kaniko_config)),
        ])
    }
}

/// The process target, which runs submitters' code as the agent's own user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessTarget {
    /// Whether the agent runs it at all.
    pub enabled: bool,
    /// Environment variables of the agent that jobs see. Everything else they do not.
    pub env: Vec<String>,
    /// Where jobs get their directories; `None` for a directory of the agent's own.
    pub work_dir: Option<String>,
}

/// A map without its nulls.
fn compact<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let entries = entries.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(
        entries
            .map(|(key, value)| (key.to_owned(), value))
            .collect::<Map<_, _>>(),
    )
}
