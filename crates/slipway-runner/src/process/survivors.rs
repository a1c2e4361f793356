//! Processes of a job whose shim was killed.
//!
//! Nobody watches them any more and their outcome is lost, so they are ended before the job is
//! reported. They are known by a variable in their environment, which names the job directory: a
//! process id alone could by now belong to somebody else.

use std::path::Path;

use rustix::process::{Pid, Signal};

const MARK: &str = "SLIPWAY_JOB_DIRECTORY";

/// The variable that marks the processes of a job.
pub(crate) fn mark(directory: &Path) -> (String, String) {
    (MARK.to_owned(), directory.to_string_lossy().into_owned())
}

/// Kills every process that carries the mark of `directory`, until there is none.
pub(crate) fn kill(directory: &Path) {
    let (name, value) = mark(directory);
    let mark = format!("{name}={value}");
    // A process may fork while it is looked for; a second round then finds the child.
    for _ in 0..100 {
        let found = marked(mark.as_bytes());
        if found.is_empty() {
            return;
        }
        for process in found {
            let _ = rustix::process::kill_process(process, Signal::KILL);
        }
        std::thread::yield_now();
    }
    tracing::warn!(directory = %directory.display(), "processes of a lost job could not be ended");
}

fn marked(mark: &[u8]) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let id: i32 = entry.file_name().to_str()?.parse().ok()?;
            let environment = std::fs::read(entry.path().join("environ")).ok()?;
            let carries = environment.split(|byte| *byte == 0).any(|variable| variable == mark);
            carries.then(|| Pid::from_raw(id)).flatten()
        })
        .collect()
}
