//! Which variables of the agent a job sees.
//!
//! A job starts from an empty environment: the agent's own holds its API key and whatever else its
//! user exports. What a program needs to find its interpreter, its home and its language is passed
//! on by name.

use std::collections::BTreeMap;

/// The names that are passed on unless the options say otherwise. A `*` at the end stands for any
/// rest.
pub const INHERITED: [&str; 16] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
];

/// The `PATH` of a job whose agent has none.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The environment of a job: what `inherited` lets through of `agent`, then the queue's variables,
/// then the job's own. Later ones win.
pub(crate) fn compose(
    agent: impl Iterator<Item = (String, String)>,
    inherited: &[String],
    queue: impl Iterator<Item = (String, String)>,
    job: impl Iterator<Item = (String, String)>,
) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
        // Python holds back what it prints to a pipe; its lines would show only at the end.
        ("PYTHONUNBUFFERED".to_owned(), "1".to_owned()),
    ]);
    environment.extend(agent.filter(|(name, _)| inherited.iter().any(|pattern| matches(pattern, name))));
    environment.extend(queue);
    environment.extend(job);
    environment
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

/// Whether the operating system accepts this as a variable's name.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
        text.split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    }

    #[test]
    fn only_listed_variables_reach_the_job_and_the_jobs_own_win() {
        let inherited: Vec<String> = INHERITED.iter().map(|name| (*name).to_owned()).collect();
        let environment = compose(
            pairs("PATH=/a HOME=/h LC_ALL=C LCX=1 WANDB_API_KEY=agent AWS_SECRET_ACCESS_KEY=s LANGX=1"),
            &inherited,
            pairs("A=queue HOME=/queue WANDB_PROJECT=queue"),
            pairs("WANDB_API_KEY=run WANDB_PROJECT=job"),
        );
        let expected: BTreeMap<String, String> =
            pairs("PATH=/a HOME=/queue LC_ALL=C A=queue WANDB_PROJECT=job WANDB_API_KEY=run PYTHONUNBUFFERED=1")
                .collect();
        assert_eq!(environment, expected);
    }

    #[test]
    fn a_job_has_a_path_even_if_its_agent_has_none() {
        let environment = compose(pairs(""), &[], pairs(""), pairs(""));
        assert_eq!(environment["PATH"], DEFAULT_PATH);
    }
}
