//! From a workload to the container that is asked for. Pure.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{ContainerCreateBody, Mount};
use serde_json::{Value, json};
use slipway_model::docker_options::{ContainerRequest, FurtherNetwork, Need, Pull};

use crate::{RunnerError, Workload, WorkloadId, short_digest};

/// The beginning of every label that the agent sets.
const LABEL: &str = "slipway.";
/// Which agent a container belongs to.
pub(super) const SCOPE: &str = "slipway.scope";
const ITEM: &str = "slipway.item";
const ATTEMPT: &str = "slipway.attempt";

/// A container to be created.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) platform: Option<String>,
    pub(super) pull: Option<Pull>,
    pub(super) body: ContainerCreateBody,
    /// The directories of the host among the body's binds.
    pub(super) directories: Vec<Mount>,
    pub(super) networks: Vec<FurtherNetwork>,
    /// What the engine must be able to do.
    pub(super) needs: Vec<Need>,
}

impl Container {
    /// The MAC address in the container's first network, if it has none in a further one.
    pub(super) fn only_mac_address(&self) -> Option<String> {
        let first = self.body.networking_config.as_ref()?.endpoints_config.as_ref()?;
        let address = first.values().find_map(|endpoint| endpoint.mac_address.clone());
        let further = |network: &FurtherNetwork| network.endpoint.contains_key("MacAddress");
        address.filter(|_| !self.networks.iter().any(further))
    }

    /// The container with mounts in place of its binds, if directories of the host are among those. An
    /// engine refuses it where one is missing, which it would make, empty, for a bind.
    pub(super) fn with_mounts(&self) -> Option<Self> {
        if self.directories.is_empty() {
            return None;
        }
        let mut container = self.clone();
        let host = container.body.host_config.get_or_insert_default();
        host.binds = None;
        host.mounts.get_or_insert_default().append(&mut container.directories);
        Some(container)
    }
}

/// Puts a workload and what its options ask for together.
pub(super) fn compose(workload: &Workload, mut asked: ContainerRequest, scope: &str) -> Result<Container, RunnerError> {
    let image = workload.image.clone().ok_or_else(|| RunnerError::Refused {
        reason: "no-image",
        message: "the job is no container image, and this agent builds none; make an image of it and launch that, or \
                  use a queue of `local-process`"
            .to_owned(),
    })?;
    if !is_image(&image) {
        return Err(RunnerError::Refused {
            reason: "bad-image",
            message: format!(
                "`{}` is not the name of an image",
                image.chars().take(200).collect::<String>()
            ),
        });
    }
    let name = asked.name.take().unwrap_or_else(|| container_name(workload, scope));
    let mut body = std::mem::take(&mut asked.body);
    body.insert("Image".to_owned(), json!(image));
    body.insert("Env".to_owned(), json!(environment(workload, &asked.env)));
    let mut labels = std::mem::take(&mut asked.labels);
    labels.extend(labels_of(workload, scope));
    body.insert("Labels".to_owned(), json!(labels));
    let (entry_point, command) = command(workload, &asked);
    if let Some(entry_point) = entry_point {
        body.insert("Entrypoint".to_owned(), json!(entry_point));
    }
    if let Some(command) = command {
        body.insert("Cmd".to_owned(), json!(command));
    }
    let unfit = |error| RunnerError::Refused {
        reason: "bad-option",
        message: format!("the options of the container do not fit together: {error}"),
    };
    let body = serde_json::from_value(Value::Object(body)).map_err(unfit)?;
    let directories = serde_json::from_value(Value::Array(asked.directories)).map_err(unfit)?;
    Ok(Container {
        name,
        image,
        platform: asked.platform,
        pull: asked.pull,
        body,
        directories,
        networks: asked.networks,
        needs: asked.needs,
    })
}

