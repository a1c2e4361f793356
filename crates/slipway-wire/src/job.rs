//! The job artifact: `wandb-job.json` and the files beside it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The artifact type of jobs.
pub const TYPE: &str = "job";

/// The artifact type of a code job's sources.
pub const CODE_TYPE: &str = "code";

/// The file that describes the job.
pub const FILE: &str = "wandb-job.json";

/// The Python packages that the job needs; may be empty.
pub const REQUIREMENTS: &str = "requirements.frozen.txt";

/// The prefix of a reference from a code job to its sources.
pub const ARTIFACT_REFERENCE: &str = "wandb-artifact://_id/";

/// The content of `wandb-job.json`. Fields that we do not know are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobFile {
    /// The format's version.
    #[serde(rename = "_version", default = "version")]
    pub version: String,
    /// What `source` is.
    pub source_type: SourceType,
    /// What to run.
    pub source: Source,
    /// The types of the configuration.
    #[serde(default = "any_types")]
    pub input_types: Value,
    /// The types of the summary.
    #[serde(default = "any_types")]
    pub output_types: Value,
    /// The version of Python, such as `3.11`; empty for images.
    #[serde(default)]
    pub runtime: Option<String>,
    /// What else there is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a job is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceType {
    /// A git repository.
    Repo,
    /// A code artifact.
    Artifact,
    /// A container image.
    Image,
}

/// What to run. Which fields are set depends on the source type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// For images: the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// For repositories: where and which commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
    /// For artifacts: `wandb-artifact://_id/<artifact id>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// The command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Whether the program is a notebook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notebook: Option<bool>,
    /// A Dockerfile in the sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// The folder of the sources that an image is built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_context: Option<String>,
    /// The image that a built image starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_image: Option<String>,
    /// What else there is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A commit of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// Where it is.
    pub remote: String,
    /// The commit's hash.
    #[serde(default)]
    pub commit: Option<String>,
}

impl JobFile {
    /// A job that runs an image.
    #[must_use]
    pub fn image(reference: &str) -> Self {
        let source = Source {
            image: Some(reference.to_owned()),
            ..Source::default()
        };
        Self::new(SourceType::Image, source, "")
    }

    /// A job that runs a command in the sources of a code artifact. `runtime`: the version of
    /// Python, such as `3.11`.
    #[must_use]
    pub fn code(artifact_id: &str, entrypoint: Vec<String>, runtime: &str) -> Self {
        let source = Source {
            artifact: Some(format!("{ARTIFACT_REFERENCE}{artifact_id}")),
            entrypoint: Some(entrypoint),
            notebook: Some(false),
            ..Source::default()
        };
        Self::new(SourceType::Artifact, source, runtime)
    }

    fn new(source_type: SourceType, source: Source, runtime: &str) -> Self {
        Self {
            version: version(),
            source_type,
            source,
            input_types: any_types(),
            output_types: any_types(),
            runtime: Some(runtime.to_owned()),
            other: Map::new(),
        }
    }

    /// The id of the code artifact, for jobs of that kind.
    #[must_use]
    pub fn code_artifact_id(&self) -> Option<&str> {
        self.source.artifact.as_deref()?.strip_prefix(ARTIFACT_REFERENCE)
    }
}

fn version() -> String {
    "v0".to_owned()
}

fn any_types() -> Value {
    json!({"wb_type": "typedDict", "params": {"type_map": {}}})
}

#[cfg(test)]
mod tests {
    use super::{JobFile, SourceType};
    use serde_json::{Value, json};

    #[test]
    fn job_files_are_written_as_the_official_client_writes_them() {
        let types = json!({"wb_type": "typedDict", "params": {"type_map": {}}});
        for (job, source_type, source, runtime) in [
            (
                JobFile::image("python:3.11-slim"),
                "image",
                json!({"image": "python:3.11-slim"}),
                "",
            ),
            (
                JobFile::code("QQ==", vec!["python".to_owned(), "train.py".to_owned()], "3.11"),
                "artifact",
                json!({"artifact": "wandb-artifact://_id/QQ==", "entrypoint": ["python", "train.py"], "notebook": false}),
                "3.11",
            ),
        ] {
            let expected = json!({
                "_version": "v0", "source_type": source_type, "source": source,
                "input_types": types, "output_types": types, "runtime": runtime,
            });
            assert_eq!(serde_json::to_value(&job).unwrap(), expected);
        }
    }

    #[test]
    fn unknown_fields_survive_reading_and_writing() {
        let text = json!({
            "_version": "0.17.0", "source_type": "repo",
            "source": {"git": {"remote": "https://example.com/r.git", "commit": "abc"}, "args": ["--x"]},
            "input_types": {}, "output_types": {}, "runtime": null, "services": {"db": "always"},
        });
        let job: JobFile = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(job.source_type, SourceType::Repo);
        let written: Value = serde_json::to_value(&job).unwrap();
        assert_eq!(written, text);
    }
}
