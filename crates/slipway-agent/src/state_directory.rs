//! What an agent keeps on disk: `<state directory>/<name>/`.
//!
//! Nothing in it is needed to find work again. The lock keeps two agents of one name apart on a
//! machine, the instance id tells the server that a restart is the same agent, and the cache saves
//! downloads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::AgentError;

/// An agent's directory, locked while this lives.
#[derive(Debug)]
pub(crate) struct StateDirectory {
    path: PathBuf,
    instance: String,
    _lock: File,
}

impl StateDirectory {
    /// Opens the directory of an agent, makes it if absent, and locks it.
    pub(crate) fn open(parent: &Path, name: &str) -> Result<Self, AgentError> {
        let path = parent.join(name);
        let failed = |action: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| AgentError::State { action, path, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(failed("create", &path))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed("open", &lock_path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| AgentError::AlreadyRunning { name: name.to_owned() })?;
        let instance_path = path.join("instance");
        let instance = read_or_create(&instance_path).map_err(failed("write", &instance_path))?;
        Ok(Self {
            path,
            instance,
            _lock: lock,
        })
    }

    /// The same across restarts on this machine.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// Where jobs of the process target live.
    pub(crate) fn jobs(&self) -> PathBuf {
        self.path.join("jobs")
    }

    /// Where downloaded sources are kept.
    pub(crate) fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }
}

fn read_or_create(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let instance = random_base36(20);
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(instance.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    Ok(instance)
}

/// Random text of `0-9a-z`, as run ids consist of.
pub(crate) fn random_base36(length: usize) -> String {
    use rand::RngExt as _;
    let mut random = rand::rng();
    (0..length)
        .map(|_| char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[random.random_range(0..36)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_survives_and_a_second_agent_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let first = StateDirectory::open(parent.path(), "agent").unwrap();
        let instance = first.instance().to_owned();
        assert!(matches!(
            StateDirectory::open(parent.path(), "agent"),
            Err(AgentError::AlreadyRunning { .. })
        ));
        assert!(StateDirectory::open(parent.path(), "other").is_ok());
        drop(first);
        assert_eq!(
            StateDirectory::open(parent.path(), "agent").unwrap().instance(),
            instance
        );
    }
}