/// The job's variables, then the options' own, of which the last one of a name wins.
fn environment(workload: &Workload, options: &[String]) -> Vec<String> {
    // Python holds back what it prints to a pipe; its lines would show only at the end.
    let first = ("PYTHONUNBUFFERED".to_owned(), "1".to_owned());
    let own = std::iter::once(&first).chain(&workload.environment);
    let mut list: Vec<(String, String)> = own.cloned().collect();
    list.extend(options.iter().filter_map(|entry| {
        let (name, value) = entry.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    }));
    let last: HashMap<String, usize> = list
        .iter()
        .enumerate()
        .map(|(index, (name, _))| (name.clone(), index))
        .collect();
    list.into_iter()
        .enumerate()
        .filter(|(index, (name, _))| last[name] == *index)
        .map(|(_, (name, value))| format!("{name}={value}"))
        .collect()
}

/// The entry point and the command. An entry point of the job or the launch is the program that the
/// image's own is replaced by; without one the arguments go to the image's.
fn command(workload: &Workload, asked: &ContainerRequest) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let words = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
    if let [program, rest @ ..] = workload.command.as_slice() {
        return (Some(vec![program.clone()]), words([rest, &workload.arguments].concat()));
    }
    let arguments = if workload.arguments.is_empty() {
        &asked.command
    } else {
        &workload.arguments
    };
    (
        asked.entrypoint.clone().map(|program| vec![program]),
        words(arguments.clone()),
    )
}

fn labels_of(workload: &Workload, scope: &str) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = workload
        .labels
        .iter()
        .map(|(name, value)| (format!("{LABEL}{name}"), value.clone()))
        .collect();
    labels.insert(SCOPE.to_owned(), scope.to_owned());
    labels.insert(ITEM.to_owned(), workload.id.item().to_owned());
    labels.insert(ATTEMPT.to_owned(), workload.id.attempt().to_string());
    labels
}

/// What a container's labels say of it: its workload, and the workload's labels.
pub(super) fn identify(labels: &HashMap<String, String>) -> Option<(WorkloadId, BTreeMap<String, String>)> {
    let attempt = labels.get(ATTEMPT)?.parse().ok()?;
    let id = WorkloadId::new(labels.get(ITEM)?, attempt).ok()?;
    let own = labels
        .iter()
        .filter(|(name, _)| ![SCOPE, ITEM, ATTEMPT].contains(&name.as_str()))
        .filter_map(|(name, value)| Some((name.strip_prefix(LABEL)?.to_owned(), value.clone())))
        .collect();
    Some((id, own))
}

/// A name for the workload's container: readable by the run, different for each attempt, and for each
/// agent on an engine.
fn container_name(workload: &Workload, scope: &str) -> String {
    let digest = short_digest([scope, workload.id.item()]);
    let run: String = workload
        .labels
        .get("run")
        .map_or("job", String::as_str)
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') {
                c
            } else {
                '-'
            }
        })
        .take(60)
        .collect();
    format!("slipway-{run}-{}-{digest}", workload.id.attempt())
}

/// Whether a text can be the name of an image. The engine says whether it is.
pub(super) fn is_image(text: &str) -> bool {
    let permitted = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '@');
    let begins = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric());
    text.len() <= 1024
        && text.chars().all(permitted)
        && text.split('/').all(begins)
        && !text.contains("..")
        // An engine takes an empty tag for every tag there is.
        && !text.ends_with([':', '@'])
}

