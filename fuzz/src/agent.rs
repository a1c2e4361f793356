//! What an agent reads of a job.

use slipway_agent::fuzzing;
use slipway_wire::job::JobFile;

use crate::texts;

/// Where a git job comes from. Texts: the remote, the commit.
pub fn git_source(input: &[u8]) {
    if let Some([remote, commit]) = texts(input) {
        fuzzing::git_source(remote, commit);
    }
}

/// `wandb-job.json`: what is read is written again, with what we know nothing of.
pub fn job_file(input: &[u8]) {
    let Ok(job) = serde_json::from_slice::<JobFile>(input) else {
        return;
    };
    let written = serde_json::to_value(&job).expect("JSON");
    let read: JobFile = serde_json::from_value(written.clone()).expect("a job is read again");
    assert_eq!(read, job);
    if let Ok(serde_json::Value::Object(given)) = serde_json::from_slice(input) {
        for name in given.keys() {
            assert!(written.get(name).is_some(), "{name:?} is lost");
        }
    }
    if let Some(id) = job.code_artifact_id() {
        assert!(
            job.source
                .artifact
                .as_deref()
                .is_some_and(|reference| reference.ends_with(id))
        );
    }
}
