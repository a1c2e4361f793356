//! Finding artifacts and jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde_json::json;
use slipway_wire::artifact::{Alias, Artifact, Membership};
use slipway_wire::document::official;
use slipway_wire::graphql::Connection;
use slipway_wire::job;

use crate::Client;
use crate::error::{Error, Refusal, Result};

/// `entity/project/collection:alias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactName {
    /// The owner.
    pub entity: String,
    /// The project.
    pub project: String,
    /// The collection.
    pub collection: String,
    /// A name of the version, such as `latest` or `v3`.
    pub alias: String,
}

impl ArtifactName {
    /// Reads `[entity/]project/collection[:alias]` or `collection[:alias]`; what is absent is taken
    /// from the defaults, the alias is `latest`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a part is empty or absent without a default.
    pub fn parse(text: &str, entity: Option<&str>, project: Option<&str>) -> Result<Self> {
        let hint = "write entity/project/name:alias, such as `team/project/train:latest`";
        let invalid = |message: String| {
            Error::Invalid(Refusal {
                message,
                hint: Some(hint.to_owned()),
            })
        };
        let (path, alias) = text.rsplit_once(':').unwrap_or((text, "latest"));
        let parts: Vec<&str> = path.split('/').collect();
        let (entity, project, collection) = match parts[..] {
            [collection] => (entity, project, collection),
            [project, collection] => (entity, Some(project), collection),
            [entity, project, collection] => (Some(entity), Some(project), collection),
            _ => return Err(invalid(format!("`{text}` has too many parts"))),
        };
        match (entity, project) {
            (Some(entity), Some(project)) if ![entity, project, collection, alias].contains(&"") => Ok(Self {
                entity: entity.to_owned(),
                project: project.to_owned(),
                collection: collection.to_owned(),
                alias: alias.to_owned(),
            }),
            _ => Err(invalid(format!("`{text}` does not say entity, project and name"))),
        }
    }
}

impl fmt::Display for ArtifactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}:{}", self.entity, self.project, self.collection, self.alias)
    }
}

/// A job with its versions.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct JobVersions {
    /// The job's name.
    pub name: String,
    /// How many committed versions it has.
    pub versions: usize,
    /// The names of its versions.
    pub aliases: BTreeSet<String>,
}

impl Client {
    /// The version that a name means, or none if there is none or the caller may not see it.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn artifact(&self, name: &ArtifactName) -> Result<Option<Membership>> {
        #[derive(Deserialize)]
        struct Answer {
            project: Option<Project>,
        }
        #[derive(Deserialize)]
        struct Project {
            #[serde(rename = "artifactCollectionMembership")]
            membership: Option<Membership>,
        }
        let variables = json!({
            "entity": name.entity, "project": name.project,
            "name": format!("{}:{}", name.collection, name.alias), "includeAliases": true,
        });
        let answer: Answer = self.call(&official::ARTIFACT_MEMBERSHIP_BY_NAME, variables).await?;
        Ok(answer.project.and_then(|project| project.membership))
    }

    /// A version by its id, or none.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn artifact_by_id(&self, id: &str) -> Result<Option<Artifact>> {
        #[derive(Deserialize)]
        struct Answer {
            artifact: Option<Artifact>,
        }
        let variables = json!({"id": id, "includeAliases": false});
        let answer: Answer = self.call(&official::ARTIFACT_BY_ID, variables).await?;
        Ok(answer.artifact)
    }

    /// The jobs of a project, by name.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such project, or the caller may not see it.
    pub async fn jobs(&self, entity: &str, project: &str) -> Result<Vec<JobVersions>> {
        #[derive(Deserialize)]
        struct Answer {
            project: Option<Project>,
        }
        #[derive(Deserialize)]
        struct Project {
            #[serde(rename = "artifactType")]
            artifact_type: Option<Type>,
        }
        #[derive(Deserialize)]
        struct Type {
            #[serde(rename = "artifactCollections")]
            collections: Connection<Collection>,
        }
        #[derive(Deserialize)]
        struct Collection {
            artifacts: Connection<Version>,
        }
        #[derive(Deserialize)]
        struct Version {
            state: String,
            #[serde(default, deserialize_with = "slipway_wire::scalar::null_as_default")]
            aliases: Vec<Alias>,
            #[serde(rename = "artifactSequence")]
            sequence: Name,
        }
        #[derive(Deserialize)]
        struct Name {
            name: String,
        }
        let variables = json!({"entityName": entity, "projectName": project, "artifactTypeName": job::TYPE});
        let answer: Answer = self.call(&official::ARTIFACT_OF_TYPE, variables).await?;
        let project = answer.project.ok_or_else(|| {
            Error::not_found(format!(
                "there is no project `{entity}/{project}`, or you may not see it"
            ))
        })?;
        let Some(jobs) = project.artifact_type else {
            return Ok(Vec::new());
        };
        let mut found: BTreeMap<String, JobVersions> = BTreeMap::new();
        let versions = jobs
            .collections
            .into_nodes()
            .flat_map(|collection| collection.artifacts.into_nodes());
        for version in versions.filter(|version| version.state == "COMMITTED") {
            let name = version.sequence.name;
            let job = found.entry(name.clone()).or_insert_with(|| JobVersions {
                name,
                versions: 0,
                aliases: BTreeSet::new(),
            });
            job.versions += 1;
            job.aliases.extend(version.aliases.into_iter().map(|alias| alias.alias));
        }
        Ok(found.into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::ArtifactName;

    #[test]
    fn names_are_completed_from_the_defaults() {
        for (text, full) in [
            ("e/p/job:v2", Some("e/p/job:v2")),
            ("e/p/job", Some("e/p/job:latest")),
            ("p/job:prod", Some("me/p/job:prod")),
            ("job", Some("me/mine/job:latest")),
            ("", None),
            ("job:", None),
            ("/p/job", None),
            ("a/b/c/d", None),
        ] {
            let parsed = ArtifactName::parse(text, Some("me"), Some("mine"));
            assert_eq!(parsed.ok().map(|name| name.to_string()).as_deref(), full, "{text}");
        }
        assert!(ArtifactName::parse("job", Some("me"), None).is_err());
    }
}