/// An image's name, and its tag or digest; `latest` if it has neither.
pub(super) fn split_reference(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        // Where both are given the digest decides.
        let tag = name.rfind(':').filter(|at| !name[*at..].contains('/'));
        return (tag.map_or(name, |at| &name[..at]), digest);
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(command: &[&str], arguments: &[&str]) -> Workload {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        Workload {
            id: WorkloadId::new("UnVuUXVldWVJdGVtOjE6Mg", 2).unwrap(),
            labels: BTreeMap::from([
                ("run".to_owned(), "a1b2/c3".to_owned()),
                ("handle".to_owned(), "h".to_owned()),
            ]),
            resource: "local-container".to_owned(),
            image: Some("team/image:1".to_owned()),
            command: words(command),
            arguments: words(arguments),
            environment: vec![
                ("WANDB_API_KEY".to_owned(), "k".to_owned()),
                ("A".to_owned(), "job".to_owned()),
            ],
            source: None,
            working_directory: None,
            resource_args: Value::Null,
        }
    }

    #[test]
    fn entry_points_and_arguments_are_those_of_the_job_then_of_the_queue_then_of_the_image() {
        let queue = ContainerRequest {
            entrypoint: Some("/queue".to_owned()),
            command: vec!["queued".to_owned()],
            ..ContainerRequest::default()
        };
        let none = ContainerRequest::default();
        let list = |text: &str| Some(text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for (job, arguments, asked, entry_point, command) in [
            (&[][..], &[][..], &none, None, None),
            (&[], &["--a", "b"], &none, None, list("--a b")),
            (
                &["python", "train.py"],
                &["--a"],
                &none,
                list("python"),
                list("train.py --a"),
            ),
            (&["true"], &[], &queue, list("true"), None),
            (&[], &[], &queue, list("/queue"), list("queued")),
            (&[], &["own"], &queue, list("/queue"), list("own")),
        ] {
            let container = compose(&workload(job, arguments), asked.clone(), "s").unwrap();
            assert_eq!((container.body.entrypoint, container.body.cmd), (entry_point, command));
        }
    }

    #[test]
    fn variables_of_the_queue_win_and_none_is_given_twice() {
        let asked = ContainerRequest {
            env: vec!["A=queue".to_owned(), "B=1".to_owned(), "B=2".to_owned()],
            ..ContainerRequest::default()
        };
        let container = compose(&workload(&[], &[]), asked, "s").unwrap();
        assert_eq!(
            container.body.env.unwrap(),
            ["PYTHONUNBUFFERED=1", "WANDB_API_KEY=k", "A=queue", "B=2"]
        );
    }

    #[test]
    fn a_container_is_named_by_run_and_attempt_and_found_by_its_labels() {
        let job = workload(&[], &[]);
        let container = compose(&job, ContainerRequest::default(), "scope").unwrap();
        assert!(container.name.starts_with("slipway-a1b2-c3-2-"), "{}", container.name);
        let other = compose(&job, ContainerRequest::default(), "other").unwrap();
        assert_ne!(container.name, other.name);
        let labels = container.body.labels.unwrap();
        assert_eq!(labels[SCOPE], "scope");
        assert_eq!(identify(&labels), Some((job.id.clone(), job.labels.clone())));
        assert_eq!(identify(&HashMap::new()), None);
        let named = ContainerRequest {
            name: Some("mine".to_owned()),
            ..ContainerRequest::default()
        };
        assert_eq!(compose(&job, named, "scope").unwrap().name, "mine");
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let mut job = workload(&[], &[]);
        for image in [
            "../../containers/x",
            "a b",
            "-x",
            "a//b",
            "a/./b",
            "a?b",
            "a/",
            "a:",
            "registry:5000/a@",
            "",
        ] {
            job.image = Some(image.to_owned());
            let error = compose(&job, ContainerRequest::default(), "s").unwrap_err();
            assert_eq!(error.reason(), "bad-image", "{image}");
        }
        job.image = None;
        assert_eq!(
            compose(&job, ContainerRequest::default(), "s").unwrap_err().reason(),
            "no-image"
        );
    }

    #[test]
    fn references_are_split_at_the_tag_or_digest() {
        for (image, expected) in [
            ("python", ("python", "latest")),
            ("reg:5000/a/b", ("reg:5000/a/b", "latest")),
            ("reg:5000/a/b:1", ("reg:5000/a/b", "1")),
            ("a@sha256:00", ("a", "sha256:00")),
            ("reg:5000/a:1@sha256:00", ("reg:5000/a", "sha256:00")),
        ] {
            assert_eq!(split_reference(image), expected);
        }
    }
}
