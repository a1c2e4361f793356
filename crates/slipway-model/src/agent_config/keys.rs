//! Every key of the file: what the reader knows and the manual shows.

use std::fmt::Write as _;

/// A key of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// With its block: `builder.type`.
    pub name: &'static str,
    /// What holds without it, in words; empty for nothing.
    pub default: &'static str,
    /// The variables and flags that win over it, the strongest last.
    pub stronger: &'static [&'static str],
    /// What it says.
    pub meaning: &'static str,
}

const fn key(
    name: &'static str,
    default: &'static str,
    stronger: &'static [&'static str],
    meaning: &'static str,
) -> Key {
    Key {
        name,
        default,
        stronger,
        meaning,
    }
}

/// Every key, in the order of the manual.
pub const TABLE: &[Key] = &[
    key(
        "entity",
        "the API key's",
        &["WANDB_ENTITY", "-e"],
        "Who owns the queues; for a service account's key its team",
    ),
    key(
        "queues",
        "",
        &["-q"],
        "The queues to serve, each of which must exist; `-q`, repeatable, replaces the list",
    ),
    key(
        "name",
        "kept from the first start",
        &["SLIPWAY_AGENT_NAME", "--name"],
        "The agent's stable name, by which a later start continues its work",
    ),
    key(
        "max_jobs",
        "1",
        &["WANDB_LAUNCH_MAX_JOBS", "-j"],
        "Jobs at once; -1 for no limit, 0 to take none",
    ),
    key(
        "max_schedulers",
        "1",
        &[],
        "Sweep schedulers at once. This version runs none: their items fail with reason `sweep-scheduler`",
    ),
    key(
        "secure_mode",
        "false",
        &[],
        "Refuse entry points, images and container commands that a submitter puts in place of a job's own",
    ),
    key(
        "verbosity",
        "0",
        &["-v"],
        "0: a status line when something changes and each five minutes; 1: each 20 seconds; 2: the log of debugging too",
    ),
    key(
        "stopped_run_timeout",
        "60",
        &[],
        "Seconds between the request to stop and the kill",
    ),
    key(
        "start_timeout",
        "1800",
        &["WANDB_LAUNCH_START_TIMEOUT"],
        "Seconds that a job may take to start; 0 for no limit",
    ),
    key(
        "drain_timeout",
        "0",
        &[],
        "Seconds that a drain waits for jobs, which then go on without the agent; 0 for no limit",
    ),
    key(
        "health_address",
        "",
        &["SLIPWAY_AGENT_HEALTH_ADDRESS", "--health-address"],
        "Answer `/healthz`, `/readyz` and `/metrics` here, such as `localhost:8087`; anybody who reaches it may read",
    ),
    key(
        "resource_args_policy",
        "restrict",
        &[],
        "With a server that does not tell who set an argument: `restrict` treats all as a submitter's, `trust` as the queue's",
    ),
    key(
        "allowed_env",
        "",
        &[],
        "Variables of the agent that macros may read although their names look like those of secrets",
    ),
    key(
        "process.enabled",
        "false",
        &[],
        "Whether jobs may run as processes of this machine, with every right of the agent's user",
    ),
    key(
        "process.env",
        "",
        &[],
        "Further variables of the agent that such jobs see",
    ),
    key(
        "process.work_dir",
        "in the state directory",
        &[],
        "Where such jobs have their directories, below the agent's name",
    ),
    key("environment.type", "", &[], "The cloud: `aws`, `gcp` or `azure`"),
    key(
        "environment.region",
        "",
        &[],
        "The region in which the agent runs; needed for `aws` and `gcp`",
    ),
    key(
        "environment.project",
        "the credentials' own",
        &[],
        "The project, for `gcp`",
    ),
    key("registry.type", "by the address", &[], "`ecr`, `gcr` or `acr`"),
    key(
        "registry.uri",
        "",
        &[],
        "Where images are pushed to if `builder.destination` is absent",
    ),
    key("registry.url", "", &[], "Another word for `registry.uri`"),
    key(
        "registry.repository",
        "",
        &[],
        "The repository, where it is written apart",
    ),
    key("registry.image-name", "", &[], "The image's name, likewise"),
    key(
        "builder.type",
        "`docker` where an engine answers, else `noop`",
        &[],
        "`docker`, `kaniko`, `buildkit` or `noop`; `builder: docker` is short for it",
    ),
    key(
        "builder.destination",
        "",
        &[],
        "The repository that images are pushed to",
    ),
    key("builder.uri", "", &[], "Another word for `builder.destination`"),
    key("builder.platform", "", &[], "`linux/amd64` or `linux/arm64`"),
    key(
        "builder.build-context-store",
        "",
        &[],
        "Where Kaniko reads the build context: `s3://…`, `gs://…` or an address of Azure blobs",
    ),
    key(
        "builder.build-job-name",
        "",
        &[],
        "The name, or its beginning, of a build's job in Kubernetes",
    ),
    key(
        "builder.secret-name",
        "",
        &[],
        "A Kubernetes secret with the registry's credentials",
    ),
    key("builder.secret-key", "", &[], "The key in that secret"),
    key("builder.kaniko-image", "", &[], "The image that runs Kaniko"),
    key(
        "builder.kaniko-config",
        "",
        &[],
        "What is merged into the build's Kubernetes job",
    ),
];

/// The keys at the top of the file; a block counts once.
pub(super) fn top() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    TABLE.iter().filter_map(move |key| {
        let top = key.name.split_once('.').map_or(key.name, |(block, _)| block);
        (std::mem::replace(&mut last, top) != top).then_some(top)
    })
}

/// The keys in a block.
pub(super) fn within(block: &str) -> impl Iterator<Item = &'static str> {
    TABLE.iter().filter_map(move |key| {
        let (of, name) = key.name.split_once('.')?;
        (of == block).then_some(name)
    })
}

/// The table as the manual shows it.
#[must_use]
pub fn manual() -> String {
    let mut text = String::from("| Key | Default | Stronger | Meaning |\n| --- | --- | --- | --- |\n");
    for key in TABLE {
        let stronger: Vec<String> = key.stronger.iter().map(|name| format!("`{name}`")).collect();
        // Writing to a string cannot fail.
        let _written = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            key.name,
            key.default,
            stronger.join(", "),
            key.meaning
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_shows_every_key() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/agent.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written.contains(&manual()),
            "docs/agent.md has another table of keys than the code; put this one there:\n{}",
            manual()
        );
    }

    #[test]
    fn keys_stand_together_by_block() {
        let tops: Vec<&str> = top().collect();
        let mut unique = tops.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(tops.len(), unique.len(), "{tops:?}");
        assert_eq!(within("process").collect::<Vec<_>>(), ["enabled", "env", "work_dir"]);
    }
}
